"""The 25 instructions of IFEval, one small function each.

In: a response and the instruction's arguments as published. Out: whether the response follows it. The
conventions are those of the published checker also where they are odd (a language that cannot be
told counts as right), since figures are compared with figures made by it.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerone.evals.ifeval import counting
from zerone.evals.ifeval.languages import is_language


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """A checker and the arguments that it needs."""

    check: Callable[..., bool]
    needs: tuple[str, ...] = ()


def _compare(count: int, relation: str, bound: int) -> bool:
    """Judge a count by one of the two relations that the data set knows."""
    return count < bound if relation == "less than" else count >= bound


# Keywords -----------------------------------------------------------------------------------------


def _occurrences(word: str, text: str) -> int:
    return len(re.findall(re.escape(word), text, re.IGNORECASE))


def keywords_exist(text: str, *, keywords: Sequence[str]) -> bool:
    """Every keyword occurs, also within words."""
    return all(_occurrences(word, text) for word in keywords)


def keyword_frequency(text: str, *, keyword: str, frequency: int, relation: str) -> bool:
    """A keyword occurs as often as asked, also within words."""
    return _compare(_occurrences(keyword, text), relation, frequency)


def forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    """None of the words occurs as a word of its own."""
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    """A letter occurs as often as asked, in either case."""
    return _compare(text.lower().count(letter.lower()), let_relation, let_frequency)


# Lengths ------------------------------------------------------------------------------------------


def number_words(text: str, *, num_words: int, relation: str) -> bool:
    """The number of words."""
    return _compare(counting.count_words(text), relation, num_words)


def number_sentences(text: str, *, num_sentences: int, relation: str) -> bool:
    """The number of sentences."""
    return _compare(counting.count_sentences(text), relation, num_sentences)


def number_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """The number of paragraphs, which `***` separates."""
    return counting.starred_paragraphs(text) == num_paragraphs


def nth_paragraph_first_word(text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """The number of paragraphs, which blank lines separate, and the first word of one of them."""
    paragraphs = text.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if not 1 <= nth_paragraph <= count or not paragraphs[nth_paragraph - 1].strip():
        return False
    word = counting.first_word(paragraphs[nth_paragraph - 1])
    return count == num_paragraphs and word == first_word.lower()


# Content ------------------------------------------------------------------------------------------


def number_placeholders(text: str, *, num_placeholders: int) -> bool:
    """At least so many placeholders in square brackets."""
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def postscript(text: str, *, postscript_marker: str) -> bool:
    """A postscript that begins with a marker; spaces may stand between the letters of the usual two."""
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    marker = postscript_marker.strip()
    return re.search(patterns.get(marker, re.escape(marker.lower())), text.lower()) is not None


# Form ---------------------------------------------------------------------------------------------


def number_bullets(text: str, *, num_bullets: int) -> bool:
    """Exactly so many bullet points: lines that begin with one asterisk, or with a dash."""
    starred = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashed = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(starred) + len(dashed) == num_bullets


_CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def constrained_response(text: str) -> bool:
    """One of three given sentences is in the response."""
    return any(choice in text for choice in _CHOICES)


def number_highlights(text: str, *, num_highlights: int) -> bool:
    """At least so many parts between single or double asterisks."""
    single = re.findall(r"\*[^\n\*]*\*", text)
    double = re.findall(r"\*\*[^\n\*]*\*\*", text)
    return sum(bool(part.strip("*").strip()) for part in [*single, *double]) >= num_highlights


def multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many numbered sections with a given heading."""
    heading = rf"\s?{re.escape(section_spliter.strip())}\s?\d+\s?"
    return len(re.findall(heading, text)) >= num_sections


def json_format(text: str) -> bool:
    """The whole response is JSON, in a fenced block or not."""
    text = text.strip()
    for opening in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(opening)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str) -> bool:
    """A title in double angular brackets."""
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", text))


# Combinations, start and end ----------------------------------------------------------------------


def two_responses(text: str) -> bool:
    """Two different responses, separated by six asterisks."""
    parts = [part.strip() for part in text.split("******")]
    if not all(parts[1:-1]):
        return False
    given = [part for part in parts if part]
    return len(given) == 2 and given[0] != given[1]


def repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """The response begins with the request, word for word."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_phrase(text: str, *, end_phrase: str) -> bool:
    """The response ends with a given phrase, but for quotation marks around it all."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(text: str) -> bool:
    """The whole response stands in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text.startswith('"') and text.endswith('"')


# Case, language, punctuation ----------------------------------------------------------------------


def capital_words(text: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """The number of words in capitals."""
    return _compare(counting.count_capital_words(text), capital_relation, capital_frequency)


def english_capital(text: str) -> bool:
    """English, and without a small letter."""
    return text.isupper() and is_language(text, "en")


def english_lowercase(text: str) -> bool:
    """English, and without a capital letter."""
    return text.islower() and is_language(text, "en")


def response_language(text: str, *, language: str) -> bool:
    """The response is in a given language."""
    return is_language(text, language)


def no_comma(text: str) -> bool:
    """There is no comma."""
    return "," not in text


INSTRUCTIONS: Mapping[str, Instruction] = {
    "keywords:existence": Instruction(check=keywords_exist, needs=("keywords",)),
    "keywords:frequency": Instruction(check=keyword_frequency, needs=("keyword", "frequency", "relation")),
    "keywords:forbidden_words": Instruction(check=forbidden_words, needs=("forbidden_words",)),
    "keywords:letter_frequency": Instruction(
        check=letter_frequency, needs=("letter", "let_frequency", "let_relation")
    ),
    "language:response_language": Instruction(check=response_language, needs=("language",)),
    "length_constraints:number_sentences": Instruction(
        check=number_sentences, needs=("num_sentences", "relation")
    ),
    "length_constraints:number_paragraphs": Instruction(check=number_paragraphs, needs=("num_paragraphs",)),
    "length_constraints:number_words": Instruction(check=number_words, needs=("num_words", "relation")),
    "length_constraints:nth_paragraph_first_word": Instruction(
        check=nth_paragraph_first_word, needs=("num_paragraphs", "nth_paragraph", "first_word")
    ),
    "detectable_content:number_placeholders": Instruction(
        check=number_placeholders, needs=("num_placeholders",)
    ),
    "detectable_content:postscript": Instruction(check=postscript, needs=("postscript_marker",)),
    "detectable_format:number_bullet_lists": Instruction(check=number_bullets, needs=("num_bullets",)),
    "detectable_format:constrained_response": Instruction(check=constrained_response),
    "detectable_format:number_highlighted_sections": Instruction(
        check=number_highlights, needs=("num_highlights",)
    ),
    "detectable_format:multiple_sections": Instruction(
        check=multiple_sections, needs=("section_spliter", "num_sections")
    ),
    "detectable_format:json_format": Instruction(check=json_format),
    "detectable_format:title": Instruction(check=title),
    "combination:two_responses": Instruction(check=two_responses),
    "combination:repeat_prompt": Instruction(check=repeat_prompt, needs=("prompt_to_repeat",)),
    "startend:end_checker": Instruction(check=end_phrase, needs=("end_phrase",)),
    "startend:quotation": Instruction(check=quotation),
    "change_case:capital_word_frequency": Instruction(
        check=capital_words, needs=("capital_frequency", "capital_relation")
    ),
    "change_case:english_capital": Instruction(check=english_capital),
    "change_case:english_lowercase": Instruction(check=english_lowercase),
    "punctuation:no_comma": Instruction(check=no_comma),
}
"""Every instruction by its published name."""


_RELATIONS = ("less than", "at least")
_NUMBERS = re.compile("num_.*|nth_paragraph|(.*_)?frequency")


def instruction_complaint(name: str, arguments: Mapping[str, Any]) -> str | None:
    """Return why an instruction of a file cannot be checked, or None."""
    instruction = INSTRUCTIONS.get(name)
    if instruction is None:
        return f"no instruction is named {name!r}"
    missing = [argument for argument in instruction.needs if argument not in arguments]
    if missing:
        return f"the instruction {name!r} needs {', '.join(map(repr, missing))}"
    for argument in instruction.needs:
        if (wanted := _argument_complaint(argument, arguments[argument])) is not None:
            return f"{argument!r} of the instruction {name!r} must be {wanted}, not {arguments[argument]!r}"
    return None


def _argument_complaint(argument: str, value: Any) -> str | None:
    """Return what an argument must be where it is not."""
    if argument.endswith("relation"):
        return None if value in _RELATIONS else " or ".join(map(repr, _RELATIONS))
    if _NUMBERS.fullmatch(argument):
        is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return None if is_whole else "a whole number"
    if argument in ("keywords", "forbidden_words"):
        is_list = isinstance(value, list) and value and all(isinstance(w, str) and w.strip() for w in value)
        return None if is_list else "a list of words"
    return None if isinstance(value, str) and value.strip() else "a text"
