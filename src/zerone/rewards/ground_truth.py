"""Problems that no verifier can judge by, found before anything is trained on them.

In: a problem. Out: what is wrong with its gold answer, its tests or its spec, or None. What cannot be read
makes every answer wrong or every verdict an error; hours of training would be for nothing.
"""

import re
from collections import Counter
from collections.abc import Iterable

from zerone.data.choices import LETTERS
from zerone.data.jsonl import ProblemFile
from zerone.errors import DataError
from zerone.rewards.verifiers import FAILURES, verifier_named
from zerone.types import Outcome, Problem

_TRIED = {"countdown": "1", "judge": "Hello."}
"""Verifiers that judge by their spec and not by comparison with an answer: what each is tried on."""


def gold_complaint(problem: Problem) -> str | None:
    """Return why no completion could be judged: a gold must be right by its own verifier, tests readable.

    A general request of the user's own, without a `kind`, has no rule; a reward model judges it.
    """
    if problem.verifier == "code":
        return _code_complaint(problem)
    if problem.verifier in _TRIED:
        return None if is_for_a_model(problem) else _spec_complaint(problem)
    gold = problem.spec["answer"]
    text = LETTERS[gold : gold + 1] if isinstance(gold, int) and gold >= 0 else str(gold)
    try:
        if problem.verifier == "math":
            return _math_complaint(str(gold))
        outcome = verifier_named(problem.verifier)(text, problem.spec).outcome
    except FAILURES as error:
        return f"the answer {_shown(gold)} cannot be used by the verifier {problem.verifier!r}: {error}"
    if outcome is Outcome.CORRECT:
        return None
    return f"the answer {_shown(gold)} cannot be read by the verifier {problem.verifier!r} ({outcome.value})"


_LISTED_LINES = 10


def readable_problems(read: ProblemFile, name: str, *, skip: bool) -> tuple[Problem, ...]:
    """Return the problems that their verifier can judge by; raises DataError for others, or where none is."""
    complaints = {
        place: complaint
        for place, problem in zip(read.places, read.problems, strict=True)
        if (complaint := gold_complaint(problem)) is not None
    }
    is_hopeless = len(complaints) == len(read.problems)
    if complaints and (not skip or is_hopeless):
        shown = [f"{place}: {text}" for place, text in complaints.items()][:_LISTED_LINES]
        raise DataError(
            f"{len(complaints)} of {len(read.problems)} ground truths or tests of {name} cannot be read:\n"
            + "\n".join(shown)
            + f"\nCorrect them (`zerone reward check {name}` lists all), choose another data.verifier"
            + ("" if is_hopeless else ", or leave them out by data.skip_unreadable=true")
        )
    pairs = zip(read.places, read.problems, strict=True)
    return tuple(problem for place, problem in pairs if place not in complaints)


def is_for_a_model(problem: Problem) -> bool:
    """Whether a problem is a general request that no rule can judge."""
    return problem.verifier == "judge" and "kind" not in problem.spec


def _code_complaint(problem: Problem) -> str | None:
    from zerone.rewards.code import check_code

    complaint = check_code(problem.spec)
    return None if complaint is None else f"no program can be judged by its tests: {complaint}"


def _spec_complaint(problem: Problem) -> str | None:
    """Try the verifier on some answer; whatever the verdict, there must be one."""
    try:
        outcome = verifier_named(problem.verifier)(_TRIED[problem.verifier], problem.spec).outcome
    except KeyError as error:
        return f"the verifier {problem.verifier!r} needs {error} in the problem, or another value of it"
    except FAILURES as error:
        return f"the verifier {problem.verifier!r} cannot judge by this problem: {error}"
    if outcome is Outcome.INFRASTRUCTURE_ERROR:
        return f"the verifier {problem.verifier!r} cannot judge by this problem"
    return None


def _math_complaint(gold: str) -> str | None:
    """Ask the reader of formulas, which would call any text right that equals itself."""
    from zerone.rewards.math.verifier import check_gold

    complaint = check_gold(gold)
    return None if complaint is None else f"the answer {_shown(gold)} {_UNREAD_MATH}{complaint}"


_UNREAD_MATH = "cannot be read as mathematics: "


def reasons_of(complaints: Iterable[str]) -> dict[str, int]:
    """Count complaints by their reason, the most frequent first; the golds themselves do not count."""
    return dict(Counter(map(_reason, complaints)).most_common())


def _reason(complaint: str) -> str:
    _, is_math, reason = complaint.partition(_UNREAD_MATH)
    # What a reason was found in stands in brackets behind it, what was given in quotes.
    return reason.partition(" (")[0] if is_math else re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "...", complaint)


def _shown(gold: object) -> str:
    text = repr(gold)
    return text if len(text) <= 60 else f"{text[:57]}..."
