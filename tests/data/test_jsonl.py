"""Users' own problems: what is read, how answers are judged, and every complaint with its line."""

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.data.jsonl import Fields, ProblemFile, read_problems, split_problems
from zerone.data.numerals import plain_number
from zerone.errors import DataError
from zerone.rewards.accuracy import VERIFIERS
from zerone.types import Outcome

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_test.jsonl"
GSM8K_FIELDS = Fields(prompt="question", answer_pattern="#### (.+)$")


def write(path: Path, *records: Mapping[str, Any]) -> Path:
    """Write records as JSONL and return the path."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def read(path: Path, answer_pattern: str | None = None) -> ProblemFile:
    """Read a file with the default field names."""
    return read_problems(path, Fields(answer_pattern=answer_pattern))


def many(tmp_path: Path, num: int) -> ProblemFile:
    """Return `num` different problems."""
    return read(write(tmp_path / "many.jsonl", *({"prompt": f"Say {i}.", "answer": i} for i in range(num))))


@pytest.mark.skipif(not GSM8K.exists(), reason="the published GSM8K file is not here")
def test_gsm8k_is_read_as_published() -> None:
    file = read_problems(GSM8K, GSM8K_FIELDS)
    assert len(file.problems) == 1319
    assert file.num_duplicates == 0
    assert file.problems[0].prompt.startswith("Janet\u2019s ducks lay 16 eggs per day.")
    assert file.problems[0].spec == {"answer": "18"}
    assert {problem.verifier for problem in file.problems} == {"number"}
    assert not any("," in problem.spec["answer"] for problem in file.problems)


@pytest.mark.skipif(not GSM8K.exists(), reason="the published GSM8K file is not here")
def test_gsm8k_splits_near_the_share_asked_for() -> None:
    train, held_out = split_problems(read_problems(GSM8K, GSM8K_FIELDS).problems, 0.05)
    assert len(train) + len(held_out) == 1319
    # 66 expected; 4 binomial deviations of sqrt(1319 * 0.05 * 0.95) = 7.9 around it.
    assert abs(len(held_out) - 66) <= 32


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("68", "68"),
        (" -7 ", "-7"),
        ("+7", "7"),
        ("\u22127", "-7"),
        ("1,234", "1234"),
        ("1,234,567.50", "1234567.50"),
        ("$5", "5"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("\u20ac 3.20", "3.20"),
        ("20%", "20"),
        ("12.5 %", "12.5"),
        (".5", "0.5"),
        ("72.", "72"),
        ("3/4", "3/4"),
        ("-3 / 4", "-3/4"),
        ("007", "007"),
    ],
)
def test_numbers_are_recognised_and_cleaned(text: str, number: str) -> None:
    assert plain_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "five",
        "5 apples",
        "1,23",
        "12,34,567",
        "1e5",
        "3/0",
        "--5",
        "-$-5",
        "1/2/3",
        "1.2.3",
        "x=5",
        "\u0665",
        "9" * 41,
    ],
)
def test_other_texts_are_no_numbers(text: str) -> None:
    assert plain_number(text) is None


@given(st.fractions(max_denominator=10**6).filter(lambda value: abs(value.numerator) < 10**12))
def test_every_cleaned_number_keeps_its_value(value: Fraction) -> None:
    number = plain_number(str(value))
    assert number is not None and Fraction(number) == value


@given(st.text(alphabet="0123456789.,/+-$% ", max_size=12))
def test_a_cleaned_number_is_judged_equal_to_itself(text: str) -> None:
    number = plain_number(text)
    if number is not None:
        assert VERIFIERS["number"](number, {"answer": number}).outcome is Outcome.CORRECT
        assert VERIFIERS["number"](text, {"answer": number}).outcome is Outcome.CORRECT


def test_numbers_and_texts_get_their_verifiers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        {"prompt": "a", "answer": "$1,200"},
        {"prompt": "b", "answer": 0.1},
        {"prompt": "c", "answer": 42},
        {"prompt": "d", "answer": "Paris"},
    )
    judged = [(problem.verifier, problem.spec["answer"]) for problem in read(path).problems]
    assert judged == [("number", "1200"), ("number", "0.1"), ("number", "42"), ("exact", "Paris")]


@pytest.mark.parametrize(
    ("answer", "verifier"),
    [
        (r"\frac{1}{2}", "math"),
        ("$x$", "math"),
        ("x^2", "math"),
        (r"\$36", "math"),
        ("(3,4]", "math"),
        ("2k+2", "math"),
        ("y = -2x", "math"),
        ("-2 + 7i", "math"),
        ("52_8", "math"),
        ("1,-2", "math"),
        ("Paris", "exact"),
        ("A", "exact"),
        ("no", "exact"),
        ("5 apples", "exact"),
        ("2024-01-02", "exact"),
        ("1/2/2024", "exact"),
        ("3-2", "exact"),
        ("10:30", "exact"),
        ("1.2.3", "exact"),
        ("x" * 3 + "=5", "exact"),
    ],
)
def test_formulas_are_mathematics_and_other_texts_are_not(answer: str, verifier: str, tmp_path: Path) -> None:
    (problem,) = read(write(tmp_path / "p.jsonl", {"prompt": "a", "answer": answer})).problems
    assert problem.verifier == verifier


def test_json_numbers_are_taken_as_written(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "answer": 0.1000000000000000055}\n{"prompt": "b", "answer": 2.5e3}\n')
    assert [p.spec["answer"] for p in read(path).problems] == ["0.1000000000000000055", "2500"]


def test_a_json_number_with_a_huge_exponent_stays_short(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "answer": 1e999999999}\n')
    assert read(path).problems[0].spec["answer"] == "1E+999999999"


def test_repeated_prompts_are_dropped_and_counted(tmp_path: Path) -> None:
    first, again, other = ({"prompt": p, "answer": a} for p, a in (("a", "1"), (" a ", "2"), ("b", "3")))
    file = read(write(tmp_path / "p.jsonl", first, again, other))
    assert [problem.spec["answer"] for problem in file.problems] == ["1", "3"]
    assert file.num_duplicates == 1


def test_ids_depend_on_the_prompt_alone(tmp_path: Path) -> None:
    one = read(write(tmp_path / "1.jsonl", {"prompt": "a", "answer": "1"}, {"prompt": "b", "answer": "2"}))
    two = read(write(tmp_path / "2.jsonl", {"prompt": "b", "answer": "7"}, {"prompt": "a", "answer": "x"}))
    assert [p.id for p in one.problems] == [p.id for p in reversed(two.problems)]
    assert len({p.id for p in one.problems}) == 2


def test_blank_lines_and_a_byte_order_mark_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a", "answer": "1"}\r\n\r\n  \n{"prompt": "b", "answer": "2"}')
    assert len(read(path).problems) == 2


def test_line_separators_inside_a_string_do_not_end_the_line(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a\u2028b\x85c", "answer": "1"}\n', encoding="utf-8")
    assert read(path).problems[0].prompt == "a\u2028b\x85c"


def test_chinese_prompts_are_marked(tmp_path: Path) -> None:
    file = read(
        write(tmp_path / "p.jsonl", {"prompt": "小明有3个苹果", "answer": 3}, {"prompt": "x", "answer": 3})
    )
    assert [problem.language for problem in file.problems] == ["zh", "en"]


GOOD = b'{"prompt": "a", "answer": "1"}\n'


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{prompt: 1}", "not valid JSON: Expecting property name enclosed in double quotes at character 2"),
        (b'{"prompt": "b", "answer": NaN}', "NaN is not a JSON value"),
        (b'{"prompt": "b", "answer": ' + b"9" * 5000 + b"}", "not usable JSON"),
        (b"[" * 100_000, "not usable JSON"),
        (b'["b", "2"]', "a JSON object is needed"),
        (b'{"question": "b", "answer": "2"}', "no field 'prompt'; the line has 'question', 'answer'"),
        (b"{}", "no field 'prompt'; the line has no fields"),
        (b'{"prompt": "b"}', "no field 'answer'"),
        (b'{"prompt": " ", "answer": "2"}', "field 'prompt' is empty"),
        (b'{"prompt": "b", "answer": ""}', "field 'answer' is empty"),
        (b'{"prompt": "b", "answer": 1e99999999999999999999}', "not usable JSON: the exponent of 1e999999"),
        (b'{"prompt": "b", "answer": null}', "field 'answer' must hold text or a number, not null"),
        (b'{"prompt": "b", "answer": true}', "field 'answer' must hold text or a number, not true"),
        (b'{"prompt": ["b"], "answer": "2"}', "field 'prompt' must hold text or a number"),
        (b'{"prompt": "\\ud800", "answer": "2"}', "half of a surrogate pair"),
        (b'{"prompt": "\xff", "answer": "2"}', "not UTF-8 (byte 13 of the line)"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, complaint: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "pattern", "complaint"),
    [
        ("so it is 5", "#### (.+)$", ":1: data.answer_pattern='#### (.+)$' does not match"),
        ("b", "(a)?b", ":1: data.answer_pattern='(a)?b' does not match"),
        ("#### ", "####(.*)$", ":1: data.answer_pattern='####(.*)$' finds an empty answer"),
        ("5", "(", "data.answer_pattern='(' is not a regular expression"),
        ("5", "[0-9]+", "data.answer_pattern='[0-9]+' has no group"),
    ],
)
def test_a_pattern_that_finds_no_answer_is_refused(
    tmp_path: Path, answer: str, pattern: str, complaint: str
) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a", "answer": answer})
    with pytest.raises(DataError) as caught:
        read(path, pattern)
    assert complaint in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl does not exist"):
        read(tmp_path / "none.jsonl")


def test_a_directory_is_no_problem_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"p\.jsonl is empty"):
        read(path)


def test_the_split_is_complete_disjoint_and_in_file_order(tmp_path: Path) -> None:
    problems = many(tmp_path, 200).problems
    train, held_out = split_problems(problems, 0.2)
    assert sorted(train + held_out, key=problems.index) == list(problems)
    assert list(train) == sorted(train, key=problems.index)
    assert not {p.id for p in train} & {p.id for p in held_out}


def test_a_problem_keeps_its_side_when_the_file_grows(tmp_path: Path) -> None:
    few_train, few_held_out = split_problems(many(tmp_path, 100).problems, 0.2)
    train, held_out = split_problems(many(tmp_path, 300).problems, 0.2)
    assert {p.id for p in few_train} <= {p.id for p in train}
    assert {p.id for p in few_held_out} <= {p.id for p in held_out}


def test_a_larger_share_holds_out_more(tmp_path: Path) -> None:
    problems = many(tmp_path, 300).problems
    smaller, larger = ({p.id for p in split_problems(problems, share)[1]} for share in (0.1, 0.5))
    assert smaller < larger


@pytest.mark.parametrize(("share", "side"), [(1e-6, "evaluation"), (1 - 1e-6, "training")])
def test_an_empty_side_is_refused_with_a_share_that_works(tmp_path: Path, share: float, side: str) -> None:
    problems = many(tmp_path, 20).problems
    with pytest.raises(DataError, match=f"leaves none for {side}") as caught:
        split_problems(problems, share)
    advised = float(str(caught.value).rpartition("data.eval_share=")[2])
    train, held_out = split_problems(problems, advised)
    assert train and held_out


def test_one_problem_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="add problems"):
        split_problems(many(tmp_path, 1).problems, 0.5)
