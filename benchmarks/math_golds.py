"""Share of published gold answers that are judged correct against themselves, by zerone and by math-verify.

    python benchmarks/math_golds.py DATA.jsonl... [--limit N] [--seconds 3] [--json OUT]

In: files of problems as they are published (`answer`, or `final_answer` as OlympiadBench has it). Each gold
stands in a box at the end of a sentence, as a model would write it, and is judged against itself. Two
more columns say what the share is made of: how many golds can be read, so that other spellings can be
judged too (`check_gold`), and how many answers of the next row are called correct, which a verifier that
calls everything correct would show. Math-verify runs `parse` and `verify` with its time limits, as its
documentation has it. Verdicts per second are those of `math_verdicts.py`.
"""

import argparse
import itertools
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from math_verdicts import judged, numeric_pairs, rate, symbolic_pairs
from zerone.rewards.math.extraction import extract_math_answer
from zerone.rewards.math.verifier import check_gold, verify_math, warm_up
from zerone.types import Outcome

Judge = Callable[[str, str], bool]


def golds_of(path: Path, limit: int | None) -> list[str]:
    """Return the gold answers of a file; several of one problem are a list."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:limit]]
    return [_gold(row) for row in rows]


def _gold(row: dict[str, Any]) -> str:
    if "final_answer" in row:
        return ", ".join(row["final_answer"])
    return str(row["answer"]).rpartition("####")[2].strip()


def completion_of(gold: str) -> str:
    """Return a completion that gives a gold answer in a box, without the dollar signs around all of it."""
    text = gold.strip()
    if text.count("$") == 2 and text.startswith("$") and text.endswith("$"):
        text = text[1:-1]
    return f"The answer is $\\boxed{{{text}}}$."


def judged_by_zerone(gold: str, completion: str) -> bool:
    answer = extract_math_answer(completion)
    return answer is not None and verify_math(answer, {"answer": gold}).outcome is Outcome.CORRECT


def judged_by_math_verify(gold: str, completion: str) -> bool:
    from math_verify import parse, verify

    return bool(verify(parse(gold if "$" in gold else f"${gold}$"), parse(completion)))


def measure(golds: Sequence[str], judge: Judge) -> tuple[int, int]:
    """Return how many golds are correct against themselves, and how many against the next row's."""
    pairs = zip(golds, [*golds[1:], golds[0]], strict=True)
    own = sum(judge(gold, completion_of(gold)) for gold in golds)
    return own, sum(judge(gold, completion_of(other)) for gold, other in pairs if gold != other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="files of problems")
    parser.add_argument("--limit", type=int, help="rows of each file")
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement of speed")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    logging.disable()
    warm_up()
    figures: dict[str, dict[str, float]] = {}
    for path in options.data:
        golds = golds_of(path, options.limit)
        readable = sum(check_gold(gold) is None for gold in golds)
        (ours, our_next), (theirs, their_next) = (
            measure(golds, judge) for judge in (judged_by_zerone, judged_by_math_verify)
        )
        total = len(golds)
        figures[path.stem] = {
            "rows": total,
            "readable": readable / total,
            "zerone": ours / total,
            "math_verify": theirs / total,
            "zerone_next": our_next,
            "math_verify_next": their_next,
        }
        print(f"{path.stem}: {total} golds, {readable / total:.1%} readable")
        print(f"  themselves:     zerone {ours / total:.1%}, math-verify {theirs / total:.1%}")
        print(f"  the next row's: zerone {our_next}, math-verify {their_next}", flush=True)
    for kind, pairs, threads in (("numeric", numeric_pairs, 1), ("symbolic", symbolic_pairs, 4)):
        rate(judged, itertools.islice(pairs(), 10_000), 0.5, threads)
        speed, right = rate(judged, pairs(), options.seconds, threads)
        figures[kind] = {"verdicts_per_second": speed, "as_known": right}
        print(f"{kind}: zerone {speed:,.0f} verdicts/s ({right:.1%} as known)")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
