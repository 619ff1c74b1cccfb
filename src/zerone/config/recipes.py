"""The recipes of the package, by name: what a command makes of one, and where its run is kept.

In: a recipe's name, a file, overrides. Out: a configuration; paths.
"""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from zerone.config.reading import build_config, read_recipe
from zerone.config.tree import Config
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


def resolve_config(recipe: str, config_file: Path | None, overrides: Iterable[str] | None) -> Config:
    """Put recipe (or file) and overrides together."""
    return build_config(read_recipe(config_file or recipe_file(recipe)), overrides or ())


def run_path(run_dir: Path | None, resume: bool, recipe: str) -> Path:
    """Return where a run is kept; raises ConfigError for a run to go on with that is not named."""
    if resume and run_dir is None:
        raise ConfigError("--resume needs --run-dir DIR, the run to go on with")
    return run_dir or new_run_path(recipe)


def new_run_path(recipe: str) -> Path:
    """Return the first free runs/RECIPE-N."""
    number = 1
    while (path := Path("runs") / f"{recipe}-{number}").exists():
        number += 1
    return path
