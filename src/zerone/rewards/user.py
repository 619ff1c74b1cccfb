"""Rewards of the user's own: `path.py:function`, loaded once, called with the completions of a group.

In: a reference such as `rewards/brevity.py:short`, and the completions of a group. Out: for each of them a
number, None where the function has nothing to say of it, or what failed. The file is the user's own code and
runs in this process; nothing a model wrote is ever run here. A function that has a parameter `completions` is
called once for the group, with lists, as TRL calls it; any other once for each completion. What it may
ask for by name is in `EACH` and `GROUP`. Both may be `async`.

Whatever the user's code raises is taken here, SystemExit too: it may raise anything, and a run must be able
to say which function it was.
"""

import asyncio
import functools
import hashlib
import importlib.util
import inspect
import itertools
import math
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, SupportsFloat

from zerone.errors import Caught, ConfigError
from zerone.types import Problem

EACH = ("completion", "answer", "problem", "prompt", "completion_ids", "num_tokens", "truncated", "step")
GROUP = (
    "completions",
    "answers",
    "problem",
    "prompts",
    "completion_ids",
    "num_tokens",
    "truncated",
    "step",
)
_POSITIONAL = EACH[:3]
_TRL = ("completions", "prompts", "completion_ids")
"""What keeps its meaning in a call with lists, whatever the columns of the problem's row are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One completion of a group, as functions are told of it.

    `completion` is the whole text (what the prompt opened included), `answer` what the parser found.
    """

    completion: str
    answer: str | None
    num_tokens: int
    is_truncated: bool
    completion_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardFailure:
    """What went wrong in a function: a line that names the exception, its kind, and the traceback."""

    name: str
    reason: str
    kind: str
    traceback: str


Value = float | None | RewardFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class UserReward:
    """A function of the user's: where it comes from, the hash of its file, and how it is called."""

    reference: str
    sha256: str
    function: Callable[..., Any]
    parameters: tuple[inspect.Parameter, ...] | None

    @property
    def takes_group(self) -> bool:
        """Whether it is called once for all completions of a group."""
        return any(one.name == "completions" for one in self.parameters or ())

    @property
    def takes_anything(self) -> bool:
        """Whether it has `**kwargs`."""
        return any(one.kind is one.VAR_KEYWORD for one in self.parameters or ())


# Loading ------------------------------------------------------------------------------------------


@functools.cache
def load_user_reward(reference: str) -> UserReward:
    """Return the function that `path.py:function` names; raises ConfigError where there is none.

    The error of a file that cannot be loaded has the exception as its cause.
    """
    name, colon, attribute = reference.rpartition(":")
    if not colon or not name or not attribute:
        raise ConfigError(f"reward function {reference!r}: write path.py:function")
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"reward function {reference!r}: there is no file {name}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"reward function {reference!r}: cannot read {name}: {error.strerror}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    module = _module_of(path, name, sha256)
    function = getattr(module, attribute, None)
    if not callable(function):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"{name} has no function {attribute!r}; it has {', '.join(public) or 'none'}")
    found = UserReward(
        reference=reference, sha256=sha256, function=function, parameters=_parameters_of(function)
    )
    _check_signature(found)
    return found


def _module_of(path: Path, name: str, sha256: str) -> ModuleType:
    place = hashlib.sha256(str(path.absolute()).encode() + sha256.encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"zerone_user_{path.stem}_{place}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"reward function: {name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    with Caught() as caught:
        spec.loader.exec_module(module)
    if caught.error is not None:
        del sys.modules[spec.name]
        raise ConfigError(f"{name} cannot be loaded: {_described(caught.error, name)}") from caught.error
    return module


def _parameters_of(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...] | None:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return None  # written in C: it is called with positions alone


def _check_signature(user: UserReward) -> None:
    """Raise ConfigError for a function that could not be called, whatever the problem."""
    if user.parameters is None or user.takes_group:
        return
    is_told = any(one.kind is not one.KEYWORD_ONLY for one in user.parameters) or user.takes_anything
    if not is_told and not any(one.name in EACH for one in user.parameters):
        raise ConfigError(f"reward function {user.reference!r} takes no arguments; {_signatures()}")
    missing = [one.name for one in _unknown(user.parameters) if one.default is one.empty]
    if missing:
        raise ConfigError(
            f"reward function {user.reference!r} asks for {', '.join(map(repr, missing))}, which a call for "
            f"one completion does not have; {_signatures()}"
        )


def _signatures() -> str:
    return (
        f"write function({', '.join(_POSITIONAL)}), or name any of {', '.join(EACH)}; for a whole group "
        f"function(completions, **kwargs), or any of {', '.join(GROUP)} and the columns of the data"
    )


def _unknown(parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    """Return the parameters for which there is no fact, neither by name nor by position."""
    return [
        one
        for position, one in enumerate(parameters)
        if one.name not in EACH
        and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
        and (one.kind is one.KEYWORD_ONLY or position >= len(_POSITIONAL))
    ]


# Calling ------------------------------------------------------------------------------------------


def ask(name: str, user: UserReward, asked: Sequence[Asked], problem: Problem, step: int) -> list[Value]:
    """Return what a function says of each completion of a group, in order; raises nothing of its own."""
    if user.takes_group:
        return _ask_for_group(name, user, asked, problem, step)
    returned: list[Any] = []
    for one in asked:
        with Caught() as caught:
            returned.append(_call_for_one(user, one, problem, step))
        if caught.error is not None:
            returned.append(_failure(name, user, caught.error))
    return [_value(name, user, one) for one in _settled(name, user, returned)]


def _ask_for_group(
    name: str, user: UserReward, asked: Sequence[Asked], problem: Problem, step: int
) -> list[Value]:
    returned: Any = None
    with Caught() as caught:
        (returned,) = _settled(name, user, [user.function(**_group_arguments(user, asked, problem, step))])
        if not isinstance(returned, RewardFailure):
            returned = _spread(returned, len(asked))
    if caught.error is not None:
        returned = _failure(name, user, caught.error)
    if isinstance(returned, RewardFailure):
        return [returned] * len(asked)
    return [_value(name, user, one) for one in returned]


def _call_for_one(user: UserReward, one: Asked, problem: Problem, step: int) -> Any:
    facts: dict[str, Any] = {
        "completion": one.completion,
        "answer": one.answer,
        "problem": facts_of(problem),
        "prompt": problem.prompt,
        "completion_ids": list(one.completion_ids),
        "num_tokens": one.num_tokens,
        "truncated": one.is_truncated,
        "step": step,
    }
    if user.parameters is None:
        return user.function(*(facts[key] for key in _POSITIONAL))
    is_by_name = any(parameter.name in facts for parameter in user.parameters)
    positional, named = list[Any](), dict[str, Any]()
    for position, parameter in enumerate(user.parameters):
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += [facts[key] for key in _POSITIONAL[position:]]
        elif parameter.kind is parameter.VAR_KEYWORD:
            named |= {key: value for key, value in facts.items() if key not in _names(user.parameters)}
        elif parameter.kind is parameter.KEYWORD_ONLY:
            named |= {parameter.name: facts[parameter.name]} if parameter.name in facts else {}
        elif len(positional) == position:  # none before it was left to its default
            if parameter.name in facts:
                positional.append(facts[parameter.name])
            elif position < len(_POSITIONAL) and not (
                is_by_name and parameter.default is not parameter.empty
            ):
                positional.append(facts[_POSITIONAL[position]])
        elif parameter.name in facts:
            named[parameter.name] = facts[parameter.name]
    return user.function(*positional, **named)


def _names(parameters: Iterable[inspect.Parameter]) -> set[str]:
    return {one.name for one in parameters}


def facts_of(problem: Problem) -> dict[str, Any]:
    """Return a problem as functions see it: its fields, and all columns of its row, by name and as `row`."""
    own = {
        "id": problem.id,
        "family": problem.family,
        "level": problem.level,
        "language": problem.language,
        "prompt": problem.prompt,
        "spec": dict(problem.spec),
        "row": dict(problem.row),
    }
    return {**problem.row, **own}


def _group_arguments(user: UserReward, asked: Sequence[Asked], problem: Problem, step: int) -> dict[str, Any]:
    """Return the arguments of a call for a whole group; columns of the row are lists, as in TRL.

    Where a column has the name of a fact, `**kwargs` tells TRL's signature, in which it is the column.
    """
    columns = {key: [value] * len(asked) for key, value in (problem.row or problem.spec).items()}
    facts: dict[str, Any] = {
        "completions": [one.completion for one in asked],
        "answers": [one.answer for one in asked],
        "problem": facts_of(problem),
        "prompts": [problem.prompt] * len(asked),
        "completion_ids": [list(one.completion_ids) for one in asked],
        "num_tokens": [one.num_tokens for one in asked],
        "truncated": [one.is_truncated for one in asked],
        "step": step,
    }
    conversation = problem.row.get("prompt")
    if user.takes_anything and isinstance(conversation, list):  # in TRL completions are then messages too
        facts["prompts"] = [conversation] * len(asked)
        facts["completions"] = [[{"role": "assistant", "content": one.completion}] for one in asked]
    known = (
        {**facts, **columns, **{key: facts[key] for key in _TRL}} if user.takes_anything else columns | facts
    )
    wanted = [one for one in user.parameters or () if one.kind is not one.VAR_KEYWORD]
    missing = [one.name for one in wanted if one.name not in known and one.default is one.empty]
    if missing:
        raise TypeError(
            f"it asks for {', '.join(map(repr, missing))}; there are {', '.join(facts)}, and of the "
            f"problem's row {', '.join(columns) or 'no column'}"
        )
    if user.takes_anything:
        return {key: value for key, value in known.items() if key.isidentifier()}
    return {one.name: known[one.name] for one in wanted if one.name in known}


def _spread(returned: Any, number: int) -> list[Any]:
    """Return the values of a whole group; raises TypeError or ValueError for anything else."""
    values = returned.tolist() if hasattr(returned, "tolist") else returned
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise TypeError(
            f"it must return a list of {number} numbers, one per completion, not {_shown(returned)}"
        )
    listed = list(itertools.islice(values, number + 1))
    if len(listed) != number:
        found = "more" if len(listed) > number else len(listed)
        raise ValueError(f"it must return {number} numbers, one per completion, and returned {found}")
    return listed


def _value(name: str, user: UserReward, returned: Any) -> Value:
    if returned is None or isinstance(returned, RewardFailure):
        return returned
    with Caught() as caught:
        return number_of(returned)
    assert caught.error is not None
    return _failure(name, user, caught.error)


def number_of(returned: Any) -> float:
    """Return any real number as a float: int, bool, Fraction, Decimal, scalars of numpy and torch.

    Raises TypeError for what is not a number, ValueError for what is not finite.
    """
    value = returned.item() if hasattr(returned, "item") else returned
    if isinstance(value, str | bytes) or not isinstance(value, SupportsFloat):
        raise TypeError(f"a reward must be a finite number or None, not {_shown(returned)}")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError("a reward must be a finite number; this one is too large for a float") from error
    if not math.isfinite(number):
        raise ValueError(f"a reward must be a finite number, not {number}")
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


# What the user's code raises ----------------------------------------------------------------------


def _failure(name: str, user: UserReward, error: BaseException) -> RewardFailure:
    path = user.reference.rpartition(":")[0]
    return RewardFailure(
        name=name,
        reason=f"{user.reference} failed: {_described(error, path)}",
        kind=type(error).__name__,
        traceback="".join(traceback.format_exception(error)),
    )


def _described(error: BaseException, path: str) -> str:
    """Return an exception as one line, with the last line of the user's file that it went through."""
    text = ""
    with Caught():  # an exception of the user's may fail to say what it is
        text = " ".join(str(error).split())
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).absolute() == Path(path).absolute()
    ]
    where = f" at {path}:{lines[-1]}" if lines else ""
    return f"{type(error).__name__}{f': {text[:200]}' if text else ''}{where}"


# Functions that are awaited -----------------------------------------------------------------------


def _settled(name: str, user: UserReward, returned: list[Any]) -> list[Any]:
    """Wait for what is awaitable among results, all at once; the others are as they are."""
    if not any(inspect.isawaitable(one) for one in returned):
        return returned

    async def settle(one: Any) -> Any:
        if not inspect.isawaitable(one):
            return one
        with Caught() as caught:
            return await one
        assert caught.error is not None
        return _failure(name, user, caught.error)

    async def settle_all() -> list[Any]:
        return await asyncio.gather(*map(settle, returned))

    return asyncio.run_coroutine_threadsafe(settle_all(), _loop()).result()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of all awaited functions, in a thread of its own.

    One for the whole process, since clients that a user's file keeps belong to the loop of their first call;
    and not the caller's, which in a notebook runs already.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="reward functions", daemon=True).start()
    return loop
