"""The speed of this machine's best matrix product, against which both benchmarks hold theirs.

In: a number of threads or a GPU, and a precision. Out: FLOP/s. The best of many tries at several sizes
counts: a peak that other work on the machine has lowered would flatter whoever is divided by it.
Run alone it prints the peak of fp32 and bf16.

FLOPs are counted as usual: 2 per parameter and token forward, 4 more backward. Attention, norms
and the sampling of tokens are left out, so the shares are lower bounds, for all systems alike.
"""

import zerone  # noqa: F401 - before torch, which reads once how threads wait

# isort: split
import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from zerone.processes.machine import DTYPES, available_cores

SHAPES = ((512, 512, 512), (2048, 384, 384), (2048, 1024, 1024), (2048, 2048, 2048))
"""(rows, inputs, outputs): what lies in the caches and what does not."""


SHAPES_OF_A_GPU = ((4096, 4096, 4096), (8192, 8192, 8192), (16384, 4096, 4096))

CPU = torch.device("cpu")


def matmul_peak(threads: int, dtype: torch.dtype, seconds: float = 2.0, device: torch.device = CPU) -> float:
    """Return the best FLOP/s seen of x @ weight^T, about `seconds` spent in all."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    shapes = SHAPES if device.type == "cpu" else SHAPES_OF_A_GPU
    try:
        return max(_best_of_shape(shape, dtype, seconds / len(shapes), device) for shape in shapes)
    finally:
        torch.set_num_threads(before)


def _best_of_shape(
    shape: tuple[int, int, int], dtype: torch.dtype, seconds: float, device: torch.device
) -> float:
    rows, inputs, outputs = shape
    x, weight = (torch.randn(n, inputs, device=device).to(dtype) for n in (rows, outputs))
    best = best_time(lambda: functional.linear(x, weight), seconds, device)
    return 2.0 * rows * inputs * outputs / best


def copy_peak(device: torch.device, seconds: float = 1.0) -> float:
    """Return the best bytes/s seen of a copy in the device's memory: read once and written once."""
    source = torch.zeros((1 << 30 if device.type == "cuda" else 1 << 26) // 4, device=device)
    target = torch.empty_like(source)
    return 2.0 * source.nbytes / best_time(lambda: target.copy_(source), seconds, device)


def best_time(work: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Return the shortest time of a piece of work, done again for about `seconds`."""
    end = time.perf_counter() + seconds
    best = float("inf")
    while best == float("inf") or time.perf_counter() < end:
        wait_for(device)
        start = time.perf_counter()
        work()
        wait_for(device)
        best = min(best, time.perf_counter() - start)
    return best


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def num_matmul_parameters(module: Any) -> int:
    """Return how many parameters a token is multiplied with: all but a table that is only looked up."""
    total = sum(int(parameter.numel()) for parameter in module.parameters())
    is_tied = module.lm_head.weight is module.model.embed_tokens.weight
    return total if is_tied else total - int(module.model.embed_tokens.weight.numel())


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the matrix-product peak of this machine.")
    parser.add_argument("--threads", type=int, default=available_cores())
    arguments = parser.parse_args()
    for name, dtype in DTYPES.items():
        print(f"{name}: {matmul_peak(arguments.threads, dtype) / 1e9:.1f} GFLOP/s")


if __name__ == "__main__":
    main()
