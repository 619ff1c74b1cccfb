"""vLLM behind `VllmEngine`: the one module that imports it, and only where it is asked for."""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import util
from typing import Any

import torch

from zerone.engine.row import Row
from zerone.engine.scheduler import Scheduler
from zerone.engine.serving import TORCH, VLLM, EngineSpec
from zerone.engine.vllm_engine import Drawn, VllmEngine
from zerone.engine.weights import Hashed, WeightSource
from zerone.errors import ConfigError, EngineError, ModelError
from zerone.model.configuration import read_object
from zerone.model.loading import end_ids_of, find_directory, generation_settings, read_model_files


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


def load_vllm(spec: EngineSpec) -> Scheduler:
    """Load a model by vLLM, for a server's thread; raises ModelError where that does not take it."""
    return Scheduler(vllm_engine(spec), sys.maxsize)


def vllm_engine(spec: EngineSpec) -> VllmEngine:
    """Load a model by vLLM in this process; raises ModelError where that does not take it."""
    files = read_model_files(spec.directory, any_architecture=True)
    stated = read_object(files.directory / "config.json").get("tie_word_embeddings")
    if stated and not files.config.tie_word_embeddings:
        raise ModelError(
            f"{spec.directory} has an output matrix that its config.json denies (tie_word_embeddings), and "
            "vLLM would drop it; export the model with --to hf, which corrects that, or use the torch engine"
        )
    ends = end_ids_of(files.tokenizer, generation_settings(files), spec.directory)
    requests = VllmRequests(spec, ends)
    return VllmEngine(requests, files.tokenizer, ends, max_rows=spec.max_rows, context=spec.context)


class VllmRequests:
    """Requests to a vLLM engine of this process."""

    def __init__(self, spec: EngineSpec, end_ids: Sequence[int]) -> None:
        # Said before the import, which reads them: it would report home, and explain itself at length.
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        # Read where there is no GPU; on one, vLLM takes its usual share of the memory.
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(max(1, spec.kv_bytes >> 30)))
        if spec.is_for_rollouts:
            # Weights are handed over as tensors of this process, which no pipe would take.
            os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        import vllm
        from vllm.platforms import current_platform

        self._vllm = vllm
        self._end_ids = list(end_ids)
        self._is_for_rollouts = spec.is_for_rollouts
        self._is_cpu = bool(current_platform.is_cpu())
        self._is_asleep = False
        self._shapes: dict[str, tuple[int, ...]] = {}
        """Of the tensors that vLLM has loaded before."""
        settings: dict[str, Any] = {
            "model": str(find_directory(spec.directory)),
            "dtype": "float32" if self._is_cpu else "bfloat16",
            "max_model_len": spec.context,
            "max_num_seqs": spec.max_rows,
            "generation_config": "vllm",  # rows have all settings of their own
            "disable_log_stats": True,
        }
        if spec.is_for_rollouts:
            # Those of the distribution that was sampled from, as the trainer's importance ratio needs them.
            settings["logprobs_mode"] = "processed_logprobs"
            if not self._is_cpu:
                settings |= {"enable_sleep_mode": True, "gpu_memory_utilization": spec.gpu_share}
        try:
            self._engine = vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**settings))
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"vLLM cannot load {spec.directory}: {error}; use the torch engine") from error

    def add(self, request: str, row: Row) -> None:
        """Begin to continue what a row has."""
        sampling = row.request.sampling
        # vLLM 0.32 on CPUs waits for ever at a request with a seed, whose generator has no offset there.
        seed = None if self._is_cpu else row.request.seeds[row.index] & _LARGEST_SEED
        params = self._vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens - len(row.tokens),
            seed=seed,
            logprobs=sampling.num_top if row.request.streams else 0,
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

    def load(self, source: WeightSource) -> str:
        """Load weights by vLLM's own loader, and forget the prompts computed with the old ones."""
        shapes = {meta.name: meta.shape for meta in source.metadata()}
        # A loader that stops in the middle loads nothing any more, and one that misses a tensor says nothing.
        if self._shapes and (others := set(shapes.items()) ^ set(self._shapes.items())):
            raise EngineError(
                f"the new weights are not the tensors of those before: {min(others)[0]} is missing, new or "
                "of another shape; the engine samples from the old ones, and the run can be resumed"
            )
        if self._is_asleep:
            self._engine.wake_up(tags=["weights"])
        given = Hashed(source)
        try:
            self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": given.tensors()})
            if self._is_cpu:
                self._engine.apply_model(_pack_tied_head)
        except (RuntimeError, ValueError, KeyError) as error:
            raise EngineError(f"vLLM did not take the weights: {error}; the run can be resumed") from error
        if given.num_read != len(shapes):
            raise EngineError(
                f"vLLM read {given.num_read} of {len(shapes)} tensors of the new weights and "
                "samples from a mixture; the run can be resumed"
            )
        if self._is_asleep:
            self._engine.wake_up(tags=["kv_cache"])
            self._is_asleep = False
        self._engine.reset_prefix_cache()
        self._shapes = shapes
        return given.hash

    def sleep(self) -> None:
        """Give up the memory of weights and cache until `load`; on a CPU vLLM keeps both."""
        if not self._is_cpu and not self._is_asleep:
            self._engine.sleep(level=2)
            self._is_asleep = True


def _pack_tied_head(module: Any) -> None:
    """Compute the output matrix anew from the embedding that it is tied to.

    On CPUs vLLM multiplies with a packed copy, which reloading leaves as it was.
    """
    head = getattr(module, "lm_head", None)
    if head is not None and hasattr(head, "quant_method"):
        head.quant_method.process_weights_after_loading(head)


_LARGEST_SEED = 2**63 - 1
"""Seeds go into a signed number of 64 bits."""


def _logprobs(output: Any) -> list[Mapping[int, float] | None]:
    if output.logprobs is None:
        return [None] * len(output.token_ids)
    return [{token: one.logprob for token, one in told.items()} for told in output.logprobs]
