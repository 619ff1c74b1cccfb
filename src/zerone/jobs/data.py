"""Which problems a run trains on and is measured on, for each kind of data.

In: the data section of a configuration. Out: a training mixture and the two suites that every
run reports: `mixed` (all levels) and `hard` (the highest level; "mini-aime" in the embedded world).
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zerone.config import Config
from zerone.config.sections import PartConfig
from zerone.data.jsonl import Fields, ProblemFile, read_problems, split_problems
from zerone.data.mixture import ListMixture, Mixture, WeightedMixture
from zerone.data.pass_rates import Band, PassRates, read_pass_rates, within_band
from zerone.data.sources import Source, open_source
from zerone.errors import ConfigError
from zerone.evals.evaluate import Suite
from zerone.evals.suites import fields_of, sums_problems
from zerone.identity import sha256_of_file, sha256_of_value
from zerone.problems import sums
from zerone.problems.mixture import (
    MIX_FAMILIES,
    EmbeddedMixture,
    FamilyMixture,
    hard_suite,
    mix_hard_suite,
    mix_suite,
    mixed_suite,
)
from zerone.problems.scenarios import AllScenarios, OwnScenarios
from zerone.rewards.ground_truth import readable_problems
from zerone.rewards.preference import first_due, kind_of
from zerone.runs.start import Input
from zerone.seeding import seed_from
from zerone.types import Problem


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

    @property
    def problems(self) -> list[Problem]:
        """All that can be listed: of the mixture and of both suites."""
        return [*self.listed, *self.mixed.problems, *self.hard.problems]


def data_of(config: Config) -> Data:
    """Return the problems that a configuration names; raises DataError for a bad file.

    Where preference is rewarded, general requests come among the problems from the step on in which it
    counts: before, nothing could tell good answers to them from bad ones.
    """
    data = data_at_any_time(config)
    if not config.reward.preference:
        return data
    general_from = first_due(config.rl.steps, config.reward.preference_share)
    return (_with_own_requests if config.data.is_own else _with_requests)(config, data, general_from)


def data_at_any_time(config: Config) -> Data:
    """Return the same without regard to steps: all of a user's own, or the embedded reasoning problems."""
    return _data_of_own(config) if config.data.is_own else _data_of_family(config)


def _with_requests(config: Config, reasoning: Data, general_from: int) -> Data:
    return replace(
        reasoning,
        description=f"{reasoning.description}; general requests from step {general_from + 1} on",
        mixture=AllScenarios(seed=config.seed, reasoning=reasoning.mixture, general_from=general_from),
        verifiers=reasoning.verifiers | {"judge"},
    )


def _with_own_requests(config: Config, data: Data, general_from: int) -> Data:
    """Return a user's problems with the general requests among them held back until they are due."""
    num_requests = sum(kind_of(problem) is not None for problem in data.listed)
    if not num_requests or not general_from:
        return data
    alone = _without_requests(data.mixture)
    if alone is None:
        raise ConfigError(
            f"{config.data.path or 'data.mixture'} holds general requests alone, and before step "
            f"{general_from + 1} of {config.rl.steps} nothing judges them; set reward.preference_share=1, or "
            f"add "
            "problems that a rule can judge"
        )
    held_back = f"its {num_requests} general requests from step {general_from + 1} on"
    return replace(
        data,
        description=f"{data.description}; {held_back}",
        mixture=OwnScenarios(reasoning=alone, everything=data.mixture, general_from=general_from),
    )


def _without_requests(mixture: Mixture) -> Mixture | None:
    """Return a mixture of a user's own problems without general requests, or None where nothing is left."""
    if isinstance(mixture, WeightedMixture):
        pairs = [(_without_requests(part), w) for part, w in zip(mixture.parts, mixture.weights, strict=True)]
        left = [(part, weight) for part, weight in pairs if isinstance(part, ListMixture)]
        parts, weights = tuple(part for part, _ in left), tuple(weight for _, weight in left)
        return replace(mixture, parts=parts, weights=weights) if parts else None
    if not isinstance(mixture, ListMixture):
        raise AssertionError("only a user's own problems hold requests that are held back")
    problems = [problem for problem in mixture.problems if kind_of(problem) is None]
    return replace(mixture, problems=problems) if problems else None


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


# A user's own -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The problems of one source, split, and what is said of it; `weight` is its share beside others."""

    trained: tuple[Problem, ...]
    held_out: tuple[Problem, ...]
    description: str
    name: str = ""
    weight: float = 1.0


def _data_of_own(config: Config) -> Data:
    """Return the problems of `data.path`, or of the sources of `data.mixture`."""
    d = config.data
    rates = None if d.pass_rates is None else read_pass_rates(Path(d.pass_rates).expanduser())
    named: Sequence[PartConfig | None] = d.mixture or (None,)
    parts = [_part_of(config, one, rates) for one in named]
    lists = tuple(
        ListMixture(
            # A part's order is its own: it stays when others are added.
            seed=seed_from(config.seed, "mixture", part.name) if part.name else config.seed,
            problems=part.trained,
            problems_per_step=config.rl.problems_per_step,
        )
        for part in parts
    )
    mixture: Mixture = lists[0]
    if d.mixture:
        weights = tuple(part.weight for part in parts)
        mixture = WeightedMixture(
            seed=config.seed,
            parts=lists,
            weights=weights,
            problems_per_step=config.rl.problems_per_step,
        )
    # By turns, so that the first ones, which may be all that is measured, are of every source.
    rounds = itertools.zip_longest(*(part.held_out for part in parts))
    held_out = [problem for turn in rounds for problem in turn if problem is not None]
    description = "; ".join(part.description for part in parts)
    return _data(description, config, mixture, held_out, held_out)


def _part_of(config: Config, part: PartConfig | None, rates: PassRates | None) -> _Part:
    """Return the problems of a source: those that can be judged, split, in the wanted band of pass rates."""
    d = config.data
    name = str(d.path) if part is None else part.path
    source = open_source(name, "data.path" if part is None else f"data.mixture.{part.name}")
    read, problems = _read_once(name, fields_of(d, part), d.skip_unreadable, source.sha256())
    trained, held_out = split_problems(problems, d.eval_share)
    left_out = {
        "repeated": read.num_duplicates,
        "unreadable": read.num_unreadable + len(read.problems) - len(problems),
    }
    if rates is not None:
        trained, others = within_band(trained, rates, Band(low=d.pass_rate_min, high=d.pass_rate_max))
        left_out |= others
    told = "".join(f", {number} {kind} left out" for kind, number in left_out.items() if number)
    read_as = f" (read as {read.read_as})" if read.read_as else ""
    described = f"{source.title}{read_as}: {len(trained)} for training, {len(held_out)} for evaluation{told}"
    if part is None:
        return _Part(trained=trained, held_out=held_out, description=described)
    total = sum(one.weight for one in d.mixture)
    return _Part(
        trained=trained,
        held_out=held_out,
        description=f"{described}, {part.weight / total:.1%} of the mixture",
        name=part.name,
        weight=part.weight,
    )


@functools.lru_cache(maxsize=16)
def _read_once(name: str, fields: Fields, skip: bool, sha256: str) -> tuple[ProblemFile, tuple[Problem, ...]]:
    """Read and check a source that a command looks at several times; the hash says that it is the same."""
    read = read_problems(name, fields, skip=skip)
    return read, readable_problems(read, name, skip=skip)


def sources_of(config: Config) -> dict[str, Source]:
    """Return what the section `data` names, by the option that names it."""
    d = config.data
    named = {"data.path": d.path} if d.path else {f"data.mixture.{one.name}": one.path for one in d.mixture}
    return {option: open_source(name, option) for option, name in named.items()}


def data_inputs(config: Config) -> dict[str, Input]:
    """Return what a run is made from beside its model: a user's own problems and their pass rates."""
    rates, hashes = config.data.pass_rates, [source.sha256() for source in sources_of(config).values()]
    found: dict[str, Input] = {}
    if config.data.path is not None:
        found["data_sha256"] = Input(name=config.data.path, sha256=hashes[0])
    elif hashes:
        found["data_sha256"] = Input(name="a source of data.mixture", sha256=sha256_of_value(hashes))
    if rates is not None:
        found["pass_rates_sha256"] = Input(name=rates, sha256=sha256_of_file(Path(rates).expanduser()))
    return found


def with_epochs(config: Config) -> Config:
    """Return a configuration whose `rl.steps` are as many as `data.epochs` over its problems take."""
    if not config.data.epochs:
        return config
    num_problems = len(data_at_any_time(config).listed)
    steps = math.ceil(config.data.epochs * num_problems / config.rl.problems_per_step)
    return config.model_copy(update={"rl": config.rl.model_copy(update={"steps": steps})})


def _data(
    description: str, config: Config, mixture: Mixture, mixed: list[Problem], hard: list[Problem]
) -> Data:
    e = config.eval
    listed = mixture.problems if isinstance(mixture, ListMixture | WeightedMixture) else ()
    return Data(
        description=description,
        mixture=mixture,
        listed=listed,
        mixed=Suite(name="mixed", problems=mixed[: e.problems], num_samples=e.mixed_samples),
        hard=Suite(name="hard", problems=hard[: e.problems], num_samples=e.hard_samples),
        verifiers=frozenset(problem.verifier for problem in (*listed, *mixed, *hard)),
    )
