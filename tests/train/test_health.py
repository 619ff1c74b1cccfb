"""The sentence on a run tells the truth: built runs, recorded short runs, and the tests against noise."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, pstdev, stdev
from typing import Any

import pytest

from zerone.cli.progress import COLUMNS, written
from zerone.train.health import STATES, Plan, is_learning, verdict
from zerone.train.trend import SIGNIFICANT, collapse_of, standard_error, trend_of, upper_tail

RECORDED = json.loads((Path(__file__).parent / "data" / "recorded_runs.json").read_text(encoding="utf-8"))
"""Metrics of short runs of the embedded model; the file says how they were made."""
DEBUG_PAGE = (Path(__file__).parents[2] / "docs" / "debug.md").read_text(encoding="utf-8")
PLAN = Plan(steps=30, checkpoint_every=5, checkpoint_keep=2)

Steps = list[dict[str, Any]]


def step(**changes: Any) -> dict[str, Any]:
    """Return the metrics of an unremarkable step: 100 completions of 50 tokens."""
    return {
        "reward_mean": 0.5,
        "reward_std": 0.5,
        "accuracy": 0.5,
        "format": 0.8,
        "parts": {"accuracy": 0.5, "format": 0.8},
        "groups_with_signal": 0.5,
        "groups_all_right": 0.2,
        "groups_all_wrong": 0.3,
        "response_tokens": 50.0,
        "num_sampled_tokens": 5000,
        "truncated": 0.0,
        "no_answer": 0.1,
        "verifier_errors": 0,
        "entropy": 0.5,
        "kl": 0.0,
        "ratio_max": 1.3,
        "num_updates": 2,
    } | changes


def drawn(
    num_steps: int,
    correct: Callable[[int], float],
    well_formed: Callable[[int], float] = lambda i: 0.8,
    *,
    groups: int = 16,
    members: int = 16,
    seed: int = 0,
    format_weight: float = 0.1,
    **changes: Any,
) -> Steps:
    """Return a run whose completions are drawn: problems are solved about as often as `correct(i)`."""
    rng, steps = random.Random(seed), []
    for i in range(1, num_steps + 1):
        chances = [min(1.0, max(0.0, correct(i) * rng.uniform(0, 2))) for _ in range(groups)]
        solved = [[float(rng.random() < chance) for _ in range(members)] for chance in chances]
        formed = [[float(rng.random() < well_formed(i)) for _ in range(members)] for _ in range(groups)]
        rewards = [
            [a + format_weight * f for a, f in zip(*pair, strict=True)]
            for pair in zip(solved, formed, strict=True)
        ]
        everyone = [reward for group in rewards for reward in group]
        accuracy, form = (fmean(map(fmean, values)) for values in (solved, formed))
        steps.append(
            step(
                step=i,
                reward_mean=fmean(everyone),
                reward_std=pstdev(everyone),
                reward_mean_se=stdev(map(fmean, rewards)) / groups**0.5,
                accuracy=accuracy,
                accuracy_se=stdev(map(fmean, solved)) / groups**0.5,
                format=form,
                parts={"accuracy": accuracy, "format": form},
                groups_with_signal=fmean(float(len({*group}) > 1) for group in rewards),
                groups_all_right=fmean(float(min(group) == 1.0) for group in solved),
                groups_all_wrong=fmean(float(max(group) == 0.0) for group in solved),
                num_sampled_tokens=50 * groups * members,
            )
            | changes
        )
    return steps


def told(steps: Sequence[dict[str, Any]], plan: Plan | None = PLAN) -> str:
    """Return the sentence of the last step."""
    return verdict(steps[:-1], steps[-1], plan)


def flat(level: float, format_level: float = 0.8, **options: Any) -> Steps:
    return drawn(20, lambda i: level, lambda i: format_level, **options)


def last_changed(steps: Steps, **changes: Any) -> Steps:
    return [*steps[:-1], steps[-1] | changes]


def rises(i: int) -> float:
    return 0.1 + 0.02 * i


def of_kinds(step_of_change: int, before: dict[str, float], after: dict[str, float]) -> Steps:
    """Return a run of two kinds of problems, whose accuracies change at a step."""
    steps = []
    for i in range(1, 21):
        kinds = before if i < step_of_change else after
        accuracy = fmean(kinds.values()) + 0.01 * (i % 2)
        by_kind = {kind: value + 0.01 * (i % 2) for kind, value in kinds.items()}
        steps.append(step(step=i, reward_mean=accuracy, accuracy=accuracy, accuracy_by=by_kind))
    return steps


def with_part(steps: Steps, name: str, value: Callable[[int], float]) -> Steps:
    """Return the run with a further part of the reward."""
    found = []
    for i, line in enumerate(steps, start=1):
        reward = line["reward_mean"] + value(i)
        found.append(line | {"reward_mean": reward, "parts": line["parts"] | {name: value(i)}})
    return found


def format_of_kinds(before: dict[str, float], after: dict[str, float]) -> Steps:
    """Return a run whose format falls from 81% to 0 in its second step, as do its kinds of problems."""
    steps = drawn(8, lambda i: 0.0, lambda i: 0.81 if i == 1 else 0.0, truncated=0.6)
    return [
        line | {"accuracy": fmean(kinds.values()), "accuracy_by": kinds}
        for line, kinds in zip(steps, [before, *[after] * 7], strict=True)
    ]


BUILT: dict[str, tuple[Steps, str]] = {
    "accuracy rises": (drawn(20, rises), "learning: accuracy +"),
    "accuracy rises fast in a few steps": (
        drawn(6, lambda i: 0.12 * i - 0.1, groups=48),
        "learning: accuracy +",
    ),
    "accuracy rises slowly and surely": (
        drawn(60, lambda i: 0.2 + 0.004 * i, groups=48),
        "learning: accuracy +",
    ),
    "accuracy rises while completions are truncated": (
        drawn(20, rises, truncated=0.4),
        "; truncated: 40% of completions are truncated; raise sampling.max_tokens",
    ),
    "noise of a rate that is far too small": (
        flat(0.15, groups=8, members=8, ratio_max=1.0005),
        "too slow: the policy hardly changes (largest ratio 1.0005), reward ",
    ),
    "a gain too small for the steps planned": (
        drawn(60, lambda i: 0.2 + 0.0012 * i, groups=400, seed=1),
        "too slow: accuracy +",
    ),
    "format rises, nothing was ever correct": (
        drawn(20, lambda i: 0.0, lambda i: 0.3 + 0.03 * i),
        "learning the format only: format +",
    ),
    "format rises, accuracy stays": (
        drawn(20, lambda i: 0.2, lambda i: 0.3 + 0.03 * i, groups=48, format_weight=1.0),
        "learning the format only: format +",
    ),
    "format and accuracy rise": (
        drawn(20, rises, lambda i: 0.3 + 0.03 * i, format_weight=1.0),
        "learning: accuracy +",
    ),
    "the reward of an own function rises": (
        with_part(flat(0.2), "brief", lambda i: 0.05 * i),
        "learning: reward +",
    ),
    "the reward rises while accuracy falls": (
        with_part(drawn(20, lambda i: 0.6 - 0.025 * i), "brief", lambda i: 0.1 * i),
        "reward without accuracy: reward +",
    ),
    "14.6% to 0 in one step": (
        drawn(13, lambda i: 0.146 if i <= 12 else 0.0, lambda i: 0.9 if i <= 12 else 0.0, no_answer=1.0),
        "collapsed at step 13: ",
    ),
    "long after a collapse, all truncated": (
        drawn(40, lambda i: 0.3 if i <= 12 else 0.0, lambda i: 0.9 if i <= 12 else 0.0, truncated=1.0),
        "collapsed at step 13: accuracy ",
    ),
    "a collapse in the second step": (
        drawn(4, lambda i: 0.3 if i <= 1 else 0.0, lambda i: 0.9 if i <= 1 else 0.0, groups=48),
        "collapsed at step 2: ",
    ),
    "a rise after a collapse": (
        drawn(40, lambda i: 0.8 if i <= 10 else 0.02 * max(0, i - 28), groups=48),
        "learning: accuracy +",
    ),
    "accuracy falls steadily": (drawn(20, lambda i: 0.7 - 0.016 * i), "getting worse: accuracy -"),
    "accuracy falls as completions are truncated": (
        drawn(20, lambda i: 0.7 - 0.016 * i, truncated=0.6),
        "; truncated: 60% of completions are truncated; raise sampling.max_tokens",
    ),
    "all correct": (
        drawn(20, lambda i: 1000.0),
        "saturated: ",
    ),
    "all groups correct but for a few": (
        last_changed(flat(0.5), groups_with_signal=0.05, groups_all_right=0.9),
        "saturated: ",
    ),
    "nothing correct, format learned": (
        flat(0.0, 1.0),
        "no signal: 100% of groups have zero variance, 100% all incorrect; use easier problems",
    ),
    "a reward that never tells correct from incorrect": (
        last_changed(flat(0.3), groups_with_signal=0.0, groups_all_right=0.1, groups_all_wrong=0.4),
        "no signal: 100% of groups have zero variance, 40% all incorrect; in 50% of groups some completions "
        "are correct and the reward is the same for all; check the functions and weights of reward",
    ),
    "an own function that gives nothing": (
        last_changed(
            with_part(flat(0.0, 1.0), "user", lambda i: 0.0), groups_with_signal=0.0, groups_all_wrong=1.0
        ),
        "no signal: 100% of groups have zero variance, 100% all incorrect; check the functions and weights",
    ),
    "format collapses among other kinds of problems, nothing ever correct": (
        format_of_kinds({"sums/1": 0.0, "sums/2": 0.0}, {"sums/1": 0.0, "sums/3": 0.0}),
        "collapsed at step 2: format ",
    ),
    "format collapses, no kind of problem stayed": (
        format_of_kinds({"sums/1": 0.0}, {"sums/3": 0.0}),
        "collapsed at step 2: format ",
    ),
    "format falls since other problems came, those that stayed are solved as before": (
        format_of_kinds({"sums/1": 0.6}, {"sums/1": 0.6, "sums/8": 0.0, "sums/9": 0.0}),
        "truncated: ",
    ),
    "nothing correct, format varies": (
        flat(0.0, 0.5),
        "no signal: no completion of 10 steps was correct; use easier problems",
    ),
    "nothing correct, all truncated": (
        flat(0.0, 0.5, truncated=0.9),
        "truncated: 90% of completions are truncated; raise sampling.max_tokens",
    ),
    "no completion has an answer": (
        flat(0.05, 0.1, no_answer=0.9),
        "no answer: 90% of completions have no answer in the form of prompt.style; raise prompt.examples",
    ),
    "far from the reference": (flat(0.3, kl=1.5), "far from the reference: KL is 1.50 nats per token"),
    "few completions": (flat(0.5, groups=4, members=4), "noisy: reward "),
    "many completions, nothing moves": (flat(0.3, groups=200), "flat: reward "),
    "entropy used up": (flat(0.3, groups=200, entropy=0.01), "low entropy: 0.010 nats per token"),
    "a rise that ended long ago": (
        drawn(60, lambda i: min(0.6, 0.05 * i), groups=100),
        "flat: reward ",
    ),
    "a young run": (drawn(3, lambda i: 0.1 * i), "warming up: "),
    "a young run without signal": (drawn(1, lambda i: 0.0, lambda i: 0.0), "no signal: "),
    "a failing verifier": (
        last_changed(drawn(20, rises), verifier_errors=30),
        "no verdict: the verifier failed on 30 completions (left out); `zerone reward test` shows why",
    ),
    "a failing function": (
        last_changed(
            flat(0.3), verifier_errors=30, reward_failures={"brief": {"count": 30, "first": "KeyError: 'x'"}}
        ),
        "no verdict: reward 'brief' failed on 30 completions (left out): KeyError: 'x'",
    ),
    "nothing judged in a step": (
        last_changed(flat(0.3), verifier_errors=256, accuracy=None, reward_mean=None, format=None),
        "no verdict: the verifier failed on 256 completions",
    ),
    "easier problems join": (
        of_kinds(11, {"sums/1": 0.1, "sums/2": 0.1}, {"sums/1": 0.1, "sums/2": 0.1, "sums/0": 0.9}),
        "flat: accuracy on the kinds of problems that stayed ",
    ),
    "harder problems join": (
        of_kinds(18, {"sums/1": 0.6}, {"sums/1": 0.6, "sums/8": 0.0, "sums/9": 0.0}),
        "flat: accuracy on the kinds of problems that stayed ",
    ),
    "the same problems collapse": (
        of_kinds(16, {"sums/1": 0.6, "sums/2": 0.7}, {"sums/1": 0.0, "sums/2": 0.05}),
        "collapsed at step 16: accuracy ",
    ),
}


@pytest.mark.parametrize("name", BUILT)
def test_each_built_run_has_its_sentence(name: str) -> None:
    steps, sentence = BUILT[name]
    found = told(steps)
    assert sentence in found if sentence.startswith(";") else found.startswith(sentence), found


@pytest.mark.parametrize("key", [key for _, key, _ in COLUMNS])
def test_a_step_that_trained_on_nothing_shows_no_figure_of_its_tokens(key: str) -> None:
    line = step(step=1, grad_norm=0.0, mismatch_kl=0.0, entropy=0.0, reflection_words=0.0)
    assert written(line | {"num_trained_tokens": 9}, key, "{}") != "-"
    assert (written(line | {"num_trained_tokens": 0}, key, "{}") == "-") is (
        key in ("entropy", "mismatch_kl")
    )


def test_entropy_that_was_not_measured_is_not_low() -> None:
    steps = last_changed(flat(0.3, groups=200), entropy=0.0, num_trained_tokens=0)
    assert not told(steps).startswith("low entropy")
    assert told(last_changed(steps, num_trained_tokens=9)).startswith("low entropy")


def test_every_state_is_in_the_table() -> None:
    assert {state_of(told(steps)) for steps, _ in BUILT.values()} >= {*STATES} - {"uncertain"}


def state_of(sentence: str) -> str:
    return sentence.partition(":")[0].partition(" at step")[0]


@pytest.mark.parametrize("state", STATES)
def test_the_page_explains_every_sentence(state: str) -> None:
    assert f"| `{state}" in DEBUG_PAGE


@pytest.mark.parametrize("column", [name for name, _, _ in COLUMNS] + ["s"])
def test_the_page_explains_every_column(column: str) -> None:
    assert f"| `{column}` |" in DEBUG_PAGE


# Real runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "states", "last"),
    [
        ("rate 5e-4", {"warming up", "uncertain", "noisy", "learning"}, "learning"),
        ("rate 1e-6", {"warming up", "too slow"}, "too slow"),
        ("rate 0.05", {"far from the reference", "collapsed"}, "collapsed"),
        (
            "no correct completion",
            {"warming up", "no signal", "learning the format only"},
            "learning the format only",
        ),
    ],
)
def test_recorded_runs_have_their_sentences(name: str, states: set[str], last: str) -> None:
    steps = RECORDED["runs"][name]
    found = [state_of(verdict(steps[:i], steps[i], PLAN)) for i in range(len(steps))]
    assert {*found} <= states, found
    assert found[-1] == last


# What there is to say -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "advice"),
    [
        (PLAN, "go back to checkpoints/step_000010 (model.path) and lower optim.learning_rate"),
        (
            Plan(steps=30, checkpoint_every=5, checkpoint_keep=1),
            "no checkpoint from before is kept, start again with a lower optim.learning_rate",
        ),
        (
            Plan(steps=30, checkpoint_every=50, checkpoint_keep=2),
            "no checkpoint from before is kept, start again with a lower optim.learning_rate",
        ),
        (
            Plan(steps=30, checkpoint_every=3, checkpoint_keep=9),
            "go back to checkpoints/step_000012 (model.path) and lower optim.learning_rate",
        ),
        (None, "go back to a checkpoint from before it and lower optim.learning_rate"),
    ],
)
def test_after_a_collapse_the_newest_checkpoint_before_it_is_named(plan: Plan | None, advice: str) -> None:
    steps = drawn(15, lambda i: 0.3 if i <= 12 else 0.0)
    assert told(steps, plan).endswith(f"; {advice}")


def test_a_step_of_an_obstacle_or_a_little_of_it_is_none() -> None:
    for changes in ({"verifier_errors": 12}, {"kl": 0.9}, {"truncated": 0.2}, {"no_answer": 0.7}):
        assert state_of(told(last_changed(flat(0.3, groups=200), **changes))) == "flat", changes


def test_the_most_telling_cause_comes_first() -> None:
    """Truncated completions have no answer and no signal: the room is the cause, the rest its effect."""
    silent = {"groups_with_signal": 0.0, "groups_all_wrong": 1.0, "groups_all_right": 0.0}
    all_at_once = {"verifier_errors": 50, "truncated": 0.9, "no_answer": 0.9, **silent, "kl": 2.0}
    for name, state in (
        ("verifier_errors", "no verdict"),
        ("truncated", "truncated"),
        ("no_answer", "no answer"),
        ("groups_with_signal", "no signal"),
    ):
        assert state_of(verdict([], step(**all_at_once))) == state
        all_at_once.pop(name)
    assert state_of(verdict([], step(**all_at_once))) == "far from the reference"


def test_a_critic_needs_no_signal_within_groups() -> None:
    silent = {"groups_with_signal": 0.0, "groups_all_wrong": 0.5, "groups_all_right": 0.5}
    assert state_of(told(last_changed(flat(0.3), **silent))) == "no signal"
    assert state_of(told(last_changed(flat(0.3), **silent, value_loss=0.1))) != "no signal"


def test_metrics_of_older_runs_are_read() -> None:
    """Runs of before have no standard errors over groups."""
    fields = ("reward_mean_se", "accuracy_se", "reward_std", "num_updates", "ratio_max", "parts", "format")
    bare = [{key: value for key, value in line.items() if key not in fields} for line in drawn(20, rises)]
    assert told(bare).startswith("learning: accuracy +")


@pytest.mark.parametrize(
    ("sentence", "is_so"),
    [
        ("learning: accuracy +3.0 points in 10 steps", True),
        ("learning", True),
        ("learning the format only: format +3.0 points in 10 steps", False),
        ("learning: accuracy +3.0 points in 10 steps; truncated: 40% of completions are truncated", False),
        ("flat: reward +0.000 +/- 0.010 in 10 steps", False),
    ],
)
def test_only_learning_without_an_obstacle_is_learning(sentence: str, is_so: bool) -> None:
    assert is_learning(sentence) is is_so


# The tests against noise --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "freedom", "tail"),
    [
        *((12.706, 1, 0.025), (2.920, 2, 0.05), (5.841, 3, 0.005), (2.132, 4, 0.05), (1.860, 8, 0.05)),
        *((4.501, 8, 0.001), (3.610, 18, 0.001), (1.697, 30, 0.05), (0.0, 5, 0.5), (-1.860, 8, 0.95)),
    ],
)
def test_tail_of_students_t_is_that_of_the_tables(t: float, freedom: int, tail: float) -> None:
    # The tables give three decimals of t.
    assert upper_tail(t, freedom) == pytest.approx(tail, rel=2e-3)


@pytest.mark.parametrize("seed", range(12))
def test_noise_is_neither_learning_nor_worse_nor_a_collapse(seed: int) -> None:
    """p < 0.001 of each of some windows: of 12 runs of 25 steps about one sentence in 300 may be wrong."""
    steps = flat(0.3, groups=8, members=8, seed=seed)
    found = [state_of(verdict(steps[:i], steps[i])) for i in range(len(steps))]
    assert {*found} <= {"warming up", "noisy", "uncertain", "flat"}


def test_the_rate_of_false_alarms_is_what_the_docstring_says() -> None:
    """Of values without a trend, fewer than SIGNIFICANT are told as a rise; 20,000 windows see 20 at most."""
    rng = random.Random(1)
    windows = [[{"entropy": rng.gauss(0, 1)} for _ in range(10)] for _ in range(20_000)]
    trends = [trend_of(window, "entropy") for window in windows]
    # Three standard deviations of a count of 20 above it.
    assert sum(trend is not None and trend.is_rise for trend in trends) <= 20_000 * SIGNIFICANT + 13
    likely = sum(trend is not None and trend.p_rise < 0.05 for trend in trends) / 20_000
    assert likely == pytest.approx(0.05, abs=0.005)


def test_the_error_of_a_step_is_taken_over_groups_where_there_is_one() -> None:
    line = step(reward_std=0.4)
    assert standard_error(line, "reward_mean") == pytest.approx(0.4 / 10)
    assert standard_error(line | {"reward_mean_se": 0.1}, "reward_mean") == 0.1
    assert standard_error(line, "accuracy") == pytest.approx(0.05)
    assert standard_error(line, "entropy") is None


def test_a_step_of_few_completions_hides_what_steps_alone_would_tell() -> None:
    """Ten steps on a straight line scatter nowhere; the noise of their completions still bounds the trend."""
    line = [step(reward_mean=0.5 + 0.01 * i, reward_std=0.5) for i in range(10)]
    few = [one | {"num_sampled_tokens": 500} for one in line]
    many = [one | {"num_sampled_tokens": 500_000} for one in line]
    found = [trend_of(steps, "reward_mean") for steps in (few, many)]
    assert [trend is not None and trend.is_rise for trend in found] == [False, True]


def test_a_dip_of_one_step_is_no_collapse_once_it_is_over() -> None:
    steps = drawn(15, lambda i: 0.0 if i == 8 else 0.5, groups=48)
    assert collapse_of(steps[:8], "accuracy") is not None
    assert collapse_of(steps, "accuracy") is None
