"""`zerone eval` as a user runs it, in this process: for the tests of what it measures and writes."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from zerone.cli.eval import app


def evaluate(*arguments: str | Path) -> dict[str, Any]:
    """Run `zerone eval` and return what it prints; errors are raised as the command raises them."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if result.exception is not None:
        raise result.exception
    found: dict[str, Any] = json.loads(result.stdout)
    return found
