"""Cold start: a small data set of readable long thoughts for the base model (R1 paper, 2.3.1 and B.3.2).

In: an R1-Zero model, a base model, problems. Out: a JSONL for `zerone sft`, few and good, with its
data card. The paper's three sources: R1-Zero's own answers at temperature 1, few-shot prompting with
long worked examples, and designed complex cases. What is correct and readable is rewritten into
first-person thoughts and a summary, and judged again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from zerone.curation.assembly import Piece, Rules, assemble, pieces_of
from zerone.curation.designed import DESIGNED, designed_problems, draw_designed
from zerone.curation.drafts import hash_of
from zerone.curation.few_shot import FEW_SHOT, ExamplesFor, FewShotDraw
from zerone.curation.sampler import ZERO, ModelAtWork, ModelDraw
from zerone.problems.mixture import Family
from zerone.prompts.r1 import Style
from zerone.types import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """What a cold start is made of; a source without a model, or of 0 cases, is left out.

    `style` is that of the result; R1-Zero answers in the prompt it was trained in, the base in plain text.
    """

    problems: Sequence[Problem]
    zero: ModelDraw | None
    base: ModelAtWork | None
    examples_for: ExamplesFor
    num_samples: int
    num_designed: int
    designed_families: Sequence[Family]
    style: Style
    seed: int


def build_cold_start(
    work: ColdStart,
    path: Path,
    rules: Rules,
    count_tokens: Callable[[str], int],
    made_by: Mapping[str, Any],
    show: Callable[[float, str], None] = lambda share, line: None,
) -> dict[str, Any]:
    """Write the data set and return its card: counts by source, domain and reason, seeds, hashes.

    `made_by` says what cannot be seen here: which refiner and judge the rules hold.
    Raises TooFewSamplesError with the counts; killed, the same call goes on where it was.
    """
    identity = {
        "what": "cold start",
        **made_by,
        **({} if work.zero is None else {f"zero_{key}": it for key, it in work.zero.identity().items()}),
        "base_sha256": None if work.base is None else work.base.sha256,
        "problems": len(work.problems),
        "problems_hash": hash_of(work.problems),
        "samples_per_problem": work.num_samples,
        "designed": work.num_designed,
        "designed_families": [family.FAMILY for family in work.designed_families],
        "style": work.style.value,
        "seed": work.seed,
    }
    return assemble(path, identity, _pieces(work), rules, count_tokens, show)


def _pieces(work: ColdStart) -> list[Piece]:
    """Return the work, source by source."""
    pieces = list[Piece]()
    if work.zero is not None:
        pieces += pieces_of(ZERO, work.problems, work.zero)
    if work.base is not None:
        few_shot = FewShotDraw(
            model=work.base, examples_for=work.examples_for, num_samples=work.num_samples, seed=work.seed
        )
        pieces += pieces_of(FEW_SHOT, work.problems, few_shot)
    designed = designed_problems(work.num_designed, work.seed, work.designed_families)
    draw_cases = partial(draw_designed, seed=work.seed, style=Style.TAGS)
    return pieces + pieces_of(DESIGNED, designed, draw_cases)
