"""`zerone replay`: the updates of a finished run come out again from its recorded answers alone."""

import json
from pathlib import Path

import pytest

from processes import arguments_of, call_main, metrics_of
from scripted import save_talking_model, write_problems
from zerone.runs.directory import RunDir
from zerone.runs.lineage import lineage_of_model

STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished run in `run`: refills, several updates a step, KL to a reference."""
    path = tmp_path_factory.mktemp("replay")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    changes = (f"rl.steps={STEPS}", "rl.refill=1", "rl.epochs=2", "rl.reference_every=2", "loss.kl_coef=0.05")
    code, _, err = call_main(path, *arguments_of(path, "run", *changes))
    assert code == 0, err
    return path


def _replay(folder: Path, name: str, *changes: str) -> tuple[int, str, str]:
    return call_main(folder, "replay", str(folder / "run"), f"--run-dir={folder / name}", *changes)


def test_an_unchanged_replay_makes_the_same_model_bit_for_bit(folder: Path) -> None:
    code, out, err = _replay(folder, "same")
    assert code == 0, err
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (folder / "same" / file).read_bytes() == (folder / "run" / file).read_bytes(), file
    assert f"the figures of {folder / 'run'} in all of {STEPS} steps" in out
    everything = "SELECT * FROM groups JOIN rollouts USING (step, position) ORDER BY step, position, sample"
    before, now = (
        [tuple(row) for row in RunDir(folder / name).query(everything)] for name in ("run", "same")
    )
    assert now == before
    made_by = lineage_of_model(str(folder / "same")).node.made_by
    assert made_by["does"] == f"reinforcement learning from the answers recorded in {folder / 'run'}"


def test_a_changed_optimiser_sees_the_same_answers_and_the_first_difference_is_told(folder: Path) -> None:
    code, out, err = _replay(folder, "slower", "optim.learning_rate=0.002", "rl.steps=2")
    assert code == 0, err
    before, now = metrics_of(folder / "run"), metrics_of(folder / "slower")
    assert [line["reward_mean"] for line in now] == [line["reward_mean"] for line in before[:2]]
    assert now[0]["loss"] != before[0]["loss"]  # the second of its updates starts elsewhere
    assert f"other figures than {folder / 'run'} from step 1 on: " in out


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("seed=1", "in step 1"),
        ("rl.group_size=2", "answers, and the replay asks"),
        (f"rl.steps={STEPS + 1}", "has no more answers"),
    ],
)
def test_answers_that_the_run_did_not_give_are_refused(folder: Path, change: str, complaint: str) -> None:
    code, _, err = _replay(folder, f"refused-{change}", change)
    assert code == 2
    assert complaint in err
    assert not (folder / f"refused-{change}" / "model").exists()


def test_only_runs_with_answers_of_their_own_are_replayed_and_none_is_overwritten(folder: Path) -> None:
    code, _, err = _replay(folder, "run")
    assert (code, f"{folder / 'run'} already holds a run; choose another --run-dir" in err) == (2, True)
    code, _, err = call_main(folder, "replay", str(folder / "base"), f"--run-dir={folder / 'none'}")
    assert (code, "is not a run directory" in err) == (2, True)
    other = folder / "other"
    other.mkdir()
    for name in ("config.yaml", "environment.json"):
        (other / name).write_bytes((folder / "run" / name).read_bytes())
    (other / "metrics.jsonl").write_text(json.dumps({"step": 1, "sampled_kl": 0.5}) + "\n", encoding="utf-8")
    code, _, err = call_main(folder, "replay", str(other), f"--run-dir={folder / 'none'}")
    assert (code, "did not learn by reinforcement" in err) == (2, True)


def test_dry_run_prints_the_run_s_configuration_with_the_changes(folder: Path) -> None:
    code, out, _ = _replay(folder, "dry", "optim.max_grad_norm=0.01", "--dry-run")
    assert code == 0
    assert "max_grad_norm: 0.01" in out
    assert "precision: fp32" in out
    assert not (folder / "dry").exists()
