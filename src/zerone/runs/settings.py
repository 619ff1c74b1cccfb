"""The run that a model comes from, and how it asked its model: the prompt and the sampling that it tells.

In: a model as a user names it, or a run, which may be of an older version. Out: the run and the model's
directory; the sections of the run's configuration that shape a question and its answer. Who measures,
serves, exports, teaches with or goes on from the run's model finds and asks it in the same way.
"""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from zerone.config.reading import read_tree
from zerone.config.sections import PromptConfig, SamplingConfig, Section
from zerone.errors import ConfigError, RunDirError
from zerone.model.loading import EMBEDDED
from zerone.runs.directory import RunDir, not_a_run, run_of_model

_Section = TypeVar("_Section", bound=Section)


def locate_model(model: str) -> tuple[RunDir | None, str]:
    """Return the run that a model belongs to, if any, and the directory of the model (or `embedded`).

    Raises RunDirError for a run that has no finished model, and for a directory of runs.
    """
    if model == EMBEDDED:
        return None, model
    path = Path(model).expanduser()
    run = RunDir(path)
    if not run.has_run:
        if not (path / "config.json").is_file() and any(path.glob("*/config.yaml")):
            raise not_a_run(path)
        return run_of_model(path), str(path)
    if not (run.model_path / "config.json").exists():
        raise RunDirError(
            f"{path} has no finished model; go on with --resume, or give one of its checkpoints as "
            f"{run.checkpoints_path}/step_N/model"
        )
    return run, str(run.model_path)


def prompt_of_run(run: RunDir) -> PromptConfig:
    """Return the prompt that a run trained its model in; raises ConfigError where that cannot be read."""
    return _section(run, "prompt", PromptConfig)


def sampling_of_run(run: RunDir) -> SamplingConfig:
    """Return how a run drew its model's answers; raises ConfigError where that cannot be read."""
    return _section(run, "sampling", SamplingConfig)


def _section(run: RunDir, name: str, kind: type[_Section]) -> _Section:
    try:
        return kind.model_validate(read_tree(run.config_path).get(name, {}))
    except ValidationError as error:
        raise ConfigError(f"{run.config_path}: the section {name} cannot be read ({error})") from error
