"""Published data sets: rows with the columns that they have, read without naming a field."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from published_rows import packed
from zerone.data.adapters import ADAPTERS, default_config
from zerone.data.demonstrations import read_demonstrations
from zerone.data.jsonl import Fields, ProblemFile, read_problems
from zerone.data.preferences import Pair, read_rows
from zerone.errors import DataError
from zerone.rewards.ground_truth import gold_complaint
from zerone.rewards.verifiers import verifier_named
from zerone.types import Outcome

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the published data sets are not here")


LCB = [{"input": "3\n", "output": "6\n", "testtype": "stdin"}]
DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\nRemember to put "
    'your answer on its own line after "Answer:".'
)

PROBLEMS: Mapping[str, tuple[str, dict[str, Any], str, str, Any]] = {
    "gsm8k": (
        "GSM8K",
        {"question": "How many?", "answer": "He has 600 + 600 = <<600+600=1200>>1,200.\n#### 1,200"},
        "How many?",
        "number",
        {"answer": "1200"},
    ),
    "gsm8k, negative money": (
        "GSM8K",
        {"question": "Loss?", "answer": "It is.\n#### -$5"},
        "Loss?",
        "number",
        {"answer": "-5"},
    ),
    "MATH": (
        "MATH",
        {
            "problem": "Find $x$.",
            "level": "Level 5",
            "type": "Algebra",
            "solution": "First $\\boxed{7}$ is wrong, so $x = \\boxed{\\frac{3}{\\sqrt{2}}}$.",
        },
        "Find $x$.",
        "math",
        {"answer": "\\frac{3}{\\sqrt{2}}"},
    ),
    "MATH-500 and other copies with an answer": (
        "DeepScaleR, or MATH with answers",
        {
            "problem": "Find it.",
            "solution": "... \\boxed{12}",
            "answer": "12",
            "subject": "Algebra",
            "level": 2,
            "unique_id": "test/1",
        },
        "Find it.",
        "number",
        {"answer": "12"},
    ),
    "DeepMath-103K": (
        "DeepMath-103K",
        {
            "question": "Evaluate the limit.",
            "final_answer": "\\dfrac{1}{2}",
            "difficulty": 4.5,
            "topic": "Calculus",
            "r1_solution_1": "...",
            "r1_solution_2": "...",
            "r1_solution_3": "...",
        },
        "Evaluate the limit.",
        "math",
        {"answer": "\\dfrac{1}{2}"},
    ),
    "DeepMath-103K, a word": (
        "DeepMath-103K",
        {"question": "Does it converge?", "final_answer": "Yes", "difficulty": 5.0, "topic": "Analysis"},
        "Does it converge?",
        "exact",
        {"answer": "Yes"},
    ),
    "OpenR1-Math-220k": (
        "OpenR1-Math",
        {
            "problem": "How far?",
            "solution": "...",
            "answer": "v_{R}=4",
            "problem_type": "Algebra",
            "question_type": "math-word-problem",
            "source": "olympiads",
            "uuid": "1",
            "is_reasoning_complete": [True],
            "generations": ["<think>..</think>"],
            "correctness_math_verify": [True],
            "messages": [{"role": "user", "content": "How far?"}, {"role": "assistant", "content": "4"}],
        },
        "How far?",
        "math",
        {"answer": "v_{R}=4"},
    ),
    "DAPO-Math-17k": (
        "DAPO-Math-17k",
        {
            "data_source": "math_dapo",
            "prompt": [{"role": "user", "content": DAPO.format("Let $x$ be.\n\nFind $x$.")}],
            "ability": "MATH",
            "reward_model": {"ground_truth": "34", "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": "9a9b6eb4"},
        },
        "Let $x$ be.\n\nFind $x$.",
        "number",
        {"answer": "34"},
    ),
    "dapo-math-17k-processed.jsonl": (
        "DAPO-Math-17k-Processed",
        {
            "prompt": "Find $y$.",
            "solution": "113",
            "data_source": "math_dapo",
            "source_prompt": [{"role": "user", "content": "..."}],
            "ability": "MATH",
            "reward_model": {"ground_truth": "113", "style": "rule"},
            "extra_info": {"index": "1"},
        },
        "Find $y$.",
        "number",
        {"answer": "113"},
    ),
    "DeepScaleR, or MATH with answers": (
        "DeepScaleR, or MATH with answers",
        {"problem": "What?", "answer": "-\\frac{2}{3}", "solution": "1. We start ..."},
        "What?",
        "math",
        {"answer": "-\\frac{2}{3}"},
    ),
    "Big-Math": (
        "Big-Math",
        {"problem": "What?", "answer": "16", "source": "orca", "domain": ["Alg"], "llama8b_solve_rate": 0.28},
        "What?",
        "number",
        {"answer": "16"},
    ),
    "Big-Math-Processed.jsonl": (
        "Big-Math-Processed",
        {"prompt": "What?", "solution": "16", "source": "orca", "domain": [], "llama8b_solve_rate": None},
        "What?",
        "number",
        {"answer": "16"},
    ),
    "Countdown-Tasks-3to4": (
        "Countdown",
        {"target": 98, "nums": [44, 19, 35]},
        "Using the numbers 44, 19, 35, write an expression that equals 98. You can use + - * / and "
        "parentheses, and each number at most once.",
        "countdown",
        {"numbers": [44, 19, 35], "target": 98},
    ),
    "APPS": (
        "APPS and TACO",
        {
            "problem_id": 1,
            "question": "Double it.",
            "solutions": "[]",
            "input_output": json.dumps({"inputs": ["3\n"], "outputs": ["6\n"]}),
            "difficulty": "introductory",
            "url": "u",
            "starter_code": "",
        },
        "Double it.",
        "code",
        {"mode": "stdin"},
    ),
    "TACO": (
        "APPS and TACO",
        {
            "question": "Double it.",
            "solutions": ["..."],
            "starter_code": "",
            "input_output": json.dumps({"inputs": [["3"]], "outputs": [["6"]]}),
            "difficulty": "EASY",
            "raw_tags": "[]",
            "tags": "[]",
            "time_limit": "2 seconds",
        },
        "Double it.",
        "code",
        {"mode": "stdin"},
    ),
    "LiveCodeBench": (
        "LiveCodeBench",
        {
            "question_title": "Double",
            "question_content": "Print twice the number.",
            "platform": "atcoder",
            "question_id": "abc",
            "contest_date": "2024-08-03T00:00:00",
            "starter_code": "",
            "difficulty": "easy",
            "public_test_cases": json.dumps(LCB),
            "private_test_cases": packed(LCB),
            "metadata": "{}",
        },
        "Print twice the number.",
        "code",
        {"mode": "stdin", "harness": "livecodebench"},
    ),
}


def write(tmp_path: Path, name: str, *rows: Mapping[str, Any]) -> Path:
    path = tmp_path / (name if name.endswith("jsonl") else "rows.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(tmp_path: Path, name: str, *rows: Mapping[str, Any]) -> ProblemFile:
    return read_problems(write(tmp_path, name, *rows), Fields())


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_published_row_is_a_problem_without_naming_fields(tmp_path: Path, name: str) -> None:
    title, row, prompt, verifier, spec = PROBLEMS[name]
    found = read(tmp_path, name, row)
    (problem,) = found.problems
    assert (found.read_as, problem.prompt, problem.verifier) == (title, prompt, verifier)
    assert spec.items() <= dict(problem.spec).items()
    assert problem.row == row, "rewards of one's own see the row as it was published"
    assert gold_complaint(problem) is None


def test_every_adapter_of_problems_is_tried_here() -> None:
    assert {adapter.title for adapter in ADAPTERS if adapter.purpose == "problems"} == {
        title for title, *_ in PROBLEMS.values()
    }


def test_a_countdown_of_a_file_is_judged_by_its_rule(tmp_path: Path) -> None:
    (problem,) = read(tmp_path, "c", {"target": 98, "nums": [44, 19, 35]}).problems
    judge = verifier_named("countdown")
    assert judge("44 + 19 + 35", problem.spec).outcome is Outcome.CORRECT
    assert judge("98", problem.spec).outcome is Outcome.WRONG
    assert judge("44 + 44 + 10", problem.spec).outcome is Outcome.WRONG


@pytest.mark.parametrize("field", ["prompt", "answer"])
def test_field_options_put_a_data_set_aside(tmp_path: Path, field: str) -> None:
    row = {"question": "How many?", "answer": "So.\n#### 7", "note": "seven"}
    path = write(tmp_path, "gsm8k.jsonl", row)
    fields = Fields(prompt="question", answer="note") if field == "answer" else Fields(prompt="question")
    found = read_problems(path, fields)
    assert found.read_as is None
    assert found.problems[0].spec["answer"] == ("seven" if field == "answer" else "So.\n#### 7")


OWN = [
    {"prompt": "1+1?", "answer": "2"},
    {"prompt": "1+1?", "answer": "#### 2", "question": "other", "solution": "\\boxed{3}"},
    {"prompt": "1+1?", "answer": "2", "problem": "x", "final_answer": "9"},
    {"prompt": "1+1?", "answer": "2", "nums": [1], "target": 1},
]


@pytest.mark.parametrize("row", OWN)
def test_rows_of_ones_own_are_read_as_they_are(tmp_path: Path, row: dict[str, Any]) -> None:
    found = read(tmp_path, "gsm8k_math_countdown.jsonl", row)
    assert found.read_as is None
    assert found.problems[0].prompt == "1+1?"
    assert found.problems[0].spec["answer"] == row["answer"]


NOT_THEIRS = [
    {"question": "How many?", "answer": "seven"},
    {"problem": "What?", "answer": "7"},
    {"problem": "What?", "solution": "It is 7."},
    {"nums": [1, "2"], "target": 3},
    {"nums": [1, 2], "target": True},
    {"question": "What?", "final_answer": ["7"]},
]


@pytest.mark.parametrize("row", NOT_THEIRS)
def test_rows_of_a_shape_that_anybody_has_need_their_fields_named(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match="no field 'prompt'; the line has"):
        read(tmp_path, "rows.jsonl", row)


LATER = [
    ("gsm8k", {"question": "And?", "answer": "seven"}, "must end with '#### NUMBER'"),
    ("gsm8k", {"question": "And?"}, "no field 'answer'; the line has 'question'"),
    ("gsm8k", {"question": "And?", "answer": None}, "not a row of GSM8K"),
    ("MATH", {"problem": "And?", "solution": "It is 7."}, "has no \\boxed{ANSWER}"),
    ("Countdown-Tasks-3to4", {"target": 7}, "no field 'nums'"),
    ("LiveCodeBench", {"question_content": "And?"}, "no field 'public_test_cases'"),
]


@pytest.mark.parametrize(("name", "row", "said"), LATER)
def test_a_later_row_of_another_shape_is_told_with_its_line(
    tmp_path: Path, name: str, row: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, PROBLEMS[name][1], row)
    assert ".jsonl:2: not a row of" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(("name", "row", "said"), LATER)
def test_such_rows_are_left_out_and_counted_if_that_is_wished(
    tmp_path: Path, name: str, row: dict[str, Any], said: str
) -> None:
    found = read_problems(write(tmp_path, name, PROBLEMS[name][1], row), Fields(), skip=True)
    assert (len(found.problems), found.num_unreadable) == (1, 1)


def test_lines_that_are_no_json_are_never_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", {"prompt": "1?", "answer": "1"})
    with path.open("a") as file:
        file.write("{half a line\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: not valid JSON"):
        read_problems(path, Fields(), skip=True)


def test_a_file_of_nothing_but_such_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no field 'prompt'"):
        read_problems(write(tmp_path, "rows.jsonl", {"x": 1}, {"x": 2}), Fields(), skip=True)


@pytest.mark.parametrize(
    ("repository", "config"),
    [
        ("openai/gsm8k", "main"),
        ("open-r1/DAPO-Math-17k-Processed", "en"),
        ("open-r1/Big-Math-RL-Verified-Processed", "all"),
        ("someone/else", None),
        ("zwhe99/DeepMath-103K", None),
    ],
)
def test_known_data_sets_have_the_configuration_that_is_meant(repository: str, config: str | None) -> None:
    assert default_config(repository) == config


@needs_data
@pytest.mark.parametrize(
    ("name", "title", "number"),
    [
        ("gsm8k_train.jsonl", "GSM8K", 7473),
        ("gsm8k_test.jsonl", "GSM8K", 1319),
        ("math500.jsonl", "DeepScaleR, or MATH with answers", 500),
    ],
)
def test_files_as_published_are_read_whole(name: str, title: str, number: int) -> None:
    found = read_problems(DATA / name, Fields())
    assert (found.read_as, len(found.problems) + found.num_duplicates) == (title, number)
    assert {problem.verifier for problem in found.problems} <= {"number", "math", "exact", "choice"}
    if "gsm8k" in name:
        assert {problem.verifier for problem in found.problems} == {"number"}
        assert [one for one in found.problems if gold_complaint(one) is not None] == []


# Demonstrations -----------------------------------------------------------------------------------

MARKED = (
    "<|begin_of_thought|>\n\nLet me see.\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\nIt is 4.\n\n"
    "<|end_of_solution|>"
)
ASKS_FOR_MARKS = "Your role ... <|begin_of_thought|> {thought} <|end_of_thought|> ..."

DEMONSTRATIONS: Mapping[str, dict[str, Any]] = {
    "OpenThoughts-114k": {
        "system": ASKS_FOR_MARKS,
        "conversations": [{"from": "user", "value": "2+2?"}, {"from": "assistant", "value": MARKED}],
    },
    "Bespoke-Stratos-17k": {
        "system": ASKS_FOR_MARKS,
        "conversations": [{"from": "user", "value": "2+2?"}, {"from": "assistant", "value": MARKED}],
    },
    "OpenThoughts, metadata": {
        "problem": "2+2?",
        "deepseek_reasoning": "Let me see.",
        "deepseek_solution": "It is 4.",
        "ground_truth_solution": None,
        "domain": "math",
        "source": "numina",
        "test_cases": None,
        "starter_code": None,
    },
    "OpenThoughts3": {
        "difficulty": 8,
        "source": "x",
        "domain": "math",
        "conversations": [
            {"from": "human", "value": "2+2?"},
            {"from": "gpt", "value": "<think>Let me see.</think>\n\nIt is 4."},
        ],
    },
    "Mixture-of-Thoughts": {
        "messages": [
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "<think>Let me see.</think>\nIt is 4."},
        ],
        "num_tokens": 9,
        "source": "open-r1/OpenR1-Math-220k",
    },
    "s1K-1.1": {
        "question": "2+2?",
        "solution": "4",
        "deepseek_thinking_trajectory": "Let me see.",
        "deepseek_attempt": "It is 4.",
        "deepseek_grade": "Yes",
    },
    "OpenR1-Math-220k": {
        "problem": "2+2?",
        "solution": "4",
        "answer": "4",
        "generations": ["..."],
        "messages": [
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "<think>Let me see.</think>\nIt is 4."},
        ],
    },
}


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_a_published_row_is_a_demonstration(tmp_path: Path, name: str) -> None:
    (found,) = read_demonstrations(write(tmp_path, "rows.jsonl", DEMONSTRATIONS[name])).demonstrations
    question, said = found.messages
    assert (question.role, question.content) == ("user", "2+2?")
    written = f"{said.thought or ''} {said.content}"
    assert "Let me see." in written
    assert "It is 4." in written
    assert "begin_of" not in written
    assert "end_of" not in written


def test_a_system_message_of_another_kind_is_kept(tmp_path: Path) -> None:
    row = DEMONSTRATIONS["OpenThoughts-114k"] | {"system": "You speak like a pirate."}
    (found,) = read_demonstrations(write(tmp_path, "rows.jsonl", row)).demonstrations
    assert [message.role for message in found.messages] == ["system", "user", "assistant"]


# Preferences --------------------------------------------------------------------------------------


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]


PAIRS: Mapping[str, tuple[dict[str, Any], Pair]] = {
    "ultrafeedback_binarized": (
        {
            "prompt": "Hi",
            "prompt_id": "1",
            "chosen": said("Hello!"),
            "rejected": said("Go."),
            "messages": said("Hello!"),
            "score_chosen": 8.5,
            "score_rejected": 6.0,
        },
        Pair(prompt="Hi", chosen="Hello!", rejected="Go.", margin=2.5),
    ),
    "argilla, cleaned": (
        {
            "source": "evol",
            "prompt": "Hi",
            "chosen": said("Hello!"),
            "chosen-rating": 5.0,
            "chosen-model": "a",
            "rejected": said("Go."),
            "rejected-rating": 3.75,
            "rejected-model": "b",
        },
        Pair(prompt="Hi", chosen="Hello!", rejected="Go.", margin=1.25),
    ),
    "conversations alone": (
        {"chosen": said("Hello!"), "rejected": said("Go.")},
        Pair(prompt="Hi", chosen="Hello!", rejected="Go."),
    ),
    "several turns": (
        {"chosen": [*said("What?"), *said("Hello!")], "rejected": [*said("What?"), *said("Go.")]},
        Pair(prompt="user: Hi\n\nassistant: What?\n\nuser: Hi", chosen="Hello!", rejected="Go."),
    ),
    "orca_dpo_pairs": (
        {"system": "Be kind.", "question": "Hi", "chosen": "Hello!", "rejected": "Go."},
        Pair(prompt="Be kind.\n\nHi", chosen="Hello!", rejected="Go."),
    ),
    "no system message": (
        {"system": "", "question": "Hi", "chosen": "Hello!", "rejected": "Go."},
        Pair(prompt="Hi", chosen="Hello!", rejected="Go."),
    ),
    "hh-rlhf": (
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: What?\n\nHuman: Hi\n\nAssistant: Hello!",
            "rejected": "\n\nHuman: Hi\n\nAssistant: What?\n\nHuman: Hi\n\nAssistant: Go.",
        },
        Pair(prompt="Hi\n\nAssistant: What?\n\nHuman: Hi", chosen="Hello!", rejected="Go."),
    ),
    "one's own": (
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "Go.", "margin": 1},
        Pair(prompt="Hi", chosen="Hello!", rejected="Go.", margin=1),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_published_row_is_a_pair(tmp_path: Path, name: str) -> None:
    row, wanted = PAIRS[name]
    assert list(read_rows(write(tmp_path, "rows.jsonl", row))) == [wanted]


def test_dialogues_that_differ_before_the_end_are_no_pair(tmp_path: Path) -> None:
    row = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Ho\n\nAssistant: Go."}
    with pytest.raises(DataError, match=r"rows.jsonl:1: not a row of HH-RLHF.*differ before"):
        list(read_rows(write(tmp_path, "rows.jsonl", row)))


# Hostile rows -------------------------------------------------------------------------------------

ODD: list[Any] = [
    None,
    0,
    -1,
    True,
    "",
    " ",
    [],
    {},
    [[]],
    [None],
    {"role": 1},
    "\\boxed{",
    "####",
    1e300,
    "\ud800",
]


@pytest.mark.parametrize("columns", [sorted(adapter.columns) for adapter in ADAPTERS], ids=str)
def test_odd_values_are_refused_with_their_line(tmp_path: Path, columns: list[str]) -> None:
    path = tmp_path / "gsm8k_math.jsonl"
    for value in ODD:
        path.write_text(json.dumps(dict.fromkeys(columns, value)) + "\n", encoding="utf-8")
        for reader in (
            lambda p: read_problems(p, Fields()),
            read_demonstrations,
            lambda p: list(read_rows(p)),
        ):
            try:
                reader(path)
            except DataError as error:
                assert f"{path}:1" in str(error), value
