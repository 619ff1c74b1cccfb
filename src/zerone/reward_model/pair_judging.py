"""Pairs judged by a language model behind HTTP, each in both positions: data for a reward model.

In: JSONL of `{"prompt", "a", "b"}`, an endpoint. Out: the same lines with `judgments` and the judge's
name, appended one by one as they come, so that work that was cut short goes on where it was; how many
there are, and whether the judge goes by the position. The judge reads the final answers alone, as the
reward model that learns from it will. A pair without a usable verdict is left out, counted, and asked
about again when the work is done again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zerone.data.jsonl import objects_of
from zerone.data.pair_judgments import JudgedPair, PositionBias, judge_pair, position_bias
from zerone.data.preferences import final_answer, placed_rows
from zerone.engine.remote import Endpoint, EndpointClient, ask_many
from zerone.errors import DataError, RequestRefused, RunDirError
from zerone.evals.rubric import Rubric
from zerone.files import refuse_overwriting
from zerone.runs.directory import write_atomically
from zerone.seeding import seed_from

_FIELDS = ("prompt", "a", "b")
_TEMPERATURE = 0.7
"""Of a judge that is asked about a pair in the same order several times (paper: not reported)."""
Texts = tuple[str, str, str]
"""A prompt and two responses."""


class _NoVerdictError(ValueError):
    """A judge was asked and gave no usable verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedFile:
    """What became of a file of pairs; the bias is over all that is judged by now."""

    judged: int
    judged_before: int
    without_verdict: int
    bias: PositionBias | None


def judge_pairs(endpoint: Endpoint, source: Path, out: Path, num_judgments: int, seed: int = 0) -> JudgedFile:
    """Judge the pairs of `source` and append them to `out`.

    Raises DataError for a bad line, or one of `out` by another judge or of another number of judgments;
    EndpointError where the endpoint fails. What was judged is kept.
    """
    refuse_overwriting({"--out": out}, [source])
    asked = list(dict.fromkeys(_pairs(source)))
    done = {
        (pair.prompt, pair.a, pair.b): pair for pair in _judged_before(out, endpoint.model, num_judgments)
    }
    waiting = [texts for texts in asked if texts not in done]
    # Two judgments are one of each order. At temperature 0 any more would be the same two again.
    rubric = Rubric(seed=seed, temperature=0.0 if num_judgments <= 2 else _TEMPERATURE)
    num_failed = 0

    def judge(texts: Texts) -> JudgedPair | None:
        return _judge(client, rubric, texts, num_judgments)

    with EndpointClient(endpoint) as client:
        _append(out, "")  # before anything is asked, as what is asked may cost
        for texts, pair in ask_many(client, waiting, judge):
            if pair is None or isinstance(pair, RequestRefused):
                num_failed += 1
                continue
            done[texts] = pair
            _append(out, json.dumps(_row(pair, endpoint.model), ensure_ascii=False) + "\n")
    return JudgedFile(
        judged=len(waiting) - num_failed,
        judged_before=len(asked) - len(waiting),
        without_verdict=num_failed,
        bias=position_bias(list(done.values())),
    )


def _judge(client: EndpointClient, rubric: Rubric, texts: Texts, num_judgments: int) -> JudgedPair | None:
    def compare(prompt: str, first: str, second: str, number: int) -> float:
        drawn = replace(rubric, seed=seed_from(rubric.seed, "judgment", number))
        found = drawn.compare(client, prompt, final_answer(first), final_answer(second))
        if found is None:
            raise _NoVerdictError
        return found

    try:
        return judge_pair(compare, *texts, num_judgments)
    except _NoVerdictError:
        return None


def _row(pair: JudgedPair, judge: str) -> Mapping[str, Any]:
    judgments = [{"first": one.first, "score": round(one.score, 4)} for one in pair.judgments]
    return {"prompt": pair.prompt, "a": pair.a, "b": pair.b, "judge": judge, "judgments": judgments}


def _append(out: Path, line: str) -> None:
    try:
        with out.open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise RunDirError(
            f"cannot write {out}: {error.strerror}; judged pairs are kept, the same command resumes"
        ) from error


def _judged_before(out: Path, judge: str, num_judgments: int) -> Sequence[JudgedPair]:
    """Return what a file holds, if it is there; a line that was cut short by a kill is cut off."""
    if not out.exists():
        return []
    try:
        text = out.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise DataError(f"cannot read {out}: {error.strerror}") from error
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_atomically(out, whole)
    judged = []
    for place, pair in placed_rows(out):
        if not isinstance(pair, JudgedPair):
            raise DataError(f"{out} holds lines that are not judged pairs; choose another --out")
        judged.append(pair)
        # Files of other makers need not name a judge.
        by, count = judge if pair.judge is None else pair.judge, len(pair.judgments)
        if (by, count) != (judge, num_judgments):
            raise DataError(
                f"{place}: has {count} judgments by {by!r}, not {num_judgments} by {judge!r}; the two would "
                "mix, so choose another --out"
            )
    return judged


def _pairs(source: Path) -> Iterator[Texts]:
    for place, row in objects_of(source, "the argument", '{"prompt": ..., "a": ..., "b": ...}'):
        if wrong := [repr(name) for name in _FIELDS if not isinstance(row.get(name), str)]:
            raise DataError(
                f'{place}: {{"prompt": ..., "a": ..., "b": ...}} is needed; {", ".join(wrong)} is not text'
            )
        yield row["prompt"], row["a"], row["b"]
