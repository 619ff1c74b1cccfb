"""Compares students: the same base distilled and trained by RL directly, beside larger bases.

In: models by role. Out: `students` and `distillation` of the pipeline's summary. All answer the same
problems with the same seeds, each in the whole prompt of the run that trained it; a base in that of its
RL run, which is the one that bases know. So two models are compared problem by problem, which leaves
less doubt than their two intervals. A model's score is written down once it is known, with the share of
right answers to each problem, so that a killed comparison goes on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from zerone.config import Config
from zerone.config.sections import PromptConfig
from zerone.engine.opening import open_loaded_engine
from zerone.evals.evaluate import judged_answers
from zerone.evals.figures import figures_of, shares_of
from zerone.evals.significance import compare
from zerone.files import read_json
from zerone.jobs.data import data_of
from zerone.jobs.origins import prompt_of_model
from zerone.jobs.rl import check_lengths, prompt_encoder
from zerone.model.loading import load_model, quiet_transformers
from zerone.pipeline.estimates import sampling_estimate
from zerone.pipeline.graph import Estimate, StageDisplay, StageInputs
from zerone.processes.machine import keep_freed_memory
from zerone.processes.threads import threads_for, use_threads
from zerone.rewards.verifiers import prepare_verifiers
from zerone.runs.directory import write_atomically
from zerone.train.loop import opened_by_prompt, rules_of, sampling_of

COMPARED = ("model.path", "model.precision", "model.threads", "data", "prompt", "sampling", "eval")
"""What shapes the figures."""


def compare_students(
    names: Sequence[str], inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    """Measure every model that is given, and write what the summary says of them."""
    spent = {
        name: {way: _read(inputs.paths[f"{name}_{way}_compute"]) for way in ("distilled", "direct_rl")}
        for name in names
    }
    found: dict[str, Mapping[str, Any]] = {}
    wanted = _wanted(names, inputs)
    for role, (path, prompt) in wanted.items():
        file = directory / f"{role}.json"
        if not file.exists():
            write_atomically(file, json.dumps(_measure(inputs.config, path, prompt), indent=2) + "\n")
        found[role] = _read(file)
        display.progress(len(found) / len(wanted), f"{role} {found[role]['score']['score']:.1%}")
    bases = {**{name: f"{name}_base" for name in names}, inputs.config.model.path: "larger"}
    students = {name: _student(name, found, spent[name]) for name in names}
    smallest = min(names, key=lambda name: int(students[name]["parameters"]))
    students[smallest]["distilled_minus"]["larger_bases"] = {
        name: _difference(found[f"{smallest}_distilled"], found[role])
        for name, role in bases.items()
        if found[role]["parameters"] > students[smallest]["parameters"]
    }
    summary = {
        "students": list(students.values()),
        "distillation": {
            "suite": "mixed",
            "teacher": _told("teacher", found["teacher"]),
            "bases": [_told(name, found[role]) for name, role in bases.items()],
        },
    }
    written = directory / "summary.json"
    write_atomically(written, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return {"summary": written}


def _wanted(names: Sequence[str], inputs: StageInputs) -> dict[str, tuple[str, PromptConfig]]:
    """Return each model's path and the prompt of the run that made it, by role."""
    home, paths = inputs.config.prompt, inputs.paths

    def prompt_of(role: str) -> PromptConfig:
        return prompt_of_model(paths[role]) or home

    of_bases = prompt_of(f"{names[0]}_direct_rl")
    wanted = {"larger": (inputs.config.model.path, of_bases), "teacher": (str(paths["teacher"]), home)}
    for name in names:
        wanted[f"{name}_base"] = (str(paths[f"{name}_base"]), prompt_of(f"{name}_direct_rl"))
        for way in ("distilled", "direct_rl", "on_policy"):
            if (role := f"{name}_{way}") in paths:
                wanted[role] = (str(paths[role]), prompt_of(role))
    return wanted


def _read(path: Path) -> Any:
    return read_json(path)


def _student(
    name: str, found: Mapping[str, Mapping[str, Any]], spent: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    base = found[f"{name}_base"]
    ways = ("base", "distilled", "direct_rl", "on_policy")
    return {
        "name": name,
        "architecture": base["architecture"],
        "parameters": base["parameters"],
        **{f"{way}_score": found[role]["score"] for way in ways if (role := f"{name}_{way}") in found},
        "flops": {way: compute["flops"] for way, compute in spent.items()},
        "distilled_minus": {"direct_rl": _difference(found[f"{name}_distilled"], found[f"{name}_direct_rl"])},
    }


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return how much more often `one` is right than `other`, paired by problem (evals/significance.py)."""
    found = compare(other["shares"], one["shares"])
    return {
        "difference": found.difference,
        "ci": list(found.interval),
        "p_value": found.p_value,
        "is_real": found.is_real,
        "n": found.num_problems,
    }


def _told(name: str, measured: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "parameters": measured["parameters"], "score": measured["score"]}


def _measure(config: Config, path: str, prompt: PromptConfig) -> dict[str, Any]:
    """Return pass@1 on the suite of all levels, with its interval and by problem, asked in a prompt."""
    config = config.model_copy(update={"prompt": prompt})
    keep_freed_memory()
    use_threads(threads_for(config.model.threads))
    with quiet_transformers():
        model = load_model(path, torch.float32)
    suite = data_of(config).mixed
    prepare_verifiers({problem.verifier for problem in suite.problems})
    to_prompt = prompt_encoder(config, model)
    context = int(model.module.config.max_position_embeddings)
    check_lengths(config, to_prompt, suite.problems, context)
    engine = open_loaded_engine(model, config.sampling.slots, config.model.precision)
    answers = judged_answers(
        engine,
        suite,
        sampling_of(config),
        to_prompt,
        config.seed,
        opened_by_prompt(config),
        rules_of(config),
    )
    found = figures_of(answers)
    return {
        "architecture": model.module.config.model_type,
        "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        "score": {
            "score": found["pass_at_1"],
            "ci": found["pass_at_1_ci"],
            "unparsable": found["unparsable"],
            "n": len(suite.problems),
            "samples": suite.num_samples,
            "response_tokens": found["response_tokens"],
            "prompt": prompt.model_dump(mode="json"),
        },
        "shares": shares_of(answers),
    }


def comparison_estimate(num_models: int) -> Callable[[Config], Estimate]:
    """Return what it takes to measure so many models."""
    return lambda config: sampling_estimate(
        config, num_models * config.eval.problems * config.eval.mixed_samples
    )
