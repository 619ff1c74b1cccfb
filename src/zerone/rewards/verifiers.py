"""Which verifier has which name: the cheap ones at once, those with a process behind them when asked.

In: a name. Out: a function from an answer and a `spec` to a verdict. Importing this module starts
nothing and loads neither sympy nor the sandbox.
"""

import re
import struct
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from zerone.prompts.r1 import last_answer, parse_completion, split_reasoning
from zerone.rewards.accuracy import VERIFIERS, Verifier, choices_of

NAMES = (*VERIFIERS, "math", "code", "judge")

FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
    re.error,
    struct.error,
    subprocess.SubprocessError,
)
"""What a verifier or a function of the user's may raise without stopping the run: the sample is left
out of training and counted. Sandbox and worker failures are among them (OSError, RuntimeError)."""


def verifier_named(name: str) -> Verifier:
    """Return a verifier; raises LookupError for a name that is not one of NAMES."""
    if name in VERIFIERS:
        return VERIFIERS[name]
    try:
        if name == "math":
            from zerone.rewards.math.verifier import verify_math

            return verify_math
        if name == "code":
            from zerone.rewards.code import verify_code

            return verify_code
        if name == "judge":
            from zerone.rewards.judge import verify_judge

            return verify_judge
    except ImportError as error:
        raise LookupError(f"the verifier {name!r} cannot be loaded: {error}") from error
    raise LookupError(f"no verifier is named {name!r}; there are {', '.join(NAMES)}")


def prepare_verifiers(names: Iterable[str]) -> None:
    """Make sure that what these verifiers need is to be had; raises SandboxUnavailable if it is not.

    To be called before any long work: a verifier that fails is no error later, only an outcome.
    """
    if "code" in names:
        from zerone.rewards.code import prepare_code

        prepare_code()


def answer_for(name: str, completion: str, spec: Mapping[str, Any] | None = None) -> str | None:
    """Return what a verifier is given of a completion whose style is not known.

    The last block or box outside the reasoning, which `math` finds by rules of its own; for a choice
    also what is stated in prose, by the `choices` of its `spec`; for code the last block, or else all that
    is said outside the reasoning.
    """
    if name == "choice":
        from zerone.rewards.choice_extraction import find_choice

        said = split_reasoning(completion).answer
        return None if said is None else find_choice(said, choices_of(spec or {}))
    if name == "math":
        from zerone.rewards.math.extraction import extract_math_answer

        return extract_math_answer(completion)
    if name == "code":
        block = parse_completion(completion).answer
        return split_reasoning(completion).answer if block is None else block
    return last_answer(completion)
