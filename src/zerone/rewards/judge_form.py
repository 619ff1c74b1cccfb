"""Whether an answer to a general request has the form that was asked for: what IF-Eval measures.

In: an answer and the request's spec. Out: yes or no, whatever the answer says; None where no form was
asked for. A sentence of nonsense is one sentence: what it says is for judge.py.

What is asked for: one word, one or two sentences, so many sentences with a word in them, so many
things without one of them. All of it must be there, as in IF-Eval's strict figure by prompt.
"""

from collections.abc import Sequence

from zerone.problems.request_phrases import Spec
from zerone.rewards.judge_rules import listed_things
from zerone.rewards.judge_text import LONGEST_ANSWER, Sentence, read_sentences
from zerone.rewards.prose import normalised

_LONGEST_WORD = {"en": 1, "zh": 3}
"""In words and in characters; no value of the tables has more."""

_SHORTEST_SENTENCE = {"en": 2, "zh": 3}
"""As `snow falls` and its like of three characters, where a sentence about a topic is asked for."""

_SENTENCES = {"sentence": 1, "two": 2}
"""Name of a form -> how many sentences it wants."""


def follows_form(answer: str, spec: Spec) -> bool | None:
    """Whether an answer has the form asked for; None where the request leaves it open."""
    if len(answer) > LONGEST_ANSWER:
        return None if _is_free(spec) else False
    language = spec["language"]
    sentences = read_sentences(answer, language)
    match spec["kind"]:
        case "sentences":
            wanted = spec["word"]
            is_used = not wanted or any(_has(sentence, wanted, language) for sentence in sentences)
            return is_used and _are_sentences(
                sentences, spec["count"], language, _SHORTEST_SENTENCE[language]
            )
        case "list":
            things = listed_things(normalised(answer), language)
            has_excluded = any(_names(thing, out, language) for thing in things for out in spec["without"])
            return len(things) == spec["count"] and not has_excluded
        case "fact" | "self" if spec["form"] in _SENTENCES:
            count = _SENTENCES[spec["form"]]
            return _are_sentences(sentences, count, language, _LONGEST_WORD[language] + 1)
        case "fact" | "self" if spec["form"] == "word":
            return len(sentences) == 1 and _length(sentences[0], language) <= _LONGEST_WORD[language]
        case _:
            return None


def _is_free(spec: Spec) -> bool:
    return spec["kind"] not in ("sentences", "list") and spec.get("form", "any") == "any"


def _are_sentences(sentences: Sequence[Sentence], count: int, language: str, shortest: int) -> bool:
    """Whether there are so many sentences, each ended by a mark and none too short to be one."""
    return len(sentences) == count and all(
        sentence.is_finished and _length(sentence, language) >= shortest for sentence in sentences
    )


def _length(sentence: Sentence, language: str) -> int:
    return len(sentence.text if language == "zh" else sentence.text.split())


def _has(sentence: Sentence, word: str, language: str) -> bool:
    return word in sentence.text if language == "zh" else word in sentence.text.split()


def _names(thing: str, word: str, language: str) -> bool:
    if language == "zh":
        return word in thing
    return not {word.casefold(), f"{word.casefold()}s"}.isdisjoint(thing.split())
