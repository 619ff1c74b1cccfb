"""Runs an evaluation: every question asked once, answers kept, judged, summed up.

In: a suite's problems, a model that answers, the number of samples. Out: figures, as printed and as
written to `DIR/SUITE.json`, with the judged answers in `DIR/SUITE.samples.jsonl`. Stopped at any moment,
the same command goes on: what was answered is in `DIR/answers.jsonl` and not asked again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from zerone.engine.remote import EndpointClient
from zerone.errors import EndpointError, Interrupted
from zerone.evals.answerers import Answerer, Question, Refusal
from zerone.evals.asking import Form
from zerone.evals.figures import details_of, figures_of, shares_of
from zerone.evals.ifeval.follow import instruction_figures
from zerone.evals.inspect_log import write_inspect_log
from zerone.evals.judged import Judged
from zerone.evals.pairwise import judge_pairs, pairwise_figures
from zerone.evals.parts import mean_parts
from zerone.evals.rating import estimate_rating
from zerone.evals.store import FILE_NAME, Answer, AnswerStore, key_of
from zerone.evals.verdicts import judge_all
from zerone.runs.directory import write_atomically
from zerone.seeding import seed_from
from zerone.types import Problem

Progress = Callable[[int, int], None]
"""Called with how many answers there are and how many there will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is to be evaluated. `about` goes into the record as it is; `judge` decides comparisons."""

    suite: str
    problems: Sequence[Problem]
    num_samples: int
    seed: int
    form: Form
    about: Mapping[str, Any]
    out: Path | None
    judge: EndpointClient | None = None
    inspect_log: Path | None = None


def run_evaluation(evaluation: Evaluation, answerer: Answerer, progress: Progress) -> dict[str, Any]:
    """Ask, judge and sum up; return the record.

    Raises EndpointError where a model behind HTTP fails and Interrupted after Ctrl-C; both say what is
    kept and how to go on.
    """
    questions = _questions(evaluation, answerer)
    with AnswerStore(evaluation.out) as store:
        try:
            refusals = _ask(questions, answerer, store, progress)
            judged = list(judge_all([(q, _found(q, store, refusals)) for q in questions], evaluation.form))
            if evaluation.judge is not None:
                judged = judge_pairs(judged, evaluation.judge, store)
        except EndpointError as error:
            raise type(error)(f"{error}; {_kept(evaluation, store)}") from error
        except KeyboardInterrupt as error:
            raise Interrupted(_kept(evaluation, store)) from error
    k = evaluation.num_samples
    answers = [judged[start : start + k] for start in range(0, len(judged), k)]
    record = _record(evaluation, answerer, answers)
    if evaluation.out is not None:
        _write(evaluation.out, evaluation.suite, record, answers)
    if evaluation.inspect_log is not None:
        write_inspect_log(evaluation.inspect_log, record, answers)
    return record


def _questions(evaluation: Evaluation, answerer: Answerer) -> list[Question]:
    """Return every sample wanted; its seed is that of `evaluate`: of (seed, suite, position, id, j)."""
    drawing = answerer.drawing()
    found = []
    for position, problem in enumerate(evaluation.problems):
        prompt, budget = answerer.prompt(problem), answerer.budget(problem)
        drawn = drawing if budget == drawing["max_tokens"] else {**drawing, "budget": budget}
        for sample in range(evaluation.num_samples):
            seed = seed_from(evaluation.seed, "eval", evaluation.suite, position, problem.id, sample)
            key = key_of(answerer.identity, prompt, drawn, seed)
            found.append(Question(problem=problem, sample=sample, seed=seed, key=key))
    return found


def _ask(
    questions: Sequence[Question], answerer: Answerer, store: AnswerStore, progress: Progress
) -> dict[str, Refusal]:
    """Ask what the store does not hold; return the refusals, which are asked again another time."""
    missing = [question for question in questions if store.get(question.key) is None]
    refusals: dict[str, Refusal] = {}
    done = len(questions) - len(missing)
    progress(done, len(questions))
    for question, answer in answerer.ask(missing) if missing else ():
        if isinstance(answer, Refusal):
            refusals[question.key] = answer
        else:
            store.put(question.key, question.problem.id, question.sample, answer)
        done += 1
        progress(done, len(questions))
    if refusals and len(refusals) == len(questions):
        first = next(iter(refusals.values()))
        raise first.error(first.reason)
    return refusals


def _found(question: Question, store: AnswerStore, refusals: Mapping[str, Refusal]) -> Answer | Refusal:
    answer = store.get(question.key)
    return refusals[question.key] if answer is None else answer


def _kept(evaluation: Evaluation, store: AnswerStore) -> str:
    if evaluation.out is None:
        return "nothing is kept without --out DIR"
    path = evaluation.out / FILE_NAME
    return f"{len(store)} answers are kept in {path}: start the same command again to go on"


def _record(evaluation: Evaluation, answerer: Answerer, answers: list[list[Judged]]) -> dict[str, Any]:
    record = {"suite": evaluation.suite, **evaluation.about}
    record |= figures_of(answers)
    record |= details_of(answers)
    record["parts"] = mean_parts(answers)
    judged = [one for own in answers for one in own]
    if any("strict" in one.details for one in judged):
        record["instructions"] = instruction_figures([[one.details for one in own] for own in answers])
    if any("rating" in problem.spec for problem in evaluation.problems):
        record["rating"] = _rating(answers)
    if evaluation.problems[0].verifier == "pairwise":
        record["pairwise"] = pairwise_figures([own[0] for own in answers])
    record["refused"] = sum("refused" in one.details for one in judged)
    record["protocol"] = {
        "form": evaluation.form.label,
        "seed": evaluation.seed,
        **answerer.drawing(),
    }
    return record


def _rating(answers: Sequence[Sequence[Judged]]) -> dict[str, Any]:
    """Return the rating by the problems that have a rating themselves, and a verdict."""
    shares = shares_of(answers)
    problems = [own[0].problem for own in answers]
    rated = [problem for problem in problems if problem.id in shares and "rating" in problem.spec]
    if not rated:
        return {}
    found = estimate_rating(
        [float(problem.spec["rating"]) for problem in rated], [shares[problem.id] for problem in rated]
    )
    return {
        "value": found.value,
        "ci": list(found.interval),
        "is_bound": found.is_bound,
        "num_problems": len(rated),
        "mean_problem_rating": fmean(float(problem.spec["rating"]) for problem in rated),
    }


def _write(out: Path, suite: str, record: Mapping[str, Any], answers: Sequence[Sequence[Judged]]) -> None:
    """Write the record and the judged answers; each file appears whole or not at all."""
    lines = [
        json.dumps(
            {
                "problem": one.problem.id,
                "sample": one.sample,
                "outcome": one.outcome.value,
                "answer": one.answer,
                "num_tokens": one.num_tokens,
                "is_truncated": one.is_truncated,
                "is_well_formed": one.is_well_formed,
                "details": dict(one.details),
                "text": one.text,
            }
        )
        for own in answers
        for one in own
    ]
    whole = {**record, "problems": shares_of(answers)}
    samples_path, record_path = files_of(out, suite)[1:]
    write_atomically(samples_path, "\n".join(lines) + "\n")
    write_atomically(record_path, json.dumps(whole, indent=2) + "\n")


def files_of(out: Path, suite: str) -> tuple[Path, Path, Path]:
    """Return what an evaluation writes: all answers, those of the suite as judged, the record."""
    return out / FILE_NAME, out / f"{suite}.samples.jsonl", out / f"{suite}.json"
