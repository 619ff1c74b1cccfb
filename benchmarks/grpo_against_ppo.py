"""GRPO against PPO with a critic: peak memory, time of a step, and what the policy learns.

    python benchmarks/grpo_against_ppo.py [--model embedded|DIR] [--problems 48] [--group 12] ...
    python benchmarks/grpo_against_ppo.py --train --repeats 30       (accuracy side by side; long)

Both run the loop's own functions on the same problems, each in a process of its own, one after the
other, so that a peak is one algorithm's alone. A step is one rollout phase and its updates; the
first is warm-up. Without `--train` the learning rate is so small that the models stay what they
are: both sample the very same answers, and time and memory are those of equal work. What PPO does
beside: a forward pass of the critic over the phase, its backward pass in each update, a second
AdamW, and groups of equal answers, which GRPO skips. With `--train` both learn at the rate of the
options, answers differ after the first step, and the accuracy of each step's answers is shown.

state: weights, gradients and AdamW's moments of all models, counted. peak: resident memory of the
process, the interpreter and its libraries included, so its ratio grows with the model.
"""

import zerone  # noqa: F401 - before torch, which reads once how threads wait

# isort: split
import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from machine_peak import matmul_peak
from workload import Workload, add_arguments, conditions, open_workload, print_table, write_json
from zerone.engine.torch.engine import TorchEngine
from zerone.jobs.algorithm import algorithm_of
from zerone.runs.checkpoint import Progress
from zerone.runs.directory import peak_memory
from zerone.train.advantage import credit
from zerone.train.algorithm import TrainState
from zerone.train.grpo import Grpo
from zerone.train.local import LocalTrainer
from zerone.train.loop import Clock, collect
from zerone.train.metrics import rollout_metrics
from zerone.train.optim import adamw
from zerone.train.ppo import Ppo

ALGORITHMS = ("grpo", "ppo")
STILL = ("optim.learning_rate=1e-12",)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--train", action="store_true", help="learn, at the rates of the options")
    parser.add_argument("--only", choices=ALGORITHMS, help="one algorithm in this process, as JSON")
    parser.add_argument("options", nargs="*", metavar="key=value", help="options of the run, for both")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Training:
    """A model in training and what trains it."""

    state: TrainState
    trainer: LocalTrainer
    algorithm: Grpo | Ppo


def open_training(arguments: argparse.Namespace) -> tuple[Workload, Training]:
    """Return the work and the training, as jobs/rl.py puts them together."""
    rates = () if arguments.train else STILL
    work = open_workload(arguments, extra=[f"rl.algorithm={arguments.only}", *arguments.options, *rates])
    module, o = work.model.module, work.config.optim
    optimizer = adamw(module.parameters(), o.learning_rate, (o.beta1, o.beta2), o.weight_decay)
    trainer = LocalTrainer(module, [optimizer], dtype=work.dtype, max_grad_norm=o.max_grad_norm)
    algorithm = algorithm_of(work.config, module, work.dtype)
    assert isinstance(algorithm, Grpo | Ppo)
    state = TrainState(trainer=trainer, progress=Progress(step=0, updates=0))
    return work, Training(state, trainer, algorithm)


def step(work: Workload, training: Training, engine: TorchEngine, number: int) -> dict[str, Any]:
    """Make one step of the loop and return its figures."""
    clock = Clock()
    groups = collect(work.config, engine, work.mixture, work.to_prompt, number, clock)
    credited = credit(groups, work.config.advantage.scale)
    stats = training.algorithm.update(work.config, training.state, credited, number)
    updates = training.state.progress.updates + stats.num_updates
    training.state.progress = Progress(step=number + 1, updates=updates)
    engine.update_weights(training.trainer.weights(), updates)
    clock.mark("train_s")
    metrics = rollout_metrics(credited)
    figures = {"total_s": clock.total, **clock.seconds, "trained": stats.num_tokens}
    return figures | {key: metrics[key] for key in ("accuracy", "reward_mean", "num_sampled_tokens")}


def state_bytes(training: Training) -> int:
    """Return the size of weights, gradients (fp32 like the weights) and optimiser states."""
    trainers = [training.trainer]
    if isinstance(training.algorithm, Ppo):
        trainers.append(training.algorithm.critic.trainer)
    modules = [trainer.module for trainer in trainers]
    optimizers = [optimizer for trainer in trainers for optimizer in trainer.optimizers]
    tensors = [2 * p.numel() * p.element_size() for module in modules for p in module.parameters()]
    for optimizer in optimizers:
        for moments in optimizer.state_dict()["state"].values():
            tensors += [value.numel() * value.element_size() for value in moments.values()]
    return sum(tensors)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one algorithm in this process."""
    work, training = open_training(arguments)
    if work.config.loss.kl_coef:
        raise SystemExit("error: without a reference model only; leave out loss.kl_coef")
    engine = work.engine()
    steps = [step(work, training, engine, number) for number in range(1 + arguments.repeats)]
    return {"steps": steps, "peak_bytes": peak_memory(), "state_bytes": state_bytes(training)}


def measure_apart(algorithm: str) -> dict[str, Any]:
    """Run one algorithm in a process of its own, with the arguments of this one."""
    command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], f"--only={algorithm}"]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise SystemExit(finished.returncode)
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def show(figures: dict[str, dict[str, Any]], *, is_training: bool) -> dict[str, float]:
    """Print the table; return the ratios of PPO to GRPO."""

    def middle(algorithm: str, name: str) -> float:
        return float(median(line[name] for line in figures[algorithm]["steps"][1:]))

    rows, times = [], ("total_s", "generate_s", "reward_s", "train_s")
    for algorithm in ALGORITHMS:
        found = figures[algorithm]
        sizes = [f"{found[name] / 1e6:,.0f}" for name in ("peak_bytes", "state_bytes")]
        tokens = [f"{middle(algorithm, name):,.0f}" for name in ("num_sampled_tokens", "trained")]
        seconds = [f"{middle(algorithm, name):.2f}" for name in times]
        rows.append([algorithm, *sizes, *seconds, *tokens, f"{found['steps'][-1]['accuracy']:.1%}"])
    header = ["", "peak MB", "state MB", "step s", "generate", "reward", "train", "sampled", "trained"]
    print_table([*header, "last accuracy"], rows)
    ratios = {name: figures["ppo"][name] / figures["grpo"][name] for name in ("peak_bytes", "state_bytes")}
    ratios |= {name: middle("ppo", name) / middle("grpo", name) for name in ("total_s", "train_s")}
    print("\nPPO needs, as a multiple of GRPO: " + ", ".join(f"{k} {v:.2f}x" for k, v in ratios.items()))
    if is_training:
        print("\naccuracy by step, GRPO and PPO:")
        pairs = zip(*(figures[algorithm]["steps"] for algorithm in ALGORITHMS), strict=True)
        for number, (grpo, ppo) in enumerate(pairs, start=1):
            print(f"  {number:3d}  {grpo['accuracy']:6.1%}  {ppo['accuracy']:6.1%}")
    return ratios


def main() -> None:
    arguments = parse_arguments()
    if arguments.only:
        print(json.dumps(measure(arguments)))
        return
    figures = {algorithm: measure_apart(algorithm) for algorithm in ALGORITHMS}
    work = open_workload(arguments, extra=arguments.options)
    about = conditions(work, matmul_peak(work.threads, torch.float32))
    print("  ".join(f"{key}={value}" for key, value in about.items()))
    ratios = show(figures, is_training=arguments.train)
    write_json(arguments.json, about | figures | {"ratios": ratios})


if __name__ == "__main__":
    main()
