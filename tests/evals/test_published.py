"""Published suites: their files as published where they are here, and small files in their schema."""

import base64
import gzip
import json
import pickle
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_hub import online
from published_rows import packed
from zerone.config import Config
from zerone.data.jsonl import Fields, read_problems
from zerone.data.records import Row, read_rows
from zerone.errors import DataError, UserError
from zerone.evals.contamination import find_contamination
from zerone.evals.published import PUBLISHED
from zerone.evals.sources import Choice, Source, load_source, recognise
from zerone.evals.suites import SUITE_NAMES
from zerone.evals.verdicts import verdict_on
from zerone.jobs.evaluate import DEFAULT_SAMPLES
from zerone.rewards.choice import gold_letter
from zerone.types import Outcome, Problem

DATA = Path(__file__).parents[3] / "shared" / "data"

LCB_PUBLIC = [{"input": "3\n", "output": "6\n", "testtype": "stdin"}]
LCB_PRIVATE = [{"input": "5\n", "output": "10\n", "testtype": "stdin"}]


ROWS: Mapping[str, dict[str, Any]] = {
    "aime24": {"id": 60, "problem": "What is 2+2?", "solution": "...", "answer": "4", "url": "u"},
    "aime25": {"problem": "What is 100+2?", "answer": "102", "id": "1"},
    "math500": {
        "problem": "Solve $2x=1$.",
        "solution": "...",
        "answer": "\\frac{1}{2}",
        "subject": "Algebra",
        "level": 3,
        "unique_id": "test/algebra/1.json",
    },
    "gsm8k": {"question": "How many?", "answer": "He has 1,200.\n#### 1,200"},
    "gpqa": {
        "Question": "Which particle?",
        "Correct Answer": "proton",
        "Incorrect Answer 1": "muon",
        "Incorrect Answer 2": "pion",
        "Incorrect Answer 3": "kaon",
        "Record ID": "rec1",
        "High-level domain": "Physics",
    },
    "mmlu": {"question": "Which?", "subject": "anatomy", "choices": ["a1", "b1", "c1", "d1"], "answer": 2},
    "mmlu_pro": {
        "question_id": 7,
        "question": "Which?",
        "options": [f"option {i}" for i in range(10)],
        "answer": "J",
        "answer_index": 9,
        "category": "law",
    },
    "livecodebench": {
        "question_title": "Double",
        "question_content": "Print twice the number.",
        "question_id": "abc_a",
        "contest_date": "2024-08-03T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(LCB_PUBLIC),
        "private_test_cases": packed(LCB_PRIVATE),
        "metadata": "{}",
    },
    "codeforces": {
        "id": "1A",
        "contest_id": "1",
        "rating": 1000,
        "description": "Print twice the number.",
        "input_format": "A number.",
        "output_format": "A number.",
        "examples": [{"input": "3", "output": "6"}],
        "official_tests": [{"input": "4", "output": "8"}],
    },
    "humaneval": {
        "task_id": "HumanEval/0",
        "prompt": 'from typing import List\n\ndef double(x: int) -> int:\n    """Return twice x."""\n',
        "entry_point": "double",
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 6\n",
    },
    "mbpp": {
        "task_id": 11,
        "text": "Write a function to double a number.",
        "code": "def double(x): return 2 * x",
        "test_list": ["assert double(2) == 4", "assert double(5) == 10"],
        "test_setup_code": "",
        "challenge_test_list": [],
    },
    "ifeval": {
        "key": 1,
        "prompt": "Say it without commas.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{"num_words": None}],
    },
    "alpaca_eval": {"instruction": "Say hello.", "output": "Hello!", "dataset": "helpful_base"},
    "arena_hard": {"uid": "u1", "category": "arena-hard-v0.1", "cluster": "c", "prompt": "Say hello."},
}
"""One row of each suite, in the columns that are published."""


def load(path: Path, suite: str, **choice: Any) -> Source:
    return load_source(Config(), suite, str(path), Choice(**choice))


def written(folder: Path, name: str, *rows: Mapping[str, Any]) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def problem_of(folder: Path, suite: str, **changed: Any) -> Problem:
    return load(written(folder, "rows.jsonl", ROWS[suite] | changed), suite).problems[0]


# Every suite --------------------------------------------------------------------------------------


def test_every_suite_has_a_row_here() -> None:
    assert ROWS.keys() == PUBLISHED.keys()


def test_the_document_lists_every_suite_with_its_k() -> None:
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    listed = {name: int(row[-1]) for row in rows for name in re.findall("`([^`]+)`", row[0])}
    embedded = dict.fromkeys(SUITE_NAMES, DEFAULT_SAMPLES)
    assert listed == embedded | {name: suite.num_samples for name, suite in PUBLISHED.items()}


@pytest.mark.parametrize("suite", PUBLISHED)
def test_a_row_in_the_published_schema_becomes_a_problem(suite: str, tmp_path: Path) -> None:
    problem = problem_of(tmp_path, suite)
    assert problem.family == suite
    assert problem.id.startswith(f"{suite}/")
    json.dumps(dict(problem.spec))  # JSON values only


_REQUIRED = [
    (suite, name) for suite, published in PUBLISHED.items() for names in published.columns for name in names
]


@pytest.mark.parametrize(
    ("suite", "column"), [(s, c) for s, c in _REQUIRED if c in ROWS[s] and c != "cluster"]
)
def test_a_missing_column_is_named_with_file_and_line(suite: str, column: str, tmp_path: Path) -> None:
    row = {key: value for key, value in ROWS[suite].items() if key != column}
    path = written(tmp_path, "bad.jsonl", ROWS[suite], row)
    if column in ("private_test_cases", "uid"):
        assert len(load(path, suite).problems) == 2  # the suite can do without
        return
    with pytest.raises(DataError, match=rf"bad\.jsonl:2: no column .*'{column}'"):
        load(path, suite)


@pytest.mark.parametrize(
    "suite", [suite for suite in PUBLISHED if suite not in ("aime25", "gsm8k", "aime24")]
)
def test_a_file_is_known_by_its_columns(suite: str, tmp_path: Path) -> None:
    found = recognise("x.jsonl", Row(place="x:1", values=ROWS[suite]))
    assert found is not None and found.name == suite


@pytest.mark.parametrize(
    ("name", "suite"),
    [("aime_2024.jsonl", "aime24"), ("AIME2025.jsonl", "aime25"), ("gsm8k_test.jsonl", "gsm8k")],
)
def test_a_file_is_known_by_its_name(name: str, suite: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, ROWS[suite])
    assert load_source(Config(), str(path), None, Choice()).published is PUBLISHED[suite]


@pytest.mark.parametrize("name", ["named", "x.jsonl"])
@pytest.mark.parametrize(("suite", "column"), [(s, c) for s, c in _REQUIRED if c in ROWS[s]])
def test_a_file_that_lacks_a_column_is_not_taken_for_problems_of_ones_own(
    suite: str, column: str, name: str, tmp_path: Path
) -> None:
    """By its name, or where the other columns leave no doubt; of `question` and `answer` they do."""
    known = {"aime24": "aime24", "aime25": "AIME_2025", "gpqa": "gpqa_diamond"}
    name = f"{known.get(suite, suite)}.jsonl" if name == "named" else name
    row = {key: value for key, value in ROWS[suite].items() if key != column}
    path = written(tmp_path, name, row)
    with pytest.raises(DataError, match=rf"{name}:1: no (column|field) '") as refused:
        load_source(Config(), str(path), None, Choice())
    if name != "x.jsonl":
        assert f"'{column}'" in str(refused.value).partition(", which the suite ")[0]
        assert f"the suite {suite} has" in str(refused.value)


def test_a_file_of_almost_a_suites_columns_is_named_with_the_missing_one(tmp_path: Path) -> None:
    row = {key: value for key, value in ROWS["livecodebench"].items() if key != "private_test_cases"}
    path = written(tmp_path, "x.jsonl", row)
    with pytest.raises(
        DataError, match=r"x\.jsonl:1: no column 'private_test_cases', which the suite livecodebench has"
    ):
        load_source(Config(), str(path), None, Choice())


def test_a_table_of_ones_own_problems_is_refused_with_the_form_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("prompt,answer\n2+2?,4\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"mine\.csv: problems of your own are read from JSONL"):
        load_source(Config(), str(tmp_path / "mine.csv"), None, Choice())


@pytest.mark.parametrize("name", ["arena.jsonl", "my_mmlu.jsonl", "x.jsonl"])
@pytest.mark.parametrize("more", [{"answer": "4"}, {"verifier": "code", "mode": "stdin", "tests": []}])
def test_problems_of_ones_own_may_have_any_name_and_any_other_columns(
    name: str, more: dict[str, Any], tmp_path: Path
) -> None:
    path = written(tmp_path, name, {"prompt": "2+2?", "uid": "u", "instruction": "?"} | more)
    assert load_source(Config(), str(path), None, Choice()).published is None


def test_a_users_own_problems_are_a_suite_too(tmp_path: Path) -> None:
    path = written(tmp_path, "mine.jsonl", {"prompt": "1+1?", "answer": 2}, {"prompt": "1+2?", "answer": 3})
    found = load_source(Config(), str(path), None, Choice(limit=1))
    assert (found.name, found.published, len(found.problems)) == ("mine", None, 1)


def test_unknown_suites_and_missing_data_are_refused_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"no suite is named 'x'.*mixed.*aime24"):
        load_source(Config(), "x", None, Choice())
    with pytest.raises(UserError, match=r"'gsm8k' needs its data: --data FILE.*--data hub.*openai/gsm8k"):
        load_source(Config(), "gsm8k", None, Choice())
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_source(Config(), "gsm8k", "nowhere", Choice())


# What the rows say --------------------------------------------------------------------------------


def test_choices_of_gpqa_are_shuffled_by_the_seed_and_the_right_one_follows(tmp_path: Path) -> None:
    path = written(tmp_path, "g.jsonl", *(ROWS["gpqa"] | {"Question": f"Q{i}?"} for i in range(40)))
    first, again, other = (
        load_source(Config(seed=seed), "gpqa", str(path), Choice()).problems for seed in (0, 0, 1)
    )
    assert first == again != other
    letters = [problem.spec["answer"] for problem in first]
    assert set(letters) == set("ABCD")
    for problem in first:
        assert problem.spec["choices"][ord(problem.spec["answer"]) - ord("A")] == "proton"
        assert f"{problem.spec['answer']}. proton" in problem.prompt


def test_gold_answers_are_read_in_all_published_spellings(tmp_path: Path) -> None:
    assert problem_of(tmp_path, "gsm8k").spec["answer"] == "1200"
    assert problem_of(tmp_path, "mmlu").spec["answer"] == "C"
    assert problem_of(tmp_path, "mmlu", answer="B").spec["answer"] == "B"
    assert problem_of(tmp_path, "mmlu_pro").spec["answer"] == "J"
    math = problem_of(tmp_path, "math500")
    assert (math.level, math.spec["domain"]) == (3, "Algebra")
    assert problem_of(tmp_path, "math500", level="Level 5").level == 5


@pytest.mark.parametrize(
    ("suite", "changed", "message"),
    [
        ("gsm8k", {"answer": "twelve"}, "column 'answer' must end with '#### NUMBER'"),
        ("mmlu", {"answer": 4}, "column 'answer' names none of 4 choices: 4"),
        ("mmlu", {"choices": "abcd"}, "column 'choices' is not valid JSON"),
        ("mmlu_pro", {"answer": "K"}, "column 'answer' names none of 10 choices: 'K'"),
        ("aime24", {"answer": ""}, "column 'answer' is empty"),
        ("aime24", {"answer": ["4"]}, "column 'answer' must hold text"),
        ("math500", {"problem": "\ud800"}, "column 'problem' holds half of a surrogate pair"),
        ("ifeval", {"kwargs": []}, "column 'kwargs' must have one entry for each of 1"),
        ("ifeval", {"instruction_id_list": ["x:y"]}, "no instruction is named 'x:y'"),
        ("ifeval", {"instruction_id_list": ["startend:end_checker"]}, "needs 'end_phrase'"),
        ("codeforces", {"rating": "high"}, "column 'rating' must hold the problem's rating"),
        ("codeforces", {"rating": 10**400}, "column 'rating' must hold the problem's rating"),
        ("codeforces", {"official_tests": [], "examples": []}, "column 'official_tests' holds no test"),
        ("livecodebench", {"private_test_cases": "%%%"}, "column 'private_test_cases' cannot be read"),
        ("livecodebench", {"public_test_cases": "[{}]"}, "holds a test that cannot be read"),
        ("mbpp", {"test_list": []}, "column 'test_list' holds no test"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(
    suite: str, changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:1: ") as refused:
        problem_of(tmp_path, suite, **changed)
    assert message in str(refused.value)


def test_whole_numbers_of_a_table_with_gaps_are_whole(tmp_path: Path) -> None:
    names = ["length_constraints:number_paragraphs"]
    problem = problem_of(tmp_path, "ifeval", instruction_id_list=names, kwargs=[{"num_paragraphs": 3.0}])
    assert json.dumps(problem.spec["kwargs"]) == '[{"num_paragraphs": 3}]'


def test_private_tests_are_read_without_unpickling(tmp_path: Path) -> None:
    spec = problem_of(tmp_path, "livecodebench").spec
    assert spec["tests"] == [{"stdin": "3\n", "stdout": "6\n"}, {"stdin": "5\n", "stdout": "10\n"}]

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    evil = base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
    with pytest.raises(DataError, match="where only a text is expected"):
        problem_of(tmp_path, "livecodebench", private_test_cases=evil)
    assert not (tmp_path / "ran").exists()


def test_functional_tests_call_the_method_of_the_starter_code(tmp_path: Path) -> None:
    spec = problem_of(
        tmp_path,
        "livecodebench",
        starter_code="class Solution:\n    def twice(self, x: int) -> int:\n        ",
        public_test_cases=[{"input": "3\n[1, 2]", "output": "6", "testtype": "functional"}],
        private_test_cases="[]",
        metadata='{"func_name": "twice"}',
    ).spec
    assert (spec["mode"], spec["entry"]) == ("call", "Solution.twice")
    assert spec["tests"] == [{"args": [3, [1, 2]], "expected": 6}]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"generated_checker": "print(1)"}, "needs a checker of its own"),
        ({"interaction_format": "Ask, then answer."}, "is interactive"),
        ({"input_mode": "file"}, "does not read from standard input"),
        ({"executable": False}, "is not executable"),
        ({"official_tests_complete": False}, "has incomplete tests"),
        ({"official_tests_complete": "False"}, "has incomplete tests"),
    ],
)
def test_problems_that_equal_outputs_do_not_judge_are_left_out_and_counted(
    changed: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    usual = {
        "generated_checker": None,
        "interaction_format": None,
        "input_mode": "stdio",
        "executable": True,
        "official_tests_complete": True,
    }
    rows = [ROWS["codeforces"] | usual | {"id": "A"}, ROWS["codeforces"] | usual | {"id": "B"} | changed]
    found = load(written(tmp_path, "cf.jsonl", *rows), "codeforces")
    assert [problem.id for problem in found.problems] == ["codeforces/A"]
    assert found.left_out == {reason: 1}
    with pytest.raises(UserError, match=f"no problem of suite 'codeforces' can be graded: 1 {reason}"):
        load(written(tmp_path, "cf.jsonl", rows[1]), "codeforces")


def test_a_problem_without_a_rating_is_a_problem_without_a_rating(tmp_path: Path) -> None:
    problem = problem_of(tmp_path, "codeforces", rating=None)
    assert "rating" not in problem.spec
    assert problem.level == 0


def test_contests_are_chosen_by_date(tmp_path: Path) -> None:
    dates = ("2024-07-31", "2024-08-01", "2025-01-31", "2025-02-01")
    rows = [ROWS["livecodebench"] | {"contest_date": f"{d}T12:00:00", "question_id": d} for d in dates]
    path = written(tmp_path, "lcb.jsonl", *rows)
    found = load(path, "livecodebench", since="2024-08-01", until="2025-01-31")
    assert [problem.id for problem in found.problems] == [f"livecodebench/{d}" for d in dates[1:3]]
    with pytest.raises(UserError, match="--since 'summer' is not a date"):
        load(path, "livecodebench", since="summer")


def test_only_the_test_split_of_mbpp_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path, "m.jsonl", *(ROWS["mbpp"] | {"task_id": i} for i in (1, 10, 11, 510, 511)))
    assert [problem.id for problem in load(path, "mbpp").problems] == ["mbpp/11", "mbpp/510"]


@pytest.mark.parametrize("test", ["3", "def check(candidate:", "check = 1\0", "def check(a): pass\n" * 2])
def test_checks_of_humaneval_that_cannot_be_read_are_named_with_their_line(test: str, tmp_path: Path) -> None:
    path = written(tmp_path, "he.jsonl", ROWS["humaneval"], ROWS["humaneval"] | {"test": test})
    with pytest.raises(DataError, match=r"he\.jsonl:2: column 'test' holds no checks that can be read"):
        load(path, "humaneval")


# Files --------------------------------------------------------------------------------------------


def test_one_table_is_read_from_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{"a": "1", "b": 'x\u2028y, "z"'}, {"a": "2", "b": "\u4f60\nb"}]
    jsonl = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "t.jsonl").write_text(jsonl, encoding="utf-8")
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(jsonl.encode()))
    (tmp_path / "t.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "t.csv").write_text('a,b\n1,"x\u2028y, ""z"""\n2,"\u4f60\nb"\n', encoding="utf-8-sig")
    for name in ("t.jsonl", "t.jsonl.gz", "t.json", "t.csv"):
        assert [row.values for row in read_rows(tmp_path / name)] == rows, name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b'{"a": 1}\n{"a": ', r"t\.jsonl:2: not valid JSON"),
        ("t.jsonl", b'{"a": 1}\n[1]', r"t\.jsonl:2: a JSON object is needed"),
        ("t.jsonl", b"\n\n", "is empty"),
        ("t.jsonl", b'{"a": 1}\n"\xff"', r"t\.jsonl:2: not UTF-8"),
        ("t.csv", b"a,b\n1\n", r"t\.csv:2: 2 columns are expected"),
        ("t.json", b"[\n{},\n}", r"t\.json:3: not valid JSON"),
        ("t.jsonl", b'{"a": NaN}', r"t\.jsonl:1: not usable JSON: NaN is not a JSON value"),
        ("t.json", b'[{"a": Infinity}]', "not usable JSON: Infinity is not a JSON value"),
        ("t.jsonl.gz", b"nothing", r"t\.jsonl\.gz:1: not valid JSON"),
        ("t.jsonl.gz", gzip.compress(b"{}", mtime=0)[:10] + b"\x07damaged", "cannot read"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_rows(tmp_path / name)


@pytest.mark.parametrize(
    "number",
    ["7", "0.1000000000000000055", "2.5e3", "1.10", "42.0", "12345678901234567890", "1e400", "1e999999999"],
)
def test_a_number_is_the_same_answer_in_a_published_data_set_and_in_a_file_of_ones_own(
    number: str, tmp_path: Path
) -> None:
    line = f'{{"problem": "How many?", "answer": {number}}}'
    (tmp_path / "own.jsonl").write_text(line + "\n", encoding="utf-8")
    (tmp_path / "list.json").write_text(f"[{line}]", encoding="utf-8")
    (own,) = read_problems(tmp_path / "own.jsonl", Fields(prompt="problem", verifier="exact")).problems
    for name in ("own.jsonl", "list.json"):
        (row,) = read_rows(tmp_path / name)
        assert row.text("answer") == row.optional("answer") == own.spec["answer"], name


def test_a_number_of_a_table_is_written_out_as_one_of_a_file() -> None:
    row = Row(place="hub:x:1", values={"a": 0.1, "b": 1e22, "c": 7, "d": float("nan"), "e": True})
    assert [row.text(name) for name in "abc"] == ["0.1", "1" + 22 * "0", "7"]
    for name in "de":
        with pytest.raises(DataError, match=f"column '{name}' must hold text or a number"):
            row.text(name)


def test_what_is_asked_for_as_a_value_has_floats(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": 1.5, "b": [{"c": 2.5, "d": [3]}]}\n', encoding="utf-8")
    (row,) = read_rows(tmp_path / "t.jsonl")
    found = [row.get("a"), row.list_of(dict, "b")]
    assert json.dumps(found) == '[1.5, [{"c": 2.5, "d": [3]}]]'


@pytest.mark.parametrize(
    ("suite", "repository", "name"),
    [
        # Repositories with a program for loading, of which only the files can be read.
        ("livecodebench", "livecodebench/code_generation_lite", "test6.jsonl"),
        ("alpaca_eval", "tatsu-lab/alpaca_eval", "alpaca_eval_gpt4_baseline.json"),
        ("gsm8k", "openai/gsm8k", "main/test-00000.jsonl"),
        ("math500", "HuggingFaceH4/MATH-500", "test.jsonl"),
        ("ifeval", "google/IFEval", "ifeval_input_data.jsonl"),
        ("aime24", "HuggingFaceH4/aime_2024", "data/train-00000-of-00001.jsonl"),
        ("mmlu", "cais/mmlu", "all/test-00000-of-00001.jsonl"),
    ],
)
def test_the_hub_is_asked_for_what_it_has(suite: str, repository: str, name: str, tmp_path: Path) -> None:
    row = ROWS[suite] | {"contest_date": "2024-08-03T12:00:00"}
    with online(tmp_path) as web:
        web.hub.add("datasets", repository, {name: (json.dumps(row) + "\n").encode(), "x.py": b"import os"})
        found = load_source(Config(), suite, "hub", Choice(since="2024-08-03", until="2024-08-03"))
        assert web.hub.fetched == [name]
    assert len(found.problems) == 1


def test_a_hub_that_fails_is_an_error_of_the_data(tmp_path: Path) -> None:
    with online(tmp_path) as web:
        with pytest.raises(DataError, match="there is no data set openai/gsm8k on the Hub"):
            load_source(Config(), "gsm8k", "hub", Choice())
        for name in ("hub:gsm8k", "hub:a b/c", "hub:a/b/c.jsonl:main#x#y"):
            with pytest.raises(DataError, match="is not a name on the Hugging Face Hub; write hf:OWNER/NAME"):
                load_source(Config(), "gsm8k", name, Choice())
        assert web.hub.fetched == []


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_a_complaint(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name in ("t.jsonl", "t.json", "t.csv"):
            path = Path(folder) / name
            path.write_bytes(data)
            try:
                assert read_rows(path)
            except DataError as error:
                assert str(path) in str(error)


# Programs are judged in the sandbox ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("suite", "right", "wrong"),
    [
        ("humaneval", "    return 2 * x", "    return x"),
        (
            "humaneval",
            "```python\ndef double(x: int) -> int:\n    return x + x\n```",
            "```\ndef double(x): 1\n```",
        ),
        ("mbpp", "```python\ndef double(x):\n    return x + x\n```", "def double(x): return 4"),
        ("livecodebench", "print(2 * int(input()))", "print(6)"),
        ("codeforces", "```python\nprint(2 * int(input()))\n```", "print(8)"),
    ],
)
def test_programs_pass_their_tests_or_do_not(suite: str, right: str, wrong: str, tmp_path: Path) -> None:
    problem = problem_of(tmp_path, suite)
    assert verdict_on(problem, right)[0].outcome is Outcome.CORRECT
    assert verdict_on(problem, wrong)[0].outcome is Outcome.WRONG


# The files as published ---------------------------------------------------------------------------

_SIZES = {
    "aime24.jsonl": ("aime24", 30),
    "math500.jsonl": ("math500", 500),
    "gsm8k_test.jsonl": ("gsm8k", 1319),
    "mmlu_stem.jsonl": ("mmlu", 3018),
    "humaneval.jsonl.gz": ("humaneval", 164),
    "mbpp.jsonl": ("mbpp", 500),
    "ifeval.jsonl": ("ifeval", 541),
    "arena_hard_v0.1_questions.jsonl": ("arena_hard", 500),
}


@pytest.mark.parametrize("name", _SIZES)
def test_published_files_are_recognised_and_read_whole(name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip("the public data are not here")
    suite, size = _SIZES[name]
    found = load_source(Config(), str(DATA / name), None, Choice())
    assert (found.name, len(found.problems)) == (suite, size)
    assert len({problem.id for problem in found.problems}) == size
    for problem in found.problems:
        if problem.verifier == "choice":
            assert gold_letter(problem.spec["answer"], problem.spec["choices"])
    if suite == "math500":
        assert {problem.level for problem in found.problems} == {1, 2, 3, 4, 5}
        assert len({problem.spec["domain"] for problem in found.problems}) == 7


# Contamination ------------------------------------------------------------------------------------


def contamination(folder: Path, lines: list[Mapping[str, Any]], prompts: list[str]) -> list[tuple[str, str]]:
    rows = read_rows(written(folder, "train.jsonl", *lines))
    suite = written(folder, "suite.jsonl", *({"prompt": prompt, "answer": 1} for prompt in prompts))
    problems = load_source(Config(), str(suite), None, Choice()).problems
    by_id = {problem.id: problem.prompt for problem in problems}
    found = find_contamination(rows, problems)
    return [(by_id[overlap.problem], overlap.place.rpartition(":")[2]) for overlap in found.overlaps]


def test_ten_words_in_a_row_are_found_wherever_they_stand_and_nine_are_not(tmp_path: Path) -> None:
    question = "Alice has seven apples and gives three of them away to Bob today"
    nested = {"messages": [{"role": "user", "content": f"Hm! ALICE has -- seven {question[16:]}?"}]}
    assert contamination(tmp_path, [{"x": "else"}, nested], [question]) == [(question, "2")]
    nine = " ".join(question.split()[:9])
    assert contamination(tmp_path, [{"x": nine + " instead"}], [question]) == []


def test_short_problems_are_found_only_as_a_whole(tmp_path: Path) -> None:
    assert contamination(tmp_path, [{"prompt": "what is 2 + 2"}], ["What is 2+2?"]) == [("What is 2+2?", "1")]
    assert contamination(tmp_path, [{"prompt": "tell me what is 2 + 2"}], ["What is 2+2?"]) == []


def test_chinese_counts_by_characters(tmp_path: Path) -> None:
    text = "\u5c0f\u660e\u6709\u4e03\u4e2a\u82f9\u679c\u7ed9\u4e86\u5c0f\u7ea2"
    assert contamination(tmp_path, [{"p": "\u95ee\uff1a" + text}], [text]) == [(text, "1")]


_LEAKED = "Print twice the number that stands in the first line of the input."


@pytest.mark.parametrize(
    ("suite", "mine", "other"),
    [
        (
            "humaneval",
            {"prompt": f"def twice(x):\n    '{_LEAKED}'"},
            {"prompt": "def half(y):\n    'Halve.'"},
        ),
        ("mbpp", {"text": _LEAKED}, {"text": "Halve it.", "test_list": ["assert halve(4) == 2"]}),
        (
            "livecodebench",
            {"question_content": _LEAKED, "starter_code": "class Solution:\n    def twice(self, x: int)"},
            {"question_content": "Halve.", "starter_code": "class Solution:\n    def halve(self, y: int)"},
        ),
        ("livecodebench", {"question_content": _LEAKED}, {"question_content": "Halve what comes as the"}),
        ("codeforces", {"description": _LEAKED}, {"description": "Halve.", "note": "So."}),
        (
            "mmlu",
            {"question": _LEAKED, "choices": [*"wxy", "is not known"]},
            {"choices": ["is not known"] * 4},
        ),
    ],
)
def test_words_that_we_put_around_a_program_are_no_leak(
    suite: str, mine: dict[str, Any], other: dict[str, Any], tmp_path: Path
) -> None:
    """Training data with prompts of the same form share nothing with a suite but that form."""
    problem = problem_of(tmp_path, suite, **mine)
    prompt = problem_of(tmp_path, suite, **other).prompt
    row = Row(place="train:1", values={"messages": [{"content": f"{prompt}\n\nSo it is."}]})
    assert find_contamination([row], [problem]).overlaps == ()
    leaked = Row(place="train:2", values={"messages": [{"content": f"Now: {_LEAKED}"}]})
    assert [one.place for one in find_contamination([row, leaked], [problem]).overlaps] == ["train:2"]


def test_gsm8k_train_and_test_are_told_apart_and_a_leak_is_found(tmp_path: Path) -> None:
    """The published splits share a few stock phrases; a leaked question is among what is found."""
    if not (DATA / "gsm8k_test.jsonl").exists():
        pytest.skip("the public data are not here")
    problems = load_source(Config(), str(DATA / "gsm8k_test.jsonl"), None, Choice(limit=200)).problems
    train = read_rows(DATA / "gsm8k_train.jsonl")[:1000]
    clean = find_contamination(train, problems)
    leaked = find_contamination([*train, Row(place="leak:1", values={"q": problems[7].prompt})], problems)
    assert clean.share < 0.05
    new = {overlap.problem for overlap in leaked.overlaps} - {overlap.problem for overlap in clean.overlaps}
    assert new == {problems[7].id}
