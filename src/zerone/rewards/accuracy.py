"""Accuracy by rule: each verifier judges an extracted answer against a problem's `spec`.

In: the text of an answer block. Out: an outcome and the answer in canonical form (for majority
votes). Verifiers are pure; anything they cannot read is UNPARSABLE, which earns nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zerone.rewards.expressions import parse_expression, parse_number
from zerone.types import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verifier found, and the answer as it enters a majority vote (None: no vote)."""

    outcome: Outcome
    canonical: str | None


Verifier = Callable[[str, Mapping[str, Any]], Verdict]

_UNPARSABLE = Verdict(outcome=Outcome.UNPARSABLE, canonical=None)


def _verdict(is_right: bool, canonical: str) -> Verdict:
    return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, canonical=canonical)


def verify_countdown(answer: str, spec: Mapping[str, Any]) -> Verdict:
    """Judge an expression: exact value, and each given number used at most once."""
    expression = parse_expression(answer)
    if expression is None:
        return _UNPARSABLE
    surplus = Counter(expression.numbers) - Counter(spec["numbers"])
    return _verdict(not surplus and expression.value == spec["target"], expression.canonical)


def verify_number(answer: str, spec: Mapping[str, Any]) -> Verdict:
    """Judge a number by its exact value."""
    value, gold = parse_number(answer), parse_number(spec["answer"])
    if value is None:
        return _UNPARSABLE
    return _verdict(value == gold, str(value))


def verify_exact(answer: str, spec: Mapping[str, Any]) -> Verdict:
    """Judge a text: equal but for case and white space."""
    given, gold = (" ".join(text.casefold().split()) for text in (answer, spec["answer"]))
    return _verdict(given == gold, given) if given else _UNPARSABLE


VERIFIERS: Mapping[str, Verifier] = {
    "countdown": verify_countdown,
    "number": verify_number,
    "exact": verify_exact,
}
