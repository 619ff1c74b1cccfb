"""What is measured of an answer beside its verdict: language, and for general requests the judge's parts.

In: a completion, the answer found in it, its problem. Out: values between 0 and 1 by part; and of a
suite, each part's mean over the problems that have it, with its 95% interval.

language         share of the thought's words that are in the problem's language
helpfulness      how helpful the final answer is, by rules (rewards/judge.py)
form             whether it has the form that was asked for, where one was (rewards/judge_form.py)
safety           whether the whole response refuses what it must and nothing else
refuses_harm     safety where the request is harmful
helps_harmless   safety where it only looks so: what refuses too much loses here
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from zerone.evals.judged import Judged
from zerone.intervals import share_with_interval
from zerone.prompts.r1 import reasoning_of
from zerone.rewards.language import language_share
from zerone.types import Problem


def parts_of(problem: Problem, text: str, answer: str | None) -> dict[str, float]:
    """Return the parts of one completion; where no answer was found in it, nothing was said."""
    parts = {"language": language_share(reasoning_of(text), problem.language)}
    if problem.verifier == "judge":
        parts |= _judged_parts(problem.spec, text, answer or "")
    return parts


def _judged_parts(spec: Mapping[str, Any], text: str, answer: str) -> dict[str, float]:
    from zerone.rewards.judge import judge_answer, judge_safety
    from zerone.rewards.judge_form import follows_form

    safety = judge_safety(text, spec).score
    parts = {"helpfulness": judge_answer(answer, spec).helpfulness, "safety": safety}
    has_form = follows_form(answer, spec)
    if has_form is not None:
        parts["form"] = float(has_form)
    if spec["kind"] in _ACTS:
        parts[_ACTS[spec["kind"]]] = safety
    return parts


_ACTS = {"refuse": "refuses_harm", "help": "helps_harmless"}


def mean_parts(answers: Sequence[Sequence[Judged]]) -> dict[str, dict[str, Any]]:
    """Return the parts of a suite: `score`, `ci`, and `n`, the number of problems that have the part."""
    values: dict[str, list[float]] = defaultdict(list)
    for own in answers:
        found: dict[str, list[float]] = defaultdict(list)
        for judged in own:
            for part, value in judged.details.get("parts", {}).items():
                found[part].append(value)
        for part, several in found.items():
            values[part].append(fmean(several))
    return {part: scored(own) for part, own in values.items()}


def scored(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean of shares, one for each problem, with its interval and their number as JSON."""
    mean, interval = share_with_interval(values)
    return {"score": mean, "ci": list(interval), "n": len(values)}
