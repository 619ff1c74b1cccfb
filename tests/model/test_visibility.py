"""Which token sees which, and that any architecture computes a packed batch as each sequence by itself."""

from typing import Any

import pytest
import torch
from torch import Tensor

from architectures import PACKED, UNPACKED, build
from fakes import random_tokens
from zerone.model.packed import Packed, pack
from zerone.model.visibility import NOWHERE, block_mask, dense_mask, is_visible, places_of, sequences_of
from zerone.train.transformers_forward import TransformersForward, add_methods, computes_packed

CPU = torch.device("cpu")

Group = tuple[tuple[int, ...], list[tuple[int, ...]]]


def groups() -> list[Group]:
    """Return three groups: several rows, a single one, and rows without a prompt."""
    return [
        (random_tokens(5, "p0"), [random_tokens(length, "r0", length) for length in (1, 4, 9)]),
        (random_tokens(2, "p1"), [random_tokens(7, "r1")]),
        ((), [random_tokens(3, "r2", i) for i in range(2)]),
    ]


def packed_of(prefix: tuple[int, ...], *, is_apart: bool = False) -> Packed:
    return pack(groups(), prefix, is_apart=is_apart)


def whole_sequences(prefix: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [(*prefix, *prompt, *row) for prompt, rows in groups() for row in rows]


def rows_of(packed: Packed) -> list[list[int]]:
    """Return for each row the packed tokens of its whole sequence, told from places alone."""
    places = places_of(packed, CPU)
    found = []
    for row in range(int(places.rows_N.max()) + 1):
        (own,) = (places.rows_N == row).nonzero(as_tuple=True)
        segment = places.segments_N[own[0]]
        prompt = (places.segments_N == segment) & (places.rows_N == NOWHERE)
        shared = (places.segments_N == NOWHERE) | prompt
        found.append([*shared.nonzero().squeeze(1).tolist(), *own.tolist()])
    return found


PREFIXES = {"none": (), "short": random_tokens(1, "x"), "long": random_tokens(11, "x")}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("is_apart", [False, True])
def test_a_token_sees_its_own_sequence_up_to_itself_and_nothing_else(
    prefix: tuple[int, ...], is_apart: bool
) -> None:
    packed = packed_of(prefix, is_apart=is_apart)
    places = places_of(packed, CPU)
    index = torch.arange(len(places.tokens_N))
    seen = is_visible(places, index[:, None], index[None])
    wanted = torch.zeros_like(seen)
    for tokens in rows_of(packed):
        for position, query in enumerate(tokens):
            wanted[query, tokens[: position + 1]] = True
    assert torch.equal(seen, wanted)


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_the_rows_in_places_are_the_sequences_that_were_packed(prefix: tuple[int, ...]) -> None:
    for is_apart in (False, True):
        packed = packed_of(prefix, is_apart=is_apart)
        places = places_of(packed, CPU)
        read = [tuple(places.tokens_N[tokens].tolist()) for tokens in rows_of(packed)]
        assert read == whole_sequences(prefix)
        for tokens in rows_of(packed):
            assert places.positions_N[tokens].tolist() == [*range(len(tokens))]
        assert places.num_before == (len(prefix) if is_apart else 0)


@pytest.mark.parametrize("window", [1, 2, 6, 100])
def test_a_window_counts_positions_not_places_in_the_batch(window: int) -> None:
    packed = packed_of(PREFIXES["long"])
    places = places_of(packed, CPU)
    mask = dense_mask(places, torch.float32, window)[0, 0] == 0
    for tokens in rows_of(packed):
        for position, query in enumerate(tokens):
            inside = tokens[max(0, position - window + 1) : position + 1]
            assert mask[query].nonzero().squeeze(1).tolist() == sorted(inside)


@pytest.mark.parametrize("window", [None, 6])
def test_the_block_mask_of_flex_attention_has_the_same_rule(window: int | None) -> None:
    from torch.nn.attention.flex_attention import create_mask

    places = places_of(packed_of(PREFIXES["long"]), CPU)
    length = len(places.tokens_N)
    rule = block_mask(places, window).mask_mod
    flex = create_mask(rule, None, None, length, length, device="cpu")[0, 0]
    assert torch.equal(flex, dense_mask(places, torch.float32, window)[0, 0] == 0)


@pytest.mark.parametrize("is_apart", [False, True])
def test_sequences_one_by_one_say_where_each_packed_token_stands(is_apart: bool) -> None:
    places = places_of(packed_of(PREFIXES["short"], is_apart=is_apart), CPU)
    found = sequences_of(places)
    assert torch.equal(found.tokens_RT.flatten()[found.where_N], places.tokens_N)
    assert found.mask_RT.flatten()[found.where_N].all()
    lengths = found.mask_RT.sum(1).tolist()
    assert lengths == [len(one) for one in whole_sequences(PREFIXES["short"])]


# Architectures ------------------------------------------------------------------------------------


class Whole:
    """All tokens of a packed batch as targets' sources."""

    def __init__(self, packed: Packed) -> None:
        self.packed = packed
        self.sources_C = torch.arange(len(packed.tokens_N))
        self.targets_C = packed.tokens_N


def logits_alone(model: Any, packed: Packed, prefix: tuple[int, ...]) -> Tensor:
    """Return the logits of every packed token from transformers' own pass over its sequence alone."""
    places = places_of(packed, CPU)
    found = torch.zeros(len(places.tokens_N), model.config.vocab_size)
    for tokens, sequence in zip(rows_of(packed), whole_sequences(prefix), strict=True):
        found[tokens] = model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0].float()
    return found[places.num_before :]


@torch.no_grad()
@pytest.mark.parametrize("is_apart", [False, True])
@pytest.mark.parametrize("name", PACKED)
def test_an_architecture_computes_packed_as_alone(name: str, is_apart: bool) -> None:
    model = build(PACKED[name]())
    add_methods(model)
    assert computes_packed(model, CPU, torch.float32, "dense")
    prefix = PREFIXES["long"]
    packed = packed_of(prefix, is_apart=is_apart)
    expected = logits_alone(model, packed, prefix)
    found = TransformersForward(model, CPU, torch.float32, "dense").logits(Whole(packed))
    # Sums over 32 channels in another order: 1e-5 of the largest logit is seen at most.
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("name", [*UNPACKED, "qwen3", "gemma3", "deepseek_v3"])
def test_an_architecture_computes_unpacked_as_alone(name: str) -> None:
    model = build((UNPACKED | PACKED)[name]())
    add_methods(model)
    prefix = PREFIXES["short"]
    packed = packed_of(prefix)
    found = TransformersForward(model, CPU, torch.float32, "unpacked").logits(Whole(packed))
    expected = logits_alone(model, packed, prefix)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", UNPACKED)
def test_what_cannot_be_packed_is_found_out(name: str) -> None:
    model = build(UNPACKED[name]())
    add_methods(model)
    assert not computes_packed(model, CPU, torch.float32, "dense")


@torch.no_grad()
def test_a_model_that_ignores_the_mask_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only seems to take the mask must not pass: here each token sees all before it."""
    model = build(PACKED["llama"]())
    add_methods(model)
    body, forward = model.model, model.model.forward

    def deaf(*args: Any, attention_mask: Any = None, **options: Any) -> Any:
        is_dense = isinstance(attention_mask, Tensor) and attention_mask.ndim == 4
        return forward(*args, attention_mask=None if is_dense else attention_mask, **options)

    monkeypatch.setattr(body, "forward", deaf)
    assert not computes_packed(model, CPU, torch.float32, "dense")
