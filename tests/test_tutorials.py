"""Commands and snippets of README, tutorials and first how-to pages are executed, as a reader would.

Trainings are tried by --dry-run, which opens all that the run would open; evaluations take two problems.
Names that stand for something of the reader's (DIR, TEACHER, gsm8k_train.jsonl, Qwen/Qwen2.5-0.5B) are a
tiny model and small files.
"""

import contextlib
import io
import itertools
import json
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fake_hub import online
from pages import blocks, commands_of, files_of, typed_lines
from processes import call_main, run_program, start
from serving import live_server, ready_url

ROOT = Path(__file__).parents[1]
NAMES = (
    "README.md",
    "docs/index.md",
    "docs/smollm2.md",
    "docs/r1.md",
    "docs/distillation.md",
    "docs/use_model.md",
    "docs/environment.md",
    "docs/own_data.md",
    "docs/own_reward.md",
    "docs/own_model.md",
    "docs/reward_hacking.md",
    "docs/compare.md",
)
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}

SMALL = (
    "rl.problems_per_step=2",
    "rl.group_size=4",
    "eval.problems=2",
    "eval.mixed_samples=1",
    "eval.hard_samples=2",
    "model.threads=1",
    "model.precision=fp32",
)
GSM8K = [
    {"question": f"Ann has {i} apples and buys 3. How many?", "answer": f"{i}+3={i + 3}\n#### {i + 3}"}
    for i in range(60)
]
PROBLEMS = [{"prompt": f"What is {i}+3?", "answer": str(i + 3), "source": "Ann"} for i in range(60)]
FILES: dict[str, list[dict[str, Any]]] = {
    "gsm8k_train.jsonl": GSM8K,
    "gsm8k_test.jsonl": GSM8K[:3],
    "train.jsonl": GSM8K,
    "problems.jsonl": PROBLEMS,
    "PROBLEMS.jsonl": PROBLEMS,
    "data.jsonl": PROBLEMS,
    "mine.jsonl": PROBLEMS[:3],
    "exam.jsonl": [{"task": f"{i}+3?", "solution": f"Easy.\nResult: {i + 3}"} for i in range(60)],
    "rows.jsonl": [{"id": 1, "verifier": "number", "answer": "4", "completion": "<answer>4</answer>"}],
    "FILE": [
        {"prompt": f"{i}+3", "completion": f"<think>{i}+3</think><answer>{i + 3}</answer>"} for i in range(60)
    ],
    "COLD_START.jsonl": [
        {"prompt": f"{i}+3", "completion": f"<think>{i}</think>So it is \\boxed{{{i + 3}}}."}
        for i in range(60)
    ],
    "PAIRS.jsonl": [
        {
            "prompt": f"Hi {i}",
            "chosen": f"Hello {i}",
            "rejected": ("No", "No, I will not")[i % 2],
            "margin": 1,
        }
        for i in range(120)
    ],
    "EXAMPLES.jsonl": [
        {"prompt": f"Hi {i}", "response": f"Hello {i}", "is_safe": i % 2 == 0} for i in range(120)
    ],
}
"""What stands for a reader's own files."""

NOT_RUN = {
    ("model", "smollm2-135m"): "makes a model of 0.5 GB from a package: tests marked real",
    (
        "eval",
        "http://127.0.0.1:8000/v1",
        "--model",
        "NAME",
    ): "fetches a suite; an endpoint is tried below",
    (
        "r1",
        "--run-dir",
        "DIR",
        "r1.reward.helpfulness_model=http://HOST:PORT/v1#MODEL",
    ): "needs a judge",
    ("serve", "runs/r1/r1"): "needs R1, half an hour of work; serving is tried with runs/zero-1",
    ("report", "runs/r1"): "needs R1",
    ("lineage", "runs/r1/r1"): "needs R1; runs/zero-1 is tried below",
    ("rollouts", "runs/sums"): "needs the training that the page tries by --dry-run; runs/zero-1 is tried",
    ("reward", "audit", "runs/sums"): "the same",
    ("eval", "compare"): "needs two evaluations, which the tests of eval compare make",
    (
        "distill",
        "TEACHER",
        "qwen_xs",
        "--run-dir",
        "DIR",
        "--resume",
    ): "resumes a directory that is not there yet",
}
"""Beginnings of commands that are only parsed (test_docs.py) -> why."""

OTHER_LINES = (
    "git clone ",
    "make ",
    "source ",
    "python3 -m venv ",
    "pip install ",
    "python make_problems.py",
)
"""What else a reader types; the installation is tried by test_release.py, `make` by test_docs.py."""

TRAINING = ("zero", "sft", "r1", "distill")


@dataclass(frozen=True, slots=True)
class Desk:
    """The folder that a reader works in, with what they have by then."""

    folder: Path

    def call(self, *arguments: str, stdin: str = "") -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            code, out, err = call_main(self.folder, *arguments)
        assert code == 0, f"{shlex.join(arguments)}\n{out[-2000:]}\n{err[-2000:]}"
        return out


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("reader") / "desk"
    folder.mkdir()
    desk = Desk(folder)
    desk.call("zero", "--recipe", "tiny", "rl.steps=3", *SMALL, "--run-dir", "runs/zero-1")
    desk.call("export", "runs/zero-1", "--to", "hf", "--out", "MODEL")
    for name in ("DIR", "my-model-of-my-own"):
        shutil.copytree(folder / "MODEL", folder / name)
    for name, rows in FILES.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "completion.txt").write_text("<answer>4</answer>", encoding="utf-8")
    (folder / "brief.py").write_text(
        "def brief(completion, answer, problem):\n    return 1.0\n", encoding="utf-8"
    )
    for page in PAGES.values():
        for name, text in files_of(page).items():
            (folder / name).write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "make_problems.py"], cwd=folder, check=True, timeout=60)
    with online(folder) as hub:
        model = {path.name: path.read_bytes() for path in (folder / "MODEL").iterdir() if path.is_file()}
        hub.hub.add("models", "Qwen/Qwen2.5-0.5B", model)
        yield desk


def as_run(command: list[str]) -> list[str]:
    """Return a page's command with what makes it short, and with names of what the desk has."""
    names = {"TEACHER": "runs/zero-1", "my-model": "my-model-of-my-own"}
    done = [names.get(word, word) for word in command]
    if "--run-dir" in done:
        at = done.index("--run-dir") + 1
        done[at] = f"new/{done[at]}"
    if "--out" in done:
        at = done.index("--out") + 1
        done[at] = f"new-{zlib.crc32(shlex.join(command).encode())}-{done[at].replace('/', '-')}"
    if done[0] in TRAINING:
        done = [*done, *([] if "--dry-run" in done else ["--dry-run"]), "model.threads=1"]
        if "smollm2_sums" in done:
            done.append("model.path=MODEL")
    if done[0] == "eval" and "--suite" in done and "contamination" not in done:
        done += ["--limit", "2", "--k", "2", "sampling.max_tokens=16"]
    return done


def beginning_of(command: list[str]) -> tuple[str, ...] | None:
    return next((known for known in NOT_RUN if tuple(command[: len(known)]) == known), None)


ALL = {(name, shlex.join(command)): command for name, page in PAGES.items() for command in commands_of(page)}
RUN = {
    shlex.join(as_run(command)): command
    for command in ALL.values()
    if beginning_of(command) is None and command[0] not in ("serve", "view", "chat")
}


@pytest.mark.parametrize("line", list(RUN))
def test_a_command_of_the_pages_works(desk: Desk, line: str) -> None:
    command = as_run(RUN[line])
    if "gguf" in command:
        pytest.importorskip("gguf")
    if any("lora" in word for word in command):
        pytest.importorskip("peft")
    desk.call(*command, stdin="<answer>4</answer>")


@pytest.mark.parametrize(
    "line",
    sorted(
        {
            shlex.join(command)
            for command in ALL.values()
            if command[0] in ("serve", "view") and beginning_of(command) is None
        }
    ),
)
def test_a_server_of_the_pages_answers(desk: Desk, line: str) -> None:
    command = shlex.split(line)
    process = start(desk.folder, *command, "--port", "0", cwd=desk.folder)
    try:
        with urllib.request.urlopen(ready_url(process), timeout=30) as page:
            assert b"<html" in page.read()[:500].lower()
    finally:
        process.kill()
        process.communicate()


def test_the_chat_of_the_pages_answers(desk: Desk) -> None:
    assert ["chat", "runs/zero-1"] in ALL.values()
    assert desk.call("chat", "runs/zero-1", stdin="Use the numbers 3, 5, 8 to make 16.\n").strip()


def test_the_client_of_the_page_talks_to_the_server(desk: Desk, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    (snippet,) = [
        text
        for language, text in blocks(PAGES["docs/use_model.md"])
        if language == "python" and "OpenAI(" in text
    ]
    served = shutil.copytree(desk.folder / "runs" / "zero-1", tmp_path / "zero-1")
    with live_server(tmp_path, model=str(served), key=None) as live:
        program = tmp_path / "client.py"
        program.write_text(snippet.replace("http://127.0.0.1:8000", live.url), encoding="utf-8")
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            runpy.run_path(str(program))
        out = desk.call(
            *("eval", f"{live.url}/v1", "--model", "zero-1", "--suite", "mini-aime"),
            *("--limit", "2", "--k", "2", "sampling.max_tokens=16", "--json"),
        )
    assert said.getvalue().strip()
    assert json.loads(out)["num_problems"] == 2


def test_the_snippet_of_the_python_api_works(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    (snippet,) = [text for language, text in blocks(page) if language == "python"]
    small = snippet.replace('"model.threads=1"]', f'"model.threads=1", *{list(SMALL)!r}]')
    assert small != snippet
    run_program(tmp_path, small)
    assert (tmp_path / "runs" / "from-python" / "summary.json").exists()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_is_typed(name: str) -> None:
    """A new kind of line on these pages needs a way to be tried, or a place in `OTHER_LINES`."""
    lines = [line for line in typed_lines(PAGES[name]) if not line.startswith(("zerone ", *OTHER_LINES))]
    assert [line for line in lines if not line.startswith("{")] == []


def test_what_is_not_run_is_on_a_page_and_has_a_reason() -> None:
    begun = {known for known in (beginning_of(command) for command in ALL.values()) if known is not None}
    assert begun == set(NOT_RUN)
    assert len(NOT_RUN) <= 10
    assert len(RUN) >= 40
    assert all(len(reason) > 5 for reason in NOT_RUN.values())
    runs = list(itertools.chain.from_iterable(as_run(command) for command in RUN.values()))
    assert runs.count("--dry-run") >= 15 and os.environ.get("HF_TOKEN") is None
