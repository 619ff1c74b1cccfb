"""What a chat template writes between messages, learnt from what it renders, and the same for Ollama.

In: a tokenizer with a chat template. Out: the text between two messages by their roles, and from it a
template in Go's language, or the reason why there is none. Ollama knows no Jinja; but most chat templates
do no more than to write a fixed text between one role and the next, which is seen in a few conversations.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from zerone.model.tokenizer import start_ids
from zerone.prompts.r1 import THINK_CLOSE, THINK_OPEN

START, END = "", "end"
"""What stands in place of a role before the first message and behind the last."""

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"

_NEEDED = (
    (USER,),
    (USER, ASSISTANT, USER),
    (USER, ASSISTANT, USER, ASSISTANT, USER),
)
_WITH_SYSTEM = ((SYSTEM, USER), (SYSTEM, USER, ASSISTANT, USER))
_WORDS = ("zq{}w", "zq{}w\n\n  two lines: {{x}}, \\n, 3 < 4 & '5' {}zq")
"""Contents of messages: a template that changes or looks into them does more than can be told."""

_TEMPLATE_FAULTS = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
    jinja2.TemplateError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """The text between a message and the next, by their roles; `thinks` is whether thoughts have tags."""

    between: Mapping[tuple[str, str], str]
    thinks: bool

    @property
    def takes_system(self) -> bool:
        """Whether there is a place for a system message."""
        return (START, SYSTEM) in self.between


class Inexpressible(Exception):
    """What a chat template does that no fixed text between messages can do; the message says what."""


def read_turns(tokenizer: Any) -> Turns:
    """Return what the chat template writes between messages; raises Inexpressible where it does more."""
    template = str(tokenizer.chat_template)
    if "strftime_now" in template:
        raise Inexpressible("it writes today's date")
    between: dict[tuple[str, str], str] = {}
    for roles, words in itertools.product(_NEEDED, _WORDS):
        _learn(tokenizer, roles, words, between)
    with_system = dict(between)
    try:
        for roles, words in itertools.product(_WITH_SYSTEM, _WORDS):
            _learn(tokenizer, roles, words, with_system)
        between = with_system
    except Inexpressible as error:
        if not _refuses_system(tokenizer):
            raise Inexpressible(f"{error}, where there is a system message") from error
    beginning = "".join(tokenizer.convert_ids_to_tokens(list(start_ids(tokenizer))))
    for (before, after), text in between.items():
        if before == START:  # llama.cpp puts the start token there by itself
            between[before, after] = text.removeprefix(beginning)
        if not all(letter.isprintable() or letter in "\n\t" for letter in text):
            raise Inexpressible("it writes characters that a Modelfile cannot hold")
    return Turns(between=between, thinks=THINK_OPEN in template)


def _learn(tokenizer: Any, roles: Sequence[str], words: str, between: dict[tuple[str, str], str]) -> None:
    """Add what one conversation shows; raises Inexpressible where it contradicts another."""
    contents = [words.format(number, number) for number in range(len(roles))]
    rest, texts = _render(tokenizer, roles, contents), []
    for content in contents:
        text, found, rest = rest.partition(content)
        if not found:
            raise Inexpressible("it leaves messages out, moves or changes them")
        texts.append(text)
    for pair, text in zip(itertools.pairwise((START, *roles, END)), (*texts, rest), strict=True):
        if between.setdefault(pair, text) != text:
            raise Inexpressible("what it writes between two messages depends on more than their roles")


def _render(tokenizer: Any, roles: Sequence[str], contents: Sequence[str]) -> str:
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except _TEMPLATE_FAULTS as error:
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise Inexpressible(f"it fails at a conversation of {', '.join(roles)} ({said})") from error


def _refuses_system(tokenizer: Any) -> bool:
    try:
        _render(tokenizer, (SYSTEM, USER), ("a", "b"))
    except Inexpressible:
        return True
    return False


def go_template_of(turns: Turns) -> str:
    """Return the template of Ollama that writes the same.

    Ollama learns the thinking tags from what surrounds `.Thinking`; `if false` keeps old thoughts out.
    """
    tags = f"{{{{ if false }}}}{THINK_OPEN}{{{{ .Thinking }}}}{THINK_CLOSE}{{{{ end }}}}"
    thoughts = {ASSISTANT: tags if turns.thinks else ""}
    roles = [USER, ASSISTANT, *([SYSTEM] if turns.takes_system else [])]
    branches = "{{ else ".join(
        f'if eq .Role "{role}" }}}}{_before(turns, role)}{thoughts.get(role, "")}{{{{ .Content }}}}'
        for role in roles
    )
    return (
        '{{ $last := "" }}{{ range .Messages }}{{ '
        + branches
        + "{{ end }}{{ $last = .Role }}{{ end }}"
        + _literal(turns.between[USER, END])
    )


def _before(turns: Turns, role: str) -> str:
    """Return what stands before a message of a role, by the role of the one before it.

    The last is also for what no conversation showed.
    """
    texts = {before: text for (before, after), text in turns.between.items() if after == role}
    if len(set(texts.values())) == 1:
        return _literal(next(iter(texts.values())))
    order = sorted(texts, key=(START, SYSTEM, USER, ASSISTANT).index)
    branches = [f'if eq $last "{before}" }}}}{_literal(texts[before])}' for before in order[:-1]]
    return "{{ " + "{{ else ".join([*branches, f"}}}}{_literal(texts[order[-1]])}"]) + "{{ end }}"


def _literal(text: str) -> str:
    """Return a text as it stands in a Go template inside of three quotation marks."""
    text = text.replace("{{", '{{ "{{" }}').replace('"""', '""{{ "\\"" }}')
    return text[:-1] + '{{ "\\"" }}' if text.endswith('"') else text
