"""The package's own suites by name, and a file of problems as a suite for SFT.

In: a suite's name. Out: problems with the number of samples to draw for each.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from zerone.config import Config
from zerone.config.sections import DataConfig, PartConfig
from zerone.data.jsonl import Fields, read_problems
from zerone.errors import ConfigError, UserError
from zerone.evals.evaluate import Suite
from zerone.problems import functions, selections, sums
from zerone.problems.mixture import (
    distinct_problems,
    family_suite,
    hard_suite,
    languages_suite,
    mix_hard_suite,
    mix_suite,
    mixed_suite,
)
from zerone.problems.request_suites import helpfulness_suite, safety_suite
from zerone.rewards.ground_truth import readable_problems
from zerone.types import Problem

_SUITES: Mapping[str, Callable[[], list[Problem]]] = {
    "mixed": mixed_suite,
    "hard": hard_suite,
    "mini-aime": hard_suite,
    "mix": mix_suite,
    "mix-hard": mix_hard_suite,
    "code": lambda: family_suite("code", functions),
    "choice": lambda: family_suite("choice", selections),
    "sums": lambda: sums_problems()[0],
    "languages": languages_suite,
    "helpfulness": helpfulness_suite,
    "safety": safety_suite,
    "requests": lambda: [*helpfulness_suite(), *safety_suite()],
}
SUITE_NAMES = tuple(_SUITES)


def fields_of(data: DataConfig, part: PartConfig | None = None) -> Fields:
    """Return how the lines of a source of problems are read; a part of a mixture may name its own fields."""
    own = {} if part is None else part.model_dump(exclude={"name", "path", "weight"}, exclude_none=True)
    said = data.model_copy(update=own)
    return Fields(
        prompt=said.prompt_field,
        answer=said.answer_field,
        answer_pattern=said.answer_pattern,
        choices=said.choices_field,
        verifier=said.verifier,
    )


def sums_problems() -> tuple[list[Problem], list[Problem]]:
    """Return 75 sums, as many of each level (the split leaves 30 of one step), and 32 of the highest."""
    levels = [sums.LEVELS[i % len(sums.LEVELS)] for i in range(75)]
    mixed = distinct_problems("sums", [(sums, level) for level in levels], chinese_share=0)
    hard = distinct_problems("sums-hard", [(sums, sums.LEVELS[-1])] * 32, chinese_share=0)
    return mixed, hard


def suite_for_sft(config: Config) -> Suite | None:
    """Return the suite that `sft.suite` names, which may be a JSONL of problems, or None for `none`."""
    name, num_samples, most = config.sft.suite, config.sft.samples, config.eval.problems
    if name == "none":
        return None
    if name in SUITE_NAMES:
        suite = suite_named(name, num_samples)
        return Suite(name=suite.name, problems=suite.problems[:most], num_samples=num_samples)
    path = Path(name)
    if not path.suffix and not path.is_file():
        raise ConfigError(
            f"sft.suite={name!r} is not a suite; there are {', '.join(SUITE_NAMES)}, none, or a "
            "file of problems"
        )
    skip = config.data.skip_unreadable
    read = read_problems(path, fields_of(config.data), skip=skip)
    problems = readable_problems(read, name, skip=skip)
    return Suite(name=path.stem, problems=problems[:most], num_samples=num_samples)


def suite_named(name: str, num_samples: int) -> Suite:
    """Return an embedded suite by name; raises UserError for another name."""
    if name not in _SUITES:
        raise UserError(f"no suite is named {name!r}; there are {', '.join(SUITE_NAMES)}")
    shown = "hard" if name == "mini-aime" else name
    return Suite(name=shown, problems=_problems_of(name), num_samples=num_samples)


@functools.cache
def _problems_of(name: str) -> tuple[Problem, ...]:
    """Return the problems of a suite, which take up to some seconds to draw."""
    return tuple(_SUITES[name]())
