"""A job on several ranks: what the others do for rank 0, which runs it as it is written for one process.

In: the configuration that rank 0 has resolved, as an order. Each rank opens the same model, its part of the
trainer and an engine of its own. Rank 0 opens its own by the same functions (training.py).
"""

import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from zerone import __version__
from zerone.config import Config
from zerone.engine.api import Engine
from zerone.engine.ranked import RankedEngine, completed
from zerone.errors import ModelError, RunDirError
from zerone.jobs import training
from zerone.jobs.training import Placement, place, tried_tokens
from zerone.model.loading import Model
from zerone.processes.machine import DTYPES, keep_freed_memory
from zerone.processes.orders import Action, Group, Message, Orders
from zerone.processes.ranks import started_ranks
from zerone.processes.threads import use_threads
from zerone.runs.directory import RunDir
from zerone.train.parallel import ParallelTrainer
from zerone.train.ranked import Own, RankedTrainer, trainer_actions
from zerone.train.trainer import ModelPass, Trainer


def about_this_rank() -> dict[str, Any]:
    """Return what must be the same on all ranks."""
    return {
        "zerone": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "arguments": sys.argv[1:],
    }


class Rank:
    """What a rank has of the job that runs at rank 0, and what it does with it."""

    def __init__(self) -> None:
        self.own = Own()
        self.config: Config | None = None
        self.placement: Placement | None = None
        self.model: Model | None = None
        self.engine: Engine | None = None

    def actions(self) -> dict[str, Action]:
        """Return what each order does."""
        return {
            **trainer_actions(self.own),
            "see": _see,
            "teacher": self._teacher,
            "open": self._open,
            "trainer": self._trainer,
            "try": self._try,
            "engine": self._engine,
            "update": self._update,
            "sleep": self._sleep,
            "generate": self._generate,
        }

    def _teacher(self, message: Message) -> Message:
        path, dtype = message.values["path"], DTYPES[message.values["precision"]]
        self.own.teacher = training.open_teacher(path, dtype)
        return Message()

    def _open(self, message: Message) -> Message:
        if self.engine is not None:
            self.engine.close()
        self.model = self.engine = self.own.trainer = None  # of an earlier stage, which has ended
        keep_freed_memory()
        transformers.logging.disable_progress_bar()
        config = Config.model_validate(message.values["config"])
        use_threads(message.values["environment"]["threads"])
        self.config, self.placement = config, place(config, message.values["environment"])
        self.model = training.open_policy(config, self.placement)
        return Message({"sha256": self.model.sha256})

    def _trainer(self, message: Message) -> Message:
        assert self.config is not None and self.model is not None and self.placement is not None
        made = training.new_trainer(self.config, self.model, self.placement, **message.values)
        assert isinstance(made, ParallelTrainer)  # place() gives no other to several ranks
        self.own.trainer = made
        return Message()

    def _try(self, message: Message) -> Message:
        return Message({"tokens": tried_tokens(self.own.parallel, message.values["longest"])})

    def _engine(self, message: Message) -> Message:
        assert self.config is not None and self.model is not None
        self.engine = training.engine_of(self.config, self.model, message.values)
        return Message()

    def _update(self, message: Message) -> Message:
        assert self.engine is not None
        self.engine.update_weights(self.own.parallel.weights(), message.values["version"])
        return Message({"hash": self.engine.weight_hash})

    def _sleep(self, message: Message) -> Message:
        assert self.engine is not None
        self.engine.sleep()
        return Message()

    def _generate(self, message: Message) -> Message:
        assert self.engine is not None
        return completed(self.engine, message)


def _see(message: Message) -> Message:
    path = Path(message.values["path"])
    try:
        found = path.read_text(encoding="utf-8")
    except OSError:
        found = ""
    return Message({"is_seen": found == message.values["token"]})


# Rank 0's side ------------------------------------------------------------------------------------

_leading: list[tuple[Orders, Rank]] = []
"""How this process gives orders to other ranks, and what it has itself; empty where it is alone."""


@contextmanager
def leading(group: Group) -> Iterator[None]:
    """Have the jobs of this process run on all ranks for a while; afterwards the others end."""
    rank = Rank()
    _leading.append((Orders(group, rank.actions()), rank))
    try:
        yield
    finally:
        _leading.pop()
        group.close()


def _leader() -> tuple[Orders, Rank] | None:
    """Return what a job on several ranks needs; None for one on this rank alone."""
    return _leading[-1] if _leading and started_ranks().size > 1 else None


def require_shared(run: RunDir) -> None:
    """Raise RunDirError where a rank does not see the run directory, into which all write checkpoints."""
    if (leader := _leader()) is None:
        return
    path, token = run.path.resolve() / ".ranks", secrets.token_hex(16)
    try:
        path.write_text(token, encoding="utf-8")
        replies = leader[0]("see", Message({"path": str(path), "token": token}))
        path.unlink()
    except FileNotFoundError as error:
        raise RunDirError(f"cannot write {path}: {error.strerror}") from error
    blind = [str(rank) for rank, reply in enumerate(replies) if not reply.values["is_seen"]]
    if blind:
        raise RunDirError(
            f"rank {', '.join(blind)} does not see {run.path.resolve()}; put --run-dir on a file system that "
            "all machines share, as each rank writes its part of a checkpoint there"
        )


def open_policy(config: Config, placement: Placement) -> Model:
    """Load the model to train, on all ranks; raises ModelError where one has another model."""
    if (leader := _leader()) is None:
        return training.open_policy(config, placement)
    orders, rank = leader
    device = placement.device
    environment = {"precision": _name_of(device.dtype), "threads": device.threads}
    values = {"config": config.model_dump(mode="json"), "environment": environment}
    replies = orders("open", Message(values))
    assert rank.model is not None
    for number, reply in enumerate(replies):
        if reply.values["sha256"] != rank.model.sha256:
            raise ModelError(
                f"rank {number} has another model at {config.model.path} than rank 0; copy it there again"
            )
    return rank.model


def _name_of(wanted: torch.dtype) -> str:
    (name,) = (precision for precision, dtype in DTYPES.items() if dtype == wanted)
    return name


def open_teacher(path: str, dtype: torch.dtype) -> ModelPass:
    """Load the teacher of on-policy distillation, on all ranks."""
    if (leader := _leader()) is None:
        return training.open_teacher(path, dtype)
    orders, rank = leader
    orders("teacher", Message({"path": path, "precision": _name_of(dtype)}))
    assert rank.own.teacher is not None
    return rank.own.teacher


def engine_of(config: Config, model: Model, environment: Mapping[str, Any]) -> Engine:
    """Return the engine that samples from the policy; the caller gives it the weights first."""
    if (leader := _leader()) is None:
        return training.engine_of(config, model, environment)
    orders, rank = leader
    orders("engine", Message({name: environment[name] for name in ("precision", "threads")}))
    assert rank.engine is not None
    return RankedEngine(orders, rank.engine)


def new_trainer(config: Config, model: Model, placement: Placement, **settings: Any) -> Trainer:
    """Return the model as it is, about to be trained; `settings` are those of training.new_trainer."""
    if (leader := _leader()) is None:
        return training.new_trainer(config, model, placement, **settings)
    orders, rank = leader
    orders("trainer", Message(settings))
    return RankedTrainer(orders, rank.own.parallel)
