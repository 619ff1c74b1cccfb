"""`zerone serve` and `zerone chat` from the command line: what they refuse, and a chat through a pipe."""

import copy
import io
import socket
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fakes import byte_tokenizer
from processes import call_main
from zerone.engine.api import Delta, Failure, Request, SamplingParams
from zerone.errors import ConfigError
from zerone.prompts.r1 import Style
from zerone.serve.chat_prompt import Prompter
from zerone.serve.keys import Keys
from zerone.serve.terminal import Chat, Manner, take_any_text
from zerone.types import Finish


def test_a_piped_chat_prints_answers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "What is 3 + 4?\n/again\n/nonsense\n/clear\n\nWhat is 3 + 4?\n/quit\nnever asked\n"
    options = ("--temperature", "0", "--max-tokens", "60")
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    code, out, err = call_main(tmp_path, "chat", "embedded", *options)
    assert code == 0, err
    answers = out.splitlines()
    assert len(answers) == 3
    assert len(set(answers)) == 1
    assert "<think>" not in out
    assert "\x1b" not in out
    assert err.count("(thought for ") == 3
    assert "/again asks once more" in err


def test_a_question_that_does_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("what " * 2000 + "\nWhat is 1 + 1?\n"))
    code, out, err = call_main(tmp_path, "chat", "embedded", "--max-tokens", "5")
    assert (code, len(out.splitlines())) == (0, 1)
    assert "lower --max-tokens" in err


class Scripted:
    """A scheduler that answers each job with the next of its pieces; an exception stands for Ctrl-C."""

    def __init__(self, *answers: Delta | Failure | type[BaseException]) -> None:
        self.answers = iter(answers)
        self.prompts: list[str] = []

    def submit(self, jobs: Sequence[Request]) -> None:
        answer = next(self.answers)
        for job in jobs:
            self.prompts.append(TOKENIZER.decode(job.prompt_ids))
            job.sink(answer if isinstance(answer, Delta | Failure) else Delta(index=0, content="half"))
            self.interrupt = None if isinstance(answer, Delta | Failure) else answer

    def cancel(self, jobs: Sequence[Request]) -> None:
        pass


TOKENIZER = copy.deepcopy(byte_tokenizer())
TOKENIZER.chat_template = "{%- for m in messages -%}{{ m.role[0] }}:{{ m.content }} {%- endfor -%}"


def scripted_chat(
    *answers: Delta | Failure | type[BaseException], is_terminal: bool = True
) -> tuple[Any, Chat]:
    """Return a scheduler that plays these answers, and a chat with it."""
    scheduler = Scripted(*answers)
    prompter = Prompter(
        tokenizer=TOKENIZER,
        uses_template=True,
        style=Style.TAGS,
        opens_thought=False,
        context=9999,
        max_characters=9999,
    )
    model: Any = SimpleNamespace(scheduler=scheduler, prompter=prompter, tokenizer=TOKENIZER, context=9999)
    chat = Chat(
        model,
        Manner(sampling=SamplingParams(), seed=0, thinks=True, shows_thought=True),
        is_terminal=is_terminal,
    )

    def write(text: str, *, is_dim: bool = False) -> None:
        if scheduler.interrupt is not None:
            raise scheduler.interrupt

    chat._write = write  # type: ignore[method-assign]  # where Ctrl-C comes, while an answer streams
    return scheduler, chat


def said(text: str) -> Delta:
    return Delta(index=0, content=text, finish=Finish.STOP)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, Failure(message="the engine failed")])
def test_again_after_a_fault_leaves_earlier_turns_as_they_were(fault: Any) -> None:
    scheduler, chat = scripted_chat(said("one"), fault, said("two"), said("three"), said("four"))
    chat.run(iter(["A", "B", "/again", "/again", "C"]))
    assert scheduler.prompts == [
        "u:A",
        "u:Aa:oneu:B",
        "u:Aa:oneu:B",
        "u:Aa:oneu:B",
        "u:Aa:oneu:Ba:threeu:C",
    ]


def test_in_a_pipe_an_interrupt_ends_the_chat() -> None:
    scheduler, chat = scripted_chat(KeyboardInterrupt, said("two"), is_terminal=False)
    with pytest.raises(KeyboardInterrupt):
        chat.run(iter(["A", "B"]))
    assert len(scheduler.prompts) == 1


def test_a_chat_survives_bytes_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = io.TextIOWrapper(io.BytesIO(b"\xff\xfe?\nWhat is 1 + 1?\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", lines)
    code, out, err = call_main(tmp_path, "chat", "embedded", "--max-tokens", "5")
    assert (code, len(out.splitlines())) == (0, 1)
    assert "not in UTF-8" in err


def test_a_chat_writes_what_the_terminal_cannot_show_as_question_marks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    take_any_text(io.StringIO(), written)
    monkeypatch.setattr("sys.stdout", written)
    _, chat = scripted_chat()
    Chat._write(chat, "\u4e2d\x1b[2J\u202e a\u3000b\n")
    written.seek(0)
    assert written.read() == "?\\x1b[2J\\u202e a?b\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_without_keys_only_loopback_is_served(tmp_path: Path, host: str) -> None:
    code, out, err = call_main(tmp_path, "serve", "embedded", "--host", host, "--port", "0")
    assert (code, out) == (2, "")
    assert "--api-key-file" in err


def test_what_cannot_be_served_is_refused(tmp_path: Path) -> None:
    for arguments, words in {
        ("serve", str(tmp_path / "none"), "--port", "0"): "does not exist",
        ("serve", "embedded", "--port", "0", "--compare", "embedded"): "both models are called",
        ("serve", "embedded", "--port", "0", "--price", "cheap"): "two amounts",
        ("serve", "embedded", "--port", "0", "--api-key-file", str(tmp_path / "none")): "key file",
        ("chat", str(tmp_path / "none")): "does not exist",
    }.items():
        code, _, err = call_main(tmp_path, *arguments)
        assert code == 2
        assert words in err


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = call_main(tmp_path, "serve", "embedded", "--port", port)
    assert code == 2
    assert "choose another" in err


@pytest.mark.parametrize(
    "text", ["", "# only this\n\n", "a b c\n", "x 1\nx 2\n", "schlüssel\n", "none secret\n"]
)
def test_key_files_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        Keys.read(path)


def test_keys_are_named_by_their_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# keys\nsecret1\nteam secret2\n", encoding="utf-8")
    keys = Keys.read(path)
    assert keys.name_of(b"Bearer secret1") == "key1"
    assert keys.name_of(b"bearer  secret2 ") == "team"
    assert keys.name_of(b"Bearer secret3") is None
    assert keys.name_of(b"") is None
