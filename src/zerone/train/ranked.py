"""A training on several ranks that looks to its loop like one in this process.

`RankedTrainer` is what rank 0 has: each of its methods is an order (processes/orders.py) that all ranks
carry out with a `ParallelTrainer` of their own, since sharded weights are gathered by all together. Rank
0 deals micro-batches out by their tokens, and adds losses and figures up in the order of the minibatch.
`trainer_actions` is what the orders do.

Dimensions: C completion tokens, N packed tokens, V vocabulary.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zerone.engine.weights import TensorMeta
from zerone.errors import CheckpointError
from zerone.model.lora import gather_adapters
from zerone.model.packed import Packed, RowBlock, pack
from zerone.processes.orders import Action, Message, Orders
from zerone.processes.ranks import deal
from zerone.runs.checkpoint import SHARDS_NAME, State, read_state, write_shards
from zerone.train.batch import Batch
from zerone.train.distill import DistillObjective, DistillTerms, Sums
from zerone.train.grpo import GrpoObjective
from zerone.train.loss import LossTerms
from zerone.train.loss import Objective as GrpoSettings
from zerone.train.metrics import StepSums
from zerone.train.parallel import ParallelTrainer, emptied
from zerone.train.sft import CrossEntropy, MicroBatch
from zerone.train.trainer import A, Method, ModelPass, Objective, Targets

_TENSORS = ("sources_C", "targets_C", "lengths", "sampler_logprobs_C", "advantages_C", "weights_C")
_MORE = ("returns_C", "trainer_logprobs_C")


# Micro-batches and objectives as messages ---------------------------------------------------------


def batch_message(batches: Sequence[Any], values: Mapping[str, Any] | None = None) -> Message:
    """Return micro-batches, of either kind, as a message: what a loss needs of them."""
    tensors: dict[str, Tensor] = {}
    about = []
    for number, batch in enumerate(batches):
        tensors[f"{number}.tokens_N"] = batch.packed.tokens_N
        tensors |= {
            f"{number}.{name}": tensor
            for name in (*_TENSORS, *_MORE)
            if (tensor := getattr(batch, name, None)) is not None
        }
        about.append({"is_grpo": isinstance(batch, Batch), **_layout(batch.packed)})
    return Message({"batches": about, **(values or {})}, tensors)


def dealt(batches: Sequence[Any], num_ranks: int, values: Mapping[str, Any]) -> list[Message]:
    """Deal micro-batches over the ranks by their tokens: a message for each, with an empty one at its end.

    All make as many passes as the one with the most, as they gather weights together.
    """
    shares = deal([len(batch.packed.tokens_N) for batch in batches], num_ranks)
    about = {**values, "num_passes": max(map(len, shares))}
    spare = emptied(batches[0])
    return [
        batch_message([*(batches[index] for index in share), spare], {**about, "indices": share})
        for share in shares
    ]


def batches_in(message: Message) -> list[Any]:
    """Return the micro-batches of a message; those of GRPO without their members, which stay at rank 0."""
    found: list[Any] = []
    for number, about in enumerate(message.values["batches"]):
        own: dict[str, Any] = {
            name.partition(".")[2]: tensor
            for name, tensor in message.tensors.items()
            if name.startswith(f"{number}.")
        }
        packed = _packed(own.pop("tokens_N").tolist(), about)
        if about["is_grpo"]:
            found.append(Batch(packed=packed, members=(), **{**dict.fromkeys(_MORE), **own}))
        else:
            found.append(MicroBatch(packed=packed, **own))
    return found


def _layout(packed: Packed) -> dict[str, Any]:
    """Return what tells the tokens of a packed batch apart."""
    segments = [
        [segment.num_prompt, [length for block in segment.blocks for length in _lengths(block)]]
        for segment in packed.segments
    ]
    return {"num_prefix": packed.num_prefix, "apart": packed.apart, "segments": segments}


def _lengths(block: RowBlock) -> list[int]:
    counts: list[int] = torch.bincount(block.flat_C // block.length, minlength=block.num_rows).tolist()
    return counts


def _packed(tokens: list[int], layout: Mapping[str, Any]) -> Packed:
    place = layout["num_prefix"]

    def take(count: int) -> list[int]:
        nonlocal place
        place += count
        return tokens[place - count : place]

    sequences = [(take(prompt), [take(length) for length in rows]) for prompt, rows in layout["segments"]]
    apart = layout["apart"]
    return pack(sequences, apart or tokens[: layout["num_prefix"]], is_apart=bool(apart))


def described(objective: Any) -> dict[str, Any]:
    """Return an objective as plain values; the sums and checks of its figures stay at rank 0."""
    if isinstance(objective, GrpoObjective):
        return {
            "kind": "grpo",
            "settings": asdict(objective.settings),
            "temperature": objective.temperature,
        }
    if isinstance(objective, CrossEntropy):
        return {"kind": "sft", "num_targets": objective.num_targets}
    if isinstance(objective, DistillObjective):
        return {"kind": "distill", "temperature": objective.temperature}
    raise AssertionError(f"{type(objective).__name__} is trained in one process")


def objective_from(values: Mapping[str, Any], teacher: ModelPass | None) -> Any:
    """Return the objective that `described` told of."""
    if values["kind"] == "sft":
        return CrossEntropy(values["num_targets"])
    if values["kind"] == "distill":
        assert teacher is not None
        return DistillObjective(teacher, values["temperature"], Sums())
    settings = GrpoSettings(**values["settings"])
    return GrpoObjective(settings, values["temperature"], StepSums(), lambda terms: None)


_TERMS: Mapping[str, Callable[..., Any]] = {"grpo": LossTerms, "distill": DistillTerms}


# What every rank does -----------------------------------------------------------------------------


@dataclass(slots=True)
class Own:
    """What a rank has of the model that all of them train."""

    trainer: ParallelTrainer | None = None
    teacher: ModelPass | None = None

    @property
    def parallel(self) -> ParallelTrainer:
        """The trainer, which is made before any other order."""
        assert self.trainer is not None
        return self.trainer


def trainer_actions(own: Own) -> dict[str, Action]:
    """Return what the orders of a `RankedTrainer` do to what a rank has."""

    def forward_backward(message: Message) -> Message:
        values = message.values
        *batches, spare = batches_in(message)
        share = list(zip(values["indices"], batches, strict=True))
        objective = objective_from(values["objective"], own.teacher)
        found = own.parallel.compute(share, objective, values["num_passes"], spare)
        parts = [[index, loss, None if terms is None else asdict(terms)] for index, loss, terms in found]
        return Message({"parts": parts})

    def apply(message: Message) -> Message:
        norm = own.parallel.apply(message.values["learning_rate"], message.values["loss"])
        return Message({"norm": norm})

    def replace_reference(message: Message) -> Message:
        own.parallel.replace_reference()
        return Message()

    @torch.no_grad()
    def compute(message: Message) -> Message:
        values = message.values
        model: Any = own.parallel.evaluating() if values["of"] == "policy" else own.parallel.reference()
        *batches, spare = batches_in(message)
        tensors: dict[str, Tensor] = {}
        for index, batch in zip(values["indices"], batches, strict=True):
            result = getattr(model, values["method"])(batch, *values["arguments"])
            parts = result if isinstance(result, tuple) else (result,)
            tensors |= {f"{index}.{place}": part.cpu() for place, part in enumerate(parts)}
        for _ in range(values["num_passes"] - len(batches)):
            getattr(model, values["method"])(spare, *values["arguments"])
        return Message(tensors=tensors)

    def gather(message: Message) -> Message:
        own.parallel.gather()
        return Message()

    return {
        "forward_backward": forward_backward,
        "apply": apply,
        "replace_reference": replace_reference,
        "compute": compute,
        "gather": gather,
        "save": lambda message: _told(lambda: _save(own.parallel, Path(message.values["path"]))),
        "load": lambda message: _told(lambda: _load(own.parallel, Path(message.values["path"]))),
    }


def _save(trainer: ParallelTrainer, path: Path) -> None:
    write_shards(path, trainer.state(None), trainer.ranks.rank, trainer.ranks.size)


def _load(trainer: ParallelTrainer, path: Path) -> None:
    read_state(path, trainer.state(None))


def _told(work: Callable[[], None]) -> Message:
    """Do work on files, whose fault ends no rank: there may be another checkpoint."""
    try:
        work()
    except CheckpointError as error:
        return Message({"fault": str(error)})
    return Message({"fault": None})


# Rank 0's side ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RankedPass:
    """A `ModelPass` that all ranks compute together."""

    orders: Orders
    of: str

    def logits(self, batch: Targets) -> Tensor:
        """Return the head's output for each target, [C, V] in fp32."""
        found: Tensor = self.over("logits", [batch])[0]
        return found

    def logprobs(self, batch: Targets, temperature: float) -> tuple[Tensor, Tensor]:
        """Return log pi of each target and the entropy there, both [C] in fp32."""
        logprobs_C, entropy_C = self.over("logprobs", [batch], temperature)[0]
        return logprobs_C, entropy_C

    def cross_entropy(self, batch: Targets) -> Tensor:
        """Return the sum of -log pi of the targets, in fp32."""
        found: Tensor = self.over("cross_entropy", [batch])[0]
        return found

    def over(self, method: Method, batches: Sequence[Targets], *arguments: float) -> list[Any]:
        """Return what a method gives for each micro-batch; they are dealt over the ranks by their tokens."""
        about = {"of": self.of, "method": method, "arguments": arguments}
        found: dict[str, Tensor] = {}
        for reply in self.orders("compute", dealt(batches, self.orders.ranks.size, about)):
            found |= reply.tensors
        if method == "logprobs":
            return [(found[f"{index}.0"], found[f"{index}.1"]) for index in range(len(batches))]
        return [found[f"{index}.0"] for index in range(len(batches))]


@dataclass(frozen=True, slots=True)
class RankedWeights:
    """The weights of a model that is sharded over the ranks of `orders`; iterated at rank 0."""

    orders: Orders
    own: ParallelTrainer

    def metadata(self) -> list[TensorMeta]:
        """Return name, type and full shape of each parameter, tied ones once."""
        return [TensorMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the parameters, tied ones once, from the CPU."""
        found: list[tuple[str, Tensor]] = []

        def collect(message: Message) -> Message:
            found.extend((name, tensor.cpu()) for name, tensor in self.own.weights())
            if self.own.has_adapters:  # what the others gather besides
                gather_adapters(self.own.module)
            return Message()

        self.orders("gather", own=collect)
        yield from found


@dataclass(frozen=True, slots=True)
class RankedState:
    """A checkpoint's shards, each written and read by its rank; a `Part`."""

    orders: Orders

    def write(self, path: Path) -> None:
        """Write the directory of the shards."""
        path.mkdir()
        self._ordered("save", path)

    def read(self, path: Path) -> None:
        """Load what lies beside `path`: shards of any number of ranks, or what one process wrote."""
        self._ordered("load", path.parent)

    def _ordered(self, name: str, path: Path) -> None:
        for rank, reply in enumerate(self.orders(name, Message({"path": str(path)}))):
            if (fault := reply.values["fault"]) is not None:
                raise OSError(fault if rank == 0 else f"rank {rank}: {fault}")


class RankedTrainer:
    """A model in training on several ranks, as its loop at rank 0 sees it; a `Trainer`."""

    def __init__(self, orders: Orders, own: ParallelTrainer) -> None:
        self.own = own
        self.orders = orders
        self._loss: float | None = None

    @property
    def has_reference(self) -> bool:
        """Whether there is a reference model."""
        return self.own.has_reference

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in; the weights themselves are fp32."""
        return self.own.dtype

    def forward_backward(self, batches: Iterable[A], objective: Objective[A]) -> float:
        """Add the gradients of a minibatch's micro-batches, dealt over the ranks by their tokens."""
        every = list(batches)
        if not every:
            return 0.0
        told = described(objective)
        messages = dealt(every, self.orders.ranks.size, {"objective": told})
        replies = self.orders("forward_backward", messages)
        parts = sorted((part for reply in replies for part in reply.values["parts"]), key=lambda p: p[0])
        total = 0.0
        for _, loss, terms in parts:
            total += loss
            objective.record(None if terms is None else _TERMS[told["kind"]](**terms))
        self._loss = total
        return total

    def step(self, learning_rate: float) -> float:
        """Apply the gradients; see `Trainer.step`."""
        loss, self._loss = self._loss, None
        if loss is None:
            return 0.0
        replies = self.orders("apply", Message({"learning_rate": learning_rate, "loss": loss}))
        norm: float = replies[0].values["norm"]
        return norm

    def evaluating(self) -> RankedPass:
        """Return the model as it is now, to be used without gradients."""
        return RankedPass(self.orders, "policy")

    def reference(self) -> RankedPass | None:
        """Return the reference model, to be used without gradients, or None."""
        return RankedPass(self.orders, "reference") if self.has_reference else None

    def replace_reference(self) -> None:
        """Make the reference the present policy."""
        self.orders("replace_reference")

    def weights(self) -> RankedWeights:
        """Return the weights, gathered tensor by tensor to the CPU of rank 0."""
        return RankedWeights(self.orders, self.own)

    def state(self, tokenizer: Any) -> State:
        """Return what a checkpoint keeps: the shards of all ranks."""
        return {SHARDS_NAME: RankedState(self.orders)}

    def save(self, directory: Path, tokenizer: Any, provenance: Mapping[str, Any] | None = None) -> None:
        """Write the model as a transformers directory, from weights gathered tensor by tensor to the CPU."""

        def save(message: Message) -> Message:
            self.own.save(directory, tokenizer, provenance)
            return Message()

        self.orders("gather", own=save)
