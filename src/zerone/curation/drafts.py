"""What curation passes on: a problem's answer before and after it is kept.

In: completions of a sampler or of a procedure. Out: `Draft`, and the line of a data set that a kept
one becomes, which `zerone sft` reads.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerone.prompts.r1 import Style
from zerone.seeding import seed_from
from zerone.types import Problem

GENERAL = "general"
_DOMAINS = {"code": "code", "choice": "stem", "exact": "logic", "judge": GENERAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An answer that may be kept: who wrote it, the how manieth of its prompt, and in which style.

    `is_cut` says that it ran out of room.
    """

    problem: Problem
    source: str
    number: int
    text: str
    style: Style
    is_cut: bool = False


Draw = Callable[[Sequence[Problem]], list[list[Draft]]]
"""Answers each problem; the drafts of a problem depend on the problem and on nothing beside it."""

Refine = Callable[[Sequence[Draft]], list[Draft | None]]
"""Rewrites drafts for readers, in order; None for one that it cannot rewrite."""


def domain_of(problem: Problem) -> str:
    """Return the row of the paper's Table 5 that a problem counts for: by who judges it."""
    return _DOMAINS.get(problem.verifier, "math")


def record_of(draft: Draft, num_tokens: int) -> dict[str, Any]:
    """Return the line of the data set; what SFT reads comes first."""
    problem = draft.problem
    return {
        "prompt": problem.prompt,
        "completion": draft.text,
        "id": problem.id,
        "family": problem.family,
        "level": problem.level,
        "language": problem.language,
        "domain": domain_of(problem),
        "source": draft.source,
        "sample": draft.number,
        "style": draft.style.value,
        "rounds": 1,
        "tokens": num_tokens,
    }


def is_record(value: object) -> bool:
    """Whether a value read from a file is a line as `record_of` makes it, as far as resuming needs."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("prompt"), str)
        and isinstance(value.get("completion"), str)
        and isinstance(value.get("domain"), str)
        and isinstance(value.get("tokens"), int)
    )


def hash_of(problems: Sequence[Problem]) -> str:
    """Return a short hash of which problems these are, and of how their answers are judged."""
    texts = (
        text
        for p in problems
        for text in (p.id, p.prompt, p.verifier, json.dumps(dict(p.spec), sort_keys=True, default=str))
    )
    return f"{seed_from(*texts):016x}"
