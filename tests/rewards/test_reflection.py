"""What counts as a reflection word."""

import pytest

from zerone.rewards.reflection import REFLECTION_WORDS, count_reflection_words, reflection_spans


@pytest.mark.parametrize("word", REFLECTION_WORDS)
def test_every_listed_word_counts_once_in_any_case(word: str) -> None:
    assert count_reflection_words(f"so {word}, then {word.upper()}.") == 2


def test_parts_of_longer_words_do_not_count() -> None:
    assert count_reflection_words("waiter butter checkers unverify errors wrongly recheck error_1") == 0


def test_an_english_word_counts_between_chinese_characters() -> None:
    assert count_reflection_words("3+4=7不对wait等等3+5=8检查") == 3


def test_repeats_count_each_time() -> None:
    assert count_reflection_words("wait\nwait wait, but 再来一遍") == 5


def test_text_without_reflection_counts_zero() -> None:
    assert count_reflection_words("") == 0
    assert count_reflection_words("3+4=7 no 3+5=8 yes") == 0


def test_spans_cover_exactly_the_words() -> None:
    text = "no\nWait 检查 2+2"
    assert [text[start:end] for start, end in reflection_spans(text)] == ["Wait", "检查"]
