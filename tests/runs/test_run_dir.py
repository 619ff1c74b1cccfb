"""The run directory: one owner at a time, nothing half-written is believed, errors are ours."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import credited, few_problems, number_problem
from zerone.errors import FileError, RunDirError
from zerone.runs.directory import RunDir, write_atomically


def _recorded(path: Path, num_steps: int) -> RunDir:
    """Return a run directory with steps 1 .. num_steps, two groups each, and their evaluations."""
    run_dir = RunDir(path).lock()
    run_dir.start("seed: 1\n", {"seed": 1})
    for step in range(1, num_steps + 1):
        groups = [credited(number_problem(n), (1.1, 0.1), (1.0, -1.0)) for n in (step, step + 100)]
        run_dir.record_step({"step": step, "reward_mean": 0.6}, {"step": step, "total_s": 2.5}, groups)
        run_dir.write_eval(step, {"step": step, "suites": {}})
    return run_dir


_HOLD = """
import sys
from pathlib import Path
from zerone.errors import FileError, RunDirError
from zerone.runs.directory import RunDir
try:
    RunDir(Path(sys.argv[1])).lock()
except RunDirError as error:
    print("refused:", error)
else:
    print("held", flush=True)
    sys.stdin.readline()
"""


def _another_process(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_second_process_is_refused_while_the_first_holds_the_run(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run").lock()
    answer, _ = _another_process(run_dir.path).communicate()
    assert answer.startswith("refused:")
    assert "in use by another process" in answer
    assert "--run-dir" in answer
    run_dir.unlock()
    answer, _ = _another_process(run_dir.path).communicate("\n")
    assert answer == "held\n"


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    other = _another_process(tmp_path)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(RunDirError, match="in use"):
        RunDir(tmp_path).lock()
    other.kill()
    other.communicate()
    RunDir(tmp_path).lock().unlock()


def test_lock_makes_the_directory_and_starts_no_run(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "a" / "b").lock()
    assert run_dir.path.is_dir()
    assert not run_dir.has_run
    run_dir.unlock()
    run_dir.unlock()


def test_configuration_is_written_last_since_it_marks_the_run(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.config_path.mkdir()
    with pytest.raises(RunDirError):
        run_dir.start("seed: 1\n", {"seed": 1})
    assert run_dir.read_environment() == {"seed": 1}


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    run_dir = _recorded(tmp_path, 2)
    assert run_dir.has_run
    assert run_dir.read_config_yaml() == "seed: 1\n"
    assert run_dir.read_environment() == {"seed": 1}
    assert run_dir.read_metrics() == [{"step": 1, "reward_mean": 0.6}, {"step": 2, "reward_mean": 0.6}]
    timing = run_dir.read_timing()
    assert [(line["step"], line["total_s"]) for line in timing] == [(1, 2.5), (2, 2.5)]
    assert all(line["peak_rss_bytes"] > 10e6 for line in timing)
    assert run_dir.read_evals() == {step: {"step": step, "suites": {}} for step in (1, 2)}
    assert run_dir.read_summary() is None
    run_dir.write_summary({"steps": 2, "note": "等等"})
    assert run_dir.read_summary() == {"steps": 2, "note": "等等"}


def test_empty_directory_reads_as_nothing_recorded(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    assert (run_dir.read_metrics(), run_dir.read_timing(), run_dir.read_evals()) == ([], [], {})
    run_dir.rewind(0)
    assert run_dir.read_metrics() == []


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7])
def test_rewind_drops_everything_after_a_step_and_nothing_before(tmp_path: Path, step: int) -> None:
    run_dir = _recorded(tmp_path, 3)
    before = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    run_dir.rewind(step)
    kept = [s for s in (1, 2, 3) if s <= step]
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(before[:step])
    assert [line["step"] for line in run_dir.read_timing()] == kept
    assert sorted(run_dir.read_evals()) == kept
    assert [row["step"] for row in run_dir.query("SELECT DISTINCT step FROM groups ORDER BY step")] == kept
    (count,) = run_dir.query("SELECT count(*) AS n, max(step) AS last FROM rollouts")
    assert tuple(count) == (4 * len(kept), max(kept, default=None))


def test_rewound_steps_recorded_again_leave_the_same_files(tmp_path: Path) -> None:
    straight, resumed = _recorded(tmp_path / "a", 3), _recorded(tmp_path / "b", 3)
    resumed.rewind(1)
    for step in (2, 3):
        groups = [credited(number_problem(n), (1.1, 0.1), (1.0, -1.0)) for n in (step, step + 100)]
        resumed.record_step({"step": step, "reward_mean": 0.6}, {"step": step, "total_s": 9.9}, groups)
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == (tmp_path / "b/metrics.jsonl").read_bytes()
    everything = "SELECT * FROM groups JOIN rollouts USING (step, position) ORDER BY step, position, sample"
    assert [tuple(row) for row in straight.query(everything)] == [
        tuple(row) for row in resumed.query(everything)
    ]


@pytest.mark.parametrize("cut", ['{"step": 4', '{"step": 4}', "{", '{"step": 4, "verdict": "\\u4e'])
def test_line_cut_by_a_crash_is_ignored_and_removed_by_rewind(tmp_path: Path, cut: str) -> None:
    """A line counts once its end is written: even a whole object may lack digits that were to come."""
    run_dir = _recorded(tmp_path, 3)
    for name in ("metrics.jsonl", "timing.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write(cut)
    assert [line["step"] for line in run_dir.read_metrics()] == [1, 2, 3]
    assert [line["step"] for line in run_dir.read_timing()] == [1, 2, 3]
    run_dir.rewind(3)
    run_dir.record_step({"step": 4}, {"step": 4}, [])
    assert [line["step"] for line in run_dir.read_metrics()] == [1, 2, 3, 4]


def test_rollouts_whose_metrics_line_was_never_written_are_replaced(tmp_path: Path) -> None:
    """The database is written first, so a crash between the two leaves rollouts without a line."""
    run_dir = _recorded(tmp_path, 1)
    lines = (tmp_path / "metrics.jsonl").read_text()
    again = [credited(number_problem(5), (0.1, 0.1), (0.0, 0.0))]
    run_dir.record_step({"step": 2}, {"step": 2}, [*again, *again])
    (tmp_path / "metrics.jsonl").write_text(lines)
    run_dir.rewind(1)
    run_dir.record_step({"step": 2}, {"step": 2}, again)
    assert [row["position"] for row in run_dir.query("SELECT position FROM groups WHERE step = 2")] == [0]


def test_query_gives_rollouts_as_they_were(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path).lock()
    groups = [credited(problem, (1.1, 0.1), (0.5, -0.5)) for problem in few_problems()]
    run_dir.record_step({"step": 1}, {"step": 1}, groups)
    rows = list(
        run_dir.query(
            "SELECT * FROM groups JOIN rollouts USING (step, position) WHERE reward >= ? ORDER BY position",
            (1.0,),
        )
    )
    assert len(rows) == len(groups)
    for row, group in zip(rows, groups, strict=True):
        problem, rollout = group.group.problem, group.group.members[0].rollout
        assert (row["problem_id"], row["family"], row["level"]) == (problem.id, problem.family, problem.level)
        assert (row["language"], row["prompt"], row["text"]) == (
            problem.language,
            problem.prompt,
            rollout.text,
        )
        assert json.loads(row["spec"]) == problem.spec
        assert json.loads(row["parts"]) == {"accuracy": 1.0, "format": 1.0}
        assert (row["outcome"], row["finish"], row["advantage"]) == ("correct", "stop", 0.5)
        prompt_ids = struct.unpack(f"<{len(rollout.prompt_ids)}i", row["prompt_ids"])
        assert prompt_ids == rollout.prompt_ids
        assert struct.unpack(f"<{row['num_tokens']}i", row["completion_ids"]) == rollout.completion_ids
        assert struct.unpack(f"<{row['num_tokens']}f", row["logprobs"]) == rollout.sampler_logprobs


def test_query_cannot_change_the_rollouts(tmp_path: Path) -> None:
    run_dir = _recorded(tmp_path, 1)
    with pytest.raises(RunDirError, match=r"cannot read .*rollouts\.sqlite: attempt to write a readonly"):
        list(run_dir.query("DELETE FROM groups"))


def test_query_of_a_directory_without_rollouts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"has no rollouts\.sqlite; is it a run directory"):
        list(RunDir(tmp_path).query("SELECT 1"))
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "old and long")
    write_atomically(path, "新")
    assert path.read_text(encoding="utf-8") == "新"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    """A directory in the temporary file's place stops the write before the replacement."""
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    path.with_name(".a.json.tmp").mkdir()
    with pytest.raises(RunDirError, match=r"cannot write .*a\.json"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_atomic_write_that_cannot_replace_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.mkdir()
    with pytest.raises(RunDirError, match=r"cannot write .*a\.json"):
        write_atomically(path, "new")
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_a_run_dir_error_and_loses_nothing(tmp_path: Path) -> None:
    """Writes to /dev/full fail with "no space left", for root as well."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    run_dir = _recorded(tmp_path, 1)
    (tmp_path / "timing.jsonl").unlink()
    (tmp_path / "timing.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunDirError, match=r"timing\.jsonl: No space left.*--resume"):
        run_dir.record_step({"step": 2}, {"step": 2}, [])
    assert run_dir.read_metrics() == [{"step": 1, "reward_mean": 0.6}]


# Root ignores permission bits, so "cannot be written" is made by a file where a directory should be.


@pytest.fixture
def blocked(tmp_path: Path) -> RunDir:
    (tmp_path / "file").write_text("not a directory")
    return RunDir(tmp_path / "file" / "run")


def test_directory_that_cannot_be_made_is_a_run_dir_error(blocked: RunDir) -> None:
    with pytest.raises(RunDirError, match=r"cannot use .*run as a run directory: Not a directory"):
        blocked.lock()
    with pytest.raises(RunDirError, match=r"cannot use .*file as a run directory: File exists"):
        RunDir(blocked.path.parent).lock()


def test_start_in_a_directory_that_cannot_be_written_is_a_run_dir_error(blocked: RunDir) -> None:
    with pytest.raises(RunDirError, match="cannot write"):
        blocked.start("seed: 1\n", {"seed": 1})


def test_evaluation_that_cannot_be_written_is_a_run_dir_error(tmp_path: Path) -> None:
    (tmp_path / "evals").write_text("not a directory")
    with pytest.raises(RunDirError, match="cannot write"):
        RunDir(tmp_path).write_eval(1, {})


def test_rollouts_that_cannot_be_written_are_a_run_dir_error(tmp_path: Path) -> None:
    (tmp_path / "rollouts.sqlite").mkdir()
    groups = [credited(number_problem(1), (1.1, 0.1), (1.0, -1.0))]
    with pytest.raises(RunDirError, match=r"cannot write .*rollouts\.sqlite"):
        RunDir(tmp_path).record_step({"step": 1}, {"step": 1}, groups)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize("name", ["rollouts.sqlite", "summary.json"])
def test_rewind_that_cannot_be_done_is_a_run_dir_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(RunDirError):
        RunDir(tmp_path).rewind(0)


@pytest.mark.parametrize("precision", ["null", '"fp16"', "1", "[]"])
def test_an_environment_of_no_known_precision_is_refused(tmp_path: Path, precision: str) -> None:
    (tmp_path / "environment.json").write_text(f'{{"precision": {precision}}}')
    with pytest.raises(FileError, match=r"environment\.json: precision holds .*, not fp32 or bf16"):
        RunDir(tmp_path).read_environment()


@pytest.mark.parametrize("text", ["", "{", "\x00", "[]", "1"])
def test_damaged_json_is_a_run_dir_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "environment.json").write_text(text)
    with pytest.raises(RunDirError, match=r"cannot read .*environment\.json"):
        RunDir(tmp_path).read_environment()


@pytest.mark.parametrize("line", [b"hello", b"[1]", b"\xff\xfe", b'{"reward": 1}', b'{"step": null}'])
@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_a_damaged_line_is_a_run_dir_error_that_names_it(tmp_path: Path, name: str, line: bytes) -> None:
    (tmp_path / name).write_bytes(b'{"step": 1}\n' + line + b"\n")
    run = RunDir(tmp_path)
    for read in (run.read_metrics if name == "metrics.jsonl" else run.read_timing, lambda: run.rewind(1)):
        with pytest.raises(RunDirError, match=rf"{name}:2: |cannot read .*{name}"):
            read()


def test_missing_files_of_a_run_are_run_dir_errors(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"environment\.json"):
        RunDir(tmp_path).read_environment()
    with pytest.raises(RunDirError, match=r"config\.yaml"):
        RunDir(tmp_path).read_config_yaml()


def test_names_of_the_run_directory_are_kept(tmp_path: Path) -> None:
    """Users and outside checks read these files; a renamed one is a broken promise."""
    run_dir = _recorded(tmp_path, 1)
    run_dir.write_summary({"steps": 1})
    run_dir.unlock()
    assert sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    ) == [
        ".lock",
        "config.yaml",
        "environment.json",
        "evals/step_000001.json",
        "metrics.jsonl",
        "rollouts.sqlite",
        "summary.json",
        "timing.jsonl",
    ]
    assert run_dir.model_path == tmp_path / "model"
    assert run_dir.checkpoints_path == tmp_path / "checkpoints"
    assert run_dir.report_path == tmp_path / "report.html"


def test_what_is_no_name_of_a_file_is_refused(tmp_path: Path) -> None:
    for path in (Path("."), tmp_path):
        with pytest.raises(RunDirError, match="directory"):
            write_atomically(path, "text")
