"""Small functions as problems and in the corpus: hidden tests that tell near misses apart in the real
sandbox, keys that go by what a function returns, careful solutions that are right.

Python itself says here what a body returns; the project's own code never runs it outside a sandbox.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from zerone.corpus.documents import SOLUTIONS, Document, Habits, draw_document
from zerone.corpus.words import WORDS
from zerone.data.split import split_of
from zerone.problems import functions
from zerone.problems.mixture import CHINESE_SHARE, MIX_FAMILIES, EmbeddedMixture, family_suite
from zerone.problems.programs import (
    Kind,
    Part,
    Program,
    code_of,
    from_json,
    near_misses,
    shown_value,
    to_json,
    value_of,
    working,
)
from zerone.prompts.r1 import parse_completion
from zerone.rewards.code import verify_code
from zerone.seeding import rng_from
from zerone.types import Outcome, Problem

NUM_PROBLEMS = 150


@functools.cache
def _drawn(level: int, language: str = "en") -> tuple[Problem, ...]:
    return tuple(
        functions.draw(rng_from("functions", level, i), level, language) for i in range(NUM_PROBLEMS)
    )


def _all_drawn() -> list[Problem]:
    return [p for level in functions.LEVELS for language in ("en", "zh") for p in _drawn(level, language)]


def _call(body: str, x: Any) -> Any:
    """Return what Python makes of a body that this project's corpus wrote."""
    return eval(body, {}, {"x": x})  # noqa: S307  # an oracle apart from programs.py; no model wrote it


_EXAMPLE = re.compile(r"f\((\d+|\[[\d,]*\]|'\w*')\)=(-?\d+|\[[-\d,]*\]|'\w*')")


def _examples(problem: Problem) -> list[tuple[Any, Any]]:
    """Return the examples as the text of a problem shows them."""
    found = _EXAMPLE.findall(problem.prompt)
    return [(json.loads(x.replace("'", '"')), json.loads(y.replace("'", '"'))) for x, y in found]


def _body(problem: Problem) -> str:
    return code_of(from_json(problem.spec["program"]))


# Problems -----------------------------------------------------------------------------------------


def test_body_returns_in_python_what_the_problem_says() -> None:
    for problem in _all_drawn():
        for test in problem.spec["tests"]:
            assert _call(_body(problem), test["args"][0]) == test["expected"], problem.prompt


def test_prompt_shows_three_examples_that_are_right_and_differ() -> None:
    for problem in _all_drawn():
        examples = _examples(problem)
        assert len({str(x) for x, _ in examples}) == functions.NUM_SHOWN
        assert len({str(y) for _, y in examples}) > 1
        assert all(_call(_body(problem), x) == y for x, y in examples)


def test_hidden_tests_are_not_those_that_are_shown() -> None:
    for problem in _all_drawn():
        hidden = [test["args"][0] for test in problem.spec["tests"]]
        assert len(hidden) >= 6
        assert not [x for x, _ in _examples(problem) if x in hidden]


def test_levels_differ_in_the_number_of_operations() -> None:
    sizes = {
        level: {from_json(problem.spec["program"]).num_parts for problem in _drawn(level)}
        for level in functions.LEVELS
    }
    assert sizes[1] == {1}
    assert sizes[2] == {1, 2}
    assert sizes[3] == {2, 3}
    singles = {from_json(p.spec["program"]).kind for p in _drawn(2) if len(p.spec["program"]["parts"]) == 1}
    assert singles == {Kind.LIST, Kind.TEXT} or singles == {Kind.TEXT}


def test_conditions_and_comprehensions_occur() -> None:
    bodies = [_body(problem) for problem in _drawn(3)]
    assert sum(" if x>" in body for body in bodies) > 20
    assert sum("for i in" in body for body in bodies) > 10


@pytest.mark.parametrize("level", functions.LEVELS)
def test_every_near_miss_that_differs_fails_a_hidden_test(level: int) -> None:
    """Judged on inputs of this test's own; a slip that makes the same function is no miss."""
    rng = Random(3)
    inputs: dict[Kind, list[Any]] = {
        Kind.NUMBER: list(range(120)),
        Kind.LIST: [[rng.randrange(10) for _ in range(rng.randint(2, 5))] for _ in range(60)],
        Kind.TEXT: ["".join(rng.choices("abcde", k=rng.randint(3, 6))) for _ in range(60)],
    }
    num_missed = num_different = 0
    for problem in _drawn(level):
        program = from_json(problem.spec["program"])
        for miss in near_misses(program):
            if all(value_of(miss, x) == value_of(program, x) for x in inputs[program.kind]):
                continue
            num_different += 1
            num_missed += all(value_of(miss, t["args"][0]) == t["expected"] for t in problem.spec["tests"])
    assert num_different >= 3 * NUM_PROBLEMS
    assert num_missed <= num_different * 0.002


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("x*2+3", "x*3+2"),
        ("x*2+3", "x*2+4"),
        ("(x+3)*2", "x+3*2"),
        ("x*3 if x>5 else x+1", "x*3 if x>6 else x+1"),
    ],
)
def test_sandbox_tells_the_function_from_what_looks_like_it(right: str, wrong: str) -> None:
    programs = {
        "x*2+3": Program(kind=Kind.NUMBER, parts=(Part("multiply", 2), Part("add", 3))),
        "(x+3)*2": Program(kind=Kind.NUMBER, parts=(Part("add", 3), Part("multiply", 2))),
        "x*3 if x>5 else x+1": Program(
            kind=Kind.NUMBER, parts=(Part("multiply", 3),), above=5, otherwise=(Part("add", 1),)
        ),
    }
    assert code_of(programs[right]) == right
    problem = functions.problem_of(Random(1), programs[right], level=2, language="en")
    assert problem is not None
    assert verify_code(f"def f(x): return {right}", problem.spec).outcome is Outcome.CORRECT
    assert verify_code(f"def f(x): return {wrong}", problem.spec).outcome is Outcome.WRONG


def test_reciting_the_examples_is_wrong_in_the_sandbox() -> None:
    for problem in _drawn(2)[:10]:
        known = ", ".join(f"({x!r}, {y!r})" for x, y in _examples(problem))
        program = f"def f(x): return next((b for a, b in [{known}] if a == x), None)"
        assert verify_code(program, problem.spec).outcome is Outcome.WRONG


def test_missing_brackets_are_a_near_miss() -> None:
    program = Program(kind=Kind.NUMBER, parts=(Part("add", 3), Part("multiply", 2)))
    misses = {code_of(miss): miss for miss in near_misses(program)}
    assert {"x+3*2", "x*2+3", "(x+2)*3", "(x+4)*2", "x+3", "x*2"} <= set(misses)
    assert value_of(misses["x+3*2"], 4) == 10
    assert working(misses["x+3*2"], 4) == ["3*2=6", "4+6=10"]


def test_working_ends_in_what_python_returns() -> None:
    for problem in _all_drawn():
        for x, y in _examples(problem):
            last = working(from_json(problem.spec["program"]), x)[-1]
            assert last.rpartition("=")[2] == shown_value(y)


def test_code_of_near_misses_means_in_python_what_is_calculated_for_them() -> None:
    for problem in _all_drawn()[::5]:
        for miss in near_misses(from_json(problem.spec["program"])):
            x = problem.spec["shown"][0]
            assert _call(code_of(miss), x) == value_of(miss, x)


def test_program_survives_json() -> None:
    programs = [from_json(problem.spec["program"]) for problem in _all_drawn()]
    assert [from_json(json.loads(json.dumps(to_json(program)))) for program in programs] == programs


# Keys and splits ----------------------------------------------------------------------------------


def test_key_goes_by_what_is_returned() -> None:
    twice_after = Program(kind=Kind.NUMBER, parts=(Part("add", 3), Part("multiply", 2)))
    twice_before = Program(kind=Kind.NUMBER, parts=(Part("multiply", 2), Part("add", 6)))
    another = Program(kind=Kind.NUMBER, parts=(Part("multiply", 2), Part("add", 5)))
    assert functions.canonical(twice_after) == functions.canonical(twice_before)
    assert functions.canonical(twice_after) != functions.canonical(another)


def test_problem_is_a_function_of_its_seed() -> None:
    for level in functions.LEVELS:
        again = [functions.draw(rng_from("functions", level, i), level, "en") for i in range(20)]
        assert tuple(again) == _drawn(level)[:20]


def test_language_of_the_description_is_that_of_the_problem() -> None:
    for problem in _all_drawn():
        words = re.sub(r"f\(x\)|\bx\b|'\w+'|f\(.*?\)=|[a-z]{2}(?=[，。])", "", problem.prompt)
        assert bool(re.search("[\u4e00-\u9fff]", words)) == (problem.language == "zh")
        assert bool(re.search("[A-Za-z]{3}", words)) == (problem.language == "en")


def test_problem_is_one_line_of_text_without_tags() -> None:
    assert not [p.prompt for p in _all_drawn() if re.search("[\n<>{}]", p.prompt)]


def test_suite_and_training_share_no_function() -> None:
    """Two descriptions of one function are one problem, so no function is on both sides."""
    suite = {problem.id for problem in family_suite("code", functions)}
    mixture = EmbeddedMixture(seed=0, families=(functions,))
    trained = {problem.id for step in range(5) for problem in mixture.draw(step, 100)}
    assert len(suite) == 100
    assert not suite & trained
    assert {split_of(key) for key in trained} == {"train"}


def test_mix_draws_every_family_and_level_in_equal_shares() -> None:
    problems = [
        p for step in range(8) for p in EmbeddedMixture(seed=0, families=MIX_FAMILIES).draw(step, 100)
    ]
    by_family = Counter(problem.family for problem in problems)
    assert set(by_family) == {family.FAMILY for family in MIX_FAMILIES}
    expected = len(problems) / len(MIX_FAMILIES)
    assert all(abs(number - expected) < 4 * expected**0.5 for number in by_family.values())
    assert abs(sum(p.language == "zh" for p in problems) / len(problems) - CHINESE_SHARE) < 0.05


# The corpus ---------------------------------------------------------------------------------------


def _solutions(kind: str, number: int = 60) -> Iterator[tuple[Problem, str, str]]:
    """Yield (problem, thought, answer) of the corpus's way to solve, for every level and language."""
    family, habits = SOLUTIONS[functions.FAMILY], Habits(checks=1.0, slip=0.5, give_up=0.0)
    for level in functions.LEVELS:
        for language in ("en", "zh"):
            for i, problem in enumerate(_drawn(level, language)[:number]):
                rng, words = rng_from(kind, level, i), WORDS[language]
                if kind == "habitual":
                    solution = family.habitual(problem, words, rng, habits)
                else:
                    solution = getattr(family, kind)(problem, words, rng)
                yield problem, solution.thought, solution.answer


def _is_right(problem: Problem, answer: str) -> bool:
    """Whether an answer defines the function, as Python sees it."""
    match = re.fullmatch(r"def f\(x\): return (.*)", answer)
    if match is None:
        return False
    try:
        return all(_call(match[1], test["args"][0]) == test["expected"] for test in problem.spec["tests"])
    except (TypeError, AttributeError):  # a guess that fits another kind of input
        return False


def test_careful_solutions_are_right() -> None:
    assert [
        problem.id for problem, _, answer in _solutions("careful") if not _is_right(problem, answer)
    ] == []


def test_careful_solutions_pass_in_the_sandbox() -> None:
    outcomes = [verify_code(answer, problem.spec).outcome for problem, _, answer in _solutions("careful", 12)]
    assert set(outcomes) == {Outcome.CORRECT}


def test_failed_check_is_noticed_and_mended() -> None:
    """Where a check fails the next line begins with `wait` and another body; what is checked last holds."""
    num_mended = 0
    for problem, thought, answer in _solutions("habitual"):
        words = WORDS[problem.language]
        lines = thought.splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if line.endswith(f" {words.no}"):
                num_mended += 1
                assert following.startswith(f"{words.wait} ")
        assert lines[-1].endswith(f" {words.yes}")
        assert _is_right(problem, answer)
    assert num_mended > 60


def test_every_check_says_what_the_body_above_it_gives() -> None:
    for problem, thought, _ in _solutions("habitual"):
        words, body = WORDS[problem.language], ""
        for line in thought.splitlines():
            match = re.match(rf"{words.check} f\((.*?)\): .*=(\S+) (\S+)$", line)
            if match is None:
                body = line.rpartition(", ")[2].removeprefix(f"{words.wait} ")
                continue
            x = json.loads(match[1].replace("'", '"'))
            value = _call(body, x)
            assert match[2] == shown_value(value)
            assert (match[3] == words.yes) == (value == _shown_values(problem)[match[1]])


def _shown_values(problem: Problem) -> dict[str, Any]:
    return {shown_value(x): y for x, y in _examples(problem)}


def test_hasty_answers_are_mostly_wrong_and_sometimes_right() -> None:
    right = [_is_right(problem, answer) for problem, _, answer in _solutions("hasty")]
    assert 0.06 < sum(right) / len(right) < 0.25


def test_no_document_is_made_from_an_evaluation_function() -> None:
    """Judged by what the bodies of notes return in Python, whatever code wrote them."""
    notes = [document.text for document in _documents() if document.kind == "note"]
    assert len(notes) > 100
    for note in notes:
        (x, _), *_ = _EXAMPLE.findall(note)
        kind = {"[": Kind.LIST, "'": Kind.TEXT}.get(x[0], Kind.NUMBER)
        body = note.rpartition("return ")[2]
        key = functions.key_of(kind, [_call(body, probe) for probe in functions.PROBES[kind]])
        assert split_of(key) == "train"


@functools.cache
def _documents() -> tuple[Document, ...]:
    drawn = (draw_document(0, index, 0.0, Habits()) for index in range(1500))
    return tuple(document for document in drawn if document.family == functions.FAMILY)


def test_tagged_documents_of_functions_keep_to_the_template_as_often_as_the_others() -> None:
    documents = (draw_document(0, index, 1.0, Habits()) for index in range(3000))
    tagged = [d for d in documents if d.kind == "tagged" and d.family == functions.FAMILY]
    well_formed = sum(parse_completion(d.parts[2]).is_well_formed for d in tagged)
    assert len(tagged) > 200
    assert abs(well_formed / len(tagged) - (1 - Habits().malformed)) < 0.1
