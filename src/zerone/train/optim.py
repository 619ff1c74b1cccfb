"""Optimizers, learning-rate schedules, and the one step that applies gradients.

RL and SFT use AdamW; pre-training uses Muon for the matrices of the blocks beside AdamW for
embeddings and norms.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zerone.errors import ConfigError, TrainingError

LARGEST_WEIGHT = 1e6
"""No sane weight of a language model comes near this; trained ones stay below about 1e3."""


def adamw(
    parameters: Iterable[nn.Parameter], learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """Return AdamW that decays matrices and leaves vectors (norms, biases) alone."""
    groups = _decayed_and_not(parameters, weight_decay)
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, foreach=True)


def adamw_8bit(
    parameters: Iterable[nn.Parameter], learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.Optimizer:
    """Return the same with both moments in 8 bits (Dettmers et al. 2021, by torchao).

    They take a quarter of the memory; states of fewer than 4,096 numbers stay in fp32. Raises ConfigError
    without torchao.
    """
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise ConfigError(
            "optim.kind=adamw_8bit needs torchao: pip install 'zerone[quantized]', or set optim.kind=adamw"
        ) from error
    parameters = list(parameters)
    if all(parameter.device.type == "cpu" for parameter in parameters):
        # torchao compiles its step, which takes a CPU a minute and gains it nothing.
        torch.compiler.set_stance("force_eager")
    groups = [group for group in _decayed_and_not(parameters, weight_decay) if group["params"]]
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, lr=learning_rate, betas=betas)
    return optimizer


def _decayed_and_not(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return matrices with the weight decay, and vectors without."""
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for parameter in parameters:
        (matrices if parameter.ndim >= 2 else vectors).append(parameter)
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised (Jordan et al. 2024), with AdamW's update size.

    torch.optim.Muon orthogonalises in bfloat16, which CPUs without bf16 units do some hundred
    times slower than fp32 (a third of a pre-training step here); this one stays in fp32.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure is ever passed
        """Apply one update; the size is scaled so that AdamW's learning rates fit."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalised(parameter.grad.lerp(buffer, group["momentum"]))
                size = 0.2 * max(parameter.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * size)


def orthogonalised(matrix: Tensor, num_iterations: int = 5) -> Tensor:
    """Push the singular values of a matrix towards 1 by Newton-Schulz iterations."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(num_iterations):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if is_tall else x


def muon_with_adamw(
    model: nn.Module, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Return Muon for the blocks' matrices and AdamW for all else, both at one learning rate."""
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_hidden = parameter.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name
        (hidden if is_hidden else rest).append(parameter)
    muon = Muon(hidden, learning_rate, weight_decay)
    return [muon, adamw(rest, learning_rate, (0.9, 0.95), weight_decay=0.0)]


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], learning_rate: float) -> None:
    """Set one learning rate for every parameter group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):  # of torchao, which compiles its step
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate


def apply_update(
    modules: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    loss: float,
    learning_rate: float,
    max_grad_norm: float,
    rate_option: str,
    of_all_ranks: Callable[[float], float] = lambda largest: largest,
) -> float:
    """Clip the gradients to a global norm, apply them, clear them; return the norm before clipping.

    Raises TrainingError before a loss or norm that is not finite changes a weight, and after an update
    that left a weight no model has. `rate_option` names the option to lower, `of_all_ranks` gives the
    largest of all ranks' numbers where the parameters are sharded.
    """
    parameters = [parameter for module in modules for parameter in module.parameters()]
    total: Any = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    norm = float(total.full_tensor() if hasattr(total, "full_tensor") else total)
    if not math.isfinite(loss + norm):
        raise TrainingError(
            f"the loss is {loss} and the gradient's norm {norm}; the weights have not been changed and "
            f"the last checkpoint is untouched. Start again with a lower {rate_option}"
        )
    set_learning_rate(optimizers, learning_rate)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    check_weights(parameters, rate_option, of_all_ranks)
    return norm


def check_weights(
    parameters: Iterable[nn.Parameter],
    rate_option: str,
    of_all_ranks: Callable[[float], float] = lambda largest: largest,
) -> None:
    """Raise TrainingError before ruined weights reach a checkpoint.

    Huge weights need not show as NaN: norms can turn them into zeros, and sampling goes on at random.
    """
    largest = of_all_ranks(max(_largest(parameter.detach()) for parameter in parameters))
    if not largest < LARGEST_WEIGHT:
        raise TrainingError(
            f"an update made a weight of {largest:.3g}; the last checkpoint is untouched. "
            f"Start again with a lower {rate_option}"
        )


def _largest(weights: Any) -> float:
    """Return the largest absolute value; of a sharded tensor that of the shard, which may be empty."""
    own: Tensor = weights.to_local() if hasattr(weights, "to_local") else weights
    return float(own.abs().max()) if own.numel() else 0.0


def warmup_then_constant(step: int, peak: float, warmup_steps: int) -> float:
    """Return the learning rate of update `step` (from 0): linear to the peak, then constant."""
    return peak * min(1.0, (step + 1) / max(1, warmup_steps))


def warmup_stable_decay(
    step: int, peak: float, warmup_steps: int, num_steps: int, decay_part: float
) -> float:
    """Return the learning rate of a run that ends with a linear decay to 2% of the peak."""
    left = (num_steps - step) / max(1.0, decay_part * num_steps)
    return warmup_then_constant(step, peak, warmup_steps) * max(0.02, min(1.0, left))


def warmup_then_cosine(
    step: int, peak: float, warmup_steps: int, num_steps: int, final_share: float
) -> float:
    """Return the learning rate of a run that ends at `final_share` of the peak (R1's SFT: a tenth).

    Linear to the peak, then half a wave of a cosine; the last update has exactly the final rate.
    """
    if step < warmup_steps:
        return warmup_then_constant(step, peak, warmup_steps)
    done = (step - warmup_steps + 1) / max(1, num_steps - warmup_steps)
    return peak * (final_share + (1 - final_share) * (1 + math.cos(math.pi * min(1.0, done))) / 2)
