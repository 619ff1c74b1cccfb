"""The R1-Zero template and the parser of what comes back: the only place that knows the tags.

In: a problem's question, or a conversation to learn from. Out: the text a model continues; and, from
its completion, reasoning, answer and whether it is in good form, in the R1-Zero style or in that of a
chat model that ends with a summary. Where reasoning ends is decided once, in `ReasoningSplitter`,
for whole texts and for streams. Every search here is one pass over the text. The template asks for
tags only and says nothing about how to reason (R1 paper, Table 1; the wording is our own and short,
since a small model reads every token of it).
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from zerone.prompts.examples import EXAMPLES
from zerone.types import Message, Problem

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)
USER, ASSISTANT = "User: ", "Assistant:"


class Style(StrEnum):
    """What follows the thought, and so where the answer is.

    TAGS: an answer block (R1-Zero). BOXED: a summary with one `\\boxed{answer}` in it (R1 and its
    distilled models). SUMMARY: free text, which as a whole is the answer.
    """

    TAGS = "tags"
    BOXED = "boxed"
    SUMMARY = "summary"


R1_ZERO_PREFIX = (
    "A conversation between User and Assistant. The User asks a question and the Assistant "
    "answers it. The Assistant first thinks about it and then gives the answer. The thinking is "
    f"written inside {THINK_OPEN} {THINK_CLOSE} and the answer inside {ANSWER_OPEN} {ANSWER_CLOSE}.\n"
)

_THINK_FIRST = (
    "A conversation between User and Assistant. The User asks a question and the Assistant "
    "answers it. The Assistant first thinks about it and then writes a short summary. The thinking "
    f"is written inside {THINK_OPEN} {THINK_CLOSE}"
)
_PREFIXES = {
    Style.TAGS: R1_ZERO_PREFIX,
    Style.BOXED: f"{_THINK_FIRST} and the summary holds the answer inside \\boxed{{}}.\n",
    Style.SUMMARY: f"{_THINK_FIRST} and the summary is the answer.\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A worked example for few-shot prompts: a question, a thought and an answer."""

    question: str
    thought: str
    answer: str


def shown_examples(number: int) -> tuple[Example, ...]:
    """Return the examples that `prompt.examples` shows, the most telling ones first; there are three."""
    return tuple(
        Example(question=question, thought=thought, answer=answer)
        for question, thought, answer in EXAMPLES[:number]
    )


def style_for(problem: Problem, style: Style) -> Style:
    """Return the style of a problem's answers in a run of the given style.

    A box holds a short result. What is judged as a text, a request's answer or a program, is the
    summary itself.
    """
    is_text = problem.verifier in ("judge", "code")
    return Style.SUMMARY if style is Style.BOXED and is_text else style


def write_completion(thought: str, answer: str, style: Style = Style.TAGS) -> str:
    """Return the completion that the template asks for."""
    written = {
        Style.TAGS: f"{ANSWER_OPEN}{answer}{ANSWER_CLOSE}",
        Style.BOXED: f"The answer is \\boxed{{{answer}}}.",
        Style.SUMMARY: answer,
    }
    return f"{THINK_OPEN}{thought}{THINK_CLOSE}\n{written[style]}"


def write_prompt(question: str, examples: tuple[Example, ...] = (), style: Style = Style.TAGS) -> str:
    """Return the prompt for a question, worked examples first where there are any."""
    shown = "".join(
        f"{USER}{example.question}\n{ASSISTANT}{write_completion(example.thought, example.answer, style)}\n"
        for example in examples
    )
    return f"{_PREFIXES[style]}{shown}{USER}{question}\n{ASSISTANT}"


def write_chat(messages: Sequence[Message], style: Style = Style.TAGS) -> list[tuple[str, str]]:
    """Return (prompt, completion) for every answer of a conversation that is learnt, as the model would
    meet it.

    Earlier answers stand in a prompt without their thoughts and tags, which a chat does not send back.
    One question without a system message gives the very text of `write_prompt`.
    """
    pairs: list[tuple[str, str]] = []
    prompt = _PREFIXES[style]
    for message in messages:
        match message.role:
            case "system":
                prompt += f"{message.content}\n"
            case "user":
                prompt += f"User: {message.content}\nAssistant:"
            case _:
                thought = message.thought
                opening = "" if thought is None else f"{THINK_OPEN}{thought}{THINK_CLOSE}\n"
                if message.is_trained:
                    pairs.append((prompt, opening + message.content))
                said = without_reasoning(message.content)
                prompt += said.removeprefix(ANSWER_OPEN).removesuffix(ANSWER_CLOSE).strip() + "\n"
    return pairs


_TAG = re.compile("|".join(re.escape(tag) for tag in TAGS))


def length_of_beginning(text: str, wanted: Sequence[str]) -> int:
    """Return how much of the end of a text may be the beginning of a wanted string."""
    longest = min(len(text), max(map(len, wanted), default=1) - 1)
    for length in range(longest, 0, -1):
        if any(string.startswith(text[-length:]) for string in wanted):
            return length
    return 0


class ReasoningSplitter:
    """Tells reasoning from answer in a text that comes in pieces; the same however it is cut.

    Reasoning goes from `<think>` to the first `</think>`: a tag that it quotes ends it too. Text before
    `<think>` belongs to the answer. After the first reasoning a `<think>` opens another one at the start
    of a line only; elsewhere, and for a further `</think>`, the answer speaks of the tag. Reasoning that
    is still open when the text ends has no answer, whatever stands in it (`is_open`).

    With `waits`, text is held back as long as it can still turn out to be the other part. A `</think>`
    without `<think>` then ends reasoning that the prompt opened, and an answer block with which the text
    ends is the answer, also of reasoning that was never closed. Unless it `comes_anywhere`, only a
    `<think>` at the very beginning opens reasoning.
    """

    def __init__(
        self,
        *,
        is_open: bool = False,
        is_closed: bool = False,
        waits: bool = True,
        comes_anywhere: bool = True,
    ) -> None:
        self.is_open = is_open
        self.is_closed = is_closed
        """Whether any reasoning was closed by its tag."""
        self.reasoning_end = 0
        """Where in the text the last reasoning ends, its tag included; known once the text is closed."""
        self._waits = waits
        self._comes_anywhere = comes_anywhere
        self._is_line_blank = True
        self._is_blank = True
        self._num_read = 0
        self._tail = ""
        self._held: list[str] = []
        """What may be reasoning or answer: text before any tag; inside reasoning, an answer block."""
        self._block_is_complete = False
        self._reasoning, self._answer = _Part(), _Part()

    def feed(self, text: str) -> tuple[str, str]:
        """Return what is certain to belong to the reasoning, and to the answer."""
        text, position = self._tail + text, 0
        for match in _TAG.finditer(text):
            self._read_text(text[position : match.start()])
            self._read_tag(match.group())
            position = match.end()
        rest = len(text) - length_of_beginning(text[position:], TAGS)
        self._read_text(text[position:rest])
        self._tail = text[rest:]
        return self._reasoning.take(), self._answer.take()

    def close(self) -> tuple[str, str]:
        """Return the rest, for there is no more text."""
        self._read_text(self._tail)
        self._tail = ""
        if self.is_open:
            self.reasoning_end = self._num_read
            if self._block_is_complete:
                self.is_open = False
                self.reasoning_end -= sum(map(len, self._held))
        self._release()
        return self._reasoning.take(), self._answer.take()

    def _read_text(self, text: str) -> None:
        if not text:
            return
        self._num_read += len(text)
        is_blank = not text.strip()
        if self.is_open:
            if self._block_is_complete and not is_blank:  # the block does not end the text
                self._release()
            self._put(text, is_held=bool(self._held))
            return
        self._is_blank = self._is_blank and is_blank
        line = text.rpartition("\n")
        self._is_line_blank = (bool(line[1]) or self._is_line_blank) and not line[2].strip()
        self._put(text, is_held=self._waits and not self.is_closed)

    def _put(self, text: str, *, is_held: bool) -> None:
        if is_held:
            self._held.append(text)
        else:
            (self._reasoning if self.is_open else self._answer).add(text)

    def _read_tag(self, tag: str) -> None:
        if tag == THINK_CLOSE and (self.is_open or (self._waits and not self.is_closed)):
            self.is_open = True  # also where the prompt opened it
            self._end_reasoning(len(tag))
        elif tag == THINK_OPEN and not self.is_open and self._may_open():
            self._release()
            self.is_open = True
            self._num_read += len(tag)
        elif tag == ANSWER_OPEN and self.is_open and self._waits:
            self._release()
            self._held.append(tag)
            self._num_read += len(tag)
        else:
            self._read_text(tag)
            if tag == ANSWER_CLOSE and self.is_open:
                self._block_is_complete = bool(self._held)

    def _may_open(self) -> bool:
        if self.is_closed:
            return self._is_line_blank
        return self._comes_anywhere or self._is_blank

    def _end_reasoning(self, length: int) -> None:
        self._release()
        self._num_read += length
        self.reasoning_end = self._num_read
        self.is_open, self.is_closed, self._is_line_blank = False, True, True
        self._reasoning.end()
        self._answer.end()

    def _release(self) -> None:
        """Tell what was held back as what the text is part of now."""
        (self._reasoning if self.is_open else self._answer).add("".join(self._held))
        self._held, self._block_is_complete = [], False


class _Part:
    """Reasoning or answer of a text; where it has several stretches, something blank stands between."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._last = " "
        self._has_ended = False

    def add(self, text: str) -> None:
        if text:
            if self._has_ended and not (self._last.isspace() or text[0].isspace()):
                self._pieces.append("\n")
            self._pieces.append(text)
            self._last, self._has_ended = text[-1], False

    def end(self) -> None:
        """Say that what is added from now on does not follow directly."""
        self._has_ended = True

    def take(self) -> str:
        """Return what was added since the last call."""
        taken, self._pieces = "".join(self._pieces), []
        return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A completion as reasoning and answer; `answer` is None where the reasoning never ends.

    `reasoning` is None where none was closed by its tag. `reasoning_end` is where in the text the last
    reasoning ends, its tag included: 0 without any.
    """

    reasoning: str | None
    answer: str | None
    reasoning_end: int


def split_reasoning(text: str) -> Split:
    """Return the reasoning and the answer of a whole completion, with what its prompt opened of it."""
    splitter = ReasoningSplitter()
    parts = splitter.feed(text), splitter.close()
    reasoning, answer = ("".join(pieces) for pieces in zip(*parts, strict=True))
    return Split(
        reasoning=reasoning if splitter.is_closed else None,
        answer=None if splitter.is_open else answer,
        reasoning_end=splitter.reasoning_end,
    )


def visible_answer(text: str) -> str | None:
    """Return what a completion says to its reader; None where nothing is said or reasoning never ends."""
    answer = split_reasoning(text).answer
    return answer.strip() if answer is not None and is_visible(answer) else None


def without_reasoning(text: str) -> str:
    """Return the answer of an earlier turn without its reasoning.

    What was sent to a reader as an answer may speak of `<think>`: only reasoning at the very beginning
    that was cut off leaves nothing.
    """
    answer = split_reasoning(text).answer
    if answer is None:
        answer = "" if text.lstrip().startswith(THINK_OPEN) else text
    return answer.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A completion taken apart.

    `thought` and `answer` are None where what marks them is missing; `is_well_formed` is true for
    exactly one non-empty think block followed by exactly one non-empty answer and nothing else but
    white space.
    """

    thought: str | None
    answer: str | None
    is_well_formed: bool


def parse_completion(text: str, style: Style = Style.TAGS) -> Parsed:
    """Take a completion apart; linear in its length, and any text is accepted.

    Where the reasoning ends is what `split_reasoning` says. The answer is the last complete one in what
    that leaves; where the reasoning never ends there is none. A missing `<think>` (some prompts open it
    themselves) still gives a thought. None of this makes a completion well formed.
    """
    split = split_reasoning(text)
    answer = None if split.answer is None else _find_answer(split.answer, style)
    return Parsed(
        thought=None if split.reasoning is None else split.reasoning.strip(),
        answer=None if answer is None else answer.strip(),
        is_well_formed=_is_well_formed(text, style),
    )


def reasoning_of(text: str) -> str:
    """Return what a completion thinks, however badly it is tagged: all that is not its final answer.

    Text before `<think>`, between the blocks and after the answer belongs to it as the thought does,
    else a thought could be moved there out of sight of what judges its language. The final answer is the
    last block after the last closed reasoning; without any answer tag there, the whole summary. Where the
    thought (or, if none was closed, what precedes the answer) is empty, so is the reasoning: words
    elsewhere do not make up for it.
    """
    split = split_reasoning(text)
    closed = split.reasoning is not None
    start = split.reasoning_end if closed else 0
    head, tail = text[:start], text[start:]
    before, opened, _ = tail.partition(ANSWER_OPEN)
    opening = head if closed else before
    thought = opening.partition(THINK_OPEN)[2] if THINK_OPEN in opening else opening
    if not is_visible(_TAG.sub("", thought)):
        return ""
    if (span := _span(tail, ANSWER_OPEN, ANSWER_CLOSE)) is not None:
        around = f"{tail[: span[0]]}\n{tail[span[1] :]}"
    elif opened:
        around = before  # an answer that was cut off
    else:
        around = "" if closed and ANSWER_CLOSE not in tail else tail
    return _TAG.sub("\n", f"{head}\n{around}").strip()


def last_answer(text: str) -> str | None:
    """Return the answer of a completion in any style: the last complete block or box outside its reasoning.

    A box inside an answer block belongs to the block's text.
    """
    said = split_reasoning(text).answer
    if said is None:
        return None
    block = _between(said, ANSWER_OPEN, ANSWER_CLOSE)
    answer = last_boxed(said) if block is None else block
    return None if answer is None else answer.strip()


def _find_answer(text: str, style: Style) -> str | None:
    match style:
        case Style.TAGS:
            return _between(text, ANSWER_OPEN, ANSWER_CLOSE)
        case Style.BOXED:
            return last_boxed(text)
        case Style.SUMMARY:
            return text if is_visible(text) else None


def _between(text: str, opening: str, closing: str) -> str | None:
    """Return what stands between the last complete pair of tags, or None."""
    span = _span(text, opening, closing)
    return None if span is None else text[slice(*span)]


def _span(text: str, opening: str, closing: str) -> tuple[int, int] | None:
    """Return where the content of the last complete pair of tags starts and ends, or None."""
    head, closed, _ = text.rpartition(closing)
    start = head.rfind(opening) if closed else -1
    if start < 0:
        return None
    start += len(opening)
    return start, text.index(closing, start)


_BRACE = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,8}\{|\\[\\{}]|[{}]")


def boxes(text: str) -> tuple[list[str], bool]:
    """Return the contents of the outermost complete boxes, and whether any box stays open.

    Braces are matched as LaTeX does, so `\\{` and `\\}` are text. A box that is never closed is no
    answer and hides none that is complete.
    """
    found, is_open = box_spans(text)
    return [text[start:end] for _, start, end in found], is_open


def box_spans(text: str) -> tuple[list[tuple[int, int, int]], bool]:
    """Return where the outermost complete boxes are, and whether any box stays open.

    Each as (start of the command, start of the content, end of the content).
    """
    found: list[tuple[int, int, int]] = []
    if "box" not in text:  # most answers have none, and a search for a word is faster than the scan
        return found, False
    opened: list[tuple[int, int] | None] = []  # command and content of a box; None for a plain brace
    for match in _BRACE.finditer(text):
        brace = match.group()
        if brace == "{" or len(brace) > 2:
            opened.append(None if brace == "{" else match.span())
        elif brace == "}" and opened and (box := opened.pop()) is not None:
            while found and found[-1][0] > box[0]:
                found.pop()
            found.append((*box, match.start()))
    return found, any(box is not None for box in opened)


_TOUCHED_BEFORE = re.compile(r"(?:[-+/^_*.\d]|\$\s*[-+]\s+)$")
_TOUCHED_AFTER = re.compile(r"[\^_!/%\d]|\.\d")


def last_boxed(text: str) -> str | None:
    """Return the content of the last complete `\\boxed{...}`, or None.

    Also None where the box is but a part of what is said: a sign, a digit or an exponent that
    touches it, as in `-\\boxed{4}` or `\\boxed{4}.5`.
    """
    found, _ = box_spans(text)
    if not found:
        return None
    command, start, end = found[-1]
    if _TOUCHED_BEFORE.search(text[max(0, command - 9) : command]) or _TOUCHED_AFTER.match(text, end + 1):
        return None
    return text[start:end]


# Letters and symbols, to Unicode, that show as nothing.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_INVISIBLE = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Mc", "Me"))


def is_visible(text: str) -> bool:
    """Whether a text holds anything that a reader could see.

    White space, control and format characters (zero-width space, byte order mark, NUL) and lone
    combining marks do not count: a thought made of them is empty.
    """
    return any(
        unicodedata.category(character) not in _INVISIBLE and character not in _BLANK for character in text
    )


_TAGS_OF = {Style.TAGS: TAGS, Style.BOXED: TAGS[:2], Style.SUMMARY: TAGS[:2]}


def _is_well_formed(text: str, style: Style) -> bool:
    wanted = _TAGS_OF[style]
    tags = []
    for tag in _TAG.finditer(text):
        tags.append(tag)
        if len(tags) > len(wanted) or tag.group() != wanted[len(tags) - 1]:
            return False
    if len(tags) != len(wanted):
        return False
    before, thought, *rest = (
        text[start:end].strip()
        for start, end in zip(
            [0, *(tag.end() for tag in tags)], [*(tag.start() for tag in tags), len(text)], strict=True
        )
    )
    if before or not is_visible(thought):
        return False
    if style is Style.TAGS:
        between, answer, after = rest
        return is_visible(answer) and not (between or after)
    if style is Style.SUMMARY:
        return is_visible(rest[0])
    found, is_open = boxes(rest[0])
    return len(found) == 1 and is_visible(found[0]) and not is_open
