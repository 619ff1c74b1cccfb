"""The SFT loss and loop: what carries loss, how batches are cut and dealt, what training reaches."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import NUM_TOKENS, byte_tokenizer, random_tokens, tiny_model
from scripted import copies, is_unchanged, make_config, new_run
from training import backward_sft, held_out_loss, make_learner, make_trainer
from zerone.config import Config
from zerone.errors import TrainingError
from zerone.train.sft import (
    Example,
    Hooks,
    batch_of_step,
    examples_of,
    microbatches,
    num_steps_of,
    train,
    update,
)
from zerone.types import Demonstration, Message


def example(num_prompt: int, num_completion: int, seed: int = 0) -> Example:
    return Example(
        prompt_ids=(7, 8, 9, *random_tokens(num_prompt, "prompt", seed)),
        completion_ids=random_tokens(num_completion, "completion", seed),
    )


EXAMPLES = [example(1 + i % 4, 2 + 3 * (i % 5), i) for i in range(11)]


def gradients(model: Any, batch: list[Example], microbatch_tokens: int) -> tuple[float, dict[str, Any]]:
    model.zero_grad()
    loss = backward_sft(model, batch, microbatch_tokens)
    return loss, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def sft_config(**options: Any) -> Config:
    defaults = {"sft__warmup_share": 0.0, "sft__batch_size": 4, "sft__learning_rate": 0.01}
    return make_config(**(defaults | options))


def silent() -> Hooks:
    return Hooks(before_step=lambda step: None, after_step=lambda metrics, timing: None)


# Loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("microbatch_tokens", [1, 30, 64])
def test_loss_and_gradient_do_not_depend_on_micro_batching(microbatch_tokens: int) -> None:
    """Only the order of additions differs: fp32, gradients of size 0.01 to 1."""
    model = tiny_model()
    whole_loss, whole = gradients(model, EXAMPLES, 10**6)
    cut_loss, cut = gradients(model, EXAMPLES, microbatch_tokens)
    assert len(list(microbatches(EXAMPLES, microbatch_tokens))) > 1
    assert cut_loss == pytest.approx(whole_loss, rel=1e-6)
    for name in whole:
        torch.testing.assert_close(cut[name], whole[name], atol=1e-6, rtol=1e-4, msg=name)


def test_loss_does_not_depend_on_the_order_within_a_batch() -> None:
    """The sort is stable, so only equally long examples change places."""
    model = tiny_model()
    first, _ = gradients(model, EXAMPLES, 64)
    second, _ = gradients(model, EXAMPLES[::-1], 64)
    assert second == pytest.approx(first, rel=1e-6)


def test_an_example_is_blind_to_its_neighbours_in_the_pack() -> None:
    """The sum over a pack is the sum over packs of one, so no token saw another example."""
    model = tiny_model()
    num_tokens = sum(len(e.completion_ids) for e in EXAMPLES)
    alone = math.fsum(held_out_loss(model, [e], 10**6) * len(e.completion_ids) for e in EXAMPLES)
    packed = held_out_loss(model, EXAMPLES, 10**6)
    assert packed == pytest.approx(alone / num_tokens, rel=1e-6)


def test_every_answer_token_counts_alike_and_no_prompt_token_counts() -> None:
    (whole,) = microbatches(EXAMPLES, 10**6)
    expected = Counter(token for e in EXAMPLES for token in e.completion_ids)
    assert Counter(whole.targets_C.tolist()) == expected
    tokens = whole.packed.tokens_N
    predicted = set((whole.sources_C + 1).tolist())
    assert len(predicted) == len(whole.sources_C)
    assert torch.equal(tokens[whole.sources_C + 1], whole.targets_C)
    assert len(tokens) - len(predicted) == len((7, 8, 9)) + sum(len(e.prompt_ids) - 3 for e in EXAMPLES)


def test_held_out_loss_leaves_no_gradient() -> None:
    model = tiny_model()
    held_out_loss(model, EXAMPLES, 64)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_micro_batches_stay_within_their_size_unless_one_example_exceeds_it() -> None:
    parts = list(microbatches(EXAMPLES, 25))
    assert sum(len(part.targets_C) for part in parts) == sum(len(e.completion_ids) for e in EXAMPLES)
    sizes = [len(part.packed.tokens_N) for part in parts]
    assert max(sizes) <= 25
    (alone,) = microbatches([EXAMPLES[4]], 1)
    assert len(alone.packed.tokens_N) == EXAMPLES[4].num_tokens


# Batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "epochs"), [(4, 1), (4, 3), (11, 2), (30, 2)])
def test_every_example_is_seen_once_per_epoch(size: int, epochs: int) -> None:
    config = sft_config(sft__batch_size=size, sft__epochs=epochs)
    num_steps = num_steps_of(config, len(EXAMPLES))
    seen = [e for step in range(num_steps) for e in batch_of_step(EXAMPLES, step, size, epochs, seed=0)]
    assert len(seen) == epochs * len(EXAMPLES)
    for epoch in range(epochs):
        assert set(seen[epoch * 11 : epoch * 11 + 11]) == set(EXAMPLES)


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = [tuple(batch_of_step(EXAMPLES, 0, 22, 2, seed=seed)) for seed in (0, 1)]
    assert orders[0] != orders[1]
    assert orders[0][:11] != orders[0][11:]
    assert orders[0] == tuple(batch_of_step(EXAMPLES, 0, 22, 2, seed=0))


# Tokens -------------------------------------------------------------------------------------------


def demonstration(*contents: str) -> Demonstration:
    roles = ("user", "assistant") * len(contents)
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, contents, strict=False))
    return Demonstration(id="d", messages=messages)


def text_of(tokens: tuple[int, ...]) -> str:
    return str(byte_tokenizer().decode(tokens))


def test_an_answer_ends_with_the_end_token_and_starts_where_sampling_starts() -> None:
    (found,) = examples_of(demonstration("2+2?", "<think>4</think>\n4"), byte_tokenizer(), make_config())
    assert text_of(found.prompt_ids).endswith("User: 2+2?\nAssistant:")
    assert found.completion_ids[-1] == byte_tokenizer().eos_token_id
    assert text_of(found.completion_ids[:-1]) == "<think>4</think>\n4"


@pytest.mark.parametrize(
    ("answer", "prompt_end", "completion"),
    [("<think>4</think>\n4", "Assistant:<think>", "4</think>\n4"), ("Hello.", "Assistant:", "Hello.")],
)
def test_a_thought_that_prompts_open_belongs_to_the_prompt(
    answer: str, prompt_end: str, completion: str
) -> None:
    config = make_config(prompt__open_thought=True)
    (found,) = examples_of(demonstration("2+2?", answer), byte_tokenizer(), config)
    assert text_of(found.prompt_ids).endswith(prompt_end)
    assert text_of(found.completion_ids[:-1]) == completion


def test_every_answer_of_a_conversation_is_an_example_of_its_own() -> None:
    talk = demonstration("a?", "<think>x</think>\nA", "b?", "<think>y</think>\nB")
    first, second = examples_of(talk, byte_tokenizer(), make_config())
    assert text_of(first.completion_ids[:-1]) == "<think>x</think>\nA"
    assert text_of(second.prompt_ids).endswith("User: a?\nAssistant:A\nUser: b?\nAssistant:")
    assert text_of(second.completion_ids[:-1]) == "<think>y</think>\nB"


# Training -----------------------------------------------------------------------------------------


def test_one_batch_is_learnt_by_heart(tmp_path: Path) -> None:
    """From ln(261) = 5.6 nats and more per token to nearly none; what is drilled is written."""
    model = tiny_model(seed=1)
    config = sft_config(sft__epochs=60, sft__final_share=1.0)
    learner = make_learner(model, config)
    batch = EXAMPLES[:4]
    before = held_out_loss(model, batch, 10**6)
    train(config, learner.state, batch, new_run(tmp_path), silent())
    assert before > math.log(NUM_TOKENS)
    assert held_out_loss(model, batch, 10**6) < 0.05


def test_metrics_tell_schedule_tokens_and_epochs(tmp_path: Path) -> None:
    config = sft_config(sft__epochs=2, sft__warmup_share=0.3, sft__learning_rate=0.01)
    learner = make_learner(tiny_model(), config)
    run = new_run(tmp_path)
    train(config, learner.state, EXAMPLES, run, silent())
    lines = run.read_metrics()
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["num_examples"] for line in lines] == [4, 4, 4, 4, 4, 2]
    rates = [line["learning_rate"] for line in lines]
    assert rates[:2] == [0.005, 0.01]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(0.001)
    assert lines[-1]["epoch"] == 2
    trained = sum(line["num_trained_tokens"] for line in lines)
    assert trained == 2 * sum(len(e.completion_ids) for e in EXAMPLES)
    assert not (tmp_path / "rollouts.sqlite").exists()


def test_a_loss_that_is_not_finite_leaves_the_weights_alone() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight[0] = float("inf")
    before = copies(model)
    config = sft_config()
    with pytest.raises(TrainingError, match=r"lower sft\.learning_rate"):
        update(config, make_trainer(model, config, rate_option="sft.learning_rate"), EXAMPLES[:2], 0.01)
    assert is_unchanged(model, before)
