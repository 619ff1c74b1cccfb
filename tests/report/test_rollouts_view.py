"""The terminal view of a step's rollouts."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from zerone.errors import RunDirError, UserError
from zerone.prompts.r1 import write_completion
from zerone.report.rollouts_view import show_rollouts
from zerone.runs.directory import RunDir
from zerone.types import Credited, Finish, Graded, Group, Outcome, Problem, Rollout


def _graded(problem: Problem, sample: int, text: str, reward: float) -> Graded:
    rollout = Rollout(
        problem=problem,
        sample=sample,
        prompt_ids=(1,),
        completion_ids=(2, 3),
        sampler_logprobs=(-0.1, -0.2),
        text=text,
        finish=Finish.STOP,
        weight_version=0,
    )
    return Graded(
        rollout=rollout,
        outcome=Outcome.CORRECT if reward >= 1 else Outcome.WRONG,
        parts={"accuracy": float(reward >= 1), "format": 1.0},
        reward=reward,
        answer="8",
    )


def _credited(prompt: str, answers: list[tuple[str, float]]) -> Credited:
    problem = Problem(
        id=prompt, family="countdown", level=2, language="en", prompt=prompt, verifier="number", spec={}
    )
    members = tuple(_graded(problem, i, text, reward) for i, (text, reward) in enumerate(answers))
    mean = sum(reward for _, reward in answers) / len(answers)
    return Credited(
        group=Group(problem=problem, members=members),
        advantages=tuple(reward - mean for _, reward in answers),
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "a").lock()
    easy = [(write_completion(f"right {i}", "8"), 1.1) for i in range(3)]
    uneven = [(write_completion("alone right", "8"), 1.1), ("plain wrong", 0.0), ("tagged wrong", 0.1)]
    run.record_step({"step": 1}, {"step": 1}, [_credited("First question", easy)])
    run.record_step(
        {"step": 2}, {"step": 2}, [_credited("Easy question", easy), _credited("Uneven question", uneven)]
    )
    return run


def _shown(
    run: RunDir, step: int | None = None, *, worst: int = 0, best: int = 0, terminal: bool = False
) -> str:
    file = io.StringIO()
    console = Console(
        file=file, width=80, force_terminal=terminal, color_system="standard" if terminal else None
    )
    show_rollouts(run, step, worst, best, console)
    return file.getvalue()


def test_last_step_is_shown_by_default(run: RunDir) -> None:
    text = _shown(run)
    assert "step 2: 2 groups, 6 rollouts, 66.7% correct" in text
    assert "First question" not in text
    assert "First question" in _shown(run, 1)


def test_table_sums_up_each_group(run: RunDir) -> None:
    rows = [line.split() for line in _shown(run).splitlines()]
    assert ["0", "Easy", "question", "countdown/2", "3/3", "1.10", "2.0"] in rows
    assert ["1", "Uneven", "question", "countdown/2", "1/3", "0.40", "2.0"] in rows


def test_best_is_the_one_that_stands_out_and_worst_has_the_least_reward(run: RunDir) -> None:
    text = _shown(run, best=1, worst=1)
    best, worst = text[text.index("Best 1") :].split("Worst 1")
    assert "group 1, sample 0" in best
    assert "alone right" in best
    assert "reward 1.10 (accuracy 1, format 1) | advantage +0.70" in best
    assert "group 1, sample 1" in worst
    assert "plain wrong" in worst
    assert "advantage -0.40" in worst


def test_counts_beyond_the_step_show_everything_once(run: RunDir) -> None:
    text = _shown(run, best=100)
    assert text.count("Best ") == 6
    assert "Worst" not in text


def test_thought_is_dimmed_and_answer_is_not(run: RunDir) -> None:
    text = _shown(run, best=1, terminal=True)
    assert "\x1b[2m<think>alone right</think>\x1b[0m\n<answer>8</answer>" in text


def test_piped_output_has_no_escapes(run: RunDir) -> None:
    assert "\x1b" not in _shown(run, best=2, worst=2)


def test_model_output_is_neither_markup_nor_terminal_commands(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a").lock()
    text = "[bold red]no[/bold red] [/x] \x1b]0;owned\x07 \x9b2J " + "long " * 40
    run.record_step({"step": 1}, {"step": 1}, [_credited("[link=x]Q[/link]", [(text, 0.0), ("b", 0.1)])])
    shown = _shown(run, worst=1)
    assert r"[bold red]no[/bold red] [/x] \x1b]0;owned\x07 \x9b2J " + "long " * 39 in shown
    assert "[link=x]Q[/link]" in shown


def test_unknown_step_is_refused_with_the_steps_that_exist(run: RunDir) -> None:
    with pytest.raises(UserError, match="no step 9; its steps are 1 to 2"):
        _shown(run, 9)


def test_negative_counts_are_refused(run: RunDir) -> None:
    with pytest.raises(UserError, match="--worst -1"):
        _shown(run, worst=-1)


def test_directory_without_rollouts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"no rollouts\.sqlite"):
        _shown(RunDir(tmp_path))


def test_run_before_its_first_step_is_refused(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a").lock()
    run.rewind(0)
    with pytest.raises(RunDirError, match="no rollouts yet"):
        _shown(run)


def _group(run: RunDir, position: int, *, step: int | None = None, worst: int = 0, best: int = 0) -> str:
    stream = io.StringIO()
    show_rollouts(run, step, worst, best, Console(file=stream, width=80), position)
    return stream.getvalue()


def test_one_group_is_shown_whole_without_a_table_of_the_others(run: RunDir) -> None:
    text = _group(run, 1)
    assert "Easy question" not in text
    assert "family/level" not in text
    assert "1 group, 3 rollouts" in text
    assert [text.count(answer) for answer in ("alone right", "tagged wrong", "plain wrong")] == [1, 1, 1]
    assert text.index("alone right") < text.index("tagged wrong") < text.index("plain wrong")


def test_of_one_group_the_best_and_the_worst_are_its_own(run: RunDir) -> None:
    text = _group(run, 1, worst=1)
    assert "plain wrong" in text
    assert "alone right" not in text
    assert "right 0" in _group(run, 0, best=1, step=1)


@pytest.mark.parametrize(("step", "position", "last"), [(2, 2, 1), (1, 1, 0)])
def test_a_group_that_is_not_there_is_refused_with_those_that_are(
    run: RunDir, step: int, position: int, last: int
) -> None:
    with pytest.raises(UserError, match=rf"step {step} of .* has no group {position}; .* are 0 to {last}"):
        _group(run, position, step=step)
