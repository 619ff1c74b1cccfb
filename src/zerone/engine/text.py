"""From tokens to text that can be sent: characters are whole, stop strings and tags are held back.

All three parts read a stream piece by piece, keep only what cannot be decided yet, and say the same
however the stream is cut. Each is linear in the length of the text: what is held is shorter than
the longest string that is looked for.
"""

from collections.abc import Sequence
from typing import Any

from zerone.prompts.r1 import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN

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


def _held_length(text: str, wanted: Sequence[str]) -> int:
    """Return how much of the end of a text may be the beginning of a wanted string."""
    longest = min(len(text), max(map(len, wanted), default=1) - 1)
    for length in range(longest, 0, -1):
        if any(string.startswith(text[-length:]) for string in wanted):
            return length
    return 0


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
        kept = len(text) - _held_length(text, self._stops)
        self._held = text[kept:]
        return text[:kept]

    def close(self) -> str:
        """Return what was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held


class ThoughtStream:
    """Splits a completion into thought and answer, as `prompt.parse_completion` does afterwards.

    The thought is what stands between a `<think>` at the very beginning (or one that the prompt
    opened) and the first `</think>`; a thought that is never closed goes on to the end. With
    `strips_answer` the tags of an R1-Zero answer are left out of what follows. White space around
    either part is not part of it.
    """

    def __init__(self, *, is_thinking: bool, strips_answer: bool) -> None:
        self.is_thinking = is_thinking
        self._is_beginning = not is_thinking
        self._answer_tags = (ANSWER_OPEN, ANSWER_CLOSE) if strips_answer else ()
        self._held = ""
        self._skips_space = True
        """Whether white space that comes now stands at the beginning of a part."""

    def feed(self, text: str) -> tuple[str, str]:
        """Return what is certain to belong to the thought, and to the answer."""
        self._held += text
        if self._is_beginning and not self._open():
            return "", ""
        thought = self._drain_thought() if self.is_thinking else ""
        return thought, "" if self.is_thinking else self._drain_answer()

    def close(self) -> tuple[str, str]:
        """Return the rest, for there is no more text."""
        rest = self._say(self._held, is_last=True)
        return (rest, "") if self.is_thinking else ("", rest)

    def _open(self) -> bool:
        """Find out whether the text begins with a thought; return whether that is known now."""
        begun = self._held.lstrip()
        if begun.startswith(THINK_OPEN):
            self.is_thinking = True
            self._held = begun[len(THINK_OPEN) :]
        elif THINK_OPEN.startswith(begun):
            return False
        self._is_beginning = False
        return True

    def _drain_thought(self) -> str:
        head, closing, tail = self._held.partition(THINK_CLOSE)
        if closing:
            thought = self._say(head, is_last=True)
            self.is_thinking, self._skips_space, self._held = False, True, tail
            return thought
        return self._release((THINK_CLOSE,))

    def _drain_answer(self) -> str:
        said = ""
        while found := [tag for tag in self._answer_tags if tag in self._held]:
            tag = min(found, key=self._held.index)
            head, _, self._held = self._held.partition(tag)
            said += self._say(head, is_last=tag == ANSWER_CLOSE)
            self._skips_space = self._skips_space or tag == ANSWER_OPEN
        return said + self._release(self._answer_tags)

    def _release(self, tags: Sequence[str]) -> str:
        """Return what is held but for a possible tag and white space at its end."""
        kept = len(self._held) - _held_length(self._held, tags)
        kept = len(self._held[:kept].rstrip())
        said, self._held = self._held[:kept], self._held[kept:]
        return self._say(said, is_last=False)

    def _say(self, text: str, *, is_last: bool) -> str:
        if self._skips_space:
            text = text.lstrip()
        if is_last:
            text = text.rstrip()
        self._skips_space = self._skips_space and not text
        return text
