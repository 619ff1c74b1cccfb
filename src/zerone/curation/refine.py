"""Rewrites a correct draft for readers by rules: a thought in the first person, then a summary.

In: drafts in the style of their source. Out: drafts in the style that SFT and later RL share. R1-Zero
says "we" or nothing, R1 says "I" (R1 paper, B.3.2). The summary is the sentence with the
answer; nothing is added that the thought does not hold. What a larger model rewrites better is the work
of by_endpoint.py.
"""

import re
from collections.abc import Sequence

from zerone.corpus.words import WORDS
from zerone.curation.drafts import GENERAL, Draft, domain_of
from zerone.prompts.r1 import Style, parse_completion, style_for, write_completion
from zerone.types import Problem

_FIRST_PERSON = {
    "en": re.compile(r"\b(?:I|I'm|I'll|I've|me|my|mine|myself)\b"),
    "zh": re.compile("我"),
}
_WE_AUXILIARIES = {"are": "am", "were": "was", "'re": "'m", "aren't": "am not", "weren't": "wasn't"}
# Not in capitals: US is a country.
_WE = re.compile(r"\b[Ww]e\b(?P<verb> (?:aren't|weren't|are|were)\b|'re\b)?")
_PLURALS = {
    "let's": "let me",
    "us": "me",
    "our": "my",
    "ours": "mine",
    "ourselves": "myself",
}
_PLURAL = re.compile(r"\b(?:[Ll]et's|[Uu]s|[Oo]urs|[Oo]ur|[Oo]urselves)\b")
_OUR_CHINESE = re.compile("我们|咱们|咱")

_MARKDOWN = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|[*+-][ \t]+(?=[^\d\s])|>[ \t]+)", re.MULTILINE)
# A mark of emphasis opens before a word and closes after one. Powers (2**3) and unpacking (f(**a, **b)) do
# not; a single word in small letters between underscores (__init__) is a name of Python's own.
_EMPHASIS = re.compile(
    r"(?<![A-Za-z0-9_)\]*])\*\*(?=[^\s*])([^*\n]{1,400})(?<!\s)\*\*(?![A-Za-z0-9_(\[*])"
    r"|(?<![A-Za-z0-9_)\].])__(?![a-z0-9]{1,400}__)(?=[^\s_])([^_\n]{1,400})(?<!\s)__(?![A-Za-z0-9_(\[])"
)
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+\n")
_BLANKS = re.compile(r"(?<=\S)[ \t]{2,}")


def refine_by_rules(drafts: Sequence[Draft], style: Style) -> list[Draft | None]:
    """Return each draft rewritten in a style; None for one without thought or answer."""
    return [_refined(draft, style) for draft in drafts]


def _refined(draft: Draft, style: Style) -> Draft | None:
    parsed = parse_completion(draft.text, draft.style)
    if not parsed.thought or parsed.answer is None:
        return None
    problem = draft.problem
    wanted = style_for(problem, style)
    thought = first_person(tidy(parsed.thought), problem)
    if wanted is Style.BOXED:
        # No calculation is repeated: what a small model repeats it does anew, and answers by that.
        summary = WORDS["zh" if problem.language == "zh" else "en"].boxed.format(parsed.answer)
        text = write_completion(thought, summary, Style.SUMMARY)
    else:
        text = write_completion(thought, parsed.answer, wanted)
    return Draft(problem=problem, source=draft.source, number=draft.number, text=text, style=wanted)


def tidy(thought: str) -> str:
    """Return a thought without mark-up, blanks at line ends, and lines said twice in a row."""
    plain = _EMPHASIS.sub(r"\1\2", _MARKDOWN.sub("", thought))
    plain = _BLANK_LINES.sub("\n\n", _BLANKS.sub(" ", plain))
    lines: list[str] = []
    for line in plain.splitlines():
        line = line.rstrip()
        if not line or not lines or line != lines[-1]:
            lines.append(line)
    return "\n".join(lines).strip()


def first_person(thought: str, problem: Problem) -> str:
    """Return a thought that says I where it said we, opened by a sentence that does if none did.

    The short thoughts of general requests stay as short as they are.
    """
    language = "zh" if problem.language == "zh" else "en"
    if language == "zh":
        said = _OUR_CHINESE.sub("我", thought)
    else:
        said = _PLURAL.sub(lambda match: _cased(_PLURALS[match.group().lower()], match.group()), thought)
        said = _WE.sub(_as_i, said)
    if domain_of(problem) == GENERAL or _FIRST_PERSON[language].search(said):
        return said
    return f"{WORDS[language].opening}\n{said}"


def _as_i(match: re.Match[str]) -> str:
    verb = match["verb"] or ""
    gap = " " if verb.startswith(" ") else ""
    return f"I{gap}{_WE_AUXILIARIES.get(verb.strip(), '')}"


def _cased(word: str, like: str) -> str:
    return word.capitalize() if like[:1].isupper() else word
