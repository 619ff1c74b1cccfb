"""What goes into an executor and what comes back, local or remote.

A `Job` holds a program and the inputs of its tests, never their expected values, so nothing that
runs inside can know or print the right answer. An `Execution` is data to be judged outside.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from zerone.errors import SandboxError
from zerone.sandbox.values import MAX_WEIGHT, weigh

MIB = 1 << 20


class Kind(StrEnum):
    """How the items of a job are run.

    CALL: each item is the list of arguments of one call of `entry`. EXPRESSION: each item is an
    expression, evaluated among the program's names. STDIN: each item is the standard input of one
    run of the whole program.
    """

    CALL = "call"
    EXPRESSION = "expression"
    STDIN = "stdin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one candidate may use, over all its tests and processes.

    `wall_s` counts from the delivery of the program. `output_bytes` bounds standard output,
    standard error and the returned values, each. `file_bytes` bounds one file, `scratch_bytes` all
    of `/tmp`.
    """

    memory_bytes: int = 256 * MIB
    wall_s: float = 10.0
    processes: int = 32
    output_bytes: int = MIB
    file_bytes: int = 16 * MIB
    scratch_bytes: int = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A program with the inputs of its tests (JSON values only).

    `prelude` runs before the program, `setup` after it. `as_function`: a whole program may end by a
    `return` or by an exit with any code. `test_s` are the seconds of one test; None: no limit of its own.
    """

    kind: Kind
    source: str
    items: tuple[Any, ...]
    entry: str = ""
    setup: str = ""
    prelude: str = ""
    as_function: bool = False
    test_s: float | None = None


class Ending(StrEnum):
    """How a candidate's time in the sandbox ended.

    DONE: the driver reported every test. EXITED: the process ended before that.
    """

    DONE = "done"
    EXITED = "exited"
    TIMEOUT = "timeout"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    VIOLATION = "sandbox_violation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What came back: `results` are the driver's lines as they came, still untrusted.

    `judge_s` is processor time of this process, spent on watching and reading.
    """

    ending: Ending
    exit_code: int | None
    results: tuple[str, ...]
    stdout: str
    stderr: str
    wall_s: float
    peak_bytes: int | None
    backend: str
    judge_s: float = 0.0


class Executor(Protocol):
    """Runs a job under limits; raises `SandboxError` when it cannot, never a verdict in its stead."""

    def execute(self, job: Job, limits: Limits) -> Execution:
        """Run a job and return what came back."""
        ...


def write_request(job: Job, limits: Limits) -> str:
    """Return a job with its limits as one line of JSON."""
    return json.dumps({"job": asdict(job), "limits": asdict(limits)})


def read_request(text: str) -> tuple[Job, Limits]:
    """Read what `write_request` wrote; raise ValueError, TypeError or LookupError for anything else."""
    request = json.loads(text)
    job = request["job"]
    return (
        Job(**{**job, "kind": Kind(job["kind"]), "items": tuple(job["items"])}),
        Limits(**request["limits"]),
    )


def write_execution(execution: Execution) -> str:
    """Return an execution as one line of JSON."""
    return json.dumps(asdict(execution))


def read_execution(text: str, backend: str | None = None) -> Execution:
    """Read what an executor answered, which may be another program's answer: every field is checked.

    Raise `SandboxError` for anything that is not an execution.
    """
    if weigh(text) > MAX_WEIGHT:
        raise SandboxError(f"the executor's reply is not an execution, too many values: {text[:200]!r}")
    try:
        fields: Mapping[str, Any] = json.loads(text)
        execution = Execution(
            ending=Ending(fields["ending"]),
            exit_code=None if fields["exit_code"] is None else int(fields["exit_code"]),
            results=tuple(str(line) for line in fields["results"]),
            stdout=str(fields["stdout"]),
            stderr=str(fields["stderr"]),
            wall_s=float(fields["wall_s"]),
            peak_bytes=None if fields["peak_bytes"] is None else int(fields["peak_bytes"]),
            backend=str(fields["backend"]),
        )
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise SandboxError(f"the executor's reply is not an execution ({error!r}): {text[:200]!r}") from error
    return execution if backend is None else replace(execution, backend=backend)
