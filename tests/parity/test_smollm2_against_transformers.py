"""SmolLM2-135M, a real pretrained model: engine and trainer against transformers.

Needs the model's directory (`zerone model smollm2-135m --out models/smollm2-135m`), or another one
named by ZERONE_SMOLLM2. Tolerance: 30 layers in fp32, summed in another order; 1e-4 is what the
engine promises.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch

from scripted import credited, forced_logprobs
from zerone.engine.api import Request, SamplingParams
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.weights import ModuleWeights
from zerone.model.decoder import Decoder
from zerone.model.loading import Model, end_ids, load_model
from zerone.model.packed import packed_hidden
from zerone.problems import sums
from zerone.problems.mixture import FamilyMixture
from zerone.processes.machine import keep_freed_memory
from zerone.prompts.r1 import shown_examples, write_prompt
from zerone.seeding import seed_from
from zerone.train.batch import make_batches
from zerone.train.logprobs import token_logprobs
from zerone.types import Graded, Outcome, Rollout

DIRECTORY = Path(
    os.environ.get("ZERONE_SMOLLM2", Path(__file__).resolve().parents[2] / "models" / "smollm2-135m")
)
TOLERANCE = 1e-4

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DIRECTORY.is_dir(), reason="zerone model smollm2-135m --out models/smollm2-135m"),
]


@cache
def smollm2() -> Model:
    keep_freed_memory()  # as a run does; without it page faults take most of the time
    return load_model(str(DIRECTORY), torch.float32)


def sample_sums(sampling: SamplingParams, num_samples: int) -> list[list[Rollout]]:
    """Answer a dozen sums in the template, with worked examples before them."""
    model = smollm2()
    examples = shown_examples(3)
    requests = [
        Request(
            problem=problem,
            prompt_ids=tuple(model.tokenizer(write_prompt(problem.prompt, examples))["input_ids"]),
            seeds=tuple(seed_from(problem.id, j) for j in range(num_samples)),
        )
        for problem in FamilyMixture(seed=3, family=sums).draw(0, 12)
    ]
    # Fewer slots than answers: rows leave and others take their place.
    engine = TorchEngine(model.tokenizer, end_ids(model), 2048, 5, torch.float32)
    engine.update_weights(ModuleWeights(model.module), 0)
    return engine.generate(requests, sampling)


def judged(rollout: Rollout, reward: float) -> Graded:
    outcome = Outcome.CORRECT if reward else Outcome.WRONG
    return Graded(rollout=rollout, outcome=outcome, parts={}, reward=reward, answer=None)


def flat(groups: Sequence[Sequence[Rollout]]) -> list[Rollout]:
    return [rollout for group in groups for rollout in group]


def test_greedy_tokens_equal_those_of_generate() -> None:
    model = smollm2()
    rollouts = flat(sample_sums(SamplingParams(temperature=0, max_tokens=40), num_samples=1))
    for rollout in rollouts:
        ids = torch.tensor([rollout.prompt_ids])
        expected = model.module.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            repetition_penalty=1.0,
            max_new_tokens=40,
            eos_token_id=list(end_ids(model)),
        )
        assert rollout.completion_ids == tuple(expected[0, len(rollout.prompt_ids) :].tolist())
    assert len({rollout.completion_ids for rollout in rollouts}) > 6


def test_recorded_logprobs_equal_a_teacher_forced_forward() -> None:
    rollouts = flat(sample_sums(SamplingParams(temperature=1.0, max_tokens=40), num_samples=3))
    assert len(rollouts) == 36
    for rollout in rollouts:
        recorded = torch.tensor(rollout.sampler_logprobs)
        torch.testing.assert_close(
            recorded, forced_logprobs(smollm2().module, rollout), atol=TOLERANCE, rtol=0
        )


def test_the_trainer_computes_the_logprobs_that_the_sampler_recorded() -> None:
    """The template is shared by the whole batch there, and each prompt by its answers."""
    groups = [
        credited([judged(rollout, reward=float(j)) for j, rollout in enumerate(answers)], (-1.0, 0.0, 1.0))
        for answers in sample_sums(SamplingParams(temperature=1.0, max_tokens=40), num_samples=3)[:4]
    ]
    batches = make_batches(
        groups,
        aggregation="token",
        max_tokens=40,
        mask_truncated=False,
        keep_silent=False,
        microbatch_tokens=512,
    )
    num_tokens = 0
    for batch in batches:
        decoder = Decoder(smollm2().module)
        with torch.no_grad():
            hidden_CD = packed_hidden(decoder, batch.packed).index_select(0, batch.sources_C)
            found_C = token_logprobs(decoder.logits(hidden_CD), batch.targets_C, temperature=1.0)
        torch.testing.assert_close(found_C, batch.sampler_logprobs_C, atol=TOLERANCE, rtol=0)
        num_tokens += len(found_C)
    assert num_tokens == sum(len(g.rollout.completion_ids) for c in groups for g in c.group.members)
