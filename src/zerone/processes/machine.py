"""What this machine does best, measured once: precision and number of threads.

bf16 is several times as fast as fp32 on some processors and hundreds of times slower on others, so
a second's measurement decides and a cache file keeps the result (`zerone doctor` shows it). A run
saves its choice in environment.json and keeps it on resume.
"""

import ctypes
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from zerone.files import read_json
from zerone.processes.sharing import Watch, own_cores

Precision = Literal["fp32", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The measured choice, and matrix-product speeds in GFLOP/s that led to it."""

    precision: Precision
    threads: int
    gflops: dict[str, float]


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory instead of returning it; return whether it listened.

    Training frees and allocates the same few megabytes again and again; giving them back to the
    kernel each time costs a tenth to a third of all time in page faults. Trimming stays on above
    1 GiB, so the process does not grow without bound.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    trim, top_pad, mmap_threshold = -1, -2, -3
    gibibyte = 1 << 30
    settings = ((mmap_threshold, gibibyte), (trim, gibibyte), (top_pad, gibibyte // 16))
    answers = [libc.mallopt(option, value) for option, value in settings]
    return all(answer == 1 for answer in answers)


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit_of_source() -> str | None:
    """Return the commit that this code was checked out from (with `+` for changes), or None."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
        status = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(own_cores())


def measure_gflops(precision: Precision, threads: int, seconds: float = 0.1) -> float:
    """Return the best speed seen of a product of the size that training a small model makes.

    The best of many short tries counts, so that other work on the machine does not decide.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    rows, width = 2048, 384
    x, weight = (torch.randn(n, width).to(DTYPES[precision]) for n in (rows, width))
    best = max(_gflops_once(x[: rows // 64], weight) for _ in range(10))
    if best > 1:  # else so slow that the whole product would take seconds, and lose anyway
        end = time.perf_counter() + seconds
        best = max(_gflops_once(x, weight) for _ in range(10))
        while time.perf_counter() < end:
            best = max(best, _gflops_once(x, weight))
    torch.set_num_threads(before)
    return best


def _gflops_once(x: Tensor, weight: Tensor) -> float:
    functional.linear(x[:1], weight)
    start = time.perf_counter()
    functional.linear(x, weight)
    return 2 * x.shape[0] * weight.numel() / (time.perf_counter() - start) / 1e9


def measure() -> Machine:
    """Measure both precisions on half and all of the cores and choose the fastest.

    Beside other processes all cores are taken: threads that wait for each other are measured too slow there,
    which says nothing of the machine (`processes/threads.py`).
    """
    cores = available_cores()
    watch = Watch(time.process_time)
    speeds: dict[tuple[Precision, int], float] = {}
    for threads in sorted({max(1, cores // 2), cores}):
        for precision in DTYPES:
            speeds[precision, threads] = measure_gflops(precision, threads)
    work = watch.look()
    if work is not None and work.is_in_the_way(cores):
        speeds = {key: speed for key, speed in speeds.items() if key[1] == cores}
    return choose(speeds, cores)


def choose(speeds: Mapping[tuple[Precision, int], float], cores: int) -> Machine:
    """Choose the fastest of the measured speeds, in GFLOP/s by precision and number of threads.

    bf16 costs accuracy and fewer threads leave cores idle: both have to be clearly faster.
    """
    precision, threads = max(
        speeds,
        key=lambda key: speeds[key] * (1.0 if key[0] == "fp32" else 0.75) * (1.0 if key[1] == cores else 0.8),
    )
    gflops = {f"{kind} x{number}": round(speed, 1) for (kind, number), speed in speeds.items()}
    return Machine(precision=precision, threads=threads, gflops=gflops)


def _cache_path() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return root / "zerone" / "machine.json"


def known_machine() -> Machine:
    """Return the cached measurement for this processor, core count and torch, or measure now.

    On a busy machine nothing is measured or cached: fp32 on all cores is the safe choice.
    """
    cores = available_cores()
    key = f"{cpu_name()} | {cores} cores | torch {torch.__version__}"
    path = _cache_path()
    cached: dict[str, dict[str, Any]] = {}
    try:
        cached = dict(read_json(path))
        known = Machine(**cached[key])
        if known.precision in DTYPES and known.threads in range(1, cores + 1) and known.gflops.keys():
            return known
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # no cache yet, or one that another version wrote
    if is_busy(cores):
        return Machine(precision="fp32", threads=cores, gflops={})
    machine = measure()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(cached | {key: asdict(machine)}, indent=2), encoding="utf-8")
    except OSError:
        pass  # a home that cannot be written costs a second at each start, no more
    return machine


NARROW = 512
"""Models of a smaller width compute in fp32: their products take so little of the time that what bf16
saves there is less than its conversions cost. On a processor whose bf16 products are eight times as fast,
a step of `zerone zero` on the embedded model (width 128) took 8 to 14 seconds in bf16 and 6 in fp32; one of
SmolLM2 (width 576) 58 seconds and 93. For the same reason a server gives them one thread, and they are
sampled from weights in the plain layout.
"""


def precision_for(width: int, wanted: Precision | Literal["auto"] = "auto") -> Precision:
    """Return what a model of this width (its hidden size) computes in, where no precision is wanted."""
    if wanted != "auto":
        return wanted
    return known_machine().precision if width >= NARROW else "fp32"


def is_busy(cores: int) -> bool:
    """Return whether other processes take half of the machine or more (last minute's load)."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > cores / 2
