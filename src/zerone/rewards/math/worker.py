"""The worker process of the mathematics verifier: reads requests, judges by sympy, answers.

In: JSON lines `{"gold": ..., "answer": ...}` on standard input. Out: one JSON line per request,
`{"outcome": ...}`, after a first line `{"ready": true}`. It is a process so that it can be killed:
neither a signal nor a thread stops sympy in the middle of a large number. It limits its own memory
and, anew for each request, its own processor time, so that it ends even if nobody is left to kill it.
"""

import json
import math
import resource
import sys

from zerone.rewards.math.answers import read_answer, read_gold
from zerone.rewards.math.comparison import is_same
from zerone.rewards.math.terms import Unreadable
from zerone.types import Outcome

_RECURSION = 20_000
_SELF_TEST = (r"\sin^2 x + \cos^2 x", "1", r"\sin x", r"\cos x")


def main() -> None:
    """Serve until standard input ends; arguments: memory in MiB, processor seconds per request."""
    memory_mib, seconds = int(sys.argv[1]), float(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    sys.setrecursionlimit(_RECURSION)
    try:
        from zerone.rewards.math import symbolic as math_symbolic
    except ImportError as error:
        _say({"failed": f"{error}; install math-verify>=0.9,<0.10"})
        return
    judge = math_symbolic.SymbolicJudge()

    def decide(gold: str, answer: str) -> Outcome:
        try:
            gold_reading = read_gold(gold)
        except Unreadable:
            return Outcome.INFRASTRUCTURE_ERROR
        try:
            right = is_same(gold_reading, read_answer(answer), judge)
        except Unreadable:
            return Outcome.UNPARSABLE
        except math_symbolic.GoldUnreadable:
            return Outcome.INFRASTRUCTURE_ERROR
        except (MemoryError, RecursionError):
            return Outcome.TIMEOUT
        except math_symbolic.FAILURES:
            return Outcome.INFRASTRUCTURE_ERROR
        return Outcome.CORRECT if right else Outcome.WRONG

    first, same, one, other = _SELF_TEST
    if (decide(first, same), decide(one, other)) != (Outcome.CORRECT, Outcome.WRONG):
        _say({"failed": "sympy and math-verify do not judge as they should; check their versions"})
        return
    _say({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        _limit_time(seconds)
        _say({"outcome": decide(request["gold"], request["answer"])})


def _limit_time(seconds: float) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + seconds) + 1, resource.RLIM_INFINITY))


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
