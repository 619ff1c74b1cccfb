"""Rollout speed: zerone's engine against transformers' `generate`, same model, prompts and lengths.

    python benchmarks/rollout_speed.py [--model embedded|DIR] [--problems 48] [--group 12] ...

What is compared. Our engine samples `problems` x `group` completions, as a training step does, and
thereby fixes how long each one is (`--lengths sampled`; with `equal` each takes `--max-tokens`).
The peer then has to produce as many tokens for every row. Only these tokens count; what a static
batch computes beyond a row's end, while it waits for its longest row, is the peer's own waste.

What favours the peer. Each batch ends after its longest row with nothing to look for: no end
token, no stop string, no log-probabilities (our engine does all three). The batch size is the best
of several. Both systems run in one process with the same threads, precision and malloc settings,
of which the last are zerone's and the peer by itself would lack (`--default-allocator` leaves them
out for both). Rows come as a trainer has them, a group's rows side by side. `generate, sorted`
sorts all rows by their final length first, which nobody can know beforehand: no static batching
wastes less. Its batch size is the best of several as well.

`generate_batch`, transformers' own continuous batching, knows each row's length as well. It is
made for GPU kernels; here it runs once with each of a few numbers of slots, on the first groups
only, and the best counts. `--no-continuous` skips it.
"""

import zerone  # noqa: F401 - before torch, which reads once how threads wait

# isort: split
import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from machine_peak import matmul_peak, num_matmul_parameters
from workload import Workload, add_arguments, conditions, open_workload, print_table, write_json
from zerone.engine.api import Request
from zerone.engine.torch.engine import TorchEngine
from zerone.processes.machine import DTYPES
from zerone.train.loop import requests_for, sampling_of

CONTINUOUS_GROUPS = 8
"""Groups that generate_batch runs on: enough for a speed, few enough for its slowness on CPUs."""
CONTINUOUS_SLOTS = (8, 16, 32)
PAGE_SIZE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A completion that the peer has to produce: its prompt, and how many tokens."""

    prompt_ids: tuple[int, ...]
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The timed runs of one system."""

    system: str
    batch: int
    num_tokens: int
    seconds: tuple[float, ...]

    @property
    def speed(self) -> float:
        """Tokens per second, the median of the runs."""
        return self.num_tokens / median(self.seconds)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Rollout speed against transformers' generate.")
    add_arguments(parser)
    parser.add_argument("--lengths", choices=["sampled", "equal"], default="sampled")
    parser.add_argument("--precision", choices=list(DTYPES), help="default: the faster one (zerone doctor)")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--no-continuous", action="store_true", help="skip transformers' generate_batch")
    return parser.parse_args()


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rows_by_engine(engine: TorchEngine, work: Workload, requests: Sequence[Request]) -> list[Row]:
    """Sample once and return each completion's prompt and length, group by group."""
    groups = engine.generate(requests, sampling_of(work.config))
    return [
        Row(prompt_ids=rollout.prompt_ids, length=len(rollout.completion_ids))
        for group in groups
        for rollout in group
    ]


def _settings(max_new_tokens: int, end_id: int | None) -> GenerationConfig:
    """Plain sampling at temperature 1, which adds no logits processor."""
    return GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=end_id,
        pad_token_id=0,
        use_cache=True,
    )


@torch.inference_mode()
def run_static(module: Any, rows: Sequence[Row], batch_size: int) -> None:
    """Let `generate` produce all rows in static, left-padded batches."""
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        width = max(len(row.prompt_ids) for row in batch)
        longest = max(row.length for row in batch)
        pads = [width - len(row.prompt_ids) for row in batch]
        tokens_BT = torch.tensor(
            [[0] * pad + [*row.prompt_ids] for pad, row in zip(pads, batch, strict=True)]
        )
        mask_BT = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads])
        made = module.generate(tokens_BT, attention_mask=mask_BT, generation_config=_settings(longest, None))
        if made.shape != (len(batch), width + longest):
            raise AssertionError(f"generate returned {tuple(made.shape)}, not {len(batch), width + longest}")


def run_continuous(module: Any, rows: Sequence[Row], num_slots: int) -> None:
    """Let transformers' continuous batching produce all rows, at most `num_slots` at once."""
    longest = max(len(row.prompt_ids) + row.length for row in rows)
    settings = ContinuousBatchingConfig(
        page_size=PAGE_SIZE,
        num_blocks=num_slots * (longest // PAGE_SIZE + 1),
        max_batch_tokens=1024,
        max_requests_per_batch=num_slots,
    )
    generation = _settings(max(row.length for row in rows), -1)
    with module.continuous_batching_context_manager(
        generation, continuous_batching_config=settings
    ) as manager:
        for index, row in enumerate(rows):
            manager.add_request(
                [*row.prompt_ids], request_id=str(index), max_new_tokens=row.length, eos_token_id=-1
            )
        num_left = len(rows)
        while num_left and manager.is_running():
            result = manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                if len(result.generated_tokens) != rows[int(result.request_id)].length:
                    raise AssertionError(f"generate_batch made {len(result.generated_tokens)} tokens")
                num_left -= 1
    if num_left:
        raise AssertionError(f"generate_batch stopped with {num_left} rows to do")


def num_tokens(rows: Sequence[Row]) -> int:
    """Return the useful tokens of some rows."""
    return sum(row.length for row in rows)


def seconds_by_batch(module: Any, rows: Sequence[Row], sizes: Sequence[int]) -> dict[int, float]:
    """Return the peer's seconds with each batch size, and show them as they come."""
    seconds: dict[int, float] = {}
    for size in sorted({min(size, len(rows)) for size in sizes}):
        seconds[size] = seconds_of(partial(run_static, module, rows, size))
        print(f"  batches of {size}: {num_tokens(rows) / seconds[size]:,.0f} tokens/s", flush=True)
    return seconds


def measure_in_turn(
    runs: Sequence[tuple[str, int, Callable[[], object]]], tokens: int, repeats: int
) -> list[Measured]:
    """Time (system, batch, run) in turn, so that a change of the machine's speed meets all of them."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for times, (_, _, run) in zip(seconds, runs, strict=True):
            times.append(seconds_of(run))
    return [
        Measured(system=system, batch=batch, num_tokens=tokens, seconds=tuple(times))
        for times, (system, batch, _) in zip(seconds, runs, strict=True)
    ]


def measure_continuous(work: Workload, rows: Sequence[Row]) -> Measured:
    """Time generate_batch on the first groups, with its best number of slots."""
    module = copy.deepcopy(work.model.module)  # it changes the module's attention
    module.generation_config.eos_token_id = -1
    some = rows[: CONTINUOUS_GROUPS * work.config.rl.group_size]
    seconds = {slots: seconds_of(partial(run_continuous, module, some, slots)) for slots in CONTINUOUS_SLOTS}
    best = min(seconds, key=lambda slots: seconds[slots])
    return Measured(
        system="generate_batch", batch=best, num_tokens=num_tokens(some), seconds=(seconds[best],)
    )


def show(measured: Sequence[Measured], num_parameters: int, peak: float) -> None:
    """Print the table; the first system is ours."""
    ours = measured[0].speed
    print_table(
        ["system", "batch", "tokens/s", "zerone is", "of matmul peak"],
        [
            [
                m.system,
                str(m.batch),
                f"{m.speed:,.0f}",
                f"{ours / m.speed:.2f}x",
                f"{2 * num_parameters * m.speed / peak:.1%}",
            ]
            for m in measured
        ],
    )


def main() -> None:
    arguments = parse_arguments()
    work = open_workload(arguments, arguments.precision)
    config, module = work.config, work.model.module
    peak = matmul_peak(work.threads, work.dtype)
    about = conditions(work, peak)
    problems = work.mixture.draw(0, config.rl.problems_per_step)
    requests = requests_for(problems, work.to_prompt, config.rl.group_size, (config.seed, "benchmark"))
    engine = work.engine(never_ends=arguments.lengths == "equal")
    rows = rows_by_engine(engine, work, requests)
    lengths = sorted(row.length for row in rows)
    about |= {"lengths": arguments.lengths, "rows": len(rows), "tokens": sum(lengths)}
    print("  ".join(f"{key}={value}" for key, value in about.items()))
    print(f"completion tokens: median {lengths[len(lengths) // 2]}, longest {lengths[-1]}")

    module.to(work.dtype)
    module.generation_config.eos_token_id = None  # else `generate` would fill it in
    run_static(module, rows[:32], 32)  # warm-up
    orders = {"generate": rows}
    if arguments.lengths == "sampled":
        orders["generate, sorted"] = sorted(rows, key=lambda row: row.length)
    slots = min(config.sampling.slots, len(rows))
    runs: list[tuple[str, int, Callable[[], object]]] = [
        ("zerone", slots, partial(engine.generate, requests, sampling_of(config)))
    ]
    for system, order in orders.items():
        print(f"{system}:")
        tried = seconds_by_batch(module, order, arguments.batches)
        best = min(tried, key=lambda size: tried[size])
        about[f"seconds_by_batch of {system}"] = tried
        runs.append((system, best, partial(run_static, module, order, best)))
    measured = measure_in_turn(runs, num_tokens(rows), arguments.repeats)
    if not arguments.no_continuous:
        measured.append(measure_continuous(work, rows))
    show(measured, num_matmul_parameters(module), peak)
    systems = [{**asdict(m), "tokens_per_second": m.speed} for m in measured]
    write_json(arguments.json, about | {"lengths_of_rows": lengths, "systems": systems})


if __name__ == "__main__":
    main()
