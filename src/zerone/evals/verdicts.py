"""From an answer to a verdict, whatever the suite: mathematics, choices, programs, instructions.

In: an answer, its problem and the form in which it was asked for. Out: a `Judged`. What fails on our
side (a sandbox, a worker, an instruction that cannot be checked) gives no verdict and is counted.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from zerone.evals.answerers import Question, Refusal
from zerone.evals.asking import Form, answer_of, is_well_formed
from zerone.evals.ifeval.follow import follow_all
from zerone.evals.judged import Judged
from zerone.evals.parts import parts_of
from zerone.evals.store import Answer
from zerone.rewards.accuracy import NO_VERDICT, UNPARSABLE, Verdict
from zerone.rewards.verifiers import FAILURES, verifier_named
from zerone.types import Outcome, Problem

_THREADS = 4
"""Programs are judged in processes of their own; the threads only wait for them."""


def judge(question: Question, answer: Answer | Refusal, form: Form) -> Judged:
    """Judge one answer; a refusal of the endpoint has no verdict."""
    problem = question.problem
    text = "" if isinstance(answer, Refusal) else answer.text
    verdict, details = NO_VERDICT, dict[str, Any]()
    if isinstance(answer, Refusal):
        details = {"refused": answer.reason}
    else:
        found = answer_of(problem, text, form)
        verdict, details = verdict_on(problem, found)
        details |= {"parts": parts_of(problem, text, found)}
    return Judged(
        problem=problem,
        sample=question.sample,
        text=text,
        prompt_tokens=0 if isinstance(answer, Refusal) else answer.prompt_tokens,
        num_tokens=0 if isinstance(answer, Refusal) else answer.num_tokens,
        is_truncated=not isinstance(answer, Refusal) and answer.is_truncated,
        outcome=verdict.outcome,
        answer=verdict.canonical,
        is_well_formed=is_well_formed(problem, text, form),
        details=details,
    )


def judge_all(answered: Iterable[tuple[Question, Answer | Refusal]], form: Form) -> Iterator[Judged]:
    """Judge answers, several at once, in their order."""
    with ThreadPoolExecutor(_THREADS) as threads:
        yield from threads.map(lambda pair: judge(pair[0], pair[1], form), answered)


def verdict_on(problem: Problem, answer: str | None) -> tuple[Verdict, dict[str, Any]]:
    """Return the verdict on an extracted answer, and what the suite's own figures need."""
    if problem.verifier == "instructions":
        return _instructions(problem, answer or "")
    if answer is None:
        return UNPARSABLE, {}
    if problem.verifier == "pairwise":
        # A judge model decides later, by comparison; until then there is no verdict.
        return NO_VERDICT, {}
    if "prelude" in problem.spec:
        answer = _with_prelude(answer, problem.spec)
    try:
        return verifier_named(problem.verifier)(answer, problem.spec), {}
    except FAILURES as error:
        return NO_VERDICT, {"error": str(error)[:200]}


def _with_prelude(answer: str, spec: Mapping[str, Any]) -> str:
    """Put the task's own stub before the program, which may be only the body that completes it."""
    from zerone.rewards.code import program_of

    prelude, entry, program = str(spec["prelude"]), str(spec["entry"]), program_of(answer, spec)
    return prelude + program if f"def {entry}" not in program else f"{prelude.rstrip()}\n\n\n{program}"


def _instructions(problem: Problem, answer: str) -> tuple[Verdict, dict[str, Any]]:
    """Judge by all instructions, strictly, as IFEval's first figure does; keep each one for the others."""
    strict, loose = follow_all(answer, problem.spec["instructions"], problem.spec["kwargs"])
    outcome = Outcome.CORRECT if all(strict) else Outcome.WRONG
    return Verdict(outcome=outcome, canonical=None), {"strict": strict, "loose": loose}
