"""Makes first_run.ipynb from first_run.py.

In: a program in percent format (`# %%` opens a cell, `# %% [markdown]` one of text in comments). Out: a
notebook without outputs. The program is the source, so that it can be tested; run this after a change.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("first_run.py")
NOTEBOOK = SOURCE.with_suffix(".ipynb")

_MARK = "# %%"
_TEXT_MARK = "# %% [markdown]"


def to_notebook(program: str) -> dict[str, Any]:
    """Return the notebook (nbformat 4.5); raises ValueError for text before the first cell."""
    before, *cells = f"\n{program}".split(f"\n{_MARK}")
    if before.strip():
        raise ValueError(f"a cell begins with a line {_MARK!r}; the file begins with {before.strip()[:40]!r}")
    return {
        "cells": [_cell(f"{_MARK}{cell}", number) for number, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(text: str, number: int) -> dict[str, Any]:
    mark, _, body = text.partition("\n")
    cell: dict[str, Any] = {"id": hashlib.sha256(f"{number}{body}".encode()).hexdigest()[:8], "metadata": {}}
    if mark.strip() == _TEXT_MARK:
        lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()]
        return cell | {"cell_type": "markdown", "source": _lines("\n".join(lines))}
    code = body.strip().replace("  # noqa: E402", "")
    return cell | {"cell_type": "code", "execution_count": None, "outputs": [], "source": _lines(code)}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def notebook_text() -> str:
    """Return the text of the notebook file as it should be."""
    return json.dumps(to_notebook(SOURCE.read_text(encoding="utf-8")), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook_text(), encoding="utf-8")
