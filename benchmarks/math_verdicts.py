"""Mathematical verdicts per second on two cores, and the ratio to bare math-verify.

    python benchmarks/math_verdicts.py [--seconds 3] [--json OUT]

Numeric: gold answers and answers as published sets have them (whole numbers, decimals, fractions,
boxes), all different, so that no cache helps. Symbolic: pairs that exact arithmetic cannot decide,
asked from four threads, judged by two workers. Math-verify runs `parse` and `verify` on the same
pairs in one process without its time limit, which is its fastest use; twice its rate is what two
such processes could reach. Every verdict is checked against the known one.
"""

import argparse
import itertools
import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zerone.rewards.math.verifier import verify_math, warm_up
from zerone.types import Outcome

Pair = tuple[str, str, bool]


def numeric_pairs() -> Iterator[Pair]:
    """Yield (answer, gold, is right) without end; three in four are right."""
    draw = random.Random(0)
    for number in itertools.count(1):
        whole, bottom = draw.randrange(10**6), draw.randrange(2, 1000)
        is_right = number % 4 != 0
        given = whole if is_right else whole + 1
        yield [
            (str(given), str(whole), is_right),
            (str(given), str(whole), is_right),
            (f"{given:,}", str(whole), is_right),
            (f"${given}$", str(whole), is_right),
            (rf"\boxed{{{given}}}", str(whole), is_right),
            (f"{given / 8}", rf"\frac{{{whole}}}{{8}}", is_right),
            (rf"\frac{{{given}}}{{{bottom}}}", f"{whole}/{bottom}", is_right),
            (f"{given}.50", f"{whole}.5", is_right),
        ][number % 8]


def symbolic_pairs() -> Iterator[Pair]:
    """Yield pairs with logarithms, roots, sines and exponentials without end."""
    for a in itertools.count(2):
        b, is_right = a % 7 + 2, a % 4 != 0
        c = a if is_right else a + 1
        yield [
            (rf"\ln {c**3}", rf"3\ln {a}", is_right),
            (rf"\sqrt{{{c * c + b}+{2 * c}\sqrt{{{b}}}}}", rf"{a}+\sqrt{{{b}}}", is_right),
            (rf"2\sin({c}x)\cos({c}x)", rf"\sin({2 * a}x)", is_right),
            (rf"e^{{{c}x}}e^{{{b}y}}", rf"e^{{{a}x+{b}y}}", is_right),
            (rf"{c}^{{1/3}}", rf"\sqrt[3]{{{a}}}", is_right),
            (rf"\log_{{{b}}} {c}", rf"\frac{{\ln {a}}}{{\ln {b}}}", is_right),
        ][a % 6]


def judged(pair: Pair) -> bool:
    answer, gold, _ = pair
    return verify_math(answer, {"answer": gold}).outcome is Outcome.CORRECT


def judged_by_math_verify(pair: Pair) -> bool:
    from math_verify import parse, verify

    answer, gold, _ = pair
    text = answer if "$" in answer or "boxed" in answer else f"${answer}$"
    one = parse(f"${gold}$", parsing_timeout=None)
    return bool(verify(one, parse(text, parsing_timeout=None), timeout_seconds=None))


def rate(
    judge: Callable[[Pair], bool], pairs: Iterator[Pair], seconds: float, threads: int = 1
) -> tuple[float, float]:
    """Return verdicts per second, without the time to write the pairs, and the share that is right."""
    num_done = num_right = 0
    spent = 0.0
    with ThreadPoolExecutor(threads) as pool:
        while spent < seconds:
            batch = list(itertools.islice(pairs, 64 * threads))
            start = time.perf_counter()
            found = [judge(pair) for pair in batch] if threads == 1 else list(pool.map(judge, batch))
            spent += time.perf_counter() - start
            num_right += sum(right is pair[2] for right, pair in zip(found, batch, strict=True))
            num_done += len(batch)
    return num_done / spent, num_right / num_done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    logging.disable()
    warm_up()
    figures = {}
    for kind, pairs, threads in (("numeric", numeric_pairs, 1), ("symbolic", symbolic_pairs, 4)):
        rate(judged, pairs(), 0.5, threads)
        rate(judged_by_math_verify, pairs(), 0.5)
        ours, right = rate(judged, pairs(), options.seconds, threads)
        theirs, their_right = rate(judged_by_math_verify, pairs(), options.seconds)
        figures[kind] = {"zerone": ours, "right": right, "math_verify": theirs, "its_right": their_right}
        print(
            f"{kind:8} zerone {ours:9,.0f}/s ({right:.1%} as known)   "
            f"math-verify, one process {theirs:7,.0f}/s ({their_right:.1%})   ratio {ours / theirs:.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
