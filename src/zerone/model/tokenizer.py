"""The tokenizer of a model directory: text to tokens as its own tokenizer.json has it, and nothing else.

In: a directory; then texts, or conversations for its chat template. Out: a transformers tokenizer around
the file's own rules, and token ids. transformers rebuilds some tokenizers from their class's name instead
of the file, so that one file gives other ids, or text without spaces, from version to version: here the
file decides, and a tokenizer that does not follow it is refused.

Control tokens begin and end turns and texts. Only zerone and a chat template write them: a control token
that stands in data is encoded as the letters it is made of.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from zerone.errors import ModelError
from zerone.prompts.r1 import TAGS

FILE_NAME = "tokenizer.json"
_PARTS_NAME = "vocab.json"
"""A vocabulary from which transformers makes the tokenizer of the class that a model names."""

_PROBES = (
    "The quick brown fox, 12345 jumps!  Two  spaces\n\tand a tab . It's done ?",
    "def f(x):\n    return x**2  # \u221a2 \u2248 1.41421\r\n",
    "\u4e2d\u6587\u6d4b\u8bd5\uff0c\u7b2c 3 \u9898\u3002 caf\u00e9 na\u0131ve e\u0301 \U0001f600",
    " leading and trailing ",
)
"""Texts in which tokenizers differ: digits, runs of spaces, line ends, combining characters, Chinese."""


def read_tokenizer(directory: Path) -> Any:
    """Return the transformers tokenizer of a model directory, which does what its tokenizer.json says.

    Raises ModelError where there is none, where it is damaged, and where it cannot be followed.
    """
    path = directory / FILE_NAME
    if not path.is_file() and not (directory / _PARTS_NAME).is_file():
        raise ModelError(f"{directory} has no tokenizer; copy the model's {FILE_NAME} there")
    reader = PreTrainedTokenizerFast if path.is_file() else AutoTokenizer
    backend = _read_file(path) if path.is_file() else None
    try:
        tokenizer: Any = reader.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RecursionError) as error:
        raise _unreadable(directory, error) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"the tokenizer in {directory} has no {FILE_NAME}, which is needed; save the tokenizer by "
            "transformers' save_pretrained and copy the file there"
        )
    if not isinstance(tokenizer.model_max_length, int | float):
        raise _unreadable(directory, ValueError(f"model_max_length is {tokenizer.model_max_length!r}"))
    # What its configuration may say of these changes ids or text, and the file knows nothing of it.
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.split_special_tokens = False
    if backend is not None:
        _follow(tokenizer, backend, directory)
    return tokenizer


def _unreadable(directory: Path, error: BaseException) -> ModelError:
    said = " ".join(str(error).split())[:300].rstrip(". ") or type(error).__name__
    return ModelError(f"cannot load the tokenizer in {directory}: {said}; copy the model's own again")


def _read_file(path: Path) -> Tokenizer:
    """Return the tokenizer that a tokenizer.json describes; raises ModelError where it describes none.

    The library complains by a bare Exception, and of some files by a panic. Neither can be caught by
    name, so a thread is asked how it ended.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(path.parent, error) from error
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(_parse, text)
    if (fault := future.exception()) is not None:
        raise _unreadable(path.parent, fault) from fault
    return future.result()


def _parse(text: str) -> Tokenizer:
    backend = Tokenizer.from_str(text)
    backend.no_truncation()  # settings of whoever saved it; a prompt is never cut or filled up
    backend.no_padding()
    for probe in _PROBES:  # some tokenizers have no token for what they do not know, and fail there
        backend.encode(probe)
    return backend


def _follow(tokenizer: Any, backend: Tokenizer, directory: Path) -> None:
    """Put the file's own rules into the tokenizer, and check that it does what they say."""
    tokens = backend.get_vocab(with_added_tokens=True)
    if tokenizer.pad_token not in tokens:
        tokenizer.pad_token = None  # nothing is filled up here, and some name one that was never made
    named = {str(token) for token in tokenizer.all_special_tokens if token is not None}
    if unknown := sorted(named - tokens.keys()):
        raise ModelError(
            f"tokenizer_config.json in {directory} names tokens that its {FILE_NAME} has not "
            f"({len(unknown)}, the first {unknown[0]!r}); copy both files of the model again"
        )
    tokenizer._tokenizer = backend
    for probe in (*_PROBES, *(f"a{token} b" for token in sorted(named))):
        ids = backend.encode(probe).ids
        plain = backend.encode(probe, add_special_tokens=False).ids
        is_same = (
            tokenizer(probe)["input_ids"] == ids
            and tokenizer(probe, add_special_tokens=False)["input_ids"] == plain
            and tokenizer.decode(plain) == backend.decode(plain, skip_special_tokens=False)
        )
        if not is_same:
            raise ModelError(
                f"this version of transformers does not cut text as {directory / FILE_NAME} says "
                f"({probe!r} gives other tokens); install another version of it"
            )


# Texts --------------------------------------------------------------------------------------------


def encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the tokens of a text that goes on from others; control tokens in it are text."""
    control = _control_of(tokenizer)
    if not control.is_in(text):
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    return control.literal_ids(text)


def encode_prompt(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the tokens of a text that the model continues: behind its start token, where it has one.

    What a tokenizer puts behind a text, as an end token, is left out: a model that has read it is done.
    """
    return (*start_ids(tokenizer), *encode(tokenizer, text))


def encode_written(tokenizer: Any, text: str, *, starts: bool = False) -> tuple[int, ...]:
    """Return the tokens of a text in the model's own format, in which control tokens are meant.

    Such is what a client has written as a whole prompt, and what `render_template` returns; data in the
    latter stays text. `starts` puts the start token before it.
    """
    control = _control_of(tokenizer)
    ids = control.written_ids(text) if control.is_shielded(text) else None
    if ids is None:
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    return (*start_ids(tokenizer), *ids) if starts else ids


def end_id(tokenizer: Any) -> int:
    """Return the token to write behind a completion; raises ModelError where the tokenizer names none."""
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer names no end token; set eos_token in tokenizer_config.json")
    return int(tokenizer.eos_token_id)


def start_ids(tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens that the tokenizer puts before a text."""
    return _control_of(tokenizer).start_ids


def render_template(tokenizer: Any, messages: Sequence[Mapping[str, Any]], **settings: Any) -> str:
    """Return the prompt that the chat template makes of a conversation, to be read by `encode_written`.

    Control tokens in the messages (and in `tools` or `documents`) are written under other names, so
    that they are told from those of the template; `readable` shows the text. Raises what the template does.
    """
    control = _control_of(tokenizer)
    shielded = {key: control.shield(value) for key, value in settings.items()}
    rendered: str = tokenizer.apply_chat_template(
        control.shield(list(messages)), tokenize=False, **({"add_generation_prompt": True} | shielded)
    )
    return rendered


def readable(tokenizer: Any, text: str) -> str:
    """Return what `render_template` wrote as the text that it stands for."""
    return _control_of(tokenizer).readable(text)


_DATA, _OWN = (f"q{secrets.token_hex(16)}" for _ in range(2))
"""What begins the names of control tokens: of those in data and of those that are meant. No text can hold
them, and letters and digits pass every filter of a template."""

_GUARD = f"{_DATA}gq"
"""Keeps the end of data apart from what follows: together they could be a control token."""

_NO_DATA = ("role", "type")
"""Keys of a message that templates compare with words of their own."""


@dataclass(frozen=True)
class _Control:
    """The control tokens of one tokenizer, and how they are told from the same letters in data."""

    tokenizer: Any
    tokens: tuple[str, ...]

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        longest_first = sorted(self.tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first))) if self.tokens else None

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    @cached_property
    def _beginnings(self) -> frozenset[str]:
        return frozenset(token[:end] for token in self.tokens for end in range(1, len(token)))

    @cached_property
    def _literal(self) -> tuple[Tokenizer, dict[int, int]]:
        """The tokenizer with its control tokens renamed, and the tokens that changed their number."""
        backend = self.tokenizer.backend_tokenizer
        names = {token: f"{_OWN}n{number}q" for token, number in self._number_of.items()}
        literal = Tokenizer.from_str(json.dumps(_renamed(json.loads(backend.to_str()), names)))
        literal.no_truncation()
        literal.no_padding()
        numbers = {
            number: backend.token_to_id(token)
            for token, name in names.items()
            if (number := literal.token_to_id(name)) is not None
        }
        return literal, numbers

    @cached_property
    def _probe(self) -> str | None:
        """A text that is at least one token."""
        words: dict[str, int] = self.tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
        for text in ("a", *words):
            if self.tokenizer(text, add_special_tokens=False)["input_ids"]:
                return text
        return None

    @property
    def start_ids(self) -> tuple[int, ...]:
        """The tokens that the tokenizer puts before a text."""
        if self._probe is None:
            return ()
        encoding = self.tokenizer(self._probe, return_special_tokens_mask=True)
        return tuple(encoding["input_ids"][: encoding["special_tokens_mask"].index(0)])

    def is_in(self, text: str) -> bool:
        """Whether a text holds the letters of a control token."""
        return self._pattern is not None and self._pattern.search(text) is not None

    def is_shielded(self, text: str) -> bool:
        """Whether a text holds data whose control tokens were renamed."""
        return _DATA in text

    def literal_ids(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text in which no control token is meant."""
        literal, numbers = self._literal
        return tuple(
            numbers.get(token, token) for token in literal.encode(text, add_special_tokens=False).ids
        )

    def written_ids(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a rendered text: the template's control tokens, and data as it is spelt."""

        def replace(match: re.Match[str]) -> str:
            found = match.group()
            return f"{_OWN}n{self._number_of[found]}q" if found in self._number_of else self._spelt(found)

        pattern = f"{_STAND_IN.pattern}|{self._pattern.pattern}" if self._pattern else _STAND_IN.pattern
        return self.literal_ids(re.sub(pattern, replace, text))

    def readable(self, text: str) -> str:
        """Return a rendered text as a reader sees it."""
        return _STAND_IN.sub(lambda match: self._spelt(match.group()), text)

    def _spelt(self, stand_in: str) -> str:
        number = stand_in.removeprefix(f"{_DATA}d").removesuffix("q")
        return self.tokens[int(number)] if number.isdecimal() and int(number) < len(self.tokens) else ""

    def shield(self, value: Any) -> Any:
        """Return a value of a template with the control tokens in all its texts under other names."""
        if isinstance(value, str):
            return self._shield_text(value)
        if isinstance(value, Mapping):
            return {
                self.shield(key): inner if key in _NO_DATA and isinstance(inner, str) else self.shield(inner)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.shield(inner) for inner in value]
        return value

    def _shield_text(self, text: str) -> str:
        if self._pattern is None:
            return text
        shown = self._pattern.sub(lambda match: f"{_DATA}d{self._number_of[match.group()]}q", text)
        body = shown.rstrip()
        longest = max(map(len, self.tokens))
        is_open = any(body[-length:] in self._beginnings for length in range(1, min(longest, len(body) + 1)))
        return f"{body}{_GUARD}{shown[len(body) :]}" if is_open else shown


_STAND_IN = re.compile(f"{_DATA}(?:d[0-9]+|g)q")


def _control_of(tokenizer: Any) -> _Control:
    template = getattr(tokenizer, "chat_template", None)
    return _control(tokenizer, "" if template is None else str(template), len(tokenizer))


@lru_cache(maxsize=8)
def _control(tokenizer: Any, template: str, num_tokens: int) -> _Control:
    """Find the control tokens: those marked as special, and others that the chat template writes.

    Some makers mark none but the end as special. The tags of thought and answer are ours to read.
    `num_tokens` tells a tokenizer to which tokens were added.
    """
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    found = {token.content for token in added if token.special or token.content in template}
    return _Control(tokenizer, tuple(sorted(found - {"", *TAGS})))


def _renamed(described: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a tokenizer.json in which the given tokens have other names.

    In the vocabulary too, and without merges that make them, else some models would still find them in
    a text. What is put around a text has no place here.
    """
    model = described["model"]
    for token in described["added_tokens"]:
        if token["content"] in names:
            token |= {"content": names[token["content"]], "single_word": False}
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if isinstance(unknown := model.get("unk_token"), str):
        model["unk_token"] = names.get(unknown, unknown)
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if names.keys().isdisjoint(_tokens_of(merge))]
    return described | {"post_processor": None}


def _tokens_of(merge: str | Sequence[str]) -> tuple[str, str, str]:
    """Return the tokens that a merge takes, and the one that it makes."""
    first, second = merge.split(" ", 1) if isinstance(merge, str) else merge
    return first, second, first + second
