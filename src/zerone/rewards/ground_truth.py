"""Gold answers that no verifier can read, found before anything is trained on them.

In: a problem. Out: what is wrong with its gold answer, or None. A gold that cannot be read makes
every answer wrong or every verdict an error; hours of training would be for nothing.
"""

from zerone.data.choices import LETTERS
from zerone.rewards.verifiers import FAILURES, verifier_named
from zerone.types import Outcome, Problem

_WITHOUT_GOLD = frozenset(("countdown", "code", "judge"))
"""Judged by what they do, not by comparison with an answer."""


def gold_complaint(problem: Problem) -> str | None:
    """Return what is wrong with a problem's gold answer: it must be right by its own verifier."""
    if problem.verifier in _WITHOUT_GOLD:
        return None
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


def _math_complaint(gold: str) -> str | None:
    """Ask the reader of formulas, which would call any text right that equals itself."""
    from zerone.rewards.math.verifier import check_gold

    complaint = check_gold(gold)
    return None if complaint is None else f"the answer {_shown(gold)} is no mathematics: {complaint}"


def _shown(gold: object) -> str:
    text = repr(gold)
    return text if len(text) <= 60 else f"{text[:57]}..."
