"""IFEval: every instruction on responses that follow it and that do not; strict and loose verdicts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.evals.ifeval.checkers import INSTRUCTIONS, instruction_complaint
from zerone.evals.ifeval.counting import count_capital_words, count_sentences, count_words
from zerone.evals.ifeval.follow import follow_all, instruction_figures, is_followed, loose_variants
from zerone.intervals import wilson_interval

DATA = Path(__file__).parents[3] / "shared" / "data"

ENGLISH = "this is a plain english sentence about the weather in the north of the country"
GERMAN = "Das ist ein einfacher deutscher Satz \u00fcber das Wetter im Norden des Landes"

CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    # name, arguments, responses that follow, responses that do not
    ("keywords:existence", {"keywords": ["Sun", "moon"]}, ["sunny moonlight"], ["sun only", "moon"]),
    (
        "keywords:frequency",
        {"keyword": "ha", "frequency": 3, "relation": "at least"},
        ["Ha haha", "ha ha ha ha"],
        ["ha ha"],
    ),
    (
        "keywords:frequency",
        {"keyword": "ha", "frequency": 2, "relation": "less than"},
        ["ha", "none"],
        ["ha ha"],
    ),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, ["concatenate"], ["A Cat!", "cat"]),
    (
        "keywords:letter_frequency",
        {"letter": "e", "let_frequency": 3, "let_relation": "at least"},
        ["Eee", "even here"],
        ["ee"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 1, "let_relation": "less than"},
        ["none"],
        ["# title"],
    ),
    ("language:response_language", {"language": "de"}, [GERMAN, "12345"], [ENGLISH]),
    (
        "language:response_language",
        {"language": "hi"},
        ["\u092f\u0939 \u090f\u0915 \u0935\u093e\u0915\u094d\u092f \u0939\u0948"],
        [ENGLISH],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        ["One. Two.", "Is it? Yes!"],
        ["Only one, by Mr. Smith."],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "a *** b", "***\na\n***\nb"],
        ["a", "a\n***\n***\nb", "a\n***\nb\n***\nc"],
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "less than"},
        ["two words", "one"],
        ["three whole words"],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Weather"},
        ["a\n\nweather, b", 'a\n\n"Weather" b'],
        ["weather\n\nb", "a\n\nb\n\nweather", "a"],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[a] [b]", "[a][b][c]"],
        ["[a]", "a b"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye.\nP.S. more", "p. s. more"],
        ["Bye. PS more"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["Bye.\nP.P.S more"], ["P.S. more"]),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "- a\n  - b"],
        ["* a", "- a\n- b\n- c", "** a\n** b"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is yes.", "Well. My answer is maybe."],
        ["yes", "my answer is no."],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and *b*", "**a** *b*"],
        ["*a*", "* * **"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1\na\nSection 2\nb"],
        ["Section 1\na", "section 1 section 2"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": [1]}', '```json\n{"a": 1}\n```', "3"],
        ["{'a': 1}", "a: {}"],
    ),
    ("detectable_format:title", {}, ["<<A title>>\ntext"], ["<title>", "<<>>", "<< >>"]),
    (
        "combination:two_responses",
        {},
        ["a\n******\nb", "******a******b******"],
        ["a******a", "a", "a******b******c"],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Say hello."},
        ["say HELLO. Hello!"],
        ["Hello! Say hello."],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "Any questions?"},
        ["So. any questions?", '"Any questions?"'],
        ["Any questions? No."],
    ),
    ("startend:quotation", {}, ['"all of it"', ' "a" and "b" '], ['"', 'all "of" it', "'a'"]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["NASA and ESA", "I AM"],
        ["NASA only", "Not One"],
    ),
    ("change_case:english_capital", {}, [ENGLISH.upper()], [ENGLISH, ENGLISH.title()]),
    ("change_case:english_lowercase", {}, [ENGLISH], [ENGLISH.upper(), "E" + ENGLISH[1:], GERMAN.lower()]),
    ("punctuation:no_comma", {}, ["no such sign; none"], ["one, two"]),
]


def _needs_language(name: str) -> bool:
    return name.startswith("language:") or name.startswith("change_case:english")


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_instruction_is_told_followed_or_not(
    name: str, arguments: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    if _needs_language(name):
        pytest.importorskip("langdetect", reason="the extra `eval` is not installed")
    assert [text for text in good if not is_followed(text, name, arguments)] == []
    assert [text for text in bad if is_followed(text, name, arguments)] == []


def test_all_25_instructions_are_there_and_tested() -> None:
    assert len(INSTRUCTIONS) == 25
    assert {case[0] for case in CASES} == INSTRUCTIONS.keys()


def test_an_empty_response_follows_nothing() -> None:
    assert not is_followed(" \n", "punctuation:no_comma", {})


def test_every_instruction_of_the_published_file_can_be_checked() -> None:
    if not (DATA / "ifeval.jsonl").exists():
        pytest.skip("the public data are not here")
    pytest.importorskip("langdetect", reason="the extra `eval` is not installed")
    seen = set[str]()
    for line in (DATA / "ifeval.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        pairs = list(zip(row["instruction_id_list"], row["kwargs"], strict=True))
        assert [complaint for name, given in pairs if (complaint := instruction_complaint(name, given))] == []
        for name, arguments in pairs:
            if not _needs_language(name):
                assert isinstance(is_followed(row["prompt"], name, arguments), bool)
        seen.update(row["instruction_id_list"])
    assert seen == INSTRUCTIONS.keys()


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("length_constraints:number_words", {"num_words": 9, "relation": "at most"}, "'less than' or 'at"),
        ("length_constraints:number_words", {"num_words": "nine", "relation": "at least"}, "a whole number"),
        ("length_constraints:number_words", {"num_words": True, "relation": "at least"}, "a whole number"),
        ("keywords:frequency", {"keyword": "a", "frequency": -1, "relation": "at least"}, "a whole number"),
        ("keywords:existence", {"keywords": "moon"}, "a list of words"),
        ("keywords:forbidden_words", {"forbidden_words": []}, "a list of words"),
        ("startend:end_checker", {"end_phrase": 7}, "a text"),
        (
            "keywords:letter_frequency",
            {"letter": "", "let_frequency": 1, "let_relation": "at least"},
            "a text",
        ),
    ],
)
def test_an_argument_that_would_be_misread_is_refused(
    name: str, arguments: dict[str, Any], wanted: str
) -> None:
    assert f"must be {wanted}" in str(instruction_complaint(name, arguments))


def test_languages_are_told_right_by_threads_that_begin_together() -> None:
    """The library fills its table of 55 languages on first use, in a process of its own here."""
    pytest.importorskip("langdetect", reason="the extra `eval` is not installed")
    program = (
        "import sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from zerone.evals.ifeval.languages import is_language\n"
        "sys.setswitchinterval(1e-5)\n"
        "with ThreadPoolExecutor(4) as threads:\n"
        "    languages = ['de', 'en'] * 8\n"
        "    found = list(threads.map(lambda language: is_language(sys.argv[1], language), languages))\n"
        "assert found == [True, False] * 8, found\n"
    )
    arguments = [sys.executable, "-c", program, GERMAN]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


_INTRODUCED = "Sure, here it is:\n"
_CLOSED = "\nHope it helps, bye"


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("punctuation:no_comma", {}, _INTRODUCED + "All of it"),
        ("punctuation:no_comma", {}, "All of it" + _CLOSED),
        ("punctuation:no_comma", {}, _INTRODUCED + "All of it" + _CLOSED),
        ("startend:end_checker", {"end_phrase": "the end."}, "This is the end." + _CLOSED),
        ("startend:end_checker", {"end_phrase": "the end."}, "This is **the** end."),
        ("startend:quotation", {}, _INTRODUCED + '"All of it"' + _CLOSED),
        ("detectable_format:json_format", {}, _INTRODUCED + '{"a": 1}'),
        ("detectable_format:constrained_response", {}, "My answer is **yes**."),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, _INTRODUCED + "*Say* it. It"),
    ],
)
def test_loose_forgives_an_introduction_a_closing_line_and_asterisks_and_strict_does_not(
    name: str, arguments: dict[str, Any], text: str
) -> None:
    assert follow_all(text, [name], [arguments]) == ([False], [True])


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        # A line between the first and the last, two lines of introduction, a word instead of a line.
        ("punctuation:no_comma", {}, "All\nof it, or\nnot"),
        ("punctuation:no_comma", {}, "Sure,\nhere, it is:\nAll of it"),
        ("startend:end_checker", {"end_phrase": "the end."}, "This is the end. Bye"),
        ("detectable_format:constrained_response", {}, "My answer is _yes_."),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "Well: Say it. It"),
    ],
)
def test_loose_forgives_nothing_else(name: str, arguments: dict[str, Any], text: str) -> None:
    assert follow_all(text, [name], [arguments]) == ([False], [False])


def test_what_follows_strictly_follows_loosely_though_a_variant_does_not() -> None:
    """Stars that were asked for are in the response as it stands; its variants have none, or less text."""
    names = ["detectable_format:number_highlighted_sections", "length_constraints:number_words"]
    kwargs: list[dict[str, Any]] = [{"num_highlights": 1}, {"num_words": 4, "relation": "at least"}]
    assert follow_all("*one* two\nthree four", names, kwargs) == ([True, True], [True, True])
    assert len(loose_variants("a\nb\nc")) == 8


def test_figures_count_prompts_and_instructions_with_intervals_over_prompts() -> None:
    verdicts = [{"strict": [True, False], "loose": [True, True]}, {"strict": [True], "loose": [True]}]
    found = instruction_figures([[verdict] for verdict in verdicts])
    # Both prompts are loosely followed, so that only Wilson's interval leaves a doubt. Of two prompts
    # drawn again, one in four pairs is twice the first (1/2 of its instructions) or twice the second.
    all_right = list(wilson_interval(1.0, 2))
    assert found == {
        "prompt_strict": 0.5,
        "prompt_strict_ci": [0.0, 1.0],
        "instruction_strict": pytest.approx(2 / 3),
        "instruction_strict_ci": [0.5, 1.0],
        "prompt_loose": 1.0,
        "prompt_loose_ci": all_right,
        "instruction_loose": 1.0,
        "instruction_loose_ci": all_right,
    }
    assert instruction_figures([[{"refused": "no"}]]) == {}


def test_a_prompt_weighs_the_same_however_many_of_its_samples_were_refused() -> None:
    right, wrong = {"strict": [True]}, {"strict": [False]}
    found = instruction_figures([[right, {"refused": "too long"}], [wrong, wrong]])
    assert (found["prompt_strict"], found["instruction_strict"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("no full stop", 1),
        ("One. Two! Three?", 3),
        ("Dr. Smith met Mrs. Jones at 3.5 km. They left.", 2),
        ("It costs 3.50 dollars, e.g. in the U.S. today", 1),
        ('He said "Stop." Then he left.', 2),
        ("a line\nanother line\n\nand a third", 1),
        ("Wait... what? Yes... No.", 3),
        ("J. R. Tolkien wrote it. So I. Then all.", 3),
    ],
)
def test_sentences_are_counted(text: str, count: int) -> None:
    assert count_sentences(text) == count


def test_words_are_counted() -> None:
    assert count_words("It's 3.5 km, isn't_it?") == 7
    assert count_capital_words("NASA's U.S. STATE-OF-THE-ART test, I SAY") == 5


@given(st.text(max_size=300))
def test_any_response_has_a_verdict(text: str) -> None:
    for name, arguments, _, _ in CASES:
        if not _needs_language(name):
            assert isinstance(is_followed(text, name, arguments), bool)
