"""Compares students: the same base distilled and trained by RL directly, beside larger bases.

In: models by role. Out: `students` and `distillation` of the pipeline's summary. All answer the same
problems with the same seeds, each in the template that it was trained in; a base in that of its RL run,
which is the one that bases know. A model's score is written down once it is known, so that a killed
comparison goes on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zerone.config import Config
from zerone.evals.evaluate import evaluate
from zerone.evals.suites import data_of
from zerone.machine import DTYPES, keep_freed_memory, known_machine
from zerone.model.loading import end_ids, load_model, quiet_transformers
from zerone.rewards.verifiers import prepare_verifiers
from zerone.rl import opened_by_prompt, rules_of, sampling_of
from zerone.rollout.torch_engine import TorchEngine
from zerone.run_dir import write_atomically
from zerone.stages.estimates import sampling_estimate
from zerone.stages.graph import Estimate, StageDisplay, StageInputs
from zerone.stages.zero import check_lengths, prompt_encoder

COMPARED = ("model.path", "model.precision", "model.threads", "data", "prompt", "sampling", "eval")
"""What shapes the figures."""


def compare_students(
    names: Sequence[str], inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    """Measure every model that is given, and write what the summary says of them."""
    work = _Measuring(
        inputs=inputs, directory=directory, display=display, num_models=2 + len(names) * len(_WAYS)
    )
    home = inputs.config.prompt.style
    students, bases = [], []
    for name in names:
        compute = {way: _read(inputs.paths[f"{name}_{way}_compute"]) for way in ("distilled", "direct_rl")}
        styles = {"base": compute["direct_rl"]["style"], "direct_rl": compute["direct_rl"]["style"]}
        found = {
            way: work.measure(f"{name}_{way}", styles.get(way, home))
            for way in _WAYS
            if f"{name}_{way}" in inputs.paths
        }
        students.append(
            {
                "name": name,
                "architecture": found["base"].architecture,
                "parameters": found["base"].parameters,
                **{f"{way}_score": measured.score for way, measured in found.items()},
                "flops": {way: spent["flops"] for way, spent in compute.items()},
            }
        )
        bases.append(found["base"].told(name))
    style = next(iter(_read(inputs.paths[f"{name}_direct_rl_compute"])["style"] for name in names))
    larger = work.measure("larger", style, inputs.config.model.path)
    about = {
        "suite": "mixed",
        "teacher": work.measure("teacher", home).told("teacher"),
        "bases": [*bases, larger.told(inputs.config.model.path)],
    }
    path = directory / "summary.json"
    text = json.dumps({"students": students, "distillation": about}, indent=2, ensure_ascii=False)
    write_atomically(path, f"{text}\n")
    return {"summary": path}


_WAYS = ("base", "distilled", "direct_rl", "on_policy")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of a model, and what it is."""

    architecture: str
    parameters: int
    score: Mapping[str, Any]

    def told(self, name: str) -> dict[str, Any]:
        """Return a line of the summary."""
        return {"name": name, "parameters": self.parameters, "score": self.score}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measuring:
    """Measures models, each once."""

    inputs: StageInputs
    directory: Path
    display: StageDisplay
    num_models: int

    def measure(self, role: str, style: str, path: str | None = None) -> Measured:
        """Return the figures of a model, from an earlier try where they are there."""
        file = self.directory / f"{role}.json"
        if not file.exists():
            found = _measure(self.inputs.config, path or str(self.inputs.paths[role]), style)
            write_atomically(file, json.dumps(found, indent=2) + "\n")
        measured = Measured(**_read(file))
        done = len([*self.directory.glob("*.json")]) / (self.num_models + 2)
        self.display.progress(min(1.0, done), f"{role} {measured.score['score']:.1%}")
        return measured


def _measure(config: Config, path: str, style: str) -> dict[str, Any]:
    """Return pass@1 on the suite of all levels, with its interval."""
    config = config.model_copy(update={"prompt": config.prompt.model_copy(update={"style": style})})
    keep_freed_memory()
    torch.set_num_threads(config.model.threads or known_machine().threads)
    precision = known_machine().precision if config.model.precision == "auto" else config.model.precision
    with quiet_transformers():
        model = load_model(path, torch.float32)
    suite = data_of(config).mixed
    prepare_verifiers({problem.verifier for problem in suite.problems})
    to_prompt = prompt_encoder(config, model)
    context = int(model.module.config.max_position_embeddings)
    check_lengths(config, to_prompt, suite.problems, context)
    engine = TorchEngine(model.tokenizer, end_ids(model), context, config.sampling.slots, DTYPES[precision])
    engine.load_weights(model.module, 0)
    found = evaluate(
        engine,
        suite,
        sampling_of(config),
        to_prompt,
        config.seed,
        opened_by_prompt(config),
        rules_of(config),
    )
    return {
        "architecture": model.module.config.model_type,
        "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        "score": {
            "score": found["pass_at_1"],
            "ci": found["pass_at_1_ci"],
            "n": len(suite.problems),
            "samples": suite.num_samples,
            "response_tokens": found["response_tokens"],
            "style": style,
        },
    }


def comparison_estimate(num_models: int) -> Callable[[Config], Estimate]:
    """Return what it takes to measure so many models."""
    return lambda config: sampling_estimate(
        config, num_models * config.eval.problems * config.eval.mixed_samples
    )
