"""Finds rollouts worth reading: the first and the clearest that recover, and early beside late.

In: rollouts.sqlite. Out: samples with their step, and per step the share of answers that recover.
A recovery is a right answer whose thought holds, in this order: a number (something was tried), a
word of failure, a reflection word, and another number (something else was tried). The rule is the
same for all models and runs; nobody picks the samples by hand.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from zerone.escaping import visible
from zerone.prompts.r1 import parse_completion
from zerone.rewards.reflection import count_reflection_words, reflection_spans
from zerone.runs.directory import RunDir, numbers_stored
from zerone.types import Outcome

_ENGLISH_FAILURES = ("no", "not", "wrong", "incorrect")
_CHINESE_FAILURES = ("不对", "错")
FAILURE_WORDS = _ENGLISH_FAILURES + _CHINESE_FAILURES
MAX_FAMILIES = 3
MAX_SHOWN_CHARACTERS = 4000

_DIGIT = re.compile(r"\d")
_FAILURE = re.compile(
    rf"\b(?:{'|'.join(_ENGLISH_FAILURES)})\b|{'|'.join(_CHINESE_FAILURES)}", re.ASCII | re.IGNORECASE
)

_SELECT = """
SELECT r.step, r.position, r.sample, g.family, g.level, g.language, g.prompt, r.text, r.answer,
       r.outcome, r.reward, r.parts, r.advantage, r.num_tokens
FROM rollouts r JOIN groups g ON g.step = r.step AND g.position = r.position
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One rollout as it is shown."""

    step: int
    position: int
    sample: int
    family: str
    level: int
    language: str
    prompt: str
    text: str
    answer: str | None
    outcome: str
    reward: float
    parts: dict[str, float]
    advantage: float
    num_tokens: int

    @property
    def is_right(self) -> bool:
        """Whether the answer was judged correct."""
        return self.outcome == Outcome.CORRECT

    @property
    def reflection_words(self) -> int:
        """Reflection words of the whole text."""
        return count_reflection_words(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One typical rollout of a family and level from each end of the run, with the cell's means."""

    early: Sample
    late: Sample
    early_accuracy: float
    late_accuracy: float
    early_tokens: float
    late_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the search found; one sample per problem family in each list."""

    earliest: Sequence[Sample] = ()
    clearest: Sequence[Sample] = ()
    contrasts: Sequence[Contrast] = ()
    recoveries: dict[int, float] = field(default_factory=dict)


def read_samples(run: RunDir, where: str, parameters: Sequence[Any] = ()) -> Iterator[Sample]:
    """Yield rollouts in the order of step, group and sample; `where` is SQL, never user text."""
    sql = f"{_SELECT} WHERE {where} ORDER BY r.step, r.position, r.sample"
    for row in run.query(sql, parameters):
        values = {**dict(row), "parts": numbers_stored(row["parts"], run)}
        values |= {key: math.nan for key in ("reward", "advantage") if values[key] is None}
        yield Sample(**values)


def is_recovery(thought: str | None) -> bool:
    """Whether a thought tries something, fails, reflects and goes on, by the rule above."""
    first = _DIGIT.search(thought) if thought else None
    failure = _FAILURE.search(thought, first.end()) if thought and first else None
    if thought is None or failure is None:
        return False
    following = (end for start, end in reflection_spans(thought) if start >= failure.end())
    return any(_DIGIT.search(thought, end) for end in following)


def find(run: RunDir) -> Findings:
    """Search all rollouts of a run."""
    if not run.rollouts_path.exists():
        return Findings()
    sizes = {
        row["step"]: row["n"] for row in run.query("SELECT step, COUNT(*) AS n FROM rollouts GROUP BY step")
    }
    counts = dict.fromkeys(sizes, 0)
    earliest: dict[str, Sample] = {}
    clearest: dict[str, Sample] = {}
    for sample in read_samples(run, "r.outcome = ?", (Outcome.CORRECT.value,)):
        if not is_recovery(parse_completion(sample.text).thought):
            continue
        counts[sample.step] += 1
        earliest.setdefault(sample.family, sample)
        best = clearest.setdefault(sample.family, sample)
        if _clarity(sample) > _clarity(best):
            clearest[sample.family] = sample
    return Findings(
        earliest=sorted(earliest.values(), key=lambda sample: sample.step)[:MAX_FAMILIES],
        clearest=sorted(clearest.values(), key=_clarity, reverse=True)[:MAX_FAMILIES],
        contrasts=_contrasts(run, list(sizes)),
        recoveries={step: counts[step] / size for step, size in sizes.items()},
    )


def _clarity(sample: Sample) -> tuple[int, int]:
    return sample.reflection_words, -sample.num_tokens


Cell = tuple[str, int, str]


def _contrasts(run: RunDir, steps: Sequence[int]) -> list[Contrast]:
    """Compare first and last step in the hardest level of every family that both hold."""
    if len(steps) < 2:
        return []
    early, late = _cells(run, min(steps)), _cells(run, max(steps))
    chosen: dict[str, Cell] = {}
    for cell in early.keys() & late.keys():
        family = cell[0]
        if family not in chosen or _hardness(cell, early) > _hardness(chosen[family], early):
            chosen[family] = cell
    return [_contrast(early[cell], late[cell]) for _, cell in sorted(chosen.items())][:MAX_FAMILIES]


def _cells(run: RunDir, step: int) -> dict[Cell, list[Sample]]:
    cells: dict[Cell, list[Sample]] = {}
    for sample in read_samples(run, "r.step = ?", (step,)):
        cells.setdefault((sample.family, sample.level, sample.language), []).append(sample)
    return cells


def _hardness(cell: Cell, cells: dict[Cell, list[Sample]]) -> tuple[int, int, str]:
    # Among languages of one level, the one with more rollouts; the name settles what is left.
    return cell[1], len(cells[cell]), cell[2]


def _contrast(early: Sequence[Sample], late: Sequence[Sample]) -> Contrast:
    return Contrast(
        early=typical(early),
        late=typical(late),
        early_accuracy=sum(sample.is_right for sample in early) / len(early),
        late_accuracy=sum(sample.is_right for sample in late) / len(late),
        early_tokens=sum(sample.num_tokens for sample in early) / len(early),
        late_tokens=sum(sample.num_tokens for sample in late) / len(late),
    )


def typical(samples: Sequence[Sample]) -> Sample:
    """Return the rollout of median length among those with the most frequent outcome."""
    outcomes = [sample.outcome for sample in samples]
    usual = max(sorted(set(outcomes)), key=outcomes.count)
    alike = sorted(
        (s for s in samples if s.outcome == usual), key=lambda s: (s.num_tokens, s.position, s.sample)
    )
    return alike[(len(alike) - 1) // 2]


Segment = tuple[str, str]


def segments(text: str) -> list[Segment]:
    """Cut a text into (class, text) pieces in which reflection words are marked, ready to show."""
    shown, note = cut(text)
    pieces: list[Segment] = []
    at = 0
    for start, end in reflection_spans(shown):
        pieces += [("", shown[at:start]), ("mark", shown[start:end])]
        at = end
    pieces.append(("", shown[at:]))
    pieces.append(("cut", note))
    return [piece for piece in pieces if piece[1]]


def cut(text: str) -> tuple[str, str]:
    """Return what a page shows of a text, and a note on what it leaves out, if it does."""
    left_out = len(text) - MAX_SHOWN_CHARACTERS
    note = f"\n({left_out:,} more characters are in rollouts.sqlite)" if left_out > 0 else ""
    return visible(text[:MAX_SHOWN_CHARACTERS]), note
