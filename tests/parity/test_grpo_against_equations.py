"""The GRPO update against a loop written from the paper's equations, and against TRL's own numbers.

The loop takes one token at a time from padded tensors and transformers' own forward pass; ours
goes through advantages, packing, micro-batches, a forward pass of its own and `backward`.

Tolerance: fp32 on both sides. Log-probabilities agree to about 1e-6 and are exponentiated to
ratios of size 1, so the loss agrees to 1e-5; gradients of some hundred tokens are compared with
the largest entry of their tensor, where a forgotten term, token or denominator shows as 1e-2.

Dimensions: R rows, T tokens of the padded rows, V vocabulary.
"""

import copy
import importlib.metadata
import importlib.util
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import Shape, number_problem, random_tokens, tiny_model
from scripted import forced_logprobs, group, make_config, member
from training import Passes, backward, make_learner
from zerone.config import Config
from zerone.train.advantage import credit
from zerone.train.batch import Aggregation
from zerone.train.grpo import batches_of, objective_of
from zerone.train.loss import KLEstimator
from zerone.types import Finish, Graded, Group

LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
LOW, HIGH = 0.2, 0.28
MAX_TOKENS = 12

Row = tuple[Graded, float]


def moved(model: Any, size: float, seed: int) -> Any:
    """Return a copy with every weight moved a little: an older policy, or a reference."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    return other


def sampled_groups(sampler: Any, temperature: float) -> list[Group]:
    """Return four groups of unequal lengths, one of them without signal, as the sampler saw them."""
    groups = []
    for i, (num_prompt, rewards) in enumerate(
        [(9, (1.1, 0, 0.1, 1)), (4, (0, 1)), (6, (0.1, 0.1)), (1, (1, 0, 0))]
    ):
        members = []
        for j, reward in enumerate(rewards):
            completion = random_tokens(1 + (5 * i + 3 * j) % 11, "completion", i, j)
            blank = member(
                prompt=(7, *random_tokens(num_prompt, "prompt", i)),
                completion=completion,
                reward=reward,
                sample=j,
                problem=number_problem(i),
                finish=Finish.LENGTH if j == 1 else Finish.STOP,
            )
            logprobs = forced_logprobs(sampler, blank.rollout, temperature).tolist()
            members.append(
                member(
                    prompt=blank.rollout.prompt_ids,
                    completion=completion,
                    logprobs=logprobs,
                    reward=reward,
                    sample=j,
                    problem=number_problem(i),
                    finish=blank.rollout.finish,
                )
            )
        groups.append(group(members))
    return groups


def padded(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask of prompts with completions, padded on the right."""
    whole = [[*graded.rollout.prompt_ids, *graded.rollout.completion_ids] for graded, _ in rows]
    ids_RT = torch.zeros(len(whole), max(map(len, whole)), dtype=torch.long)
    mask_RT = torch.zeros_like(ids_RT)
    for i, ids in enumerate(whole):
        ids_RT[i, : len(ids)] = torch.tensor(ids)
        mask_RT[i, : len(ids)] = 1
    return ids_RT, mask_RT


def loss_by_the_equations(
    model: Any, reference: Any, groups: Sequence[Group], config: Config
) -> tuple[Tensor, list[float]]:
    """Return the loss of DeepSeekMath eq. 3-4 (or its variants' denominators), and all ratios."""
    rows: list[Row] = []
    for whole in groups:  # A_i = (r_i - mean r) / std r
        rewards = [graded.reward for graded in whole.members]
        mean = sum(rewards) / len(rewards)
        std = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(rewards))
        rows += [(graded, (graded.reward - mean) / std if std else 0.0) for graded in whole.members]
    ids_RT, mask_RT = padded(rows)
    logits_RTV = model(ids_RT, attention_mask=mask_RT).logits / config.sampling.temperature
    reference_RTV = reference(ids_RT, attention_mask=mask_RT).logits / config.sampling.temperature
    num_tokens = sum(len(graded.rollout.completion_ids) for graded, _ in rows)
    objective, ratios = torch.zeros(()), []
    for i, (graded, advantage) in enumerate(rows):
        start, length = len(graded.rollout.prompt_ids), len(graded.rollout.completion_ids)
        of_row = torch.zeros(())
        for t, token in enumerate(graded.rollout.completion_ids):
            logprob = logits_RTV[i, start + t - 1].log_softmax(-1)[token]
            ratio = torch.exp(logprob - graded.rollout.sampler_logprobs[t])
            gain = torch.minimum(ratio * advantage, ratio.clamp(1 - LOW, 1 + HIGH) * advantage)
            log_x = reference_RTV[i, start + t - 1].log_softmax(-1)[token] - logprob
            of_row = of_row + gain - config.loss.kl_coef * (log_x.exp() - log_x - 1)
            ratios.append(ratio.item())
        share = {"sequence": len(rows) * length, "token": num_tokens, "constant": len(rows) * MAX_TOKENS}
        objective = objective + of_row / share[config.loss.aggregation]
    return -objective, ratios


def our_loss(
    model: Any,
    reference: Any,
    groups: Sequence[Group],
    config: Config,
    before: Mapping[int, Sequence[float]] | None = None,
) -> float:
    """Add up the gradients of all micro-batches in the model; return their loss.

    `before` are the trainer's log-probabilities before the step, by the id() of the graded rollout.
    """
    learner = make_learner(model, config, reference=reference if config.loss.kl_coef else None)
    credited = credit(groups, config.advantage.scale, config.advantage.baseline)
    keep_silent = config.loss.kl_coef > 0
    passes = Passes(learner.module, learner.reference, learner.dtype)
    total = sum(
        backward(passes, batch, objective_of(config), config.sampling.temperature)[0].loss.item()
        for batch in batches_of(config, credited, keep_silent=keep_silent, trainer_logprobs=before)
    )
    passes.policy.finish()
    return total


def config_of(
    aggregation: Aggregation, kl_coef: float, microbatch: int = 40, estimator: KLEstimator = "k3"
) -> Config:
    return make_config(
        loss__aggregation=aggregation,
        loss__kl_coef=kl_coef,
        loss__kl_estimator=estimator,
        loss__clip_low=LOW,
        loss__clip_high=HIGH,
        sampling__temperature=0.8,
        sampling__max_tokens=MAX_TOKENS,
        rl__microbatch_tokens=microbatch,
    )


def gradients(model: Any) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        yield name, parameter.grad


def assert_same_gradients(found: Any, expected: Any) -> None:
    for (name, one), (_, other) in zip(gradients(found), gradients(expected), strict=True):
        difference = (one - other).abs().max().item()
        assert difference <= GRADIENT_TOLERANCE * other.abs().max().item(), f"{name}: {difference:.2e}"


@pytest.mark.parametrize("microbatch", [1, 40, 10_000])
@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
@pytest.mark.parametrize("aggregation", ["sequence", "token", "constant"])
def test_loss_and_gradients_equal_those_of_the_equations(
    aggregation: Aggregation, kl_coef: float, microbatch: int
) -> None:
    ours = tiny_model(Shape(kind="qwen3"))
    theirs, reference = copy.deepcopy(ours), moved(ours, 0.02, seed=2)
    config = config_of(aggregation, kl_coef, microbatch)
    groups = sampled_groups(moved(ours, 0.02, seed=1), config.sampling.temperature)
    expected, _ = loss_by_the_equations(theirs, reference, groups, config)
    expected.backward()
    assert our_loss(ours, reference, groups, config) == pytest.approx(expected.item(), abs=LOSS_TOLERANCE)
    assert_same_gradients(ours, theirs)


def test_the_case_that_is_compared_clips_on_both_sides_and_some_tokens_not_at_all() -> None:
    model = tiny_model(Shape(kind="qwen3"))
    config = config_of("token", 0.1)
    groups = sampled_groups(moved(model, 0.02, seed=1), config.sampling.temperature)
    _, ratios = loss_by_the_equations(model, model, groups, config)
    assert sum(ratio < 1 - LOW for ratio in ratios) > 3
    assert sum(ratio > 1 + HIGH for ratio in ratios) > 3
    assert sum(1 - LOW < ratio < 1 + HIGH for ratio in ratios) > 10


def test_a_wrong_denominator_would_be_seen() -> None:
    """The three aggregations differ by far more than the tolerance on the groups compared."""
    model = tiny_model(Shape(kind="qwen3"))
    groups = sampled_groups(moved(model, 0.02, seed=1), 0.8)
    losses = [
        loss_by_the_equations(model, model, groups, config_of(aggregation, 0.0))[0].item()
        for aggregation in ("sequence", "token", "constant")
    ]
    gaps = [abs(one - other) for i, one in enumerate(losses) for other in losses[:i]]
    assert min(gaps) > 100 * LOSS_TOLERANCE


# The family ---------------------------------------------------------------------------------------


def advantages_by_the_equations(groups: Sequence[Group], config: Config) -> list[list[float]]:
    """Return the advantages of each group: of GRPO, Dr. GRPO, RLOO or REINFORCE++."""
    centred = []
    for whole in groups:
        rewards = [graded.reward for graded in whole.members]
        if config.advantage.baseline == "leave_one_out":  # r_i - 1/(G - 1) sum_(j != i) r_j
            others = [[r for j, r in enumerate(rewards) if j != i] for i in range(len(rewards))]
            centred.append([r - sum(rest) / len(rest) for r, rest in zip(rewards, others, strict=True)])
        else:
            centred.append([reward - sum(rewards) / len(rewards) for reward in rewards])

    def deviation(values: Sequence[float]) -> float:
        mean = sum(values) / len(values)
        return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))

    if config.advantage.scale == "batch":
        whole_batch = deviation([value for values in centred for value in values])
        return [[value / whole_batch for value in values] for values in centred]
    if config.advantage.scale == "group":
        return [[value / (deviation(values) or 1.0) for value in values] for values in centred]
    return centred


def correction_by_the_equations(config: Config, log_rho: list[float], stale: float, advantage: float) -> Any:
    """Return the weight of each token of a sequence from log(p_trainer / p_engine) before the step.

    `stale` is the mean of log(p_engine / p_policy) over the sequence.
    """
    low, high = config.loss.correction_low, config.loss.correction_high
    if config.loss.correction == "truncate":
        return [min(math.exp(x), high) for x in log_rho]
    if config.loss.correction == "mask":
        return [math.exp(x) if low <= math.exp(x) <= high else 0.0 for x in log_rho]
    if config.loss.correction == "sequence_mask":
        return [float(low <= math.exp(sum(log_rho) / len(log_rho)) <= high)] * len(log_rho)
    if config.loss.correction == "stale_mask":
        return [0.0 if advantage < 0 and stale > high else 1.0] * len(log_rho)
    return [1.0] * len(log_rho)


def gain_by_the_equations(
    config: Config, logprobs: list[Tensor], old: list[float], advantage: float
) -> list[Tensor]:
    """Return the surrogate of each token of a sequence, without correction and KL."""
    ratios = [torch.exp(logprob - before) for logprob, before in zip(logprobs, old, strict=True)]
    if config.loss.ratio == "sequence":  # s_i = (prod_t rho_t)^(1 / |o_i|)
        product = torch.ones(())
        for ratio in ratios:
            product = product * ratio
        ratios = [product ** (1 / len(ratios))] * len(ratios)
    low, high = 1 - config.loss.clip_low, 1 + config.loss.clip_high
    if config.loss.surrogate == "cispo":  # sg(min(rho, high)) A log pi, less the constant of log pi_old
        return [
            min(ratio.item(), high) * advantage * (logprob - before)
            for ratio, logprob, before in zip(ratios, logprobs, old, strict=True)
        ]
    return [torch.minimum(r * advantage, r.clamp(low, high) * advantage) for r in ratios]


def kl_by_the_equations(config: Config, logprob: Tensor, reference: Tensor, engine: float) -> Tensor:
    """Return the KL estimate of a token, x = pi_ref / pi."""
    x = torch.exp(reference - logprob)
    return {
        "k1": -torch.log(x),
        "k2": torch.log(x) ** 2 / 2,
        "k3": x - torch.log(x) - 1,
        "unbiased": torch.exp(logprob - engine) * (x - torch.log(x) - 1),  # V3.2: weighted by the ratio
    }[config.loss.kl_estimator]


def family_loss(model: Any, reference: Any, before: Any, groups: Sequence[Group], config: Config) -> Tensor:
    """Return the loss of any setting of the family, token by token."""
    rows = [
        pair
        for whole, advantages in zip(groups, advantages_by_the_equations(groups, config), strict=True)
        for pair in zip(whole.members, advantages, strict=True)
    ]
    ids_RT, mask_RT = padded(rows)
    temperature = config.sampling.temperature
    policy_RTV, reference_RTV, before_RTV = (
        one(ids_RT, attention_mask=mask_RT).logits / temperature for one in (model, reference, before)
    )
    num_tokens = sum(len(graded.rollout.completion_ids) for graded, _ in rows)
    objective = torch.zeros(())
    for i, (graded, advantage) in enumerate(rows):
        rollout = graded.rollout
        start, length = len(rollout.prompt_ids) - 1, len(rollout.completion_ids)
        engine = list(rollout.sampler_logprobs)
        policy, of_reference, of_before = (
            [logits[i, start + t].log_softmax(-1)[token] for t, token in enumerate(rollout.completion_ids)]
            for logits in (policy_RTV, reference_RTV, before_RTV)
        )
        has_pass = config.loss.correction in ("truncate", "mask", "sequence_mask")
        old = [value.item() for value in of_before] if has_pass else engine
        log_rho = [one - other for one, other in zip(old, engine, strict=True)]
        stale = sum(e - p.item() for e, p in zip(engine, policy, strict=True)) / length
        weights = correction_by_the_equations(config, log_rho, stale, advantage)
        gains = gain_by_the_equations(config, policy, old, advantage)
        share = {"sequence": len(rows) * length, "token": num_tokens, "constant": len(rows) * MAX_TOKENS}
        for t in range(length):
            kl = kl_by_the_equations(config, policy[t], of_reference[t].detach(), engine[t])
            of_token = weights[t] * gains[t] - config.loss.kl_coef * kl
            objective = objective + of_token / share[config.loss.aggregation]
    return -objective


NARROW = {"loss__clip_low": 0.02, "loss__clip_high": 0.03}
V3_2 = {"loss__kl_coef": 0.1, "loss__kl_estimator": "unbiased", "loss__correction": "stale_mask"}
FAMILY: dict[str, dict[str, Any]] = {
    "k1": {"loss__kl_coef": 0.1, "loss__kl_estimator": "k1"},
    "k2": {"loss__kl_coef": 0.1, "loss__kl_estimator": "k2"},
    "unbiased KL": {"loss__kl_coef": 0.1, "loss__kl_estimator": "unbiased"},
    "Dr. GRPO": {"advantage__scale": "none", "loss__aggregation": "constant"},
    "GSPO": {"loss__ratio": "sequence", **NARROW},
    "GSPO, mean over tokens": {"loss__ratio": "sequence", "loss__aggregation": "token", **NARROW},
    "CISPO": {"loss__surrogate": "cispo", "loss__clip_high": 0.05, "loss__aggregation": "token"},
    "CISPO of sequences": {"loss__surrogate": "cispo", "loss__ratio": "sequence", **NARROW},
    "RLOO": {"advantage__baseline": "leave_one_out", "advantage__scale": "none"},
    "leave one out, scaled": {"advantage__baseline": "leave_one_out", "advantage__scale": "group"},
    "REINFORCE++": {
        "advantage__scale": "batch",
        "loss__aggregation": "token",
        "loss__kl_coef": 0.1,
        "loss__kl_estimator": "k2",
    },
    "truncate": {"loss__correction": "truncate", "loss__correction_high": 1.05},
    "mask": {"loss__correction": "mask", "loss__correction_low": 0.9, "loss__correction_high": 1.1},
    "sequence_mask": {
        "loss__correction": "sequence_mask",
        "loss__correction_low": 0.98,
        "loss__correction_high": 1.02,
    },
    "stale_mask": {"loss__correction": "stale_mask", "loss__correction_high": 0.01},
    "GSPO, sequence_mask": {
        "loss__ratio": "sequence",
        "loss__correction": "sequence_mask",
        "loss__correction_low": 0.98,
        "loss__correction_high": 1.02,
        **NARROW,
    },
    "CISPO, truncate, KL": {
        "loss__surrogate": "cispo",
        "loss__correction": "truncate",
        "loss__correction_high": 1.05,
        "loss__kl_coef": 0.1,
    },
    "V3.2": {"advantage__scale": "none", "loss__correction_high": 0.01, **V3_2},
}
"""Settings of each paper and some of them together, with bounds that cut some of the tokens compared."""


def family_config(microbatch: int, **changes: Any) -> Config:
    given: dict[str, Any] = {
        "advantage__scale": "group",
        "loss__aggregation": "sequence",
        "loss__kl_coef": 0.0,
        "loss__clip_low": LOW,
        "loss__clip_high": HIGH,
    }
    return make_config(
        **given
        | changes
        | {
            "sampling__temperature": 0.8,
            "sampling__max_tokens": MAX_TOKENS,
            "rl__microbatch_tokens": microbatch,
        }
    )


def family_case(name: str, microbatch: int = 40) -> tuple[Any, Any, Any, list[Group], Config]:
    """Return policy, reference, the trainer before the step, groups and options."""
    policy, config = tiny_model(Shape(kind="qwen3")), family_config(microbatch, **FAMILY[name])
    groups = sampled_groups(moved(policy, 0.02, seed=1), config.sampling.temperature)
    return policy, moved(policy, 0.02, seed=2), moved(policy, 0.02, seed=4), groups, config


@pytest.mark.parametrize("microbatch", [1, 40, 10_000])
@pytest.mark.parametrize("name", FAMILY)
def test_each_setting_of_the_family_equals_its_equations(name: str, microbatch: int) -> None:
    ours, reference, before, groups, config = family_case(name, microbatch)
    theirs = copy.deepcopy(ours)
    expected = family_loss(theirs, reference, before, groups, config)
    expected.backward()
    logprobs = None
    if config.loss.correction in ("truncate", "mask", "sequence_mask"):
        logprobs = {
            id(graded): forced_logprobs(before, graded.rollout, config.sampling.temperature).tolist()
            for whole in groups
            for graded in whole.members
        }
    found = our_loss(ours, reference, groups, config, logprobs)
    assert found == pytest.approx(expected.item(), abs=LOSS_TOLERANCE)
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "leave one out, scaled"])
def test_each_setting_of_the_family_is_seen_in_the_loss(name: str) -> None:
    """Each loss is far from that of plain GRPO, so a setting that does nothing would be found.

    Divided by the deviation of the group, G / (G - 1) of leave-one-out cancels out.
    """
    policy, reference, before, groups, config = family_case(name)
    plain = family_loss(policy, reference, before, groups, family_config(40))
    found = family_loss(policy, reference, before, groups, config)
    assert abs(found.item() - plain.item()) > 50 * LOSS_TOLERANCE


@pytest.mark.parametrize("name", [name for name in FAMILY if "mask" in name or name == "V3.2"])
def test_masks_leave_out_some_sequences_and_not_all(name: str) -> None:
    policy, _, before, groups, config = family_case(name)
    weights = []
    for whole, advantages in zip(groups, advantages_by_the_equations(groups, config), strict=True):
        for graded, advantage in zip(whole.members, advantages, strict=True):
            of_policy, of_before = (
                forced_logprobs(one, graded.rollout, config.sampling.temperature).tolist()
                for one in (policy, before)
            )
            engine = graded.rollout.sampler_logprobs
            stale = sum(e - p for e, p in zip(engine, of_policy, strict=True)) / len(engine)
            log_rho = [b - e for b, e in zip(of_before, engine, strict=True)]
            weights += correction_by_the_equations(config, log_rho, stale, advantage)
    assert 0 < sum(weight == 0 for weight in weights) < len(weights)


# Against TRL --------------------------------------------------------------------------------------

LOSS_TYPES: dict[Aggregation, str] = {"sequence": "grpo", "token": "dapo", "constant": "dr_grpo"}
"""TRL's names of the three aggregations."""
KL_COEFS = (0.0, 0.1)
RECORDED = Path(__file__).parent / "data" / "grpo_of_trl.json"
"""What TRL gave, which is no dependency; the file says how it was made. Made anew by running this file."""
MADE_BY = (
    "PYTHONPATH=src:tests:tests/support OMP_NUM_THREADS=1 python tests/parity/test_grpo_against_equations.py"
)


def compared(aggregation: Aggregation, kl_coef: float) -> tuple[Any, Any, list[Group], Config]:
    """Return the policy, the reference, what an older policy sampled, and the options of a case."""
    policy, config = tiny_model(Shape(kind="qwen3")), config_of(aggregation, kl_coef)
    groups = sampled_groups(moved(policy, 0.02, seed=1), config.sampling.temperature)
    return policy, moved(policy, 0.02, seed=2), groups, config


def told_of(model: Any) -> dict[str, list[float]]:
    """Return of each gradient its norm, and its part along a fixed direction, which shows its signs."""
    told = {}
    for name, gradient in gradients(model):
        direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(3))
        along = (gradient * direction).sum() / direction.norm()
        told[name] = [gradient.norm().item(), along.item()]
    return told


def assert_told_alike(found: Mapping[str, Sequence[float]], expected: Mapping[str, Sequence[float]]) -> None:
    assert found.keys() == expected.keys()
    for name, (norm, along) in expected.items():
        assert found[name] == pytest.approx([norm, along], abs=GRADIENT_TOLERANCE * norm), name


def trl_loss(
    model: Any,
    reference: Any,
    groups: Sequence[Group],
    config: Config,
    options: Mapping[str, Any],
    folder: Path,
) -> Tensor:
    """Return the loss that TRL computes from our tokens, log-probabilities and advantages."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from fakes import byte_tokenizer

    rows = [
        pair
        for whole in credit(groups, config.advantage.scale, config.advantage.baseline)
        for pair in zip(whole.group.members, whole.advantages, strict=True)
    ]
    longest = max(len(graded.rollout.prompt_ids) for graded, _ in rows)
    inputs: dict[str, list[Any]] = {}
    for graded, advantage in rows:
        rollout = graded.rollout
        before, after = longest - len(rollout.prompt_ids), MAX_TOKENS - len(rollout.completion_ids)
        reference_logprobs = forced_logprobs(reference, rollout, config.sampling.temperature).tolist()
        for name, value in {
            "prompt_ids": [0] * before + [*rollout.prompt_ids],
            "prompt_mask": [0] * before + [1] * len(rollout.prompt_ids),
            "completion_ids": [*rollout.completion_ids] + [0] * after,
            "completion_mask": [1] * len(rollout.completion_ids) + [0] * after,
            "old_per_token_logps": [*rollout.sampler_logprobs] + [0.0] * after,
            "ref_per_token_logps": reference_logprobs + [0.0] * after,
            "advantages": advantage,
        }.items():
            inputs.setdefault(name, []).append(value)
    arguments = GRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to=[],
        beta=0.0,
        **{
            "use_bias_correction_kl": False,  # the KL of V3.2, which weighs k3 by the ratio
            "epsilon": config.loss.clip_low,
            "epsilon_high": config.loss.clip_high,
            **options,
        },
        temperature=config.sampling.temperature,
        max_completion_length=MAX_TOKENS,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 8),
        processing_class=byte_tokenizer(),
    )
    tensors = {name: torch.tensor(values) for name, values in inputs.items()}
    tensors["num_items_in_batch"] = tensors["completion_mask"].sum()
    # Only now, as TRL would load a reference by name; the reference's numbers are in the tensors.
    trainer.beta = config.loss.kl_coef
    # In evaluation mode TRL divides by nothing else: the batch is a whole optimiser step.
    trainer.model.eval()
    loss: Tensor = trainer._compute_loss(trainer.model, tensors)
    return loss


def case_of(aggregation: Aggregation, kl_coef: float) -> dict[str, Any]:
    """Return what the file has of a case: TRL's loss, and of each gradient what `told_of` says."""
    return recorded_case(f"{aggregation} {kl_coef}")


def recorded_case(name: str) -> dict[str, Any]:
    """Return a case of the file by its name."""
    cases: Mapping[str, dict[str, Any]] = json.loads(RECORDED.read_text(encoding="utf-8"))["cases"]
    return cases[name]


def by_trl(aggregation: Aggregation, kl_coef: float, folder: Path) -> tuple[float, Any]:
    """Return TRL's loss, and the model with TRL's gradients."""
    policy, reference, groups, config = compared(aggregation, kl_coef)
    loss = trl_loss(policy, reference, groups, config, {"loss_type": LOSS_TYPES[aggregation]}, folder)
    loss.backward()
    return loss.item(), policy


TRL_FAMILY: dict[str, dict[str, Any]] = {
    "GSPO": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    # TRL's bound is that of the ratio itself, and its loss has the constant of log pi_old in it.
    "CISPO": {"loss_type": "cispo", "epsilon_high": 1 + FAMILY["CISPO"]["loss__clip_high"]},
    "V3.2": {"loss_type": "grpo", "use_bias_correction_kl": True, "off_policy_mask_threshold": 0.01},
}
"""What TRL calls these settings."""


def family_by_trl(name: str, folder: Path) -> tuple[float, Any]:
    """Return TRL's loss of a case of the family, and the model with TRL's gradients."""
    policy, reference, _, groups, config = family_case(name)
    loss = trl_loss(policy, reference, groups, config, TRL_FAMILY[name], folder)
    loss.backward()
    return loss.item(), policy


def family_by_us(name: str) -> tuple[float, Any]:
    """Return our loss of a case of the family, and the model with our gradients."""
    policy, reference, _, groups, config = family_case(name)
    return our_loss(policy, reference, groups, config), policy


@pytest.mark.parametrize("name", TRL_FAMILY)
def test_the_family_equals_what_trl_gave(name: str) -> None:
    (loss, ours), expected = family_by_us(name), recorded_case(name)
    assert_told_alike(told_of(ours), expected["gradients"])
    if name != "CISPO":
        assert loss == pytest.approx(expected["loss"], abs=LOSS_TOLERANCE)


@pytest.mark.parametrize("kl_coef", KL_COEFS)
@pytest.mark.parametrize("aggregation", LOSS_TYPES)
def test_loss_and_gradients_equal_those_that_trl_gave(aggregation: Aggregation, kl_coef: float) -> None:
    ours, reference, groups, config = compared(aggregation, kl_coef)
    expected = case_of(aggregation, kl_coef)
    assert our_loss(ours, reference, groups, config) == pytest.approx(expected["loss"], abs=LOSS_TOLERANCE)
    assert_told_alike(told_of(ours), expected["gradients"])


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
@pytest.mark.parametrize("kl_coef", KL_COEFS)
@pytest.mark.parametrize("aggregation", LOSS_TYPES)
def test_loss_and_gradients_equal_those_of_trl_where_it_is_installed(
    aggregation: Aggregation, kl_coef: float, tmp_path: Path
) -> None:
    """Entry by entry; and what is on file is what TRL gives now."""
    ours, reference, groups, config = compared(aggregation, kl_coef)
    expected, theirs = by_trl(aggregation, kl_coef, tmp_path)
    assert our_loss(ours, reference, groups, config) == pytest.approx(expected, abs=LOSS_TOLERANCE)
    assert_same_gradients(ours, theirs)
    recorded = case_of(aggregation, kl_coef)
    assert recorded["loss"] == pytest.approx(expected, abs=LOSS_TOLERANCE)
    assert_told_alike(recorded["gradients"], told_of(theirs))


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
@pytest.mark.parametrize("name", TRL_FAMILY)
def test_the_family_equals_trl_where_it_is_installed(name: str, tmp_path: Path) -> None:
    (_, ours), (_, theirs) = family_by_us(name), family_by_trl(name, tmp_path)
    assert_same_gradients(ours, theirs)
    assert_told_alike(recorded_case(name)["gradients"], told_of(theirs))


def record() -> None:
    """Write what TRL gives now."""
    cases = {}
    for name in TRL_FAMILY:
        with tempfile.TemporaryDirectory() as folder:
            loss, model = family_by_trl(name, Path(folder))
        cases[name] = {"loss": loss, "gradients": told_of(model)}
    for aggregation in LOSS_TYPES:
        for kl_coef in KL_COEFS:
            with tempfile.TemporaryDirectory() as folder:
                loss, model = by_trl(aggregation, kl_coef, Path(folder))
            cases[f"{aggregation} {kl_coef}"] = {"loss": loss, "gradients": told_of(model)}
    versions = {name: importlib.metadata.version(name) for name in ("trl", "transformers", "torch")}
    about = "GRPOTrainer._compute_loss on this test's tokens, log-probabilities and advantages; "
    about += "of each gradient its norm, and its part along a fixed direction"
    RECORDED.parent.mkdir(exist_ok=True)
    written = {"about": about, "made_by": MADE_BY, "versions": versions, "cases": cases}
    RECORDED.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
