"""What happens to the process of a command: its screen goes away, signals end it, its place is deleted."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import zerone
from forking import fork
from processes import arguments_of, command_line, environment_of_runs, metrics_of, start, wait_until
from scripted import save_talking_model, write_problems


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("process")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    return path


def run(folder: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return] # options of subprocess
        command_line(*arguments),
        env=environment_of_runs(folder),
        text=True,
        timeout=120,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


# The screen ---------------------------------------------------------------------------------------


def test_a_run_whose_reader_went_away_goes_on_to_its_end(folder: Path) -> None:
    """As with `| head -1`: what is in the files is that of a run that was watched."""
    read, write = os.pipe()
    os.close(read)
    done = run(folder, *arguments_of(folder, "unwatched"), stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "unwatched" / "summary.json").exists()
    assert len(metrics_of(folder / "unwatched")) == 4


def test_a_full_screen_is_told_in_the_exit_code_and_the_run_is_complete(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(folder, *arguments_of(folder, "full"), stdout=full)
    assert done.returncode == 1
    assert "standard output could not be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "full" / "summary.json").exists()


@pytest.mark.parametrize("arguments", [["recipes"], ["config", "show"], ["config", "options"], ["--version"]])
def test_a_command_that_only_shows_fails_where_nothing_is_shown(arguments: list[str], folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(folder, *arguments, stdout=full)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_streams_that_were_closed_before_the_start_are_no_files_of_the_run(folder: Path) -> None:
    script = f"exec {' '.join(command_line(*arguments_of(folder, 'closed')))} >&- 2>&- <&-"
    done = subprocess.run(["sh", "-c", script], env=environment_of_runs(folder), timeout=120, check=False)
    assert done.returncode == 0
    assert len(metrics_of(folder / "closed")) == 4, "nothing that was printed is among the figures"


def test_both_streams_may_go_away(folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = run(folder, *arguments_of(folder, "both"), stdout=write, stderr=write)
    os.close(write)
    assert done.returncode == 0
    assert (folder / "both" / "summary.json").exists()


def test_scoring_for_a_reader_that_went_away_stops(folder: Path) -> None:
    rows = folder / "rows.jsonl"
    row = json.dumps({"verifier": "number", "completion": "<answer>1</answer>", "answer": "1"})
    rows.write_text(f"{row}\n" * 20_000, encoding="utf-8")
    process = start(folder, "reward", "score", str(rows))
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 1
    assert "standard output is closed; " in process.stderr.read()


# Signals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_in_a_run_saves_it_and_says_how_to_go_on(number: signal.Signals, folder: Path) -> None:
    name = f"stopped-{number.name}"
    process = fork(folder, *arguments_of(folder, name, "rl.steps=50"))
    wait_until(lambda: (folder / name / "metrics.jsonl").exists(), "no step was made", 60)
    os.kill(process.pid, number)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "interrupted: stopped after step" in err
    assert "--resume" in err
    steps = len(metrics_of(folder / name))
    assert (folder / name / "checkpoints" / f"step_{steps:06d}" / "progress.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
@pytest.mark.parametrize(
    "arguments", [["reward", "score", "-"], ["reward", "test", "--name=number", "--completion=-"]]
)
def test_a_signal_ends_a_command_that_is_no_run_with_a_sentence(
    arguments: list[str], number: signal.Signals, folder: Path
) -> None:
    process = start(folder, *arguments, stdin=subprocess.PIPE)
    time.sleep(3)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith("interrupted; finished work is saved")
    assert "Traceback" not in err


def test_a_run_that_ignores_hanging_up_is_not_ended_by_it(folder: Path) -> None:
    """As started by nohup."""
    ignoring: Callable[[], object] = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    process = fork(folder, *arguments_of(folder, "nohup"), before=ignoring)
    wait_until(lambda: (folder / "nohup" / "metrics.jsonl").exists(), "no step was made", 60)
    os.kill(process.pid, signal.SIGHUP)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert (folder / "nohup" / "summary.json").exists()


def test_a_terminal_that_is_closed_leaves_a_run_that_can_go_on(folder: Path) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command_line(*arguments_of(folder, "hung-up", "rl.steps=50")),
        env=environment_of_runs(folder),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    drained = threading.Thread(target=_drain, args=(leader,), daemon=True)
    drained.start()
    wait_until(lambda: (folder / "hung-up" / "metrics.jsonl").exists(), "no step was made", 60)
    os.kill(process.pid, signal.SIGHUP)
    os.kill(process.pid, signal.SIGHUP)
    assert process.wait(60) == 130
    assert list((folder / "hung-up" / "checkpoints").glob("step_*/progress.json"))


def _drain(terminal: int) -> None:
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass


# Endpoints ----------------------------------------------------------------------------------------


class _Silent(BaseHTTPRequestHandler):
    """Takes a request and does not answer it."""

    def do_POST(self) -> None:
        time.sleep(60)

    def do_GET(self) -> None:
        body = b'{"data": [{"id": "m"}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def silent() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Silent)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_ctrl_c_during_a_request_ends_within_two_seconds(
    number: signal.Signals, folder: Path, silent: str
) -> None:
    out = folder / f"evaluated-{number.name}"
    process = start(
        folder,
        *("eval", silent, "--model=m", f"--suite={folder / 'problems.jsonl'}", "--limit=4", "--k=1"),
        f"--out={out}",
    )
    wait_until(lambda: (out / "answers.jsonl").exists(), "nothing was asked", 60)
    time.sleep(1)
    begun = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - begun < 2
    assert process.returncode == 130
    assert "answers are kept" in err
    assert "Traceback" not in err


# Its place ----------------------------------------------------------------------------------------


def test_a_deleted_working_directory_is_named(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    script = f"rmdir '{place}'; exec '{sys.executable}' -m zerone recipes"
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=place,
        env={**environment_of_runs(folder), "PYTHONPATH": str(Path(zerone.__file__).parents[1])},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "the working directory has been deleted" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_no_utf_8_is_refused_by_name(folder: Path) -> None:
    name = os.fsdecode(b"run-\xff")
    for arguments in (["zero", f"--run-dir={name}"], ["report", name], ["zero", f"model.path={name}"]):
        done = run(folder, *arguments)
        assert done.returncode == 2
        assert "is not UTF-8" in done.stderr
        assert "Traceback" not in done.stderr
