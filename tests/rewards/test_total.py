"""The reward as a whole: optional parts, styles, functions of the user's own."""

from dataclasses import replace
from pathlib import Path

import pytest

from fakes import number_problem
from scripted import (
    make_config,
    make_engine,
    member,
    play_digits,
    talking_model,
)
from training import make_learner
from zerone.config import build_config
from zerone.errors import ConfigError, TrainingError
from zerone.prompts.r1 import Style
from zerone.rewards.accuracy import NO_VERDICT, Verdict, verdict_of
from zerone.rewards.total import PARTS, RewardRules, RewardWeights, grade
from zerone.rewards.user import load_user_reward
from zerone.train.loop import rules_of, weights_of
from zerone.types import Outcome, Rollout

GOOD = "<think>we add both numbers</think><answer>7</answer>"


def rollout_of(text: str, num_tokens: int = 1) -> Rollout:
    return member(text=text, problem=number_problem(7), completion=[3] * num_tokens).rollout


def test_without_weights_for_them_optional_parts_do_not_exist() -> None:
    found = grade(rollout_of(GOOD), RewardWeights())
    assert found.parts == {"accuracy": 1.0, "format": 1.0}
    assert found.reward == 1.1


@pytest.mark.parametrize(("verifier", "form"), [("number", 0.0), ("code", 1.0), ("judge", 1.0)])
def test_in_the_boxed_style_what_is_judged_as_a_text_needs_no_box(verifier: str, form: float) -> None:
    problem = replace(number_problem(7), verifier=verifier)
    rollout = member(text="<think>I greet.</think>\nHello!", problem=problem, completion=[3]).rollout
    assert grade(rollout, RewardWeights(), rules=RewardRules(style=Style.BOXED)).parts["format"] == form


def test_every_part_with_a_weight_is_recorded_and_counts(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def half(completion, answer, problem):\n    return 0.5\n")
    weights = RewardWeights(accuracy=1.0, format=0.5, language=2.0, repetition=4.0, overlong=8.0, user=16.0)
    rules = RewardRules(max_tokens=100, overlong_buffer=20, user=load_user_reward(f"{tmp_path}/own.py:half"))
    found = grade(rollout_of(GOOD, num_tokens=90), weights, rules=rules)
    assert tuple(found.parts) == PARTS
    assert found.parts["language"] == 1.0
    assert found.parts["overlong"] == -0.5
    assert found.parts["user"] == 0.5
    assert found.reward == pytest.approx(1.0 + 0.5 + 2.0 + 0.0 - 4.0 + 8.0)


def test_a_thought_in_another_language_earns_no_language_part() -> None:
    weights = RewardWeights(language=1.0)
    chinese = "<think>我们把两个数相加</think><answer>7</answer>"
    assert grade(rollout_of(chinese), weights).parts["language"] == 0.0
    assert grade(rollout_of(GOOD.replace("7", "七")), weights).parts["language"] == 1.0
    assert grade(rollout_of("<think></think><answer>we add</answer>"), weights).parts["language"] == 0.0


def test_a_loop_is_punished() -> None:
    text = f"<think>{'no wait ' * 100}</think><answer>7</answer>"
    assert grade(rollout_of(text), RewardWeights(repetition=1.0)).reward < 0.2


@pytest.mark.parametrize(
    ("style", "text", "outcome", "form"),
    [
        (Style.BOXED, r"<think>a</think>It is \boxed{7}.", Outcome.CORRECT, 1.0),
        (Style.BOXED, r"<think>a</think>It is $-\boxed{7}$.", Outcome.UNPARSABLE, 1.0),
        (Style.BOXED, r"<think>a</think><answer>7</answer>", Outcome.UNPARSABLE, 0.0),
        (Style.TAGS, r"<think>a</think>It is \boxed{7}.", Outcome.UNPARSABLE, 0.0),
        (Style.SUMMARY, "<think>a</think>7", Outcome.CORRECT, 1.0),
        (Style.SUMMARY, "<think>a</think>It is 7.", Outcome.UNPARSABLE, 1.0),
    ],
)
def test_the_style_says_where_the_answer_is(style: Style, text: str, outcome: Outcome, form: float) -> None:
    found = grade(rollout_of(text), RewardWeights(), rules=RewardRules(style=style))
    assert (found.outcome, found.parts["format"]) == (outcome, form)


# Functions of the user's own ----------------------------------------------------------------------

SOURCE = """
def facts(completion, answer, problem):
    return 1.0 if completion.endswith(f"<answer>{answer}</answer>") and problem["id"] == "say-7" else 0.0

def fails(completion, answer, problem):
    raise KeyError(answer)

def endless(completion, answer, problem):
    return float("inf")

def nothing(completion, answer, problem):
    return None

def pattern(completion, answer, problem):
    import re
    return float(bool(re.search("(", completion)))

def exhausted(completion, answer, problem):
    return next(iter([]))

def leaves(completion, answer, problem):
    raise SystemExit(3)

class Own(Exception):
    def __str__(self):
        return 1 / 0

def own_kind(completion, answer, problem):
    raise Own

def text(completion, answer, problem):
    return "0.5"

def many(completion, answer, problem):
    return [0.5, 0.5]

number = 3
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_a_function_sees_completion_answer_and_problem(source: Path) -> None:
    rules = RewardRules(user=load_user_reward(f"{source}:facts"))
    found = grade(rollout_of("a</think><answer>7</answer>"), RewardWeights(user=2.0), "<think>", rules)
    assert found.parts["user"] == 1.0
    assert found.reward == pytest.approx(3.1)


@pytest.mark.parametrize(
    "name", ["fails", "endless", "pattern", "exhausted", "leaves", "own_kind", "text", "many"]
)
def test_a_function_that_fails_is_no_reward_of_zero(source: Path, name: str) -> None:
    rules = RewardRules(user=load_user_reward(f"{source}:{name}"))
    assert not grade(rollout_of(GOOD), RewardWeights(user=1.0), rules=rules).is_judged


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("own.py", "write path.py:function"),
        (":facts", "write path.py:function"),
        ("nowhere.py:facts", "no file nowhere.py"),
        ("{source}:other", "it has facts, fails, endless, nothing, pattern, exhausted, leaves"),
        ("{source}:number", "no function 'number'"),
        ("{broken}:f", "cannot be loaded: SyntaxError"),
        ("{raising}:f", "cannot be loaded: ZeroDivisionError: division by zero at .*raising.py:1"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_named(source: Path, reference: str, message: str) -> None:
    broken, raising = source.with_name("broken.py"), source.with_name("raising.py")
    broken.write_text("def f(:\n")
    raising.write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=message):
        load_user_reward(reference.format(source=source, broken=broken, raising=raising))


# Configuration ------------------------------------------------------------------------------------


def test_by_default_the_reward_is_that_of_r1_zero() -> None:
    config = build_config({})
    assert weights_of(config) == RewardWeights(accuracy=1.0, format=0.1)
    assert rules_of(config).style is Style.TAGS


def test_options_reach_weights_and_rules(source: Path) -> None:
    config = build_config(
        {
            "reward.language": 0.3,
            "reward.repetition": 0.4,
            "reward.overlong": 0.5,
            "reward.overlong_share": 0.25,
            "reward.user": 0.6,
            "reward.function": f"{source}:facts",
            "prompt.style": "boxed",
            "sampling.max_tokens": 200,
        }
    )
    weights, rules = weights_of(config), rules_of(config)
    assert (weights.language, weights.repetition, weights.overlong, weights.user) == (0.3, 0.4, 0.5, 0.6)
    assert (rules.style, rules.max_tokens, rules.overlong_buffer) == (Style.BOXED, 200, 50)
    assert rules.user is load_user_reward(f"{source}:facts")


@pytest.mark.parametrize(
    "options",
    [{"reward.user": 1.0}, {"reward.function": "own.py:f"}, {"reward.accuracy": 0, "reward.format": 0}],
)
def test_weights_that_cannot_work_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        build_config(options)


def test_a_run_whose_verifier_never_works_stops_and_one_that_fails_later_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, model = make_config(rl__steps=2), talking_model()
    calls = list[str]()

    def fails(answer: str, spec: object) -> Verdict:
        calls.append(answer)
        if len(calls) > works:
            raise OSError("no worker")
        return verdict_of(True, answer)

    monkeypatch.setattr("zerone.rewards.total.verifier_named", lambda name: fails)
    monkeypatch.setattr("zerone.rewards.total.UNPARSABLE", NO_VERDICT)
    works = 0
    (tmp_path / "never").mkdir()
    with pytest.raises(TrainingError, match="step 1: no completion could be judged"):
        play_digits(config, make_learner(model, config), make_engine(model), tmp_path / "never")
    calls.clear()
    works = 1
    (tmp_path / "once").mkdir()
    run = play_digits(config, make_learner(model, config), make_engine(model), tmp_path / "once")
    first, second = run.read_metrics()
    assert first["accuracy"] == 1.0
    for name in ("reward_mean", "reward_std", "accuracy", "format"):
        assert second[name] is None
    assert "the verifier failed on 32 completions" in second["verdict"]


def test_a_run_records_every_part_and_outcome(tmp_path: Path) -> None:
    config = make_config(rl__steps=1, reward__language=0.2, reward__repetition=0.1, reward__overlong=0.1)
    model = talking_model()
    run = play_digits(config, make_learner(model, config), make_engine(model), tmp_path)
    (line,) = run.read_metrics()
    assert set(line["parts"]) == {"accuracy", "format", "language", "repetition", "overlong"}
    assert line["parts"]["accuracy"] == line["accuracy"]
    assert sum(line["outcomes"].values()) == 32
    assert line["parts"]["overlong"] < 0 <= line["parts"]["language"]
