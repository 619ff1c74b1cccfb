"""What the model wrote in one step, in the terminal: all groups in a table, the best and the worst.

In: a run directory and a step. Out: text on a rich console, coloured on a terminal and plain in a
pipe. Model output is never read as markup, and control characters are shown instead of obeyed.
"""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from zerone.errors import RunDirError, UserError
from zerone.escaping import visible
from zerone.prompts.r1 import split_reasoning
from zerone.report.aha import Sample, read_samples
from zerone.report.numbers import number, percent, plural
from zerone.runs.directory import RunDir

_OUTCOME_STYLES = {
    "correct": "green",
    "wrong": "red",
    "unparsable": "yellow",
    "timeout": "yellow",
    "infrastructure_error": "magenta",
}


def show_rollouts(
    run: RunDir, step: int | None, worst: int, best: int, console: Console, group: int | None = None
) -> None:
    """Print the groups of a step (the last by default) and its best and worst rollouts.

    With `group` only that one, without a table of the others: all of its completions unless `worst` or
    `best` says how many. Raises UserError for a step or group that is not recorded or a negative count,
    RunDirError for a directory without rollouts.
    """
    if worst < 0 or best < 0:
        raise UserError(f"--worst {worst} and --best {best} must be 0 or more; they count rollouts to show")
    step = _resolve_step(run, step)
    samples = list(read_samples(run, "r.step = ?", (step,)))
    if not samples:
        raise RunDirError(f"{run.rollouts_path} holds no rollouts of step {step}; the file is damaged")
    if group is not None:
        _show_group(run, step, group, samples, (worst, best), console)
        return
    console.print(_headline(run, step, samples), soft_wrap=True)
    console.print(_group_table(samples))
    ranked = sorted(samples, key=lambda sample: (sample.reward, sample.advantage), reverse=True)
    _show_ranked("Best", ranked[:best], console)
    _show_ranked("Worst", list(reversed(ranked))[:worst], console)


def _show_group(
    run: RunDir,
    step: int,
    position: int,
    samples: Sequence[Sample],
    counts: tuple[int, int],
    console: Console,
) -> None:
    """Print the completions of one group, the best first."""
    members = [sample for sample in samples if sample.position == position]
    if not members:
        last = max(sample.position for sample in samples)
        raise UserError(f"step {step} of {run.path} has no group {position}; its groups are 0 to {last}")
    console.print(_headline(run, step, members), soft_wrap=True)
    ranked = sorted(members, key=lambda sample: (sample.reward, sample.advantage), reverse=True)
    worst, best = counts
    if not any(counts):
        best = len(ranked)
    _show_ranked("Best", ranked[:best], console)
    _show_ranked("Worst", list(reversed(ranked))[:worst], console)


def _resolve_step(run: RunDir, step: int | None) -> int:
    row = next(iter(list(run.query("SELECT MIN(step) AS first, MAX(step) AS last FROM groups"))))
    if row["last"] is None:
        raise RunDirError(f"{run.path} has no rollouts yet; wait for its first step")
    if step is None:
        return int(row["last"])
    if not list(run.query("SELECT 1 FROM groups WHERE step = ? LIMIT 1", (step,))):
        raise UserError(f"{run.path} has no step {step}; its steps are {row['first']} to {row['last']}")
    return step


def _headline(run: RunDir, step: int, samples: Sequence[Sample]) -> Text:
    num_groups = len({sample.position for sample in samples})
    right = sum(sample.is_right for sample in samples) / len(samples)
    reward = sum(sample.reward for sample in samples) / len(samples)
    counts = f"{plural(num_groups, 'group')}, {plural(len(samples), 'rollout')}"
    return Text(f"{run.path}, step {step}: {counts}, {percent(right)} correct, mean reward {number(reward)}")


def _group_table(samples: Sequence[Sample]) -> Table:
    # Expanded, so that only the problem, which has a ratio, gives way on a narrow console.
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("group", justify="right", no_wrap=True)
    table.add_column("problem", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("family/level", "correct", "reward", "tokens"):
        table.add_column(name, justify="left" if name == "family/level" else "right", no_wrap=True)
    for group in _groups(samples):
        first, size = group[0], len(group)
        table.add_row(
            str(first.position),
            Text(visible(first.prompt).replace("\n", " ")),
            Text(visible(f"{first.family}/{first.level}")),
            f"{sum(sample.is_right for sample in group)}/{size}",
            f"{sum(sample.reward for sample in group) / size:.2f}",
            f"{sum(sample.num_tokens for sample in group) / size:.1f}",
        )
    return table


def _groups(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.position, []).append(sample)
    yield from groups.values()


def _show_ranked(title: str, samples: Sequence[Sample], console: Console) -> None:
    for rank, sample in enumerate(samples, start=1):
        name = f"{title} {rank}: group {sample.position}, sample {sample.sample}, "
        console.print()
        console.print(Rule(Text(visible(f"{name}{sample.family}/{sample.level}")), align="left", style="dim"))
        # Soft wrapping leaves lines whole in a pipe, so that the text can be searched and compared.
        console.print(Text(visible(sample.prompt), style="bold"), soft_wrap=True)
        console.print(_dim_thought(visible(sample.text)), soft_wrap=True)
        console.print(_verdict(sample), soft_wrap=True)


def _dim_thought(text: str) -> Text:
    """Return the text with everything up to the end of its reasoning dimmed."""
    end = split_reasoning(text).reasoning_end
    return Text.assemble((text[:end], "dim"), text[end:])


def _verdict(sample: Sample) -> Text:
    answer = "no answer found" if sample.answer is None else f"answer {visible(sample.answer)}"
    parts = ", ".join(f"{part} {number(value)}" for part, value in sample.parts.items())
    return Text.assemble(
        (f"{sample.outcome}", _OUTCOME_STYLES.get(sample.outcome, "")),
        f" | {answer} | reward {number(sample.reward)} ({parts}) | ",
        f"advantage {sample.advantage:+.2f} | {plural(sample.num_tokens, 'token')}",
    )
