"""Reward functions of the user's around a run: tried before it, watched in it, known by their files' hashes.

In: the rules of a configuration and problems of the run. Out: nothing where all is well; else an error before
any long work, or a line on the screen, with the traceback in the run's log.
"""

import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from zerone.config import Config
from zerone.errors import ConfigError
from zerone.prompts.r1 import THINK_OPEN, Style, style_for, write_completion
from zerone.rewards.total import RewardRules
from zerone.rewards.user import Asked, RewardFailure, UserReward, ask, load_user_reward
from zerone.runs.directory import RunDir
from zerone.runs.start import Input
from zerone.train.loop import opened_by_prompt, rules_of
from zerone.types import Problem

_PROBLEMS = 2
"""Problems whose completions the functions are tried on; two kinds of each."""


def functions_of(rules: RewardRules) -> dict[str, UserReward]:
    """Return the user's functions by the names of their parts."""
    own = {"user": rules.user} if rules.user is not None else {}
    return {**own, **{name: named.function for name, named in rules.functions.items()}}


def try_functions(config: Config, problems: Iterable[Problem], run: RunDir) -> RewardRules:
    """Load the user's functions and call each on made-up completions; return the rules of the run.

    Raises ConfigError for one that cannot be loaded or fails on all of them; where it fails on some,
    that is said in a line.
    """
    load_user_reward.cache_clear()  # a run begins with the file as it is now, and keeps it to its end
    try:
        rules = rules_of(config)
    except ConfigError as error:
        if error.__cause__ is not None:
            run.log("".join(traceback.format_exception(error.__cause__)))
            raise ConfigError(f"{error}; the traceback is in {run.log_path}") from error
        raise
    functions = functions_of(rules)
    if not functions:
        return rules
    tried = [problem for _, problem in zip(range(_PROBLEMS), problems, strict=False)]
    for name, function in functions.items():
        values = [
            value
            for problem in tried
            for value in ask(name, function, _completions(config, problem), problem, step=1)
        ]
        failures = [value for value in values if isinstance(value, RewardFailure)]
        if not failures:
            continue
        run.log(failures[0].traceback)
        found = f"on {len(failures)} of {len(values)} made-up completions before the run"
        told = f"reward {name!r}: {failures[0].reason} ({found}; the traceback is in {run.log_path})"
        if len(failures) == len(values):
            raise ConfigError(told)
        print(f"warning: {told}; completions on which it fails are left out of training", file=sys.stderr)
    return rules


def _completions(config: Config, problem: Problem) -> Sequence[Asked]:
    """Return a completion in good form and one that was cut off before its answer."""
    gold = str(problem.spec.get("answer", "1"))
    whole = write_completion("I think about it.", gold, style_for(problem, Style(config.prompt.style)))
    cut = f"{opened_by_prompt(config) or THINK_OPEN}I think"
    return (
        Asked(completion=whole, answer=gold, num_tokens=len(whole.split()), is_truncated=False),
        Asked(completion=cut, answer=None, num_tokens=len(cut.split()), is_truncated=True),
    )


def hashes_of(rules: RewardRules, if_changed: str) -> Mapping[str, Input]:
    """Return the files of the functions as an input of the run; none where there are no functions."""
    functions = functions_of(rules)
    if not functions:
        return {}
    given = Input(
        name=f"the file of a reward function ({', '.join(one.reference for one in functions.values())})",
        sha256={name: one.sha256 for name, one in functions.items()},
        may_change=if_changed == "record",
        remedy="put it back, go on with it by reward.if_function_changed=record, or choose another --run-dir",
    )
    return {"reward_functions": given}


@dataclass(slots=True)
class FailureLog:
    """Says each kind of failure once, and puts its traceback into the run's log."""

    run: RunDir
    say: Callable[[str], None]
    seen: set[tuple[str, str]] = field(default_factory=set)

    def __call__(self, step: int, failures: Sequence[RewardFailure]) -> None:
        """Take the failures of a step."""
        for failure in failures:
            kind = (failure.name, failure.kind)
            if kind in self.seen:
                continue
            self.seen.add(kind)
            self.run.log(f"step {step}, reward {failure.name!r}\n{failure.traceback}")
            self.say(
                f"warning: step {step}: reward {failure.name!r}: {failure.reason}; such completions are left "
                f"out of training; the traceback is in {self.run.log_path}"
            )


def say_on_stderr(text: str) -> None:
    """Print a line that is not a step's."""
    print(text, file=sys.stderr, flush=True)
