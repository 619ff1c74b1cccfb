"""`zerone doctor`: what this machine and installation can do, and what would trip a run up.

In: nothing. Out: lines of findings; what needs mending says how. Nothing is fetched or changed,
except that the machine is measured once and the result cached.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zerone.errors import ModelError
from zerone.model.loading import load_model
from zerone.processes.machine import (
    NARROW,
    available_cores,
    cpu_name,
    keep_freed_memory,
    known_machine,
    measure,
)
from zerone.processes.sharing import PROC, Watch, sentence
from zerone.processes.threads import threads_for
from zerone.processes.waiting import users_threads, users_wait_policy

_EXTRAS = {
    "gguf": "SmolLM2-135M (`zerone model smollm2-135m`)",
    "datasets": "data from the Hub",
    "peft": "LoRA (lora.rank)",
    "torchao": "AdamW with moments in 8 bits (optim.kind=adamw_8bit)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: whether it is fine, what was looked at, what was found."""

    is_fine: bool
    subject: str
    detail: str


def examine(*, remeasure: bool = False) -> Iterator[Finding]:
    """Yield the findings, quick ones first."""
    version = sys.version.split()[0]
    yield Finding(is_fine=sys.version_info >= (3, 11), subject="python", detail=version)
    for package in ("torch", "transformers", "tokenizers", "safetensors", "pydantic", "typer"):
        yield Finding(is_fine=True, subject=package, detail=importlib.metadata.version(package))
    if importlib.util.find_spec("torchvision") is not None:
        yield Finding(
            is_fine=False,
            subject="torchvision",
            detail="may break transformers beside a CPU build of torch; if so: pip uninstall torchvision",
        )
    yield Finding(is_fine=True, subject="processor", detail=f"{cpu_name()}, {available_cores()} cores")
    machine = measure() if remeasure else known_machine()
    speeds = ", ".join(f"{name} threads {speed:.0f} GFLOP/s" for name, speed in machine.gflops.items())
    basis = f"measured: {speeds}" if speeds else "not measured, the machine is busy"
    narrow = f", fp32 for models narrower than {NARROW}" if machine.precision == "bf16" else ""
    users = users_threads(os.environ)
    threads, wish = users or machine.threads, " by OMP_NUM_THREADS" if users else ""
    detail = f"{machine.precision} on {threads} threads{wish}{narrow} ({basis})"
    yield Finding(is_fine=True, subject="choice", detail=detail)
    yield _waiting()
    yield Finding(is_fine=True, subject="other work", detail=other_work())
    yield _gpu()
    kept = keep_freed_memory()
    yield Finding(is_fine=True, subject="allocator", detail="keeps freed memory" if kept else "left as it is")
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    yield Finding(
        is_fine=free > 1, subject="disk", detail=f"{free:.0f} GB free here; a run takes about 0.1 GB"
    )
    yield _embedded_model()
    for module, purpose in _EXTRAS.items():
        state = "installed" if importlib.util.find_spec(module) else "not installed"
        yield Finding(is_fine=True, subject=module, detail=f"{state}; needed for {purpose}")


def _waiting() -> Finding:
    users = users_wait_policy(os.environ)
    detail = (
        f"as {users} says"
        if users
        else "threads spin for the next operation, and sleep while other processes need the cores"
    )
    return Finding(is_fine=True, subject="waiting", detail=detail)


def other_work(proc: Path = PROC, seconds: float = 1.0) -> str:
    """Return what other processes take of the cores now, watched for so long, and what it costs a run."""
    watch = Watch(proc=proc)
    time.sleep(seconds)
    work = watch.look()
    if work is None:
        return "not known: this system has no /proc/stat to read"
    said = sentence(work, threads_for(0), is_at_work=False)
    return said or f"{work.taken:.1f} of {work.cores} cores are taken; a run is as fast as it can be"


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        number, memory = torch.cuda.device_count(), torch.cuda.get_device_properties(0).total_memory
        detail = f"{number} x {torch.cuda.get_device_name(0)}, {memory / 1e9:.0f} GB: RL and SFT train there"
    else:
        why = "this torch is built without CUDA" if torch.version.cuda is None else "torch sees none"
        detail = f"{why}: RL and SFT train on the CPU"
    return Finding(is_fine=True, subject="GPU", detail=detail)


def _embedded_model() -> Finding:
    import torch

    try:
        model = load_model("embedded", torch.float32)
    except ModelError as error:
        return Finding(is_fine=False, subject="embedded model", detail=str(error))
    count = sum(parameter.numel() for parameter in model.module.parameters())
    return Finding(
        is_fine=True, subject="embedded model", detail=f"{count:,} parameters, sha256 {model.sha256[:16]}"
    )
