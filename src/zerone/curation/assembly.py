"""The loop of curation: draw, filter, refine, filter again, sift, write; piece by piece.

In: pieces of work, rules, a journal. Out: a data set, its data card, and exact counts. Both cold start
and rejection sampling are this loop with other pieces.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zerone.curation.by_endpoint import TELLING
from zerone.curation.data_card import card_of, markdown_of
from zerone.curation.drafts import GENERAL, Draft, Draw, Refine, domain_of, record_of
from zerone.curation.filters import Judge, Limits, Reason, reason_against
from zerone.curation.journal import Journal
from zerone.curation.sieve import Sieve
from zerone.curation.tally import KEPT, Tally, told
from zerone.errors import EndpointError, TooFewSamplesError
from zerone.rewards.language import Detector
from zerone.types import Problem

_THREADS = 8
"""Judging waits for worker processes, sandboxes and endpoints; this keeps them busy."""

_BEFORE_JUDGING = (Reason.NO_ROOM, Reason.TOO_LONG, Reason.NO_SUMMARY, Reason.MALFORMED)
"""What a draft is left out for without a judge's being asked."""

PIECE = 32
"""Problems of a piece of work: what waits in memory, and what a kill costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Problems that are answered together, by one source."""

    source: str
    problems: tuple[Problem, ...]
    draw: Draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a sample must be. `refine` is None where drafts are kept as they were drawn.

    `cap` is per prompt over all sources, `ratio` reasoning samples per general one (None: any).
    """

    cap: int
    minimum: int
    ratio: float | None = None
    limits: Limits = field(default_factory=Limits)
    judge: Judge | None = None
    detector: Detector | None = None
    refine: Refine | None = None

    def identity(self) -> dict[str, Any]:
        """Return what of the rules shapes the data; how many are enough does not."""
        return {"cap": self.cap, "ratio": self.ratio, **asdict(self.limits)}


def pieces_of(source: str, problems: Sequence[Problem], draw: Draw) -> list[Piece]:
    """Cut problems into pieces; those with equal ids are one problem."""
    distinct = list({problem.id: problem for problem in problems}.values())
    return [
        Piece(source=source, problems=tuple(distinct[i : i + PIECE]), draw=draw)
        for i in range(0, len(distinct), PIECE)
    ]


def assemble(
    path: Path,
    identity: Mapping[str, Any],
    pieces: Sequence[Piece],
    rules: Rules,
    count_tokens: Callable[[str], int],
    show: Callable[[float, str], None] = lambda share, line: None,
) -> dict[str, Any]:
    """Write the data set and return its card; a finished one is not made again.

    Raises TooFewSamplesError with the counts by reason; what is done is kept, so a lower minimum
    goes on from there. Raises RunDirError where the file belongs to other work.
    """
    made_by = {**identity, **rules.identity()}
    journal = Journal(path, made_by)
    if card := journal.finished_card():
        _check_enough(path, card["samples"], card["drawn"], card["dropped"], rules.minimum)
        return card
    journal.open()
    try:
        sieve = Sieve(cap=rules.cap, similarity=rules.limits.similarity, ratio=rules.ratio)
        for record in journal.records():
            sieve.remember(record)
        for number in range(journal.num_pieces, len(pieces)):
            _work(pieces[number], rules, sieve, journal, count_tokens)
            show(
                (number + 1) / len(pieces),
                f"{number + 1}/{len(pieces)} {pieces[number].source}: {journal.tally.num_kept} kept of "
                f"{journal.tally.num_drawn}",
            )
        tally = journal.tally
        _check_enough(path, tally.num_kept, tally.num_drawn, tally.dropped(), rules.minimum)
        card = card_of(made_by, tally, journal.num_skipped, journal.records)
        return journal.finish(card, markdown_of(path.name, card))
    finally:
        journal.close()


def _check_enough(
    path: Path, num_kept: int, num_drawn: int, dropped: Mapping[str, int], minimum: int
) -> None:
    if num_kept < minimum:
        raise TooFewSamplesError(
            f"{num_kept} samples of {num_drawn} are left for {path.name}, {minimum} are wanted; dropped: "
            f"{told(dropped)}. Draw more (curate.prompts, curate.samples, curate.designed) into another "
            "file, or go on here with a lower curate.minimum"
        )


def _work(
    piece: Piece, rules: Rules, sieve: Sieve, journal: Journal, count_tokens: Callable[[str], int]
) -> None:
    """Do a piece and write it down; one for which the mix has no room is skipped."""
    if not sieve.has_room and all(domain_of(problem) != GENERAL for problem in piece.problems):
        journal.append((), Tally(), num_skipped=len(piece.problems))
        return
    tally, records = Tally(), list[dict[str, Any]]()
    drafts = [draft for drawn in piece.draw(piece.problems) for draft in drawn]
    judged = list(_judged(drafts, rules))
    if rules.judge is not None:
        _check_judge(judged)
    for draft, reason in judged:
        reason = reason or sieve.reason_against(draft)
        tally.add(piece.source, domain_of(draft.problem), reason or KEPT)
        if reason is None:
            records.append(record_of(draft, count_tokens(draft.text)))
    journal.append(records, tally)


def _check_judge(judged: Sequence[tuple[Draft, Reason | str | None]]) -> None:
    """Raise EndpointError where a judge says nothing usable of many answers: that is no fault of theirs.

    They would be left out for good, and with them, by the mix, the reasoning that they make room for.
    """
    asked = [
        reason
        for draft, reason in judged
        if draft.problem.verifier == "judge" and reason not in _BEFORE_JUDGING
    ]
    if len(asked) >= TELLING and all(reason == Reason.UNJUDGED for reason in asked):
        raise EndpointError(
            f"the judge gave no usable verdict on any of {len(asked)} completions; choose a model that "
            "ends with the requested line. What was graded before is kept"
        )


def _judged(drafts: Sequence[Draft], rules: Rules) -> Iterator[tuple[Draft, Reason | str | None]]:
    """Yield each draft, refined where it was good enough, with the first reason against it."""
    reasons = _reasons(drafts, rules)
    if rules.refine is None:
        yield from zip(drafts, reasons, strict=True)
        return
    good = [draft for draft, reason in zip(drafts, reasons, strict=True) if reason is None]
    yield from ((d, reason) for d, reason in zip(drafts, reasons, strict=True) if reason is not None)
    refined = rules.refine(good)
    found = [draft for draft in refined if draft is not None]
    # A refiner may spoil an answer, its language or its form, so it is judged like any other writer.
    later = iter(zip(found, _reasons(found, rules), strict=True))
    for draft, rewritten in zip(good, refined, strict=True):
        if rewritten is None:
            yield draft, Reason.UNREFINED
        else:
            better, reason = next(later)
            yield better, None if reason is None else f"refined: {reason}"


def _reasons(drafts: Sequence[Draft], rules: Rules) -> list[Reason | None]:
    threads = ThreadPoolExecutor(_THREADS)
    try:
        return list(
            threads.map(
                lambda draft: reason_against(draft, rules.limits, rules.judge, rules.detector), drafts
            )
        )
    finally:
        # After an error or Ctrl-C a judge may still be silent, or pause because its endpoint is busy: its
        # client ends that when it is closed, further up.
        threads.shutdown(wait=False, cancel_futures=True)
