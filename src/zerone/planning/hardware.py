"""Processors: memory, speed and price, and what runs use of them.

Speeds are the makers' figures for dense bf16 products. Prices are assumptions, in dollars for an hour of
one GPU as rented in 2026; `--price` replaces them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from zerone.errors import ConfigError
from zerone.processes.machine import known_machine, precision_for

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU: bytes, products in FLOP/s, bytes/s of its memory, dollars an hour."""

    name: str
    memory: float
    flops: float
    bandwidth: float
    price: float


def _gpu(name: str, gib: float, teraflops: float, terabytes: float, price: float) -> Gpu:
    return Gpu(name=name, memory=gib * GIB, flops=teraflops * 1e12, bandwidth=terabytes * 1e12, price=price)


GPUS: Mapping[str, Gpu] = {
    gpu.name.lower(): gpu
    for gpu in (
        _gpu("B200", 180, 2250, 8.0, 5.0),
        _gpu("H200", 141, 989, 4.8, 3.5),
        _gpu("H100", 80, 989, 3.35, 2.5),
        _gpu("H800", 80, 989, 3.35, 2.0),  # the price of the R1 paper, table 7
        _gpu("H20", 96, 148, 4.0, 1.5),
        _gpu("A100-80", 80, 312, 2.04, 1.5),
        _gpu("A100-40", 40, 312, 1.56, 1.2),
        _gpu("L40S", 48, 362, 0.864, 1.0),
        _gpu("A10G", 24, 70, 0.6, 1.0),
        _gpu("L4", 24, 121, 0.3, 0.7),
        _gpu("RTX5090", 32, 210, 1.79, 0.7),
        _gpu("RTX4090", 24, 165, 1.008, 0.4),
        _gpu("RTX3090", 24, 71, 0.936, 0.25),
    )
}

WITHIN_NODE = 200e9
"""Bytes/s between GPUs of one node that a collective reaches over NVLink."""

BETWEEN_NODES = 40e9
"""Bytes/s that each GPU reaches to other nodes, by a network card of 400 Gbit/s of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Equal GPUs in nodes of `per_node`."""

    gpu: Gpu
    number: int
    per_node: int = 8

    @property
    def num_nodes(self) -> int:
        """The number of nodes, the last of which may not be full."""
        return -(-self.number // self.per_node)

    @property
    def link(self) -> float:
        """Bytes/s of one GPU to the others; beyond a node the network decides."""
        return WITHIN_NODE if self.number <= self.per_node else BETWEEN_NODES


_CLUSTER = re.compile(r"(?:(?P<number>\d{1,6})\s*[xX*]\s*)?(?P<name>[A-Za-z0-9_-]+)")
_ALIASES = {"a100": "a100-80", "4090": "rtx4090", "3090": "rtx3090", "5090": "rtx5090"}


def parse_cluster(text: str, *, price: float | None = None, per_node: int = 8) -> Cluster:
    """Read `8xH100` or `H200`; raises ConfigError for a GPU that the table does not have."""
    match = _CLUSTER.fullmatch(text.strip())
    number = int(match["number"] or 1) if match else 0
    if match is None or number < 1:
        raise ConfigError(
            f"--gpus {text!r} cannot be read; write a number and a name, as 8xH100 or 1xRTX4090"
        )
    name = match["name"].lower().replace("_", "-")
    name = _ALIASES.get(name, name)
    if name not in GPUS:
        known = ", ".join(gpu.name for gpu in GPUS.values())
        raise ConfigError(f"no GPU is known as {match['name']!r}; there are {known}")
    gpu = GPUS[name]
    if price is not None:
        gpu = Gpu(name=gpu.name, memory=gpu.memory, flops=gpu.flops, bandwidth=gpu.bandwidth, price=price)
    return Cluster(gpu=gpu, number=number, per_node=per_node)


def gpu_named(device: str) -> Gpu | None:
    """Return the GPU of the table that a driver's name tells of, as `NVIDIA H100 80GB HBM3`, or None."""
    joined = device.upper().replace(" ", "").replace("-", "")
    if "A100" in joined:
        return GPUS["a100-80" if "80GB" in joined else "a100-40"]
    return next((gpu for gpu in GPUS.values() if gpu.name.upper() in joined), None)


# This machine -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """This machine's processor at a model's precision: products in FLOP/s, and the rest per token.

    The rest is what a token takes beside the products: keys and values read, norms, kernels started. With a
    model of a million parameters it is most of the time: 9 to 12 thousand tokens a second on two cores,
    whatever their peak.
    """

    flops: float
    seconds_a_sampled_token: float = 80e-6
    seconds_a_trained_token: float = 40e-6
    seconds_to_start: float = 5.0

    def seconds(self, parameters: float, *, sampled: float = 0, trained: float = 0) -> float:
        """Return what so many tokens take; `trained` ones have a forward and a backward pass."""
        flops = parameters * (SAMPLING_FLOPS * sampled + TRAINING_FLOPS * trained)
        rest = self.seconds_a_sampled_token * sampled + self.seconds_a_trained_token * trained
        return flops / self.flops + rest + self.seconds_to_start


SAMPLING_FLOPS = 2
TRAINING_FLOPS = 6
"""For each parameter and token: two forward, four backward."""

_SHARE_OF_PEAK_HERE = 0.6
"""Of the measured matrix product, which the products of sampling and training reach."""

_UNMEASURED_GFLOPS = 50.0


def this_machine(width: int, wanted: str = "auto") -> Here:
    """Return this machine as it computes a model of this width."""
    machine = known_machine()
    precision = precision_for(width, wanted)  # type: ignore[arg-type]  # checked by the option's own type
    gflops = machine.gflops.get(f"{precision} x{machine.threads}", _UNMEASURED_GFLOPS)
    return Here(flops=gflops * 1e9 * _SHARE_OF_PEAK_HERE)
