"""A damage matrix: every file of a run, damaged in every way, read by every command that reads it.

Each ends without a traceback and in time, with the very results of an undamaged run or with a sentence that
says what is damaged. The default suite takes a sample of it.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from damage import Damage, damages_of
from processes import arguments_of, call_main
from scripted import save_talking_model, write_problems
from zerone.errors import FileError
from zerone.files import parse_json
from zerone.runs.shapes import check_shape

LONGEST_S = 10.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished run `rl` and a finished run `sft`."""
    path = tmp_path_factory.mktemp("damage")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    lines = "".join(
        f'{{"prompt": "What is {n} + 1?", "completion": "<think>{n}</think><answer>{n + 1}</answer>"}}\n'
        for n in range(40)
    )
    (path / "answers.jsonl").write_text(lines, encoding="utf-8")
    for arguments in (resumed(path, "rl"), resumed(path, "sft")):
        code, _, err = call_main(path, *arguments)
        assert code == 0, err
    return path


def resumed(folder: Path, name: str) -> list[str]:
    """Return the command that goes on with a run; nothing of it is made again where all is there."""
    if name.startswith("rl"):
        small = ("rl.steps=2", "eval.every=0", "eval.problems=4", "checkpoint.every=1", "log.sample_every=0")
        return [*arguments_of(folder, name, *small, "rl.group_size=4", "rl.problems_per_step=4"), "--resume"]
    return [
        *("sft", f"--run-dir={folder / name}", "--resume", f"model.path={folder / 'base'}"),
        *(f"data.path={folder / 'answers.jsonl'}", "data.eval_share=0.2", "model.precision=fp32"),
        *("model.threads=1", "sft.epochs=1", "sft.batch_size=16", "sft.suite=none", "checkpoint.every=1"),
    ]


def commands(folder: Path, run: Path) -> Iterator[list[str]]:
    """Yield every command that reads a run, the one that writes into it last."""
    yield ["report", str(run)]
    yield ["report", str(run), str(folder / "rl"), f"--out={run.parent / 'compared.html'}"]
    yield ["lineage", str(run)]
    yield ["export", str(run), "--to=hf", f"--out={run.parent / 'exported'}"]
    if run.name.startswith("rl"):
        yield ["rollouts", str(run), "--best=1", "--worst=1"]
        yield ["reward", "audit", str(run), "--json"]
        yield ["replay", str(run), "rl.steps=1", f"--run-dir={run.parent / 'replayed'}", "--quiet"]
    yield resumed(run.parent, run.name)


def results_of(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in ("metrics.jsonl", "model/model.safetensors")}


def files_of(run: Path) -> list[Path]:
    """Return the files of a run that say something; of checkpoints the newest."""
    skipped = {".lock", "report.html"}
    last = max((run / "checkpoints").iterdir())
    return sorted(
        path.relative_to(run)
        for path in run.rglob("*")
        if path.is_file()
        and path.name not in skipped
        and (path.is_relative_to(last) or not path.is_relative_to(last.parent))
    )


def try_all(folder: Path, place: Path, run_name: str, file: Path, damage: Damage) -> list[str]:
    """Damage a file of a copy and run every command; return what went wrong."""
    wrong = []
    for command in commands(folder, place / run_name):
        if not _reads(command[0], file):
            continue
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for shared in ("base", "problems.jsonl", "answers.jsonl"):
            (place / shared).symlink_to(folder / shared)
        shutil.copytree(folder / run_name, place / run_name)
        damage(place / run_name / file)
        begun = time.monotonic()
        name = " ".join(command[:2])
        try:
            code, _, err = call_main(folder, *command)
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
            continue
        if time.monotonic() - begun > LONGEST_S:
            wrong.append(f"{name}: took {time.monotonic() - begun:.0f} s")
        if "Traceback" in err or (code and not err.strip()):
            wrong.append(f"{name}: ended with {code}: {err[-200:]}")
        if command[0] in ("zero", "sft") and code == 0 and "warning: " not in err:
            found, expected = results_of(place / run_name), results_of(folder / run_name)
            wrong += [
                f"{name}: another {key} without a word" for key in expected if found[key] != expected[key]
            ]
    return wrong


_READERS = {"checkpoints": ("zero", "sft"), "model": ("lineage", "export", "zero", "sft"), "best": ("sft",)}


def _reads(command: str, file: Path) -> bool:
    """Whether a command reads a file at all; the records of a run are read by most."""
    return command in _READERS.get(file.parts[0], (command,))


def matrix(run: Path) -> list[tuple[Path, str, Damage]]:
    return [(file, name, damage) for file in files_of(run) for name, damage in damages_of(run / file)]


def check(folder: Path, place: Path, run_name: str, cases: Sequence[tuple[Path, str, Damage]]) -> None:
    wrong = [
        f"{file}, {name}: {line}"
        for file, name, damage in cases
        for line in try_all(folder, place, run_name, file, damage)
    ]
    assert not wrong, f"{len(wrong)} of {len(cases)} damages:\n" + "\n".join(wrong[:60])


@pytest.mark.parametrize("run_name", ["rl", "sft"])
def test_a_sample_of_damages_ends_in_sentences(run_name: str, folder: Path, tmp_path: Path) -> None:
    cases = matrix(folder / run_name)
    assert len(cases) > 500
    check(folder, tmp_path / "place", run_name, Random(0).sample(cases, 8))


def numbers_of(tree: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the place of every number in objects, as keys from the top."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if isinstance(value, dict):
            yield from numbers_of(value, (*keys, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*keys, key)


@pytest.mark.parametrize("run_name", ["rl", "sft"])
def test_no_number_of_a_run_may_be_anything_else(run_name: str, folder: Path) -> None:
    """Each field that a run writes a number into is one that the readers check."""
    run = folder / run_name
    texts = {path.name: path.read_text("utf-8") for path in (run / "evals").glob("*.json")}
    for name in ("summary.json", "environment.json"):
        texts[name] = (run / name).read_text("utf-8")
    for name in ("metrics.jsonl", "timing.jsonl"):
        texts[name] = (run / name).read_text("utf-8").splitlines()[0]
    accepted = set()
    for name, text in texts.items():
        for *above, last in numbers_of(json.loads(text)):
            tree = parse_json(text, name)
            node = tree
            for key in above:
                node = node[key]
            node[last] = [[]]
            try:
                check_shape(tree, name)
            except FileError:
                continue
            accepted.add((name, *above, last))
    assert not accepted


@pytest.mark.slow
@pytest.mark.parametrize("run_name", ["rl", "sft"])
def test_every_kind_of_damage_of_every_file_ends_in_a_sentence(
    run_name: str, folder: Path, tmp_path: Path
) -> None:
    """Of the fields of a file every sixteenth: with all of them it takes an hour."""
    cases = matrix(folder / run_name)
    of_fields = [
        case for case in cases if case[0].suffix in (".json", ".jsonl", ".yaml") and _is_of_field(case[1])
    ]
    others = [case for case in cases if case not in of_fields]
    check(folder, tmp_path / "place", run_name, [*others, *of_fields[::16]])


def _is_of_field(name: str) -> bool:
    return name.endswith(" left out") or " is " in name
