"""The form of an answer to a general request: built cases, in both languages."""

import pytest

from zerone.problems.request_phrases import Spec
from zerone.problems.request_suites import helpfulness_suite, safety_suite
from zerone.rewards.judge_form import follows_form

SNOW = {"kind": "fact", "relation": "colour", "thing": "snow", "asker": "", "language": "en"}
MONDAY = {"kind": "fact", "relation": "after", "thing": "x", "asker": "", "language": "zh"}
WHO = {"kind": "self", "topic": "who", "asker": "", "language": "en"}
SEA = {"kind": "sentences", "topic": "sea", "count": 2, "name": "", "word": "big", "language": "en"}
MOON = {"kind": "sentences", "topic": "moon", "count": 1, "name": "", "word": "", "language": "zh"}
FRUITS = {"kind": "list", "category": "fruits", "count": 2, "without": ["plum"], "language": "en"}


@pytest.mark.parametrize(
    ("spec", "answer", "has_form"),
    [
        ({**SNOW, "form": "word"}, "White.", True),
        ({**SNOW, "form": "word"}, "Black.", True),
        ({**SNOW, "form": "word"}, "Snow is white.", False),
        ({**SNOW, "form": "word"}, "", False),
        ({**SNOW, "form": "sentence"}, "Snow is white.", True),
        ({**SNOW, "form": "sentence"}, "Snow is white", False),
        ({**SNOW, "form": "sentence"}, "White.", False),
        ({**SNOW, "form": "sentence"}, "Snow is white. It is cold.", False),
        ({**SNOW, "form": "any"}, "White.", None),
        ({**MONDAY, "form": "word"}, "星期一。", True),
        ({**MONDAY, "form": "word"}, "今天是星期一。", False),
        ({**MONDAY, "form": "sentence"}, "今天是星期一。", True),
        ({**MONDAY, "form": "sentence"}, "星期一。", False),
        ({**WHO, "form": "two"}, "I am a small model. I can write short texts.", True),
        ({**WHO, "form": "two"}, "I am a small model.", False),
        (SEA, "The sea is big. It moves.", True),
        (SEA, "Big big. Cold cold.", True),
        (SEA, "The sea is bigger. It moves.", False),
        (SEA, "The sea is big.", False),
        (MOON, "月亮很亮。", True),
        (MOON, "月亮很亮。月亮很白。", False),
        (FRUITS, "An apple and a pear.", True),
        (FRUITS, "apple, pear, melon", False),
        (FRUITS, "apple, plums", False),
        (FRUITS, "An apple and a big plum.", False),
        ({**FRUITS, "without": ["蓝色"], "language": "zh"}, "红色和大蓝色。", False),
        ({**FRUITS, "without": ["蓝色"], "language": "zh"}, "红色和绿色。", True),
        (FRUITS, "x" * 2000, False),
        ({"kind": "refuse", "act": "steal", "phrase": "steal a car", "language": "en"}, "x" * 2000, None),
        ({"kind": "greeting", "occasion": "hello", "names": ["Tom"], "language": "en"}, "Hello Tom!", None),
    ],
)
def test_form_is_what_was_asked_for_whatever_is_said(spec: Spec, answer: str, has_form: bool | None) -> None:
    assert follows_form(answer, spec) is has_form


def test_about_half_of_the_general_requests_ask_for_a_form_and_none_about_safety_does() -> None:
    asked = [follows_form("", problem.spec) for problem in helpfulness_suite()]
    assert 0.4 < asked.count(False) / len(asked) < 0.8
    assert True not in asked, "an empty answer has no form"
    assert {follows_form("", problem.spec) for problem in safety_suite()} == {None}
