"""Finds the answer in a completion: the last complete `\\boxed{...}` or answer block.

Boxes side by side, with nothing but a comma or `and` and names between them, are one answer.

In: a completion, or the text of an answer block. Out: the whole content of the box, or None. Only
what stands outside the reasoning counts. The content is taken whole, and so is what touches the box:
`-\\boxed{42}` and `\\boxed{4}2` are not the answer 42, and a box within an expression is no answer.
One pass over the text, whatever it holds.
"""

import re
from collections.abc import Sequence

from zerone.prompts.r1 import ANSWER_CLOSE, ANSWER_OPEN, box_spans, split_reasoning
from zerone.rewards.math.guards import MAX_CHARACTERS

Span = tuple[int, int, int]
"""Start of the command, start of the content, end of the content."""

_STYLE = re.compile(
    r"(?:\\(?:math|text)(?:bf|rm|it|sf|tt)|\\text|\\mathbf|\\bm|\\displaystyle|\\color\{\w+\})?\s*$"
)

_MATH_OPEN = re.compile(r"(?:\$\$?|\\\(|\\\[)\s*$")
_MATH_CLOSE = re.compile(r"\s*(?:\$\$?|\\\)|\\\])")
_RELATION_BEFORE = re.compile(
    r"(?:^|[=&:;,>\n]|\\\\|\*\*|__|[.?]\s|[A-Za-z]{2}!\s|\\(?:approx|equiv|in|to|implies|iff|item|because|[lg]eq?(?:slant)?|[lg]t"
    r"|(?:Long|long)?(?:Right|right|Leftright|leftright)arrow|therefore|q?quad|text(?:bf|it|rm)?\{[^{}]*\}"
    r"|end\{\w+\*?\}|begin\{\w+\*?\}(?:\{\w+\})?|displaystyle|[Ll]arge|LARGE|[Hh]uge|centering|newline|hfill"
    r"|[;,:!]))\s*$"
)
_PROSE_BEFORE = re.compile(r"(?:[A-Za-z\u00c0-\U0010ffff\uff1a)\]][.:,;!?]?\s+|[\u2e80-\U0010ffff])$")
_COMMAND_BEFORE = re.compile(r"\\[A-Za-z]+\s*$")
_CHANGE_BEFORE = re.compile(
    r"(?:\b(?:[Nn]egative|[Mm]inus|plus|times|[Nn]ot|half|root of|except|than)\s+"
    r"|\\(?:times|cdot|ast|div|pm|mp|neq?|sqrt|neg|not|ln|log|sin|cos|tan)\s*"
    r"|(?:[负負减減加乘除非]|不是|不等于|不为|大于|小于|超过|除以|根号|分之)\s*)$"
)
"""Words and signs that make another answer of the number behind them."""

_AFTER = re.compile(
    r"\s*(?:$|[.,;:!?)]?\s*(?:$|\n)|[.,;:?]\s*(?:\$|\\[)\]])|[.,;:!?]\s|=\s*[A-Za-z]\s*(?:\$|\\[)\]]|$|\n)|&|\\\\|\*\*|__|\\(?:text|mbox|mathrm|textrm)\s*\{"
    r"|\\(?:quad|qquad|end|pmod|implies|Rightarrow|,|;|:|!|%|tag|blacksquare|square)|\^\s*\{?\s*\\circ|%|\u00b0"
    r"|[\u2e80-\U0010ffff])"
)
_PROSE_AFTER = re.compile(r"\s+[A-Za-z(\u00c0-\U0010ffff]|\s*[.,;:?)*\u3002\uff0c](?!\d)")
_TOUCHING_BEFORE = re.compile(r"[-+/^_.\d\u2212\u00d7\u00b1~=]$|(?<!\*)\*$")
_TOUCHING_AFTER = re.compile(
    r"[-+/^_\d!\u2212\u00d7=]|\.\d|\*(?!\*)|\s*\\(?:times|cdot|ast|div|pm|mp|sqrt|frac)(?![A-Za-z])"
)
_PROSE = re.compile(
    r"(?<![\\A-Za-z])(?:[A-Za-z]{3,}|is|so|be|of|or|to|we|it|by|as)(?![A-Za-z])|[\u2e80-\U0010ffff]"
)
_FACTOR_AFTER = re.compile(
    r"\s*(?:[A-Za-z](?![A-Za-z])|\[|\((?!\s*(?:\\(?:text|mbox|mathrm)|mod|[A-Za-z ]{4,})))"
)
_LETTER_AFTER = re.compile(r"\s+(?![aAImgshlLJNWVKCF]\b)[A-Za-z](?![A-Za-z'\u2019])")
"""In prose a letter is a factor unless it is a word or a unit."""

_MAX_BOXES = 20
_LONGEST_LINK = 60
_LINK_NAME = r"(?:\\?[A-Za-z]+(?:_(?:\w|\{\w{1,4}\}))?'*(?:\([a-z]\))?)"
_LINK_OPEN = r"(?:\$\$?|\\\(|\\\[|\*\*|&)?\s*"
_LINK_CLOSE = r"\s*(?:\$\$?|\\\)|\\\]|\*\*)?\s*"
_LINK = re.compile(
    rf"{_LINK_CLOSE}(?:[,;]?\s*(?:\\text\s*\{{\s*)?(?:and|or|\\lor|\\land|\\vee|\\wedge|或|和)(?:\s*\}})?|[,;\u3001\uff0c]|[,;]?\s*\\\\)"
    rf"(?:\s|\\[ ,;:]|\\q?quad|~)*{_LINK_OPEN}(?:{_LINK_NAME}\s*&?=\s*&?)?\s*{_LINK_OPEN}"
)
_NEW_LINE = re.compile(
    rf"{_LINK_CLOSE}[.,;]?\s*{_LINK_CLOSE}\n\s*(?:[-*]\s+)?{_LINK_OPEN}{_LINK_NAME}\s*&?=\s*&?\s*{_LINK_OPEN}"
)
_NAME_BEFORE = re.compile(rf"(?:(?<![\\A-Za-z0-9_])|(?<=\\\\))({_LINK_NAME})\s*&?=\s*&?\s*{_LINK_OPEN}$")
_LISTED = re.compile(r"^[^(\[{]*[,;]|\b(?:and|or)\b|^\s*\\\{")
"""A box that holds several values is an answer by itself."""

_WORDS = re.compile(r"\\(?:text|mbox|textbf|textrm)\s*\{[^\\{}\d]*\}")
_MAGNITUDE = re.compile(
    r"[\s~]*(?:\$\$?|\\[)\]])?[\s~]*(?:\\(?:text|mbox)\s*\{\s*)?(?:(?:hundred|thousand|million|billion|trillion|dozen)s?\b"
    r"|[万萬亿億十多余]|千(?![米克瓦卡帕赫伏焦字])|百(?!分)|兆(?![瓦赫帕字])|个?半|分之)"
)


def extract_math_answer(completion: str) -> str | None:
    """Return the answer of a completion: the last complete box or answer block outside its reasoning."""
    tail = split_reasoning(completion).answer
    if tail is None:
        return None
    head, closed, _ = tail.rpartition(ANSWER_CLOSE)
    start = head.rfind(ANSWER_OPEN) if closed else -1
    if start < 0:
        return find_box(tail)
    start += len(ANSWER_OPEN)
    end = tail.index(ANSWER_CLOSE, start)
    after = tail[end + len(ANSWER_CLOSE) :]
    if _last_box(after) is not None:
        return find_box(after)
    return read_answer_block(tail[start:end])


def read_answer_block(text: str) -> str | None:
    """Return what an answer block says: the content of its last box, or all of it."""
    return text.strip() if _last_box(text) is None else find_box(text)


def find_box(text: str) -> str | None:
    """Return the content of the last complete box, with those beside it as a list.

    None if there is none, or if one of them is a part of more.
    """
    spans, _ = box_spans(text)
    group = _side_by_side(text, spans)
    if not group or len(group) > _MAX_BOXES:
        return None
    contents = [_whole(text, *box) for box in group]
    if len(set(contents)) == 1 or any(content and _LISTED.search(content) for content in contents):
        return contents[-1]
    if None in contents:
        return None
    names = [_NAME_BEFORE.search(text[max(0, start - _LONGEST_LINK) : start]) for start, _, _ in group]
    return ", ".join(
        f"{name[1]}={content}" if name else str(content)
        for name, content in zip(names, contents, strict=True)
    )


def _side_by_side(text: str, spans: Sequence[Span]) -> list[Span]:
    """Return the last box and those before it that nothing but a separator and names part from it."""
    group = list(spans[-1:])
    for box in reversed(spans[:-1]):
        between = text[box[2] + 1 : group[0][0]]
        if len(between) > _LONGEST_LINK or len(group) > _MAX_BOXES:
            break
        if not _LINK.fullmatch(between):
            # On lines of their own only values of different names belong together: `x = 2` corrects `x = 1`.
            names = [
                _NAME_BEFORE.search(text[max(0, box[0] - _LONGEST_LINK) : box[0]]),
                _NAME_BEFORE.search(between),
            ]
            found = {name[1] for name in names if name}
            if len(found) < 2 or not _NEW_LINE.fullmatch(between):
                break
        group.insert(0, box)
    return group


def _last_box(text: str) -> Span | None:
    """Return the span of the last outermost box."""
    found, _ = box_spans(text)
    return found[-1] if found else None


def _whole(text: str, start: int, first: int, last: int) -> str | None:
    content, before, after = text[first:last].strip(), text[:start][-200:], text[last + 1 :][:200]
    # `\mathbf{\boxed{4}}` and `{\boxed{4}}`: styles around a box are no part of the answer.
    while before.rstrip().endswith("{") and after.lstrip().startswith("}"):
        before = before.rstrip()[:-1]
        if not (style := _STYLE.search(before)):
            return None
        before, after = before[: style.start()], after.lstrip()[1:]
    if not _WORDS.fullmatch(content):
        in_formula = _is_formula(text[text.rfind("\n\n", 0, start) + 1 : start])
        if not (_may_precede(before, in_formula) and _may_follow(after, in_formula)):
            return None
    # What is longer is refused anyway, and each level of boxes in boxes costs a pass.
    if len(content) <= MAX_CHARACTERS and (box := _last_box(content)) is not None and box[0] == 0:
        return _whole(content, *box)
    return content


def _is_formula(paragraph: str) -> bool:
    """Whether what follows a paragraph that breaks off stands within mathematics mode."""
    num_display = paragraph.count("$$")
    num_inline = paragraph.count("$") - paragraph.count("\\$") - 2 * num_display
    brackets = max(paragraph.rfind("\\("), paragraph.rfind("\\["))
    is_open = brackets > max(paragraph.rfind("\\)"), paragraph.rfind("\\]"))
    opening = max(paragraph.rfind("$"), brackets)
    # An amount of money leaves a dollar sign open; prose after it shows that it opens no formula.
    return (is_open or num_inline % 2 == 1 or num_display % 2 == 1) and not _PROSE.search(
        paragraph[opening + 1 :][-200:]
    )


def _may_precede(before: str, in_formula: bool) -> bool:
    if _CHANGE_BEFORE.search(before):
        return False
    if delimiter := _MATH_OPEN.search(before):
        earlier = before[: delimiter.start()]
        return not (_TOUCHING_BEFORE.search(earlier) or _CHANGE_BEFORE.search(earlier))
    if not before.strip() or _RELATION_BEFORE.search(before):
        return True
    return not in_formula and not _COMMAND_BEFORE.search(before) and bool(_PROSE_BEFORE.search(before))


def _may_follow(after: str, in_formula: bool) -> bool:
    if _MAGNITUDE.match(after):
        return False
    if delimiter := _MATH_CLOSE.match(after):
        return not _TOUCHING_AFTER.match(after, delimiter.end())
    if (_FACTOR_AFTER if in_formula else _LETTER_AFTER).match(after):
        return False
    return bool(_AFTER.match(after) or _PROSE_AFTER.match(after))
