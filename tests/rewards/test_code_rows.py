"""Problems as public data sets have them: tests of programs, rows of verl, and what cannot be judged."""

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes import call_main
from published_rows import packed
from zerone.config import build_config
from zerone.data.code_tests import code_spec
from zerone.data.jsonl import Fields, read_problems
from zerone.errors import DataError
from zerone.jobs.data import data_of
from zerone.rewards.ground_truth import gold_complaint
from zerone.rewards.scoring import score_row
from zerone.sandbox.execution import Kind
from zerone.sandbox.unit_tests import make_suite
from zerone.types import Problem

STDIN = [("1 2\n", "3\n"), ("4 5\n", "9\n")]
STDIN_SPEC = [{"stdin": one, "stdout": other} for one, other in STDIN]
CALLS = [{"args": [1, 2], "expected": 3}, {"args": [4, 5], "expected": 9}]
INPUTS, OUTPUTS = [one for one, _ in STDIN], [other for _, other in STDIN]
LCB = [{"input": one, "output": other, "testtype": "stdin"} for one, other in STDIN]
LCB_CALLS = [
    {"input": "1\n2", "output": "3", "testtype": "functional"},
    {"input": "4\n5", "output": "9", "testtype": "functional"},
]
CLASS = "class Solution:\n    def add(self, a: int, b: int) -> int:\n        "
FUNCTION = "def add(a, b):\n    "


def write(tmp_path: Path, *rows: Mapping[str, Any]) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(tmp_path: Path, row: Mapping[str, Any], **fields: str) -> Problem:
    (problem,) = read_problems(write(tmp_path, {"prompt": "Add.", **row}), Fields(**fields)).problems
    return problem


# Standard input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"input_output": json.dumps({"inputs": INPUTS, "outputs": OUTPUTS})},
        {"input_output": {"inputs": INPUTS, "outputs": OUTPUTS}},
        {"input_output": json.dumps({"inputs": INPUTS, "outputs": OUTPUTS}), "starter_code": ""},
        {"input_output": {"inputs": INPUTS, "outputs": OUTPUTS, "fn_name": None}},
        {"input_output": {"inputs": [["1 2", ""], ["4 5", ""]], "outputs": [["3", ""], ["9", ""]]}},
        {"public_test_cases": json.dumps(LCB)},
        {"public_test_cases": LCB[:1], "private_test_cases": json.dumps(LCB[1:])},
        {"public_test_cases": json.dumps(LCB[:1]), "private_test_cases": packed(LCB[1:])},
        {"public_test_cases": [], "private_test_cases": packed(LCB), "metadata": "{}"},
        {
            "public_tests": {"input": INPUTS[:1], "output": OUTPUTS[:1]},
            "private_tests": {"input": INPUTS[1:], "output": OUTPUTS[1:]},
            "generated_tests": {"input": [], "output": []},
        },
        {"tests": LCB},
        {"tests": json.dumps(LCB)},
        {
            "tests": [
                {"type": "stdin_stdout", "input": one, "output": other, "fn_name": None}
                for one, other in STDIN
            ]
        },
        {"tests": {"inputs": INPUTS, "outputs": OUTPUTS}},
        {"tests": json.dumps({"inputs": INPUTS, "outputs": OUTPUTS})},
        {"tests": [{"input": one, "expected_output": other} for one, other in STDIN]},
        {"test_cases": [{"input": one, "output": other} for one, other in STDIN]},
        {"test_cases": [{"stdin": one, "expected_output": other} for one, other in STDIN]},
        {"unit_tests": json.dumps({"inputs": INPUTS, "outputs": OUTPUTS})},
        {
            "examples": [{"input": INPUTS[0], "output": OUTPUTS[0]}],
            "official_tests": [{"input": INPUTS[1], "output": OUTPUTS[1]}],
        },
        {
            "verification_info": json.dumps(
                {
                    "language": "python",
                    "test_cases": [
                        {"type": "stdin_stdout", "input": one, "output": other, "fn_name": None}
                        for one, other in STDIN
                    ],
                }
            )
        },
        {"verification_info": {"test_cases": LCB}, "task_type": "verifiable_code"},
        {
            "reward_model": {
                "style": "rule",
                "ground_truth": json.dumps({"inputs": INPUTS, "outputs": OUTPUTS}),
            },
            "data_source": "taco",
            "ability": "code",
            "extra_info": {"index": 3, "split": "train"},
        },
        {"reward_model": {"ground_truth": {"inputs": INPUTS, "outputs": OUTPUTS}}, "ability": "coding"},
        {"reward_model": {"ground_truth": json.dumps(LCB)}},
        {"ground_truth": json.dumps({"inputs": INPUTS, "outputs": OUTPUTS})},
    ],
)
def test_tests_of_standard_input_are_read_in_every_form(tmp_path: Path, row: Mapping[str, Any]) -> None:
    problem = read(tmp_path, row)
    assert problem.verifier == "code"
    assert (problem.spec["mode"], problem.spec["tests"]) == ("stdin", STDIN_SPEC)
    assert gold_complaint(problem) is None
    assert problem.row["prompt"] == "Add."
    assert make_suite(problem.spec).kind is Kind.STDIN


# Calls --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "entry"),
    [
        ({"input_output": {"fn_name": "add", "inputs": [[1, 2], [4, 5]], "outputs": [3, 9]}}, "add"),
        (
            {
                "input_output": json.dumps(
                    {"fn_name": "add", "inputs": [[1, 2], [4, 5]], "outputs": [[3], [9]]}
                )
            },
            "add",
        ),
        (
            {
                "input_output": {"fn_name": "add", "inputs": [[1, 2], [4, 5]], "outputs": [3, 9]},
                "starter_code": CLASS,
            },
            "Solution.add",
        ),
        (
            {
                "input_output": {"fn_name": "add", "inputs": [[1, 2], [4, 5]], "outputs": [3, 9]},
                "starter_code": FUNCTION,
            },
            "add",
        ),
        ({"input_output": {"inputs": [[1, 2], [4, 5]], "outputs": [3, 9]}, "fn_name": "add"}, "add"),
        (
            {
                "public_test_cases": LCB_CALLS,
                "metadata": json.dumps({"func_name": "add"}),
                "starter_code": CLASS,
            },
            "Solution.add",
        ),
        (
            {
                "public_test_cases": json.dumps(LCB_CALLS[:1]),
                "private_test_cases": packed(LCB_CALLS[1:]),
                "starter_code": CLASS,
            },
            "Solution.add",
        ),
        (
            {
                "tests": [{**one, "metadata": {"func_name": "add"}} for one in LCB_CALLS],
                "starter_code": CLASS,
            },
            "Solution.add",
        ),
        ({"tests": LCB_CALLS, "fn_name": "Solution.add"}, "Solution.add"),
        (
            {
                "tests": [
                    {
                        "type": "function_call",
                        "fn_name": "add",
                        "input": one["args"],
                        "output": one["expected"],
                    }
                    for one in CALLS
                ]
            },
            "add",
        ),
        (
            {
                "verification_info": json.dumps(
                    {
                        "language": "python",
                        "test_cases": [
                            {
                                "type": "function_call",
                                "fn_name": "add",
                                "input": one["args"],
                                "output": one["expected"],
                            }
                            for one in CALLS
                        ],
                    }
                )
            },
            "add",
        ),
        (
            {
                "reward_model": {
                    "ground_truth": json.dumps(
                        {"fn_name": "add", "inputs": ["1\n2", "4\n5"], "outputs": ["3", "9"]}
                    )
                },
                "ability": "code",
            },
            "add",
        ),
        (
            {
                "tests": [{"input": one["args"], "output": one["expected"]} for one in CALLS],
                "entry_point": "add",
            },
            "add",
        ),
        (
            {"tests": [{"args": one["args"], "output": one["expected"]} for one in CALLS], "fn_name": "add"},
            "add",
        ),
    ],
)
def test_tests_that_call_are_read_in_every_form(tmp_path: Path, row: Mapping[str, Any], entry: str) -> None:
    problem = read(tmp_path, row)
    spec = problem.spec
    assert (problem.verifier, spec["mode"], spec["entry"], spec["tests"]) == ("code", "call", entry, CALLS)
    assert gold_complaint(problem) is None
    assert "add" in problem.prompt
    if row.get("starter_code"):
        start = f"```python\n{row['starter_code'].strip()}\n```"
        assert problem.prompt == f"Add.\n\nStart from this code and keep its names:\n\n{start}"


@pytest.mark.parametrize(
    ("inputs", "outputs", "calls"),
    [
        ([[[1, 2]]], [[3]], [{"args": [[1, 2]], "expected": 3}]),
        ([[1], [2]], [[[1]], [[2]]], [{"args": [1], "expected": [1]}, {"args": [2], "expected": [2]}]),
        ([[1], [2]], [[1, 1], [2]], [{"args": [1], "expected": [1, 1]}, {"args": [2], "expected": [2]}]),
        (["[1, 2]\n3"], ["[3]"], [{"args": [[1, 2], 3], "expected": [3]}]),
        (["abc"], ["cba"], [{"args": ["abc"], "expected": "cba"}]),
        (['"abc"'], ['"cba"'], [{"args": ["abc"], "expected": "cba"}]),
        ([5, 6], [True, False], [{"args": [5], "expected": True}, {"args": [6], "expected": False}]),
        ([[]], [[None]], [{"args": [], "expected": None}]),
        ([["a\nb"]], ["x"], [{"args": ["a\nb"], "expected": "x"}]),
    ],
)
def test_arguments_and_values_of_calls(inputs: Any, outputs: Any, calls: Any) -> None:
    spec = code_spec({"input_output": {"fn_name": "f", "inputs": inputs, "outputs": outputs}})
    assert spec is not None
    assert spec["tests"] == calls


def test_assertions_are_read_as_mbpp_has_them(tmp_path: Path) -> None:
    tests = ["assert add(1, 2) == 3", "assert add(4, 5) == 9"]
    for row in ({"test_list": tests}, {"tests": tests}, {"test_cases": json.dumps(tests)}):
        problem = read(tmp_path, {**row, "test_imports": ["import math"], "test_setup_code": "x = 1"})
        assert problem.verifier == "code"
        assert (problem.spec["mode"], problem.spec["tests"]) == ("assert", tests)
        assert problem.spec["setup"] == "import math\nx = 1"
        assert gold_complaint(problem) is None


def test_what_the_sandbox_can_be_told_stays_and_an_answer_comes_first(tmp_path: Path) -> None:
    row = {"tests": LCB, "wall_s": 3, "memory_mib": 300}
    assert {"wall_s": 3, "memory_mib": 300}.items() <= read(tmp_path, row).spec.items()
    assert read(tmp_path, row).spec["harness"] == "livecodebench"
    assert "harness" not in read(tmp_path, {**row, "tolerance": 1e-6}).spec
    assert read(tmp_path, {**row, "answer": "7"}).verifier == "number"
    assert read(tmp_path, {**row, "answer": "7", "verifier": "code"}).verifier == "code"
    assert read(tmp_path, {**row, "answer": "7"}, verifier="code").verifier == "code"
    own = {"mode": "call", "entry": "add", "tests": CALLS, "verifier": "code"}
    assert read(tmp_path, own).spec == {key: value for key, value in own.items() if key != "verifier"}


# What cannot be judged ----------------------------------------------------------------------------

UNUSABLE = {
    "unknown keys": (
        {"tests": [{"question": "1", "reply": "2"}]},
        "test 1 has 'question', 'reply'; an input and",
    ),
    "unknown keys in an object": (
        {"tests": {"cases": []}},
        "holds no tests that can be read: it has 'cases'",
    ),
    "unknown mode": (
        {"mode": "run", "tests": CALLS},
        '"mode" must be "call", "stdin" or "assert", not \'run\'',
    ),
    "no tests": ({"mode": "call", "entry": "f"}, '"tests" must be a list'),
    "empty tests": ({"mode": "call", "entry": "f", "tests": []}, '"tests" must be a list with at least one'),
    "nothing at all": ({}, '"mode" must be'),
    "no entry": ({"mode": "call", "tests": CALLS}, '"entry" must name a function'),
    "an entry that is no name": ({"mode": "call", "entry": "f(x)", "tests": CALLS}, '"entry" must name'),
    "one input too many": (
        {"input_output": {"inputs": ["1", "2"], "outputs": ["1"]}},
        "2 inputs and 1 outputs",
    ),
    "no outputs": ({"input_output": {"inputs": ["1"]}}, "holds no tests that can be read: it has 'inputs'"),
    "broken JSON": ({"input_output": '{"inputs": ['}, "field 'input_output': is not valid JSON"),
    "text": ({"tests": "see the statement"}, "field 'tests': is neither JSON nor packed tests"),
    "a pickle that calls": (
        {
            "public_test_cases": [],
            "private_test_cases": base64.b64encode(zlib.compress(b"cos\nsystem\n(S'true'\ntR.")).decode(),
        },
        "a pickle with the instruction GLOBAL",
    ),
    "another language": (
        {"verification_info": {"language": "cpp", "test_cases": LCB}, "ability": "code"},
        "the tests are for cpp; only Python can be graded",
    ),
    "calls of no name": ({"tests": LCB_CALLS}, "the tests are calls and name no function"),
    "calls of two names": (
        {"tests": [{**LCB_CALLS[0], "fn_name": "f"}, {**LCB_CALLS[1], "fn_name": "g"}]},
        "name several functions: f, g",
    ),
    "inputs by name": (
        {"tests": [{"input": {"a": 1}, "output": 2}], "fn_name": "f"},
        "inputs by name cannot be read",
    ),
    "an input that is no text": (
        {"tests": [{"input": {"a": 1}, "output": "2"}]},
        "test 1: the input must be text",
    ),
    "mixed tests": (
        {"tests": ["assert f(1) == 2", {"input": "1", "output": "2"}]},
        "must hold a list of tests",
    ),
    "a number": ({"tests": 3}, "must hold a list of tests or an object, not int"),
    "assertions that call nothing": ({"mode": "assert", "tests": ["assert 1 == 1"]}, "it calls nothing that"),
    "assertions that loop": (
        {"mode": "assert", "tests": ["for i in range(3): assert f(i)"]},
        "not one assert",
    ),
    "one assertion of two": (
        {"test_list": ["assert f(1) == 2", "check(f)"]},
        "1 of 2 tests cannot be judged",
    ),
    "no time": (
        {"mode": "stdin", "tests": STDIN_SPEC, "wall_s": 0},
        '"wall_s" must be a number above 0, not 0',
    ),
    "time in words": (
        {"mode": "stdin", "tests": STDIN_SPEC, "wall_s": "2 seconds"},
        '"wall_s" must be a number',
    ),
    "memory by a switch": (
        {"mode": "stdin", "tests": STDIN_SPEC, "memory_mib": True},
        '"memory_mib" must be',
    ),
    "code in verl without tests": (
        {"reward_model": {"ground_truth": "def f(): pass"}, "ability": "code"},
        "field 'reward_model.ground_truth': is neither JSON",
    ),
}


@pytest.mark.parametrize(("row", "reason"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_check_names_line_and_reason(tmp_path: Path, row: Mapping[str, Any], reason: str) -> None:
    good = {"prompt": "Add.", "verifier": "code", "mode": "stdin", "tests": STDIN_SPEC}
    path = write(tmp_path, good, {"prompt": "Other.", "verifier": "code", **row})
    code, out, _ = call_main(tmp_path, "reward", "check", str(path), "--json")
    (found,) = json.loads(out)["unusable"]
    assert (code, found["line"]) == (2, 2)
    assert reason in found["complaint"]


@pytest.mark.parametrize(("row", "reason"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_run_names_them_before_it_starts(tmp_path: Path, row: Mapping[str, Any], reason: str) -> None:
    good = [
        {"prompt": f"Add {i}.", "verifier": "code", "mode": "stdin", "tests": STDIN_SPEC} for i in range(40)
    ]
    path = write(tmp_path, *good, {"prompt": "Other.", "verifier": "code", **row})
    config = build_config({"data.path": str(path)})
    with pytest.raises(DataError) as caught:
        data_of(config)
    assert f"{path}:41: " in str(caught.value)
    assert reason in str(caught.value)


SPECS = [
    ({"verifier": "judge", "kind": "nonsense", "language": "en"}, "the verifier 'judge' needs 'nonsense'"),
    ({"verifier": "judge", "kind": "greeting"}, "the verifier 'judge' needs 'language'"),
    ({"verifier": "judge", "kind": ["fact"], "language": "en"}, "the verifier 'judge' cannot judge"),
    ({"verifier": "number", "answer": "many"}, "cannot be read by the verifier 'number'"),
    ({"verifier": "math", "answer": "\\frac{"}, "cannot be read as mathematics"),
    ({"verifier": "choice", "choices": ["a", "b"], "answer": "D"}, "the answer 'D'"),
]


@pytest.mark.parametrize(("row", "reason"), SPECS)
def test_every_verifier_is_asked(tmp_path: Path, row: Mapping[str, Any], reason: str) -> None:
    path = write(tmp_path, {"prompt": "Say.", "answer": "1"}, {"prompt": "Other.", **row})
    code, out, _ = call_main(tmp_path, "reward", "check", str(path))
    assert code == 2
    assert f"{path}:2: " in out
    assert reason in out


@pytest.mark.parametrize("skip", ["true", "false"])
@pytest.mark.parametrize(
    "row",
    [
        {"verifier": "code", "mode": "stdin", "tests": [{"in": "1", "out": "2"}]},
        {"verifier": "judge", "kind": "nonsense", "language": "en"},
        {"verifier": "number", "answer": "many"},
    ],
)
def test_a_run_without_a_usable_problem_refuses_to_start(
    tmp_path: Path, row: Mapping[str, Any], skip: str
) -> None:
    path = write(tmp_path, *({"prompt": f"Do {i}.", **row} for i in range(40)))
    code, _, screen = call_main(
        tmp_path,
        "zero",
        f"data.path={path}",
        f"data.skip_unreadable={skip}",
        "--run-dir",
        str(tmp_path / "run"),
    )
    assert code == 2
    assert "40 of 40 ground truths or tests" in screen
    assert f"{path}:1: " in screen
    assert "skip_unreadable" not in screen
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_requests_that_no_rule_judges_need_a_model(tmp_path: Path) -> None:
    lines = [{"prompt": f"Add {i} and 1.", "answer": i + 1} for i in range(40)]
    path = write(tmp_path, *lines, *({"prompt": f"Do {i}.", "verifier": "judge"} for i in range(40)))
    code, _, screen = call_main(tmp_path, "zero", f"data.path={path}", "--run-dir", str(tmp_path / "run"))
    assert code == 2
    assert "problems are general requests without a `kind`, which no rule can judge" in screen
    assert not (tmp_path / "run" / "config.yaml").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["input", "output", "inputs", "outputs", "type", "testtype", "fn_name", "x", "metadata"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(
    row=st.dictionaries(
        st.sampled_from(
            [
                "tests",
                "input_output",
                "public_test_cases",
                "metadata",
                "reward_model",
                "fn_name",
                "verification_info",
                "test_list",
                "starter_code",
                "ability",
                "mode",
                "entry",
            ]
        ),
        JSON | st.sampled_from([LCB, LCB_CALLS, "code", '{"inputs": [[1]], "outputs": [1]}']),
    )
)
def test_whatever_a_row_holds_is_tests_none_or_a_reason(row: dict[str, Any]) -> None:
    try:
        spec = code_spec(row)
    except ValueError as error:
        assert str(error)
        return
    if spec is not None:
        json.dumps(spec)
        problem = Problem(id="x", family="x", level=1, language="en", prompt="?", verifier="code", spec=spec)
        assert gold_complaint(problem) is None or spec["mode"] in ("call", "assert", "stdin")


# Rows of verl -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "prompt", "verifier", "answer"),
    [
        (
            {
                "prompt": [{"role": "user", "content": "What is 1+1?"}],
                "reward_model": {"style": "rule", "ground_truth": "2"},
                "data_source": "openai/gsm8k",
                "ability": "math",
                "extra_info": {"split": "train", "index": 0},
            },
            "What is 1+1?",
            "number",
            "2",
        ),
        (
            {
                "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}],
                "reward_model": {"ground_truth": 2},
            },
            "Be brief.\n\n1+1?",
            "number",
            "2",
        ),
        (
            {
                "prompt": [{"role": "user", "content": [{"type": "text", "text": "1/2 of 1?"}]}],
                "reward_model": {"ground_truth": "\\frac{1}{2}"},
            },
            "1/2 of 1?",
            "math",
            "\\frac{1}{2}",
        ),
        ({"prompt": "1+1?", "reward_model": {"ground_truth": ["2"]}}, "1+1?", "number", "2"),
        ({"prompt": "1+1?", "reward_model": {"ground_truth": 0.1}}, "1+1?", "number", "0.1"),
        ({"prompt": "Where?", "reward_model": {"ground_truth": "Paris"}}, "Where?", "exact", "Paris"),
        ({"prompt": "Pair?", "reward_model": {"ground_truth": "[1, 2]"}}, "Pair?", "math", "[1, 2]"),
        (
            {"prompt": "1+1?", "verification_info": '{"ground_truth": "2"}', "task_type": "verifiable_math"},
            "1+1?",
            "number",
            "2",
        ),
        ({"prompt": "1+1?", "verification_info": {"ground_truth": "2"}}, "1+1?", "number", "2"),
        ({"prompt": "1+1?", "ground_truth": "2"}, "1+1?", "number", "2"),
        ({"prompt": "1+1?", "answer": "3", "reward_model": {"ground_truth": "2"}}, "1+1?", "number", "3"),
        (
            {
                "prompt": [{"role": "developer", "content": "Short."}, {"role": "user", "content": "1+1?"}],
                "answer": 2,
            },
            "Short.\n\n1+1?",
            "number",
            "2",
        ),
    ],
)
def test_rows_of_verl_are_read(
    tmp_path: Path, row: Mapping[str, Any], prompt: str, verifier: str, answer: str
) -> None:
    (problem,) = read_problems(write(tmp_path, row), Fields()).problems
    assert (problem.prompt, problem.verifier, problem.spec) == (prompt, verifier, {"answer": answer})
    assert problem.row == row


def test_a_field_inside_of_others_is_named_with_dots(tmp_path: Path) -> None:
    row = {"extra_info": {"question": "1+1?", "gold": {"value": "so #### 2"}}, "a.b": "3"}
    fields = Fields(prompt="extra_info.question", answer="extra_info.gold.value", answer_pattern="#### (.+)$")
    (problem,) = read_problems(write(tmp_path, row), fields).problems
    assert (problem.prompt, problem.spec) == ("1+1?", {"answer": "2"})
    (problem,) = read_problems(
        write(tmp_path, row), Fields(prompt="extra_info.question", answer="a.b")
    ).problems
    assert problem.spec == {"answer": "3"}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (
            {
                "prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
                "answer": 1,
            },
            "message 2 of field 'prompt' must be a system's or the user's, not \"assistant\"",
        ),
        (
            {"prompt": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "answer": 1},
            "must end with the one question of the user; it has 2 messages: user, user",
        ),
        ({"prompt": [{"role": "system", "content": "a"}], "answer": 1}, "it has 1 messages: system"),
        ({"prompt": [], "answer": 1}, "it has 0 messages: none"),
        ({"prompt": [{"role": "user", "content": ""}], "answer": 1}, "message 1 of field 'prompt' is empty"),
        ({"prompt": [{"role": "user"}], "answer": 1}, "message 1 of field 'prompt' must hold text"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "answer": 1},
            "has a part that is not text",
        ),
        ({"prompt": [{"from": "human", "value": "x"}], "answer": 1}, "not null"),
        ({"prompt": "a", "reward_model": {"ground_truth": None}}, "no field 'answer'"),
        (
            {"prompt": "a", "reward_model": {"ground_truth": {"target": ["x", "y"]}}},
            "field 'reward_model.ground_truth' must hold text or a number",
        ),
        ({"prompt": "a", "reward_model": "x"}, "no field 'answer'"),
        ({"prompt": "a", "reward_model": {"ground_truth": ["a", "b"]}}, "must hold text or a number"),
    ],
)
def test_rows_that_are_no_single_question_are_refused(
    tmp_path: Path, row: Mapping[str, Any], complaint: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_problems(write(tmp_path, row), Fields())
    assert complaint in str(caught.value)
    assert ":1: " in str(caught.value)


# Programs on such rows ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "program"),
    [
        ({"input_output": {"inputs": INPUTS, "outputs": OUTPUTS}}, "print(sum(map(int, input().split())))"),
        ({"tests": LCB}, "a, b = map(int, input().split())\nprint(a + b)"),
        (
            {"input_output": {"fn_name": "add", "inputs": [[1, 2], [4, 5]], "outputs": [[3], [9]]}},
            f"{FUNCTION}return a + b",
        ),
        (
            {
                "public_test_cases": LCB_CALLS,
                "metadata": '{"func_name": "add"}',
                "starter_code": f"{CLASS}pass",
            },
            f"{CLASS}return a + b",
        ),
        ({"test_list": ["assert add(1, 2) == 3"]}, f"{FUNCTION}return a + b"),
        ({"tests": CALLS, "entry": "add"}, f"{FUNCTION}return a + b"),
        ({"tests": STDIN_SPEC}, "print(sum(map(int, input().split())))"),
    ],
)
def test_a_row_is_scored_by_its_tests(row: Mapping[str, Any], program: str) -> None:
    completion = f"Here:\n```python\n{program}\n```\nOutput:\n```\n3\n```\n"
    found = score_row({"id": 1, "verifier": "code", "completion": completion, **row})
    assert found["outcome"] == "correct", found
    wrong = score_row({"id": 1, "verifier": "code", "completion": completion.replace("+", "-"), **row})
    assert wrong["outcome"] == ("wrong" if "+" in program else "correct")
    bad = score_row({"id": 1, "verifier": "code", "completion": completion, "tests": [{"in": 1}]})
    assert bad["outcome"] == "infrastructure_error"
    assert "test 1 has 'in'; an input and an output are needed" in bad["error"]
