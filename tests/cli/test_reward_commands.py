"""`zerone reward ...`: the interface that other programs rely on, and input that is meant to break it."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes import call_main, command_line, environment_of_runs
from zerone.cli.reward import score_lines
from zerone.data.jsonl import Fields, read_problems
from zerone.rewards.ground_truth import gold_complaint
from zerone.rewards.scoring import score_row
from zerone.rewards.user import load_user_reward
from zerone.types import Outcome

THOUGHT = "<think>we add the numbers</think>"


def call(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `zerone reward ARGUMENTS` in a folder."""
    return subprocess.run(
        command_line("reward", *arguments),
        cwd=folder,
        env=environment_of_runs(folder),
        input=stdin,
        capture_output=True,
        timeout=120,
    )


def scored(**row: Any) -> tuple[str, float | None]:
    """Return outcome and reward of a row."""
    found = score_row({"id": 1, **row})
    return found["outcome"], found["reward"]


# One row ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "outcome", "reward"),
    [
        ({"verifier": "format", "completion": f"{THOUGHT}<answer>4</answer>"}, "correct", 1.0),
        ({"verifier": "format", "completion": "4"}, "wrong", 0.0),
        ({"verifier": "format", "completion": "a</think><answer>4</answer>"}, "wrong", 0.0),
        (
            {"verifier": "format", "completion": "a</think><answer>4</answer>", "open_thought": True},
            "correct",
            1.0,
        ),
        ({"verifier": "format", "completion": rf"{THOUGHT}\boxed{{4}}", "style": "boxed"}, "correct", 1.0),
        ({"verifier": "format", "completion": f"{THOUGHT}Four.", "style": "summary"}, "correct", 1.0),
        ({"verifier": "exact", "answer": "Paris", "completion": "<answer>paris</answer>"}, "correct", 1.0),
        ({"verifier": "exact", "answer": "Paris", "completion": "<answer>Rome</answer>"}, "wrong", 0.0),
        ({"verifier": "exact", "answer": "Paris", "completion": "Paris"}, "unparsable", 0.0),
        (
            {"verifier": "exact", "answer": "a", "completion": "<think><answer>a</answer></think>"},
            "unparsable",
            0.0,
        ),
        ({"verifier": "number", "answer": "1/2", "completion": r"so \boxed{0.5}"}, "correct", 1.0),
        ({"verifier": "number", "answer": 0.5, "completion": "<answer>1/2</answer>"}, "correct", 1.0),
        ({"verifier": "number", "answer": 7, "completion": "<answer>seven</answer>"}, "unparsable", 0.0),
        ({"verifier": "choice", "answer": "C", "completion": "<answer>(C)</answer>"}, "correct", 1.0),
        ({"verifier": "choice", "answer": 2, "completion": r"\boxed{C}"}, "correct", 1.0),
        ({"verifier": "choice", "answer": "C", "completion": "<answer>B or C</answer>"}, "unparsable", 0.0),
        (
            {
                "verifier": "choice",
                "answer": 0,
                "choices": ["yes", "no"],
                "completion": "<answer>yes</answer>",
            },
            "correct",
            1.0,
        ),
        (
            {"verifier": "countdown", "numbers": [3, 5], "target": 8, "completion": "<answer>3+5</answer>"},
            "correct",
            1.0,
        ),
        (
            {"verifier": "language", "answer": "en", "completion": f"{THOUGHT}<answer>四</answer>"},
            "correct",
            1.0,
        ),
        ({"verifier": "language", "language": "zh", "completion": THOUGHT}, "wrong", 0.0),
        ({"verifier": "language", "language": "en", "completion": "<think></think>the answer"}, "wrong", 0.0),
        ({"verifier": "language", "language": "en", "completion": "no tags at all"}, "correct", 1.0),
        ({"verifier": "repetition", "completion": "the numbers"}, "correct", 0.0),
        (
            {"verifier": "overlong", "completion": "", "num_tokens": 90, "max_tokens": 100, "buffer": 20},
            "wrong",
            -0.5,
        ),
    ],
)
def test_a_row_is_scored(row: Mapping[str, Any], outcome: str, reward: float) -> None:
    assert scored(**row) == (outcome, reward)


@pytest.mark.parametrize(
    ("verifier", "answer", "completion", "outcome"),
    [
        ("number", "0.1000000000000000055", "0.1", "wrong"),
        ("number", "0.1000000000000000055", "0.1000000000000000055", "correct"),
        ("exact", "1.10", "1.10", "correct"),
        ("exact", "2.5e3", "2500", "correct"),
        ("choice", "1", "B", "correct"),
    ],
)
def test_a_number_as_answer_of_a_row_is_taken_as_it_is_written(
    verifier: str, answer: str, completion: str, outcome: str
) -> None:
    row = f'{{"verifier": "{verifier}", "answer": {answer}, "completion": "<answer>{completion}</answer>"}}'
    ((found, _),) = score_lines([row.encode()])
    assert found["outcome"] == outcome


def test_other_numbers_of_a_row_are_floats_and_what_is_no_json_is_no_number() -> None:
    row = b'{"id": 0.5, "verifier": "language", "language": "zh", "threshold": 0.25, "completion": "a"}'
    not_json = b'{"verifier": "number", "answer": NaN, "completion": "<answer>1</answer>"}'
    (one, _), (other, _) = score_lines([row, not_json])
    assert (one["id"], one["outcome"]) == (0.5, "wrong")
    assert "NaN is not a JSON value" in other["error"]


def test_math_rows_are_scored_by_the_verifier_of_mathematics() -> None:
    pytest.importorskip("zerone.rewards.math.verifier")
    assert scored(verifier="math", answer="1/2", completion=r"\boxed{\frac12}") == ("correct", 1.0)
    assert scored(verifier="math", answer="1/2", completion=r"$-\boxed{\frac12}$") != ("correct", 1.0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "'completion' must hold text"),
        ({"completion": 4, "verifier": "exact"}, "'completion' must hold text, not int"),
        ({"completion": "a"}, "'verifier' must name"),
        ({"completion": "a", "verifier": ["exact"]}, "'verifier' must name"),
        ({"completion": "a", "verifier": "maths"}, "there are countdown, number, exact"),
        ({"completion": "a", "verifier": "own.py:function"}, "no verifier is named 'own.py:function'"),
        ({"completion": "<answer>a</answer>", "verifier": "exact"}, "field 'answer' is missing"),
        ({"completion": "<answer>A</answer>", "verifier": "choice", "answer": "?"}, "names none"),
        ({"completion": "a", "verifier": "format", "style": "xml"}, "xml"),
        ({"completion": "a", "verifier": "language"}, "must name a language"),
        ({"completion": "a", "verifier": "language", "language": "xx"}, "'xx' is not known"),
        (
            {
                "completion": "a",
                "verifier": "language",
                "language": "Germann",
                "latin_languages": ["en", "fr"],
            },
            "Did you mean 'german'",
        ),
        (
            {"completion": "a", "verifier": "language", "language": "en", "latin_languages": "en,fr"},
            "must be a list of languages, not 'en,fr'",
        ),
        ({"completion": "a", "verifier": "overlong"}, "field 'num_tokens' is missing"),
    ],
)
def test_a_row_that_cannot_be_judged_is_no_wrong_answer(row: Mapping[str, Any], reason: str) -> None:
    found = score_row(row)
    assert (found["outcome"], found["reward"], found["parts"]) == ("infrastructure_error", None, {})
    assert reason in found["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.fixed_dictionaries(
    {
        "verifier": st.sampled_from(
            ["format", "language", "choice", "exact", "number", "countdown", "repetition"]
        )
    },
    optional={
        "completion": st.text(max_size=40) | JSON,
        "answer": st.text(max_size=8) | JSON,
        "language": st.sampled_from(["en", "zh"]) | JSON,
        "style": st.sampled_from(["tags", "boxed"]) | JSON,
        "choices": st.lists(st.text(max_size=4), max_size=4) | JSON,
        "threshold": JSON,
        "numbers": JSON,
        "target": JSON,
    },
)


@given(row=ROWS)
def test_whatever_a_row_holds_it_gets_an_outcome(row: dict[str, Any]) -> None:
    found = score_row(row)
    assert found["outcome"] in set(Outcome)
    assert (found["reward"] is None) == (found["outcome"] == "infrastructure_error")


# Files --------------------------------------------------------------------------------------------

HOSTILE_LINES = {
    "invalid UTF-8": b'{"verifier": "exact", "answer": "a", "completion": "\xff\xfe<answer>a</answer>"}',
    "NUL bytes": b'{"id": 1, "verifier": "exact", "answer": "a", "completion": "\\u0000<answer>a</answer>"}',
    "raw NUL bytes": b'{"id": 1, "verifier": "exact", "answer": "a", "completion": "\x00"}',
    "NaN and Infinity": b'{"id": NaN, "verifier": "number", "answer": Infinity, '
    b'"completion": "<answer>1</answer>"}',
    "a lone surrogate": b'{"id": 1, "verifier": "exact", "answer": "a", "completion": "\\ud800"}',
    "deep nesting": b"[" * 100_000,
    "deep nesting in a field": b'{"id": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a huge number": b'{"id": 1, "verifier": "number", "answer": ' + b"9" * 10_000 + b', "completion": "a"}',
    "no object": b"[1, 2]",
    "half an object": b'{"id": 1',
    "a megabyte of answer": b'{"id": 1, "verifier": "exact", "answer": "a", "completion": "<answer>'
    + b"a" * 1_000_000
    + b'</answer>"}',
    "a megabyte of digits": b'{"id": 1, "verifier": "number", "answer": "1", "completion": "<answer>'
    + b"9" * 1_000_000
    + b'</answer>"}',
    "a megabyte of parentheses": b'{"id": 1, "verifier": "countdown", "numbers": [1], "target": 1, '
    b'"completion": "<answer>' + b"(" * 1_000_000 + b'</answer>"}',
}


@pytest.mark.parametrize("line", HOSTILE_LINES.values(), ids=HOSTILE_LINES.keys())
def test_a_hostile_line_gets_a_row_and_stops_no_other(line: bytes) -> None:
    good = b'{"id": 2, "verifier": "exact", "answer": "a", "completion": "<answer>a</answer>"}'
    first, second = (row for row, _ in score_lines([line + b"\n", good]))
    assert first["outcome"] in set(Outcome)
    assert second["outcome"] == "correct"
    json.loads(json.dumps(second))


def test_rows_come_back_in_order() -> None:
    lines = [
        json.dumps(
            {"id": i, "verifier": "number", "answer": i, "completion": f"<answer>{i}</answer>"}
        ).encode()
        for i in range(1000)
    ]
    found = [row for row, _ in score_lines(lines)]
    assert [row["id"] for row in found] == list(range(1000))
    assert {row["outcome"] for row in found} == {"correct"}


def test_a_file_is_scored_into_a_file_and_stdin_into_stdout(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "verifier": "exact", "answer": "Paris", "completion": "<answer>paris</answer>"},
        {"id": "b", "verifier": "exact", "answer": "Paris", "completion": "<answer>Rome</answer>"},
    ]
    text = "\n\n".join(map(json.dumps, rows)) + "\n"
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    done = call(tmp_path, "score", "rows.jsonl", "--out", "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert b"2 rows: 1 correct, 1 wrong" in done.stderr
    written = (tmp_path / "out.jsonl").read_bytes()
    assert [json.loads(line)["id"] for line in written.splitlines()] == ["a", "b"]
    piped = call(tmp_path, "score", "-", "--out", "-", stdin=text.encode())
    assert (piped.returncode, piped.stdout) == (0, written)


@pytest.mark.parametrize(
    "arguments", [["nowhere.jsonl"], ["-", "--out", "no/where.jsonl"], ["-", "--function", "no.py:f"]]
)
def test_a_missing_file_and_a_bad_function_are_the_users_to_mend(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, complaint = call_main(tmp_path, "reward", "score", *arguments)
    assert code == 2
    assert complaint.startswith("error: ")


def test_one_completion_is_tried(tmp_path: Path) -> None:
    done = call(tmp_path, "test", "--name", "number", "--gold", "1/2", "--completion", "<answer>0.5</answer>")
    assert done.returncode == 0
    assert done.stdout.split()[:4] == [b"outcome", b"correct", b"reward", b"1.0"]
    (tmp_path / "own.py").write_text("def long(completion, answer, problem):\n    return len(completion)\n")
    as_json = call(tmp_path, "test", "--name", "own.py:long", "--completion", "-", "--json", stdin=b"four")
    assert json.loads(as_json.stdout)["reward"] == 4.0
    option = ("--name", "format", "--completion", r"<think>a</think>\boxed{4}", "--option", "style=boxed")
    assert b"correct" in call(tmp_path, "test", *option).stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--name", "number", "--gold", "4", "--completion", "<answer>4</answer>"], 0),
        (["--name", "number", "--gold", "4", "--completion", "<answer>5</answer>"], 0),
        (["--name", "number", "--gold", "4", "--completion", "no answer"], 0),
        (["--name", "number", "--completion", "<answer>4</answer>"], 1),
        (["--name", "nothing", "--completion", "<answer>4</answer>"], 1),
        (["--name", "choice", "--gold", "?", "--completion", "<answer>A</answer>"], 1),
        (["--name", "language", "--gold", "xx", "--completion", "a"], 1),
        (["--name", "code", "--completion", "x = 1"], 1),
        (["--name", "code", "--option", 'tests=[{"in": 1}]', "--completion", "x = 1"], 1),
        (["--name", "judge", "--option", "kind=nonsense", "--completion", "<answer>A</answer>"], 1),
        (["--name", "nowhere.py:f", "--completion", "a"], 1),
        (["--name", "own.py:fails", "--completion", "a"], 1),
        (["--name", "own.py:leaves", "--completion", "a"], 1),
        (["--name", "own.py:nothing", "--completion", "a"], 0),
        (["--name", "own.py:third", "--completion", "a"], 0),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_exit_code_says_whether_there_is_a_verdict(
    arguments: list[str], code: int, form: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(
        "from fractions import Fraction\n"
        "def fails(completion): return 1 / 0\ndef leaves(completion): raise SystemExit(0)\n"
        "def nothing(completion): return None\ndef third(completion): return Fraction(1, 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    load_user_reward.cache_clear()
    found, out, _ = call_main(tmp_path, "reward", "test", *arguments, *form)
    assert found == code
    assert ("infrastructure_error" in out) == (code == 1)


# Golds --------------------------------------------------------------------------------------------

GOOD = {"prompt": "What is 1+1?", "answer": "2"}


def test_check_lists_every_line_that_cannot_be_used(tmp_path: Path) -> None:
    lines = [
        json.dumps(GOOD),
        "",
        "not JSON",
        json.dumps({"prompt": "no answer"}),
        json.dumps({"prompt": "empty", "answer": " "}),
        json.dumps({"prompt": "letter", "choices": ["yes", "no"], "answer": "C"}),
        json.dumps({"prompt": "position", "choices": ["yes", "no"], "answer": 1}),
        json.dumps({"prompt": "one choice", "choices": ["yes"], "answer": 0}),
        '{"prompt": "not a number", "answer": NaN}',
        json.dumps({"prompt": "text", "answer": "Paris"}),
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = call(tmp_path, "check", "data.jsonl", "--json")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert [line["line"] for line in found["unusable"]] == [3, 4, 5, 6, 8, 9]
    assert found["verifiers"] == {"number": 1, "choice": 2, "exact": 1}
    shown = call(tmp_path, "check", "data.jsonl")
    assert b"data.jsonl:6: the answer 'C'" in shown.stdout
    assert b"9 lines (2 choice, 1 exact, 1 number), 6 unusable" in shown.stdout
    assert b"the embedded model knows only its own world" in shown.stderr


def test_check_by_a_verifier_that_cannot_read_the_answers(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"prompt": "a", "answer": "Paris"}), encoding="utf-8")
    for arguments, code in (([], 0), (["--verifier", "number"], 2), (["--verifier", "maths"], 2)):
        assert call_main(tmp_path, "reward", "check", str(path), *arguments)[0] == code


def test_training_on_golds_that_cannot_be_read_stops_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"prompt": f"Say {i}.", "answer": str(i)}) for i in range(40)]
    lines[6] = json.dumps({"prompt": "Which city?", "answer": "Paris"})
    (tmp_path / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, _, complaint = call_main(
        tmp_path, "zero", "data.path=data.jsonl", "data.verifier=number", "--run-dir", "run"
    )
    assert code == 2
    assert "1 of 40 ground truths" in complaint
    assert "data.jsonl:7: the answer 'Paris' cannot be read by the verifier 'number'" in complaint
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_line_may_name_its_verifier_and_its_language(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"prompt": "a", "answer": "7", "verifier": "exact"},
        {"prompt": "b", "answer": "seven", "verifier": "number"},
        {"prompt": "c", "answer": "7", "verifier": "a person", "language": "de"},
        {"prompt": "d", "verifier": "code", "entry": "f", "tests": [{"args": [0.5], "expected": 1}]},
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    problems = read_problems(path, Fields()).problems
    assert [problem.verifier for problem in problems] == ["exact", "number", "number", "code"]
    assert [problem.language for problem in problems] == ["en", "en", "de", "en"]
    assert problems[3].spec == {"entry": "f", "tests": [{"args": [0.5], "expected": 1}]}
    assert [gold_complaint(problem) is None for problem in problems] == [True, False, True, True]
