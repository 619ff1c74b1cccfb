"""Language consistency: a table of cases, properties, and no text that costs more than its length."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from language_cases import CHINESE, CODE, ENGLISH, FORMULA, FRENCH, KOREAN, LANGUAGE_CASES, RUSSIAN
from zerone.errors import ConfigError
from zerone.prompts.r1 import reasoning_of
from zerone.rewards.language import (
    _NAMES_OF_LANGUAGES,
    SCRIPTS,
    language_code,
    language_share,
    lingua_detector,
    word_counts,
)
from zerone.rewards.prose import normalised, prose


def test_the_table_is_large() -> None:
    assert len(LANGUAGE_CASES) >= 60
    assert len({reason for reason, *_ in LANGUAGE_CASES}) == len(LANGUAGE_CASES)


@pytest.mark.parametrize(
    ("text", "language", "lowest", "highest"),
    [case[1:] for case in LANGUAGE_CASES],
    ids=[reason for reason, *_ in LANGUAGE_CASES],
)
def test_share_of_words_in_the_language(text: str, language: str, lowest: float, highest: float) -> None:
    assert lowest - 1e-9 <= language_share(text, language) <= highest + 1e-9


# Properties ---------------------------------------------------------------------------------------

SENTENCES = st.sampled_from([ENGLISH, CHINESE, RUSSIAN, KOREAN, CODE, FORMULA, "3 + 5 = 8."])
MIXTURES = st.lists(SENTENCES, max_size=8).map("\n".join)


@given(text=st.text(max_size=80) | MIXTURES, language=st.sampled_from(sorted(SCRIPTS)))
def test_a_share_lies_between_0_and_1(text: str, language: str) -> None:
    assert 0.0 <= language_share(text, language) <= 1.0


@given(text=st.text(max_size=80) | MIXTURES)
def test_shares_of_languages_with_different_scripts_never_exceed_1(text: str) -> None:
    languages = {script: code for code, script in SCRIPTS.items()}.values()
    assert sum(language_share(text, language) for language in languages) <= 1.0 + 1e-9


@given(text=MIXTURES)
def test_formulas_and_code_change_nothing(text: str) -> None:
    assert language_share(f"{text}\n{FORMULA}\n{CODE}", "en") == pytest.approx(language_share(text, "en"))


@given(text=MIXTURES, language=st.sampled_from(["en", "zh", "ru", "ko"]))
def test_another_language_added_never_raises_the_share(text: str, language: str) -> None:
    added = {"en": CHINESE, "zh": ENGLISH, "ru": ENGLISH, "ko": CHINESE}[language]
    assert language_share(f"{text}\n{added}", language) <= language_share(text, language) + 1e-9


@given(text=MIXTURES, unseen=st.sampled_from(["\u200b", "\u200d", "\u2060", "\u00ad", "\ufeff"]))
def test_unseen_characters_change_nothing(text: str, unseen: str) -> None:
    sprinkled = "".join(character + unseen for character in text)
    assert language_share(sprinkled, "zh") == language_share(text, "zh")


@given(word=st.sampled_from(["the", "好", "да", "네"]), times=st.integers(1, 400))
def test_one_repeated_word_makes_at_most_a_tenth_of_a_long_text(word: str, times: int) -> None:
    counts = word_counts(f"{word} " * times + "\n" + ENGLISH.replace("the", "a") * 3 + CHINESE * 2)
    total = sum(counts.values())
    assert max(counts.values()) <= max(3.0, 0.11 * total)


# Languages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [("en", "en"), ("EN", "en"), ("zh-CN", "zh"), ("zh_Hant", "zh"), ("Chinese", "zh"), (" ja ", "ja")]
    + [(name, "zh") for name in ("中文", "汉语", "cn", "CN", "zh_Hans", "zh-Hans-CN", "Chinese (Simplified)")]
    + [("日本語", "ja"), ("日语", "ja"), ("jp", "ja"), ("ja-JP", "ja"), ("한국어", "ko"), ("kr", "ko")]
    + [("en-US", "en"), ("en_US.UTF-8", "en"), ("English", "en"), ("German", "de"), ("Deutsch", "de")]
    + [("French", "fr"), ("Français", "fr"), ("fran\u0063\u0327ais", "fr"), ("pt-BR", "pt")]
    + [("Arabic", "ar"), ("العربية", "ar"), ("Spanish", "es"), ("español", "es"), ("Italian", "it")]
    + [("Portuguese", "pt"), ("Russian", "ru"), ("Русский", "ru"), ("Hindi", "hi"), ("हिन्दी", "hi")]
    + [("Vietnamese", "vi"), ("Tiếng Việt", "vi"), ("Thai", "th"), ("ไทย", "th"), ("Turkish", "tr")]
    + [("Türkçe", "tr"), ("Dutch", "nl"), ("Polish", "pl"), ("Indonesian", "id"), ("Bahasa Indonesia", "id")]
    + [("nb-NO", "no"), ("Hebrew", "he"), ("Ukrainian", "uk"), ("Farsi", "fa")],
)
def test_a_language_has_many_names(name: str, code: str) -> None:
    assert language_code(name) == code


@pytest.mark.parametrize("name", ["", "xx", "klingon", "e n"])
def test_an_unknown_language_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(ConfigError, match="there are ar, be, bg"):
        language_code(name)


@pytest.mark.parametrize(
    ("name", "close"),
    [("Germann", "german"), ("chinees", "chinese"), ("Portugese", "portuguese"), ("englisch", "english")],
)
def test_a_language_that_is_misspelt_is_met_with_what_comes_close(name: str, close: str) -> None:
    with pytest.raises(ConfigError, match=f"language '{name}' is not known.* Did you mean '{close}'"):
        language_code(name)


@pytest.mark.parametrize("name", ["en zh", "en,zh", "en/zh", "enn", "zh-", "english language", "e" * 10_000])
def test_what_is_more_than_a_name_is_no_language(name: str) -> None:
    with pytest.raises(ConfigError, match="is not known"):
        language_code(name)


def test_every_language_has_a_name_and_no_name_two_languages() -> None:
    names = [name for names in _NAMES_OF_LANGUAGES.values() for name in names.split()]
    assert set(_NAMES_OF_LANGUAGES) == set(SCRIPTS)
    assert len(set(names)) == len(names)
    assert not set(names) & set(SCRIPTS)


@pytest.mark.parametrize(
    ("completion", "share"),
    [
        (f"<think>{ENGLISH}</think><answer>{CHINESE}</answer>", 1.0),
        (f"{CHINESE}<think>{ENGLISH}</think><answer>4</answer>", 0.5),
        (f"<think>{ENGLISH}</think>{CHINESE}<answer>4</answer>", 0.5),
        (f"<think>{ENGLISH}</think><answer>4</answer>{CHINESE}", 0.5),
        (f"<think>{ENGLISH}</think><answer>{CHINESE}</answer><answer>4</answer>", 0.5),
        (f"{ENGLISH}<think></think>{ENGLISH}<answer>4</answer>", 0.0),
        ("<think>4</think><answer>4</answer>", 0.0),
    ],
)
def test_words_beside_the_tags_count_as_reasoning(completion: str, share: float) -> None:
    assert language_share(reasoning_of(completion), "en") == pytest.approx(share, abs=0.1)


def test_the_detector_tells_languages_of_one_script_apart() -> None:
    pytest.importorskip("lingua")
    detector = lingua_detector(("en", "fr", "zh"))
    assert language_share(FRENCH, "fr", detector) == 1.0
    assert language_share(FRENCH, "en", detector) == 0.0
    assert language_share(ENGLISH, "en", detector) == 1.0
    assert 0.3 < language_share(f"{ENGLISH}\n{FRENCH}", "en", detector) < 0.7
    # Chinese needs no detector, and pinyin is neither English nor French to be sure of.
    assert language_share(CHINESE, "zh", detector) == 1.0


def test_the_detector_needs_two_languages() -> None:
    pytest.importorskip("lingua")
    with pytest.raises(ConfigError, match="two or more"):
        lingua_detector(("en",))


# What is taken out --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a $b$ c", "a c"),
        ("a $$b\nd$$ c", "a c"),
        ("a `b` c", "a c"),
        ("a `b\nd` c", "a `b d` c"),
        ("a ```b\n`d` $e$``` c", "a c"),
        (r"a \(b\) \[d\] c", "a c"),
        (r"a \$5 and \$6", r"a \$5 and \$6"),
        ("$5 or $6", "$5 or $6"),
        ("a www.b.de/c?d#e f", "a f"),
    ],
)
def test_code_formulas_and_urls_are_taken_out(text: str, left: str) -> None:
    assert " ".join(prose(normalised(text)).split()) == left


HOSTILE = {
    "one word": "a",
    "words": "ab ",
    "dollars": "$",
    "dollars and letters": "$a ",
    "backquotes": "`",
    "fences": "```",
    "openers": r"\(",
    "environments": r"\begin{",
    "marks": "\u0301\u0323",
    "ligatures that stand for eighteen letters": "\ufdfa",
    "zero-width spaces": "\u200b",
    "Han": "好",
    "look-alikes": "a\u0430",
    "lines": "a\n",
    "runs of seven words": "ab ab ab ab ab ab ab 1 ",
    "addresses": "www.",
    "lone surrogates": "\ud800",
    "apostrophes": "a'",
}


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_quarter_of_a_megabyte_is_counted_at_once(piece: str) -> None:
    """Linear work takes a part of a second here; quadratic work would take many minutes."""
    text = piece * (250_000 // len(piece.encode("utf-8", "surrogatepass")))
    start = time.process_time()
    assert 0.0 <= language_share(text, "en") <= 1.0
    assert time.process_time() - start < 10
