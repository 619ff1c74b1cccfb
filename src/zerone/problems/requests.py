"""General requests that no calculation answers: what R1's general data is to the embedded world.

Levels are kinds: 1 greetings, 2 questions about the model itself, 3 short facts, 4 short writing to
a pattern (sentences on a topic, lists), 5 how to do something, which must be refused where the act
is harmful and helped with where it is not. `rewards/judge.py` judges them by `spec`, whose `kind` is
greeting, self, fact, sentences, list, refuse or help.
"""

from random import Random
from typing import Any

from zerone.problems.request_topics import ACT_ASKS, ACT_ASKS_FOR, ACTS, TOPICS, WANTED_WORDS
from zerone.problems.request_words import (
    AND,
    ASKERS,
    CATEGORIES,
    CATEGORY_NAMES,
    COUNTS,
    FORMS,
    NAMES,
    OCCASIONS,
    RELATIONS,
    SELF_QUESTIONS,
)
from zerone.types import Problem

FAMILY = "requests"
LEVELS: tuple[int, ...] = (1, 2, 3, 4, 5)
_HARMFUL_SHARE = 0.65
_ASKER_SHARE = 0.6

_Drawn = tuple[str, dict[str, Any]]
"""The prompt and the verifier's spec, whose values make up the problem's key."""


def draw(rng: Random, level: int, language: str) -> Problem:
    """Draw one request; its id holds all that the answer depends on, and not the wording."""
    drawing = {1: _greeting, 2: _self, 3: _fact, 4: _writing, 5: _act}[level]
    prompt, spec = drawing(rng, language)
    key = "-".join("_".join(value) if isinstance(value, list) else str(value) for value in spec.values())
    return Problem(
        id=f"requests-{key}",
        family=FAMILY,
        level=level,
        language=language,
        prompt=prompt,
        verifier="judge",
        spec={**spec, "language": language},
    )


def _greeting(rng: Random, language: str) -> _Drawn:
    occasion = rng.choice(list(OCCASIONS))
    names = rng.sample(NAMES[language], rng.choice((1, 2, 2)))
    prompt = rng.choice(OCCASIONS[occasion].asks[language]).format(a=AND[language].join(names))
    return prompt, {"kind": "greeting", "occasion": occasion, "names": sorted(names)}


def _asked(rng: Random, language: str, question: str, form: str) -> tuple[str, str]:
    """Return the question as someone asks it, with the form of the answer, and who asks."""
    names = sorted(rng.sample(NAMES[language], rng.choice((1, 2)))) if rng.random() < _ASKER_SHARE else []
    asker = AND[language].join(names)
    if names:
        question = ASKERS[language][len(names) - 1].format(a=asker, q=question)
    return question + FORMS[form][language], asker


def _self(rng: Random, language: str) -> _Drawn:
    topic, form = rng.choice(list(SELF_QUESTIONS)), rng.choice(("any", "sentence", "two"))
    question = rng.choice(SELF_QUESTIONS[topic].asks[language])
    prompt, asker = _asked(rng, language, question, form)
    return prompt, {"kind": "self", "topic": topic, "form": form, "asker": asker}


def _fact(rng: Random, language: str) -> _Drawn:
    relation, form = rng.choice(list(RELATIONS)), rng.choice(("any", "word", "sentence"))
    thing, _ = rng.choice(RELATIONS[relation].facts[language])
    question = rng.choice(RELATIONS[relation].asks[language]).format(t=thing)
    prompt, asker = _asked(rng, language, question, form)
    return prompt, {"kind": "fact", "relation": relation, "thing": thing, "form": form, "asker": asker}


def _writing(rng: Random, language: str) -> _Drawn:
    return _list(rng, language) if rng.random() < 0.35 else _sentences(rng, language)


def _list(rng: Random, language: str) -> _Drawn:
    category, count = rng.choice(list(CATEGORIES)), rng.choice((2, 3))
    items = CATEGORIES[category][language]
    without = sorted(rng.sample(items, rng.choice((0, 1, 1)) if len(items) > count else 0))
    prompts = {"en": "Name {n} {c}{w}.", "zh": "说出{n}个{c}{w}。"}
    excluding = {"en": ", but not {}", "zh": "，但不要{}"}[language]
    prompt = prompts[language].format(
        n=COUNTS[language][count - 1] if language == "en" or count != 2 else "两",
        c=CATEGORY_NAMES[category][language],
        w=excluding.format(without[0]) if without else "",
    )
    return prompt, {"kind": "list", "category": category, "count": count, "without": without}


def _sentences(rng: Random, language: str) -> _Drawn:
    topic, count = rng.choice(list(TOPICS)), rng.choice((1, 2, 3))
    name = rng.choice(NAMES[language]) if rng.random() < _ASKER_SHARE else ""
    word = rng.choice(WANTED_WORDS[language]) if rng.random() < 0.35 else ""
    about = TOPICS[topic].phrase[language]
    if name:
        about = f"{name}{AND[language]}{about}"
    if language == "en":
        number = f"{COUNTS['en'][count - 1]} sentence{'s' if count > 1 else ''}"
        prompt = f"Write {number} about {about}." + (f" Use the word {word}." if word else "")
    else:
        number = "一两三"[count - 1]
        prompt = f"写{number}句关于{about}的话。" + (f"用上{word}字。" if word else "")
    return prompt, {"kind": "sentences", "topic": topic, "count": count, "name": name, "word": word}


def _act(rng: Random, language: str) -> _Drawn:
    harmful = rng.random() < _HARMFUL_SHARE
    act = rng.choice([name for name, act in ACTS.items() if act.is_harmful == harmful])
    phrase = rng.choice(ACTS[act].phrases[language])
    asker = rng.choice(NAMES[language]) if rng.random() < _ASKER_SHARE else ""
    templates = ACT_ASKS_FOR if asker else ACT_ASKS
    prompt = rng.choice(templates[language]).format(a=asker, x=phrase)
    kind = "refuse" if harmful else "help"
    return prompt, {"kind": kind, "act": act, "phrase": phrase, "asker": asker}
