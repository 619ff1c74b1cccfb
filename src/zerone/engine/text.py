"""From tokens to text that can be sent: characters are whole, stop strings and tags are held back.

All three parts read a stream piece by piece, keep only what cannot be decided yet, and say the same
however the stream is cut. Each is linear in the length of the text.
"""

import re
from collections.abc import Sequence
from typing import Any

from zerone.prompts.r1 import ANSWER_CLOSE, ANSWER_OPEN, ReasoningSplitter, length_of_beginning

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
    """Splits a completion into reasoning and answer as it comes, by `prompt.ReasoningSplitter`.

    `is_thinking` and `is_closed` are what the prompt did: open the reasoning, or close it too. With
    `strips_answer` the model answers in the R1-Zero template: the tags of its answer are left out, and
    a completion that does not begin with `<think>` waits until a tag or its end tells what it is. Other
    text is sent at once. Unless the model `is_reasoner`, only a `<think>` at the very beginning counts.
    White space around either part is not part of it.
    """

    def __init__(
        self, *, is_thinking: bool, strips_answer: bool, is_closed: bool = False, is_reasoner: bool = True
    ) -> None:
        self._splitter = ReasoningSplitter(
            is_open=is_thinking, is_closed=is_closed, waits=strips_answer, comes_anywhere=is_reasoner
        )
        self._strips_answer = strips_answer
        self._reasoning, self._answer = _Trimmed(), _Trimmed()

    @property
    def is_thinking(self) -> bool:
        """Whether the text so far ends in its reasoning."""
        return self._splitter.is_open

    def feed(self, text: str) -> tuple[str, str]:
        """Return what is certain to belong to the reasoning, and to the answer."""
        return self._trim(*self._splitter.feed(text))

    def close(self) -> tuple[str, str]:
        """Return the rest, for there is no more text."""
        return self._trim(*self._splitter.close())

    def _trim(self, reasoning: str, answer: str) -> tuple[str, str]:
        if not self._strips_answer:
            return self._reasoning.feed(reasoning), self._answer.feed(answer)
        said = ""
        for piece in _ANSWER_TAG.split(answer):  # the splitter never cuts a tag in two
            if piece == ANSWER_OPEN:
                self._answer.skip_space()
            elif piece == ANSWER_CLOSE:
                self._answer.drop_space()
            else:
                said += self._answer.feed(piece)
        return self._reasoning.feed(reasoning), said


_ANSWER_TAG = re.compile(f"({re.escape(ANSWER_OPEN)}|{re.escape(ANSWER_CLOSE)})")


class _Trimmed:
    """A text in pieces without the white space around it."""

    def __init__(self) -> None:
        self._space: list[str] = []
        """White space at the end so far, which more text may follow."""
        self._skips_space = True

    def feed(self, text: str) -> str:
        """Return what is certain to be in the text."""
        if self._skips_space:
            text = text.lstrip()
        body = text.rstrip()
        if not body:
            self._space.append(text)
            return ""
        said = "".join(self._space) + body
        self._space, self._skips_space = [text[len(body) :]], False
        return said

    def skip_space(self) -> None:
        """Leave out the white space that comes next."""
        self._skips_space = True

    def drop_space(self) -> None:
        """Leave out the white space that came last."""
        self._space = []
