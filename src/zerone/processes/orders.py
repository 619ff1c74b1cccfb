"""One program on several ranks: rank 0 runs it and gives orders, the others carry them out.

Only rank 0 has a loop, a run directory, a display and reward workers. Each of its orders is a name and a
`Message` for every rank, all ranks work on it together, and each replies with a `Message`. So a job is
written once, as for one process.

Names and sizes go through torchrun's store, tensors and JSON through gloo as one safetensors blob:
nothing is pickled. What is trusted is who can reach the store and the ports of gloo, as with any program
under torchrun: keep them inside of the cluster's own network.

No rank waits for ever. A rank that fails says why in the store and ends, which closes its connections, so a
rank that waits for it in a collective is told; one that says nothing for `Patience.lost` seconds, or is
not among the processes any more, is given up. Rank 0 then raises the error of the rank that failed first.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from zerone import errors
from zerone.device import Kind
from zerone.errors import RankError, ZeroneError
from zerone.processes.ranks import Ranks, backend_of
from zerone.processes.stopping import unbroken

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """What goes from one rank to another: plain values, and tensors by name."""

    values: Json = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the message as a safetensors blob, with the values as JSON in its header."""
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in self.tensors.items()}
        return save(tensors, {"values": json.dumps(self.values)})

    @classmethod
    def from_bytes(cls, blob: bytes) -> "Message":
        """Return the message of a blob."""
        length = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + length])
        return cls(json.loads(header["__metadata__"]["values"]), load(blob))


Action = Callable[[Message], Message]
"""What a rank does with the message of an order; it returns its reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds that ranks wait for each other."""

    join: float = 300.0
    """For all to have come."""
    collective: float = 600.0
    """For the others inside of one exchange of tensors."""
    beat: float = 2.0
    """Between two signs of life."""
    lost: float = 60.0
    """Without a sign, after which a rank counts as hung."""
    slice: float = 0.5
    """Of one wait, after which a rank looks whether the others live."""


class Cut(Exception):
    """Another rank has ended or failed in the middle of an exchange; its own error says why."""


class Group:
    """The ranks of a training that have joined; used by one thread."""

    def __init__(self, store: Any, ranks: Ranks, patience: Patience) -> None:
        self.ranks = ranks
        self._store = store
        self._patience = patience
        self._places: list[tuple[str, int]] = []
        self._beats: dict[int, tuple[bytes, float]] = {}
        self._is_ending = threading.Event()

    def join(self, about: Mapping[str, Any], kind: Kind) -> None:
        """Meet the other ranks and open the process group.

        Rank 0 waits for all, compares what is `about` them with its own, and raises RankError where one has
        not come in time or is unlike; the others then raise Cut, and RankError where rank 0 has not come.
        """
        own = {**about, "place": [socket.gethostname(), os.getpid()]}
        self._store.set(f"hello/{self.ranks.rank}", json.dumps(own))
        if self.ranks.is_first:
            hellos = [self._hello(rank) for rank in range(self.ranks.size)]
            self._places = [(hello["place"][0], hello["place"][1]) for hello in hellos]
            for rank, hello in enumerate(hellos):
                for key in about:
                    if hello[key] != own[key]:
                        raise RankError(
                            f"rank {rank} ({hello['place'][0]}) has {key} {hello[key]}, and rank 0 has "
                            f"{own[key]}; give all machines the same program and command"
                        )
            self._store.set("welcome", json.dumps(self._places))
        else:
            first = self._hello(0)["place"]
            self._places = [(first[0], first[1])]
            if not self._wait("welcome", 0):
                raise Cut
            self._places = [(host, process) for host, process in json.loads(self._store.get("welcome"))]
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        try:
            dist.init_process_group(
                backend_of(kind),
                store=dist.PrefixStore("group", self._store),  # type: ignore[attr-defined]  # which torch does not export
                rank=self.ranks.rank,
                world_size=self.ranks.size,
                timeout=timedelta(seconds=self._patience.collective),
            )
        except RuntimeError as error:
            raise RankError(f"the ranks cannot reach each other: {error}") from error

    def _hello(self, rank: int) -> Json:
        try:
            self._store.wait([f"hello/{rank}"], timedelta(seconds=self._patience.join))
        except RuntimeError as error:
            raise RankError(
                f"rank {rank} of {self.ranks.size} has not come within {self._patience.join:g} s; look at "
                "what its machine says, and whether torchrun was started on all of them with the same "
                "--nnodes and --rdzv-endpoint"
            ) from error
        hello: Json = json.loads(self._store.get(f"hello/{rank}"))
        return hello

    def _beat(self) -> None:
        """Give a sign of life now and then, over a connection of its own."""
        store, count = self._store.clone(), 0
        with suppress(RuntimeError):  # the store is gone, and with it torchrun
            while not self._is_ending.wait(self._patience.beat):
                count += 1
                store.set(f"beat/{self.ranks.rank}", str(count))

    # Messages ---------------------------------------------------------------------------------

    def send(self, key: str, note: Json, blobs: Mapping[int, bytes]) -> None:
        """Put a note into the store, with the size of each rank's blob, and send the blobs."""
        sizes = {str(rank): len(blob) for rank, blob in blobs.items()}
        self._store.set(key, json.dumps({**note, "sizes": sizes}))
        for rank, blob in blobs.items():
            with self._exchange():
                dist.send(torch.frombuffer(bytearray(blob), dtype=torch.uint8), rank)

    def receive(self, key: str, source: int) -> tuple[Json, Message] | None:
        """Wait for a note and its blob from a rank; None where rank 0 has let all end.

        Raises Cut where a rank is lost or has failed.
        """
        if not self._wait(key, source):
            return None
        with self._exchange():
            note: Json = json.loads(self._store.get(key))
            blob = torch.empty(note["sizes"][str(self.ranks.rank)], dtype=torch.uint8)
            dist.recv(blob, source)
        return note, Message.from_bytes(blob.numpy().tobytes())

    def _wait(self, key: str, source: int) -> bool:
        """Wait for a key of a rank; return False where rank 0 has let all end, raise Cut for a fault."""
        while True:
            with self._exchange(), suppress(dist.DistStoreError):
                self._store.wait([key], timedelta(seconds=self._patience.slice))
                return True
            with self._exchange():
                if self._store.check(["stop"]):
                    return False
                if self._store.check(["fault"]) or self.lost([source]) is not None:
                    raise Cut

    def forget(self, keys: Sequence[str]) -> None:
        """Remove notes that all have read."""
        for key in keys:
            self._store.delete_key(key)

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not is_cut(error):
                raise
            raise Cut from error

    # Faults -----------------------------------------------------------------------------------

    def lost(self, ranks: Sequence[int]) -> int | None:
        """Return one of the ranks that has ended without a word or hangs, None where all are well."""
        own_host = socket.gethostname()
        for rank in ranks:
            if rank >= len(self._places):  # one that has not come
                continue
            host, process = self._places[rank]
            if host == own_host and not _is_alive(process):
                return rank
            beat = self._store.get(f"beat/{rank}") if self._store.check([f"beat/{rank}"]) else b""
            before, since = self._beats.get(rank, (None, 0.0))
            if beat != before:
                self._beats[rank] = beat, time.monotonic()
            elif time.monotonic() - since > self._patience.lost:
                return rank
        return None

    def tell_fault(self, error: BaseException) -> None:
        """Say why this rank ends; the first to say it counts."""
        known = error if isinstance(error, ZeroneError) else RankError(str(error))
        text = json.dumps({"rank": self.ranks.rank, "kind": type(known).__name__, "message": str(error)})
        with suppress(RuntimeError):
            self._store.compare_set("fault", "", text)

    def fault(self) -> ZeroneError:
        """Return the error of the rank that failed first, or that one is lost."""
        others = [rank for rank in range(self.ranks.size) if rank != self.ranks.rank]
        end = time.monotonic() + _LAST_WORDS_S
        lost = None
        with suppress(RuntimeError):
            while time.monotonic() < end:
                if self._store.check(["fault"]):
                    told = json.loads(self._store.get("fault"))
                    kind = getattr(errors, told["kind"])
                    raised: ZeroneError = kind(f"rank {told['rank']}: {told['message']}")
                    return raised
                lost = lost if lost is not None else self.lost(others)
                time.sleep(0.1)
        what = "a rank" if lost is None else f"rank {lost} ({self._places[lost][0]})"
        return RankError(
            f"{what} has ended without a word (killed, or out of memory) or hangs; what was saved is "
            "complete: give the same command again with --resume"
        )

    def close(self) -> None:
        """End; rank 0 lets all others end first, as the store may be its own."""
        self._is_ending.set()
        with suppress(RuntimeError):
            if not self.ranks.is_first:
                self._store.set(f"bye/{self.ranks.rank}", "")
                return
            self._store.set("stop", "")
            end = time.monotonic() + _LAST_WORDS_S
            left = set(range(1, self.ranks.size))
            while left and time.monotonic() < end:
                left = {r for r in left if not self._store.check([f"bye/{r}"]) and self.lost([r]) is None}
                time.sleep(0.01)


_LAST_WORDS_S = 3.0
"""How long a rank is waited for that ends, to say why."""


def is_cut(error: RuntimeError) -> bool:
    """Whether an error of torch says that a connection to another rank is gone or silent."""
    if isinstance(error, ZeroneError):
        return False
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection closed" in str(error)


def _is_alive(process: int) -> bool:
    """Whether a process of this machine runs; one that has ended and is not yet collected does not."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return not Path("/proc/self/stat").exists() and _can_be_signalled(process)
    except PermissionError:  # somebody's, so it is there
        return True
    return state not in ("Z", "X")


def _can_be_signalled(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def join(ranks: Ranks, about: Mapping[str, Any], patience: Patience = Patience()) -> Group:
    """Join the other ranks of torchrun; see `Group.join`."""
    kind: Kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        torch.cuda.set_device(ranks.local_rank)
    try:
        meeting = rendezvous("env://", timeout=timedelta(seconds=patience.join))
        store, _, _ = next(iter(meeting))
    except (RuntimeError, ValueError) as error:
        raise RankError(
            f"the ranks cannot meet at {os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}: "
            f"{str(error).splitlines()[0]}; start with torchrun, and give another --master-port where that "
            "one is taken"
        ) from error
    group = Group(store, ranks, patience)
    try:
        group.join(about, kind)
    except (RankError, Cut):
        group.close()
        raise
    return group


class Orders:
    """Rank 0's side: sends orders to all ranks, works on them too, and returns what each replied."""

    def __init__(self, group: Group, actions: Mapping[str, Action]) -> None:
        self.ranks = group.ranks
        self.actions = actions
        self._group = group
        self._number = 0
        self._is_cut = False

    def __call__(
        self, name: str, messages: Message | Sequence[Message] = Message(), own: Action | None = None
    ) -> list[Message]:
        """Have all ranks carry out an order, with one message for all or one for each; return the replies.

        `own` is what rank 0 does, where that is another thing. Raises the error of the rank that failed,
        after which no more orders are taken.
        """
        with unbroken():  # else the ranks would no longer be at the same place, and could not save
            return self._together(name, messages, own)

    def _together(
        self, name: str, messages: Message | Sequence[Message], own: Action | None
    ) -> list[Message]:
        if self._is_cut:
            raise RankError("the ranks do not work together any more; resume the run")
        size, number = self.ranks.size, self._number
        every = [messages] * size if isinstance(messages, Message) else list(messages)
        self._number, self._is_cut = number + 1, True
        try:
            blobs = {rank: every[rank].to_bytes() for rank in range(1, size)}
            self._group.send(f"order/{number}", {"name": name}, blobs)
            replies = [(own or self.actions[name])(every[0])]
            keys = [f"reply/{number}/{rank}" for rank in range(1, size)]
            for rank, key in enumerate(keys, start=1):
                found = self._group.receive(key, rank)
                assert found is not None  # only rank 0 lets all end
                replies.append(found[1])
            self._group.forget([f"order/{number}", *keys])
        except Cut:
            raise self._group.fault() from None
        except RuntimeError as error:
            if is_cut(error):
                raise self._group.fault() from error
            raise
        self._is_cut = False
        return replies


def follow(group: Group, actions: Mapping[str, Action]) -> None:
    """Carry out the orders of rank 0 until it lets all end; the whole work of the other ranks.

    Signals to end are rank 0's: it saves with the help of all.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    is_done = False
    try:
        count = 0
        while (found := group.receive(f"order/{count}", 0)) is not None:
            note, message = found
            reply = actions[note["name"]](message)
            group.send(f"reply/{count}/{group.ranks.rank}", {}, {0: reply.to_bytes()})
            count += 1
        is_done = True
    except Cut:
        is_done = True
    except (ZeroneError, RuntimeError, ValueError, OSError, MemoryError) as error:
        if not (isinstance(error, RuntimeError) and is_cut(error)):
            group.tell_fault(error)
        is_done = True
    finally:
        if not is_done:
            kind = sys.exc_info()[0]
            name = "an error" if kind is None else kind.__name__
            group.tell_fault(RankError(f"{name}, a fault of the program; its traceback is on the screen"))
        group.close()
