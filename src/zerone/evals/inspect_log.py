"""The same evaluation as a log of inspect-ai, whose viewer then shows every answer with its score.

In: a record and its judged answers. Out: one `.json` or `.eval` file, written by inspect-ai itself (the
extra `inspect`), so that it has whatever form that version reads.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zerone.errors import RunDirError, UserError
from zerone.evals.judged import Judged
from zerone.types import Outcome

_SCORER = "zerone"
_VALUES = {Outcome.CORRECT: "C", Outcome.INFRASTRUCTURE_ERROR: "N"}
"""Inspect's letters: correct, no answer; all others are incorrect."""


def require_inspect(path: Path) -> None:
    """Raise UserError where the library is missing or the name cannot be a log's; before any work."""
    if path.suffix not in (".json", ".eval"):
        raise UserError(f"--inspect-log {path}: a log of inspect-ai ends in .json or .eval")
    _library()


def write_inspect_log(path: Path, record: Mapping[str, Any], answers: Sequence[Sequence[Judged]]) -> None:
    """Write the log; a file of that name is replaced."""
    log = _library()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    metrics = {
        name: log.EvalMetric(name=name, value=value)
        for name, value in record.items()
        if isinstance(value, float)
    }
    whole = log.EvalLog(
        status="success",
        eval=log.EvalSpec(
            created=now,
            task=f"zerone/{record['suite']}",
            dataset=log.EvalDataset(name=record["suite"], samples=len(answers)),
            model=str(record["model"]),
            config=log.EvalConfig(epochs=record["num_samples"]),
            metadata={"protocol": dict(record["protocol"])},
        ),
        results=log.EvalResults(
            total_samples=len(answers),
            completed_samples=len(answers),
            scores=[log.EvalScore(name=_SCORER, scorer=_SCORER, metrics=metrics)],
        ),
        stats=log.EvalStats(started_at=now, completed_at=now),
        samples=[_sample(log, str(record["model"]), one) for own in answers for one in own],
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log.write_eval_log(whole, str(path))
    except OSError as error:
        raise RunDirError(f"cannot write {path}: {error.strerror}; choose another --inspect-log") from error


def _sample(log: Any, model: str, one: Judged) -> Any:
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score

    score = Score(
        value=_VALUES.get(one.outcome, "I"),
        answer=one.answer,
        metadata={"outcome": one.outcome.value, "tokens": one.num_tokens, **one.details},
    )
    return log.EvalSample(
        id=one.problem.id,
        epoch=one.sample + 1,
        input=one.problem.prompt,
        target=str(one.problem.spec.get("answer", "")),
        output=ModelOutput.from_content(model, one.text, "max_tokens" if one.is_truncated else "stop"),
        scores={_SCORER: score},
    )


def _library() -> Any:
    try:
        from inspect_ai import log
    except ImportError as error:
        raise UserError(
            "--inspect-log needs the library inspect-ai; install it by pip install 'zerone[inspect]'"
        ) from error
    return log
