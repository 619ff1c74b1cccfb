"""How a run asked its model: the prompt and the sampling that its configuration tells.

In: a run, which may be of an older version. Out: the sections of its configuration that shape a question
and its answer. Who measures, teaches with or goes on from the run's model asks it in the same way.
"""

from typing import TypeVar

from pydantic import ValidationError

from zerone.config.reading import read_tree
from zerone.config.sections import PromptConfig, SamplingConfig, Section
from zerone.errors import ConfigError
from zerone.run_dir import RunDir

_Section = TypeVar("_Section", bound=Section)


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
