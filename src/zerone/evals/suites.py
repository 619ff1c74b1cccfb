"""Which problems a run trains on and is measured on, for each kind of data.

In: the data section of a configuration. Out: a training mixture and the two suites that every
run reports: `mixed` (all levels) and `hard` (the highest level; "mini-aime" in the embedded world).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zerone.config import Config
from zerone.data.jsonl import Fields, ProblemFile, read_problems, split_problems
from zerone.errors import ConfigError, DataError, UserError
from zerone.evals.evaluate import Suite
from zerone.problems import functions, selections, sums
from zerone.problems.mixture import (
    MIX_FAMILIES,
    EmbeddedMixture,
    FamilyMixture,
    ListMixture,
    distinct_problems,
    family_suite,
    hard_suite,
    languages_suite,
    mix_hard_suite,
    mix_suite,
    mixed_suite,
)
from zerone.problems.request_suites import helpfulness_suite, safety_suite
from zerone.problems.scenarios import AllScenarios, OwnScenarios
from zerone.rewards.ground_truth import gold_complaint
from zerone.rewards.preference import first_due, kind_of
from zerone.train.loop import Mixture
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A run's problems; `listed` are all that the mixture can draw, where they can be listed.

    `description` says in a line where they come from, `verifiers` by which rules they are judged.
    """

    description: str
    mixture: Mixture
    listed: Sequence[Problem]
    mixed: Suite
    hard: Suite
    verifiers: frozenset[str]


def data_of(config: Config) -> Data:
    """Return the problems that a configuration names; raises DataError for a bad file.

    Where preference is rewarded, general requests come among the problems from the step on in which it
    counts: before, nothing could tell good answers to them from bad ones.
    """
    data = data_at_any_time(config)
    if not config.reward.preference:
        return data
    general_from = first_due(config.rl.steps, config.reward.preference_share)
    return (_with_requests if config.data.path is None else _with_own_requests)(config, data, general_from)


def data_at_any_time(config: Config) -> Data:
    """Return the same without regard to steps: all of a user's file, or the embedded reasoning problems."""
    if config.data.path is not None:
        return _data_of_file(config, Path(config.data.path))
    return _data_of_family(config)


def _with_requests(config: Config, reasoning: Data, general_from: int) -> Data:
    return replace(
        reasoning,
        description=f"{reasoning.description}; general requests from step {general_from + 1} on",
        mixture=AllScenarios(seed=config.seed, reasoning=reasoning.mixture, general_from=general_from),
        verifiers=reasoning.verifiers | {"judge"},
    )


def _with_own_requests(config: Config, data: Data, general_from: int) -> Data:
    """Return a user's problems with the general requests among them held back until they are due."""
    reasoning = [problem for problem in data.listed if kind_of(problem) is None]
    num_requests = len(data.listed) - len(reasoning)
    if not num_requests or not general_from:
        return data
    if not reasoning:
        raise ConfigError(
            f"{config.data.path} holds general requests alone, and before step {general_from + 1} of "
            f"{config.rl.steps} nothing judges them; set reward.preference_share=1, or add problems that a "
            "rule can judge"
        )
    per_step = config.rl.problems_per_step
    held_back = f"its {num_requests} general requests from step {general_from + 1} on"
    alone = ListMixture(seed=config.seed, problems=reasoning, problems_per_step=per_step)
    return replace(
        data,
        description=f"{data.description}; {held_back}",
        mixture=OwnScenarios(reasoning=alone, everything=data.mixture, general_from=general_from),
    )


def _data_of_family(config: Config) -> Data:
    if config.data.family == "mix":
        mixture = EmbeddedMixture(seed=config.seed, families=MIX_FAMILIES)
        names = ", ".join(family.FAMILY for family in MIX_FAMILIES)
        return _data(names, config, mixture, mix_suite(), mix_hard_suite())
    if config.data.family == "sums":
        mixed, hard = sums_problems()
        return _data("sums", config, FamilyMixture(seed=config.seed, family=sums), mixed, hard)
    return _data(
        "countdown and word problems", config, EmbeddedMixture(seed=config.seed), mixed_suite(), hard_suite()
    )


def fields_of(config: Config) -> Fields:
    """Return how the lines of a JSONL of problems are read."""
    data = config.data
    return Fields(
        prompt=data.prompt_field,
        answer=data.answer_field,
        answer_pattern=data.answer_pattern,
        choices=data.choices_field,
        verifier=data.verifier,
    )


def _data_of_file(config: Config, path: Path) -> Data:
    data = config.data
    read = read_problems(path, fields_of(config))
    problems = _readable(read, path, skip=data.skip_unreadable)
    train, held_out = split_problems(problems, data.eval_share)
    mixture = ListMixture(seed=config.seed, problems=train, problems_per_step=config.rl.problems_per_step)
    left_out = "".join(
        f", {number} {kind} left out"
        for number, kind in (
            (read.num_duplicates, "repeated"),
            (len(read.problems) - len(problems), "unreadable"),
        )
        if number
    )
    return _data(
        f"{path.name}: {len(train)} for training, {len(held_out)} for evaluation{left_out}",
        config,
        mixture,
        list(held_out),
        list(held_out),
    )


_LISTED_LINES = 10


def _readable(read: ProblemFile, path: Path, *, skip: bool) -> tuple[Problem, ...]:
    """Return the problems that their verifier can judge by; raises DataError for others, or where none is."""
    complaints = {
        number: complaint
        for number, problem in zip(read.lines, read.problems, strict=True)
        if (complaint := gold_complaint(problem)) is not None
    }
    if complaints and (not skip or len(complaints) == len(read.problems)):
        shown = [f"{path}:{number}: {text}" for number, text in complaints.items()][:_LISTED_LINES]
        raise DataError(
            f"{len(complaints)} of {len(read.problems)} answers or tests of {path} cannot be read:\n"
            + "\n".join(shown)
            + f"\nCorrect them (`zerone reward check {path}` lists all), choose another data.verifier"
            + (
                ""
                if len(complaints) == len(read.problems)
                else ", or leave them out by data.skip_unreadable=true"
            )
        )
    pairs = zip(read.lines, read.problems, strict=True)
    return tuple(problem for number, problem in pairs if number not in complaints)


def _data(
    description: str, config: Config, mixture: Mixture, mixed: list[Problem], hard: list[Problem]
) -> Data:
    e = config.eval
    listed = mixture.problems if isinstance(mixture, ListMixture) else ()
    return Data(
        description=description,
        mixture=mixture,
        listed=listed,
        mixed=Suite(name="mixed", problems=mixed[: e.problems], num_samples=e.mixed_samples),
        hard=Suite(name="hard", problems=hard[: e.problems], num_samples=e.hard_samples),
        verifiers=frozenset(problem.verifier for problem in (*listed, *mixed, *hard)),
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
            f"sft.suite={name!r} is no suite; there are {', '.join(SUITE_NAMES)}, none, or a file of problems"
        )
    read = read_problems(path, fields_of(config))
    problems = _readable(read, path, skip=config.data.skip_unreadable)
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
