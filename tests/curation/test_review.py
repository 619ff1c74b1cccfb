"""`zerone data review`: decisions by hand, kept at once, and edits that stay well formed."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from processes import call_main
from zerone.curation.review import Review, review_all
from zerone.errors import DataError


def sample(number: int) -> dict[str, Any]:
    completion = f"<think>I count.</think>\nThe answer is \\boxed{{{number}}}."
    return {"prompt": f"[b]{number}?", "completion": completion, "style": "boxed", "domain": "math"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(sample(i)) + "\n" for i in range(4)), encoding="utf-8")
    return path


def look(path: Path, keys: str, edits: Sequence[str] = ()) -> tuple[Review, str]:
    work = Review(path, path.with_suffix(".reviewed.jsonl"))
    shown, pressed, edited = io.StringIO(), iter(keys), iter(edits)
    ask: Callable[[str], str] = lambda text: next(pressed)  # noqa: E731
    review_all(work, Console(file=shown, width=80), ask, lambda text: next(edited))
    return work, shown.getvalue()


def written(path: Path) -> list[dict[str, Any]]:
    text = path.with_suffix(".reviewed.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_accepted_samples_are_written_and_rejected_ones_are_not(path: Path) -> None:
    work, shown = look(path, "arar")
    assert work.counts() == {"accepted": 2, "edited": 0, "rejected": 2, "open": 0}
    assert written(path) == [sample(0), sample(2)]
    assert "[b]0?" in shown  # no markup of the sample's is obeyed


def test_a_review_keeps_its_place(path: Path) -> None:
    look(path, "aq")
    work, shown = look(path, "rq")
    assert "2 of 4" in shown
    assert "1 of 4" not in shown
    assert work.counts()["open"] == 2
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([json.dumps(sample(9)) + "\n", *reversed(lines)]), encoding="utf-8")
    work, _ = look(path, "aaa")
    assert work.counts() == {"accepted": 4, "edited": 0, "rejected": 1, "open": 0}
    assert [one["prompt"] for one in written(path)] == ["[b]9?", "[b]3?", "[b]2?", "[b]0?"]


def test_an_edit_that_breaks_the_form_is_asked_for_again(path: Path) -> None:
    good = "<think>I think.</think>\nIt is \\boxed{0}."
    work, shown = look(path, "eq", ["no tags", good])
    assert work.counts() == {"accepted": 1, "edited": 1, "rejected": 0, "open": 3}
    assert "edit again" in shown
    assert written(path) == [{**sample(0), "completion": good, "edited": True}]


def test_an_edit_is_checked_against_the_form_of_a_sample_that_names_no_style(path: Path) -> None:
    bare = {key: value for key, value in sample(0).items() if key != "style"}
    plain = {"prompt": "p", "completion": "no thought at all"}
    path.write_text(json.dumps(bare) + "\n" + json.dumps(plain) + "\n", encoding="utf-8")
    good = "<think>I think.</think>\nIt is \\boxed{0}."
    work, shown = look(path, "ee", ["no tags", good, "another text"])
    assert work.counts() == {"accepted": 2, "edited": 2, "rejected": 0, "open": 0}
    assert " ".join(shown.split()).count("edit again") == 1
    assert [one["completion"] for one in written(path)] == [good, "another text"]


def test_an_unknown_style_is_refused_with_its_line(path: Path) -> None:
    path.write_text(json.dumps({**sample(0), "style": "loud"}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"d\.jsonl:1: style is one of tags, boxed, summary, not 'loud'"):
        look(path, "q")


def test_back_changes_a_decision_and_other_keys_change_nothing(path: Path) -> None:
    work, shown = look(path, "a?brq")
    assert "decided: accept" in shown
    assert work.counts() == {"accepted": 0, "edited": 0, "rejected": 1, "open": 3}


def test_a_decision_cut_by_a_crash_is_open_again(path: Path) -> None:
    look(path, "arq")
    decisions = path.with_name("d.jsonl.decisions")
    decisions.write_text(decisions.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    work, _ = look(path, "q")
    assert work.counts() == {"accepted": 1, "edited": 0, "rejected": 0, "open": 3}
    look(path, "aaa")
    assert Review(path, path.with_suffix(".reviewed.jsonl")).counts()["open"] == 0


@pytest.mark.parametrize("text", ["", "{", '{"prompt": "a"}', "[]", '{"prompt": 1, "completion": "b"}'])
def test_what_is_no_data_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        Review(path, path.with_suffix(".reviewed.jsonl"))


def test_the_command_says_what_is_to_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nq\n"))
    code, out, err = call_main(path.parent, "data", "review", str(path))
    assert code == 0, err
    assert "1 accepted (0 edited), 0 rejected, 3 to go" in out


def test_data_are_not_written_over_by_what_is_accepted_of_them(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"cannot go to .* itself; give another --out"):
        Review(path, path.parent / "." / path.name)
    assert path.read_bytes() == before


def test_a_sample_may_hold_what_python_takes_for_the_end_of_a_line(path: Path) -> None:
    told = sample(7) | {"prompt": "one\u2028two\u0085three"}
    path.write_text(json.dumps(told, ensure_ascii=False) + "\n", encoding="utf-8")
    work, _ = look(path, "aq")
    assert [each["prompt"] for each in work.samples] == [told["prompt"]]
    edited = Review(path, path.with_suffix(".reviewed.jsonl"))
    assert edited.counts()["accepted"] == 1


def test_a_sample_commands_no_terminal(path: Path) -> None:
    told = sample(0) | {"prompt": "a\x1b[8mb\u202ec", "domain": "[/b]\x1b[2J", "level": 0.5}
    told["completion"] += "\x1b]0;title\x07"
    path.write_text(json.dumps(told) + "\n", encoding="utf-8")
    _, shown = look(path, "aq")
    assert not set("\x1b\x07\u202e") & set(shown)
    assert r"a\x1b[8mb\u202ec" in shown
    assert r"[/b]\x1b[2J" in shown
    assert written(path) == [told]


def test_a_review_is_left_by_ctrl_c_as_by_q(path: Path) -> None:
    work = Review(path, path.with_suffix(".reviewed.jsonl"))
    pressed = iter("ar")

    def ask(text: str) -> str:
        key = next(pressed, None)
        if key is None:
            raise typer.Abort
        return key

    review_all(work, Console(file=io.StringIO()), ask)
    assert work.counts()["open"] == 2
    assert written(path) == [sample(0)]


def test_an_edit_that_lost_its_form_can_be_dropped(path: Path) -> None:
    work, shown = look(path, "eq", ["no tags", "no tags"])
    assert work.counts()["open"] == 4
    assert shown.count("1 of 4") == 2


def test_without_an_editor_the_message_names_the_remedy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "/nowhere/editor")
    monkeypatch.setattr("sys.stdin", io.StringIO("a\ne\n"))
    code, _, err = call_main(path.parent, "data", "review", str(path))
    assert code == 2
    assert "EDITOR" in err
    assert written(path) == [sample(0)]


def test_decisions_that_cannot_be_read_are_open_again(path: Path) -> None:
    look(path, "arq")
    decisions = path.with_name("d.jsonl.decisions")
    kept, spoilt = decisions.read_bytes().splitlines(keepends=True)
    decisions.write_bytes(kept + spoilt.replace(b'"reject"', b'"maybe"') + b"\xff\xfe\n[]\n")
    work, _ = look(path, "q")
    assert work.counts() == {"accepted": 1, "edited": 0, "rejected": 0, "open": 3}


def test_a_file_may_begin_with_a_byte_order_mark_and_have_windows_line_ends(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    work, _ = look(path, "q")
    assert work.samples == [sample(i) for i in range(4)]


def test_half_a_surrogate_pair_is_refused_with_its_line(path: Path) -> None:
    path.write_text(json.dumps({**sample(0), "note": "\ud800"}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"d\.jsonl:1: holds half of a surrogate pair"):
        look(path, "q")
