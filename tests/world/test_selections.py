"""Choice questions as problems and in the corpus: one right choice, near misses, a uniform letter, and
careful solutions that are right.
"""

import ast
import functools
import operator
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from zerone.corpus.documents import SOLUTIONS, Habits
from zerone.corpus.words import WORDS
from zerone.data.split import split_of
from zerone.problems import selections
from zerone.problems.mixture import EmbeddedMixture, family_suite
from zerone.rewards.accuracy import verify_choice
from zerone.seeding import rng_from
from zerone.types import Outcome, Problem

NUM_PROBLEMS = 300


@functools.cache
def _drawn(level: int, language: str = "en") -> tuple[Problem, ...]:
    return tuple(selections.draw(rng_from("choice", level, i), level, language) for i in range(NUM_PROBLEMS))


def _all_drawn() -> list[Problem]:
    return [p for level in selections.LEVELS for language in ("en", "zh") for p in _drawn(level, language)]


_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def _value(text: str) -> int:
    def walk(node: ast.expr) -> int:
        if isinstance(node, ast.BinOp):
            return int(_OPERATORS[type(node.op)](walk(node.left), walk(node.right)))
        assert isinstance(node, ast.Constant)
        assert isinstance(node.value, int)
        return node.value

    return walk(ast.parse(text, mode="eval").body)


def _read(problem: Problem) -> tuple[str, list[str]]:
    """Return question and choices as the text has them."""
    question, *rest = re.split(r" ([A-D])\. ", problem.prompt)
    assert rest[::2] == ["A", "B", "C", "D"]
    return question, rest[1::2]


def _right_letter(problem: Problem) -> str:
    """Return the answer that the text has, found without the code that wrote it."""
    question, choices = _read(problem)
    values = [_value(choice) for choice in choices]
    if re.search("largest|最大", question):
        wanted = max(values)
    elif re.search("smallest|最小", question):
        wanted = min(values)
    else:
        (asked,) = re.findall(r"\d[-+*\d]*", question)
        wanted = _value(asked)
    assert values.count(wanted) == 1
    return "ABCD"[values.index(wanted)]


def test_exactly_one_choice_is_right_and_it_is_the_answer() -> None:
    for problem in _all_drawn():
        assert problem.spec["answer"] == _right_letter(problem), problem.prompt
        assert problem.spec["choices"] == _read(problem)[1]
        assert problem.verifier == "choice"


def test_right_letter_is_uniform() -> None:
    letters = Counter(problem.spec["answer"] for problem in _all_drawn())
    expected = letters.total() / 4
    assert all(abs(letters[letter] - expected) < 4 * expected**0.5 for letter in "ABCD")


def test_wrong_choices_are_near() -> None:
    for problem in _all_drawn():
        _, choices = _read(problem)
        values = [_value(choice) for choice in choices]
        right = values["ABCD".index(_right_letter(problem))]
        assert sum(abs(value - right) <= 12 for value in values) >= 2


def test_levels_ask_for_more_and_more() -> None:
    assert {sum(map(_value(c).__eq__, [int(c)])) for p in _drawn(1) for c in _read(p)[1]} == {1}
    kinds = {level: {problem.spec["kind"] for problem in _drawn(level)} for level in selections.LEVELS}
    assert kinds == {1: {"value"}, 2: {"value", "match"}, 3: {"largest", "smallest"}}


def test_verifier_agrees_with_the_text() -> None:
    for problem in _all_drawn()[::7]:
        for letter in "ABCD":
            is_right = verify_choice(letter, problem.spec).outcome is Outcome.CORRECT
            assert is_right == (letter == _right_letter(problem))


def test_key_does_not_depend_on_the_order_of_choices_or_summands() -> None:
    """Questions with one key ask for the same calculation, or compare the same four."""
    by_key: dict[str, set[tuple[str, ...]]] = {}
    for problem in _all_drawn():
        if problem.level == 3:
            calculations = sorted(_canonical(choice) for choice in _read(problem)[1])
        elif problem.spec["kind"] == "match":
            calculations = [_canonical(problem.spec["choices"]["ABCD".index(problem.spec["answer"])])]
        else:
            calculations = [_canonical(re.findall(r"\d[-+*\d]*", _read(problem)[0])[0])]
        by_key.setdefault(problem.id, set()).add(tuple(calculations))
    assert {len(calculations) for calculations in by_key.values()} == {1}
    assert len({next(iter(c)) for c in by_key.values()}) >= len(by_key) - NUM_PROBLEMS // 10


def _canonical(text: str) -> str:
    """Return a sum or product with its parts in order."""
    terms = re.findall(r"[-+]?[\d*]+", text)
    ordered = ["*".join(sorted(term.lstrip("+").split("*"))) for term in terms]
    return " ".join(sorted(ordered))


def test_problem_is_one_line_of_text_without_tags() -> None:
    assert not [p.prompt for p in _all_drawn() if re.search("[\n<>{}]", p.prompt)]


def test_suite_and_training_are_apart() -> None:
    suite = {problem.id for problem in family_suite("choice", selections)}
    mixture = EmbeddedMixture(seed=0, families=(selections,))
    trained = {problem.id for step in range(5) for problem in mixture.draw(step, 100)}
    assert len(suite) == 100
    assert not suite & trained
    assert {split_of(key) for key in trained} == {"train"}


# The corpus ---------------------------------------------------------------------------------------


def _solutions(kind: str, habits: Habits | None = None) -> Iterator[tuple[Problem, str, str]]:
    family = SOLUTIONS[selections.FAMILY]
    for i, problem in enumerate(_all_drawn()):
        rng, words = rng_from(kind, i), WORDS[problem.language]
        if habits is not None:
            solution = family.habitual(problem, words, rng, habits)
        else:
            solution = getattr(family, kind)(problem, words, rng)
        yield problem, solution.thought, solution.answer


def _share_right(solutions: Iterator[tuple[Problem, str, str]]) -> float:
    right = [
        verify_choice(answer, problem.spec).outcome is Outcome.CORRECT for problem, _, answer in solutions
    ]
    return sum(right) / len(right)


def test_careful_solutions_are_right() -> None:
    assert _share_right(_solutions("careful")) == 1.0


def test_hasty_answers_are_mostly_wrong_and_sometimes_right() -> None:
    assert 0.1 < _share_right(_solutions("hasty")) < 0.25


def test_habitual_answers_are_mostly_right_and_better_with_fewer_slips() -> None:
    few, many = (_share_right(_solutions("h", Habits(slip=slip))) for slip in (0.06, 0.5))
    assert many < few < 1.0
    assert few > 0.8


def test_where_nothing_fits_the_calculation_is_done_again() -> None:
    num_again = 0
    for problem, thought, answer in _solutions("careful"):
        words = WORDS[problem.language]
        equations = re.findall(r"(\d+[-+*]\d+)=(\d+)", thought)
        num_wrong = sum(_value(left) != int(right) for left, right in equations)
        assert bool(num_wrong) == (words.again in thought)
        num_again += words.again in thought
        if problem.level < 3:
            assert thought.splitlines()[-1].startswith(answer) or thought.splitlines()[-1].startswith(
                words.wait
            )
            assert thought.endswith(f" {words.yes}")
    assert num_again > 20


@pytest.mark.parametrize("level", selections.LEVELS)
def test_problem_is_a_function_of_its_seed(level: int) -> None:
    again = [selections.draw(rng_from("choice", level, i), level, "en") for i in range(50)]
    assert tuple(again) == _drawn(level)[:50]
