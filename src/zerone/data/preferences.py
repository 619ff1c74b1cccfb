"""Preference pairs and safety examples from JSONL, and which of them are trained on.

In: lines of `{"prompt", "chosen", "rejected", "margin"?}`, of two answers with a judge's verdicts
`{"prompt", "a", "b", "judgments": [{"first": "a", "score": 1}, ...]}`, or of
`{"prompt", "response", "is_safe"}`. Out: pairs or examples, split by prompt; every line that is left
out is counted by its reason. As in the paper only clear margins are kept, and the longer answer is
the better one in half of the pairs, so that length alone predicts nothing. Of two responses that is
the length of what is scored of them, the final answer.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from zerone.data.adapters import PREFERENCES, adapted, adapter_for
from zerone.data.jsonl import objects_of
from zerone.data.pair_judgments import JudgedPair, Judgment, PositionBias, position_bias
from zerone.data.sources import open_source
from zerone.errors import DataError
from zerone.prompts.r1 import parse_completion, visible_answer
from zerone.seeding import seed_from

Kind = Literal["helpfulness", "safety"]


def final_answer(response: str) -> str:
    """Return what a reader is shown: the answer block, or all that is said outside the reasoning."""
    answer = parse_completion(response).answer
    return (visible_answer(response) or "") if answer is None else answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two responses to a prompt, the better one first; `margin` says how much better, where known."""

    prompt: str
    chosen: str
    rejected: str
    margin: float | None = None

    @property
    def chosen_is_longer(self) -> int:
        """1 where the better final answer is longer, -1 where it is shorter, 0 for equal lengths."""
        chosen, rejected = len(final_answer(self.chosen)), len(final_answer(self.rejected))
        return (chosen > rejected) - (chosen < rejected)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyExample:
    """A whole response, thought included, and whether it is safe."""

    prompt: str
    response: str
    is_safe: bool


Example = Pair | SafetyExample
Row = Example | JudgedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceData:
    """What a file holds after selection, and what was left out, by reason."""

    kind: Kind
    trained: Sequence[Example]
    held_out: Sequence[Example]
    dropped: Mapping[str, int] = field(default_factory=dict)
    position_bias: PositionBias | None = None
    sha256: str = ""


def read_preferences(
    path: str | Path, *, min_margin: float, balance_lengths: bool, eval_share: float
) -> PreferenceData:
    """Read a file, select and split it; raises DataError for a bad line or where too little is left."""
    kind, rows = _rows_of_a_kind(path)
    dropped: Counter[str] = Counter()
    judged = [row for row in rows if isinstance(row, JudgedPair)]
    examples: Sequence[Example]
    if kind == "safety":
        examples = [row for row in rows if isinstance(row, SafetyExample)]
    else:
        examples = clear_pairs(_pairs(rows, dropped), min_margin, dropped)
        if balance_lengths:
            examples = length_balanced(examples, dropped)
    sides = _split(examples, eval_share)
    if not all(sides):
        reasons = ", ".join(f"{number} {reason}" for reason, number in dropped.items()) or "none"
        raise DataError(
            f"of {len(rows)} lines of {path} {len(examples)} are left (left out: {reasons}), too few for "
            "both training and evaluation; give more, lower reward_model.min_margin, or set "
            "reward_model.balance_lengths=false"
        )
    return PreferenceData(
        kind=kind,
        trained=sides[0],
        held_out=sides[1],
        dropped=dict(dropped),
        position_bias=position_bias(judged) if judged else None,
        sha256=open_source(path).sha256(),
    )


def read_examples(path: str | Path) -> tuple[Kind, Sequence[Example]]:
    """Read a file as it is, for measuring: only judged pairs without a clear winner are left out."""
    kind, rows = _rows_of_a_kind(path)
    if kind == "safety":
        return kind, [row for row in rows if isinstance(row, SafetyExample)]
    pairs = _pairs(rows, Counter())
    if not pairs:
        raise DataError(f"no pair of {path} has a winner in both positions")
    return kind, pairs


# Selection ----------------------------------------------------------------------------------------


def _pairs(rows: Sequence[Row], dropped: Counter[str]) -> list[Pair]:
    """Return the pairs; a judged one as the mean of its verdicts orders it, if both positions agree."""
    pairs = []
    for row in rows:
        if isinstance(row, Pair):
            pairs.append(row)
        elif isinstance(row, JudgedPair) and not row.is_judged_in_both:
            dropped["judged in one position only"] += 1
        elif isinstance(row, JudgedPair) and row.is_consistent:
            better, worse = (row.a, row.b) if row.preference > 0 else (row.b, row.a)
            pairs.append(Pair(prompt=row.prompt, chosen=better, rejected=worse, margin=abs(row.preference)))
        else:
            dropped["judged otherwise when the positions are swapped"] += 1
    return pairs


def clear_pairs(pairs: Sequence[Pair], min_margin: float, dropped: Counter[str]) -> list[Pair]:
    """Leave out pairs with a known margin that is not clear, and pairs of equal answers."""
    kept = []
    for pair in pairs:
        if final_answer(pair.chosen) == final_answer(pair.rejected):
            dropped["both answers are the same"] += 1
        elif pair.margin is not None and pair.margin < min_margin:
            dropped["no clear margin"] += 1
        else:
            kept.append(pair)
    return kept


def length_balanced(pairs: Sequence[Pair], dropped: Counter[str]) -> list[Pair]:
    """Return as many pairs whose better response is longer as pairs where it is shorter.

    Of the surplus the clearest stay; at equal margins a hash decides, not the order of the file.
    """
    sides: dict[int, list[Pair]] = {1: [], 0: [], -1: []}
    for pair in pairs:
        sides[pair.chosen_is_longer].append(pair)
    room = min(len(sides[1]), len(sides[-1]))
    kept = {id(pair) for pair in sides[0]}
    for side in (1, -1):
        ordered = sorted(sides[side], key=lambda p: (-(p.margin or 0.0), seed_from(p.prompt, p.chosen)))
        kept |= {id(pair) for pair in ordered[:room]}
    if len(kept) < len(pairs):
        dropped["of the more frequent order of lengths"] += len(pairs) - len(kept)
    return [pair for pair in pairs if id(pair) in kept]


def _split(examples: Sequence[Example], eval_share: float) -> tuple[list[Example], list[Example]]:
    """Return (for training, held out); all examples of a prompt are on one side."""
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        is_held_out = seed_from("preference", example.prompt) % 10_000 < eval_share * 10_000
        sides[is_held_out].append(example)
    return sides


# Reading ------------------------------------------------------------------------------------------


def _rows_of_a_kind(path: str | Path) -> tuple[Kind, list[Row]]:
    """Read a file, which must be about one thing."""
    rows = list(read_rows(path))
    are_safety = {isinstance(row, SafetyExample) for row in rows}
    if len(are_safety) != 1:
        what = "has no lines" if not rows else "mixes preference pairs and safety examples; split it"
        raise DataError(f"{path} {what}")
    return "safety" if True in are_safety else "helpfulness", rows


_EXAMPLE = '{"prompt": ..., "chosen": ..., "rejected": ...}'


def read_rows(path: str | Path) -> Iterator[Row]:
    """Yield the lines as they are; raises DataError with the line for one that cannot be read."""
    return (row for _, row in placed_rows(path))


def placed_rows(path: str | Path) -> Iterator[tuple[str, Row]]:
    """Yield what `read_rows` does, each with its place: file and line."""
    names, adapter, is_first = open_source(path, "the argument").known_by, None, True
    for place, row in objects_of(path, "the argument", _EXAMPLE):
        if is_first:
            adapter, is_first = adapter_for(PREFERENCES, names, row), False
        read = adapted(adapter, row, place)
        try:
            yield place, _row(read)
        except (ValueError, TypeError, LookupError) as error:
            raise DataError(f"{place}: {_explain(error)}") from error


def _explain(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return (
            f"no field {error}; a line has prompt, chosen and rejected, or prompt, a, b and judgments, "
            "or prompt, response and is_safe"
        )
    return str(error)


def _row(row: Mapping[str, Any]) -> Row:
    prompt = _text(row, "prompt")
    if "is_safe" in row or "response" in row:
        if not isinstance(row["is_safe"], bool):
            raise ValueError(f"is_safe must be true or false, not {row['is_safe']!r}")
        return SafetyExample(prompt=prompt, response=_text(row, "response"), is_safe=row["is_safe"])
    if "judgments" in row:
        judgments = row["judgments"]
        if not isinstance(judgments, list) or not judgments:
            raise ValueError(f"judgments must be a list of at least one, not {judgments!r}")
        return JudgedPair(
            prompt=prompt,
            a=_text(row, "a"),
            b=_text(row, "b"),
            judgments=tuple(map(_judgment, judgments)),
            judge=row.get("judge"),
        )
    margin = row.get("margin")
    if margin is not None and (not _is_number(margin) or margin < 0):
        raise ValueError(f"margin must be a number from 0 on, not {margin!r}")
    return Pair(prompt=prompt, chosen=_text(row, "chosen"), rejected=_text(row, "rejected"), margin=margin)


def _judgment(value: Any) -> Judgment:
    found: Mapping[str, Any] = value if isinstance(value, dict) else {}
    first, score = found.get("first"), found.get("score", "")
    if first not in ("a", "b") or not _is_number(score):
        raise ValueError(f'a judgment is {{"first": "a" or "b", "score": number}}, not {value!r}')
    return Judgment(first=first, score=float(score))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} must be text, not {type(value).__name__}")
    return value
