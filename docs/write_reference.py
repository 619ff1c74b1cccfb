"""Makes the pages of reference/ from the code: options, commands as typer has them, the Python API.

Run it after a change of an option or a command: `python docs/write_reference.py`. A test compares.
"""

import html
import importlib
import inspect
import re
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


_PYTHON = """\
# Python API

Made from the code by `docs/write_reference.py`. After this page you can train, read a run, grade and export
from Python; the [notebook](../first_run.ipynb) uses most of it. All else in the package may change.

```python
from pathlib import Path

from rich.console import Console

from zerone.cli.progress import TerminalDisplay
from zerone.config import build_config, read_recipe
from zerone.config.recipes import recipe_file
from zerone.jobs.rl import run_zero
from zerone.runs.directory import RunDir

config = build_config(read_recipe(recipe_file("tiny")), ["rl.steps=2", "model.threads=1"])
run = RunDir(Path("runs/from-python"))
with TerminalDisplay(Console(), run.path) as display:
    summary = run_zero(config, run, resume=run.has_run, display=display)
print(summary["final"]["mixed"]["pass_at_1"])
for row in run.query("SELECT text, reward FROM rollouts ORDER BY reward DESC LIMIT 1"):
    print(row["reward"], row["text"])
```
"""

_API = {
    "Configure": (
        "zerone.config.recipes:recipe_file",
        "zerone.config:read_recipe",
        "zerone.config:build_config",
        "zerone.config:options",
        "zerone.config:to_yaml",
    ),
    "Train": (
        "zerone.jobs.rl:run_zero",
        "zerone.jobs.sft:run_sft",
        "zerone.cli.progress:TerminalDisplay",
    ),
    "Read a run": (
        "zerone.runs.directory:RunDir",
        "zerone.runs.directory:RunDir.query",
        "zerone.runs.directory:RunDir.read_metrics",
        "zerone.runs.directory:RunDir.read_evals",
        "zerone.runs.directory:RunDir.read_summary",
    ),
    "Grade": ("zerone.rewards.scoring:score_row",),
    "Data": ("zerone.data.sources:register_source",),
    "Models": (
        "zerone.model.loading:load_model",
        "zerone.export.source:read_source",
        "zerone.export.directory:fresh_directory",
        "zerone.export.directory:write_directory",
    ),
}
"""What other programs may call, by purpose: module:name."""


def python_page() -> str:
    """Return reference/python.md: signatures and the first paragraph of each docstring."""
    parts = [_PYTHON]
    for title, names in _API.items():
        parts.append(f"## {title}\n")
        for name in names:
            module, _, path = name.partition(":")
            parts.append(f"**`{module}.{path}{_signature(_found(module, path))}`**\n")
            about = inspect.getdoc(_found(module, path)) or ""
            parts.append(_escaped(about.split("\n\n")[0].replace("\n", " ")) + "\n")
    return "\n".join(parts)


def _found(module: str, path: str) -> Any:
    thing: Any = importlib.import_module(module)
    for part in path.split("."):
        thing = getattr(thing, part)
    return thing


def _signature(thing: Any) -> str:
    """Return how something is called, with the short names of its types."""
    if not callable(thing):
        return ""
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", str(inspect.signature(thing)).replace("'", ""))


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
    return {
        REFERENCE / "options.md": options_page(),
        REFERENCE / "commands.md": commands_page(),
        REFERENCE / "python.md": python_page(),
    }


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
