"""The shipped base on the same held-out problems in two prompts: plain notes and the R1-Zero template.

    OMP_NUM_THREADS=1 python benchmarks/base_in_notes.py [--suite mixed] [--samples 2] [--json OUT]

In: a suite of the embedded world, which pre-training never saw. Out: pass@1 in both, with 95% intervals over
problems, and the interval of their difference. The note is curation's few-shot prompt without an example, as
the corpus writes notes: `Problem: ...` and a new line. Its final answer stands where the corpus puts it:
behind `Result:`, or in the box of `The answer is ...`. Both ways use the same verifiers, temperature 1, and
sampling.max_tokens of the recipe `zero`.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zerone.config.recipes import resolve_config
from zerone.config.sections import ModelConfig
from zerone.corpus.words import WORDS
from zerone.curation.few_shot import few_shot_prompt, read_plain
from zerone.curation.sampler import ModelAtWork, opened_model
from zerone.engine.api import SamplingParams
from zerone.evals.suites import suite_named
from zerone.intervals import mean_with_interval, share_with_interval
from zerone.model.loading import EMBEDDED
from zerone.prompts.r1 import write_completion, write_prompt
from zerone.rewards.total import RewardWeights, grade_all
from zerone.types import Finish, Outcome, Problem

NEXT_NOTE = tuple(f"\n{words.problem}: " for words in WORDS.values())
"""Stop sequences: where the model begins another note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a problem is put to the model, and how what it wrote becomes a completion in the template."""

    name: str
    prompt: Callable[[Problem], str]
    completion: Callable[[Problem, str], str]
    stops: tuple[str, ...] = ()


def completion_of_note(problem: Problem, text: str) -> str:
    """Return a note as reasoning and final answer in tags; a note without a final answer as it is."""
    words = WORDS[problem.language]
    note = text.partition(f"\n{words.problem}: ")[0]
    if (found := read_plain(note, words)) is not None:
        return write_completion(*found)
    before, after = (re.escape(part) for part in words.boxed.format("\n").split("\n"))
    boxed = re.search(f"^(.*)\n{before}([^\n]+){after}\\s*$", note, re.DOTALL)
    return note if boxed is None else write_completion(boxed[1].strip(), boxed[2])


NOTES = Way(
    name="plain notes",
    prompt=lambda p: few_shot_prompt(p, ()),
    completion=completion_of_note,
    stops=NEXT_NOTE,
)
TEMPLATE = Way(
    name="R1-Zero template", prompt=lambda p: write_prompt(p.prompt), completion=lambda _, text: text
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came out of one way: shares of correct completions by problem, and of all completions."""

    correct: Sequence[float]
    unreadable: float
    truncated: float
    tokens: float


def measure(model: ModelAtWork, problems: Sequence[Problem], way: Way, samples: int, seed: int) -> Measured:
    """Sample and grade every problem in one way."""
    requests = [model.request(p, way.prompt(p), seed, way.name, samples) for p in problems]
    correct, unreadable, truncated, tokens = [], 0, 0, 0
    for rollouts in model.answer(requests, way.stops):
        assert rollouts is not None, "a prompt of the embedded world fits"
        written = [replace(r, text=way.completion(r.problem, r.text)) for r in rollouts]
        graded = grade_all(written, RewardWeights())
        correct.append(sum(g.outcome is Outcome.CORRECT for g in graded) / samples)
        unreadable += sum(g.answer is None for g in graded)
        truncated += sum(r.finish is Finish.LENGTH for r in rollouts)
        tokens += sum(len(r.completion_ids) for r in rollouts)
    count = len(problems) * samples
    return Measured(
        correct=correct, unreadable=unreadable / count, truncated=truncated / count, tokens=tokens / count
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--suite", default="mixed")
    parser.add_argument("--problems", type=int, default=None, help="the first so many; all without")
    parser.add_argument("--samples", type=int, default=2, help="completions of each problem")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--model", default=EMBEDDED, help="a transformers directory in place of the shipped base"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()

    config = resolve_config("zero", None, [])
    sampling = SamplingParams(temperature=1.0, max_tokens=config.sampling.max_tokens)
    computed = ModelConfig(precision="fp32", threads=given.threads)
    problems = suite_named(given.suite, given.samples).problems[: given.problems]
    print(f"{len(problems)} problems of the {given.suite} suite x {given.samples}, seed {given.seed}")
    found = {}
    with opened_model(given.model, sampling, config.sampling.slots, computed) as model:
        for way in (NOTES, TEMPLATE):
            began = time.monotonic()
            found[way.name] = measured = measure(model, problems, way, given.samples, given.seed)
            share, (low, high) = share_with_interval(measured.correct)
            print(
                f"{way.name:<17} pass@1 {share:.1%} [{low:.1%}, {high:.1%}], no readable answer "
                f"{measured.unreadable:.1%}, truncated {measured.truncated:.1%}, "
                f"{measured.tokens:.0f} tokens, {time.monotonic() - began:.0f} s"
            )
    pairs = zip(found[NOTES.name].correct, found[TEMPLATE.name].correct, strict=True)
    gap, (low, high) = mean_with_interval([note - template for note, template in pairs])
    print(f"difference        {gap:+.1%} [{low:+.1%}, {high:+.1%}]")
    if given.json is not None:
        rows = {name: share_with_interval(m.correct) for name, m in found.items()}
        given.json.write_text(json.dumps(rows | {"difference": (gap, (low, high))}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
