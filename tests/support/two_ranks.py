"""One rank of trainings that torchrun starts, and the same trainings alone: `two_ranks.py OUT CASE...`.

Each makes three updates by GRPO with a KL term, one by SFT and one by distillation, over an odd number of
micro-batches, and writes losses, gradients and the weights that an engine would get.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from architectures import PACKED, build
from fakes import random_tokens
from scripted import credited, member
from zerone.device import Device
from zerone.engine.weights import hash_of
from zerone.model.lora import Adapters, Base, with_adapters
from zerone.model.sharding import full_of
from zerone.processes.orders import Message, Orders, follow, join
from zerone.processes.ranks import ALONE, Ranks, started_ranks
from zerone.train.batch import Batch, make_batches
from zerone.train.distill import DistillObjective
from zerone.train.distill import Sums as DistillSums
from zerone.train.grpo import GrpoObjective
from zerone.train.loss import Objective
from zerone.train.metrics import StepSums
from zerone.train.optim import adamw
from zerone.train.parallel import ParallelSettings, ParallelTrainer
from zerone.train.ranked import Own, RankedTrainer, trainer_actions
from zerone.train.sft import Example, forward_backward, mean_loss
from zerone.train.trainer import ModelPass, pass_over
from zerone.types import Credited

CASES = ("qwen3_tied", "llama", "gemma3", "lora")
OBJECTIVE = Objective(clip_low=0.2, clip_high=0.2, kl_coef=0.1, kl_estimator="k3")


def groups() -> list[Credited]:
    """Return groups of three members with advantages."""
    found = []
    for number in range(4):
        prompt = (*random_tokens(6, "template"), *random_tokens(3 + number, "prompt", number))
        members = [
            member(
                prompt=prompt,
                completion=random_tokens(2 + 3 * i + number, "completion", number, i),
                logprobs=[-3.0] * (2 + 3 * i + number),
                sample=i,
            )
            for i in range(3)
        ]
        found.append(credited(members, (1.0, -0.5, -0.5)))
    return found


def batches(microbatch_tokens: int) -> list[Batch]:
    """Return the micro-batches of all groups."""
    return list(
        make_batches(
            groups(),
            aggregation="token",
            max_tokens=32,
            mask_truncated=False,
            keep_silent=True,
            microbatch_tokens=microbatch_tokens,
        )
    )


def examples() -> list[Example]:
    """Return demonstrations of different lengths."""
    return [
        Example(prompt_ids=random_tokens(4, "p", i), completion_ids=random_tokens(2 + 2 * i, "c", i))
        for i in range(5)
    ]


def objective_of(sums: StepSums) -> GrpoObjective:
    """Return the objective of the batches, which adds its figures up in `sums`."""
    return GrpoObjective(OBJECTIVE, 1.0, sums, lambda terms: None)


def new_trainer(case: str, ranks: Ranks) -> ParallelTrainer:
    """Return the trainer of a case."""
    module, base = build(PACKED["qwen3_tied" if case == "lora" else case]()), None
    reference: Any = build(PACKED["qwen3_tied" if case == "lora" else case](), seed=1)
    if case == "lora":
        base = Base("tiny", "0" * 64)
        reference = module = with_adapters(
            module, Adapters(rank=4, alpha=8, targets=("all-linear",)), base, 0
        )
    settings = ParallelSettings(make_optimizer=lambda p: adamw(p, 0.0, (0.9, 0.95), 0.0))
    return ParallelTrainer(module, Device(), settings, ranks=ranks, reference=reference, base=base)


def train(
    trainer: ParallelTrainer | RankedTrainer, teacher: ModelPass
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Make the updates; return figures, and gradients and weights by name."""
    figures: dict[str, Any] = {"losses": [], "norms": [], "sums": []}
    tensors: dict[str, torch.Tensor] = {}
    for update in range(3):
        sums = StepSums()
        parts = batches(44)
        figures["num_batches"] = len(parts)
        figures["losses"].append(trainer.forward_backward(parts, objective_of(sums)))
        figures["sums"].append([sums.num_tokens, sums.kl, sums.entropy, sums.ratio_max])
        tensors |= gradients(trainer, f"grpo{update}")
        figures["norms"].append(trainer.step(0.01))
    figures["losses"].append(forward_backward(trainer, examples(), 24))
    tensors |= gradients(trainer, "sft")
    figures["norms"].append(trainer.step(0.01))
    distilled = DistillSums()
    objective = DistillObjective(teacher, 0.7, distilled)
    figures["losses"].append(trainer.forward_backward(batches(44), objective))
    figures["sums"].append([distilled.kl, distilled.sampled_kl, distilled.entropy, distilled.num_tokens])
    figures["norms"].append(trainer.step(0.01))
    figures["held_out"] = mean_loss(trainer.evaluating(), examples(), 24)
    with torch.no_grad():
        told = list(pass_over(trainer.evaluating(), "logprobs", batches(44), 0.7))
    figures["logprobs"] = [part.sum().item() for parts in told for part in parts]
    reference = trainer.reference()
    assert reference is not None
    figures["reference"] = mean_loss(reference, examples(), 24)
    tensors |= {f"weights.{name}": tensor.clone().contiguous() for name, tensor in trainer.weights()}
    figures["hash"] = hash_of(trainer.weights())
    return figures, tensors


def gradients(trainer: ParallelTrainer | RankedTrainer, name: str) -> dict[str, torch.Tensor]:
    """Return the gradients as they are, whole."""
    if isinstance(trainer, ParallelTrainer):
        return gradients_of(trainer, name)
    return dict(trainer.orders("gradients", Message({"name": name}))[0].tensors)


def gradients_of(trainer: ParallelTrainer, name: str) -> dict[str, torch.Tensor]:
    """Return the gradients of this process, gathered by all ranks together."""
    return {
        f"{name}.{parameter_name}": full_of(parameter.grad).clone().contiguous()
        for parameter_name, parameter in trainer.module.named_parameters()
        if parameter.grad is not None
    }


def main(folder: Path, cases: Sequence[str]) -> None:
    """Train as one of several ranks; the first writes."""
    torch.set_num_threads(1)
    ranks = started_ranks()
    group, own = join(ranks, {}), Own()

    def make(message: Message) -> Message:
        own.trainer = new_trainer(message.values["case"], ranks)
        own.teacher = own.trainer.reference()
        return Message()

    def gather(message: Message) -> Message:
        return Message(tensors=gradients_of(own.parallel, message.values["name"]))

    def hashed(message: Message) -> Message:
        return Message({"hash": hash_of(own.parallel.weights())})

    actions = {**trainer_actions(own), "make": make, "gradients": gather, "hash": hashed}
    if not ranks.is_first:
        follow(group, actions)
        return
    orders = Orders(group, actions)
    for case in cases:
        orders("make", Message({"case": case}))
        assert own.teacher is not None
        figures, tensors = train(RankedTrainer(orders, own.parallel), own.teacher)
        hashes = {reply.values["hash"] for reply in orders("hash")}
        assert hashes == {figures["hash"]}  # every rank sees the same full weights
        (folder / f"{case}.json").write_text(json.dumps(figures), encoding="utf-8")
        save_file(dict(tensors), folder / f"{case}.safetensors")
    group.close()


# Seen from the test --------------------------------------------------------------------------------


def run_ranks(folder: Path, cases: Sequence[str]) -> None:
    """Have two ranks of torchrun train the cases, and write to the folder."""
    here = Path(__file__)
    roots = [str(here.parent), str(here.parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(here), str(folder), *cases],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def assert_same_as_one(folder: Path, case: str) -> None:
    """Compare what two ranks wrote with the same training in this process: equal but for sums' order."""
    found = json.loads((folder / f"{case}.json").read_text(encoding="utf-8"))
    trainer = new_trainer(case, ALONE)
    teacher = trainer.reference()
    assert teacher is not None
    figures, tensors = train(trainer, teacher)
    assert found["num_batches"] == figures["num_batches"] == 3
    for name in ("losses", "norms", "held_out", "logprobs", "reference"):
        assert found[name] == pytest.approx(figures[name], rel=1e-4)
    for mine, theirs in zip(figures["sums"], found["sums"], strict=True):
        assert theirs == pytest.approx(mine, rel=1e-4)
    written = load_file(folder / f"{case}.safetensors")
    assert written.keys() == tensors.keys()
    for name, tensor in tensors.items():
        tolerance = 1e-3 * max(1e-3, tensor.abs().max().item())
        assert (written[name] - tensor).abs().max().item() <= tolerance, name


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
