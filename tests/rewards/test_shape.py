"""Repetition and length: punishments that honest texts do not meet."""

import json
import time
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.rewards.shape import NGRAM, overlong_punishment, repeated_share, repetition_punishment

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_test.jsonl"


@pytest.mark.parametrize(
    ("text", "lowest", "highest"),
    [
        ("", 0, 0),
        ("wait " * (NGRAM - 1), 0, 0),
        ("wait " * 200, 0.99, 1),
        ("wait, no. " * 100, 0.95, 1),
        ("等等不对" * 100, 0.95, 1),
        ("3+5=8 no. " * 60, 0.95, 1),
        ("One sentence of ten words that is said but once. " * 20, 0.9, 1),
        (" ".join(f"word{i}" for i in range(500)), 0, 0),
        ("So we try 3+5=8, then 3*5=15, then 5-3=2, and the last one is right.", 0, 0),
    ],
)
def test_loops_are_told_from_texts(text: str, lowest: float, highest: float) -> None:
    assert lowest <= repeated_share(text) <= highest
    assert repetition_punishment(text) == -repeated_share(text)


@given(st.lists(st.sampled_from("abcde好等"), max_size=60).map(" ".join))
def test_repeating_a_text_never_lowers_its_share(text: str) -> None:
    assert 0.0 <= repeated_share(text) <= repeated_share(f"{text} {text}") <= 1.0


@given(st.text(max_size=100))
def test_upper_case_is_no_way_out(text: str) -> None:
    assert repeated_share(text.upper().lower()) == pytest.approx(repeated_share(text.upper()))


@pytest.mark.skipif(not GSM8K.exists(), reason="the published GSM8K file is not here")
def test_solutions_that_people_wrote_hardly_repeat_themselves() -> None:
    answers = [json.loads(line)["answer"] for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    assert fmean(map(repeated_share, answers)) < 0.001


@pytest.mark.parametrize("piece", ["a", "a ", "好", "+", "\x00", "\ud800", "ab1_"])
def test_a_megabyte_is_measured_at_once(piece: str) -> None:
    start = time.process_time()
    repeated_share(piece * (1_000_000 // len(piece)))
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("num_tokens", "punishment"),
    [(0, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (99, -0.95), (100, -1.0), (101, -1.0), (10**9, -1.0)],
)
def test_overlong_grows_linearly_within_the_buffer(num_tokens: int, punishment: float) -> None:
    assert overlong_punishment(num_tokens, max_tokens=100, buffer=20) == pytest.approx(punishment)
