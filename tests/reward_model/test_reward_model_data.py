"""Preference data: what is read, what is left out and why, and judges that go by position."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server import Answered, completion, serving
from zerone.data.pair_judgments import JudgedPair, Judgment, judge_pair, position_bias
from zerone.data.preferences import (
    Pair,
    PreferenceData,
    SafetyExample,
    clear_pairs,
    length_balanced,
    read_examples,
    read_preferences,
)
from zerone.engine.remote import Endpoint
from zerone.errors import DataError, RunDirError
from zerone.reward_model.embedded import embedded_rows
from zerone.reward_model.pair_judging import judge_pairs


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, *, min_margin: float = 0.3, balance: bool = True, share: float = 0.3) -> PreferenceData:
    return read_preferences(path, min_margin=min_margin, balance_lengths=balance, eval_share=share)


def rows_of(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Return pairs of which every second has the longer answer as the better one."""
    texts = [("yes, of course", "no"), ("yes", "no, of course not")]
    return [
        {"prompt": f"Ask {i}", "chosen": texts[i % 2][0], "rejected": texts[i % 2][1], "margin": 1} | changes
        for i in range(count)
    ]


# Selection ----------------------------------------------------------------------------------------


def test_every_line_is_used_or_counted_by_its_reason(tmp_path: Path) -> None:
    rows = rows_of(40)
    rows += [row | {"prompt": "near", "margin": 0.1} for row in rows_of(3)]
    rows += [row | {"prompt": "same", "rejected": row["chosen"]} for row in rows_of(2)]
    rows += [row | {"prompt": f"long {i}"} for i, row in enumerate(rows_of(10)[::2])]
    rows += [
        {
            "prompt": "j",
            "a": "x",
            "b": "y",
            "judgments": [{"first": "a", "score": 1}, {"first": "b", "score": 1}],
        }
    ]
    data = read(write(tmp_path / "pairs.jsonl", rows))
    assert data.dropped == {
        "no clear margin": 3,
        "both answers are the same": 2,
        "of the more frequent order of lengths": 5,
        "judged otherwise when the positions are swapped": 1,
    }
    assert len(data.trained) + len(data.held_out) + sum(data.dropped.values()) == len(rows)
    assert data.kind == "helpfulness"


def test_prompts_are_on_one_side_only(tmp_path: Path) -> None:
    rows = [row | {"prompt": f"Ask {i // 4}"} for i, row in enumerate(rows_of(80))]
    data = read(write(tmp_path / "pairs.jsonl", rows))
    trained, held_out = ({example.prompt for example in side} for side in (data.trained, data.held_out))
    assert trained and held_out and not trained & held_out


def test_what_is_longer_or_the_same_goes_by_the_final_answer() -> None:
    thought = "<think>a long thought about it</think>"
    pair = Pair(prompt="p", chosen=f"{thought} no", rejected="longer")
    assert pair.chosen_is_longer == -1
    dropped = Counter[str]()
    assert clear_pairs([Pair(prompt="p", chosen=f"{thought} no", rejected="no")], 0.0, dropped) == []
    assert dropped == {"both answers are the same": 1}


def test_a_pair_judged_in_one_position_is_left_out_and_counted(tmp_path: Path) -> None:
    row = {"prompt": "j", "a": "x", "b": "y", "judgments": [{"first": "a", "score": 1}] * 2}
    data = read(write(tmp_path / "pairs.jsonl", [*rows_of(40), row]))
    assert data.dropped == {"judged in one position only": 1}
    assert len(data.trained) + len(data.held_out) == 40


def test_balancing_keeps_the_clearest_and_does_not_go_by_the_order_of_the_file() -> None:
    longer = [Pair(prompt=f"{i}", chosen="long answer", rejected="no", margin=i / 10) for i in range(6)]
    shorter = [Pair(prompt=f"s{i}", chosen="ok", rejected="long answer") for i in range(2)]
    equal = [Pair(prompt="e", chosen="yes", rejected="not")]
    pairs, dropped = [*longer, *shorter, *equal], Counter[str]()
    kept = length_balanced(pairs, dropped)
    assert kept == [longer[4], longer[5], *shorter, *equal]
    assert dropped.total() == 4
    assert set(length_balanced(pairs[::-1], Counter())) == set(kept)


def test_a_file_that_balancing_empties_is_refused_with_the_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "long.jsonl", rows_of(20)[::2])
    with pytest.raises(DataError, match=r"10 of the more frequent order of lengths.*balance_lengths=false"):
        read(path)
    assert len(read(path, balance=False, share=0.5).trained) > 0


def test_safety_examples_are_read_as_they_are(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "response": "r", "is_safe": i % 3 == 0} for i in range(30)]
    data = read(write(tmp_path / "safety.jsonl", rows))
    assert (data.kind, len(data.trained) + len(data.held_out)) == ("safety", 30)
    kind, examples = read_examples(tmp_path / "safety.jsonl")
    assert (kind, examples[0]) == ("safety", SafetyExample(prompt="p0", response="r", is_safe=True))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not valid JSON"),
        ("[]", "a JSON object is needed, as in"),
        ('{"prompt": "a", "chosen": "b"}', "no field 'rejected'; a line has prompt, chosen and rejected"),
        ('{"prompt": 3, "chosen": "b", "rejected": "c"}', "prompt must be text, not int"),
        ('{"prompt": "a", "chosen": "b", "rejected": "c", "margin": -1}', "margin must be a number from 0"),
        ('{"prompt": "a", "chosen": "b", "rejected": "c", "margin": NaN}', "NaN is not a JSON value"),
        ('{"prompt": "a", "response": "b", "is_safe": 1}', "is_safe must be true or false, not 1"),
        ('{"prompt": "a", "a": "b", "b": "c", "judgments": []}', "judgments must be a list of at least one"),
        ('{"prompt": "a", "a": "b", "b": "c", "judgments": [{"first": "c", "score": 1}]}', "a judgment is"),
        ('{"prompt": "a", "a": "b", "b": "c", "judgments": 3}', "judgments must be a list of at least one"),
        ('{"prompt": "a", "a": "b", "b": "c", "judgments": ["a"]}', "a judgment is"),
        ('{"prompt": "a\\ud800", "chosen": "b", "rejected": "c"}', "holds half of a surrogate pair"),
        ("[" * 100_000, "not usable JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"bad\.jsonl:3: .*") as error:
        read(path)
    assert complaint in str(error.value)


def test_preferences_may_begin_with_a_byte_order_mark_and_have_windows_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", rows_of(40, margin=0.5))
    plain = read(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert (read(path).trained, read(path).held_out) == (plain.trained, plain.held_out)


def test_a_file_of_two_kinds_or_none_is_refused(tmp_path: Path) -> None:
    rows = [*rows_of(2), {"prompt": "p", "response": "r", "is_safe": True}]
    with pytest.raises(DataError, match="mixes preference pairs and safety examples"):
        read(write(tmp_path / "mixed.jsonl", rows))
    with pytest.raises(DataError, match="has no lines"):
        read(write(tmp_path / "empty.jsonl", []))
    with pytest.raises(DataError, match=r"missing\.jsonl does not exist"):
        read(tmp_path / "missing.jsonl")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["first", "score"]), inner),
    max_leaves=5,
)
_KEYS = st.sampled_from(
    ["prompt", "chosen", "rejected", "margin", "a", "b", "judgments", "response", "is_safe"]
)


@given(st.lists(st.dictionaries(_KEYS, _VALUES) | _VALUES, min_size=1, max_size=3))
def test_any_json_is_read_or_refused_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    try:
        read_examples(path)
    except DataError as error:
        assert "any.jsonl" in str(error)


def test_embedded_preferences_are_pairs_of_both_orders_and_labels_of_both_kinds(tmp_path: Path) -> None:
    pairs = list(embedded_rows("helpfulness", 60, seed=0))
    assert (
        pairs
        == list(embedded_rows("helpfulness", 60, seed=0))
        != list(embedded_rows("helpfulness", 60, seed=1))
    )
    data = read(write(tmp_path / "pairs.jsonl", pairs))
    assert not data.dropped, "clear, different, and balanced in length"
    labels = list(embedded_rows("safety", 60, seed=0))
    assert sum(row["is_safe"] for row in labels) == 30
    assert read(write(tmp_path / "safety.jsonl", labels)).kind == "safety"
    held_out = {row["prompt"] for row in embedded_rows("helpfulness", 60, seed=0, split="eval")}
    assert not held_out & {row["prompt"] for row in pairs}


# Judges -------------------------------------------------------------------------------------------


def by_length(prompt: str, first: str, second: str, number: int) -> float:
    return float(len(first) - len(second))


def first_is_better(prompt: str, first: str, second: str, number: int) -> float:
    return 1.0


def leaning(strength: float) -> Any:
    """Return a judge that looks at length, and with some chance only at the position."""
    rng = Random(0)

    def judge(prompt: str, first: str, second: str, number: int) -> float:
        return 1.0 if rng.random() < strength else by_length(prompt, first, second, number)

    return judge


def judged(judge: Any, count: int = 60) -> list[JudgedPair]:
    return [judge_pair(judge, f"p{i}", "a" * (1 + i % 7), "b" * (1 + i % 5)) for i in range(count)]


def test_judgments_are_made_in_both_positions_in_turns() -> None:
    pair = judge_pair(by_length, "p", "long", "b")
    assert [judgment.first for judgment in pair.judgments] == ["a", "b", "a", "b"]
    assert [judgment.of_a for judgment in pair.judgments] == [3.0] * 4
    assert (pair.preference, pair.is_consistent) == (3.0, True)


def test_each_position_has_equal_weight_however_often_it_was_judged() -> None:
    judgments = (*[Judgment(first="a", score=2.0)] * 3, Judgment(first="b", score=1.0))
    pair = JudgedPair(prompt="p", a="x", b="y", judgments=judgments)
    assert pair.preference == pytest.approx(0.5)
    assert not pair.is_consistent, "the first shown won both times"


def test_a_judge_that_goes_by_position_is_found_out() -> None:
    bias = position_bias(judged(first_is_better))
    assert bias is not None
    assert (bias.first_wins, bias.consistent, bias.is_biased) == (1.0, 0.0, True)
    leans = position_bias(judged(leaning(0.4), 120))
    assert leans is not None and leans.is_biased
    assert 0.6 < leans.first_wins < 0.8


def test_a_judge_that_ignores_the_position_is_not_accused() -> None:
    bias = position_bias(judged(by_length))
    assert bias is not None
    assert (bias.first_wins, bias.is_biased) == (0.5, False)
    assert (
        position_bias([JudgedPair(prompt="p", a="x", b="y", judgments=(Judgment(first="a", score=1),))])
        is None
    )


def test_a_judge_behind_http_reads_the_final_answers_and_no_thought(tmp_path: Path) -> None:
    a, b = "<think>secret of a</think>\n<answer>white</answer>", "<think>secret of b</think>\nThe box."
    source = write(tmp_path / "pairs.jsonl", [{"prompt": "Colour?", "a": a, "b": b}])

    def judge(path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Answered:
        asked = body["messages"][-1]["content"]
        (mark,) = re.findall(r"^Scores ([0-9a-f]{8}): N, M", asked, re.MULTILINE)
        return completion(f"Scores {mark}: 9, 2")

    with serving(judge) as server:
        judge_pairs(Endpoint(url=server.url, model="judge"), source, tmp_path / "judged.jsonl", 2)
    asked = [body["messages"][-1]["content"] for body in server.asked]
    assert len(asked) == 2
    for text in asked:
        assert "secret" not in text and "think>" not in text and "<answer>" not in text
        assert re.search(r"\nwhite\n", text) and re.search(r"\nThe box\.\n", text)
    (row,) = [json.loads(line) for line in (tmp_path / "judged.jsonl").read_text("utf-8").splitlines()]
    assert (row["a"], row["b"]) == (a, b), "what is kept is the whole response"


def test_judged_pairs_need_a_place_before_a_judge_is_asked(tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", [{"prompt": "p", "a": "x", "b": "y"}])
    with serving(lambda path, body, headers: completion("9")) as server:
        with pytest.raises(RunDirError, match="No such file"):
            judge_pairs(Endpoint(url=server.url, model="m"), source, tmp_path / "none" / "out.jsonl", 2)
        assert not server.asked
        write(source, [{"prompt": "p", "a": "x\ud800", "b": "y"}])
        with pytest.raises(DataError, match=r"pairs\.jsonl:1: holds half of a surrogate pair"):
            judge_pairs(Endpoint(url=server.url, model="m"), source, tmp_path / "out.jsonl", 2)
        write(source, [{"prompt": "p", "a": "x"}])
        with pytest.raises(DataError, match=r"pairs\.jsonl:1: .* is needed"):
            judge_pairs(Endpoint(url=server.url, model="m"), source, tmp_path / "out.jsonl", 2)


def test_a_file_of_judgments_reports_on_its_judge(tmp_path: Path) -> None:
    def row(pair: JudgedPair) -> dict[str, Any]:
        judgments = [{"first": judgment.first, "score": judgment.score} for judgment in pair.judgments]
        return {"prompt": pair.prompt, "a": pair.a, "b": pair.b, "judgments": judgments}

    path = write(tmp_path / "judged.jsonl", [row(pair) for pair in judged(leaning(0.4), 120)])
    data = read(path, balance=False)
    assert data.position_bias is not None and data.position_bias.is_biased
    assert data.dropped["judged otherwise when the positions are swapped"] > 20
    for example in data.trained:
        assert isinstance(example, Pair)
        assert len(example.chosen) > len(example.rejected), "where both positions agree, length decided"
