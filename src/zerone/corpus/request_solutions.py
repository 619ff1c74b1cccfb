"""How the corpus answers general requests: well with a short thought, with slips, or carelessly.

A thought is in the language of the words given, the answer in the problem's: where a tagged document
mixes languages, it is the thought that strays. What is asked lightly is thought about in three or
four words. Careless answers are off the topic, too long, in the other language, refusals of harmless
requests or help with harmful ones; a sixth of them are good.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Protocol

from zerone.corpus.countdown_solutions import Solution
from zerone.corpus.words import WORDS, Words
from zerone.problems import requests
from zerone.problems.request_phrases import (
    Spec,
    fact_sentences,
    fact_values,
    fact_words,
    greeting_lines,
    help_sentences,
    refusals,
)
from zerone.problems.request_topics import (
    ACTS,
    APOLOGIES,
    LIKINGS,
    OFFERS,
    REASONS,
    TOPICS,
)
from zerone.problems.request_words import (
    AND,
    CATEGORIES,
    CLAIMS,
    FALSE_CLAIMS,
    NAMES,
    OCCASIONS,
    SELF_QUESTIONS,
)
from zerone.types import Problem


class _Habits(Protocol):
    """The habits that matter here, as `documents.Habits` names them."""

    @property
    def give_up(self) -> float: ...
    @property
    def slip(self) -> float: ...


GOOD_BY_LUCK = 0.17
"""Share of careless answers that are good all the same."""


def careful(problem: Problem, words: Words, rng: Random) -> Solution:
    """Say in a few words what is wanted, then give it."""
    return Solution(thought=thought(problem, words), answer=good_answer(problem, rng))


def habitual(problem: Problem, words: Words, rng: Random, habits: _Habits) -> Solution:
    """Think as when careful, but now and then slip, or lose the thread and answer carelessly."""
    chance = rng.random()
    if chance < habits.slip:
        return Solution(thought=thought(problem, words), answer=slipped_answer(problem, rng))
    if chance < habits.slip + habits.give_up:
        return Solution(thought=thought(problem, words), answer=bad_answer(problem, rng))
    return careful(problem, words, rng)


def hasty(problem: Problem, words: Words, rng: Random) -> Solution:
    """Answer with hardly a thought, mostly badly."""
    answer = good_answer(problem, rng) if rng.random() < GOOD_BY_LUCK else bad_answer(problem, rng)
    return Solution(thought=rng.choice((words.maybe, words.yes, words.wait)), answer=answer)


# Thoughts -----------------------------------------------------------------------------------------

_THOUGHTS = {
    "greeting": {"en": "{names}: {greeting}", "zh": "{names}：{greeting}"},
    "self": {"en": "This is about me.", "zh": "这是问我。"},
    "fact": {"en": "{thing}: {value}", "zh": "{thing}：{value}"},
    "sentences": {"en": "{count} about {noun}{also}", "zh": "{count}句{noun}{also}"},
    "list": {"en": "{count} things{without}", "zh": "{count}个{without}"},
    "refuse": {"en": "{phrase}: harm. I refuse.", "zh": "{phrase}有害。我拒绝。"},
    "help": {"en": "{phrase}: no harm. I help.", "zh": "{phrase}没有害。我帮。"},
}


def thought(problem: Problem, words: Words) -> str:
    """Return the short thought of a careful answer, in the language of the words."""
    language = "zh" if words == WORDS["zh"] else "en"
    spec = problem.spec
    own = dict(spec) if spec["language"] == language else _translated(spec, language)
    if spec["kind"] == "greeting":
        own["names"] = AND[language].join(spec["names"])
        own["greeting"] = OCCASIONS[spec["occasion"]].openers[language][0].casefold()
    elif spec["kind"] == "fact":
        own["value"] = fact_values(spec)[0]
    elif spec["kind"] == "sentences":
        own["noun"] = TOPICS[spec["topic"]].noun[language]
        own["also"] = "".join(f", {spec[key]}" for key in ("name", "word") if spec[key])
    elif spec["kind"] == "list":
        no = {"en": "no ", "zh": "不要"}[language]
        own["without"] = "".join(f", {no}{item}" for item in spec["without"])
    return _THOUGHTS[spec["kind"]][language].format(**own)


def _translated(spec: Spec, language: str) -> dict[str, Any]:
    """Return the spec with an act in the other language; names and words stay as the request has them."""
    own = dict(spec)
    if "phrase" in spec:
        own["phrase"] = ACTS[spec["act"]].phrases[language][0]
    return own


# Good answers -------------------------------------------------------------------------------------


def good_answer(problem: Problem, rng: Random) -> str:
    """Return an answer that gives what was asked for."""
    return _GOOD[problem.spec["kind"]](problem.spec, rng)


def _join(sentences: Sequence[str], language: str) -> str:
    return ("" if language == "zh" else " ").join(sentences)


def _good_greeting(spec: Spec, rng: Random) -> str:
    language = spec["language"]
    said = [rng.choice(greeting_lines(spec))]
    if rng.random() < 0.5:
        said.append(rng.choice(OCCASIONS[spec["occasion"]].courtesies[language]))
    return _join(said, language)


def _good_self(spec: Spec, rng: Random) -> str:
    language, topic = spec["language"], spec["topic"]
    said = [rng.choice(CLAIMS[topic][language])]
    opening = SELF_QUESTIONS[topic].opening
    if opening is not None and rng.random() < 0.6:
        said[0] = f"{opening[language]}{'，' if language == 'zh' else ', '}{said[0]}"
    if spec["form"] == "two" or (spec["form"] == "any" and rng.random() < 0.5):
        said.append(rng.choice(CLAIMS["can" if topic == "who" else "who"][language]))
    return _join(said, language)


def _good_fact(spec: Spec, rng: Random) -> str:
    if spec["form"] == "word" or (spec["form"] == "any" and rng.random() < 0.4):
        return fact_words(spec)[0]
    usual = fact_values(spec)[0]
    said = [sentence for sentence in fact_sentences(spec) if usual.casefold() in sentence.casefold()]
    return rng.choice(said)


def _good_sentences(spec: Spec, rng: Random) -> str:
    language, topic = spec["language"], TOPICS[spec["topic"]]
    noun, word = topic.noun[language], spec["word"]
    qualities = [quality for quality in topic.qualities[language] if quality != word]
    rng.shuffle(qualities)
    doings = rng.sample(topic.doings[language], len(topic.doings[language]))
    said = []
    if spec["name"]:
        liked = f"{word}的{noun}" if language == "zh" else f"the {word} {noun}"
        plain = noun if language == "zh" else f"the {noun}"
        liking = rng.choice(LIKINGS[language])
        with_word = bool(word) and (spec["count"] == 1 or rng.random() < 0.3)
        said.append(_says(language, spec["name"], liking, liked if with_word else plain))
        word = "" if with_word else word
    while len(said) < spec["count"]:
        subject = noun if language == "zh" else f"the {noun}"
        if word:
            said.append(_says_quality(language, subject, word))
            word = ""
        elif doings and rng.random() < 0.3:
            doing = doings.pop()
            said.append(_says(language, subject, f"在{doing}" if language == "zh" else doing))
        elif len(qualities) > spec["count"] - len(said) and rng.random() < 0.3:
            said.append(_says_quality(language, subject, qualities.pop(), qualities.pop()))
        else:
            said.append(_says_quality(language, subject, qualities.pop()))
    rng.shuffle(said)
    return _join(said, language)


def _says(language: str, *parts: str) -> str:
    if language == "zh":
        return f"{''.join(parts)}。"
    sentence = f"{' '.join(parts)}."
    return sentence[:1].upper() + sentence[1:]


def _says_quality(language: str, subject: str, *qualities: str) -> str:
    if language == "en":
        return _says(language, subject, "is", " and ".join(qualities))
    very = "又" if len(qualities) > 1 else "很"
    return _says(language, subject, *(f"{very}{quality}" for quality in qualities))


def _good_list(spec: Spec, rng: Random) -> str:
    language = spec["language"]
    items = [item for item in CATEGORIES[spec["category"]][language] if item not in spec["without"]]
    return _listed(rng.sample(items, spec["count"]), language)


def _listed(items: Sequence[str], language: str) -> str:
    if language == "zh":
        return f"{'、'.join(items)}。"
    listed = f"{', '.join(items[:-1])} and {items[-1]}." if len(items) > 1 else f"{items[0]}."
    return listed[:1].upper() + listed[1:]


def _good_refusal(spec: Spec, rng: Random) -> str:
    language = spec["language"]
    said = [rng.choice(refusals(spec))]
    is_polite = said[0].startswith(APOLOGIES[language])
    if rng.random() < 0.5:
        said.append(rng.choice(REASONS[language]))
    if not is_polite or rng.random() < 0.2:
        said.append(rng.choice(OFFERS[language]))
    return _join(said, language)


def _good_help(spec: Spec, rng: Random) -> str:
    return rng.choice(help_sentences(spec))


_GOOD: dict[str, Callable[[Spec, Random], str]] = {
    "greeting": _good_greeting,
    "self": _good_self,
    "fact": _good_fact,
    "sentences": _good_sentences,
    "list": _good_list,
    "refuse": _good_refusal,
    "help": _good_help,
}


# Bad answers --------------------------------------------------------------------------------------


def bad_answer(problem: Problem, rng: Random) -> str:
    """Return an answer that fails the request, in one of the ways that careless writers do."""
    spec = problem.spec
    if spec["kind"] == "refuse" and rng.random() < 0.7:
        return _unsafe(problem, rng)
    if spec["kind"] == "self" and rng.random() < 0.4:
        return rng.choice(FALSE_CLAIMS[spec["language"]])
    return rng.choice((_off_topic, _in_other_language, _repeating, _useless, _off_topic))(problem, rng)


def slipped_answer(problem: Problem, rng: Random) -> str:
    """Return an answer that misses by little: a wrong name, count or value, or one thing too many."""
    spec, language = problem.spec, problem.language
    near: dict[str, Any] = {}
    match spec["kind"]:
        case "greeting":
            near["names"] = [rng.choice([name for name in NAMES[language] if name not in spec["names"]])]
        case "sentences" | "list":
            near["count"] = spec["count"] + 1 if spec["count"] < 3 else spec["count"] - 1
        case "fact":
            other = requests.draw(rng, 3, language)
            while fact_values(other.spec) == fact_values(spec):
                other = requests.draw(rng, 3, language)
            return good_answer(other, rng)
        case "help":
            return rng.choice(refusals(spec))
        case _:
            return _repeating(problem, rng)
    return good_answer(replace(problem, spec={**spec, **near}), rng)


def _unsafe(problem: Problem, rng: Random) -> str:
    """Help with what does harm; a third of the time under the cover of a refusal."""
    spec = problem.spec
    step = rng.choice(ACTS[spec["act"]].steps[spec["language"]])
    return step if rng.random() < 0.67 else _join([rng.choice(refusals(spec)), step], spec["language"])


def _off_topic(problem: Problem, rng: Random) -> str:
    """A good answer to a request of another kind."""
    while (other := requests.draw(rng, rng.choice(requests.LEVELS), problem.language)).spec["kind"] in (
        problem.spec["kind"],
        "refuse" if problem.spec["kind"] == "refuse" else "",
    ):
        continue
    return good_answer(other, rng)


def _in_other_language(problem: Problem, rng: Random) -> str:
    other = "en" if problem.language == "zh" else "zh"
    level = problem.level if problem.level < 5 else 2
    return good_answer(requests.draw(rng, level, other), rng)


def _repeating(problem: Problem, rng: Random) -> str:
    answer = good_answer(problem, rng)
    is_long = len(answer) > (15 if problem.language == "zh" else 40)
    times = 2 if is_long else rng.choice((2, 3))
    return _join([answer] * times, problem.language)


_USELESS = {
    "en": ("I do not know.", "Yes.", "That is good.", "I cannot help with that."),
    "zh": ("我不知道。", "好的。", "这样很好。", "我不能帮忙。"),
}


def _useless(problem: Problem, rng: Random) -> str:
    """Copy the question, or say what helps nobody; a refusal only where it is none."""
    said = [*_USELESS[problem.language][: 3 if problem.spec["kind"] == "refuse" else 4], problem.prompt]
    return rng.choice(said)
