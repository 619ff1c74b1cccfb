"""Rewards of the user's own: signatures, what is returned and raised, several by name, and their runs."""

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes import number_problem
from processes import call_main
from scripted import member
from zerone.config import build_config, to_yaml
from zerone.config.reading import flat_options
from zerone.config.sections import PARTS as NAMES
from zerone.errors import ConfigError
from zerone.report import claims
from zerone.report.record import read_record
from zerone.rewards.preference import KINDS
from zerone.rewards.scoring import score_row
from zerone.rewards.total import PARTS, NamedReward, RewardRules, RewardWeights, grade_all
from zerone.rewards.user import (
    Asked,
    RewardFailure,
    UserReward,
    Value,
    ask,
    load_user_reward,
    number_of,
)
from zerone.runs.directory import RunDir
from zerone.train.loop import rules_of
from zerone.types import Finish, Graded, Problem

ASKED = (
    Asked(completion="one two", answer="7", num_tokens=2, is_truncated=False, completion_ids=(3, 4)),
    Asked(completion="three", answer=None, num_tokens=1, is_truncated=True, completion_ids=(5,)),
)
ROW = {"prompt": "Say 7.", "answer": "7", "difficulty": "hard", "tags": ["a", "b"]}
PROBLEM = replace(number_problem(7), row=ROW)


def load(tmp_path: Path, source: str, name: str = "f") -> UserReward:
    path = tmp_path / "own.py"
    path.write_text(source, encoding="utf-8")
    return load_user_reward(f"{path}:{name}")


def values(function: UserReward, asked: Sequence[Asked] = ASKED, problem: Problem = PROBLEM) -> list[Value]:
    return ask("own", function, asked, problem, step=5)


# Signatures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(completion, answer, problem): return len(completion)", [7, 5]),
        ("def f(text, gold, about): return gold is None", [0, 1]),
        ("def f(text): return len(text)", [7, 5]),
        ("def f(problem): return problem['difficulty'] == 'hard'", [1, 1]),
        ("def f(answer): return answer == '7'", [1, 0]),
        ("def f(completion, *, step): return step", [5, 5]),
        ("def f(completion, num_tokens, truncated): return num_tokens + 10 * truncated", [2, 11]),
        ("def f(completion, answer, problem, scale=3): return scale", [3, 3]),
        ("def f(completion, scale=3.0): return scale", [3, 3]),
        ("def f(completion, scale=3.0, step=None): return scale + step", [8, 8]),
        ("def f(*args): return len(args)", [3, 3]),
        ("def f(completion, **facts): return facts['step'] + len(facts['completion_ids'])", [7, 6]),
        ("def f(**facts): return facts['completion'] == 'three'", [0, 1]),
        ("def f(completion, /, answer): return len(completion)", [7, 5]),
        ("f = lambda c, a, p: p['row']['tags'] == ['a', 'b'] and p['prompt'] != ''", [1, 1]),
        ("import functools\ndef g(c, a, p, *, k): return k\nf = functools.partial(g, k=4)", [4, 4]),
        ("class C:\n    def __call__(self, completion, answer, problem): return 2\nf = C()", [2, 2]),
        ("class C:\n    def m(self, completion): return 2\nf = C().m", [2, 2]),
        ("def f(completions, **kwargs): return [len(c) for c in completions]", [7, 5]),
        ("def f(prompts, completions, **kwargs): return [float(len(p) > 0) for p in prompts]", [1, 1]),
        ("def f(completions, answer, **kwargs): return [a == '7' for a in answer]", [1, 1]),
        ("def f(completions, difficulty, tags): return [len(t) for t in tags]", [2, 2]),
        ("def f(completions, completion_ids, **kw): return [len(i) for i in completion_ids]", [2, 1]),
        ("def f(completions, answers, truncated): return [a is None for a in answers]", [0, 1]),
        ("def f(completions, num_tokens, step): return [step * n for n in num_tokens]", [10, 5]),
        ("def f(completions, problem): return [problem['row']['difficulty'] == 'hard'] * 2", [1, 1]),
        ("def f(completions, *, missing=None, **kw): return [missing is None] * 2", [1, 1]),
        ("def f(completions): return (x for x in (1, 2))", [1, 2]),
        ("def f(completions): return (1, None)", [1, None]),
        ("import numpy\ndef f(completions): return numpy.array([1, 2], dtype=numpy.float32)", [1, 2]),
        ("import torch\ndef f(completions): return torch.tensor([1, 2])", [1, 2]),
        ("async def f(completion, answer, problem): return len(completion)", [7, 5]),
        ("async def f(completions, **kwargs): return [1, 2]", [1, 2]),
        ("import asyncio\nasync def f(completion):\n    await asyncio.sleep(0.001)\n    return 4", [4, 4]),
        (
            "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass R:\n"
            "    v: float\ndef f(completion): return R(3).v",
            [3, 3],
        ),
    ],
)
def test_a_function_gets_what_it_asks_for(tmp_path: Path, source: str, expected: list[float | None]) -> None:
    assert values(load(tmp_path, source)) == expected


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("def f(): return 1", "takes no arguments; write function(completion, answer, problem)"),
        ("def f(completion, answer, problem, tokenizer): return 1", "asks for 'tokenizer'"),
        ("def f(completion, *, gold): return 1", "asks for 'gold'"),
        ("def f(*, seed, ground_truth): return 1", "takes no arguments"),
        ("import sys\nsys.exit('no key')", r"cannot be loaded: SystemExit: no key at .*own.py:2"),
        ("raise SystemExit", r"cannot be loaded: SystemExit at .*own.py:1"),
        ("quit()", "cannot be loaded: SystemExit"),
        ("class E(BaseException): pass\nclass F(Exception): pass\nraise F('x')", "cannot be loaded: F: x"),
        ("import nowhere_at_all", "cannot be loaded: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def f(:", "cannot be loaded: SyntaxError"),
        ("def g(a): return 1", "has no function 'f'; it has g"),
        ("f = 3", "has no function 'f'; it has none"),
        ("assert False, 'a\\nb'", "cannot be loaded: AssertionError: a b at"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_when_loaded(
    tmp_path: Path, source: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint.replace("(", r"\(").replace(")", r"\)")):
        load(tmp_path, source)


def test_a_column_with_the_name_of_a_fact_is_the_column_in_trls_signature_alone(tmp_path: Path) -> None:
    row = {"problem": "a question", "step": 3, "prompt": "x", "completions": "y"}
    problem = replace(PROBLEM, row=row)
    trl = load(tmp_path, "def f(completions, problem, step, **kw): return [len(problem[0]) + step[0]] * 2")
    assert values(trl, problem=problem) == [13, 13]
    (tmp_path / "ours").mkdir()
    ours = load(
        tmp_path / "ours", "def f(completions, problem, step): return [len(problem['id']) + step] * 2"
    )
    assert values(ours, problem=problem) == [len(PROBLEM.id) + 5] * 2


def test_conversations_are_given_to_trls_signature_as_messages(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Say 7."}]
    problem = replace(PROBLEM, row={"prompt": messages})
    source = (
        "def f(prompts, completions, **kw):\n"
        "    return [len(c[0]['content']) + len(p[-1]['content']) for c, p in zip(completions, prompts)]\n"
    )
    assert values(load(tmp_path, source), problem=problem) == [13, 11]


def test_a_problem_without_a_row_gives_its_spec_as_columns(tmp_path: Path) -> None:
    function = load(tmp_path, "def f(completions, answer, **kw): return [a == '7' for a in answer]")
    assert values(function, problem=number_problem(7)) == [1, 1]


def test_awaited_functions_of_a_group_run_at_once_and_in_one_loop(tmp_path: Path) -> None:
    source = (
        "import asyncio\nbarrier = asyncio.Barrier(2)\nloops = set()\n"
        "async def f(completion):\n    loops.add(id(asyncio.get_running_loop()))\n"
        "    await asyncio.wait_for(barrier.wait(), 20)\n    return len(loops)\n"
    )
    function = load(tmp_path, source)
    assert [values(function) for _ in range(3)] == [[1, 1]] * 3


def test_a_function_runs_in_the_thread_of_its_caller(tmp_path: Path) -> None:
    """A time limit by signal.alarm, as users' own verifiers have it, works in the main thread alone."""
    function = load(tmp_path, "import threading\ndef f(completion): return threading.get_ident() % 2**50")
    assert values(function) == [threading.get_ident() % 2**50] * 2


# What is returned ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ("1", 1.0),
        ("-2.5", -2.5),
        ("True", 1.0),
        ("False", 0.0),
        ("fractions.Fraction(1, 4)", 0.25),
        ("decimal.Decimal('0.5')", 0.5),
        ("numpy.float64(0.5)", 0.5),
        ("numpy.float32(0.5)", 0.5),
        ("numpy.float16(0.5)", 0.5),
        ("numpy.int64(3)", 3.0),
        ("numpy.uint8(3)", 3.0),
        ("numpy.bool_(True)", 1.0),
        ("numpy.array(0.5)", 0.5),
        ("numpy.array([0.5])", 0.5),
        ("torch.tensor(0.5)", 0.5),
        ("torch.tensor([0.5])", 0.5),
        ("torch.tensor(0.5, requires_grad=True)", 0.5),
        ("torch.tensor(True)", 1.0),
        ("torch.tensor(0.5, dtype=torch.bfloat16)", 0.5),
        ("sympy.Rational(1, 4)", 0.25),
        ("None", None),
        ("10**300", 1e300),
    ],
)
def test_any_real_number_is_a_reward(tmp_path: Path, expression: str, number: float | None) -> None:
    imports = "import decimal, fractions, numpy, torch, sympy\n"
    one = load(tmp_path, f"{imports}def f(completion, answer, problem): return {expression}")
    assert values(one) == [number, number]
    assert all(value is None or type(value) is float for value in values(one))
    (tmp_path / "g").mkdir()
    group = load(tmp_path / "g", f"{imports}def f(completions, **kw): return [{expression}] * 2")
    assert values(group) == [number, number]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("'0.5'", "TypeError: a reward must be a finite number or None, not str '0.5'"),
        ("b'1'", "TypeError: a reward must be a finite number or None, not bytes"),
        ("[0.5]", "TypeError: a reward must be a finite number or None, not list"),
        ("{'score': 1}", "TypeError: a reward must be a finite number or None, not dict"),
        ("1j", "TypeError: a reward must be a finite number or None, not complex"),
        ("object()", "TypeError: a reward must be a finite number or None, not object"),
        ("print", "TypeError: a reward must be a finite number"),
        ("float('nan')", "ValueError: a reward must be a finite number, not nan"),
        ("float('inf')", "ValueError: a reward must be a finite number, not inf"),
        ("decimal.Decimal('NaN')", "ValueError: a reward must be a finite number, not nan"),
        ("decimal.Decimal('sNaN')", "ValueError"),
        ("10**400", "ValueError: a reward must be a finite number; this one is too large"),
        ("numpy.array([1, 2])", "ValueError"),
        ("torch.tensor([1.0, 2.0])", "RuntimeError"),
        ("torch.tensor(float('nan'))", "ValueError: a reward must be a finite number, not nan"),
        ("numpy.complex64(1j)", "TypeError: a reward must be a finite number"),
        ("(x for x in (1,))", "TypeError: a reward must be a finite number"),
    ],
)
def test_what_is_no_finite_number_is_named(tmp_path: Path, expression: str, reason: str) -> None:
    found = values(
        load(
            tmp_path, f"import decimal, numpy, torch\ndef f(completion, answer, problem): return {expression}"
        )
    )
    for value in found:
        assert isinstance(value, RewardFailure)
        assert reason in value.reason


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("[1]", "it must return 2 numbers, one per completion, and returned 1"),
        ("[1, 2, 3]", "it must return 2 numbers, one per completion, and returned more"),
        ("[]", "and returned 0"),
        ("itertools.count()", "and returned more"),
        ("1.0", "it must return a list of 2 numbers, one per completion, not float 1.0"),
        ("None", "not NoneType None"),
        ("'12'", "not str '12'"),
        ("{0: 1, 1: 2}", "not dict"),
        ("numpy.array(1.0)", "it must return a list of 2 numbers"),
        ("numpy.ones(3)", "and returned more"),
    ],
)
def test_a_list_for_a_group_must_have_a_number_for_each(tmp_path: Path, expression: str, reason: str) -> None:
    source = f"import itertools, numpy\ndef f(completions, **kwargs): return {expression}"
    for value in values(load(tmp_path, source)):
        assert isinstance(value, RewardFailure)
        assert reason in value.reason


def test_one_bad_value_of_a_group_leaves_the_others() -> None:
    assert number_of(Fraction(1, 2)) == 0.5


def test_in_a_list_one_bad_value_fails_alone(tmp_path: Path) -> None:
    first, second = values(load(tmp_path, "def f(completions): return ['x', 2]"))
    assert isinstance(first, RewardFailure)
    assert second == 2.0


# What is raised -----------------------------------------------------------------------------------

RAISES = {
    "KeyError('x')": "KeyError: 'x'",
    "ValueError('a\\nb')": "ValueError: a b",
    "SystemExit(3)": "SystemExit: 3",
    "SystemExit": "SystemExit",
    "Own('mine')": "Own: mine",
    "RecursionError": "RecursionError",
    "MemoryError": "MemoryError",
    "StopIteration": "StopIteration",
    "AssertionError": "AssertionError",
    "TimeoutError('late')": "TimeoutError: late",
    "UnicodeDecodeError('utf-8', b'x', 0, 1, 'bad')": "UnicodeDecodeError",
    "Silent()": "Silent",
    "ExceptionGroup('several', [ValueError(1)])": "ExceptionGroup: several",
}
KINDS_OF_EXCEPTION = (
    "class Own(Exception): pass\nclass Silent(Exception):\n    def __str__(self): raise RuntimeError\n"
)


@pytest.mark.parametrize(("raised", "reason"), RAISES.items())
@pytest.mark.parametrize(
    "head",
    [
        "def f(completion):",
        "def f(completions, **kw):",
        "async def f(completion):",
        "async def f(completions):",
    ],
)
def test_whatever_a_function_raises_is_named_with_its_place(
    tmp_path: Path, head: str, raised: str, reason: str
) -> None:
    if raised == "StopIteration" and head.startswith("async"):
        reason = "RuntimeError: coroutine raised StopIteration"
    for value in values(load(tmp_path, f"{KINDS_OF_EXCEPTION}{head}\n    raise {raised}\n")):
        assert isinstance(value, RewardFailure)
        assert f"own.py:f failed: {reason}" in value.reason
        assert value.reason.endswith("own.py:5") or raised == "StopIteration"
        assert "\n" not in value.reason
        assert "Traceback (most recent call last)" in value.traceback


def test_an_interruption_is_no_failure_of_a_function(tmp_path: Path) -> None:
    function = load(tmp_path, "def f(completion): raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        values(function)


def test_a_function_that_fails_on_some_completions_fails_on_those_alone(tmp_path: Path) -> None:
    first, second = values(load(tmp_path, "def f(completion, answer): return float(answer.strip())"))
    assert first == 7.0
    assert isinstance(second, RewardFailure)


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    (failure, _) = values(load(tmp_path, "def f(completions, solution, **kw): return [1, 1]"))
    assert isinstance(failure, RewardFailure)
    assert "it asks for 'solution'" in failure.reason
    assert "prompt, answer, difficulty, tags" in failure.reason


# The sum of the parts -----------------------------------------------------------------------------

GOOD = "<think>we add</think><answer>7</answer>"


def graded(tmp_path: Path, source: str, *names: str, told: list[RewardFailure] | None = None) -> list[Graded]:
    path = tmp_path / "own.py"
    path.write_text(source, encoding="utf-8")
    functions = {name: NamedReward(weight=2.0, function=load_user_reward(f"{path}:{name}")) for name in names}
    rules = RewardRules(functions=functions, failed=(told if told is not None else []).append, step=3)
    rollouts = [
        member(text=text, problem=PROBLEM, completion=[3] * len(text)).rollout for text in (GOOD, "7")
    ]
    rollouts[1] = replace(rollouts[1], finish=Finish.LENGTH)
    return list(grade_all(rollouts, RewardWeights(), rules=rules))


def test_several_functions_are_parts_with_names_and_weights(tmp_path: Path) -> None:
    source = (
        "def short(completion): return 0.5\n"
        "def cut(completions, truncated, **kw): return [-1.0 if one else 0.0 for one in truncated]\n"
    )
    whole, cut = graded(tmp_path, source, "short", "cut")
    assert whole.parts == {"accuracy": 1.0, "format": 1.0, "short": 0.5, "cut": 0.0}
    assert whole.reward == pytest.approx(1.0 + 0.1 + 2 * 0.5)
    assert cut.reward == pytest.approx(2 * 0.5 - 2 * 1.0)


def test_none_leaves_out_that_part_of_that_sample_and_nothing_else(tmp_path: Path) -> None:
    source = (
        "def partly(completion, answer): return None if answer is None else 1\n"
        "def always(completion): return 0.25\n"
    )
    whole, other = graded(tmp_path, source, "partly", "always")
    assert whole.parts == {"accuracy": 1.0, "format": 1.0, "partly": 1.0, "always": 0.25}
    assert other.parts == {"accuracy": 0.0, "format": 0.0, "always": 0.25}
    assert other.is_judged
    assert other.reward == pytest.approx(0.5)


def test_a_failure_leaves_out_its_sample_and_is_told(tmp_path: Path) -> None:
    told: list[RewardFailure] = []
    source = "def strict(completion, answer): return len(answer)\ndef other(completion): return 1\n"
    whole, failed = graded(tmp_path, source, "strict", "other", told=told)
    assert whole.is_judged and not failed.is_judged
    assert [failure.name for failure in told] == ["strict"]
    assert failed.parts["other"] == 1.0


def test_the_names_of_parts_are_one_list() -> None:
    assert (*PARTS, *KINDS) == NAMES


# Options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "arguments", "expected"),
    [
        ({}, ["reward.functions=own.py:f"], {"f": 1.0}),
        ({}, ["reward.functions=[own.py:f, own.py:g]"], {"f": 1.0, "g": 1.0}),
        ({}, ["reward.functions={a: own.py:f}"], {"a": 1.0}),
        ({}, ["reward.functions={a: {function: own.py:f, weight: 0.5}}"], {"a": 0.5}),
        ({}, ["reward.functions=[{function: own.py:f, weight: 0.5}]"], {"f": 0.5}),
        ({}, ["reward.functions=[{name: a, function: own.py:f}]"], {"a": 1.0}),
        ({}, ["reward.functions.a=own.py:f"], {"a": 1.0}),
        ({}, ["--reward.functions.a=own.py:f", "reward.functions.a.weight=1e-1"], {"a": 0.1}),
        ({}, ["reward.functions.a.weight=2", "reward.functions.a.function=own.py:f"], {"a": 2.0}),
        ({"reward.functions": {"a": "own.py:f"}}, ["reward.functions.b=own.py:g"], {"a": 1.0, "b": 1.0}),
        ({"reward.functions": {"a": "own.py:f"}}, ["reward.functions.a.weight=3"], {"a": 3.0}),
        ({"reward.functions": {"a": "own.py:f"}}, ["reward.functions.a=null"], {}),
        ({"reward.functions": {"a": "own.py:f"}}, ["reward.functions=[]"], {}),
        ({}, ["reward.accuracy=0", "reward.format=0", "reward.functions.a=own.py:f"], {"a": 1.0}),
        ({}, ["reward.user=1", "reward.function=own.py:f", "reward.functions.a=own.py:g"], {"a": 1.0}),
    ],
)
def test_functions_are_options(
    recipe: dict[str, Any], arguments: list[str], expected: dict[str, float]
) -> None:
    config = build_config(recipe, arguments)
    assert {one.name: one.weight for one in config.reward.functions} == expected
    assert build_config(flat_options(yaml.safe_load(to_yaml(config)))) == config


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["reward.functions.accuracy=own.py:f"], "'accuracy' is the name of another part"),
        (["reward.functions.user=own.py:f"], "'user' is the name of another part"),
        (["reward.functions={safety: own.py:f}"], "'safety' is the name of another part"),
        (["reward.functions=[own.py:f, other.py:f]"], "'f' is the name of two"),
        (["reward.functions.a.weight=1"], "Field required"),
        (["reward.functions.a=own.py:f", "reward.functions.a.weight=-1"], "greater than or equal to 0"),
        (["reward.functions.a=own.py:f", "reward.functions.a.weight=true"], "a weight is a number"),
        (["reward.functions.a=own.py:f", "reward.functions.a.weight=.inf"], "finite number"),
        (["reward.functions.a.wieght=1"], "unknown option 'reward.functions.a.wieght'"),
        (["reward.functions.a.b.c=1"], "unknown option"),
        (["reward.functions.a={function: own.py:f, wieght: 1}"], "Extra inputs"),
        (["reward.functions.a=3"], "valid dictionary"),
        (["reward.functions=3"], "write {NAME: path.py:function}"),
        (["reward.functions=true"], "expected a value, got a switch"),
        (["reward.functions.a b=own.py:f"], "'a b' cannot name a reward"),
    ],
)
def test_functions_that_cannot_be_are_refused(arguments: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config({}, arguments)
    assert complaint in str(caught.value)


def test_options_reach_the_rules(tmp_path: Path) -> None:
    function = load(tmp_path, "def f(completion): return 1")
    config = build_config({}, [f"reward.functions.a={function.reference}", "reward.functions.a.weight=0.5"])
    assert rules_of(config).functions == {"a": NamedReward(weight=0.5, function=function)}


# Runs ---------------------------------------------------------------------------------------------

TINY = [
    "rl.problems_per_step=2",
    "rl.group_size=2",
    "rl.minibatches=1",
    "sampling.max_tokens=24",
    "eval.problems=1",
    "eval.mixed_samples=1",
    "eval.hard_samples=1",
    "model.threads=1",
    "model.precision=fp32",
    "log.sample_every=0",
]


def run(folder: Path, *arguments: str, steps: int = 1) -> tuple[int, str, str]:
    return call_main(folder, "zero", *TINY, f"rl.steps={steps}", "--run-dir", str(folder / "run"), *arguments)


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def f(completion): raise KeyError('x')", "own.py:f failed: KeyError: 'x' at"),
        ("def f(completion): exit(3)", "own.py:f failed: SystemExit: 3 at"),
        ("def f(completions, **kw): return 1.0", "it must return a list of 2 numbers"),
        ("def f(completions, solution, **kw): return [1] * len(completions)", "it asks for 'solution'"),
        ("def f(completion): return 'good'", "not str 'good'"),
        ("import sys\nsys.exit(1)", "own.py cannot be loaded: SystemExit: 1"),
        ("import nowhere_at_all", "own.py cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_a_function_is_tried_before_the_run(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "own.py").write_text(source, encoding="utf-8")
    code, _, screen = run(tmp_path, f"reward.functions.mine={tmp_path}/own.py:f")
    assert code == 2
    assert reason in screen
    assert "Traceback" not in screen
    assert len(screen.strip().splitlines()) == 1
    assert "Traceback (most recent call last)" in (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_run_with_functions_records_them_and_names_what_fails(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "calls = []\n"
        "def each(completion, answer, problem, *, step):\n    return step\n"
        "def group(prompts, completions, **kwargs):\n    return [0.5] * len(completions)\n"
        "def fails(completion, answer, problem):\n"
        "    calls.append(1)\n    if len(calls) % 2 == 0:\n"
        "        raise LookupError('second')\n    return 1\n",
        encoding="utf-8",
    )
    functions = [f"reward.functions.{name}={tmp_path}/own.py:{name}" for name in ("each", "group", "fails")]
    code, _, screen = run(tmp_path, *functions, "reward.functions.fails.weight=0.25")
    assert code == 0, screen
    (line,) = metrics(tmp_path)
    assert line["parts"]["each"] == 1.0
    assert line["parts"]["group"] == 0.5
    assert line["verifier_errors"] == 2
    assert line["reward_failures"]["fails"]["count"] == 2
    assert "LookupError: second at" in line["reward_failures"]["fails"]["first"]
    assert "reward 'fails' failed on 2 completions" in line["verdict"]
    warned = [text for text in screen.splitlines() if "warning: step 1" in text]
    assert len(warned) == 1
    assert "reward 'fails'" in warned[0]
    assert "step 1, reward 'fails'\nTraceback" in (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
    environment = json.loads((tmp_path / "run" / "environment.json").read_text(encoding="utf-8"))
    assert list(environment["reward_functions"]) == ["each", "group", "fails"]
    record = read_record(RunDir(tmp_path / "run"))
    assert claims.written_weights(record) == (
        "1 for accuracy, 0.1 for format, 1 for each, 1 for group and 0.25 for fails"
    )
    assert "the user's function each" in claims.length_claim(record)


def test_a_run_in_which_all_fail_stops(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "calls = []\n"
        "def late(completion):\n    calls.append(1)\n    assert len(calls) <= 4, 'used up'\n    return 1\n",
        encoding="utf-8",
    )
    code, _, screen = run(tmp_path, f"reward.functions.late={tmp_path}/own.py:late", steps=3)
    assert code == 1
    assert "step 1: no completion has a reward, since 'late' failed on each" in screen
    assert "AssertionError: used up" in screen
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_changed_file_is_refused_or_recorded_when_a_run_goes_on(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("def f(completion): return 1\n", encoding="utf-8")
    option = f"reward.functions.mine={own}:f"
    assert run(tmp_path, option)[0] == 0
    first = json.loads((tmp_path / "run" / "environment.json").read_text(encoding="utf-8"))
    assert run(tmp_path, option, "--resume")[0] == 0
    own.write_text("def f(completion): return 2\n", encoding="utf-8")
    code, _, screen = run(tmp_path, option, "--resume")
    assert code == 2
    assert "the file of a reward function" in screen
    assert "reward.if_function_changed=record" in screen
    code, _, screen = run(tmp_path, option, "--resume", "reward.if_function_changed=record")
    assert code == 0
    assert "another program or reward than before" in screen
    now = json.loads((tmp_path / "run" / "environment.json").read_text(encoding="utf-8"))
    assert now["reward_functions"] == first["reward_functions"]
    assert now["resumed"][0]["reward_functions"]["mine"] != first["reward_functions"]["mine"]
    assert run(tmp_path, option, "--resume")[0] == 0  # what was recorded is known from then on


# One completion -----------------------------------------------------------------------------------


def test_a_row_is_scored_by_every_signature(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "def each(completion, answer, problem): return problem['spec']['k'] + problem['k']\n"
        "def group(completions, k, num_tokens, **kw): return [k[0] + num_tokens[0]]\n"
        "def nothing(completion): return None\n"
        "def fails(completion): raise SystemExit('gone')\n",
        encoding="utf-8",
    )

    def scored(name: str) -> dict[str, Any]:
        reference = f"{own}:{name}"
        row = {"id": 1, "verifier": reference, "completion": "a", "k": 2, "num_tokens": 3}
        return score_row(row, frozenset([reference]))

    assert (scored("each")["reward"], scored("group")["reward"]) == (4.0, 5.0)
    assert scored("nothing") == {"id": 1, "outcome": "unparsable", "reward": None, "parts": {}}
    assert scored("fails")["outcome"] == "infrastructure_error"
    assert "SystemExit: gone at" in scored("fails")["error"]
