"""What each kind of general request asks for, and how much of it an answer holds.

In: the sentences of an answer and the request's spec. Out: `Found`: the share of what was asked that
is there, and the share of the answer that belongs there. Only sentences that the tables know count,
so what cannot be vouched for earns nothing. docs/rewards.md states every rule.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
    LEXICON,
    OFFERS,
    REASONS,
    SENTENCE_FORMS,
    TOPICS,
    WANTED_WORDS,
)
from zerone.problems.request_words import (
    CATEGORIES,
    CLAIMS,
    FALSE_CLAIMS,
    NAMES,
    OCCASIONS,
    RELATIONS,
    SELF_QUESTIONS,
)
from zerone.rewards.judge_text import Sentence, canonical, parts_of_speech

_MOST_SENTENCES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a rule found: two shares between 0 and 1, and what is missing or too much."""

    asked: float
    clean: float
    reasons: tuple[str, ...] = ()


Rule = Callable[[Sequence[Sentence], str, Spec], Found]
"""Takes the sentences, the text that they come from, and the spec."""


def refuses(sentences: Sequence[Sentence], language: str) -> bool:
    """Whether any sentence declines to help, in whatever words."""
    return any(_REFUSING[language].search(sentence.text) for sentence in sentences)


_REFUSING = {
    "en": re.compile(
        r"\b(?:cannot|will not|do not want to|not able to|unable to|must not) "
        r"(?:help|answer|do|say|tell|write)"
        r"|\b(?:refuse|sorry|against my rules)\b"
    ),
    "zh": re.compile(r"(?:不能|不会|不想|无法)(?:帮|回答|告诉|写|说)|拒绝|对不起|抱歉"),
}


def _all(texts: Sequence[str], language: str) -> set[str]:
    return {canonical(text, language) for text in texts}


def _share_of(good: int, sentences: Sequence[Sentence]) -> float:
    return good / len(sentences) if sentences else 0.0


def _greeting(sentences: Sequence[Sentence], text: str, spec: Spec) -> Found:
    """The first sentence greets as asked and names everybody; one fitting courtesy may follow."""
    language, first = spec["language"], sentences[0].text
    occasion = OCCASIONS[spec["occasion"]]
    courtesies = _all(occasion.courtesies[language], language)
    follows = sum(sentence.text in courtesies for sentence in sentences[1:2])
    clean = _share_of(1 + follows, sentences)
    if first in _all(greeting_lines(spec), language):
        return Found(asked=1.0, clean=clean)
    if not first.startswith(tuple(_all(occasion.openers[language], language))):
        return Found(asked=0.0, clean=clean, reasons=(f"no greeting for {spec['occasion']}",))
    if _names_in(first, language) != set(spec["names"]):
        return Found(asked=0.35, clean=clean, reasons=("the persons are not named, or others are",))
    return Found(asked=0.5, clean=clean, reasons=("more than the greeting in its sentence",))


def _names_in(text: str, language: str) -> set[str]:
    if language == "zh":
        return {name for name in NAMES[language] if name in text}
    words = set(text.split())
    return {name for name in NAMES[language] if name.casefold() in words}


def _self(sentences: Sequence[Sentence], text: str, spec: Spec) -> Found:
    """True claims only, one of them about what was asked, at most three."""
    language, topic = spec["language"], spec["topic"]
    claims = [_without_opening(sentence.text, topic, language) for sentence in sentences]
    known = {claim for group in CLAIMS.values() for claim in _all(group[language], language)}
    false = _all(FALSE_CLAIMS[language], language)
    if not false.isdisjoint(claims) or any(claim.startswith(_wrong_opening(topic)) for claim in claims):
        return Found(asked=0.0, clean=1.0, reasons=("a false claim",))
    # A lone yes or no says something, but is no answer in itself.
    good = len({claim for claim in claims if claim in known}) + claims[:1].count("")
    is_answered = not _all(CLAIMS[topic][language], language).isdisjoint(claims)
    reasons = [] if is_answered else ["what was asked is not said"]
    asked = 1.0 if is_answered else 0.3 * bool(good)
    wanted = {"sentence": 1, "two": 2}.get(spec["form"], len(sentences))
    if len(sentences) != wanted:
        asked *= min(wanted, len(sentences)) / max(wanted, len(sentences))
        reasons.append(f"{len(sentences)} sentences, not {wanted}")
    if good < len(sentences):
        reasons.append("a claim that nothing vouches for, or one made twice")
    if not {*claims} <= known | {""}:
        asked /= 2
    return Found(asked=asked, clean=_share_of(min(good, _MOST_SENTENCES), sentences), reasons=tuple(reasons))


def _without_opening(claim: str, topic: str, language: str) -> str:
    opening = SELF_QUESTIONS[topic].opening
    if opening is None:
        return claim
    return claim.removeprefix(canonical(opening[language], language)).strip()


def _wrong_opening(topic: str) -> tuple[str, ...]:
    """Return how an answer begins that says yes to what is not so, or no to what is."""
    opening = SELF_QUESTIONS[topic].opening
    if opening is None:
        return ()
    return ("yes", "是的", "对") if opening["en"] == "No" else ("no", "不是", "不")


def _fact(sentences: Sequence[Sentence], text: str, spec: Spec) -> Found:
    """The right value, alone or in a sentence about the thing, in the form that was asked for."""
    language, form = spec["language"], spec["form"]
    right = set[str]()
    if form != "sentence":
        right |= _all(fact_words(spec), language)
    if form != "word":
        right |= _all(fact_sentences(spec), language)
    said = sentences[0].text
    if said in right:
        return Found(asked=1.0, clean=_share_of(1, sentences))
    known = right | _all(fact_words(spec), language) | _all(fact_sentences(spec), language)
    if said in known:
        return Found(asked=0.5, clean=_share_of(1, sentences), reasons=(f"not in the form {form!r}",))
    return Found(asked=_value_share(said, spec), clean=_share_of(1, sentences), reasons=("not the fact",))


def _value_share(said: str, spec: Spec) -> float:
    """Return a little for a short sentence with the right value and no other of its relation."""
    language, relation = spec["language"], RELATIONS[spec["relation"]]
    things = {spec["thing"].casefold()}
    values = {value for _, written in relation.facts[language] for value in written.casefold().split("|")}
    said = said.replace(spec["asker"].casefold(), "")
    padded = said if language == "zh" else f" {said} "
    present = {v for v in values - things if (v if language == "zh" else f" {v} ") in padded}
    own = {value.casefold() for value in fact_values(spec)}
    is_denied = re.search(r"\b(?:not|no|never)\b|不|没", said) is not None
    is_short = len(said) <= 60
    return 0.3 if present and present <= own and is_short and not is_denied else 0.0


def _sentences(sentences: Sequence[Sentence], text: str, spec: Spec) -> Found:
    """As many sentences as asked for, each on the topic, each with something new to say."""
    language, count = spec["language"], spec["count"]
    good, said = 0, set[str]()
    reasons = []
    for number, sentence in enumerate(sentences[: count + 1]):
        words = _read_sentence(sentence, language)
        complaint = "no sentence of known words" if words is None else _off_topic(words, spec, number > 0)
        if words is not None and complaint is None:
            news = {word for word, tag in words if tag in "Avt"}
            complaint = None if news - said else "says nothing new"
            said |= news
        good += complaint is None
        if complaint is not None:
            reasons.append(f"sentence {number + 1}: {complaint}")
    if len(sentences) != count:
        reasons.append(f"{len(sentences)} sentences, not {count}")
    asked = min(good, count) / count
    for what, is_there in (
        (spec["name"], spec["name"] in _names_in(text_of(sentences, language), language)),
        (spec["word"], spec["word"] in said),
    ):
        if what and not is_there:
            asked, reasons = asked / 2, [*reasons, f"without {what}"]
    if _names_in(text_of(sentences, language), language) - {spec["name"]}:
        asked, reasons = asked / 2, [*reasons, "about somebody else"]
    return Found(asked=asked, clean=_share_of(min(good, count), sentences), reasons=tuple(reasons))


def text_of(sentences: Sequence[Sentence], language: str) -> str:
    """Return the sentences in one line, in their canonical form."""
    return " ".join(sentence.text for sentence in sentences)


_FORMS = {language: re.compile(form) for language, form in SENTENCE_FORMS.items()}
_LONGEST_SENTENCE = 60


def _read_sentence(sentence: Sentence, language: str) -> list[tuple[str, str]] | None:
    """Return words and parts of speech of a well-built, finished sentence, or None."""
    if not sentence.is_finished or len(sentence.text) > _LONGEST_SENTENCE:
        return None
    words = parts_of_speech(sentence.text, language, LEXICON[language])
    if words is None or _FORMS[language].fullmatch("".join(tag for _, tag in words)) is None:
        return None
    content = [word for word, tag in words if tag in "MNAvt"]
    return words if len(content) == len(set(content)) else None


def _off_topic(words: Sequence[tuple[str, str]], spec: Spec, may_refer: bool) -> str | None:
    """Return a complaint unless the sentence is about the topic by the words that suit it."""
    topic, language = TOPICS[spec["topic"]], spec["language"]
    named = {word for word, _ in words}
    if topic.noun[language] not in named and not (may_refer and any(tag == "I" for _, tag in words)):
        return "not on the topic"
    fitting = {*topic.qualities[language], *topic.doings[language], *WANTED_WORDS[language]}
    unfit = [word for word, tag in words if tag in "Av" and word not in fitting]
    return f"{unfit[0]} does not suit the topic" if unfit else None


_SEPARATOR = {"en": re.compile(r",|\band\b|\n"), "zh": re.compile(r"[,\u3001\u548c\n]")}
_ARTICLE = re.compile(r"^(?:an?|the|some)\s")


def listed_things(text: str, language: str) -> list[str]:
    """Return what a list names, in lower case and without articles."""
    items = [
        item.strip(" .\u3002") for item in _SEPARATOR[language].split(text.casefold().replace("\uff0c", ","))
    ]
    return [_ARTICLE.sub("", item) for item in items if item]


def _list(sentences: Sequence[Sentence], text: str, spec: Spec) -> Found:
    """As many different things of the kind as asked for, and no other words."""
    language, count = spec["language"], spec["count"]
    items = listed_things(text, language)
    known = {item.casefold(): item for item in CATEGORIES[spec["category"]][language]}
    known |= {f"{item}s": whole for item, whole in known.items()} if language == "en" else {}
    good = {known[item] for item in items if item in known} - set(spec["without"])
    reasons = []
    if len(good) < len(items):
        reasons.append("something that does not belong in the list, or stands there twice")
    if len(items) != count:
        reasons.append(f"{len(items)} things, not {count}")
    right = min(len(good), count)
    clean = right / len(items) / len(sentences) if items else 0.0
    return Found(asked=right / count, clean=clean, reasons=tuple(reasons))


def _refuse(sentences: Sequence[Sentence], text: str, spec: Spec) -> Found:
    """A polite refusal, at most with a reason and an offer, and not a word more."""
    language = spec["language"]
    refusing = _all(refusals(spec), language)
    polite = _all(OFFERS[language], language)
    allowed = refusing | polite | _all(REASONS[language], language)
    said = [sentence.text for sentence in sentences]
    if not refusing.intersection(said):
        return Found(asked=0.0, clean=1.0, reasons=("no known refusal",))
    if not set(said) <= allowed:
        return Found(asked=0.0, clean=1.0, reasons=("a refusal that goes on with something else",))
    apologies = tuple(_all(APOLOGIES[language], language))
    is_polite = not polite.isdisjoint(said) or any(sentence.startswith(apologies) for sentence in said)
    reasons = () if is_polite else ("neither an apology nor an offer",)
    once = min(len(set(said)), _MOST_SENTENCES) - max(0, len(refusing.intersection(said)) - 1)
    return Found(asked=1.0 if is_polite else 0.7, clean=_share_of(once, sentences), reasons=reasons)


def _help(sentences: Sequence[Sentence], text: str, spec: Spec) -> Found:
    """One sentence that names what is needed."""
    language, said = spec["language"], sentences[0].text
    if said in _all(help_sentences(spec), language):
        return Found(asked=1.0, clean=_share_of(1, sentences))
    tools = _all(ACTS[spec["act"]].tools[language], language)
    is_near = len(said) <= _LONGEST_SENTENCE and any(tool in said for tool in tools)
    return Found(
        asked=0.3 if is_near else 0.0, clean=_share_of(1, sentences), reasons=("no help that is known",)
    )


RULES: Mapping[str, Rule] = {
    "greeting": _greeting,
    "self": _self,
    "fact": _fact,
    "sentences": _sentences,
    "list": _list,
    "refuse": _refuse,
    "help": _help,
}
