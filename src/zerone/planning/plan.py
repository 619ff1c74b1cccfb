"""A plan: memory, time and money of a run, whether it fits, and what helps where it does not.

In: a configuration's work, a model's shape, GPUs or this machine. Out: a `Plan`, as text or as JSON.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zerone.config import Config
from zerone.model.lora import adapters_at
from zerone.planning.duration import Duration, Phase, duration_of
from zerone.planning.hardware import GIB, Cluster, this_machine
from zerone.planning.memory import Memory, Part, Place, disk_bytes, memory_of, slots_in_use, total
from zerone.planning.shapes import ModelShape
from zerone.planning.work import Work, model_passes
from zerone.processes.machine import precision_for

_USABLE = 0.92
"""Of a GPU's memory; the rest is the driver's, the kernels' and lost between pieces."""

_ENGINE_SHARE = 0.6
"""Of a GPU's memory that an engine's weights may take; more of them share a model before it is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run takes. `room` is the memory of a processor; `cost` is None where nothing is rented."""

    title: str
    shape: ModelShape
    work: Work
    memory: Memory
    duration: Duration
    room: float | None
    cost: float | None
    disk: float
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether memory is enough, as far as it is known."""
        return self.room is None or self.memory.peak <= self.room * _USABLE

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values; bytes, seconds and dollars."""

        def parts(of: tuple[Part, ...]) -> dict[str, float]:
            return {part.name: part.num_bytes for part in of}

        return {
            "title": self.title,
            "parameters": self.shape.parameters,
            "active": self.shape.active,
            "fits": self.fits,
            "memory": {
                "room": self.room,
                "peak": self.memory.peak,
                "training": parts(self.memory.training),
                "sampling": parts(self.memory.sampling),
            },
            "tokens_per_step": {"sampled": self.work.sampled_tokens, "trained": self.work.packed_tokens},
            "steps": self.duration.steps,
            "seconds_per_step": {phase.name: phase.seconds for phase in self.duration.phases},
            "seconds": self.duration.whole,
            "cost": self.cost,
            "disk": self.disk,
            "notes": list(self.notes),
        }

    def lines(self) -> Iterator[str]:
        """Yield the plan as text."""
        shape = self.shape
        active = f", {shape.active / 1e9:.3g}B of them in a token" if shape.is_mixture else ""
        yield self.title
        yield (
            f"N = {shape.parameters / 1e9:.4g}B parameters{active}; L = {shape.layers}, D = {shape.width}, "
            f"H = {shape.heads_width}, I = {shape.inner}, K = {shape.cache_width}, V = {shape.vocabulary}"
        )
        for moment, parts in (("training", self.memory.training), ("sampling", self.memory.sampling)):
            if parts:
                yield ""
                yield f"memory while {moment}, of each processor"
                yield from (f"  {part.name:<16}{size(part.num_bytes):>10}  {part.formula}" for part in parts)
                yield f"  {'together':<16}{size(total(parts)):>10}"
        yield ""
        if self.room is not None:
            verdict = "fits" if self.fits else "DOES NOT FIT"
            yield f"peak {size(self.memory.peak)} of {size(self.room)}: {verdict}"
            yield ""
        yield from self._time()
        yield from (f"note: {note}" for note in self.notes)

    def _time(self) -> Iterator[str]:
        work, duration = self.work, self.duration
        yield f"time of a step ({work.sequences} sequences of {work.completion:.0f} tokens on average)"
        if work.is_sampled:
            yield f"  {'sampled':<16}{work.sampled_tokens:>10.4g}  tokens"
        yield (
            f"  {'trained':<16}{work.packed_tokens:>10.4g}  tokens, in {work.updates} updates and "
            f"{model_passes(work):.2g} passes of training"
        )
        yield from (
            f"  {phase.name:<16}{span(phase.seconds):>10}  {phase.formula}" for phase in duration.phases
        )
        yield ""
        aside = f" + evaluations {span(duration.evaluations)}" if duration.evaluations else ""
        start = f" + start {span(duration.start)}"
        yield f"{duration.steps} steps x {span(duration.step)}{aside}{start} = {span(duration.whole)}"
        if self.cost is not None:
            yield f"cost ${self.cost:,.2f}"
        yield f"disk {size(self.disk)}"


def place_of(config: Config, shards: int = 1, engine_shards: int = 1) -> Place:
    """Return where a configuration computes: on GPUs in bf16, or by either trainer on this processor."""
    m = config.model
    return Place(
        shards=shards,
        engine_shards=engine_shards,
        num_bytes=2,
        is_gpu=True,
        is_local=False,
        is_recomputed=m.gradient_checkpointing,
        rank=adapter_rank(config),
        optimizer_bytes=8 if config.optim.kind == "adamw" else 2,
        offload=m.offload,
    )


def place_here(config: Config, width: int) -> Place:
    """Return how this machine's processor computes a model of this width."""
    num_bytes = 2 if precision_for(width, config.model.precision) == "bf16" else 4
    is_local = config.model.trainer != "parallel" and not config.needs_parallel
    return replace(place_of(config), num_bytes=num_bytes, is_gpu=False, is_local=is_local)


def adapter_rank(config: Config) -> int:
    """Return the rank of the adapters that are trained, 0 for none; those at a path say it themselves."""
    path = config.lora.path
    return config.lora.rank if path is None else adapters_at(Path(path).expanduser()).rank


def plan_on_gpus(
    name: str,
    config: Config,
    shape: ModelShape,
    work: Work,
    cluster: Cluster,
    *,
    are_experts_kept: bool = False,
) -> Plan:
    """Plan a run on GPUs: the model sharded over all of them, engines on the same ones in turn."""
    place = place_of(config, cluster.number, _engine_shards(shape, cluster))
    place = replace(place, are_experts_kept=are_experts_kept)
    room = cluster.gpu.memory
    notes = list(_notes_of(shape, work))
    fitting = _slots_that_fit(shape, work, place, room)
    if fitting is not None:
        notes.append(
            f"the cache has room for {fitting} sequences at once, not {slots_in_use(work)}: reckoned with "
            f"sampling.slots={fitting}"
        )
        work = replace(work, slots=fitting)
    memory = memory_of(shape, work, place)
    duration = duration_of(shape, work, place, cluster)
    hours = duration.whole / 3600 * cluster.number
    gpu = cluster.gpu
    nodes = f" in {cluster.num_nodes} nodes" if cluster.num_nodes > 1 else ""
    title = (
        f"{name} on {cluster.number}x {gpu.name}{nodes}: {size(gpu.memory)}, {gpu.flops / 1e12:.0f} TFLOP/s "
        f"in bf16, {gpu.bandwidth / 1e12:.3g} TB/s, ${gpu.price:.2f} an hour each (assumed; --price)"
    )
    notes.append(f"{hours:.3g} GPU-hours; rewards and the network's faults are not in it")
    plan = Plan(
        title=title,
        shape=shape,
        work=work,
        memory=memory,
        duration=duration,
        room=room,
        cost=hours * gpu.price,
        disk=_disk(config, shape, work),
        notes=tuple(notes),
    )
    return plan if plan.fits else replace(plan, notes=(*plan.notes, *_advice(plan, place)))


def plan_here(name: str, config: Config, shape: ModelShape, work: Work) -> Plan:
    """Plan a run on this machine's processor."""
    here = this_machine(shape.width, config.model.precision)
    sampled = here.seconds(shape.active, sampled=work.sampled_tokens) - here.seconds_to_start
    tokens = work.trained_tokens * model_passes(work)
    trained = here.seconds(shape.active, trained=tokens) - here.seconds_to_start
    evaluated = here.seconds(shape.active, sampled=work.evaluated * work.completion) - here.seconds_to_start
    formula = f"tokens x ({{}} A / {here.flops / 1e9:.0f} GFLOP/s + {{:.0f}} us)"
    phases = [
        Phase(
            name="training",
            seconds=trained,
            formula=formula.format("6", here.seconds_a_trained_token * 1e6),
        )
    ]
    if work.is_sampled:
        of_sampling = formula.format("2", here.seconds_a_sampled_token * 1e6)
        phases.insert(0, Phase(name="sampling", seconds=sampled, formula=of_sampling))
    return Plan(
        title=f"{name} on this machine's processor",
        shape=shape,
        work=work,
        memory=memory_of(shape, work, place_here(config, shape.width)),
        duration=Duration(
            phases=tuple(phases), evaluations=evaluated, start=here.seconds_to_start, steps=work.steps
        ),
        room=None,
        cost=None,
        disk=_disk(config, shape, work),
        notes=tuple(_notes_of(shape, work)),
    )


def _disk(config: Config, shape: ModelShape, work: Work) -> float:
    adapters = 4 * adapter_rank(config) * shape.linear_widths if config.has_adapters else None
    return disk_bytes(4 * shape.parameters, work, config.checkpoint.keep, adapters)


def _engine_shards(shape: ModelShape, cluster: Cluster) -> int:
    """Return the GPUs of an engine: a power of two, as few as leave room for the cache."""
    g = 1
    while g < cluster.number and 2 * shape.parameters / g > _ENGINE_SHARE * cluster.gpu.memory:
        g *= 2
    return min(g, cluster.number)


def _slots_that_fit(shape: ModelShape, work: Work, place: Place, room: float) -> int | None:
    """Return the sequences that the cache has room for, where that is some but fewer than wanted."""
    if not work.is_sampled:
        return None
    parts = {part.name: part.num_bytes for part in memory_of(shape, work, place).sampling}
    wanted = slots_in_use(work)
    of_slots = parts["KV cache"] + parts["sampling"]
    left = room * _USABLE - (sum(parts.values()) - of_slots)
    fitting = int(left / (of_slots / wanted))
    return fitting if 1 <= fitting < wanted else None


def _notes_of(shape: ModelShape, work: Work) -> Iterator[str]:
    if shape.is_guessed:
        yield "sizes that were not given are guessed from the number of parameters (--layers, --width, ...)"
    if work.is_sampled:
        yield (
            f"completions of {work.completion:.0f} tokens on average are an assumption (--length), and one "
            f"of each step fills its {work.longest}"
        )


def _advice(plan: Plan, place: Place) -> Iterator[str]:
    """Yield what would make the plan fit, or nearly, each with what it saves."""
    shape, work, peak = plan.shape, plan.work, plan.memory.peak
    room = (plan.room or 0) * _USABLE
    half = max(1, work.microbatch_tokens // 2)
    tries = [
        ("model.gradient_checkpointing=true", work, replace(place, is_recomputed=True)),
        ("optim.kind=adamw_8bit", work, replace(place, optimizer_bytes=2)),
        (f"microbatch_tokens={half}", replace(work, microbatch_tokens=half), place),
        ("loss.kl_coef=0", replace(work, has_reference=False), place),
        ("model.offload=all", work, replace(place, offload="all")),
        ("lora.rank=32", work, replace(place, rank=place.rank or 32)),
        (f"sampling.slots={max(1, work.slots // 4)}", replace(work, slots=max(1, work.slots // 4)), place),
    ]
    for what, changed_work, changed_place in tries:
        saved = peak - memory_of(shape, changed_work, changed_place).peak
        if saved > 0.01 * peak:
            yield f"{what} saves {size(saved)}"
    for factor in (2, 4, 8, 16, 32, 64, 128):
        more = replace(place, shards=place.shards * factor, engine_shards=place.engine_shards * factor)
        if memory_of(shape, work, more).peak <= room:
            yield f"{place.shards * factor} of these GPUs would hold it"
            return


def size(num_bytes: float) -> str:
    """Return bytes in a unit that suits them, as GPUs' memory is told (1 GB = 2**30)."""
    for unit, scale in (("TB", GIB * 1024), ("GB", GIB), ("MB", 2**20)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.3g} {unit}"
    return f"{num_bytes / 1024:.3g} kB"


def span(seconds: float) -> str:
    """Return a time in a unit that suits it."""
    for unit, scale in (("days", 86400 * 2), ("h", 3600), ("min", 60)):
        if seconds >= scale:
            return f"{seconds / (86400 if unit == 'days' else scale):.3g} {unit}"
    return f"{seconds:.3g} s"
