"""Distillation around the models: in which prompt each is asked, and what the work of RL costs."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from fakes import tiny_model
from pipelines import Notes
from processes import call_main
from scripted import credited, make_config, member, save_talking_model, write_problems
from training import make_learner, update
from zerone.config import Config, build_config, to_yaml
from zerone.config.sections import PromptConfig
from zerone.config.staged import StagedRecipe, build_stage_configs, is_given
from zerone.jobs.origins import prompt_of_model
from zerone.pipeline import comparison
from zerone.pipeline.comparison import compare_students
from zerone.pipeline.distillation import work_of_step
from zerone.pipeline.graph import StageInputs
from zerone.runs.directory import RunDir
from zerone.train.shared_forward import SharedForward
from zerone.train.trainer import Targets

# The prompt of a run ------------------------------------------------------------------------------


def a_run(path: Path, *options: str) -> RunDir:
    """Start a run that was told to prompt in some way."""
    run = RunDir(path).lock()
    run.start(to_yaml(build_config({}, list(options))), {})
    run.unlock()
    return run


def test_a_model_of_a_run_knows_its_prompt_wherever_it_lies_there(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "prompt.style=boxed", "prompt.open_thought=true", "prompt.examples=2")
    wanted = PromptConfig(style="boxed", open_thought=True, examples=2)
    for path in (run.model_path, run.best_path, run.checkpoints_path / "step_000003" / "model"):
        assert prompt_of_model(path) == wanted
    assert prompt_of_model(tmp_path / "elsewhere" / "model") is None
    (tmp_path / "config.yaml").write_text("prompt: of another program\n", encoding="utf-8")
    assert prompt_of_model(tmp_path / "elsewhere" / "model") is None


# The teacher's ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with problems, a model `talker` of no run, and the run `teacher`, all boxed."""
    path = tmp_path_factory.mktemp("prompts")
    write_problems(path / "problems.jsonl")
    save_talking_model(path / "talker")
    run = a_run(path / "teacher", "prompt.style=boxed", "prompt.open_thought=true")
    save_talking_model(run.model_path)
    return path


class Planning:
    """Stands in for the pipeline: remembers the configurations, and plans nothing."""

    configs: Mapping[str, Config]

    def __init__(self, graph: Any, configs: Mapping[str, Config], *rest: object) -> None:
        Planning.configs = configs

    def plan(self) -> list[Any]:
        """Nothing is planned."""
        return []


def prompts_of(folder: Path, teacher: str, *given: str) -> tuple[dict[str, str], str]:
    """Return the style of each stage of a distillation, and what the command said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zerone.pipeline.run.Pipeline", Planning)
        wanted = ("distill", str(folder / teacher), str(folder / "talker"), "--on-policy", "--dry-run")
        code, out, err = call_main(folder, *wanted, f"model.path={folder / 'talker'}", *given)
    assert code == 0, err
    return {name: config.prompt.style for name, config in Planning.configs.items()}, out


HOME = ("teacher_samples", "talker_distilled", "talker_on_policy", "students")


def test_a_teacher_is_asked_in_the_prompt_of_its_own_run(folder: Path) -> None:
    found, said = prompts_of(folder, "teacher")
    assert found == {**dict.fromkeys(HOME, "boxed"), "talker_direct_rl": "tags"}
    assert all(Planning.configs[name].prompt.open_thought for name in HOME)
    assert "style boxed  open_thought True  (of the teacher's own run)" in said


@pytest.mark.parametrize("given", ["prompt.style=summary", "stages.teacher_samples.prompt.style=summary"])
def test_what_is_given_of_the_prompt_wins_over_the_teachers_run(folder: Path, given: str) -> None:
    found, said = prompts_of(folder, "teacher", given)
    assert found["teacher_samples"] == "summary"
    assert not Planning.configs["teacher_samples"].prompt.open_thought
    assert "style summary  open_thought False  (as given)" in said


def test_a_prompt_for_the_rl_of_students_leaves_the_teacher_its_own(folder: Path) -> None:
    found, said = prompts_of(folder, "teacher", "*_direct_rl.prompt.style=summary")
    assert found == {**dict.fromkeys(HOME, "boxed"), "talker_direct_rl": "summary"}
    assert "of the teacher's own run" in said


def test_a_teacher_of_no_run_is_asked_by_default_and_the_command_says_so(folder: Path) -> None:
    found, said = prompts_of(folder, "talker")
    assert set(found.values()) == {"tags"}
    assert "the default, as the teacher lies in no run; set prompt.style if" in said


def test_what_lies_beneath_a_recipe_gives_way_to_all_of_it() -> None:
    recipe = StagedRecipe(common={"seed": 1}, stages={"a*": {"rl.steps": 2}})
    beneath = {"a1": {"seed": 9, "rl.steps": 9, "rl.group_size": 9}}
    found = build_stage_configs(recipe, ("a1", "b"), (), beneath)
    assert (found["a1"].seed, found["a1"].rl.steps, found["a1"].rl.group_size) == (1, 2, 9)
    assert found["b"].rl.group_size != 9
    assert is_given("rl", recipe, "a1", ("a1", "b"), ())
    assert not is_given("rl", recipe, "b", ("a1", "b"), ())
    assert is_given("rl", recipe, "b", ("a1", "b"), ("b.rl.steps=3",))


# The comparison -----------------------------------------------------------------------------------


def test_every_student_is_measured_in_the_whole_prompt_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, PromptConfig] = {}

    def measured(config: Config, path: str, prompt: PromptConfig) -> dict[str, Any]:
        asked[Path(path).parent.name] = prompt
        score = {"score": 0.5, "ci": [0.4, 0.6], "n": 2}
        return {"architecture": "qwen3", "parameters": 7, "score": score, "shares": {"p": 1.0, "q": 0.0}}

    monkeypatch.setattr(comparison, "_measure", measured)
    rl_run = a_run(tmp_path / "a_direct_rl", "prompt.examples=1")
    sft_run = a_run(tmp_path / "a_distilled", "prompt.style=boxed", "prompt.open_thought=true")
    (tmp_path / "compute.json").write_text(json.dumps({"flops": 1}), encoding="utf-8")
    paths = {
        "a_base": tmp_path / "a_base" / "model",
        "a_direct_rl": rl_run.model_path,
        "a_distilled": sft_run.model_path,
        "teacher": tmp_path / "teacher" / "model",
        **dict.fromkeys(("a_direct_rl_compute", "a_distilled_compute"), tmp_path / "compute.json"),
    }
    (tmp_path / "out").mkdir()
    config = build_config({}, ["prompt.style=boxed", "model.path=some/larger/model"])
    compare_students(("a",), StageInputs(config=config, paths=paths), tmp_path / "out", False, Notes())
    shown, boxed = PromptConfig(examples=1), PromptConfig(style="boxed")
    assert asked == {
        "a_base": shown,
        "a_direct_rl": shown,
        "larger": shown,
        "a_distilled": PromptConfig(style="boxed", open_thought=True),
        "teacher": boxed,
    }


# What RL costs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("advantages", [(1.0, -1.0), (0.0, 0.0)])
@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_the_price_of_a_step_is_that_of_the_passes_it_makes(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, kl_coef: float, advantages: tuple[float, float]
) -> None:
    """Counted where models compute: 2 per token of each pass, 4 more where a gradient is wanted."""
    passes: list[int] = []

    def counting(shared: SharedForward, batch: Targets) -> Tensor:
        found = hidden(shared, batch)
        passes.append(len(batch.packed.tokens_N) * (6 if found.requires_grad else 2))
        return found

    hidden = SharedForward.hidden
    monkeypatch.setattr(SharedForward, "hidden", counting)
    shape = {"rl__epochs": 2, "rl__minibatches": 1, "rl__max_mismatch_kl": 1e9}
    config = make_config(rl__algorithm=algorithm, loss__kl_coef=kl_coef, **shape)
    model = tiny_model()
    reference = copy.deepcopy(model).requires_grad_(False) if kl_coef else None
    members = [member(prompt=(1, 2, 3), completion=(4, 5 + j), sample=j) for j in range(2)]
    groups = [credited(members, advantages)]
    update(config, make_learner(model, config, updates=1, reference=reference), groups, 0)
    sampling = 2 * (3 + 2 * 2)
    assert work_of_step(groups, config) == sampling + sum(passes)
