"""The verifier `math`: is an answer mathematically the same as the gold answer?

In: the text of an answer block and a spec `{"answer": gold}`, both LaTeX or plain. Out: an outcome
and a canonical form. Most answers are decided here by exact arithmetic (math_comparison.py); what
needs sympy goes to worker processes that can be killed (math_worker.py). The same call may be made
from any thread, and from a coroutine by `verify_math_async`. docs/rewards_math.md has the conventions.
"""

import asyncio
import hashlib
import re
import threading
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from zerone.errors import VerifierError
from zerone.processes.worker_pool import WorkerPool, WorkerTimeout
from zerone.rewards.accuracy import NO_VERDICT, UNPARSABLE, Verdict, verdict_of
from zerone.rewards.math.answers import read_answer, read_gold
from zerone.rewards.math.comparison import is_same
from zerone.rewards.math.exact import NotExact, evaluate
from zerone.rewards.math.extraction import read_answer_block
from zerone.rewards.math.judge import ExactJudge
from zerone.rewards.math.kinds import (
    Answer,
    Approximate,
    Bracketed,
    Chain,
    Conditional,
    Listing,
    Named,
    Reading,
    Scalar,
    UnionOf,
    Words,
)
from zerone.rewards.math.terms import Unreadable
from zerone.rewards.math.text import plain_form, tokenise
from zerone.types import Outcome

DEADLINE_SECONDS = 2.0
MEMORY_MIB = 1024
NUM_WORKERS = 2

_NUMBER = re.compile(
    r"(-?)(?:([0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})(?:\.([0-9]{1,18})|/([0-9]{1,18}))?"
    r"|\\[dt]?frac\{([0-9]{1,18})\}\{([0-9]{1,18})\})"
)
"""The spellings of rational numbers that nearly all answers have."""

_AROUND = (("$", "$"), ("\\boxed{", "}"))
_LONGEST_NUMBER = 60
"""Characters of an answer that is tried as a plain number, and so may stay in a cache."""

_LONGEST_FORM = 200
_LONGEST_TEXT = 10_000
"""Characters of an answer that is compared as text."""

_JUDGE = ExactJudge()


def verify_math(answer: str, spec: Mapping[str, Any]) -> Verdict:
    """Judge an answer: the content of its last box, or all of it."""
    gold = _gold_text(str(spec["answer"]))
    if (quick := _judge_numbers(answer.strip(), gold)) is not None:
        return quick
    gold_reading, content = _read_gold(gold), read_answer_block(answer)
    if content is None:
        return UNPARSABLE if gold_reading is not None else NO_VERDICT
    if gold_reading is None:
        return _judge_text(gold, content) or NO_VERDICT
    try:
        reading = read_answer(content)
        form = canonical(reading)
        is_right = is_same(gold_reading, reading, _JUDGE)
        return (None if is_right else _judge_text(gold, content)) or verdict_of(is_right, form)
    except Unreadable:
        return _judge_text(gold, content) or UNPARSABLE
    except NotExact:
        verdict = _ask_worker(gold, content, form)
        is_right = verdict.outcome is Outcome.CORRECT
        return (None if is_right else _judge_text(gold, content)) or verdict


async def verify_math_async(answer: str, spec: Mapping[str, Any]) -> Verdict:
    """Judge an answer without blocking the event loop."""
    return await asyncio.to_thread(verify_math, answer, spec)


def check_gold(gold: str) -> str | None:
    """Return why a gold answer cannot be judged against, or None; run this before training.

    Raises VerifierError where workers are needed and cannot start.
    """
    gold = _gold_text(gold)
    try:
        _canonical(read_gold(gold).answer)
        return None
    except Unreadable as error:
        return str(error)
    except NotExact:
        pass
    try:
        found = _pool().ask({"gold": gold, "answer": "0"})["outcome"]
    except WorkerTimeout:
        return "it takes too long to judge"
    return None if found in (Outcome.CORRECT, Outcome.WRONG) else "neither sympy nor math-verify can read it"


def warm_up() -> None:
    """Start a worker now, so that the first hard answer need not wait; raise VerifierError if none starts."""
    _pool().warm_up()


def canonical(reading: Reading) -> str:
    """Return a text that equal answers share wherever exact arithmetic reaches."""
    try:
        form = _canonical(reading.answer)
    except NotExact:
        form = " ".join(tokenise(reading.source))
    return _shortened(form)


def _shortened(form: str) -> str:
    """Return a form, or its hash where it is long: a factorial may have thousands of digits."""
    if len(form) <= _LONGEST_FORM:
        return form
    return hashlib.blake2b(form.encode("utf-8", "replace"), digest_size=12).hexdigest()


def _canonical(answer: Answer) -> str:
    match answer:
        case Scalar(term):
            return evaluate(term).canonical
        case Words(text):
            return text
        case Named(_, value) | Conditional(value) | Approximate(value) | Chain((value, *_)):
            return _canonical(value)
        case Listing(items) | UnionOf(items):
            return ",".join(sorted(set(map(_canonical_part, items))))
        case Bracketed(opening, closing, items):
            return f"{opening}{','.join(map(_canonical_part, items))}{closing}"
        case _:
            raise NotExact


def _canonical_part(answer: Answer) -> str:
    """Return the form of a part; a set within something else is not its elements."""
    form = _canonical(answer)
    return f"{{{form}}}" if isinstance(answer, Listing) and answer.has_braces else form


def _gold_text(gold: str) -> str:
    """Return a gold answer without the box that some data sets leave around it."""
    return gold.strip() if "\\boxed" not in gold else read_answer_block(gold) or ""


@lru_cache(maxsize=8192)
def _read_gold(gold: str) -> Reading | None:
    """Read a gold answer; None where it cannot be read or has no value."""
    try:
        reading = read_gold(gold)
        canonical(reading)
    except Unreadable:
        return None
    return reading


def _judge_text(gold: str, answer: str) -> Verdict | None:
    """Judge an answer that is the gold's text, which no grammar need read; None for any other."""
    if not 0 < len(answer) <= min(_LONGEST_TEXT, 2 * len(gold) + _LONGEST_NUMBER):
        return None
    form = plain_form(answer)
    if not form or form != plain_form(gold):
        return None
    return verdict_of(True, _shortened(" ".join(form)))


def _judge_numbers(answer: str, gold: str) -> Verdict | None:
    """Judge two numbers in usual spelling; None for anything else. Ten times faster than the grammar."""
    if len(answer) > _LONGEST_NUMBER or (wanted := _read_number(gold)) is None:
        return None
    for opening, closing in _AROUND:
        if answer.startswith(opening) and answer.endswith(closing) and len(answer) > len(opening):
            answer = answer[len(opening) : -len(closing)].strip()
            break
    if (given := _read_number(answer)) is None:
        return None
    if given != wanted and ("." in answer or "." in gold):
        # It may stand for a value that no decimal has, or the gold for one.
        return None
    return verdict_of(given == wanted, str(given))


@lru_cache(maxsize=8192)
def _read_number(text: str) -> Fraction | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, decimals, divisor, top, bottom = match.groups()
    if whole is not None:
        top, bottom = whole.replace(",", "") + (decimals or ""), divisor or "1"
    denominator = int(bottom) * 10 ** len(decimals or "")
    return Fraction(int(sign + top), denominator) if denominator else None


def _ask_worker(gold: str, answer: str, form: str) -> Verdict:
    try:
        outcome = Outcome(_pool().ask({"gold": gold, "answer": answer})["outcome"])
    except WorkerTimeout:
        outcome = Outcome.TIMEOUT
    except VerifierError:
        outcome = Outcome.INFRASTRUCTURE_ERROR
    votes = outcome in (Outcome.CORRECT, Outcome.WRONG)
    return Verdict(outcome=outcome, canonical=form if votes else None)


_lock = threading.Lock()
_current: WorkerPool | None = None


def _pool() -> WorkerPool:
    """Return the pool of this process; a forked child gets one of its own."""
    global _current
    with _lock:
        if _current is None or not _current.is_mine:
            arguments = (str(MEMORY_MIB), str(DEADLINE_SECONDS))
            _current = WorkerPool("zerone.rewards.math.worker", arguments, NUM_WORKERS, DEADLINE_SECONDS)
        return _current
