"""Time of a step by phase, each with the formula that it comes from, on GPUs.

In: a model's shape, the work of a step, GPUs. Out: `Phase`s. A bound decides each phase: products, memory or
network, and what no hardware speeds up (kernels started, a token after the other). The constants are
assumptions that published figures led to; measure a step and compare. Symbols as in memory.py; A parameters
that take part in a token, B sequences in a decoding step, G GPUs in all, g those of an engine.
"""

import math
from dataclasses import dataclass

from zerone.planning.hardware import BETWEEN_NODES, SAMPLING_FLOPS, TRAINING_FLOPS, Cluster
from zerone.planning.memory import Place, cache_bytes, gathered_parameters, microbatch_tokens
from zerone.planning.shapes import ModelShape
from zerone.planning.work import Work, model_passes

_TRAINING_SHARE = 0.25
_MIXTURE_SHARE = 0.2
"""Of the peak that training reaches; published for 4B on 8 H100: 14% at 16k tokens, 35% at 64k."""

_READING_SHARE = 0.7
"""Of the memory's bandwidth that decoding reaches."""

_PREFILL_SHARE = 0.5

_ON_ONE_GPU, _WITHIN_NODE, _ACROSS_NODES = 30e-6, 60e-6, 300e-6
"""Seconds that a layer of a decoding step takes whatever its size: kernels, and the exchange between GPUs
of an engine. DeepSeek's own service gives a reader 20 to 22 tokens/s."""

_A_DECODING_STEP = 1e-3
"""Seconds of scheduling and of choosing tokens."""

_A_LAYER_IN_TRAINING = 0.7e-3
"""Seconds to start the kernels of a layer's forward and backward pass."""

_ADAM_TRAFFIC = 28
"""Bytes that an update reads and writes for each weight."""

_SYNC_START, _SYNC_BANDWIDTH = 0.1, 28e9
"""Of new weights on their way to the engine; published: 65 GB from 16 to 16 H200 in 2.3 s."""

_START = 120.0
"""Seconds until the first step on GPUs: weights read, engine compiled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a step and its seconds."""

    name: str
    seconds: float
    formula: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """The phases of a step, and what surrounds the steps, in seconds."""

    phases: tuple[Phase, ...]
    evaluations: float
    start: float
    steps: int

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def whole(self) -> float:
        """Seconds of the run."""
        return self.steps * self.step + self.evaluations + self.start


def duration_of(shape: ModelShape, work: Work, place: Place, cluster: Cluster) -> Duration:
    """Return the time of a run."""
    phases = [_training(shape, work, place, cluster), _updates(shape, work, place, cluster)]
    evaluations = 0.0
    if work.is_sampled:
        sampling = _sampling(shape, work, place, cluster, work.sequences)
        phases = [sampling, *phases, _sync(shape, place, cluster)]
    if work.evaluated:
        at_once = max(1, work.evaluated // work.evaluations)
        evaluations = work.evaluations * _sampling(shape, work, place, cluster, at_once).seconds
    return Duration(phases=tuple(phases), evaluations=evaluations, start=_START, steps=work.steps)


def _sampling(shape: ModelShape, work: Work, place: Place, cluster: Cluster, sequences: int) -> Phase:
    """Return the time until the last completion: enough decoding steps for all, and for the longest."""
    engines = max(1, cluster.number // place.engine_shards)
    of_engine = math.ceil(sequences / engines)
    slots = min(work.slots, of_engine)
    steps = max(of_engine * work.completion / slots, work.longest)
    batch = of_engine * work.completion / steps
    a_step = decoding_step(shape, work, place, cluster, batch)
    prompts = sequences / work.group * work.prompt
    prefill = SAMPLING_FLOPS * shape.active * prompts / (cluster.number * cluster.gpu.flops * _PREFILL_SHARE)
    return Phase(
        name="sampling",
        seconds=steps * a_step + prefill,
        formula=f"{steps:.0f} decoding steps (the longest completion, or all through {slots} slots of "
        f"{engines} engines) x {a_step * 1e3:.1f} ms",
    )


def decoding_step(shape: ModelShape, work: Work, place: Place, cluster: Cluster, batch: float) -> float:
    """Return the seconds of a token for each of `batch` sequences.

    max(bytes read / bandwidth, 2 A B / products) + L x a layer's start: weights once (of experts those that
    any sequence meets), and the cache of each sequence.
    """
    gpu, g = cluster.gpu, place.engine_shards
    met = 1 - (1 - shape.expert_share) ** batch if shape.is_mixture else 1.0
    weights = place.num_bytes * (shape.parameters - shape.experts * (1 - met))
    cache = batch * (work.prompt + work.completion / 2) * cache_bytes(shape, place)
    reading = (weights + cache) / g / (gpu.bandwidth * _READING_SHARE)
    products = SAMPLING_FLOPS * shape.active * batch / g / (gpu.flops * _PREFILL_SHARE)
    a_layer = _ON_ONE_GPU if g == 1 else _WITHIN_NODE if g <= cluster.per_node else _ACROSS_NODES
    return max(reading, products) + shape.layers * a_layer + _A_DECODING_STEP


def _training(shape: ModelShape, work: Work, place: Place, cluster: Cluster) -> Phase:
    tokens = work.packed_tokens * model_passes(work)
    context = work.prompt + work.completion / 2
    # Scores and mixing of a token take 4 H c operations in a layer, and as much twice in the backward pass.
    a_token = TRAINING_FLOPS * shape.active + 12 * shape.layers * shape.heads_width * context
    share = _MIXTURE_SHARE if shape.is_mixture else _TRAINING_SHARE
    products = tokens * a_token / (cluster.number * cluster.gpu.flops * share)
    microbatches = max(
        work.updates, math.ceil(work.packed_tokens / (cluster.number * microbatch_tokens(work)))
    )
    starts = microbatches * model_passes(work) * shape.layers * _A_LAYER_IN_TRAINING
    traffic = _traffic(shape, work, place, cluster, microbatches)
    seconds = {"products": products, "kernels": starts, "network": traffic}
    bound = max(seconds, key=lambda name: seconds[name])
    return Phase(
        name="training",
        seconds=seconds[bound],
        formula=f"{tokens:.3g} tokens x (6 A + 12 L H c) / G / ({share:.0%} of products); bound by {bound}: "
        + ", ".join(f"{name} {value:.3g} s" for name, value in seconds.items()),
    )


def _traffic(shape: ModelShape, work: Work, place: Place, cluster: Cluster, microbatches: int) -> float:
    """Return the seconds of the network: FSDP gathers weights twice a micro-batch, and adds gradients up."""
    if cluster.number == 1:
        return 0.0
    gathered, tokens = gathered_parameters(shape, place), 0.0
    if place.are_experts_kept and shape.is_mixture:
        # A token goes to its experts and comes back, in both passes; I / D experts' worth of width.
        met = shape.inner / shape.width
        tokens = work.packed_tokens / cluster.number * 4 * place.num_bytes * shape.layers * shape.width * met
    a_microbatch = (2 * place.num_bytes + 4) * gathered
    return microbatches * model_passes(work) * a_microbatch / cluster.link + tokens / cluster.link


def _updates(shape: ModelShape, work: Work, place: Place, cluster: Cluster) -> Phase:
    num_bytes = _ADAM_TRAFFIC * work.trained_models * shape.parameters / place.shards
    return Phase(
        name="updates",
        seconds=work.updates * num_bytes / (cluster.gpu.bandwidth * _READING_SHARE),
        formula=f"{work.updates} x {_ADAM_TRAFFIC} bytes x N / W / bandwidth",
    )


def _sync(shape: ModelShape, place: Place, cluster: Cluster) -> Phase:
    size = place.num_bytes * shape.parameters
    if cluster.number == 1:
        seconds = 2 * size / (cluster.gpu.bandwidth * _READING_SHARE)
        return Phase(name="weight sync", seconds=seconds, formula="2 x engine weights / bandwidth, in place")
    nodes = -(-place.engine_shards // cluster.per_node)
    return Phase(
        name="weight sync",
        seconds=_SYNC_START + size / nodes / min(_SYNC_BANDWIDTH, BETWEEN_NODES),
        formula=f"{_SYNC_START} s + engine weights / {nodes} nodes / {_SYNC_BANDWIDTH / 1e9:.0f} GB/s, "
        "to all engines together",
    )
