"""Rejection sampling: SFT data from a model's own right answers (R1 paper, 2.3.3 and B.3.3).

In: a model after reasoning RL, problems of reasoning and general ones. Out: a JSONL for `zerone sft`
with its data card: n answers per prompt, those kept that are right and readable, capped per prompt,
reasoning and general data mixed at no more than the given ratio.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from zerone.corpus.documents import SOLUTIONS
from zerone.curation.assembly import Rules, assemble, pieces_of
from zerone.curation.designed import DESIGNED, draw_designed
from zerone.curation.drafts import GENERAL, domain_of, hash_of
from zerone.curation.sampler import ModelDraw
from zerone.seeding import rng_from
from zerone.types import Problem


def sample_and_filter(
    draw: ModelDraw,
    problems: Sequence[Problem],
    path: Path,
    rules: Rules,
    made_by: Mapping[str, Any],
    show: Callable[[float, str], None] = lambda share, line: None,
) -> dict[str, Any]:
    """Write the data set and return its card: counts by domain and reason, Table 5, seeds, hashes.

    General problems are answered by the procedure of the corpus as well, where it can: the paper
    takes general data from elsewhere, since a model trained on reasoning alone has none to give.
    Where no problem is general there is no mix to keep, and all reasoning is taken.
    Raises TooFewSamplesError with the counts; killed, the same call goes on where it was.
    """
    general = [problem for problem in problems if domain_of(problem) == GENERAL]
    # Shuffled, so that a mix that is full before the end takes of every family.
    reasoning = [problem for problem in problems if domain_of(problem) != GENERAL]
    rng_from(draw.seed, "order of problems").shuffle(reasoning)
    if not general and rules.ratio is not None:
        rules = replace(rules, ratio=None)
    identity = {
        "what": "rejection sampling",
        **made_by,
        **draw.identity(),
        "problems": len(problems),
        "problems_hash": hash_of(problems),
    }
    solved = [problem for problem in general if problem.family in SOLUTIONS]
    designed = partial(draw_designed, seed=draw.seed, style=draw.style)
    pieces = [
        *pieces_of(draw.source, general, draw),
        *pieces_of(DESIGNED, solved, designed),
        *pieces_of(draw.source, reasoning, draw),
    ]
    return assemble(path, identity, pieces, rules, draw.model.count_tokens, show)
