"""Where a model is computed: one value, made once and passed down."""

from dataclasses import dataclass
from typing import Literal

import torch

from zerone.errors import ConfigError

Kind = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A processor, the type that models are computed in there, and the threads of a CPU."""

    kind: Kind = "cpu"
    index: int = 0
    dtype: torch.dtype = torch.float32
    threads: int = 1

    @property
    def torch(self) -> torch.device:
        """The same as torch has it."""
        return torch.device("cpu") if self.kind == "cpu" else torch.device(self.kind, self.index)


def device_kind(wanted: Literal["auto", "cpu", "cuda"]) -> Kind:
    """Return the kind that `model.device` names; raises ConfigError for a GPU that is not there."""
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        built = "this torch was built without CUDA" if torch.version.cuda is None else "torch sees no GPU"
        raise ConfigError(
            f"model.device=cuda, but {built}; install a CUDA build of torch, check the driver with "
            "nvidia-smi, or set model.device=cpu"
        )
    if wanted == "auto":
        return "cuda" if has_gpu else "cpu"
    return wanted
