"""What a training holds in memory, what a pass adds, and what to change where it does not fit.

In: a model in training. Out: its resident bytes by part; for a pass that ran out of memory an error that
names them and three options; the largest micro-batch that fits, from two or three short passes.
"""

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zerone.device import Device
from zerone.errors import TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Bytes held on a device between passes, and what decides on the rest."""

    device: Device
    weights: int
    gradients: int
    optimizer: int
    reference: int
    num_blocks: int
    recomputes: bool
    has_adapters: bool
    is_in_8_bits: bool

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.reference


def held_by(
    module: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    reference: nn.Module | None,
    *,
    device: Device,
    recomputes: bool,
    has_adapters: bool,
) -> Resident:
    """Return what a model in training holds once its optimizer has state: gradients as wide as weights."""
    parameters = list(module.parameters())
    lists = [len(part) for part in module.modules() if isinstance(part, nn.ModuleList)]
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    states = [value for one in optimizers for values in one.state.values() for value in values.values()]
    return Resident(
        device=device,
        weights=sum(map(_bytes, parameters)),
        gradients=sum(map(_bytes, trained)),
        optimizer=sum(_bytes(value) for value in states if isinstance(value, Tensor))
        or 2 * sum(map(_bytes, trained)),
        reference=0 if reference is None else sum(map(_bytes, reference.parameters())),
        num_blocks=max(lists, default=1),
        recomputes=recomputes,
        has_adapters=has_adapters,
        is_in_8_bits=any(hasattr(_local(value), "codes") for value in states if isinstance(value, Tensor)),
    )


def _local(tensor: Any) -> Any:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _bytes(tensor: Tensor) -> int:
    local = _local(tensor)
    if hasattr(local, "codes"):  # of torchao, whose type says fp32
        return _bytes(local.codes) + _bytes(local.scale)
    return int(local.numel() * local.element_size())


# Out of memory ------------------------------------------------------------------------------------


@contextmanager
def advised(resident: Callable[[], Resident], num_tokens: int) -> Iterator[None]:
    """Turn a lack of memory into a TrainingError that says what was held and what to change.

    `num_tokens` are those of the largest micro-batch of the pass; 0 for an update of the weights.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        raise TrainingError(advice(resident(), num_tokens, memory_of(resident().device))) from error


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory cannot be had: torch says it on CPUs by a RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error)


def advice(held: Resident, num_tokens: int, total: int) -> str:
    """Return what was held and three options to change: smaller micro-batches, and what frees most."""
    rest = max(0, total - held.total)
    parts = {
        "weights": held.weights,
        "gradients": held.gradients,
        "optimizer": held.optimizer,
        "reference": held.reference,
    }
    listed = ", ".join(f"{name} {gigabytes(size)}" for name, size in parts.items() if size)
    where = f"{held.device.torch} ({gigabytes(total)})"
    what = f"a micro-batch of {num_tokens:,} tokens" if num_tokens else "an update of the weights"
    options = sorted(_options(held, rest), key=lambda option: -option[1])
    if num_tokens > 1:
        half = f"rl.microbatch_tokens={num_tokens // 2} (sft.microbatch_tokens in SFT)"
        options.insert(0, (half, rest // 2))
    advised = "; ".join(f"{text} (about {gigabytes(size)} less)" for text, size in options[:3])
    return (
        f"out of memory on {where} in {what}. Held were {listed}; the rest, at most {gigabytes(rest)}, was "
        f"for the pass. Change one of: {advised}. The last checkpoint is untouched; rl.microbatch_tokens, "
        "sft.microbatch_tokens, model.gradient_checkpointing and model.offload may be changed with --resume, "
        "the others begin a new run"
    )


def _options(held: Resident, rest: int) -> Iterator[tuple[str, int]]:
    """Yield what can be changed beside the size of micro-batches, with the bytes that it frees."""
    if not held.recomputes:
        yield "model.gradient_checkpointing=true", rest - rest // max(2, held.num_blocks)
    if not held.has_adapters:
        saved = held.gradients + held.optimizer + held.reference
        half = held.weights // 2 if held.device.dtype is torch.bfloat16 else 0
        yield "lora.rank=16", int(0.97 * saved) + half
    if not held.is_in_8_bits:
        yield "optim.kind=adamw_8bit", held.optimizer * 3 // 4
    if held.device.kind == "cuda":
        yield "model.offload=all", held.total
        yield "model.offload=reference", held.reference
    if held.device.dtype is torch.float32:
        yield "model.precision=bf16", rest // 2


def gigabytes(size: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def memory_of(device: Device) -> int:
    """Return the bytes that a device has."""
    if device.kind == "cuda":
        return int(torch.cuda.get_device_properties(device.torch).total_memory)
    return _meminfo("MemTotal")


def free_memory(device: Device) -> int:
    """Return the bytes that a device has to give now; on a CPU half of what is available, as it is shared."""
    if device.kind == "cuda":
        free, _ = torch.cuda.mem_get_info(device.torch)
        reserved = torch.cuda.memory_reserved(device.torch) - torch.cuda.memory_allocated(device.torch)
        return int(0.9 * (free + reserved))
    return _meminfo("MemAvailable") // 2


def _meminfo(name: str) -> int:
    """Return an entry of /proc/meminfo in bytes; 8 GB where there is none."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 8 * 10**9
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
    return found.get(name, 8 * 10**9)


# The largest micro-batch that fits -----------------------------------------------------------------

MOST_TOKENS = {"dense": 4096, "flex": 32768, "unpacked": 8192}
"""More tokens in a pass make nothing faster; of a dense mask most cells are of tokens that never meet."""


def peak_of(device: Device, work: Callable[[], None]) -> int:
    """Return the bytes that a piece of work held at most, beyond what was held before it."""
    gc.collect()
    if device.kind == "cuda":
        torch.cuda.synchronize(device.torch)
        torch.cuda.reset_peak_memory_stats(device.torch)
        before = torch.cuda.memory_allocated(device.torch)
        work()
        torch.cuda.synchronize(device.torch)
        return int(torch.cuda.max_memory_allocated(device.torch) - before)
    found = _Allocations()
    with found:
        work()
    return found.most


class _Allocations(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it lasts, and of those given up again."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.most = 0
        self._held = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._take(_local(tensor).untyped_storage())
        return made

    def _take(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._held += storage.nbytes()
            self.most = max(self.most, self._held)
            weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        self._held -= self._sizes.pop(key, 0)


def fitting_tokens(peaks: Sequence[tuple[int, int]], budget: int, *, longest: int, largest: int) -> int:
    """Return the most tokens whose pass stays within `budget` bytes, from (tokens, bytes) of short passes.

    A pass costs c0 + c1 n + c2 n^2 bytes for n tokens, the square being that of a dense mask; three
    measurements determine it. Never more than `largest`, and never fewer than `longest`, the longest
    sequence, which cannot be cut.
    """
    numbers = torch.tensor([[1.0, float(n), float(n) ** 2] for n, _ in peaks], dtype=torch.float64)
    sizes = torch.tensor([float(size) for _, size in peaks], dtype=torch.float64)
    constant, linear, square = torch.linalg.solve(numbers, sizes).tolist()
    linear, square = max(linear, 1.0), max(square, 0.0)
    room = max(0.0, budget - constant)
    if square * room < 1e-6 * linear**2:
        most = room / linear
    else:
        most = ((linear**2 + 4 * square * room) ** 0.5 - linear) / (2 * square)
    whole = int(min(most, largest)) // 256 * 256
    return max(whole, longest, 256)
