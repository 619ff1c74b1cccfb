"""Fenced code blocks of Markdown, and which of them is the program.

In: the text of an answer, and the names that its tests call. Out: its blocks, and the last one that can be
the program: an example, an output, a complexity or a shell line that follows it is not. Every search is one
pass over the text.

Fences are those of CommonMark (backticks or tildes, three or more, in list items and block quotes), with
liberties that completions need and a CommonMark parser does not take: a fence may open at any indentation,
code in a list item need not be indented with it, and what is taken off its indentation is the same for every
line, as Python needs it.
"""

import re
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass

_BYTE_ORDER_MARK = "\ufeff"
_TAB = 4
_DEEPEST_QUOTE = 20
_CLOSEST_TEXT = 4
"""Columns behind the opening fence's at which a line of fence characters is text, as in a docstring."""

# What may stand before a fence: white space, and the marks of block quotes, lists and numbered lists.
_LEAD = r"(?P<lead>(?:[ \t]|>|[-*+][ \t]|[0-9]{1,9}[.)][ \t])*)"
_OPENING = re.compile(_LEAD + r"(?P<fence>`{3,}(?=[^`]*$)|~{3,})(?P<info>.*)$")
_LANGUAGE = re.compile(r"[\s{.]*([\w+#-]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: the first word behind its fence in lower case, its text, and whether it was closed."""

    language: str
    text: str
    is_closed: bool


@dataclass(slots=True)
class _Open:
    """A fence that waits for its end: its characters, its column, the block quotes that it stands in."""

    fence: str
    column: int
    depth: int
    language: str
    lines: list[str]

    @classmethod
    def at(cls, line: str) -> "_Open | None":
        match = _OPENING.match(line) if "```" in line or "~~~" in line else None
        if match is None:
            return None
        quotes, mark, inner = match["lead"].rpartition(">")
        depth = quotes.count(">") + len(mark)
        if depth > _DEEPEST_QUOTE:
            return None
        language = _LANGUAGE.match(match["info"])
        return cls(
            fence=match["fence"],
            column=len((inner.removeprefix(" ") if mark else inner).expandtabs(_TAB)),
            depth=depth,
            language=language[1].lower().removeprefix("language-") if language else "",
            lines=[],
        )

    def unquoted(self, line: str) -> str | None:
        """Return a line without the marks of the block quotes; None where they have ended."""
        for _ in range(self.depth):
            blank, mark, rest = line.partition(">")
            if not mark or blank.strip(" \t"):
                return None
            line = rest.removeprefix(" ")
        return line

    def is_end(self, line: str, anywhere: bool = False) -> bool:
        text = line.strip(" \t")
        if len(text) < len(self.fence) or text.strip(self.fence[0]):
            return False
        return anywhere or _column(line) < self.column + _CLOSEST_TEXT

    def block(self, is_closed: bool) -> Block:
        if not is_closed and self.lines and self.is_end(self.lines[-1], anywhere=True):
            self.lines.pop()  # a closing fence that is indented too far
            is_closed = True
        columns = min([self.column, *(_column(line) for line in self.lines if line.strip(" \t"))])
        lines = [_without_indentation(line, columns) for line in self.lines]
        return Block(language=self.language, text="".join(f"{line}\n" for line in lines), is_closed=is_closed)


def _column(line: str) -> int:
    return len(line[: len(line) - len(line.lstrip(" \t"))].expandtabs(_TAB))


def _without_indentation(line: str, columns: int) -> str:
    """Take up to so many columns of white space from the front of a line."""
    if not columns:
        return line
    text = line.lstrip(" \t")
    return (
        " " * max(0, _column(line) - columns) + text if "\t" in line[:columns] else _cut(line, text, columns)
    )


def _cut(line: str, text: str, columns: int) -> str:
    return line[min(columns, len(line) - len(text)) :]


def is_fence(line: str) -> bool:
    """Whether a line opens or closes a fenced block."""
    return ("```" in line or "~~~" in line) and _OPENING.match(line) is not None


def plain_lines(text: str) -> str:
    """Return a text without a byte order mark in front, its lines ended by a line feed alone."""
    return text.removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n")


def fenced_blocks(text: str) -> list[Block]:
    """Return the blocks of a text in their order; one that is never closed goes to the end of the text."""
    found: list[Block] = []
    opened: _Open | None = None
    lines = plain_lines(text).split("\n")
    while lines and not lines[-1].strip(" \t"):
        lines.pop()
    for line in lines:
        content = None if opened is None else opened.unquoted(line)
        if opened is not None and content is not None:
            if not opened.is_end(content):
                opened.lines.append(content)
                continue
            found.append(opened.block(is_closed=True))
            opened = None
            continue
        if opened is not None:
            found.append(opened.block(is_closed=True))  # by the end of its block quote
        opened = _Open.at(line)
    if opened is not None:
        found.append(opened.block(is_closed=False))
    return found


def _unwrapped(blocks: Sequence[Block]) -> list[Block]:
    """Return blocks, a block of Markdown replaced by the blocks in it."""
    found: list[Block] = []
    for block in blocks:
        is_wrapped = block.language in _MARKDOWN or (
            not block.language and _OPENING.match(block.text.split("\n")[0])
        )
        inner = fenced_blocks(block.text) if is_wrapped else []
        found += inner or [block]
    return found


# Which block is the program -----------------------------------------------------------------------

_PYTHON = frozenset(("python", "python3", "python2", "py", "py3", "pypy", "pypy3", "cpython", "ipython"))
_UNTOLD = frozenset(("", "code", "plaintext", "text", "txt"))
"""What stands behind a fence without naming a language."""

_MARKDOWN = ("markdown", "md")

_DEFINED = re.compile(
    r"^(?:async[ \t]+)?(?:def|class)[ \t]+(?P<own>\w+)|^(?P<name>[A-Za-z_]\w*)[ \t]*(?::[^=\n]*)?=(?!=)"
    r"|^(?:from|import)[ \t](?P<imported>[^\n]*)",
    re.MULTILINE,
)
_METHOD = re.compile(r"^[ \t]+(?:async[ \t]+)?def[ \t]+(\w+)", re.MULTILINE)
_STATEMENT = re.compile(
    r"^[ \t]*(?:(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(|class[ \t]+\w+[ \t]*[(:]|import[ \t]+\w"
    r"|from[ \t]+[\w.]+[ \t]+import\b|(?:for|while|if|with|try|elif|else)\b[^\n]*:[ \t]*(?:\#[^\n]*)?$"
    r"|print[ \t]*\(|return\b|[A-Za-z_][\w.\[\], \t]*[-+*/|&]?=[^=])",
    re.MULTILINE,
)
_READS = re.compile(r"\binput[ \t]*\(|\bstdin\b|\bopen[ \t]*\([ \t]*0\b|\bfileinput\b")
_WRITES = re.compile(r"\bprint[ \t]*\(|\bstdout\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a program must have to pass its tests: names that it defines, or input that it reads.

    `names` are the functions and classes of which the tests call at least one (`Class.method` is both).
    """

    names: Collection[str] = ()
    reads_input: bool = False
    writes_output: bool = False


def program_in(answer: str, wanted: Wanted) -> str:
    """Return the program in an answer: the last block that can be it, or all of an answer without blocks.

    A block that is never closed is the program only where no complete one can be.
    """
    blocks = _unwrapped(fenced_blocks(answer))
    whole = plain_lines(answer)
    if not blocks or _is_bare(whole, blocks, wanted):
        return whole
    text = _likely(blocks, wanted)[-1].text.removeprefix(_BYTE_ORDER_MARK)
    # The body alone of a function that is to be completed keeps its indentation.
    if wanted.names and not _num_defined(_flush(text), wanted.names):
        return text
    return _flush(text)


def _is_bare(answer: str, blocks: Sequence[Block], wanted: Wanted) -> bool:
    """Whether an answer is a program without a fence of its own, whose docstrings hold the fences."""
    is_defined = any(_num_defined(_flush(block.text), wanted.names) for block in blocks)
    return not is_defined and _num_defined(answer, wanted.names) > 0


def _likely(blocks: Sequence[Block], wanted: Wanted) -> Sequence[Block]:
    """Return the blocks that say most of all that they are the program; there is always one."""
    ours = [block for block in blocks if block.language in _PYTHON or block.language in _UNTOLD]
    closed = [block for block in ours if block.is_closed]
    if wanted.names:
        for among in (closed, ours, blocks):
            counts = [_num_defined(_flush(block.text), wanted.names) for block in among]
            if most := max(counts, default=0):
                return [block for block, count in zip(among, counts, strict=True) if count == most]
    effect = _READS if wanted.reads_input else _WRITES if wanted.writes_output else None
    choices = [_with_effect(among, effect) for among in (closed, ours)]
    for among in (closed, ours):
        stated = [block for block in among if _STATEMENT.search(block.text)]
        choices += [[block for block in stated if block.language in _PYTHON], stated]
    choices += [[block for block in ours if block.language in _PYTHON], closed, ours, list(blocks)]
    return next(choice for choice in choices if choice)


def _with_effect(blocks: Sequence[Block], effect: re.Pattern[str] | None) -> list[Block]:
    if effect is None:
        return []
    return [block for block in blocks if _STATEMENT.search(block.text) and effect.search(block.text)]


def _flush(text: str) -> str:
    """Return a program whose first line is indented moved to the left margin."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    return textwrap.dedent(text) if first[:1] in (" ", "\t") else text


def _num_defined(text: str, names: Collection[str]) -> int:
    """Count the names that a program defines at its left margin; a method counts within its class."""
    defined = set[str]()
    for match in _DEFINED.finditer(text):
        defined.update(
            re.findall(r"\w+", match["imported"]) if match["imported"] else filter(None, match.groups())
        )
    methods = {match[1] for match in _METHOD.finditer(text)}
    count = 0
    for name in names:
        owner, dot, method = name.partition(".")
        if not dot:
            count += name in defined
        elif owner in defined and method in methods:
            count += 2
        else:
            count += method in defined  # a function in place of the method that was asked for
    return count
