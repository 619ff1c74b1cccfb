"""Accuracy by rule: each verifier judges an extracted answer against a problem's `spec`.

In: the text of an answer block. Out: an outcome and the answer in canonical form (for majority
votes). Verifiers are pure; anything they cannot read is UNPARSABLE, which earns nothing.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zerone.rewards.choice import gold_letter, letter_of
from zerone.rewards.expressions import parse_expression, parse_number
from zerone.types import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verifier found, and the answer as it enters a majority vote (None: no vote)."""

    outcome: Outcome
    canonical: str | None


Verifier = Callable[[str, Mapping[str, Any]], Verdict]

UNPARSABLE = Verdict(outcome=Outcome.UNPARSABLE, canonical=None)
NO_VERDICT = Verdict(outcome=Outcome.INFRASTRUCTURE_ERROR, canonical=None)
"""The verifier itself failed, which says nothing of the answer."""


def verdict_of(is_right: bool, canonical: str) -> Verdict:
    """Return a verdict on an answer that could be read."""
    return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, canonical=canonical)


def verify_countdown(answer: str, spec: Mapping[str, Any]) -> Verdict:
    """Judge an expression: exact value, and each given number used at most once."""
    expression = parse_expression(answer)
    if expression is None:
        return UNPARSABLE
    surplus = Counter(expression.numbers) - Counter(spec["numbers"])
    return verdict_of(not surplus and expression.value == spec["target"], expression.canonical)


def verify_number(answer: str, spec: Mapping[str, Any]) -> Verdict:
    """Judge a number by its exact value."""
    value, gold = parse_number(answer), parse_number(spec["answer"])
    if value is None:
        return UNPARSABLE
    return verdict_of(value == gold, str(value))


_LONGEST_TEXT = 10_000


def verify_exact(answer: str, spec: Mapping[str, Any]) -> Verdict:
    """Judge a text: equal but for case, white space and the way that accents are encoded."""
    if len(answer) > _LONGEST_TEXT:
        return UNPARSABLE
    given, gold = (
        " ".join(unicodedata.normalize("NFC", text).casefold().split()) for text in (answer, spec["answer"])
    )
    return verdict_of(given == gold, given) if given else UNPARSABLE


def verify_choice(answer: str, spec: Mapping[str, Any]) -> Verdict:
    """Judge the one letter that an answer names; `spec` holds `answer` and, where known, `choices`."""
    choices = choices_of(spec)
    gold = gold_letter(spec["answer"], choices)
    letter = letter_of(answer, choices)
    return UNPARSABLE if letter is None else verdict_of(letter == gold, letter)


def choices_of(spec: Mapping[str, Any]) -> list[str]:
    """Return the texts of the choices, where they are known."""
    return [str(choice) for choice in spec.get("choices") or ()]


VERIFIERS: Mapping[str, Verifier] = {
    "countdown": verify_countdown,
    "number": verify_number,
    "exact": verify_exact,
    "choice": verify_choice,
}
