"""From tokens to text that can be sent: characters are whole, stop strings and tags are held back.

All three parts read a stream piece by piece, keep only what cannot be decided yet, and say the same
however the stream is cut. Each is linear in the length of the text.
"""

import re
from collections.abc import Sequence
from typing import Any

from zerone.prompts.r1 import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    ReasoningSplitter,
    length_of_beginning,
)

_MAX_BYTES = 4
"""Of a character in UTF-8."""
_MAX_UNREAD = 64
"""As many tokens are decoded again at every step where none of them ends a character."""


class CharacterStream:
    """Turns tokens into text without ever breaking a character in two.

    Not by the library's DecodeStream: it raises a bare Exception where a token changes the text before
    it. Tokenizers that write bytes as tokens (Llama 2) do so for any bytes that are no UTF-8, and a model
    may draw those.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._ids: list[int] = []
        self._num_read = 0
        """How many of the tokens are told whole; they are kept for the spacing of the next."""
        self._num_told = 0
        """How many characters of the tokens' text are told."""

    def feed(self, token: int) -> str | None:
        """Return the text that this token completes, or None inside a character.

        A character that is still open when the tokens end is left out.
        """
        self._ids.append(token)
        text = self._decode(self._ids)
        num_unread = len(self._ids) - self._num_read
        if text.endswith("\ufffd"):
            if num_unread < _MAX_BYTES:
                return None
            # These are no bytes of UTF-8. Only the last three may yet begin a character.
            new = text[self._num_told : -_MAX_BYTES + 1]
            self._num_told += len(new)
            if num_unread > _MAX_UNREAD:
                self._forget(len(self._ids) - _MAX_BYTES)
                self._num_read, self._num_told = 0, max(0, self._num_told - _MAX_BYTES + 1)
            return new
        new = text[self._num_told :]
        if new:
            self._forget(self._num_read)
        elif len(self._ids) > 1:  # a token without text, as one beyond the tokenizer's last
            self._ids.pop()
        return new

    def close(self) -> str:
        """Return the whole characters that came in one token with the beginning of one left open."""
        return self._decode(self._ids).rstrip("\ufffd")[self._num_told :]

    def _forget(self, num: int) -> None:
        """Drop the first tokens; the others have been read."""
        del self._ids[:num]
        self._num_read, self._num_told = len(self._ids), len(self._decode(self._ids))

    def _decode(self, ids: list[int]) -> str:
        text: str = self._backend.decode(ids, skip_special_tokens=False)
        return text


class StopStream:
    """Ends a text with the stop string that is complete first: before it, or behind it where it is `kept`."""

    def __init__(self, stops: Sequence[str], kept: Sequence[str] = ()) -> None:
        self._kept = frozenset(kept) - frozenset(stops)
        self._stops = (*stops, *self._kept)
        self._held = ""
        self.is_stopped = False
        self.cut_off: str | None = None
        """The string that ended the text and is not part of it, where one did."""

    def feed(self, text: str) -> str:
        """Return what is certain to belong to the text."""
        text = self._held + text
        starts = {stop: start for stop in self._stops if (start := text.find(stop)) >= 0}
        if starts:
            self.is_stopped, self._held = True, ""
            end, start, stop = min((start + len(stop), start, stop) for stop, start in starts.items())
            if stop in self._kept:
                return text[:end]
            self.cut_off = stop
            return text[:start]
        kept = len(text) - length_of_beginning(text, self._stops)
        self._held = text[kept:]
        return text[:kept]

    def close(self) -> str:
        """Return what was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held


class ThoughtStream:
    """Splits a completion into reasoning and final answer as it comes, by `prompt.ReasoningSplitter`.

    `is_thinking` and `is_closed` are what the prompt did: open the reasoning, or close it too; then all that
    comes is the final answer whatever it begins with. With `strips_answer` the model answers in the R1-Zero
    template: the tags of its answer are left out, and a completion that does not begin with `<think>` waits
    until a tag or its end tells what it is. Other text is sent at once. Unless the model `is_reasoner`, only
    a `<think>` at the very beginning counts. White space around either part is not part of it, unless the
    prompt ends inside one that `goes_on`. `stops` end the final answer, and are not looked for in the
    reasoning.
    """

    def __init__(
        self,
        *,
        is_thinking: bool,
        strips_answer: bool,
        is_closed: bool = False,
        is_reasoner: bool = True,
        goes_on: bool = False,
        stops: Sequence[str] = (),
    ) -> None:
        self._splitter = ReasoningSplitter(
            is_open=is_thinking, is_closed=is_closed, waits=strips_answer, comes_anywhere=is_reasoner
        )
        self._reasoning = _Trimmed(skips_space=not (goes_on and is_thinking))
        self.answer = AnswerStream(strips_tags=strips_answer, goes_on=goes_on and is_closed, stops=stops)
        self._is_forced = is_closed
        if is_closed:
            self.answer.drop_think_tags()

    @property
    def is_thinking(self) -> bool:
        """Whether the text so far ends in its reasoning."""
        return self._splitter.is_open

    def end_by_force(self) -> None:
        """Know that the closing tag which comes next is not the model's: all behind it is the final answer.

        It may begin to reason again, which is better told than an empty answer.
        """
        self._is_forced = True
        self.answer.drop_think_tags()

    def feed(self, text: str) -> tuple[str, str]:
        """Return what is certain to belong to the reasoning, and to the final answer."""
        if self._is_forced and not self.is_thinking:
            return self._tell("", self._splitter.close()[1] + text)
        return self._tell(*self._splitter.feed(text))

    def close(self) -> tuple[str, str]:
        """Return the rest, for there is no more text."""
        reasoning, answer = self._tell(*self._splitter.close())
        return reasoning, answer + ("" if self.is_thinking else self.answer.close())

    def _tell(self, reasoning: str, answer: str) -> tuple[str, str]:
        return self._reasoning.feed(reasoning), self.answer.feed(answer)


class _Trimmed:
    """A text in pieces without the white space around it."""

    def __init__(self, *, skips_space: bool = True) -> None:
        self._space = ""
        """White space at the end so far, which more text may follow."""
        self._skips_space = skips_space

    def feed(self, text: str) -> str:
        """Return what is certain to be in the text."""
        if self._skips_space:
            text = text.lstrip()
        self._skips_space = self._skips_space and not text
        text = self._space + text
        said = text.rstrip()
        self._space = text[len(said) :]
        return said


class AnswerStream:
    """The final answer as it is told: without tags, without white space around it, up to a stop string.

    Stop strings are looked for in what is told, so that neither a tag nor the white space behind one
    hides or ends an answer; those that hold a tag themselves, in what the model wrote.
    """

    def __init__(self, *, strips_tags: bool, goes_on: bool = False, stops: Sequence[str] = ()) -> None:
        self._tags: tuple[str, ...] = (ANSWER_OPEN, ANSWER_CLOSE) if strips_tags else ()
        self._stops = tuple(stops)
        self._make_stop_streams()
        self._held = ""
        self._skips_space = not goes_on
        """Whether white space that comes now stands at the beginning."""
        self._space = ""
        """White space that is told once something follows it."""

    def drop_think_tags(self) -> None:
        """Leave out think tags as well: the model was made to answer, and goes on as if it were not."""
        self._tags = (*self._tags, THINK_OPEN, THINK_CLOSE)
        self._make_stop_streams()

    def _make_stop_streams(self) -> None:
        self._tag = "|".join(map(re.escape, self._tags)) or "(?!)"  # without tags nothing matches
        tagged = [stop for stop in self._stops if any(tag in stop for tag in self._tags)]
        self._tagged = StopStream(tagged)
        self._plain = StopStream([stop for stop in self._stops if stop not in tagged])

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was complete; what comes after it is nothing."""
        return self._plain.is_stopped or self._tagged.is_stopped

    @property
    def cut_off(self) -> str | None:
        """The stop string that ended the answer, where one did."""
        return self._plain.cut_off or self._tagged.cut_off

    def feed(self, text: str) -> str:
        """Return what is certain to belong to the answer."""
        if self.is_stopped:
            return ""
        said = self._untag(self._tagged.feed(text))
        if self._tagged.is_stopped and not self._plain.is_stopped:
            said += self._rest()
        return said

    def close(self) -> str:
        """Return the rest, for there is no more text."""
        return "" if self.is_stopped else self._untag(self._tagged.close()) + self._rest()

    def _rest(self) -> str:
        """Return what was held back and turned out to be neither tag nor stop string."""
        held, self._held = self._held, ""
        said = self._tell(held)
        return said if self._plain.is_stopped else said + self._spaced(self._plain.close())

    def _untag(self, text: str) -> str:
        text, position = self._held + text, 0
        said = []
        for match in re.finditer(self._tag, text):
            said.append(self._tell(text[position : match.start()]))
            self._skips_space = self._skips_space or match.group() == ANSWER_OPEN
            position = match.end()
        kept = len(text) - length_of_beginning(text[position:], self._tags)
        said.append(self._tell(text[position:kept]))
        self._held = text[kept:]
        return "".join(said)

    def _tell(self, text: str) -> str:
        if self._skips_space:
            text = text.lstrip()
        if not text or self._plain.is_stopped:
            return ""
        self._skips_space = False
        return self._spaced(self._plain.feed(text))

    def _spaced(self, text: str) -> str:
        """Return a text with the white space before it, and keep what is at its end."""
        text = self._space + text
        said = text.rstrip()
        self._space = text[len(said) :]
        return said
