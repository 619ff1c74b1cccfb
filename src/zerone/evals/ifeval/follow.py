"""Strict and loose verdicts on a response, instruction by instruction.

In: a response and its instructions. Out: for each whether it was followed; strictly, as it stands, or
loosely, in any of eight variants that forgive an introduction, a closing line and bold type.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

from zerone.evals.ifeval.checkers import INSTRUCTIONS
from zerone.intervals import ratio_with_interval, share_with_interval


def follow_all(
    text: str, instructions: Sequence[str], kwargs: Sequence[Mapping[str, Any]]
) -> tuple[list[bool], list[bool]]:
    """Return the strict and the loose verdict on each instruction."""
    variants = loose_variants(text)
    pairs = list(zip(instructions, kwargs, strict=True))
    strict = [is_followed(text, name, given) for name, given in pairs]
    loose = [
        is_strict or any(is_followed(variant, name, given) for variant in variants)
        for is_strict, (name, given) in zip(strict, pairs, strict=True)
    ]
    return strict, loose


def is_followed(text: str, name: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether a response follows an instruction; an empty one follows none."""
    instruction = INSTRUCTIONS[name]
    given = {argument: kwargs[argument] for argument in instruction.needs}
    return bool(text.strip()) and instruction.check(text, **given)


def loose_variants(text: str) -> list[str]:
    """Return the response without its first line, its last, both, neither; each also without asterisks."""
    lines = text.split("\n")
    cut = ["\n".join(lines[first : len(lines) - last]).strip() for first, last in product((0, 1), (0, 1))]
    return [text, *cut[1:], *(variant.replace("*", "") for variant in [text, *cut[1:]])]


def instruction_figures(answers: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the four published figures from the details of the judged responses to each prompt.

    By prompt: all instructions followed; by instruction: each for itself. Each has its 95% interval over
    prompts, since the instructions of one prompt are followed or not together.
    """
    found: dict[str, Any] = {}
    for kind in ("strict", "loose"):
        given = [flags for own in answers if (flags := [one[kind] for one in own if kind in one])]
        if not given:
            continue
        prompts = share_with_interval([fmean(map(all, own)) for own in given])
        # A prompt weighs by its instructions, not by how many of its samples the endpoint refused.
        instructions = ratio_with_interval(
            [fmean(map(sum, own)) for own in given], [float(len(own[0])) for own in given]
        )
        for name, (value, interval) in (("prompt", prompts), ("instruction", instructions)):
            found |= {f"{name}_{kind}": value, f"{name}_{kind}_ci": list(interval)}
    return found
