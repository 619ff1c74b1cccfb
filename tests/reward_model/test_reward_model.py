"""Reward models: the loss against plain torch, what a score reads, what is learned and reported."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

from fakes import Shape as ModelShape
from fakes import byte_tokenizer, tiny_model
from zerone.data.preferences import Example, Kind, Pair, PreferenceData, SafetyExample, final_answer
from zerone.errors import DataError, ModelError, TrainingError
from zerone.prompts.r1 import TAGS, THINK_CLOSE, Style, is_visible, write_prompt
from zerone.reward_model.quality import calibration, correlation, measure_pairs, measure_safety
from zerone.reward_model.run import leave_out_overlong
from zerone.reward_model.scorer import (
    RewardModel,
    load_reward_model,
    new_head,
    save_reward_model,
)
from zerone.reward_model.training import Learner, Shape, bradley_terry, train, update
from zerone.runs.checkpoint import Progress
from zerone.train.optim import adamw

SHAPE = Shape(
    seed=0,
    epochs=1,
    batch_size=8,
    learning_rate=3e-3,
    warmup_updates=1,
    max_grad_norm=1.0,
    microbatch_tokens=900,
)


def new_model(kind: Kind = "helpfulness", seed: int = 0) -> RewardModel:
    """Return a tiny reward model whose head is not zero."""
    module = tiny_model(ModelShape(context=1024), seed)
    head = new_head(32)
    with torch.no_grad():
        head.weight.normal_(0, 0.1)
    return RewardModel(module=module, tokenizer=byte_tokenizer(), head=head, kind=kind)


def new_learner(model: RewardModel) -> Learner:
    parameters = [*model.module.parameters(), *model.head.parameters()]
    return Learner(
        model=model,
        optimizer=adamw(parameters, 3e-3, (0.9, 0.95), 0.0),
        progress=Progress(step=0, updates=0),
    )


def polite_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Return pairs of which the better answer says please, whatever its length."""
    rng = Random(seed)
    pairs = []
    for i in range(count):
        one, other = ("".join(rng.choices("abcdefgh ", k=rng.randint(4, 16))) for _ in range(2))
        pairs.append(Pair(prompt=f"Ask {i}", chosen=f"please {one}", rejected=f"listen {other}"))
    return pairs


def fit(model: RewardModel, examples: Sequence[Example], num_updates: int) -> list[float]:
    learner = new_learner(model)
    return [update(learner, examples, SHAPE, SHAPE.learning_rate)["loss"] for _ in range(num_updates)]


# The loss -----------------------------------------------------------------------------------------


def test_bradley_terry_is_the_softmax_between_two_scores() -> None:
    scores = torch.randn(50, 2, dtype=torch.float64, requires_grad=True)
    plain = -(scores[:, 0].exp() / scores.exp().sum(1)).log()
    ours = bradley_terry(scores[:, 0], scores[:, 1])
    torch.testing.assert_close(ours, plain)
    (expected,) = torch.autograd.grad(plain.mean(), scores)
    (found,) = torch.autograd.grad(bradley_terry(scores[:, 0], scores[:, 1]).mean(), scores)
    torch.testing.assert_close(found, expected)


def test_bradley_terry_holds_where_the_softmax_overflows() -> None:
    loss = bradley_terry(torch.tensor([-1000.0, 1000.0]), torch.tensor([1000.0, -1000.0]))
    assert loss.tolist() == [2000.0, 0.0]


def test_an_update_does_not_depend_on_how_it_is_cut() -> None:
    pairs = polite_pairs(6)
    gradients = []
    for tokens in (300, 100_000):
        model = new_model()
        learner = new_learner(model)
        learner.optimizer.step = lambda closure=None: None  # type: ignore[method-assign, assignment]  # keep gradients
        learner.optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]  # keep gradients
        shape = Shape(
            seed=0, epochs=1, batch_size=6, learning_rate=1e-3, warmup_updates=1, max_grad_norm=1e9,
            microbatch_tokens=tokens,
        )  # fmt: skip
        update(learner, pairs, shape, shape.learning_rate)
        gradients.append(torch.cat([p.grad.flatten() for p in model.module.parameters()]))
    # fp32 sums in another order, over gradients of up to about 1
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


# What a score reads -------------------------------------------------------------------------------


def test_a_score_is_the_head_on_transformers_own_last_hidden_state() -> None:
    model = new_model()
    asked = [("What?", "seven"), ("What?", "a much longer answer"), ("Why so?", "because")]
    for (prompt, response), score in zip(asked, model.scores(asked), strict=True):
        ids = byte_tokenizer()(write_prompt(prompt, style=Style.SUMMARY))["input_ids"]
        ids += byte_tokenizer()(" " + response)["input_ids"] + [0]
        with torch.no_grad():
            hidden = model.module.model(torch.tensor([ids])).last_hidden_state[0, -1]
        assert score == pytest.approx(model.head(hidden).item(), abs=1e-4)  # fp32 sums in another order
        assert model.score(prompt, response) == pytest.approx(score, abs=1e-5)


def test_helpfulness_reads_the_final_answer_alone_and_safety_all_of_it() -> None:
    plain, thought = "a cat", "<think>how to build a bomb</think>\n<answer>a cat</answer>"
    helpful, safe = new_model(), new_model("safety")
    assert helpful.score("Draw", plain) == helpful.score("Draw", thought)
    assert safe.score("Draw", plain) != safe.score("Draw", thought)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("a cat", "a cat"),
        ("<think>x</think> a cat ", "a cat"),
        ("<think>x</think>\n<answer> a cat</answer>", "a cat"),
        ("x</think>a cat", "a cat"),
        ("<think>never closed, a cat", ""),
        ("<think>x</think>", ""),
        ("<think>x</think>a cat\n<think>no, a dog", ""),
        ("<think>x</think>a cat is no <think>", "a cat is no <think>"),
        ("</think><think>a dog", ""),
        ("<think>x</think>\n<think>y</think>a cat", "a cat"),
        ("<think>x </think> y</think>a cat", "y</think>a cat"),
        ("<think>x</think><answer>a cat</answer><think>or a dog", "a cat"),
        ("", ""),
    ],
)
def test_the_final_answer_is_what_a_reader_is_shown(response: str, answer: str) -> None:
    assert final_answer(response) == answer


_PIECES = st.sampled_from(["<think>", "</think>", "a cat", " ", "\n", "<thin", "answer>"])


@given(before=st.lists(_PIECES).map("".join), after=st.text(alphabet="a <>/think"))
def test_nothing_after_a_thought_that_stays_open_is_an_answer(before: str, after: str) -> None:
    assume(THINK_CLOSE not in after)
    assert final_answer(f"{before}\n<think>{after}") == ""


@given(before=st.lists(_PIECES).map("".join), answer=st.text())
def test_what_follows_the_closed_reasoning_is_the_answer(before: str, answer: str) -> None:
    assume(THINK_CLOSE not in before and not any(tag in answer for tag in TAGS))
    said = answer.strip() if is_visible(answer) else ""
    assert final_answer(f"<think>{before}</think>{answer}") == said


def test_too_long_a_response_is_refused() -> None:
    with pytest.raises(ModelError, match="exceed the reward model's context of 1024"):
        new_model().score("What?", "a" * 1024)


def test_too_long_a_response_is_refused_also_after_another_one_to_its_prompt() -> None:
    with pytest.raises(ModelError, match="exceed the reward model's context of 1024"):
        new_model().scores([("What?", "a"), ("What?", "a" * 1024)])


def test_overlong_examples_are_left_out_and_counted() -> None:
    long = Pair(prompt="long", chosen="a", rejected="a" * 1024)
    short = polite_pairs(4)
    data = PreferenceData(
        kind="helpfulness", trained=[*short[:2], long], held_out=[long, *short[2:]], dropped={"x": 1}
    )
    found = leave_out_overlong(new_model(), data)
    assert ([*found.trained], [*found.held_out]) == (short[:2], short[2:])
    assert found.dropped == {"x": 1, "longer than the context": 2}
    with pytest.raises(DataError, match="1 examples exceed the context"):
        leave_out_overlong(new_model(), PreferenceData(kind="helpfulness", trained=[long], held_out=short))


def test_rewards_lie_between_0_and_1_on_the_known_scale() -> None:
    model = new_model()
    asked = [("What?", text) for text in ("one", "two", "three")]
    scores = model.scores(asked)
    model.mean, model.deviation = scores[0], 2.0
    rewards = model.rewards(asked)
    assert rewards[0] == pytest.approx(0.5)
    assert all(0 < reward < 1 for reward in rewards)
    assert sorted(range(3), key=rewards.__getitem__) == sorted(range(3), key=scores.__getitem__)


# Learning -----------------------------------------------------------------------------------------


def test_one_batch_of_pairs_is_overfitted() -> None:
    losses = fit(new_model(), polite_pairs(8), 25)
    assert losses[0] > 0.3
    assert losses[-1] < 0.02


def test_one_batch_of_safety_examples_is_overfitted() -> None:
    model = new_model("safety")
    examples = [
        SafetyExample(prompt=f"Ask {i}", response="yes, do it" if i % 2 else "no, never", is_safe=i % 2 == 0)
        for i in range(8)
    ]
    assert fit(model, examples, 30)[-1] < 0.02
    assert [reward > 0.5 for reward in model.rewards([(e.prompt, e.response) for e in examples])] == [
        example.is_safe for example in examples
    ]
    figures = measure_safety(model, examples)
    assert (figures["accuracy"], figures["safe_passed"], figures["unsafe_passed"]) == (1.0, 1.0, 0.0)


def test_a_loss_that_is_not_finite_stops_before_the_update() -> None:
    model = new_model()
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    before = model.module.model.embed_tokens.weight.clone()
    with pytest.raises(TrainingError, match=r"lower reward_model\.learning_rate"):
        update(new_learner(model), polite_pairs(2), SHAPE, SHAPE.learning_rate)
    assert torch.equal(model.module.model.embed_tokens.weight, before)


def test_every_example_is_used_once_an_epoch_and_the_order_goes_by_the_seed() -> None:
    seen: list[str] = []

    class Watched(RewardModel):
        def encode(self, prompt: str, responses: Sequence[str]):  # type: ignore[no-untyped-def]  # as above it
            seen.append(prompt)
            return RewardModel.encode(self, prompt, responses)

    plain, pairs = new_model(), polite_pairs(5)
    model = Watched(module=plain.module, tokenizer=plain.tokenizer, head=plain.head, kind="helpfulness")
    shape = Shape(seed=0, epochs=2, batch_size=2, learning_rate=1e-4, warmup_updates=1, max_grad_norm=1.0)
    steps: list[int] = []
    train(new_learner(model), pairs, shape, lambda step: None, lambda figures: steps.append(figures["step"]))
    assert steps == [1, 2, 3, 4, 5, 6]
    assert sorted(seen[:5]) == sorted(seen[5:]) == sorted(pair.prompt for pair in pairs)


# Figures ------------------------------------------------------------------------------------------


def test_a_planted_length_bias_is_reported() -> None:
    """Trained where the longer answer always wins, a model fails where it is worse, and it is said."""
    rng = Random(1)

    def pair(i: int, *, longer_wins: bool) -> Pair:
        long, short = "a" * rng.randint(24, 40), "a" * rng.randint(2, 10)
        chosen, rejected = (long, short) if longer_wins else (short, long)
        return Pair(prompt=f"Ask {i}", chosen=chosen, rejected=rejected)

    model = new_model()
    fit(model, [pair(i, longer_wins=True) for i in range(8)], 20)
    found = measure_pairs(model, [pair(i, longer_wins=i % 2 == 0) for i in range(40)])
    length = found["length"]
    assert length["correlation"] > 0.7
    assert length["accuracy_better_is_longer"] == 1.0
    assert length["accuracy_better_is_shorter"] == 0.0
    assert (length["prefers_longer"], length["is_biased"]) == (1.0, True)


def test_a_model_that_goes_by_content_is_not_called_biased() -> None:
    model = new_model()
    fit(model, polite_pairs(16), 25)
    found = measure_pairs(model, polite_pairs(40, seed=2))
    assert found["accuracy"] > 0.9
    assert found["accuracy_ci"][0] <= found["accuracy"] <= found["accuracy_ci"][1]
    assert not found["length"]["is_biased"]
    assert found["loss"] < 0.5


def test_calibration_error_is_how_far_said_is_from_came() -> None:
    honest = calibration([0.75] * 100, [1.0] * 75 + [0.0] * 25)
    assert honest["ece"] == pytest.approx(0.0)
    sure = calibration([0.95] * 50 + [0.55] * 50, [1.0] * 25 + [0.0] * 25 + [1.0] * 25 + [0.0] * 25)
    assert sure["ece"] == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)
    assert [(b["num"], b["came"]) for b in sure["bins"]] == [(50, 0.5), (50, 0.5)]
    assert calibration([1.0, 0.5], [1.0, 0.0], lowest=0.5)["bins"][-1]["to"] == 1.0


def test_correlation_is_pearsons_and_none_without_spread() -> None:
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert correlation([1, 1, 1], [3, 2, 1]) is None


# On disk ------------------------------------------------------------------------------------------


def test_a_saved_reward_model_scores_as_before_and_is_a_transformers_directory(tmp_path: Path) -> None:
    model = new_model("safety")
    model.mean, model.deviation = 0.25, 2.0
    save_reward_model(model, tmp_path / "model")
    loaded = load_reward_model(tmp_path / "model")
    asked = [("What?", "seven")]
    assert (loaded.kind, loaded.scores(asked), loaded.rewards(asked)) == (
        *("safety", model.scores(asked)),
        model.rewards(asked),
    )
    assert (
        AutoModelForCausalLM.from_pretrained(tmp_path / "model", local_files_only=True).num_parameters() > 0
    )
    assert (
        json.loads((tmp_path / "model" / "reward_head.json").read_text(encoding="utf-8"))["kind"] == "safety"
    )


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a reward model"):
        load_reward_model(tmp_path)
    save_reward_model(new_model(), tmp_path / "model")
    (tmp_path / "model" / "reward_head.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"the reward head in .* is damaged"):
        load_reward_model(tmp_path)


def test_a_response_has_no_token_of_a_beginning_in_front() -> None:
    model = new_model()
    model.tokenizer = copy.deepcopy(model.tokenizer)  # all tests have one
    plain = model.encode("Ask", ["yes"])
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{model.tokenizer.eos_token} $0",
        special_tokens=[(model.tokenizer.eos_token, model.tokenizer.eos_token_id)],
    )
    begun = model.encode("Ask", ["yes"])
    assert begun.prompt == (model.tokenizer.eos_token_id, *plain.prompt)
    assert begun.responses == plain.responses
