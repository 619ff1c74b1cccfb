"""What a page of the documentation has its reader type: shell lines, commands, Python, files."""

import re
import shlex
from collections.abc import Iterator

_BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield the fenced blocks of a page: their language and what they hold."""
    for match in _BLOCK.finditer(text):
        yield match[2], re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)


def typed_lines(text: str) -> Iterator[str]:
    """Yield the lines of a page's shell blocks, joined where a backslash continues them, without comments."""
    for language, block in blocks(text):
        if language in ("", "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                if typed := re.sub(r"(^|\s+)# .*$", "", line).strip():
                    yield typed


def commands_of(text: str) -> list[list[str]]:
    """Return the arguments of every `zerone` command of a page."""
    commands = [shlex.split(line)[1:] for line in typed_lines(text) if line.startswith("zerone ")]
    return [command[: command.index("<")] if "<" in command else command for command in commands]


def files_of(text: str) -> dict[str, str]:
    """Return the files that a page shows: Python blocks that begin with a comment `# name.py`."""
    shown = (block.partition("\n") for language, block in blocks(text) if language == "python")
    return {match[1]: rest for first, _, rest in shown if (match := re.fullmatch(r"# (\w+\.py)", first))}
