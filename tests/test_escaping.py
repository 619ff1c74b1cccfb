"""What foreign text looks like in terminals, logs and pages: shown, and never obeyed."""

import io
import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fakes import graded, number_problem
from processes import call_main
from zerone.cli.eval import _lines
from zerone.cli.progress import completion_text
from zerone.curation.data_card import markdown_of
from zerone.escaping import marked, on_one_line, visible
from zerone.report.template import template

HOSTILE = (
    "\x1b[2J\x1b[1;1H",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\r1 of 1 passed",
    "a\x08\x08b",
    "\x7f\x00\x0b\x0c",
    "\u202egnissap\u202c",
    "\u2066\u2069\u200f\u061c",
    "\ud800 and \udfff",
    "\udcff",
    "\x85\u2028\u2029",
    "\ufeff\u200b\xad",
    "\ue000",
    "\U000e0041\U000e007f",
    "test 1: pass\npass: 1 of 1 passed",
    "[bold]markup[/bold] [/]",
)


@pytest.fixture
def no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))


HIDING: tuple[Literal["Cc", "Cf", "Cs", "Co", "Zl", "Zp"], ...] = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def hidden(text: str, allowed: str = "\n") -> list[str]:
    """Return the characters that act instead of showing."""
    return [char for char in text if char not in allowed and unicodedata.category(char) in HIDING]


@given(st.one_of(st.text(), st.text(st.characters(categories=HIDING)), st.sampled_from(HOSTILE)))
def test_all_text_is_shown_and_none_is_obeyed(text: str) -> None:
    shown = visible(text)
    assert hidden(shown, "\n\t") == []
    assert shown.encode("utf-8").decode() == shown
    assert visible(shown) == shown
    assert len(on_one_line(text).splitlines()) <= 1
    assert hidden(on_one_line(text)) == []
    assert all(line.startswith("| ") for line in marked(text).splitlines())
    if text.isprintable():
        assert visible(text) == on_one_line(text) == text


def test_plain_text_stays_as_it_is() -> None:
    text = "na\u00efve \u4e2d\u6587 \U0001f600 e\u0301 \t|\n x\xa0y\u3000z"
    assert visible(text) == text
    assert on_one_line("a\n\tb\\n") == "a\\n\\tb\\n"
    assert marked("a\nb") == marked("a\nb\n") == "| a\n| b\n"
    assert marked("") == ""
    assert marked("\n") == "| \n"


# The sandbox's own commands -------------------------------------------------------------------------


@pytest.mark.usefixtures("no_input")
@pytest.mark.parametrize("text", HOSTILE)
def test_output_of_a_program_cannot_pass_for_a_verdict(tmp_path: Path, text: str) -> None:
    program = tmp_path / "p.py"
    data = text.encode("utf-8", "surrogatepass")
    program.write_text(
        f"import os\nos.write(1, {data!r})\nos.write(2, {data!r})\nraise SystemExit(1)", encoding="ascii"
    )
    code, out, err = call_main(tmp_path, "sandbox", "run", str(program))
    if code == 2:
        pytest.skip(f"no isolation here: {err[:100]}")
    assert code == 1
    assert hidden(out) == hidden(err) == []
    ours = [line for line in out.splitlines() if not line.startswith("| ")]
    assert (len(ours), ours[0]) == (2, "runtime_error: 0 of 1 passed exit code 1")
    assert all(line.startswith("| ") for line in err.splitlines())


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_of_a_program_is_one_line(tmp_path: Path, text: str) -> None:
    program, tests = tmp_path / "p.py", tmp_path / "t.json"
    tests.write_text(
        json.dumps({"mode": "call", "entry": "f", "tests": [{"args": [], "expected": 1}]}), encoding="ascii"
    )
    for source in (f"def f(): raise ValueError({text!a})", f"raise ValueError({text!a})"):
        program.write_text(source, encoding="ascii")
        code, out, err = call_main(tmp_path, "sandbox", "run", str(program), "--tests", str(tests))
        if code == 2:
            pytest.skip(f"no isolation here: {err[:100]}")
        assert (code, err, hidden(out)) == (1, "", [])
        starts = [line[: line.index(":")] for line in out.splitlines()[:2]]
        assert (starts, len(out.splitlines())) == (["test 1", "runtime_error"], 3)


PAYLOADS = (
    b"\n",
    b"garbage\n",
    b"[\n",
    b"[0\n",
    b"{}\n[]\nnull\n",
    b"\xff\xfe\n",
    b"\x00" * 1000 + b"\n",
    b"[" * 100_000 + b"]" * 100_000 + b"\n",
    b"9" * 5000 + b"\n",
    b'[0,"output",0,"\\ud800"]\n',
    b'[0,"output",true,"x"]\n',
    b'[0,"output",0,["a"]]\n',
    b'[0,"output"]\n',
    b'[{"a":1},"output",0,"x"]\n',
    b'["load",' + b"[" * 300 + b"]" * 300 + b"]\n",
    b'["syntax",1,2,3]\n',
    b'["done"]\n',
    b'["output"]\n',
    b"no end of a line",
)


@pytest.mark.usefixtures("no_input")
@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_garbage_in_the_drivers_descriptors_is_no_traceback(tmp_path: Path, payload: bytes) -> None:
    """Descriptors of the driver are open to the program that it forked, by /proc."""
    program = tmp_path / "p.py"
    program.write_text(
        f"import os\npid = os.getppid()\nfor name in os.listdir(f'/proc/{{pid}}/fd'):\n    try:\n"
        "        with open(f'/proc/{pid}/fd/{name}', 'wb', 0) as file:\n"
        f"            file.write({payload!r})\n"
        "    except OSError:\n        pass\nprint('said')",
        encoding="ascii",
    )
    for arguments in ((), ("--json",)):
        code, out, err = call_main(tmp_path, "sandbox", "run", str(program), *arguments)
        if code == 2:
            pytest.skip(f"no isolation here: {err[:100]}")
        assert code in (0, 1)
        assert "Traceback" not in out + err
        assert hidden(out) == hidden(err) == []
        assert not arguments or json.loads(out.splitlines()[-1])["verdict"] != "refused"


# Everything else that shows what a model wrote --------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_a_completion_is_shown_in_the_terminal(text: str) -> None:
    whole = graded(number_problem())
    whole = replace(whole, rollout=replace(whole.rollout, text=f"<think>{text}</think>{text}"))
    console = Console(file=io.StringIO(), width=200)
    console.print(completion_text(whole))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert hidden(written) == []
    assert visible(text).splitlines()[0].strip() in written


@pytest.mark.parametrize("text", HOSTILE)
def test_a_reward_is_shown_line_by_line(tmp_path: Path, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()  # a command line holds no lone surrogates
    command = ["reward", "test", "--name", "exact", "--completion", f"<answer>{text}</answer>", "--gold", "A"]
    _, out, err = call_main(tmp_path, *command)
    assert hidden(out) == hidden(err) == []
    assert sum(line.startswith("outcome") for line in out.splitlines()) == 1


@pytest.mark.parametrize("text", [text for text in HOSTILE if not set("\ud800\udcff") & set(text)])
def test_a_complaint_about_data_is_one_line(tmp_path: Path, text: str) -> None:
    data = tmp_path / "data.jsonl"
    row = {"prompt": "x", "answer": {text: text}}
    data.write_text(json.dumps(row) + "\n", encoding="utf-8")
    code, out, err = call_main(tmp_path, "reward", "check", str(data))
    assert (code, hidden(out), hidden(err)) == (2, [], [])
    complaint, reason, count = out.splitlines()
    assert complaint.startswith(f"{data}:")
    assert "1 unusable: " in reason and count.endswith("1 unusable")


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_is_shown_and_not_obeyed(tmp_path: Path, text: str) -> None:
    name = text.replace("\x00", "").encode("utf-8", "replace").decode()
    code, out, err = call_main(tmp_path, "sandbox", "run", str(tmp_path / name / "p.py"))
    assert (code, out, hidden(err)) == (2, "", [])
    assert err.startswith("error: ")


@pytest.mark.parametrize("text", HOSTILE)
def test_pages_show_text_that_no_template_escapes_by_hand(text: str) -> None:
    page = template("parts.html.j2").environment.from_string("<p>{{ text }}{{ text|upper }}</p>{{ 1 }}")
    shown = page.render(text=text)
    assert hidden(shown, "\n\t") == []
    assert shown.encode("utf-8")


@pytest.mark.parametrize("text", HOSTILE)
def test_names_from_data_stay_within_their_line(text: str) -> None:
    assert all(hidden(on_one_line(line)) == [] for line in _lines({text: 1.0}))

    def card(name: str) -> str:
        cell = {"drawn": 1, "kept": 1, "dropped": {name: 1}}
        fields = {
            "samples": 1,
            "drawn": 1,
            "languages": {name: 1},
            "table": [{"domain": name, "samples": 1, "rounds": 1, "tokens": 1}],
            "sources": {name: {name: cell}},
            "dropped": {name: 1},
            "levels": {name: 1},
            "made_by": {name: name},
            "problems_skipped": 0,
        }
        return markdown_of("x", fields)

    assert hidden(card(text)) == []
    assert card(text).count("\n") == card("a").count("\n")
