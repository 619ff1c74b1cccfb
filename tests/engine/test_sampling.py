"""Drawing tokens: from the right distribution, with the right numbers beside them.

Dimensions: B rows, V vocabulary.
"""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zerone.engine.torch.sampling import restrict, sample, uniforms

NUM_TOKENS = 8


def logits_row(seed: int = 0, size: int = NUM_TOKENS) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 1.5


def shares_of(logits: Sequence[float], temperature: float, top_k: int, top_p: float) -> list[float]:
    """Return the distribution as defined, token by token: the likeliest k, then the nucleus of mass p."""
    powers = [math.exp(logit / temperature) for logit in logits]
    order = sorted(range(len(powers)), key=lambda token: -powers[token])
    if top_k:
        order = order[:top_k]
    total = sum(powers[token] for token in order)
    kept, mass = [], 0.0
    for token in order:
        if mass >= top_p:
            break
        kept.append(token)
        mass += powers[token] / total
    total = sum(powers[token] for token in kept)
    return [powers[token] / total if token in kept else 0.0 for token in range(len(powers))]


def draw(
    logits_V: Tensor, count: int, *, temperature: float, top_k: int, top_p: float
) -> tuple[Tensor, Tensor]:
    numbers_B = torch.tensor(uniforms(7, count), dtype=torch.float64)
    return sample(logits_V.expand(count, -1), numbers_B, temperature=temperature, top_k=top_k, top_p=top_p)


SETTINGS = [
    (1.0, 0, 1.0),
    (0.7, 0, 1.0),
    (2.0, 0, 1.0),
    (1.0, 3, 1.0),
    (1.0, 0, 0.8),
    (0.7, 5, 0.6),
    (1.0, 100, 1.0),
    (1.0, 1, 1.0),
    (1.0, 0, 1e-9),
]
every_setting = pytest.mark.parametrize(("temperature", "top_k", "top_p"), SETTINGS)

CHI_SQUARE_BOUND = 24.3
"""The 99.9% point of chi-square with 7 degrees of freedom; with fewer tokens kept it lies lower."""


@every_setting
def test_frequencies_are_the_probabilities(temperature: float, top_k: int, top_p: float) -> None:
    logits_V, count = logits_row(), 20_000
    tokens_B, _ = draw(logits_V, count, temperature=temperature, top_k=top_k, top_p=top_p)
    found = Counter(tokens_B.tolist())
    chi_square = 0.0
    for token, share in enumerate(shares_of(logits_V.tolist(), temperature, top_k, top_p)):
        if share == 0.0:
            assert found[token] == 0
        else:
            chi_square += (found[token] - count * share) ** 2 / (count * share)
    assert chi_square < CHI_SQUARE_BOUND


@every_setting
def test_logprobs_are_those_of_the_distribution_drawn_from(
    temperature: float, top_k: int, top_p: float
) -> None:
    logits_V = logits_row(seed=1)
    tokens_B, logprobs_B = draw(logits_V, 300, temperature=temperature, top_k=top_k, top_p=top_p)
    shares = shares_of(logits_V.tolist(), temperature, top_k, top_p)
    expected = [math.log(shares[token]) for token in tokens_B.tolist()]
    assert logprobs_B.tolist() == pytest.approx(expected, abs=1e-5)  # fp32 logarithms of size 1


@given(
    st.lists(st.integers(-60, 60).map(lambda i: i / 10), min_size=2, max_size=12, unique=True),
    st.integers(0, 13),
    st.floats(0.01, 1.0),
)
def test_restriction_keeps_what_the_definition_keeps(logits: list[float], top_k: int, top_p: float) -> None:
    found_BV = restrict(torch.tensor([logits]).log_softmax(-1), top_k, top_p)
    kept = {token for token, value in enumerate(found_BV[0].tolist()) if value > float("-inf")}
    # A nucleus that ends within rounding of p may end one token earlier or later in fp32.
    near = [
        {token for token, share in enumerate(shares_of(logits, 1.0, top_k, top_p + slack)) if share}
        for slack in (-1e-5, 0.0, 1e-5)
    ]
    assert kept in near
    assert max(range(len(logits)), key=logits.__getitem__) in kept


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=20), st.floats(0, 1, exclude_max=True))
def test_a_token_is_drawn_where_the_number_falls_in_the_cumulated_shares(
    logits: list[float], number: float
) -> None:
    numbers_B = torch.tensor([number], dtype=torch.float64)
    tokens_B, _ = sample(torch.tensor([logits]), numbers_B, temperature=1.0, top_k=0, top_p=1.0)
    shares = shares_of(logits, 1.0, 0, 1.0)
    token = int(tokens_B.item())
    below = sum(shares[:token])
    slack = 1e-5  # probabilities are fp32
    assert below - slack <= number <= below + shares[token] + slack


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-53])
def test_impossible_tokens_are_never_drawn(number: float) -> None:
    inf = float("-inf")
    logits_BV = torch.tensor([[inf, 0.0, inf, 0.0, inf]])
    numbers_B = torch.tensor([number], dtype=torch.float64)
    tokens_B, logprobs_B = sample(logits_BV, numbers_B, temperature=1.0, top_k=0, top_p=1.0)
    assert tokens_B.item() in (1, 3)
    assert logprobs_B.item() == pytest.approx(math.log(0.5), abs=1e-6)


def test_greedy_takes_the_likeliest_and_reports_the_plain_softmax() -> None:
    logits_BV = torch.stack([logits_row(seed=i) for i in range(5)])
    tokens_B, logprobs_B = sample(logits_BV, torch.rand(5).double(), temperature=0, top_k=0, top_p=1.0)
    assert tokens_B.tolist() == logits_BV.argmax(-1).tolist()
    assert logprobs_B.tolist() == pytest.approx(logits_BV.log_softmax(-1).max(-1).values.tolist(), abs=1e-6)


def test_rows_are_drawn_independently_of_each_other() -> None:
    logits_BV = torch.stack([logits_row(seed=i) for i in range(6)])
    numbers_B = torch.tensor(uniforms(3, 6), dtype=torch.float64)
    together = sample(logits_BV, numbers_B, temperature=1.0, top_k=4, top_p=0.9)
    for i in range(6):
        alone = sample(logits_BV[i : i + 1], numbers_B[i : i + 1], temperature=1.0, top_k=4, top_p=0.9)
        assert alone[0].item() == together[0][i].item()
        assert alone[1].item() == pytest.approx(together[1][i].item(), abs=1e-6)


def test_numbers_of_a_seed_are_uniform_and_begin_alike_whatever_their_count() -> None:
    assert uniforms(5, 3) == uniforms(5, 10)[:3]
    assert uniforms(5, 3) != uniforms(6, 3)
    numbers = uniforms(2**63 - 1, 20_000)
    assert 0 <= min(numbers) < max(numbers) < 1
    counts = Counter(int(number * 8) for number in numbers)
    assert sum((count - 2500) ** 2 / 2500 for count in counts.values()) < CHI_SQUARE_BOUND
