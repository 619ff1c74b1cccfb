"""Time of a GRPO step: zerone against TRL's GRPOTrainer, same model, prompts, groups and updates.

    pip install trl==1.16.0     (nothing else of zerone needs it)
    python benchmarks/grpo_step_speed.py [--model embedded|DIR] [--problems 48] [--group 12] ...

A step is one rollout phase: sample `problems` x `group` completions, reward them, and make
`--minibatches` updates with them. Two kinds of step are timed.

equal: every completion has exactly `--tokens` tokens (the end token is no end for us, and cannot be
drawn by TRL) and every group has a signal, so both systems sample and train on equally many tokens
and neither finished rows nor silent groups can be skipped.
as is: completions end where the model ends them, rewards are those of the problems. Both systems
draw from the same distribution, so their token counts differ by chance only; seconds are compared
per sampled token.

Both: fp32, AdamW, clipping of the gradient norm, no reference model, no stop strings, the same
rule-based reward computed by the same code, no logging, evaluation or checkpoint, a learning rate
so small that the model stays what it is. TRL: gradient checkpointing off, no vLLM, the whole phase
in one `generate` as it does, and the best micro-batch size of `--peer-batches`. Both run in turn in
one process, with zerone's malloc settings for both unless `--default-allocator` is given.

generate: until all completions are there as text. train: all else but the rewards, for TRL also
its pass for the log-probabilities before the updates, which our sampler has recorded already.
"""

import zerone  # noqa: F401 - before torch, which reads once how threads wait

# isort: split
import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from transformers import PrinterCallback

from machine_peak import matmul_peak, num_matmul_parameters
from workload import (
    Workload,
    add_arguments,
    conditions,
    config_of,
    new_state,
    open_workload,
    print_table,
    with_signal,
    write_json,
)
from zerone.config import Config
from zerone.engine.torch.engine import TorchEngine
from zerone.model.loading import load_model
from zerone.rewards.total import RewardWeights, grade
from zerone.runs.checkpoint import Progress
from zerone.train.advantage import credit
from zerone.train.algorithm import TrainState
from zerone.train.grpo import Grpo
from zerone.train.loop import Clock, collect
from zerone.types import Finish, Problem, Rollout

try:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    print(f"error: {error}. zerone does without TRL, this comparison cannot: pip install trl==1.16.0")
    raise SystemExit(2) from error

LEARNING_RATE = 1e-9
"""AdamW moves a weight by about this much per update: the work is done, the model stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The times of one step, and the completion tokens that it sampled and trained on."""

    generate_s: float
    reward_s: float
    train_s: float
    sampled: int
    trained: int

    @property
    def total_s(self) -> float:
        """Seconds of the whole step."""
        return self.generate_s + self.reward_s + self.train_s


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time of a GRPO step against TRL's GRPOTrainer.")
    add_arguments(parser)
    parser.add_argument("--minibatches", type=int, default=2, help="updates per rollout phase")
    parser.add_argument("--tokens", type=int, default=96, help="length of every `equal` completion")
    parser.add_argument(
        "--peer-batches",
        type=int,
        nargs="+",
        default=[12, 24, 48, 96],
        help="micro-batch sizes (completions) of which TRL gets its best",
    )
    parser.add_argument("--kinds", nargs="+", choices=["equal", "as_is"], default=["equal", "as_is"])
    return parser.parse_args()


# Ours ---------------------------------------------------------------------------------------------


def our_step(work: Workload, state: TrainState, engine: TorchEngine, step: int, is_equal: bool) -> Step:
    """Make one step as rl.train does, without the record of it."""
    clock = Clock()
    groups = collect(work.config, engine, work.mixture, work.to_prompt, step, clock)
    if is_equal:
        groups = with_signal(groups)
    credited = credit(groups, work.config.advantage.scale)
    stats = Grpo().update(work.config, state, credited, step)
    state.progress = Progress(step=step + 1, updates=state.progress.updates + stats.num_updates)
    engine.update_weights(state.trainer.weights(), state.progress.updates)
    clock.mark("train_s")
    sampled = sum(len(m.rollout.completion_ids) for group in groups for m in group.members)
    return Step(**clock.seconds, sampled=sampled, trained=stats.num_tokens)


# TRL ----------------------------------------------------------------------------------------------


class TimedTrainer(GRPOTrainer):  # type: ignore[misc]  # trl is not followed by mypy
    """GRPOTrainer that notes how long sampling and rewards take, and how many tokens there are."""

    generate_s = 0.0
    reward_s = 0.0
    sampled = 0
    started = 0.0

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        self.started = self.started or time.perf_counter()
        return super()._generate_and_score_completions(inputs)

    def _generate(self, prompts: Any) -> Any:
        start = time.perf_counter()
        made = super()._generate(prompts)
        self.generate_s += time.perf_counter() - start
        self.sampled += sum(map(len, made[1]))
        return made

    def _calculate_rewards(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        rewards = super()._calculate_rewards(*arguments)
        self.reward_s += time.perf_counter() - start
        return rewards


def reward_function(
    problems: Sequence[Problem], work: Workload, is_equal: bool
) -> Callable[..., list[float]]:
    """Return our reward as TRL calls it: the same parsing and verifying, the same signal."""
    weights = RewardWeights(accuracy=work.config.reward.accuracy, format=work.config.reward.format)

    def reward(completions: Sequence[str], index: Sequence[int], **rest: Any) -> list[float]:
        rewards = []
        for position, (text, number) in enumerate(zip(completions, index, strict=True)):
            rollout = Rollout(
                problem=problems[number],
                sample=0,
                prompt_ids=(),
                completion_ids=(),
                sampler_logprobs=(),
                text=text,
                finish=Finish.STOP,
                weight_version=0,
            )
            rewards.append(grade(rollout, weights).reward + 2 * (position % 2) * is_equal)
        return rewards

    return reward


def trl_settings(
    work: Workload, batch: int, is_equal: bool, directory: str, changes: Mapping[str, Any]
) -> GRPOConfig:
    """Return the configuration that does what ours does; `changes` are for another machine."""
    c = work.config
    num_rows = c.rl.problems_per_step * c.rl.group_size
    length = c.sampling.max_tokens
    return GRPOConfig(
        output_dir=directory,
        gradient_checkpointing=False,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=num_rows // c.rl.minibatches // batch,
        steps_per_generation=num_rows // batch,
        max_steps=c.rl.minibatches,
        num_generations=c.rl.group_size,
        max_completion_length=length,
        temperature=c.sampling.temperature,
        top_k=0,
        beta=0.0,
        epsilon=c.loss.clip_low,
        epsilon_high=c.loss.clip_high,
        loss_type="dapo",
        scale_rewards="group",
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        adam_beta1=c.optim.beta1,
        adam_beta2=c.optim.beta2,
        weight_decay=c.optim.weight_decay,
        max_grad_norm=c.optim.max_grad_norm,
        shuffle_dataset=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **{"generation_kwargs": {"min_new_tokens": length} if is_equal else None, **changes},
    )


ON_A_CPU: Mapping[str, Any] = {"use_cpu": True, "bf16": False}


def trl_step(
    work: Workload, step: int, batch: int, is_equal: bool, changes: Mapping[str, Any] = ON_A_CPU
) -> Step:
    """Make the same step with TRL: a new trainer with a fresh copy of the model, one phase."""
    problems = work.mixture.draw(step, work.config.rl.problems_per_step)
    prompts = [work.model.tokenizer.decode(work.to_prompt(problem)) for problem in problems]
    if [*map(tuple, work.model.tokenizer(prompts)["input_ids"])] != [*map(work.to_prompt, problems)]:
        raise AssertionError("the text of the prompts does not give their tokens back")
    with tempfile.TemporaryDirectory() as directory:
        trainer = TimedTrainer(
            model=load_model(work.model.path, torch.float32).module,
            reward_funcs=reward_function(problems, work, is_equal),
            args=trl_settings(work, batch, is_equal, directory, changes),
            train_dataset=Dataset.from_dict({"prompt": prompts, "index": list(range(len(problems)))}),
            processing_class=work.model.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        total = time.perf_counter() - trainer.started
    return Step(
        generate_s=trainer.generate_s,
        reward_s=trainer.reward_s,
        train_s=total - trainer.generate_s - trainer.reward_s,
        sampled=trainer.sampled,
        trained=trainer.sampled,
    )


def best_peer_batch(work: Workload, arguments: argparse.Namespace) -> dict[int, float]:
    """Return TRL's training seconds per token by micro-batch size, measured on a part of the work."""
    config = config_of_kind(arguments, is_equal=True)
    num_problems = max(1, config.rl.problems_per_step // config.rl.minibatches // 2) * config.rl.minibatches
    rl = config.rl.model_copy(update={"problems_per_step": num_problems})
    work = replace(work, config=config.model_copy(update={"rl": rl}))
    num_rows = num_problems * config.rl.group_size // config.rl.minibatches
    sizes = sorted(size for size in set(arguments.peer_batches) if num_rows % size == 0)
    if not sizes:
        raise SystemExit(f"error: none of --peer-batches divides the {num_rows} completions of an update")
    trl_step(work, 0, sizes[0], is_equal=True)  # warm-up
    seconds = {}
    for size in sizes:
        step = trl_step(work, 0, size, is_equal=True)
        seconds[size] = step.train_s / step.trained
        print(f"  TRL trains {1 / seconds[size]:,.0f} tokens/s in micro-batches of {size}", flush=True)
    return seconds


# Both ---------------------------------------------------------------------------------------------


def config_of_kind(arguments: argparse.Namespace, is_equal: bool) -> Config:
    """Return the settings of a kind of step."""
    extra = [f"rl.minibatches={arguments.minibatches}", f"optim.learning_rate={LEARNING_RATE}"]
    extra += ["sampling.stop=[]", *([f"sampling.max_tokens={arguments.tokens}"] if is_equal else [])]
    return config_of(arguments, extra)


def measure_kind(work: Workload, batch: int, repeats: int, is_equal: bool) -> dict[str, list[Step]]:
    """Time both systems in turn on the same prompts, after a step of ours as warm-up."""
    learner = new_state(work)
    engine = work.engine(never_ends=is_equal)
    our_step(work, learner, engine, 0, is_equal)
    steps: dict[str, list[Step]] = {"zerone": [], "TRL": []}
    for number in range(1, repeats + 1):
        steps["zerone"].append(our_step(work, learner, engine, number, is_equal))
        steps["TRL"].append(trl_step(work, number, batch, is_equal))
    return steps


def show(kind: str, steps: dict[str, list[Step]], num_parameters: int, peak: float) -> None:
    """Print the medians of a kind of step, and how much less time per sampled token we need."""

    def per_token(step: Step) -> float:
        return step.total_s / step.sampled

    ours = median(map(per_token, steps["zerone"]))
    rows = []
    for system, all_steps in steps.items():
        parts = [
            f"{median(getattr(step, name) for step in all_steps):.2f}"
            for name in ("total_s", "generate_s", "reward_s", "train_s")
        ]
        shares = [
            num_parameters * (2 * step.sampled + 6 * step.trained) / step.total_s / peak for step in all_steps
        ]
        tokens = [
            f"{median(getattr(step, name) for step in all_steps):,.0f}" for name in ("sampled", "trained")
        ]
        ratio = median(map(per_token, all_steps)) / ours
        rows.append([system, *parts, *tokens, f"{ratio:.2f}x", f"{median(shares):.1%}"])
    print(f"\n{kind}, seconds per step:")
    header = ["system", "total", "generate", "reward", "train", "sampled", "trained", "zerone is", "of peak"]
    print_table(header, rows)


def main() -> None:
    arguments = parse_arguments()
    warnings.simplefilter("ignore", FutureWarning)  # TRL calls what transformers has renamed
    work = open_workload(arguments, "fp32")
    peak = matmul_peak(work.threads, torch.float32)
    about = conditions(work, peak)
    print("  ".join(f"{key}={value}" for key, value in about.items()))
    tried = best_peer_batch(work, arguments)
    batch = min(tried, key=lambda size: tried[size])
    figures: dict[str, Any] = about | {"seconds_per_token_by_peer_batch": tried, "peer_batch": batch}
    for kind in arguments.kinds:
        is_equal = kind == "equal"
        work = replace(work, config=config_of_kind(arguments, is_equal))
        steps = measure_kind(work, batch, arguments.repeats, is_equal)
        show(kind, steps, num_matmul_parameters(work.model.module), peak)
        figures[kind] = {
            system: [asdict(step) | {"total_s": step.total_s} for step in all_steps]
            for system, all_steps in steps.items()
        }
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
