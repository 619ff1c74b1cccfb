"""vLLM behind `VllmScheduler`: the one module that imports it, and only where it is asked for."""

import os
from collections.abc import Mapping, Sequence
from importlib import util
from typing import Any

import torch

from zerone.engine.row import Row
from zerone.engine.serving import TORCH, VLLM, EngineSpec
from zerone.engine.vllm_scheduler import Drawn, VllmScheduler
from zerone.errors import ConfigError, ModelError
from zerone.model.configuration import read_object
from zerone.model.loading import end_ids_of, generation_settings, read_model_files
from zerone.seeding import seed_from


def chosen_engine(asked: str) -> str:
    """Return the kind of engine for `--engine`; raises ConfigError where there is no such engine here."""
    is_installed = util.find_spec("vllm") is not None
    if asked == "auto":
        return VLLM if is_installed and torch.cuda.is_available() else TORCH
    if asked not in (TORCH, VLLM):
        raise ConfigError(f"--engine {asked!r} is none of auto, {TORCH}, {VLLM}")
    if asked == VLLM and not is_installed:
        raise ConfigError(f"vLLM is not installed here: pip install 'zerone[vllm]', or give --engine {TORCH}")
    return asked


def load_vllm(spec: EngineSpec) -> VllmScheduler:
    """Load a model by vLLM; raises ModelError where that does not take it."""
    files = read_model_files(spec.directory)
    stated = read_object(files.directory / "config.json").get("tie_word_embeddings")
    if stated and not files.config.tie_word_embeddings:
        raise ModelError(
            f"{spec.directory} has an output matrix that its config.json denies (tie_word_embeddings), and "
            "vLLM would drop it; export the model with --to hf, which corrects that, or give --engine torch"
        )
    ends = end_ids_of(files.tokenizer, generation_settings(files), spec.directory)
    return VllmScheduler(VllmRequests(spec, ends), files.tokenizer, ends, max_rows=spec.max_rows)


class VllmRequests:
    """Requests to a vLLM engine of this process."""

    def __init__(self, spec: EngineSpec, end_ids: Sequence[int]) -> None:
        # Said before the import, which reads them: it would report home, and explain itself at length.
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        # Read where there is no GPU; on one, vLLM takes its usual share of the memory.
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(max(1, spec.kv_bytes >> 30)))
        import vllm
        from vllm.platforms import current_platform

        self._vllm = vllm
        self._end_ids = list(end_ids)
        # vLLM 0.32 on CPUs waits for ever at a request with a seed, whose generator has no offset there.
        self._takes_seeds = not current_platform.is_cpu()
        settings = vllm.EngineArgs(
            model=spec.directory,
            dtype="bfloat16" if self._takes_seeds else "float32",
            max_model_len=spec.context,
            max_num_seqs=spec.max_rows,
            generation_config="vllm",  # rows have all settings of their own
            disable_log_stats=True,
        )
        try:
            self._engine = vllm.LLMEngine.from_engine_args(settings)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"vLLM cannot serve {spec.directory}: {error}; try --engine torch") from error

    def add(self, request: str, row: Row) -> None:
        """Begin to continue what a row has."""
        decoding = row.job.decoding
        params = self._vllm.SamplingParams(
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            top_k=decoding.top_k,
            max_tokens=decoding.max_tokens - len(row.tokens),
            seed=seed_from("serve", decoding.seed, row.index) if self._takes_seeds else None,
            logprobs=decoding.num_top,
            stop_token_ids=self._end_ids,
            detokenize=False,
            output_kind=self._vllm.sampling_params.RequestOutputKind.DELTA,
        )
        self._engine.add_request(request, {"prompt_token_ids": list(row.ids)}, params)

    def abort(self, requests: Sequence[str]) -> None:
        """Forget requests."""
        self._engine.abort_request(list(requests))

    def step(self) -> list[Drawn]:
        """Draw the next tokens."""
        return [
            Drawn(
                output.request_id,
                list(output.outputs[0].token_ids),
                _logprobs(output.outputs[0]),
                is_last=output.finished,
            )
            for output in self._engine.step()
        ]


def _logprobs(output: Any) -> list[Mapping[int, float] | None]:
    if output.logprobs is None:
        return [None] * len(output.token_ids)
    return [{token: one.logprob for token, one in told.items()} for told in output.logprobs]
