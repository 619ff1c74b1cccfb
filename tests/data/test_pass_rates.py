"""Pass rates: which problems a band keeps, and files that cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest

from zerone.config import Config, build_config
from zerone.data.jsonl import Fields, read_problems
from zerone.data.pass_rates import Band, hash_of_problem, read_pass_rates, within_band
from zerone.errors import ConfigError, DataError
from zerone.types import Problem

RATES: list[float | None] = [0, 0.125, 0.5, 0.875, 1, None]


def problems() -> list[Problem]:
    return [
        Problem(
            id=f"p{i}",
            family="jsonl",
            level=1,
            language="en",
            prompt=f"{i}?",
            verifier="number",
            spec={"answer": str(i)},
        )
        for i in range(len(RATES))
    ]


def write(tmp_path: Path, rates: list[Any] = RATES) -> Path:
    lines = [
        {"id": problem.id, "problem_sha256": hash_of_problem(problem), "pass_rate": rate}
        for problem, rate in zip(problems(), rates, strict=True)
    ]
    path = tmp_path / "rates.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("low", "high", "kept"),
    [
        (None, None, [1, 2, 3]),
        (0.5, None, [2, 3]),
        (None, 0.5, [1, 2]),
        (0.5, 0.5, [2]),
        (0.2, 0.8, [2]),
        (0, None, [0, 1, 2, 3]),
        (None, 1, [1, 2, 3, 4]),
        (0, 1, [0, 1, 2, 3, 4]),
        (0, 0, [0]),
        (1, 1, [4]),
    ],
)
def test_a_band_keeps_its_bounds_and_without_them_neither_0_nor_1(
    tmp_path: Path, low: float | None, high: float | None, kept: list[int]
) -> None:
    found, left_out = within_band(problems(), read_pass_rates(write(tmp_path)), Band(low=low, high=high))
    assert [problem.id for problem in found] == [f"p{i}" for i in kept]
    assert sum(left_out.values()) == len(RATES) - len(kept), "everything that is left out is counted"


def test_what_is_left_out_is_told_by_its_reason(tmp_path: Path) -> None:
    _, left_out = within_band(problems(), read_pass_rates(write(tmp_path)), Band(high=0.5))
    assert left_out == {"never solved": 1, "above a pass rate of 0.5": 2, "without a verdict": 1}


def test_the_order_of_the_problems_stays(tmp_path: Path) -> None:
    found, _ = within_band(problems()[::-1], read_pass_rates(write(tmp_path)), Band())
    assert [problem.id for problem in found] == ["p3", "p2", "p1"]


@pytest.mark.parametrize("change", ["answer", "prompt", "new"])
def test_a_problem_that_was_not_measured_as_it_is_now_is_refused(tmp_path: Path, change: str) -> None:
    known = read_pass_rates(write(tmp_path))
    first, *others = problems()
    changed = {
        "answer": Problem(**{**_fields(first), "spec": {"answer": "9"}}),
        "prompt": Problem(**{**_fields(first), "prompt": "nine?"}),
        "new": Problem(**{**_fields(first), "id": "other"}),
    }[change]
    with pytest.raises(
        DataError, match=r"1 of 6 problems have no pass rate in .*measure them into another file"
    ):
        within_band([changed, *others], known, Band())


def _fields(problem: Problem) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in Problem.__dataclass_fields__}


def test_the_hash_does_not_depend_on_how_a_row_was_read() -> None:
    first, *_ = problems()
    again = Problem(**{**_fields(first), "row": {"prompt": "0?"}, "level": 3, "family": "x"})
    assert hash_of_problem(first) == hash_of_problem(again)


def test_a_band_with_nothing_in_it_says_what_was_found(tmp_path: Path) -> None:
    known = read_pass_rates(write(tmp_path, [0, 0, 1, 1, 1, None]))
    with pytest.raises(DataError) as caught:
        within_band(problems(), known, Band())
    assert "3 always solved, 2 never solved, 1 without a verdict" in str(caught.value)
    assert "widen data.pass_rate_min and data.pass_rate_max" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "a"}', "'problem_sha256' must be text"),
        ('{"problem_sha256": "a", "pass_rate": 1}', "'id' must be text"),
        ('{"id": "a", "problem_sha256": "b"}', "'pass_rate' must be a number from 0 to 1 or null"),
        ('{"id": "a", "problem_sha256": "b", "pass_rate": 1.5}', "from 0 to 1 or null, not 1.5"),
        ('{"id": "a", "problem_sha256": "b", "pass_rate": -0.1}', "from 0 to 1 or null, not -0.1"),
        ('{"id": "a", "problem_sha256": "b", "pass_rate": true}', "from 0 to 1 or null, not True"),
        ('{"id": "a", "problem_sha256": "b", "pass_rate": "1"}', "from 0 to 1 or null, not '1'"),
        ('{"id": "a", "problem_sha256": "b", "pass_rate": NaN}', "NaN is not a JSON value"),
        ("[1]", "a JSON object is needed"),
        ("{", "not valid JSON"),
    ],
)
def test_a_line_that_is_no_rate_is_refused_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "rates.jsonl"
    path.write_text('{"id": "z", "problem_sha256": "z", "pass_rate": 0}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_pass_rates(path)
    assert f"{path}:2" in str(caught.value)
    assert said in str(caught.value)


def test_an_empty_or_missing_file_says_how_rates_are_measured(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no pass rates; measure them by `zerone data pass-rates`"):
        read_pass_rates(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match=r"does not exist; data\.pass_rates must name"):
        read_pass_rates(tmp_path / "missing.jsonl")


def test_ids_are_those_of_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "1?", "answer": "1"}\n')
    (tmp_path / "b.jsonl").write_text('{"answer": "1.0", "prompt": "1?"}\n{"prompt": "2?", "answer": "2"}\n')
    (one,) = read_problems(tmp_path / "a.jsonl", Fields()).problems
    two, _ = read_problems(tmp_path / "b.jsonl", Fields()).problems
    assert one.id == two.id
    assert hash_of_problem(one) != hash_of_problem(two), "the answers are written otherwise"


# Options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["data.pass_rate_min=0.5"], "need data.pass_rates=FILE"),
        (
            ["data.pass_rates=r", "data.path=p", "data.pass_rate_min=0.9", "data.pass_rate_max=0.1"],
            "is above",
        ),
        (["data.pass_rates=r"], "data.pass_rates needs problems of your own"),
        (["data.epochs=2"], "data.epochs needs problems of your own"),
        (["data.pass_rates=r", "data.path=p", "data.pass_rate_max=1.5"], "less than or equal to 1"),
        (["data.path=p", "data.epochs=-1"], "greater than or equal to 0"),
        (["data.path=p", "data.mixture={a: b}"], "keep one of them"),
        (["data.mixture={a: {path: b, weight: 0}}"], "greater than 0"),
        (["data.mixture={a: {path: b, weight: true}}"], "a number, not a switch"),
        (["data.mixture={a: {path: b, wait: 1}}"], "Extra inputs"),
        (["data.mixture={a b: c}"], "'a b' cannot name a source of problems"),
        (["data.mixture=3"], "write {NAME: FILE}"),
        (["data.mixture.a.wait=1"], "unknown option 'data.mixture.a.wait'"),
        (["data.mixture.a.weight=2"], "Field required"),
        (["data.mixture=[x/a.jsonl, y/a.jsonl]"], "'a' is the name of two of the paths"),
    ],
)
def test_options_that_cannot_go_together_are_refused(given: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config({}, given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        ["data.mixture={math: a.jsonl, gsm8k: {path: 'hf:openai/gsm8k#train', weight: 2}}"],
        [
            "data.mixture.math=a.jsonl",
            "data.mixture.gsm8k=hf:openai/gsm8k#train",
            "data.mixture.gsm8k.weight=2",
        ],
        ["data.mixture=[math.jsonl, {name: gsm8k, path: 'hf:openai/gsm8k#train', weight: 2}]"],
    ],
)
def test_a_mixture_is_written_in_three_ways(given: list[str]) -> None:
    parts = build_config({}, given).data.mixture
    assert [(part.name, part.weight) for part in parts] == [("math", 1.0), ("gsm8k", 2.0)]
    assert parts[1].path == "hf:openai/gsm8k#train"


def test_a_pattern_of_a_part_is_taken_as_it_is_typed() -> None:
    given = [
        "data.mixture.a=x.jsonl",
        "data.mixture.a.answer_pattern=#### (.+)$",
        "data.mixture.a.verifier=math",
    ]
    (part,) = build_config({}, given).data.mixture
    assert (part.answer_pattern, part.verifier) == ("#### (.+)$", "math")


def test_a_part_that_is_unset_by_null_is_left_out() -> None:
    given = ["data.mixture={a: x.jsonl, b: y.jsonl}", "data.mixture.b=null"]
    assert [part.name for part in build_config({}, given).data.mixture] == ["a"]


def test_a_configuration_with_parts_is_read_back() -> None:
    config = build_config({}, ["data.mixture={a: x.jsonl, b: {path: y.jsonl, weight: 0.5}}"])
    assert Config.model_validate(config.model_dump()) == config
