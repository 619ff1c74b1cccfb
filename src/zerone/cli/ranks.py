"""A command under torchrun: rank 0 runs it, the other ranks do their part and say nothing.

In: the environment of torchrun. An error of any rank is rank 0's to show; the others end without a word,
with 0, so that torchrun waits for rank 0 to save and to say why.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from zerone.errors import ConfigError

COMMANDS = ("zero", "sft", "distill", "r1")
"""What trains on several ranks."""


def run_ranked(command: Callable[[], None]) -> None:
    """Run a command at rank 0 and follow its orders at the others; where there is one process, run it."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each slice of a wait would be logged
    from zerone.processes.ranks import started_ranks

    ranks = started_ranks()
    if ranks.size == 1 or (ranks.is_first and not _trains(sys.argv[1:])):
        command()
        return
    from zerone.jobs.ranked import Rank, about_this_rank, leading
    from zerone.processes.orders import Cut, follow, join

    if ranks.is_first:
        with leading(join(ranks, about_this_rank())):
            command()
    elif _command_of(sys.argv[1:]) in COMMANDS:  # else rank 0 says why not
        with suppress(Cut):
            follow(join(ranks, about_this_rank()), Rank().actions())


def _command_of(arguments: list[str]) -> str | None:
    """Return the name of the command, None where help is asked for."""
    if {"--help", "--version"} & {*arguments}:
        return None
    return next((word for word in arguments if not word.startswith("-")), None)


def _trains(arguments: list[str]) -> bool:
    """Whether the command trains; raises ConfigError for one that does other long work."""
    asked = _command_of(arguments)
    if asked is None:
        return False
    if asked not in COMMANDS:
        raise ConfigError(
            f"`zerone {asked}` works in one process; start it without torchrun, which is for "
            f"{', '.join(COMMANDS)}"
        )
    return True
