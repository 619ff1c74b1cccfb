"""Every error that zerone raises on purpose, one sentence each.

Each class is also the builtin that a caller would expect to catch, and carries the exit code that
the command line uses: 2 for what the user can mend, 1 for what went wrong while working.
"""

from types import TracebackType


class ZeroneError(Exception):
    """The root: the message says what was given and how to mend it."""

    exit_code = 1


class UserError(ZeroneError):
    """Something the user gave cannot be used; nothing has been started or written."""

    exit_code = 2


class ConfigError(UserError, ValueError):
    """An option is unknown, of the wrong type, or impossible beside another one."""


class DataError(UserError, ValueError):
    """A problem file is missing or malformed; the message names the file and the line."""


class ModelError(UserError, ValueError):
    """A model directory lacks a part or has an architecture that cannot be used."""


class RunDirError(UserError, OSError):
    """A run directory is in use, belongs to another configuration, or cannot be written."""


class FileError(RunDirError, ValueError):
    """A file cannot be read or written, or does not hold what such a file holds; the message names it."""


class CheckpointError(ZeroneError, OSError):
    """A checkpoint cannot be written or is damaged; earlier checkpoints are untouched."""


class TrainingError(ZeroneError, ArithmeticError):
    """Training cannot go on (a loss that is not finite, a sampler that disagrees with the trainer)."""


class EngineError(ZeroneError, RuntimeError):
    """An inference engine ended, hangs, or samples other weights than it was given; the run is resumable."""


class ExportError(UserError, OSError):
    """A model cannot be written in the wanted form, or not to the wanted place."""


class RankError(ZeroneError, RuntimeError):
    """A process of a training on several ranks is missing, unlike the others, lost, or failed."""


class Interrupted(ZeroneError):
    """The user asked for a stop; the run is saved and `--resume` goes on."""

    exit_code = 130


class VerifierError(ZeroneError, RuntimeError):
    """A verifier itself failed (a worker cannot start or dies); never the fault of an answer."""


class SandboxError(ZeroneError, OSError):
    """The sandbox itself failed; the program that it should run is neither right nor wrong."""


class SandboxUnavailable(SandboxError, UserError):
    """No isolation is to be had here; the message says how to enable it. Nothing was run."""


class EndpointError(ZeroneError, ConnectionError):
    """A model behind HTTP does not answer, however often it is asked; what it answered before is kept."""


class RequestRefused(EndpointError):
    """An endpoint refuses one request (too long, say) and may answer others."""


class EndpointUnusable(EndpointError, UserError):
    """An endpoint cannot be used as it was named: wrong address, model or key."""


class TooFewSamplesError(ZeroneError, ValueError):
    """Too few samples are good enough to learn from; the message counts the others by reason."""


class Caught:
    """Takes what code that is not ours raises, in `error`; only an interruption (Ctrl-C) goes on.

    For two kinds of code alone, which may raise anything and must not end a run: reward functions of the
    user's (rewards/user.py), and the packages of trackers, in their own process (trackers/worker.py).
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> "Caught":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> bool:
        self.error = error if isinstance(error, Exception | SystemExit) else None
        return self.error is not None
