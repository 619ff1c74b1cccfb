"""Tokens as the pieces of text that they stand for, so that each can be coloured.

In: token ids and a run's tokenizer. Out: pieces in reading order, and how many tokens each holds: one,
but for characters that several tokens make up. The tokenizer is the tokenizers library's own file,
read without transformers, whose import takes longer than the whole first view.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path

from tokenizers import Tokenizer

from zerone.config.reading import resolve_reference
from zerone.escaping import visible
from zerone.files import read_json
from zerone.runs.directory import RunDir

Piece = tuple[str, int]
"""(text, how many tokens it holds)"""


class Pieces:
    """Cuts completions into pieces; without a tokenizer, a completion is one piece."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        # What a model writes repeats itself: most neighbours were seen before, and decoding is the slow part.
        self._decoded = lru_cache(maxsize=65536)(self._decode)

    @property
    def has_tokenizer(self) -> bool:
        """Whether pieces are text."""
        return self._tokenizer is not None

    def cut(self, ids: Sequence[int], text: str) -> list[Piece]:
        """Return the pieces of a completion, the end token included; control characters are shown."""
        if self._tokenizer is None:
            return [(visible(text), len(ids))]
        return [(visible(piece), size) for piece, size in self._cut(tuple(ids))]

    def _cut(self, ids: tuple[int, ...]) -> Iterator[Piece]:
        """Yield what decoding one token more adds to the text.

        Decoded with the tokens before, since some tokenizers write a word's first space only in the
        middle of a text. A text that ends in a replacement character waits for the rest of it.
        """
        start = read = 0
        while read < len(ids):
            end = read + 1
            # No character has more than four bytes, and a token has at least one.
            while self._is_cut_off(ids[start:end]) and end < len(ids) and end - read < 4:
                end += 1
            before = self._decoded(ids[start:read])
            yield self._decoded(ids[start:end])[len(before) :], end - read
            start, read = read, end

    def _is_cut_off(self, ids: tuple[int, ...]) -> bool:
        return self._decoded(ids).endswith("\ufffd")

    def _decode(self, ids: tuple[int, ...]) -> str:
        assert self._tokenizer is not None
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)


def find_tokenizer(run: RunDir) -> Tokenizer | None:
    """Return the tokenizer of a run's model: saved in the run, or beside the model it started from.

    A file that is damaged is passed over, as one that is missing.
    """
    for directory in _model_directories(run):
        try:
            # Looked at first: of a file that was cut off the library complains by a bare Exception.
            read_json(directory / "tokenizer.json")
            return Tokenizer.from_file(str(directory / "tokenizer.json"))
        except (OSError, ValueError):
            continue
    return None


def _model_directories(run: RunDir) -> Iterator[Path]:
    yield run.model_path
    yield from (path / "model" for path in sorted(run.checkpoints_path.glob("step_*"), reverse=True))
    path = run.read_config().get("model", {}).get("path")
    if path == "embedded":
        yield Path(str(resources.files("zerone") / "world" / "embedded"))
    elif isinstance(path, str):
        yield Path(resolve_reference(path, run.path))
