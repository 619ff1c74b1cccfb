"""Sentences that answer general requests, built from the tables: what may be said, no more.

In: the spec of a request. Out: the full list of right sentences of a kind. The corpus writes them
and the judge compares with them, so both know the same world.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from zerone.problems.request_topics import ACTS, APOLOGIES, REFUSALS
from zerone.problems.request_words import AND, OCCASIONS, RELATIONS

Spec = Mapping[str, Any]

_GREETINGS = {"en": ("{o} {a}!", "{o}, {a}!"), "zh": ("{a}，{o}！", "{o}，{a}！")}
_USES = {"en": ("Use {}.", "Take {}.", "You need {}."), "zh": ("用{}。", "拿{}。", "你要用{}。")}


def greeting_lines(spec: Spec) -> list[str]:
    """Return every way to greet the persons, in any order of names."""
    language = spec["language"]
    return [
        pattern.format(o=opener, a=AND[language].join(names))
        for opener in OCCASIONS[spec["occasion"]].openers[language]
        for names in permutations(spec["names"])
        for pattern in _GREETINGS[language]
    ]


def fact_values(spec: Spec) -> tuple[str, ...]:
    """Return the ways to write the value that was asked for, the usual one first."""
    facts = dict(RELATIONS[spec["relation"]].facts[spec["language"]])
    return tuple(facts[spec["thing"]].split("|"))


def fact_sentences(spec: Spec) -> list[str]:
    """Return the whole sentences that say the fact, also those that speak to who asked."""
    said = [
        sentence.format(t=spec["thing"], v=value)
        for value in fact_values(spec)
        for sentence in RELATIONS[spec["relation"]].says[spec["language"]]
    ]
    comma = {"en": ", ", "zh": "，"}[spec["language"]]
    addressed = [f"{spec['asker']}{comma}{sentence}" for sentence in said] if spec["asker"] else []
    return [sentence[:1].upper() + sentence[1:] for sentence in said + addressed]


def fact_words(spec: Spec) -> list[str]:
    """Return the answers of one word."""
    return [
        value[:1].upper() + value[1:] + {"en": ".", "zh": "。"}[spec["language"]]
        for value in fact_values(spec)
    ]


def help_sentences(spec: Spec) -> list[str]:
    """Return the sentences that name one or more of the things that a harmless act needs."""
    language = spec["language"]
    tools: Sequence[str] = ACTS[spec["act"]].tools[language]
    listed = [
        AND[language].join(chosen)
        for count in range(1, len(tools) + 1)
        for chosen in permutations(tools, count)
    ]
    return [pattern.format(what) for pattern in _USES[language] for what in listed]


def refusals(spec: Spec) -> list[str]:
    """Return the sentences that refuse, without apology first and then with each."""
    language = spec["language"]
    plain = [sentence.format(x=spec["phrase"]) for sentence in REFUSALS[language]]
    joiner = {"en": "but ", "zh": ""}[language]
    apologised = [
        apology + (joiner if apology.startswith("I ") else "") + sentence
        for apology in APOLOGIES[language]
        for sentence in plain
    ]
    return plain + apologised
