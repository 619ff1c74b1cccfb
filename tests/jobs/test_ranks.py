"""Runs on several ranks: the figures of one process, checkpoints, faults and refusals."""

import json
import shutil
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from pipelines import distill_arguments
from processes import arguments_of, call_main, metrics_of, wait_until
from ranked_runs import fork_ranks, run_ranks_of, torchrun
from scripted import save_talking_model, write_problems
from sft_runs import arguments as sft_arguments
from sft_runs import demonstrations
from zerone.jobs import ranked
from zerone.processes import orders

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
    found: dict[str, Any] = {}
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
        query = (
            "SELECT position, sample, text, reward, completion_ids FROM rollouts WHERE step = ? ORDER BY 1, 2"
        )
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


@pytest.mark.slow
def test_distillation_on_two_ranks_has_the_figures_of_one_process(tmp_path: Path) -> None:
    save_talking_model(tmp_path / "talker")
    write_problems(tmp_path / "problems.jsonl")
    arguments = distill_arguments(tmp_path)
    codes, _, complaints = fork_ranks(tmp_path, *arguments).finish(300)
    assert codes == [0, 0], complaints
    (tmp_path / "run").rename(tmp_path / "two")
    code, _, err = call_main(tmp_path, *arguments)
    assert code == 0, err
    for stage in ("talker_on_policy", "qwen_xs_on_policy", "talker_distilled"):
        steps = len(metrics_of(tmp_path / "run" / stage))
        assert_same_to_rounding(tmp_path / "two" / stage, tmp_path / "run" / stage, steps)


# Faults -------------------------------------------------------------------------------------------


def wait_for_steps(run: Path, count: int) -> None:
    path = run / "metrics.jsonl"
    wait_until(
        lambda: (
            ((run / ".lock").exists() and not count)
            or (path.exists() and path.read_bytes().count(b"\n") >= count)
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


@pytest.mark.parametrize("steps", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_rank_that_hangs_is_given_up(folder: Path, steps: int) -> None:
    """Stopped, not killed: its connections stay open."""
    name = f"hung-{steps}"

    def impatient(rank: int) -> None:
        orders.join.__defaults__ = (orders.Patience(lost=6.0, collective=6.0, beat=0.5),)

    team = fork_ranks(folder, *zero(folder, name), before=impatient)
    wait_for_steps(folder / name, steps)
    team.kill(1, signal.SIGSTOP)
    wait_until(lambda: team.ranks[0].poll() is not None, "rank 0 waits for ever", 60)
    team.kill(1)
    codes, _, complaints = team.finish(20)
    assert codes == [1, -signal.SIGKILL]
    assert complaints[0].count("error: ") == 1 and "or hangs" in complaints[0], complaints


@pytest.mark.parametrize("is_evaluating", [False, True])
def test_a_wish_to_stop_saves_and_ends_all(folder: Path, two: Path, is_evaluating: bool) -> None:
    shutil.rmtree(folder / "stopped", ignore_errors=True)
    team = fork_ranks(folder, *zero(folder, "stopped"))
    if is_evaluating:  # the first evaluation, which a signal breaks off after an order
        while not team.ranks[0].stdout.readline().startswith("R1-Zero on"):
            pass
        time.sleep(0.3)
    else:
        wait_for_steps(folder / "stopped", 2)
    for rank in (1, 0):
        team.kill(rank, signal.SIGTERM)
    codes, _, complaints = team.finish(60)
    assert codes == [130, 0], complaints
    again = f"resume with: torchrun --nproc-per-node 2 -m zerone zero --resume {folder / 'stopped'}"
    assert again in complaints[0] and complaints[1] == ""
    metrics = folder / "stopped" / "metrics.jsonl"
    steps = len(metrics_of(folder / "stopped")) if metrics.exists() else 0
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


def refuse(
    folder: Path, before: Callable[[int], object], *changes: str, port: int | None = None
) -> list[str]:
    """Start two ranks that cannot work together; return what each says."""
    arguments = zero(folder, "apart", *changes)
    codes, _, complaints = fork_ranks(folder, *arguments, before=before, port=port).finish(60)
    assert codes[0] in (1, 2), complaints
    assert complaints[0].count("error: ") == 1 and "Traceback" not in "".join(complaints), complaints
    return complaints


def test_ranks_of_other_arguments_or_versions_are_refused(folder: Path) -> None:
    def other_arguments(rank: int) -> None:
        if rank:
            sys.argv.append("rl.steps=11")

    said = refuse(folder, other_arguments)
    assert "rank 1 (" in said[0] and "has arguments" in said[0] and "rl.steps=11" in said[0]
    assert said[1] == ""

    def other_version(rank: int) -> None:
        if rank:
            ranked.__version__ = "0.0"  # type: ignore[attr-defined]  # of this process alone

    said = refuse(folder, other_version)
    assert "has zerone 0.0, and rank 0 has" in said[0] and said[1] == ""


def test_a_rank_that_does_not_come_is_waited_for_in_vain(folder: Path) -> None:
    def hang(*_: Any) -> None:
        time.sleep(4)
        sys.exit(0)

    def late(rank: int) -> None:
        orders.join.__defaults__ = (orders.Patience(join=2.0 if rank == 0 else 30.0),)
        if rank:
            orders.Group.join = hang  # type: ignore[assignment, method-assign]  # of this process alone

    said = refuse(folder, late)
    assert "rank 1 of 2 has not come within 2 s" in said[0]


def test_a_port_that_is_taken_is_said(folder: Path) -> None:
    def hasty(rank: int) -> None:
        orders.join.__defaults__ = (orders.Patience(join=3.0),)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        team = fork_ranks(folder, *zero(folder, "port"), before=hasty, port=taken.getsockname()[1])
        wait_until(lambda: team.ranks[0].poll() is not None, "rank 0 hangs", 60)
    team.kill(1)  # it waits for an answer of whoever has the port; torchrun ends it with rank 0
    codes, _, complaints = team.finish(60)
    assert codes == [1, -signal.SIGKILL]
    assert "the ranks cannot meet at 127.0.0.1:" in complaints[0] and "--master-port" in complaints[0]


def test_a_run_directory_that_not_all_see_is_refused(folder: Path) -> None:
    def blind(rank: int) -> None:
        if rank:
            ranked.Path = lambda path: Path("/nowhere") / Path(path).name  # type: ignore[attr-defined, misc, assignment]  # another file system

    said = refuse(folder, blind)
    assert "rank 1 does not see" in said[0] and "share" in said[0]
    assert not (folder / "apart" / "config.yaml").exists()
    assert not (folder / "apart" / ".ranks").exists()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "must be numbers"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "describe no rank"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "describe no rank"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "1"}, "describe no rank"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, "cannot meet"),
    ],
)
def test_odd_variables_of_torchrun_are_refused(
    folder: Path, variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, _, err = call_main(folder, *zero(folder, "odd"))
    assert code in (1, 2) and message in err and "Traceback" not in err


def test_a_command_of_one_process_is_refused(folder: Path) -> None:
    codes, _, complaints = fork_ranks(folder, "eval", "model", str(folder / "base")).finish(60)
    assert codes == [2, 0]
    assert "`zerone eval` works in one process" in complaints[0] and complaints[1] == ""


# Several machines ---------------------------------------------------------------------------------


def test_shards_are_the_same_on_each_machine(folder: Path, two: Path) -> None:
    """Two machines of one rank each: every one has all rows, and the first writes them."""
    codes, _, complaints = fork_ranks(folder, *zero(folder, "nodes", "rl.steps=2"), nodes=2).finish()
    assert codes == [0, 0], complaints
    lines, expected = metrics_of(folder / "nodes"), metrics_of(two)[:2]
    for line, other in zip(lines, expected, strict=True):
        for key in ("loss", "grad_norm", "reward_mean", "entropy"):
            assert line[key] == pytest.approx(other[key], rel=TOLERANCE), key
    shards = folder / "nodes" / "checkpoints" / "step_000002" / "shards"
    sizes = [(shards / f"model.0000{rank}.safetensors").stat().st_size for rank in (0, 1)]
    assert sizes[1] < 200 < sizes[0]


@pytest.mark.slow
def test_four_ranks_on_two_machines_have_the_metrics_of_two_ranks(folder: Path, two: Path) -> None:
    codes, _, complaints = fork_ranks(folder, *zero(folder, "four"), size=4, nodes=2).finish(300)
    assert codes == [0, 0, 0, 0], complaints
    assert_same_to_rounding(folder / "four", two)


# torchrun itself ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_torchrun_trains_and_resumes(folder: Path, two: Path) -> None:
    process = torchrun(folder, *zero(folder, "by-torchrun"), "--quiet")
    wait_for_steps(folder / "by-torchrun", 3)
    process.terminate()
    _, complaints = process.communicate(timeout=60)
    assert complaints.count("interrupted: stopped after step") == 1, complaints
    process = torchrun(folder, *zero(folder, "by-torchrun", "--resume"), "--quiet")
    out, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints
    assert out.count("report: ") == 1
    assert (folder / "by-torchrun" / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
