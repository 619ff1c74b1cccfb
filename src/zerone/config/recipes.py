"""The recipes of the package, by name, and where a run of one is kept.

In: a recipe's name. Out: paths.
"""

from importlib import resources
from pathlib import Path

from zerone.errors import ConfigError


def recipe_paths() -> dict[str, Path]:
    """Return the recipes of the package by name."""
    folder = Path(str(resources.files("zerone") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_file(name: str) -> Path:
    """Return the file of a recipe; raises ConfigError for an unknown name."""
    known = recipe_paths()
    if name not in known:
        raise ConfigError(f"no recipe is named {name!r}; there are {', '.join(known)}")
    return known[name]


def new_run_path(recipe: str) -> Path:
    """Return the first free runs/RECIPE-N."""
    number = 1
    while (path := Path("runs") / f"{recipe}-{number}").exists():
        number += 1
    return path
