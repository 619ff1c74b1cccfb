"""A run is known by what it is made from: copied, moved or renamed it goes on, to the very same end."""

import json
import shutil
from functools import partial
from pathlib import Path
from random import Random

import pytest

from killing import fork_and_kill, moment
from pipelines import Notes, small_config, small_graph, small_pipeline
from processes import arguments_of, call_main
from scripted import save_talking_model, write_problems
from zerone.config.reading import read_recipe
from zerone.identity import sha256_of_path
from zerone.pipeline.run import State
from zerone.runs.directory import RunDir

ALL = small_graph().names


def hashes_of(run: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ALL:
        record = json.loads((run / name / "stage.json").read_text(encoding="utf-8"))
        found |= {
            f"{name}.{key}": sha256_of_path(run / name / made["path"])
            for key, made in record["outputs"].items()
        }
        assert {
            f"{name}.{key}": made["sha256"] for key, made in record["outputs"].items()
        }.items() <= found.items()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("moved")
    small_pipeline(path).run(False, Notes())
    return path


@pytest.mark.parametrize("is_moved", [False, True], ids=["copied", "moved"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_pipeline_killed_and_taken_elsewhere_ends_with_the_same_hashes(
    seed: int, is_moved: bool, folder: Path, tmp_path: Path
) -> None:
    """Killed where a stage is under way, which is then gone on with in the other directory."""
    rng, attempt = Random(seed), 0
    place = tmp_path / "here"
    small_config(folder)
    shutil.copy(folder / "problems.jsonl", tmp_path / "problems.jsonl")
    while not _is_under_way(place):
        shutil.rmtree(place, ignore_errors=True)
        work = partial(small_pipeline(tmp_path, "here").run, True, Notes())
        fork_and_kill(work, moment(rng, 0, 0.3, 2.5))
        attempt += 1
        assert attempt < 40, "no kill fell into a stage"
    there = tmp_path / "elsewhere" / "renamed"
    there.parent.mkdir()
    if is_moved:
        place.rename(there)
    else:
        shutil.copytree(place, there)
    small_pipeline(tmp_path, "elsewhere/renamed").run(True, Notes())
    assert hashes_of(there) == hashes_of(folder / "run")


def _is_under_way(place: Path) -> bool:
    """Whether a stage that has a model of the pipeline as its input was begun and is not done."""
    return any(
        (place / name / "config.yaml").exists()
        and not json.loads((place / name / "stage.json").read_text(encoding="utf-8"))["outputs"]
        for name in ("first", "second")
    )


def test_no_file_of_a_pipeline_names_its_directory(folder: Path) -> None:
    run = folder / "run"
    naming = [
        str(path.relative_to(run))
        for path in run.rglob("*")
        if path.is_file() and str(run).encode() in path.read_bytes() and path.name != "report.html"
    ]
    assert set(naming) <= {"summary.json"}, "which is written anew by each run"


def test_a_finished_pipeline_stays_done_where_it_is_moved(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "copy")
    shutil.copy(folder / "problems.jsonl", tmp_path / "problems.jsonl")
    assert {planned.state for planned in small_pipeline(tmp_path, "copy").plan()} == {State.DONE}


def test_a_stage_s_references_are_found_from_where_it_is_now(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "copy")
    options = read_recipe(tmp_path / "copy" / "first" / "config.yaml")
    assert options["model.path"] == str(tmp_path / "copy" / "base" / "model")
    assert RunDir(tmp_path / "copy" / "first").read_config()["model"]["path"] == "../base/model"


def test_other_problems_where_the_file_was_are_noticed(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "copy")
    lines = (folder / "problems.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "problems.jsonl").write_text("".join(lines[1:]), encoding="utf-8")
    plan = {planned.stage.name: planned for planned in small_pipeline(tmp_path, "copy").plan()}
    assert plan["first"].state is State.REPEAT
    assert plan["first"].reason == "its problems changed"


# A run of one stage -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, problems and a run of four steps."""
    path = tmp_path_factory.mktemp("runs")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    code, _, err = call_main(path, *arguments_of(path, "run"))
    assert code == 0, err
    return path


def taken(place: Path, tmp_path: Path) -> Path:
    """Return a copy of the run, with its model and problems elsewhere too."""
    shutil.copytree(place / "run", tmp_path / "run")
    shutil.copytree(place / "base", tmp_path / "models" / "renamed")
    shutil.copy(place / "problems.jsonl", tmp_path / "other.jsonl")
    return tmp_path / "run"


def test_a_moved_run_knows_moved_inputs_by_their_hash(place: Path, tmp_path: Path) -> None:
    run = taken(place, tmp_path)
    moved = (f"model.path={tmp_path / 'models' / 'renamed'}", f"data.path={tmp_path / 'other.jsonl'}")
    code, _, err = call_main(place, "zero", "--resume", str(run), *moved)
    assert code == 0, err
    assert (run / "model/model.safetensors").read_bytes() == (
        place / "run/model/model.safetensors"
    ).read_bytes()
    assert read_recipe(run / "config.yaml")["data.path"] == str(tmp_path / "other.jsonl"), "where it is now"


@pytest.mark.parametrize("what", ["problems", "model"])
def test_other_inputs_are_refused_wherever_they_lie(what: str, place: Path, tmp_path: Path) -> None:
    run = taken(place, tmp_path)
    if what == "problems":
        with (tmp_path / "other.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"prompt": "one more", "answer": "1"}\n')
        moved = f"data.path={tmp_path / 'other.jsonl'}"
    else:
        moved = f"model.path={_another(tmp_path)}"
    code, _, err = call_main(place, "zero", "--resume", str(run), moved)
    assert code == 2
    assert "has changed since" in err


def _another(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "renamed" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path.parent


def test_resume_alone_knows_its_own_options(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    for arguments in (["--resume", str(tmp_path / "run")], ["--resume", f"--run-dir={tmp_path / 'run'}"]):
        code, _, err = call_main(place, "zero", *arguments)
        assert code == 0, err
        assert (tmp_path / "run/metrics.jsonl").read_bytes() == (place / "run/metrics.jsonl").read_bytes()


def test_a_run_may_get_more_steps_and_ends_like_one_that_had_them_from_the_start(
    place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    code, _, err = call_main(
        place, "zero", "--resume", str(tmp_path / "run"), "rl.steps=6", "checkpoint.every=2"
    )
    assert code == 0, err
    code, _, err = call_main(place, *arguments_of(place, "longer", "rl.steps=6"))
    assert code == 0, err
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (place / "longer" / name).read_bytes()
    assert json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))["steps"] == 6


@pytest.mark.parametrize("change", ["rl.steps=3", "seed=3", "optim.learning_rate=0.02", "rl.group_size=8"])
def test_what_is_no_lengthening_is_refused(change: str, place: Path) -> None:
    code, _, err = call_main(place, "zero", "--resume", str(place / "run"), change)
    assert code == 2
    assert "was started with another configuration" in err
    assert change.partition("=")[0] in err


def test_two_runs_to_go_on_with_are_refused(place: Path) -> None:
    code, _, err = call_main(place, "zero", "--resume", str(place / "run"), f"--run-dir={place / 'base'}")
    assert code == 2
    assert "--resume continues one run" in err


# What is given twice ------------------------------------------------------------------------------


def test_of_two_values_the_last_counts_and_that_is_said(place: Path) -> None:
    code, out, err = call_main(place, "zero", "rl.steps=3", "seed=1", "--dry-run", "rl.steps=5", "seed=1")
    assert code == 0
    assert "steps: 5" in out
    assert err.strip() == "note: rl.steps=3 is replaced by rl.steps=5, which is given later"


@pytest.mark.parametrize("command", ["zero", "sft", "r1", "distill", "ablate", "pretrain"])
def test_a_recipe_and_a_file_together_are_refused(command: str, place: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("seed: 3\n", encoding="utf-8")
    more = {"distill": ["embedded"], "ablate": ["kl"], "pretrain": [f"--out={tmp_path / 'x'}"]}.get(
        command, []
    )
    given = [command, *more, "--recipe=tiny", f"--config={tmp_path / 'own.yaml'}", "--dry-run"]
    code, _, err = call_main(place, *given)
    assert code == 2
    assert "--recipe and --config are both given" in err


# Outputs and inputs -------------------------------------------------------------------------------


def test_a_run_is_not_written_over_what_it_is_made_from(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "base", run / "model")
    shutil.copy(place / "problems.jsonl", run / "metrics.jsonl")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for change in (f"model.path={run / 'model'}", f"data.path={run / 'metrics.jsonl'}"):
        code, _, err = call_main(place, *arguments_of(place, "x", change), f"--run-dir={run}")
        assert code == 2
        assert "is what is read" in err
        assert all(path.read_bytes() == data for path, data in before.items())


def _spellings(path: Path) -> list[Path]:
    link, hard = path.with_name("link"), path.with_name("hard")
    link.symlink_to(path)
    hard.hardlink_to(path)
    return [path, link, hard, path.parent / ".." / path.parent.name / path.name]


ROW = '{"verifier": "number", "completion": "<answer>1</answer>", "answer": "1"}\n'
SAMPLE = '{"prompt": "a", "completion": "<think>b</think><answer>c</answer>"}\n'
PAIR = '{"prompt": "a", "a": "b", "b": "c"}'


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (ROW, ["reward", "score", "IN", "--out=OUT"]),
        (SAMPLE, ["data", "review", "IN", "--out=OUT"]),
        (PAIR, ["reward-model", "judge", "IN", "--by=http://127.0.0.1:9/v1#m", "--out=OUT"]),
        (SAMPLE, ["data", "reject-sample", "data.path=IN", "--out=OUT"]),
        (SAMPLE, ["data", "cold-start", "--examples=IN", "--out=OUT"]),
        ("seed: 3\n", ["data", "cold-start", "--config=IN", "--out=OUT"]),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_no_command_destroys_its_input(text: str, arguments: list[str], place: Path, tmp_path: Path) -> None:
    given = tmp_path / "folder" / "in.jsonl"
    given.parent.mkdir()
    given.write_text(text, encoding="utf-8")
    for out in _spellings(given):
        command = [word.replace("IN", str(given)).replace("OUT", str(out)) for word in arguments]
        code, _, err = call_main(place, *command)
        assert code == 2
        assert "is what is read" in err
        assert given.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml", "rollouts.sqlite", "summary.json"])
def test_a_report_is_not_written_over_the_run(name: str, place: Path) -> None:
    before = (place / "run" / name).read_bytes()
    code, _, err = call_main(place, "report", str(place / "run"), f"--out={place / 'run' / name}")
    assert code == 2
    assert "is what is read" in err
    assert (place / "run" / name).read_bytes() == before


def test_an_evaluation_is_not_written_over_its_problems(place: Path, tmp_path: Path) -> None:
    shutil.copy(place / "problems.jsonl", tmp_path / "answers.jsonl")
    before = (tmp_path / "answers.jsonl").read_bytes()
    code, _, err = call_main(
        place, "eval", str(place / "base"), f"--suite={tmp_path / 'answers.jsonl'}", f"--out={tmp_path}"
    )
    assert code == 2
    assert "is what is read" in err
    assert (tmp_path / "answers.jsonl").read_bytes() == before
