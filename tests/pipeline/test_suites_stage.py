"""The measurement of a model as a stage: every suite, each sampled once, resumed after a kill."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from broken_sandbox import break_sandbox
from killing import fork_and_kill
from pipelines import Notes, small_config
from scripted import save_talking_model
from zerone.config import Config, to_yaml
from zerone.evals.judged import Judged
from zerone.evals.parts import mean_parts, parts_of
from zerone.evals.suites import suite_named
from zerone.pipeline.graph import StageInputs
from zerone.pipeline.r1 import r1_graph
from zerone.pipeline.suites_stage import MEASURED, run_measurement
from zerone.problems.request_suites import safety_suite
from zerone.runs.directory import RunDir
from zerone.types import Outcome

SIX = {"reasoning", "code", "format", "language", "helpfulness", "safety"}
SMALL = ("eval.problems=8", "sampling.max_tokens=16", "eval.hard_samples=2", "data.path=null")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and its measurement `left_alone`."""
    path = tmp_path_factory.mktemp("suites")
    save_talking_model(path / "base")
    measure(path, "left_alone")
    return path


def config(folder: Path, *changes: str) -> Config:
    return small_config(folder, f"model.path={folder / 'base'}", *SMALL, *changes)


def measure(folder: Path, name: str, *changes: str, model: Path | None = None) -> dict[str, Any]:
    (folder / name).mkdir(exist_ok=True)
    inputs = StageInputs(config=config(folder, *changes), paths={"model": model} if model else {})
    made = run_measurement("base", inputs, folder / name, True, Notes())
    found: dict[str, Any] = json.loads(made["summary"].read_text(encoding="utf-8"))["models"]["base"]
    return found


def figures(folder: Path, name: str) -> str:
    return (folder / name / "figures.json").read_text(encoding="utf-8")


def test_every_suite_has_score_interval_and_number(folder: Path) -> None:
    found = json.loads(figures(folder, "left_alone"))["models"]["base"]
    assert found["suites"].keys() == {*SIX, "hard"}
    for name, measured in found["suites"].items():
        low, high = measured["ci"]
        assert 0 <= low <= measured["score"] <= high <= 1, name
        assert low < high, "few answers, all alike, leave doubt"
        assert 1 <= measured["n"] <= 8
    assert found["path"] == str(folder / "base")
    assert found["response_tokens"] > 0
    assert found["cons_at_16"] is None, "there are only two answers to vote"


def test_an_answer_is_asked_for_once_wherever_the_stage_was_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_sandbox(monkeypatch)  # a fork would share the sandbox of this process
    measure(folder, "whole")
    work = partial(measure, folder, "killed")
    assert sum(fork_and_kill(work, 0.05 + 0.1 * i) for i in range(5)) >= 2
    work()
    assert figures(folder, "killed") == figures(folder, "whole")
    answers = folder / "killed" / "answers" / "answers.jsonl"
    lines = answers.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len({json.loads(line)["key"] for line in lines})
    measure(folder, "killed")
    assert answers.read_text(encoding="utf-8").splitlines() == lines


def test_a_model_is_asked_in_the_prompt_that_its_run_was_trained_with(folder: Path) -> None:
    run = RunDir(folder / "run").lock()
    run.start(to_yaml(config(folder, "prompt.style=boxed")), {})
    run.unlock()
    save_talking_model(run.model_path)
    found = measure(folder, "boxed", model=run.model_path)
    assert found["prompt_style"] == "boxed"
    assert "path" not in found, "the pipeline knows where its models are"
    assert json.loads(figures(folder, "left_alone"))["models"]["base"]["prompt_style"] == "tags"


def test_code_is_left_out_with_its_reason_where_there_is_no_sandbox(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_sandbox(monkeypatch)
    suites = measure(folder, "unsafe")["suites"]
    code = suites.pop("code")
    assert (code["score"], code["ci"], code["n"]) == (None, None, 0)
    assert "bubblewrap" in code["left_out"]
    assert all(measured["score"] is not None for measured in suites.values())


def test_a_file_of_ones_own_is_asked_once_for_reasoning_and_the_vote(folder: Path) -> None:
    found = measure(
        folder, "own", f"data.path={folder / 'problems.jsonl'}", "eval.problems=2", "eval.hard_samples=16"
    )
    assert found["suites"].keys() == SIX
    assert 0 <= found["cons_at_16"] <= 1
    assert "none of its 2 problems asks for it" in found["suites"]["format"]["left_out"]


# What is measured ---------------------------------------------------------------------------------


def test_refusing_everything_is_safe_only_where_it_is_due() -> None:
    said = {"en": "Sorry, I cannot help with that.", "zh": "对不起，我不能帮忙。"}
    answers = []
    for problem in safety_suite():
        answer = said[problem.language]
        text = f"<think>I refuse.</think>\n<answer>{answer}</answer>"
        judged = Judged(
            problem=problem,
            sample=0,
            text=text,
            prompt_tokens=1,
            num_tokens=1,
            is_truncated=False,
            outcome=Outcome.WRONG,
            answer=None,
            is_well_formed=True,
            details={"parts": parts_of(problem, text, answer)},
        )
        answers.append([judged])
    found = mean_parts(answers)
    assert found["refuses_harm"]["score"] == 1.0
    assert found["helps_harmless"]["score"] == 0.0
    assert 0.5 < found["safety"]["score"] < 0.8
    assert found["refuses_harm"]["n"] + found["helps_harmless"]["n"] == found["safety"]["n"] == 100


def test_thoughts_in_the_wrong_language_are_counted() -> None:
    suite = suite_named("languages", 1)
    chinese = [problem for problem in suite.problems if problem.language == "zh"]
    assert 0.4 < len(chinese) / len(suite.problems) < 0.6
    text = "<think>I try the numbers one after the other.</think><answer>7</answer>"
    found = {p.language: parts_of(p, text, "7") for p in suite.problems}
    assert found == {"zh": {"language": 0.0}, "en": {"language": 1.0}}


def test_each_model_is_measured_after_it_is_made() -> None:
    names = r1_graph().names
    assert names[0] == "eval_base"
    for name in MEASURED:
        if name in names:
            assert names[names.index(name) + 1] == f"eval_{name}"
            assert r1_graph().by_name[f"eval_{name}"].inputs["model"] == f"{name}.model"
