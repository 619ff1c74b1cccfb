"""The trainer of one process: our own forward pass, bit-exact on one machine.

Resuming a killed run gives the very bytes of a run left alone. It computes Qwen2, Qwen3 and Llama
(model/decoder.py) and is the quickest path for small models on CPUs.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zerone.device import Device
from zerone.engine.weights import ModuleWeights
from zerone.model.decoder import check_plain
from zerone.model.loading import save_model
from zerone.runs.checkpoint import ModelPart, State
from zerone.train.memory import Resident, advised, held_by
from zerone.train.optim import apply_update
from zerone.train.shared_forward import SharedForward
from zerone.train.trainer import A, Objective


class LocalTrainer:
    """A transformers module trained through the decoder; the `Trainer` of one process.

    `rate_option` names the option of the learning rate in messages. Raises ModelError for a module with
    adapters, which the decoder would leave out.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        dtype: torch.dtype = torch.float32,
        max_grad_norm: float = 1.0,
        reference: nn.Module | None = None,
        rate_option: str = "optim.learning_rate",
    ) -> None:
        check_plain(module)
        self.module = module
        self.optimizers = tuple(optimizers)
        self.dtype = dtype
        self.reference_module = reference
        self._max_grad_norm = max_grad_norm
        self._rate_option = rate_option
        self._loss: float | None = None

    @property
    def has_reference(self) -> bool:
        """Whether a reference model is kept."""
        return self.reference_module is not None

    def forward_backward(self, batches: Iterable[A], objective: Objective[A]) -> float:
        """Add the gradients of a minibatch's micro-batches; return the loss, their sum."""
        policy, reference = SharedForward(self.module, self.dtype), self.reference()
        total, most = 0.0, 0
        for batch in batches:
            most = max(most, len(batch.packed.tokens_N))
            with advised(self.resident, most):
                loss, terms = objective.loss(policy, reference, batch)
                loss.backward()
            total += loss.item()
            objective.record(terms)
            self._loss = total
        with advised(self.resident, most):
            policy.finish()
        return total

    def step(self, learning_rate: float) -> float:
        """Apply the gradients; see `Trainer.step`."""
        loss, self._loss = self._loss, None
        if loss is None:
            return 0.0
        return apply_update(
            [self.module],
            self.optimizers,
            loss=loss,
            learning_rate=learning_rate,
            max_grad_norm=self._max_grad_norm,
            rate_option=self._rate_option,
        )

    def resident(self) -> Resident:
        """Return what the model, its gradients and its optimizers hold."""
        return held_by(
            self.module,
            self.optimizers,
            self.reference_module,
            device=Device(dtype=self.dtype),
            recomputes=False,
            has_adapters=False,
        )

    @torch.no_grad()
    def evaluating(self) -> SharedForward:
        """Return the model as it is now, to be used without gradients."""
        return SharedForward(self.module, self.dtype)

    @torch.no_grad()
    def reference(self) -> SharedForward | None:
        """Return the reference model, to be used without gradients, or None."""
        return None if self.reference_module is None else SharedForward(self.reference_module, self.dtype)

    def replace_reference(self) -> None:
        """Make the reference the present policy: from now on the KL term pulls towards it."""
        if self.reference_module is not None:
            self.reference_module.load_state_dict(self.module.state_dict())

    def weights(self) -> ModuleWeights:
        """Return the weights for an engine, which may read them in place."""
        return ModuleWeights(self.module)

    def state(self, tokenizer: Any) -> State:
        """Return what a checkpoint keeps, by file name."""
        optimizer, *others = self.optimizers
        reference = {} if self.reference_module is None else {"reference": self.reference_module}
        rest = {f"optimizer_{i}": other for i, other in enumerate(others, start=1)}
        return {"model": ModelPart(self.module, tokenizer), "optimizer": optimizer, **reference, **rest}

    def save(self, directory: Path, tokenizer: Any, provenance: Mapping[str, Any] | None = None) -> None:
        """Write the model as a transformers directory."""
        save_model(self.module, tokenizer, directory, provenance)
