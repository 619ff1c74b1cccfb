"""The recipes of the package, by name: what a command makes of one, and where its run is kept.

In: a recipe's name, a file, overrides. Out: a configuration; paths.
"""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from zerone.config.reading import build_config, read_recipe
from zerone.config.tree import Config
from zerone.errors import ConfigError

RUN_OPTIONS = "config.yaml"
"""The options of a run, in its directory."""


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


def run_to_resume(
    overrides: Iterable[str] | None, run_dir: Path | None, resume: bool
) -> tuple[list[str], Path | None]:
    """Tell the run to go on with, which may stand where overrides do (`--resume RUN`), from the overrides.

    Raises ConfigError where two are named.
    """
    given = list(overrides or ())
    named = [text for text in given if resume and ("=" not in text or (Path(text) / RUN_OPTIONS).is_file())]
    runs = [*map(Path, named), *([run_dir] if run_dir else [])]
    if len({path.resolve() for path in runs}) > 1:
        raise ConfigError(f"--resume continues one run; {' and '.join(map(str, runs))} are named")
    return [text for text in given if text not in named], runs[0] if runs else None


def resolve_run(
    recipe: str | None, config_file: Path | None, overrides: Iterable[str], resumed: Path | None, default: str
) -> Config:
    """Put recipe (or file) and overrides together; a run that goes on knows its own options.

    `resumed` is its directory; where a recipe or a file is given, that counts instead.
    """
    if resumed is not None and recipe is None and config_file is None:
        kept = resumed / RUN_OPTIONS
        if kept.is_file():
            return build_config(read_recipe(kept), overrides)
    return resolve_config(recipe or default, config_file, overrides)


def resolve_config(recipe: str, config_file: Path | None, overrides: Iterable[str] | None) -> Config:
    """Put recipe (or file) and overrides together."""
    return build_config(read_recipe(config_file or recipe_file(recipe)), overrides or ())


def run_path(run_dir: Path | None, resume: bool, recipe: str) -> Path:
    """Return where a run is kept; raises ConfigError for a run to go on with that is not named."""
    if resume and run_dir is None:
        raise ConfigError("--resume needs --run-dir DIR, the run to resume")
    return run_dir or new_run_path(recipe)


def new_run_path(recipe: str) -> Path:
    """Return the first free runs/RECIPE-N."""
    number = 1
    while (path := Path("runs") / f"{recipe}-{number}").exists():
        number += 1
    return path
