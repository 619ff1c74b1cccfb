"""Rewards of the user's own: `path.py:function`, loaded once and called for every completion.

In: a reference such as `rewards/brevity.py:short`. Out: a function from a completion to a number. The
file is the user's own code and runs in this process; nothing a model wrote is ever run here. The
function is called as

    function(completion: str, answer: str | None, problem: dict) -> float

with the whole completion (what the prompt opened included), the answer as the parser found it, and
the problem's `id`, `family`, `level`, `language`, `prompt` and `spec`. It returns a finite number,
the same for the same arguments.
"""

import functools
import importlib.util
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zerone.errors import ConfigError
from zerone.rewards.verifiers import FAILURES
from zerone.types import Problem

UserReward = Callable[[str, str | None, Mapping[str, Any]], float]


@functools.cache
def load_user_reward(reference: str) -> UserReward:
    """Return the function that `path.py:function` names; raises ConfigError where there is none."""
    name, colon, attribute = reference.rpartition(":")
    if not colon or not name or not attribute:
        raise ConfigError(f"reward function {reference!r}: write path.py:function")
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"reward function {reference!r}: there is no file {name}")
    spec = importlib.util.spec_from_file_location(f"zerone_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"reward function {reference!r}: {name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FAILURES as error:
        raise ConfigError(f"{name} cannot be loaded: {type(error).__name__}: {error}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"{name} has no function {attribute!r}; it has {', '.join(public) or 'none'}")
    found: UserReward = function
    return found


def user_reward(function: UserReward, completion: str, answer: str | None, problem: Problem) -> float:
    """Call a function of the user's; raises one of FAILURES, also for what is no finite number."""
    facts = {
        "id": problem.id,
        "family": problem.family,
        "level": problem.level,
        "language": problem.language,
        "prompt": problem.prompt,
        "spec": dict(problem.spec),
    }
    value = function(completion, answer, facts)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"a reward must be a finite number, not {value!r}")
    return float(value)
