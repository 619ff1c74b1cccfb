"""The forward pass of zerone against transformers' own, on the same random weights.

transformers runs each sequence whole and alone, without padding; zerone runs all of them packed,
with prompts shared and rows padded in blocks. Logits and the gradient of every parameter must
agree, however the sequences are packed.

Tolerances. Both passes compute in fp32 (2**-24 = 6e-8 relative rounding per operation) and differ
only in the order of sums of up to some hundred terms, through two layers. Logits (of size 1 to 4)
were seen to differ by up to 5e-6, gradients by 2e-6 of a parameter's largest entry; 1e-5 leaves
room for other processors. Anything forgotten, a bias or one key too many, shows in the first or
second digit.

Dimensions: N tokens, V vocabulary.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, Qwen2Config

from fakes import NUM_TOKENS, Shape, random_tokens, tiny_model, unsupported_config
from zerone.errors import ModelError
from zerone.model.decoder import Decoder, check_supported
from zerone.model.packed import ROWS_PER_BLOCK, Packed, common_prefix, pack, packed_hidden
from zerone.pretrain import Encoded, language_model_loss, next_tokens, pack_documents
from zerone.processes.machine import NARROW

TOLERANCE = 1e-5

SHAPES = [
    Shape(kind="qwen2"),
    Shape(kind="qwen2", tied=False, kv_heads=4),
    Shape(kind="qwen3"),
    Shape(kind="qwen3", tied=False, kv_heads=4),
    Shape(kind="qwen3", kv_heads=1, biases=True),
    Shape(kind="llama", kv_heads=4),
    Shape(kind="llama", tied=False),
    Shape(kind="llama", llama3_rope=True),
    Shape(kind="llama", llama3_rope=True, tied=False, kv_heads=4, biases=True),
]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)

Sequences = list[tuple[tuple[int, ...], list[tuple[int, ...]]]]


def _sequences(*shapes: tuple[int, Sequence[int]]) -> Sequences:
    """Return (prompt, rows) of random tokens, from lengths."""
    return [
        (
            random_tokens(num_prompt, "prompt", i),
            [random_tokens(length, "row", i, j) for j, length in enumerate(lengths)],
        )
        for i, (num_prompt, lengths) in enumerate(shapes)
    ]


# A shared prompt with more rows than a block; prompts of no and of one token; rows of one token; a
# prompt whose only row is longer than it; and a segment that is nothing but one token.
MIXED = _sequences((7, [9, 1, 4, 3, 8, 2, 6, 1, 5, 7]), (0, [5, 1, 3]), (1, [4, 1]), (3, [40]), (0, [1]))


def _packed_logits(model: Any, packed: Packed) -> Tensor:
    decoder = Decoder(model)
    return decoder.logits(packed_hidden(decoder, packed))


def _reference_logits(model: Any, sequences: Sequences, prefix: tuple[int, ...] = ()) -> Tensor:
    """Return logits in the packed order: prefix and each prompt once, then rows, each run alone."""
    parts = []
    for i, (prompt, rows) in enumerate(sequences):
        for j, row in enumerate(rows):
            logits_NV = model(torch.tensor([[*prefix, *prompt, *row]])).logits[0]
            num_known = 0 if i == j == 0 else len(prefix) if j == 0 else len(prefix) + len(prompt)
            parts.append(logits_NV[num_known:])
    return torch.cat(parts)


def _gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def _weighted(logits_NV: Tensor) -> Tensor:
    """Return a loss that no two tokens enter alike, so that an exchange of tokens shows."""
    weights_NV = torch.randn(logits_NV.shape, generator=torch.Generator().manual_seed(1))
    return (logits_NV * weights_NV).sum()


def _assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, gradient in expected.items():
        difference = (found[name] - gradient).abs().max()
        assert difference <= TOLERANCE * gradient.abs().max(), f"{name}: {difference:.2e}"


@every_shape
@pytest.mark.parametrize("prefix", [(), random_tokens(1, "prefix"), random_tokens(11, "prefix")], ids=len)
def test_logits_and_gradients_equal_those_of_transformers(shape: Shape, prefix: tuple[int, ...]) -> None:
    model = tiny_model(shape)
    expected_NV = _reference_logits(model, MIXED, prefix)
    found_NV = _packed_logits(model, pack(MIXED, prefix))
    torch.testing.assert_close(found_NV, expected_NV, atol=TOLERANCE, rtol=TOLERANCE)
    _assert_same_gradients(_gradients(model, _weighted(found_NV)), _gradients(model, _weighted(expected_NV)))


def test_every_parameter_matters_to_the_comparison() -> None:
    """A parameter without a gradient would agree by being ignored on both sides."""
    for shape in SHAPES:
        model = tiny_model(shape)
        gradients = _gradients(model, _weighted(_packed_logits(model, pack(MIXED))))
        assert [name for name, gradient in gradients.items() if gradient.abs().max() < 1.0] == []


@pytest.mark.parametrize(
    "sequences",
    [
        _sequences((0, [1])),
        _sequences((1, [1])),
        _sequences((0, [20])),
        _sequences((5, [1] * (2 * ROWS_PER_BLOCK + 1))),
        _sequences((0, [3] * ROWS_PER_BLOCK)),
        _sequences((200, [30, 100])),
    ],
    ids=["one token", "one and one", "no prompt", "rows of one", "a full block", "long"],
)
def test_packings_at_the_edge_equal_transformers(sequences: Sequences) -> None:
    for kind in ("qwen2", "qwen3", "llama"):
        model = tiny_model(Shape(kind=kind))
        torch.testing.assert_close(
            _packed_logits(model, pack(sequences)),
            _reference_logits(model, sequences),
            atol=TOLERANCE,
            rtol=TOLERANCE,
        )


def test_rows_do_not_see_each_other() -> None:
    model = tiny_model()
    (prompt, rows), *_ = MIXED
    found_NV = _packed_logits(model, pack([(prompt, rows)]))
    changed = [rows[0], random_tokens(len(rows[1]), "changed"), *rows[2:]]
    changed_NV = _packed_logits(model, pack([(prompt, changed)]))
    start = len(prompt) + len(rows[0])
    torch.testing.assert_close(changed_NV[:start], found_NV[:start], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(
        changed_NV[start + len(rows[1]) :], found_NV[start + len(rows[1]) :], atol=TOLERANCE, rtol=0
    )
    assert (changed_NV - found_NV).abs().max() > 0.1


def test_order_of_rows_and_segments_does_not_matter() -> None:
    model = tiny_model()
    expected = _gradients(model, _token_loss(model, MIXED))
    reordered = [(prompt, rows[::-1]) for prompt, rows in MIXED[::-1]]
    _assert_same_gradients(_gradients(model, _token_loss(model, reordered)), expected)


def test_splitting_into_micro_batches_does_not_matter() -> None:
    model = tiny_model()
    expected = _gradients(model, _token_loss(model, MIXED))
    (prompt, rows), *rest = MIXED
    total = {name: torch.zeros_like(gradient) for name, gradient in expected.items()}
    # The second micro-batch needs the prompt again, but its tokens have counted already.
    losses = [
        _token_loss(model, [(prompt, rows[:3])]),
        _token_loss(model, [(prompt, rows[3:])], counts_prompts=False),
        _token_loss(model, rest),
    ]
    for loss in losses:
        for name, gradient in _gradients(model, loss).items():
            total[name] += gradient
    _assert_same_gradients(total, expected)


def _token_loss(model: Any, sequences: Sequences, *, counts_prompts: bool = True) -> Tensor:
    """Return a sum over tokens whose terms do not depend on where a token stands in the batch."""
    packed = pack(sequences)
    counts_N = [
        counts
        for prompt, rows in sequences
        for counts in [counts_prompts] * len(prompt) + [True] * sum(map(len, rows))
    ]
    wanted_N = (packed.tokens_N * 7 + packed.positions_N * 13) % NUM_TOKENS
    logprobs_NV = _packed_logits(model, packed).log_softmax(-1)
    return logprobs_NV.gather(1, wanted_N[:, None]).squeeze(1)[torch.tensor(counts_N)].sum()


@pytest.mark.parametrize("prefix", [random_tokens(1, "prefix"), random_tokens(40, "prefix")], ids=len)
def test_prefix_of_a_batch_is_the_same_as_a_longer_prompt(prefix: tuple[int, ...]) -> None:
    """Rows compared with rows: with the prefix in every prompt, its own logits stand there too."""
    model, (sequence, *_) = tiny_model(), MIXED
    prompt, rows = sequence
    found_NV = _packed_logits(model, pack([sequence], prefix))
    longer_NV = _packed_logits(model, pack([((*prefix, *prompt), rows)]))
    torch.testing.assert_close(found_NV, longer_NV, atol=TOLERANCE, rtol=TOLERANCE)


def test_common_prefix_leaves_every_sequence_a_token_of_its_own() -> None:
    assert common_prefix([(1, 2, 3), (1, 2, 4)]) == (1, 2)
    assert common_prefix([(1, 2, 3), (1, 2, 3)]) == (1, 2)
    assert common_prefix([(1, 2, 3), (1, 2)]) == (1,)
    assert common_prefix([(1, 2), (2, 1), (1, 3)]) == ()
    assert common_prefix([(1,)]) == ()


def test_decoder_under_no_grad_is_a_snapshot_of_the_same_numbers() -> None:
    model, packed = tiny_model(), pack(MIXED)
    with torch.no_grad():
        snapshot = Decoder(model)
        before_NV = snapshot.logits(packed_hidden(snapshot, packed))
    assert torch.equal(before_NV, _packed_logits(model, packed).detach())


@every_shape
def test_bf16_pass_stays_near_fp32_and_its_gradients_reach_fp32_weights(shape: Shape) -> None:
    """bf16 keeps 8 bits (0.4%): logits of size 1 were seen to stray by 0.02, gradients by 5%."""
    model, packed = tiny_model(shape), pack(MIXED)
    decoder = Decoder(model, torch.bfloat16)
    found_NV, expected_NV = decoder.logits(packed_hidden(decoder, packed)), _packed_logits(model, packed)
    assert found_NV.dtype == torch.float32
    assert 0 < (found_NV - expected_NV).std() < 0.05 * expected_NV.std()
    found, expected = _gradients(model, _weighted(found_NV)), _gradients(model, _weighted(expected_NV))
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - gradient).norm() < 0.15 * gradient.norm(), name


WIDE_SHAPES = [
    Shape(kind="qwen2", width=NARROW, kv_heads=4),
    Shape(kind="qwen3", width=NARROW, tied=False, biases=True),
    Shape(kind="llama", width=NARROW),
]


@pytest.mark.parametrize("rows", [1, 8, 65])
@pytest.mark.parametrize("shape", WIDE_SHAPES, ids=str)
def test_weights_in_the_layout_for_sampling_give_the_same_logits(shape: Shape, rows: int) -> None:
    model = tiny_model(shape)
    packed = pack(_sequences(*[(0, [1])] * rows))
    plain, quick = Decoder(model), Decoder.for_sampling(model, torch.float32)
    assert quick._head.weight.is_mkldnn and not plain._head.weight.is_mkldnn
    with torch.no_grad():
        expected_NV, found_NV = (decoder.logits(packed_hidden(decoder, packed)) for decoder in (plain, quick))
    # Sums of 512 terms, where those of the other tests have 48.
    assert (found_NV - expected_NV).abs().max() < 2 * TOLERANCE * expected_NV.std()


def test_narrow_models_keep_the_plain_layout_for_sampling() -> None:
    model, packed = tiny_model(), pack(MIXED)
    with torch.no_grad():
        quick = Decoder.for_sampling(model, torch.float32)
        assert torch.equal(quick.logits(packed_hidden(quick, packed)), _packed_logits(model, packed))


# The loss of pre-training -------------------------------------------------------------------------


def _documents() -> list[Encoded]:
    """Return documents of three prefixes (none, one token, many), more than a block of each."""
    prefixes = [(), random_tokens(1, "prefix"), random_tokens(12, "prefix")]
    return [
        Encoded(prefixes[i % 3], (*random_tokens(1 + (5 * i) % 17, "body", i), 0))
        for i in range(3 * ROWS_PER_BLOCK + 6)
    ]


def _reference_loss(model: Any, documents: Sequence[Encoded]) -> Tensor:
    """Return the mean of transformers' own token losses, the tokens of a shared prefix once."""
    total, count = torch.zeros(()), 0
    seen: set[tuple[int, ...]] = set()
    for document in documents:
        ids = torch.tensor([[*document.prefix, *document.body]])
        labels = ids.clone()
        if document.prefix in seen:
            labels[0, : len(document.prefix)] = -100
        seen.add(document.prefix)
        num_labels = int((labels[0, 1:] != -100).sum())
        if num_labels:
            total = total + model(ids, labels=labels).loss * num_labels
            count += num_labels
    return total / count


@every_shape
def test_language_model_loss_equals_that_of_transformers(shape: Shape) -> None:
    documents = _documents()
    model = tiny_model(shape)
    expected = _reference_loss(model, documents)
    gradients = _gradients(model, expected)
    found = language_model_loss(model, pack_documents(documents, max_tokens=10_000))
    assert found == pytest.approx(expected.item(), rel=TOLERANCE)
    _assert_same_gradients({name: p.grad for name, p in model.named_parameters()}, gradients)


def test_micro_batches_of_pretraining_differ_only_by_prefixes_computed_again() -> None:
    """Documents without a prefix: however few tokens a micro-batch holds, the loss is the same."""
    documents = [Encoded((), document.body) for document in _documents()]
    one, other = tiny_model(), tiny_model()
    whole = pack_documents(documents, max_tokens=10_000)
    split = pack_documents(documents, max_tokens=30)
    assert len(whole) == 1
    assert len(split) > 5
    assert language_model_loss(one, whole) == pytest.approx(language_model_loss(other, split), rel=TOLERANCE)
    _assert_same_gradients(
        {name: p.grad for name, p in other.named_parameters()},
        {name: p.grad for name, p in one.named_parameters()},
    )


def test_each_token_is_predicted_from_the_one_before_it_in_its_document() -> None:
    packed = pack(MIXED)
    sources, targets = next_tokens(packed)
    found = sorted(zip(packed.tokens_N[sources].tolist(), targets.tolist(), strict=True))
    expected = []
    for prompt, rows in MIXED:
        expected += list(itertools.pairwise(prompt))
        for row in rows:
            whole = [*prompt[-1:], *row]
            expected += list(itertools.pairwise(whole))
    assert found == sorted(expected)


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (unsupported_config(), "model type 'gpt2' is not supported; use one of qwen2, qwen3, llama"),
        (LlamaConfig(hidden_act="gelu"), "activation 'gelu' is not supported"),
        (Qwen2Config(use_sliding_window=True), "sliding-window attention is not supported"),
    ],
    ids=["architecture", "activation", "sliding window"],
)
def test_model_that_the_pass_does_not_implement_is_refused(config: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_supported(config)


def test_models_of_the_comparison_differ_in_what_they_compute() -> None:
    logits = [_packed_logits(tiny_model(shape), pack(MIXED)) for shape in SHAPES]
    for i, one in enumerate(logits):
        for other in logits[:i]:
            assert (one - other).abs().max() > 0.1
