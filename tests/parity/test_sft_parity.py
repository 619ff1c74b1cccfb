"""The packed SFT loss and its gradient against transformers' own loss on a padded batch.

transformers gets the whole sequences, padded on the right, with labels of -100 on prompts and
padding; its loss is the mean over all other labels of the batch, which is our denominator. Both are
fp32 and differ in the order of additions only: 1e-5 as in parity/test_decoder_against_transformers.py.
"""

from typing import Any

import pytest
import torch

from fakes import Shape, random_tokens, tiny_model
from training import backward_sft
from zerone.train.sft import Example

TOLERANCE = 1e-5
IGNORED = -100

# Template of three tokens; prompts and answers of one token; two examples alike in their prompt.
LENGTHS = [(1, 1), (4, 9), (4, 2), (2, 30), (7, 5), (1, 12), (3, 3), (5, 8), (6, 17), (2, 1)]
EXAMPLES = [
    Example(
        prompt_ids=(5, 6, 7, *random_tokens(num_prompt, "q", num_prompt)),
        completion_ids=(*random_tokens(num_completion - 1, "a", i), 0),
    )
    for i, (num_prompt, num_completion) in enumerate(LENGTHS)
]


def transformers_loss(model: Any) -> float:
    longest = max(example.num_tokens for example in EXAMPLES)
    ids, labels, mask = [], [], []
    for example in EXAMPLES:
        padding = longest - example.num_tokens
        ids.append([*example.prompt_ids, *example.completion_ids, *[0] * padding])
        labels.append([IGNORED] * len(example.prompt_ids) + [*example.completion_ids] + [IGNORED] * padding)
        mask.append([1] * example.num_tokens + [0] * padding)
    loss = model(torch.tensor(ids), attention_mask=torch.tensor(mask), labels=torch.tensor(labels)).loss
    loss.backward()
    return float(loss.item())


@pytest.mark.parametrize("microbatch_tokens", [10**6, 40])
@pytest.mark.parametrize(
    "shape",
    [Shape(kind="qwen2", biases=True), Shape(kind="qwen3"), Shape(kind="llama", tied=False)],
    ids=str,
)
def test_packed_loss_and_gradients_are_those_of_transformers(shape: Shape, microbatch_tokens: int) -> None:
    model = tiny_model(shape)
    expected_loss = transformers_loss(model)
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    loss = backward_sft(model, EXAMPLES, microbatch_tokens)
    assert loss == pytest.approx(expected_loss, rel=TOLERANCE)
    for name, parameter in model.named_parameters():
        largest = float(expected[name].abs().max())
        assert largest > 0, name
        torch.testing.assert_close(parameter.grad, expected[name], atol=TOLERANCE * largest, rtol=0, msg=name)


def test_a_prompt_that_carried_loss_would_be_seen() -> None:
    """The comparison can fail: one more label moves the loss in the second digit."""
    model = tiny_model(Shape())
    wrong = [
        Example(prompt_ids=e.prompt_ids[:-1], completion_ids=(e.prompt_ids[-1], *e.completion_ids))
        for e in EXAMPLES
    ]
    assert abs(backward_sft(model, wrong, 10**6) - transformers_loss(model)) > 1e-3
