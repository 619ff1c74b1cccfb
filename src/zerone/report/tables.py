"""The tables of a report: before and after, levels, settings beside the paper's, environment.

In: the record of a run. Out: rows of plain strings and small drawings for the page to lay out.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from markupsafe import Markup

from zerone.report.charts import Estimate, before_after_bar
from zerone.report.claims import weights
from zerone.report.numbers import MISSING, duration, number, percent, signed, step_ranges
from zerone.report.record import RunRecord, Suite, vote_key, vote_size
from zerone.train.health import is_learning


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A figure of a suite before and after, written out, with a drawing where it is a share."""

    label: str
    base: str
    base_interval: str
    final: str
    final_interval: str
    change: str
    unit: str = ""
    bar: Markup | None = None


def before_after(record: RunRecord) -> list[tuple[str, list[Measure]]]:
    """Return every suite with its measures."""
    return [(suite, list(_measures(record.base(suite), record.final(suite)))) for suite in record.suites]


def _measures(base: Suite, final: Suite) -> Iterator[Measure]:
    yield _share("pass@1", "pass_at_1", base, final)
    vote = vote_key(base) or vote_key(final)
    if vote is not None:
        yield _share(f"cons@{vote_size(vote)}", vote, base, final)
    # The largest k tells most: what the base can do at all, and whether training narrowed it.
    for k in _pass_sizes(base, final)[-1:]:
        drawn = [{"pass_at_k": suite.get("pass_at_k", {}).get(k)} for suite in (base, final)]
        yield _share(f"pass@{k}", "pass_at_k", *drawn)
    yield _share("no readable answer", "unparsable", base, final)
    yield _share("correctly formatted", "format", base, final)
    yield _share("cut off", "truncated", base, final)
    yield _mean("tokens", "response_tokens", base, final)
    yield _mean("reflection words", "reflection_words", base, final)


def _pass_sizes(base: Suite, final: Suite) -> list[str]:
    sizes = {*base.get("pass_at_k", {}), *final.get("pass_at_k", {})} - {"1"}
    return sorted(sizes, key=int)


def estimate(suite: Suite, key: str) -> Estimate | None:
    """Return a figure of a suite with its interval, or None where it was not measured."""
    if suite.get(key) is None:
        return None
    interval = suite.get(f"{key}_ci")
    return Estimate(value=suite[key], interval=(interval[0], interval[1]) if interval else None)


def _share(label: str, key: str, base: Suite, final: Suite) -> Measure:
    return _measure(label, (estimate(base, key), estimate(final, key)), percent, is_share=True)


def _mean(label: str, key: str, base: Suite, final: Suite) -> Measure:
    return _measure(label, (estimate(base, key), estimate(final, key)), number, is_share=False)


def _measure(
    label: str,
    ends: tuple[Estimate | None, Estimate | None],
    write: Callable[[float], str],
    *,
    is_share: bool,
) -> Measure:
    base, final = ends
    change = MISSING
    if base is not None and final is not None:
        difference = final.value - base.value
        change = signed(f"{100 * difference:.1f}" if is_share else write(difference))
    return Measure(
        label=label,
        base=write(base.value) if base else MISSING,
        base_interval=_interval(base, write),
        final=write(final.value) if final else MISSING,
        final_interval=_interval(final, write),
        change=change,
        unit=" points" if is_share and change != MISSING else "",
        bar=before_after_bar(base, final) if is_share and (base or final) else None,
    )


def _interval(figure: Estimate | None, write: Callable[[float], str]) -> str:
    if figure is None or figure.interval is None:
        return ""
    return f"{write(figure.interval[0])} to {write(figure.interval[1])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One family and level of a suite before and after."""

    label: str
    num_problems: str
    base: str
    final: str
    change: str
    bar: Markup


def levels(record: RunRecord) -> list[tuple[str, list[Level]]]:
    """Return the families and levels of the first suite that has more than one of them."""
    found = []
    for suite in record.suites:
        before, after = (end.get("levels", {}) for end in (record.base(suite), record.final(suite)))
        rows = [
            _level(name, before.get(name, {}), after.get(name, {}))
            for name in sorted({*before, *after}, key=_natural)
        ]
        if len(rows) > 1:
            found.append((suite, rows))
    return found[:1]


def _natural(name: str) -> tuple[str, int, str]:
    family, _, level = name.rpartition("/")
    return family, int(level) if level.isdigit() else 0, level


def _level(name: str, before: Suite, after: Suite) -> Level:
    measure = _share(name, "pass_at_1", before, after)
    return Level(
        label=name.replace("/", "\u00a0"),
        num_problems=str(after.get("num_problems", before.get("num_problems", MISSING))),
        base=measure.base,
        final=measure.final,
        change=measure.change,
        bar=measure.bar or Markup(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting of this run beside the paper's."""

    label: str
    here: str
    paper: str


# R1-Zero as the DeepSeek-R1 paper reports it (arXiv 2501.12948, versions 1 and 2). The paper's "step" is
# one update of the weights; sixteen of them use one rollout phase, which is a step here.
_PAPER = (
    ("Base model", "DeepSeek-V3-Base, 671B parameters, 37B active per token"),
    ("Questions", "mathematics, code, science and logic with answers that a rule can check"),
    ("Reward", "accuracy + format, equal weights"),
    ("Updates (the paper's steps)", "10,400"),
    ("Training steps", "650 (10,400 updates / 16)"),
    ("Questions per rollout phase", "512"),
    ("Answers per question (group size)", "16"),
    ("Questions per update", "32"),
    ("Minibatches per rollout phase", "16"),
    ("Passes over a rollout phase", "1"),
    ("Learning rate", "3e-6"),
    ("KL coefficient", "0.001"),
    ("Reference replaced by the policy", "every 400 updates (25 steps)"),
    ("Clip range of the ratio", "not reported (10 in the first RL stage of R1)"),
    ("Mean of the loss", "per answer, then over the group"),
    ("Advantage", "reward minus the group's mean, divided by its standard deviation"),
    ("Temperature", "1.0"),
    ("Longest response", "32,768 tokens, 65,536 from update 8,200"),
    ("Test", "AIME 2024, 30 problems"),
    ("Test pass@1, base to final", "15.6% to 71.0% (77.9% in the Nature version)"),
    ("Test majority vote", "86.7%"),
)


def settings(record: RunRecord) -> list[Setting]:
    """Return this run's settings beside those of R1-Zero."""
    here = _settings_here(record)
    here |= _results_here(record)
    return [Setting(label=label, here=here[label], paper=paper) for label, paper in _PAPER]


def _results_here(record: RunRecord) -> dict[str, str]:
    suite = record.curve_suite
    base, final = (record.base(suite), record.final(suite)) if suite else ({}, {})
    vote = vote_key(final)
    size = final.get("num_problems", base.get("num_problems"))
    problems = "" if size is None else f", {size} problems"
    before, after = percent(base.get("pass_at_1")), percent(final.get("pass_at_1"))
    return {
        "Test": f"{suite} suite{problems}" if suite else MISSING,
        "Test pass@1, base to final": f"{before} to {after}",
        "Test majority vote": f"{percent(final[vote])} (of {vote_size(vote)})" if vote else MISSING,
    }


def _settings_here(record: RunRecord) -> dict[str, str]:
    get = record.setting
    low, high = _plain(get("loss.clip_low")), _plain(get("loss.clip_high"))
    updates = _product(get("rl.minibatches"), get("rl.epochs"))
    return {
        "Base model": _model_name(record),
        "Questions": get("data.path")
        or f"{_or_missing(get('data.family'))} problems with answers that a rule can check",
        "Reward": " + ".join(f"{weight:g} {part}" for part, weight in weights(record).items()) or MISSING,
        "Updates (the paper's steps)": _plain(_product(get("rl.steps"), updates)),
        "Training steps": _plain(get("rl.steps")),
        "Questions per rollout phase": _plain(get("rl.problems_per_step")),
        "Answers per question (group size)": _plain(get("rl.group_size")),
        "Questions per update": _plain(_quotient(get("rl.problems_per_step"), get("rl.minibatches"))),
        "Minibatches per rollout phase": _plain(get("rl.minibatches")),
        "Passes over a rollout phase": _plain(get("rl.epochs")),
        "Learning rate": _plain(get("optim.learning_rate")),
        "KL coefficient": _plain(get("loss.kl_coef")),
        "Reference replaced by the policy": _reference(get("rl.reference_every")),
        "Clip range of the ratio": f"{low} below 1, {high} above",
        "Mean of the loss": _AGGREGATIONS.get(get("loss.aggregation"), MISSING),
        "Advantage": _SCALES.get(get("advantage.scale"), MISSING),
        "Temperature": _plain(get("sampling.temperature")),
        "Longest response": f"{_plain(get('sampling.max_tokens'))} tokens",
    }


_AGGREGATIONS = {
    "sequence": "per answer, then over the group",
    "token": "over all tokens",
    "constant": "by the longest response",
}
_SCALES = {
    "group": "reward minus the group's mean, divided by its standard deviation",
    "none": "reward minus the group's mean",
    "batch": "reward minus the group's mean, divided by the batch's standard deviation",
}


def _reference(every: int | None) -> str:
    return MISSING if every is None else f"every {every} steps" if every else "never"


def _or_missing(value: object) -> str:
    return MISSING if value is None else str(value)


def _plain(value: float | None) -> str:
    return MISSING if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _product(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a * b


def _quotient(a: int | None, b: int | None) -> int | None:
    return None if a is None or not b else a // b


def _model_name(record: RunRecord) -> str:
    path = record.setting("model.path")
    return (
        "the embedded base (Qwen3 architecture, made by zerone pretrain)"
        if path == "embedded"
        else _or_missing(path)
    )


_ENVIRONMENT = {
    "zerone": "zerone",
    "commit": "commit",
    "model": "model",
    "model_sha256": "model SHA-256",
    "data": "problems",
    "seed": "seed",
    "started": "started",
    "python": "Python",
    "torch": "torch",
    "transformers": "transformers",
    "platform": "platform",
    "cpu": "CPU",
    "cores": "cores",
    "threads": "threads",
    "precision": "precision",
}


def environment(record: RunRecord) -> list[tuple[str, str]]:
    """Return where and how the run ran; keys that this version does not know come last."""
    known = [
        (label, record.environment[key]) for key, label in _ENVIRONMENT.items() if key in record.environment
    ]
    shown_elsewhere = {*_ENVIRONMENT, "command"}
    unknown = [(key, value) for key, value in record.environment.items() if key not in shown_elsewhere]
    rows = [(label, str(value)) for label, value in (*known, *unknown) if value is not None]
    if record.summary is not None and "peak_rss_bytes" in record.summary:
        rows.append(("peak memory", f"{record.summary['peak_rss_bytes'] / 2**30:.2f} GiB"))
    rows.append(("wall time", duration(record.wall_s)))
    return rows


_FIGURE = re.compile(r"[+-]?\d[\d.,]*")


def troubles(record: RunRecord) -> list[tuple[str, str]]:
    """Return the verdicts that say something else than that the run learns, each with its steps.

    Verdicts that differ in their figures only are one: the last of them stands for all.
    """
    found: dict[str, tuple[list[int], str]] = {}
    for entry in record.metrics:
        verdict = str(entry.get("verdict", ""))
        if verdict and not is_learning(verdict):
            steps, _ = found.get(_FIGURE.sub("#", verdict), ([], ""))
            found[_FIGURE.sub("#", verdict)] = [*steps, int(entry["step"])], verdict
    return [(step_ranges(steps), verdict) for steps, verdict in found.values()]
