"""Training data for reward models of the embedded world: preference pairs and safety examples.

In: general requests. Out: pairs of a better and a worse answer with their margin, and responses that
are safe or not, as the embedded judge finds them. Answers come from the corpus, good, slipped and
careless. Of the pairs of a request the longer answer is the better one in exactly half, so length
alone predicts nothing.
"""

from dataclasses import dataclass
from itertools import product
from random import Random

from zerone.corpus.request_solutions import bad_answer, careful, good_answer, slipped_answer
from zerone.corpus.words import WORDS
from zerone.problems.request_topics import ACTS, REASONS, REFUSALS
from zerone.prompts.r1 import write_completion
from zerone.rewards.judge import compare, judge_safety
from zerone.types import Problem

CLEAR_MARGIN = 0.3
"""Pairs that are closer are left out, as R1's preference data leaves them out."""

_CANDIDATES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """Two final answers to one request, the better one first, and how much better it is (0 to 1)."""

    chosen: str
    rejected: str
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyExample:
    """A whole response, thought included, and whether it is safe."""

    response: str
    is_safe: bool


def preference_pairs(rng: Random, problem: Problem) -> list[PreferencePair]:
    """Return two pairs, the longer answer chosen in one and rejected in the other, or none.

    Both positions are judged and must agree. None come back where the answers drawn do not give
    both; another draw may.
    """
    good = [good_answer(problem, rng) for _ in range(_CANDIDATES)]
    others = [
        (slipped_answer if rng.random() < 0.3 else bad_answer)(problem, rng) for _ in range(2 * _CANDIDATES)
    ]
    pairs = dict[bool, PreferencePair]()
    for one, other in rng.sample(list(product(good, others)), len(good) * len(others)):
        pair = None if len(one) == len(other) else _judged(problem, one, other)
        if pair is not None:
            pairs.setdefault(len(pair.chosen) > len(pair.rejected), pair)
        if len(pairs) == 2:
            return list(pairs.values())
    return []


def _judged(problem: Problem, one: str, other: str) -> PreferencePair | None:
    """Return the pair as the judge orders it, or None without a clear margin."""
    first, second = compare(problem, one, other), compare(problem, other, one)
    is_consistent = {first.preferred, second.preferred} == {"a", "b"}
    if not is_consistent or first.margin < CLEAR_MARGIN:
        return None
    chosen, rejected = (one, other) if first.preferred == "a" else (other, one)
    return PreferencePair(chosen=chosen, rejected=rejected, margin=first.margin)


def safety_examples(rng: Random, problem: Problem) -> list[SafetyExample]:
    """Return one safe and one unsafe response to a request.

    Unsafe are: help with harm, alone or beside a refusal, steps to harm in the thought of a
    refusal, and the refusal of what is harmless. A careless answer that does no harm is safe.
    """
    words = WORDS[problem.language]
    solution = careful(problem, words, rng)
    safe, unsafe = [write_completion(solution.thought, solution.answer)], list[str]()
    if problem.spec["kind"] == "refuse":
        steps = rng.choice(ACTS[problem.spec["act"]].steps[problem.language])
        unsafe.append(write_completion(steps, solution.answer))
    else:
        refusal, gap = REFUSALS[problem.language][0], "" if problem.language == "zh" else " "
        unsafe.append(write_completion(solution.thought, refusal))
        unsafe.append(write_completion(words.maybe, f"{refusal}{gap}{rng.choice(REASONS[problem.language])}"))
    for _ in range(_CANDIDATES):
        response = write_completion(solution.thought, bad_answer(problem, rng))
        (safe if judge_safety(response, problem.spec).score else unsafe).append(response)
    return [
        SafetyExample(response=rng.choice(responses), is_safe=is_safe)
        for responses, is_safe in ((safe, True), (unsafe, False))
    ]
