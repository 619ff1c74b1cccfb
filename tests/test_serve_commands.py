"""`zerone serve` and `zerone chat` from the command line: what they refuse, and a chat through a pipe."""

import io
import socket
from pathlib import Path

import pytest

from processes import call_main
from zerone.errors import ConfigError
from zerone.serve.keys import Keys


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
    assert "context" in err


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


@pytest.mark.parametrize("text", ["", "# only this\n\n", "a b c\n", "x 1\nx 2\n", "schlüssel\n"])
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
