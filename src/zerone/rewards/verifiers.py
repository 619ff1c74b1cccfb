"""Which verifier has which name: the cheap ones at once, those with a process behind them when asked.

In: a name. Out: a function from an answer and a `spec` to a verdict. Importing this module starts
nothing and loads neither sympy nor the sandbox.
"""

from zerone.rewards.accuracy import VERIFIERS, Verifier

NAMES = (*VERIFIERS, "math", "code")


def verifier_named(name: str) -> Verifier:
    """Return a verifier; raises LookupError for a name that is not one of NAMES."""
    if name in VERIFIERS:
        return VERIFIERS[name]
    try:
        if name == "math":
            from zerone.rewards.math import verify_math

            return verify_math
        if name == "code":
            from zerone.rewards.code import verify_code

            return verify_code
    except ImportError as error:
        raise LookupError(f"the verifier {name!r} cannot be loaded: {error}") from error
    raise LookupError(f"no verifier is named {name!r}; there are {', '.join(NAMES)}")
