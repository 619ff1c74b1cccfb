"""Runs on several ranks: the figures of one process, checkpoints, faults and refusals."""

import json
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from processes import arguments_of, call_main, metrics_of, wait_until
from ranked_runs import fork_ranks, run_ranks_of
from scripted import save_talking_model, write_problems
from sft_runs import demonstrations

STEPS = 10
TOLERANCE = 2e-3
"""Sums in another order: 5e-5 measured after ten updates by Adam, which enlarges what it gets."""
OF_ROUNDING = ("mismatch_kl",)
"""Figures that are nothing but rounding."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    (path / "data.jsonl").write_text(demonstrations(), encoding="utf-8")
    return path


def zero(folder: Path, name: str, *changes: str) -> list[str]:
    """Return the arguments of a run in which the reference changes, over two micro-batches a step."""
    return arguments_of(
        folder,
        name,
        f"rl.steps={STEPS}",
        "rl.reference_every=4",
        "rl.microbatch_tokens=256",
        "checkpoint.every=3",
        "checkpoint.keep=9",
        "log.sample_every=0",
        "optim.learning_rate=0.001",  # with more, rounding grows until a token is drawn otherwise
        *changes,
    )


@pytest.fixture(scope="module")
def two(folder: Path) -> Path:
    """A run on two ranks, left alone."""
    run_ranks_of(folder, *zero(folder, "two"))
    return folder / "two"


@pytest.fixture(scope="module")
def one(folder: Path) -> Path:
    """The same on one process."""
    code, _, err = call_main(folder, *zero(folder, "one", "model.trainer=parallel"))
    assert code == 0, err
    return folder / "one"


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def assert_same_to_rounding(found: Path, expected: Path, steps: int = STEPS) -> None:
    ours, theirs = metrics_of(found), metrics_of(expected)
    assert len(ours) == len(theirs) == steps
    for line, other in zip(ours, theirs, strict=True):
        left, right = flat(line), flat(other)
        assert left.keys() == right.keys()
        for key in left.keys() - {*OF_ROUNDING, "verdict"}:
            place = (line["step"], key, left[key], right[key])
            if left[key] is None or right[key] is None:
                assert left[key] is right[key], place
            else:
                assert abs(left[key] - right[key]) <= TOLERANCE * abs(right[key]) + 1e-7, place


def completions_of(run: Path, step: int) -> list[Any]:
    with sqlite3.connect(run / "rollouts.sqlite") as database:
        query = "SELECT position, sample, text, reward, tokens FROM rollouts WHERE step = ? ORDER BY 1, 2"
        return database.execute(query, (step,)).fetchall()


def test_two_ranks_have_the_metrics_of_one_process(one: Path, two: Path) -> None:
    assert_same_to_rounding(two, one)
    assert completions_of(two, 1) == completions_of(one, 1) != []
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (one, two))
    base = load_file(one.parent / "base" / "model.safetensors")
    assert any((ours[name] != base[name]).any() for name in base)
    for name, tensor in ours.items():
        assert (tensor - theirs[name]).abs().max() <= TOLERANCE * max(1.0, float(tensor.abs().max())), name


def test_each_rank_writes_its_part_of_a_checkpoint(two: Path) -> None:
    last = two / "checkpoints" / f"step_{STEPS:06d}"
    manifest = json.loads((last / "manifest.json").read_text(encoding="utf-8"))["sha256"]
    names = {
        f"shards/{name}.0000{rank}.safetensors"
        for name in ("model", "optimizer", "reference")
        for rank in (0, 1)
    }
    assert names <= manifest.keys()
    sizes = [(last / f"shards/model.0000{rank}.safetensors").stat().st_size for rank in (0, 1)]
    assert max(sizes) < 0.7 * sum(sizes)
    assert not list(two.glob("**/.ranks"))


def cut_back(run: Path, copy: Path, step: int) -> None:
    """Copy a run as it was when it was killed some steps after a checkpoint."""
    shutil.copytree(run, copy)
    for path in sorted((copy / "checkpoints").glob("step_*")):
        if path.name > f"step_{step:06d}":
            shutil.rmtree(path)
    (copy / "summary.json").unlink()


def test_a_run_of_two_ranks_goes_on_in_one_process(folder: Path, two: Path) -> None:
    cut_back(two, folder / "two-to-one", 6)
    code, _, err = call_main(folder, *zero(folder, "two-to-one", "--resume"))
    assert code == 0, err
    assert "another number of ranks than before" in err and "ranks 2 (now 1)" in err
    assert_same_to_rounding(folder / "two-to-one", two)


def test_a_run_of_one_process_goes_on_on_two_ranks(folder: Path, one: Path) -> None:
    cut_back(one, folder / "one-to-two", 6)
    arguments = zero(folder, "one-to-two", "model.trainer=parallel", "--resume")
    codes, _, complaints = fork_ranks(folder, *arguments).finish()
    assert codes == [0, 0], complaints
    assert "ranks 1 (now 2)" in complaints[0]
    assert_same_to_rounding(folder / "one-to-two", one)


def test_a_run_goes_on_at_the_same_number_of_ranks_byte_for_byte(folder: Path, two: Path) -> None:
    cut_back(two, folder / "again", 9)
    run_ranks_of(folder, *zero(folder, "again", "--resume"))
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (folder / "again" / name).read_bytes() == (two / name).read_bytes(), name


def test_a_damaged_shard_is_set_aside(folder: Path, two: Path) -> None:
    copy = folder / "damaged"
    shutil.copytree(two, copy)
    shard = copy / "checkpoints" / f"step_{STEPS:06d}" / "shards" / "model.00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8] + b"01234567")
    codes, _, complaints = fork_ranks(folder, *zero(folder, "damaged", "--resume")).finish()
    assert codes == [0, 0], complaints
    assert "model.00001.safetensors is not what was written" in complaints[0]
    assert (copy / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()


# Faults -------------------------------------------------------------------------------------------


def wait_for_steps(run: Path, count: int) -> None:
    path = run / "metrics.jsonl"
    wait_until(
        lambda: (
            (run / ".lock").exists()
            and not count
            or path.exists()
            and path.read_bytes().count(b"\n") >= count
        ),
        "no step",
        60,
    )


@pytest.mark.parametrize(
    ("rank", "steps"),
    [
        (1, 4),
        (0, 7),
        *(
            pytest.param(rank, steps, marks=pytest.mark.slow)
            for rank in (0, 1)
            for steps in (0, 1, 2, 3, 5, 8, 9)
        ),
    ],
)
def test_a_run_whose_rank_is_killed_goes_on_byte_for_byte(
    folder: Path, two: Path, rank: int, steps: int
) -> None:
    name = f"killed-{rank}-{steps}"
    team = fork_ranks(folder, *zero(folder, name))
    wait_for_steps(folder / name, steps)
    team.kill(rank)
    codes, _, complaints = team.finish(40)
    assert codes[rank] == -signal.SIGKILL
    if rank == 1:
        assert codes[0] == 1
        assert complaints[0].count("error: rank 1 ") == 1, complaints
        assert "has ended without a word" in complaints[0] and "--resume" in complaints[0]
    assert "Traceback" not in "".join(complaints)
    run_ranks_of(folder, *zero(folder, name, "--resume"))
    assert (folder / name / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()


def fail_in(name: str, error: Exception) -> Callable[[int], None]:
    """Have rank 1 fail at its third call of a method of the trainer."""

    def before(rank: int) -> None:
        from zerone.train.parallel import ParallelTrainer

        original, calls = getattr(ParallelTrainer, name), []

        def failing(*arguments: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise error
            return original(*arguments, **options)

        if rank == 1:
            setattr(ParallelTrainer, name, failing)

    return before


@pytest.mark.parametrize(
    ("method", "error", "code"),
    [
        ("compute", MemoryError("no memory left"), 1),
        ("weights", OSError("the disk is gone"), 1),
        ("apply", KeyError("odd"), 1),
    ],
)
def test_an_error_of_another_rank_is_said_once_and_ends_all(
    folder: Path, method: str, error: Exception, code: int
) -> None:
    name = f"failing-{method}"
    team = fork_ranks(folder, *zero(folder, name), before=fail_in(method, error))
    codes, _, complaints = team.finish(60)
    assert codes[0] == code
    assert complaints[0].count("error: rank 1: ") == 1, complaints
    if isinstance(error, KeyError):  # a fault of the program keeps its traceback
        assert "KeyError" in complaints[0] and "Traceback" in complaints[1]
    else:
        assert str(error) in complaints[0]
        assert (codes[1], complaints[1]) == (0, "")
    assert "Traceback" not in complaints[0]


def test_a_wish_to_stop_saves_and_ends_all(folder: Path, two: Path) -> None:
    team = fork_ranks(folder, *zero(folder, "stopped"))
    wait_for_steps(folder / "stopped", 2)
    for rank in (1, 0):
        team.kill(rank, signal.SIGTERM)
    codes, _, complaints = team.finish(60)
    assert codes == [130, 0], complaints
    assert "resume with" in complaints[0] and complaints[1] == ""
    steps = len(metrics_of(folder / "stopped"))
    assert (folder / "stopped" / "checkpoints" / f"step_{steps:06d}" / "shards").is_dir()
    run_ranks_of(folder, *zero(folder, "stopped", "--resume"))
    assert (folder / "stopped" / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()


# Fine-tuning --------------------------------------------------------------------------------------


def test_fine_tuning_on_two_ranks_has_the_figures_of_one_process(folder: Path) -> None:
    code, _, err = call_main(folder, *sft_arguments(folder, "sft-one", "model.trainer=parallel"))
    assert code == 0, err
    run_ranks_of(folder, *sft_arguments(folder, "sft-two"))
    steps = len(metrics_of(folder / "sft-one"))
    assert_same_to_rounding(folder / "sft-two", folder / "sft-one", steps)
    ours, theirs = (
        json.loads((folder / name / "summary.json").read_text(encoding="utf-8"))
        for name in ("sft-one", "sft-two")
    )
    for moment in ("base", "best", "final"):
        assert ours[moment]["step"] == theirs[moment]["step"]
        assert ours[moment]["loss"] == pytest.approx(theirs[moment]["loss"], rel=TOLERANCE)
    team = fork_ranks(folder, *sft_arguments(folder, "sft-killed"))
    wait_for_steps(folder / "sft-killed", 5)
    team.kill(1)
    assert team.finish(60)[0] == [1, -signal.SIGKILL]
    run_ranks_of(folder, *sft_arguments(folder, "sft-killed", "--resume"))
    assert (folder / "sft-killed" / "metrics.jsonl").read_bytes() == (
        folder / "sft-two" / "metrics.jsonl"
    ).read_bytes()


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ("rl.problems_per_step=1", "rl.minibatches=1"),
            "rl.problems_per_step=1 leaves some of 2 ranks without work",
        ),
        (("rl.algorithm=ppo",), "rl.algorithm=ppo works in one process only"),
        (("model.trainer=local",), "model.trainer=local works in one process only"),
        (("optim.kind=adamw_8bit",), "optim.kind=adamw_8bit works in one process only"),
    ],
)
def test_what_several_ranks_cannot_do_is_refused(
    folder: Path, changes: tuple[str, ...], message: str
) -> None:
    codes, _, complaints = fork_ranks(folder, *zero(folder, "refused", *changes)).finish(60)
    assert codes == [2, 0]
    assert complaints[0].count("error: ") == 1 and message in complaints[0]
    assert complaints[1] == ""
    assert not (folder / "refused" / "config.yaml").exists()
