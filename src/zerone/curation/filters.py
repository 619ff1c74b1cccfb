"""Which answers are good enough to learn from: one named reason for each that is not.

In: a draft. Out: the first reason against it, or None. The paper keeps what is correct and readable:
no mixed languages, no long paragraphs, no code blocks in the thought, no repetition (R1 paper, 2.3.1,
2.3.3 and B.3). Its thresholds are not reported; ours are in `Limits`. What depends on other drafts
(duplicates, caps, the mix) is in sieve.py.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from zerone.curation.drafts import Draft
from zerone.prompts.r1 import Style, is_visible, parse_completion, split_reasoning
from zerone.rewards.fences import is_fence
from zerone.rewards.language import SCRIPTS, Detector, language_code, language_share, word_counts
from zerone.rewards.shape import repeated_share
from zerone.rewards.total import RewardRules, RewardWeights, grade
from zerone.types import Finish, Outcome, Problem, Rollout


class Reason(StrEnum):
    """Why a draft is not kept, in the order in which they are asked."""

    NO_ROOM = "prompt leaves no room"
    TOO_LONG = "too long"
    NO_SUMMARY = "no summary"
    MALFORMED = "malformed"
    UNJUDGED = "unjudged"
    WRONG = "wrong"
    MIXED_LANGUAGE = "mixed language"
    LONG_PARAGRAPH = "overlong paragraph"
    CODE_BLOCK = "code block in the thought"
    REPEATED = "repeated"
    UNREFINED = "unrefined"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near duplicate"
    OVER_CAP = "over the cap per prompt"
    OVER_MIX = "over the mix"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is too much or too little; characters and shares of 0 to 1.

    `language_share` is the least share of the thought's and the summary's words in the question's
    language, `repeated_share` the largest share of 16-grams that occurred before, `similarity` the
    resemblance from which two answers to a prompt are near duplicates.
    """

    longest: int = 100_000
    paragraph: int = 1_500
    language_share: float = 0.9
    repeated_share: float = 0.3
    similarity: float = 0.9


Judge = Callable[[Problem, str], Outcome]
"""Says whether an answer serves a problem that no rule can check."""

_BOX = re.compile(r"\\boxed\s{0,8}\{.*\}|[\s.$]+", re.DOTALL)


def reason_against(
    draft: Draft, limits: Limits, judge: Judge | None = None, detector: Detector | None = None
) -> Reason | None:
    """Return the first reason not to keep a draft; a judge is asked only for the verifier "judge"."""
    if draft.is_cut or len(draft.text) > limits.longest:
        return Reason.TOO_LONG if draft.text else Reason.NO_ROOM
    if not _has_summary(draft):
        return Reason.NO_SUMMARY
    outcome, is_well_formed = _judged(draft, judge)
    if not is_well_formed:
        return Reason.MALFORMED
    if outcome is not Outcome.CORRECT:
        return Reason.UNJUDGED if outcome is Outcome.INFRASTRUCTURE_ERROR else Reason.WRONG
    return _unreadable(draft, limits, detector)


def _has_summary(draft: Draft) -> bool:
    """Whether anything is said beside reasoning that was closed; a box needs words around it."""
    split = split_reasoning(draft.text)
    summary = split.answer
    if split.reasoning is None or summary is None:
        return True  # malformed, which is a reason of its own
    if draft.style is Style.BOXED and "boxed" in summary:
        return is_visible(_BOX.sub("", summary))
    return is_visible(summary)


def _judged(draft: Draft, judge: Judge | None) -> tuple[Outcome, bool]:
    """Return the verdict on the answer, by the rewards that training uses, and whether it has its form."""
    if judge is not None and draft.problem.verifier == "judge":
        parsed = parse_completion(draft.text, draft.style)
        if not parsed.is_well_formed or parsed.answer is None:
            return Outcome.UNPARSABLE, False
        return judge(draft.problem, parsed.answer), True
    graded = grade(_as_rollout(draft), RewardWeights(), rules=RewardRules(style=draft.style))
    return graded.outcome, graded.parts["format"] == 1.0


def _as_rollout(draft: Draft) -> Rollout:
    """Return the draft as what rewards take; they look at the text alone here."""
    return Rollout(
        problem=draft.problem,
        sample=draft.number,
        prompt_ids=(),
        completion_ids=(),
        sampler_logprobs=(),
        text=draft.text,
        finish=Finish.STOP,
        weight_version=0,
    )


def _unreadable(draft: Draft, limits: Limits, detector: Detector | None) -> Reason | None:
    parsed = parse_completion(draft.text, draft.style)
    # Without the tags, which are English words to anyone who counts words.
    thought = parsed.thought or ""
    summary = parsed.answer if draft.style is Style.TAGS else split_reasoning(draft.text).answer
    language = draft.problem.language
    # A program's words are English whatever the question's language; its thought is judged.
    parts = (thought,) if draft.problem.verifier == "code" else (thought, summary or "")
    if any(is_mixed(part, language, limits.language_share, detector) for part in parts):
        return Reason.MIXED_LANGUAGE
    is_program = draft.problem.verifier == "code"
    if max(longest_paragraph(thought), longest_paragraph(summary or "", is_program)) > limits.paragraph:
        return Reason.LONG_PARAGRAPH
    if any(map(is_fence, thought.splitlines())):
        return Reason.CODE_BLOCK
    if repeated_share(draft.text) > limits.repeated_share:
        return Reason.REPEATED
    return None


def longest_paragraph(text: str, is_program: bool = False) -> int:
    """Return the characters of the longest run of lines without a blank one between them.

    A program leaves no blank lines where it might: of one, and of what is fenced, each line is a run.
    """
    longest = length = 0
    is_fenced = False
    for line in text.splitlines():
        is_mark = is_fence(line)
        stands_alone = is_program or is_fenced or is_mark or not line.strip()
        length = len(line) if stands_alone else length + len(line)
        longest = max(longest, length)
        if is_mark:
            is_fenced = not is_fenced
        if stands_alone:
            length = 0
    return longest


def is_mixed(text: str, language: str, least_share: float, detector: Detector | None = None) -> bool:
    """Whether too few of a text's words are in a language; a text without words, as sums are, is not."""
    if language_share(text, language, detector) >= least_share:
        return False
    return bool(word_counts(text, detector if SCRIPTS[language_code(language)] == "Latin" else None))
