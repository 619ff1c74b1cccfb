"""Measures a model on a suite outside of any run (`zerone eval`)."""

from typing import Any

import torch

from zerone.config import Config
from zerone.evals.evaluate import evaluate
from zerone.evals.suites import suite_named
from zerone.machine import DTYPES, keep_freed_memory, known_machine
from zerone.model.loading import end_ids, load_model
from zerone.rewards.verifiers import prepare_verifiers
from zerone.rl import opened_by_prompt, rules_of, sampling_of
from zerone.rollout.torch_engine import TorchEngine
from zerone.stages.zero import prompt_encoder


def measure_model(config: Config, path: str, suite_name: str, num_samples: int) -> dict[str, Any]:
    """Return the figures of a model on a suite."""
    suite = suite_named(suite_name, num_samples)
    prepare_verifiers({problem.verifier for problem in suite.problems})
    machine = known_machine()
    keep_freed_memory()
    torch.set_num_threads(config.model.threads or machine.threads)
    model = load_model(path, torch.float32)
    precision = machine.precision if config.model.precision == "auto" else config.model.precision
    engine = TorchEngine(
        model.tokenizer,
        end_ids(model),
        int(model.module.config.max_position_embeddings),
        config.sampling.slots,
        DTYPES[precision],
    )
    engine.load_weights(model.module, 0)
    figures = evaluate(
        engine,
        suite,
        sampling_of(config),
        prompt_encoder(config, model),
        config.seed,
        opened_by_prompt(config),
        rules_of(config),
    )
    return {"suite": suite.name, "model": path, "model_sha256": model.sha256, **figures}
