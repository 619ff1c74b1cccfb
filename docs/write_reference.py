"""Makes the two pages of reference/ from the code: options from the option tree, commands from typer.

Run it after a change of an option or a command: `python docs/write_reference.py`. A test compares.
"""

import html
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from zerone.config import Config, options

REFERENCE = Path(__file__).with_name("reference")

_OPTIONS = """\
# Options

Made from the code by `docs/write_reference.py`. An option is given as `name=value` after a command, or in a
YAML file with the part before the dot as a section. The value here is the default; a recipe may set another,
which `zerone config show --recipe NAME` shows.
"""

_COMMANDS = """\
# Commands

Made from the code by `docs/write_reference.py`. Exit codes: 0 done, 1 failure, 2 something that you can fix,
130 interrupted and saved.
"""


def options_page() -> str:
    """Return reference/options.md."""
    return "\n".join([_OPTIONS, *_sections()])


def _sections() -> Iterator[str]:
    for section, names in groupby(options(), key=lambda name: name.rpartition(".")[0]):
        yield f"## {section or 'Of the whole run'}\n"
        if about := (_section(section).__doc__ or "").strip().splitlines() if section else []:
            yield f"{about[0]}\n"
        yield "| option | default | meaning |\n|---|---|---|"
        for name in names:
            yield f"| `{name}` | `{_value(name)}` | {_escaped(options()[name])} |"
        yield ""


def _section(name: str) -> type[BaseModel]:
    section: type[BaseModel] = Config
    for part in name.split("."):
        inner: Any = section.model_fields[part].annotation
        section = inner
    return section


def _value(name: str) -> str:
    """Return the default as it would be written on the command line."""
    value: Any = Config()
    for part in name.split("."):
        value = getattr(value, part)
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case tuple():
            return str(list(value))
        case _:
            return str(value)


def _escaped(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|")


def commands_page() -> str:
    """Return reference/commands.md, as typer itself describes the commands."""
    done = subprocess.run(
        [sys.executable, "-m", "typer", "zerone.cli.main", "utils", "docs", "--name", "zerone"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    _, _, body = done.stdout.partition("\n")  # its title
    return _COMMANDS + html.unescape(body).rstrip() + "\n"


def pages() -> dict[Path, str]:
    """Return the text of every page by its place."""
    return {REFERENCE / "options.md": options_page(), REFERENCE / "commands.md": commands_page()}


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
