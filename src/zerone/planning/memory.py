"""Memory by part, each with the formula that it comes from.

In: a model's shape, the work of a step, where it runs. Out: `Part`s of the two moments that decide: a step's
backward pass, and sampling with the cache full. Weights, gradients and optimizer states are fp32 in either
trainer; computation is in the type of `Place`. Symbols: N parameters, L layers, D width, H width of all
heads, h heads, I width of the MLP, K numbers that a layer caches of a token, V vocabulary, t tokens of a
micro-batch, S sequences that are sampled at once, W GPUs that share a model, P parameters of adapters.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from zerone.planning.shapes import ModelShape
from zerone.planning.work import Work
from zerone.train.logprobs import largest_logits

_MASTER = 4
"""Bytes of a weight as it is learned, and of its gradient."""

_CELLS_OF_LOGITS = 4
"""fp32 numbers for each held logit: itself, its logarithm, the gradient, the entropy's product."""

_SUMS_OF_PIECES = 3
"""How often the gradient of the head exists while pieces of logits are added up (docs/lab_notebook.md)."""

_SUMMED = "a piece's, the sum before it and after it"

_BYTES_OF_A_SAMPLE = 20
"""For each row and token of the vocabulary when one is sampled: three in fp32 and a sum in fp64."""

_SPARE_COLUMNS = 64
"""Of the torch engine's cache, beside prompt and completion."""

_ALLOCATOR_SHARE = 0.75
"""Of activations and logits, which a CPU's allocator keeps of earlier micro-batches of other sizes."""

_PROGRAM = 400e6
"""Bytes of Python, torch and transformers in a process, on a CPU beside the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes of one thing on one processor, and how they come about."""

    name: str
    num_bytes: float
    formula: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How a model lies on processors: `shards` of the trained one, `engine_shards` of the engine's copy.

    `num_bytes` are those of a number in computation. With `is_gpu` larger pieces of logits are held.
    `is_local` is our own forward pass on a CPU, whose attention keeps its weights; any other goes through
    fused kernels that do not. With `is_recomputed` a layer keeps only its input and is computed again in
    the backward pass. With `are_experts_kept` tokens travel to the experts, which stay where they are
    (zerone's own trainer gathers all weights). `rank` is that of adapters, 0 for none; `optimizer_bytes`
    are AdamW's two averages of a weight; what `offload` names waits in the memory of the CPU.
    """

    shards: int = 1
    engine_shards: int = 1
    num_bytes: int = 4
    is_gpu: bool = False
    is_local: bool = True
    is_recomputed: bool = False
    are_experts_kept: bool = False
    rank: int = 0
    optimizer_bytes: int = 8
    offload: Literal["none", "reference", "all"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is resident while training and while sampling, on one processor."""

    training: tuple[Part, ...]
    sampling: tuple[Part, ...]

    @property
    def peak(self) -> float:
        """The larger of the two sums."""
        return max(total(self.training), total(self.sampling))


def total(parts: Iterable[Part]) -> float:
    """Return the sum of the parts."""
    return sum(part.num_bytes for part in parts)


def memory_of(shape: ModelShape, work: Work, place: Place) -> Memory:
    """Return the memory of a run by part; the engine sleeps while the model is trained."""
    kept = _kept(shape, work, place)
    backward = tuple(_of_backward(shape, work, place))
    training = (*kept.values(), *backward, *_kept_by_allocator(backward, work, place))
    sampling: tuple[Part, ...] = ()
    if work.is_sampled:
        sampling = (
            *(part for name, part in kept.items() if name != "gradients"),
            *_of_engine(shape, work, place),
        )
    return Memory(training=training, sampling=sampling)


def _kept(shape: ModelShape, work: Work, place: Place) -> Mapping[str, Part]:
    parts = dict(_of_adapters(shape, place) if place.rank else _of_all_weights(shape, work, place))
    if place.is_local:
        parts["program"] = Part(name="program", num_bytes=_PROGRAM, formula="Python, torch, transformers")
    away = {"none": (), "reference": ("reference",), "all": tuple(parts)}[place.offload]
    for name in away:
        parts[name] = Part(name=name, num_bytes=0, formula=f"on the CPU: {parts[name].formula}")
    return parts


def _of_all_weights(shape: ModelShape, work: Work, place: Place) -> Mapping[str, Part]:
    models, n, w = work.trained_models, shape.parameters, place.shards
    of = f"{models} x N / W" if models > 1 else "N / W"
    sizes = {"weights": _MASTER, "gradients": _MASTER, "optimizer": place.optimizer_bytes}
    parts = {
        name: Part(name=name, num_bytes=size * models * n / w, formula=f"{size} bytes x {of}")
        for name, size in sizes.items()
    }
    if work.has_reference:
        formula = f"{_MASTER} bytes x N / W"
        parts["reference"] = Part(name="reference", num_bytes=_MASTER * n / w, formula=formula)
    return parts


def _of_adapters(shape: ModelShape, place: Place) -> Mapping[str, Part]:
    """Weights are frozen and as they are computed in; the reference is the base with the adapters off."""
    a, b, w = place.rank * shape.linear_widths, place.num_bytes, place.shards
    base = Part(
        name="weights",
        num_bytes=(b * shape.parameters + _MASTER * a) / w,
        formula=f"({b} bytes x N + {_MASTER} bytes x P) / W, P = {a / 1e6:.3g}M, rank {place.rank}",
    )
    sizes = {"gradients": _MASTER, "optimizer": place.optimizer_bytes}
    learned = {
        name: Part(name=name, num_bytes=size * a / w, formula=f"{size} bytes x P / W")
        for name, size in sizes.items()
    }
    return {"weights": base, **learned}


def _of_backward(shape: ModelShape, work: Work, place: Place) -> Iterable[Part]:
    b, n = place.num_bytes, shape.parameters
    if place.is_local:
        yield Part(
            name="working copy",
            num_bytes=(b + _MASTER) * n,
            formula=f"({b} + {_MASTER}) bytes x N: joined matrices and the sums of their gradients",
        )
    else:
        layers = 2 * gathered_parameters(shape, place) / shape.layers + shape.vocabulary * shape.width
        experts = " without experts" if place.are_experts_kept and shape.is_mixture else ""
        yield Part(
            name="working copy",
            num_bytes=b * layers,
            formula=f"{b} bytes x (2 N / L + V D){experts}: layers gathered for use",
        )
    yield _activations(shape, work, place)
    yield from _logits(shape, work, place)


def gathered_parameters(shape: ModelShape, place: Place) -> float:
    """Return the parameters that every GPU needs whole in turn."""
    return shape.parameters - (shape.experts if place.are_experts_kept else 0)


def microbatch_tokens(work: Work) -> float:
    """Return the tokens of the largest micro-batch: a sequence is never cut, and an update may be smaller.

    The template that all prompts begin with is filled in for each prompt, and packed once.
    """
    filled = max(work.microbatch_tokens, work.prompt + work.longest)
    counted = work.completion + work.prompt / work.group
    of_update = work.packed_tokens / work.updates
    return min(filled, max(of_update, counted)) * (1 - work.template / work.group / counted)


def _activations(shape: ModelShape, work: Work, place: Place) -> Part:
    b, t, layers = place.num_bytes, microbatch_tokens(work), shape.layers
    d, h, inner, cached = shape.width, shape.heads_width, shape.inner, shape.cache_width
    context = work.prompt + work.completion
    if place.is_local:
        # Every row has the keys and values of its prompt beside its own, and all of its attention weights.
        attention = cached * (1 + context / work.completion) + shape.num_heads * context
        a_token = b * (6 * d + 4 * h + 4 * inner + attention)
        formula = (
            f"t (L + 1) {b} bytes x (6 D + 4 H + 4 I + K (1 + c / m) + h c), "
            f"c = {context:.0f} of context, m = {work.completion:.0f}"
        )
    else:
        a_token = b * (4 * d + 4 * h + 4 * inner + 2 * cached) + 16 * d
        formula = f"t (L + 1) ({b} bytes x (4 D + 4 H + 4 I + 2 K) + 16 D of norms in fp32)"
    if not place.is_recomputed:
        return Part(
            name="activations", num_bytes=t * (layers + 1) * a_token, formula=f"{formula}, t = {t:.0f}"
        )
    return Part(
        name="activations",
        num_bytes=t * (layers * b * d + a_token),
        formula=f"t x ({b} bytes x L D + one layer's), recomputed, t = {t:.0f}",
    )


def _kept_by_allocator(backward: Iterable[Part], work: Work, place: Place) -> Iterable[Part]:
    """On a CPU pieces of one micro-batch rarely fit where those of another were freed."""
    if place.is_local and work.packed_tokens / work.updates > work.microbatch_tokens:
        freed = sum(part.num_bytes for part in backward if part.name in ("activations", "logits"))
        yield Part(
            name="allocator",
            num_bytes=_ALLOCATOR_SHARE * freed,
            formula=f"{_ALLOCATOR_SHARE} x (activations + logits), kept of earlier micro-batches",
        )


def _logits(shape: ModelShape, work: Work, place: Place) -> Iterable[Part]:
    """Yield the logits, and where they are made in pieces what adds up the gradient of the head."""
    t, b = microbatch_tokens(work), place.num_bytes
    share = work.completion / (work.completion + (work.prompt - work.template) / work.group)
    limit = largest_logits(place.is_gpu)
    cells = t * share * shape.vocabulary
    yield Part(
        name="logits",
        num_bytes=4 * _CELLS_OF_LOGITS * min(cells, limit),
        formula=f"{4 * _CELLS_OF_LOGITS} bytes x min(t V, {limit:.3g})",
    )
    if cells > limit and not place.rank:  # below adapters the head learns nothing
        # Layers that are computed again come after, when the sum alone is left.
        copies, what = (1, "the sum of the pieces'") if place.is_recomputed else (_SUMS_OF_PIECES, _SUMMED)
        yield Part(
            name="head's gradient",
            num_bytes=copies * b * shape.vocabulary * shape.width,
            formula=f"{copies} x {b} bytes x V D: {what}",
        )


def _of_engine(shape: ModelShape, work: Work, place: Place) -> Iterable[Part]:
    b, w = place.num_bytes, place.engine_shards
    yield Part(
        name="engine weights", num_bytes=b * shape.parameters / w, formula=f"{b} bytes x N / engine's GPUs"
    )
    slots = slots_in_use(work)
    columns = work.prompt + work.longest + _SPARE_COLUMNS
    yield Part(
        name="KV cache",
        num_bytes=slots * columns * cache_bytes(shape, place) / w,
        formula=f"S x {columns:.0f} tokens x {b} bytes x L K / engine's GPUs, S = {slots}",
    )
    yield Part(
        name="sampling",
        num_bytes=_BYTES_OF_A_SAMPLE * slots * shape.vocabulary / w,
        formula=f"{_BYTES_OF_A_SAMPLE} bytes x S V / engine's GPUs",
    )


def slots_in_use(work: Work) -> int:
    """Return the sequences that an engine decodes at once; evaluations may want more than a step."""
    return min(work.slots, max(work.sequences, work.evaluated // work.evaluations))


def cache_bytes(shape: ModelShape, place: Place) -> float:
    """Return the bytes that the cache keeps of one token."""
    return place.num_bytes * shape.layers * shape.cache_width


def disk_bytes(weights: float, work: Work, keep: int, adapters: float | None = None) -> float:
    """Return what a run leaves on disk: models, checkpoints and rollouts.

    `weights` are the bytes of one model; a checkpoint has two averages of AdamW beside it, and the reference.
    Where `adapters` are trained, of so many bytes, a checkpoint has these in place of the model.
    """
    checkpoint = weights * (3 + work.has_reference) if adapters is None else 3 * adapters
    models = weights + checkpoint * (keep + 1)
    rollouts = work.steps * work.sequences * (12 * work.completion + 200) if work.is_sampled else 0
    return models + rollouts
