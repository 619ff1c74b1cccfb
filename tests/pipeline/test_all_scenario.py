"""The last stages of R1: reward models from preferences, then RL on reasoning and general requests."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fakes import byte_tokenizer
from killing import kill_until_done
from model_server import Answered, completion, serving
from pipelines import Notes
from processes import metrics_of
from scripted import talking_model, write_problems
from zerone.config import Config, build_config
from zerone.errors import ConfigError, DataError, ModelError
from zerone.identity import sha256_of_path
from zerone.model.loading import save_model
from zerone.pipeline.graph import Graph, Source, StageDisplay, StageInputs, with_inputs
from zerone.pipeline.judges import with_own_judges
from zerone.pipeline.r1 import r1_graph
from zerone.pipeline.run import Pipeline, Selection
from zerone.reward_model.embedded import embedded_rows
from zerone.runs.directory import RunDir
from zerone.runs.lineage import lineage_of_model

OPTIONS = [
    *("model.precision=fp32", "model.threads=1", "prompt.style=boxed", "checkpoint.every=1"),
    *("rl.steps=4", "rl.problems_per_step=4", "rl.group_size=2", "rl.microbatch_tokens=1024"),
    *("sampling.max_tokens=24", "sampling.slots=16", "sampling.temperature=0.7", "reward.language=0.2"),
    *("reward.preference=1", "reward.preference_share=0.5", "curate.general=24", "reward_model.epochs=1"),
    "data.eval_share=0.4",
    *("eval.problems=1", "eval.hard_samples=1", "eval.mixed_samples=1", "eval.every=0"),
]
LAST = ("helpfulness", "safety", "r1")


def a_model(inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay) -> Mapping[str, Path]:
    """Write the talking model in place of Dev3."""
    save_model(talking_model(), byte_tokenizer(), directory / "model")
    return {"model": directory / "model", "best": directory / "model"}


def last_stages() -> Graph:
    """Return the last stages of R1 as they are declared, on a Dev3 that costs nothing."""
    stages = r1_graph().by_name
    dev3 = replace(stages["dev3"], run=a_model, inputs={})
    return Graph(stages=(dev3, *(stages[name] for name in LAST)))


def pipeline(folder: Path, name: str, *changes: str, only: str | None = None) -> Pipeline:
    config: Config = build_config({}, [*OPTIONS, *changes])
    graph = last_stages()
    return Pipeline(graph, dict.fromkeys(graph.names, config), folder / name, Selection(only=only))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the pipeline `run`, left alone until it was done."""
    path = tmp_path_factory.mktemp("all-scenario")
    pipeline(path, "run").run(False, Notes())
    return path


def outputs_of(run: Path) -> dict[str, str]:
    names = ("helpfulness/model", "safety/model", "r1/model", "r1/prompts.jsonl", "r1/metrics.jsonl")
    return {name: sha256_of_path(run / name) for name in names}


def test_requests_and_preference_come_in_the_last_part_only(folder: Path) -> None:
    run = folder / "run" / "r1"
    prompts = [json.loads(line) for line in (run / "prompts.jsonl").read_text("utf-8").splitlines()]
    steps_of_requests = {row["step"] for row in prompts if row["family"] == "requests"}
    assert steps_of_requests == {3, 4}
    metrics = metrics_of(run)
    assert [("helpfulness" in line["parts"] or "safety" in line["parts"]) for line in metrics] == [
        *(False, False),
        *(True, True),
    ]
    assert all("language" in line["parts"] for line in metrics), "the language reward is for all"


def test_requests_are_paid_by_a_model_and_reasoning_by_its_rule(folder: Path) -> None:
    rows = RunDir(folder / "run" / "r1").query(
        "SELECT family, parts, reward FROM rollouts JOIN groups USING (step, position) WHERE step > 2"
    )
    num_judged = 0
    for row in rows:
        parts = json.loads(row["parts"])
        judged = parts.keys() & {"helpfulness", "safety"}
        assert bool(judged) == (row["family"] == "requests")
        paid = sum(parts[kind] for kind in judged) if judged else parts["accuracy"]
        assert row["reward"] == pytest.approx(paid + 0.1 * parts["format"] + 0.2 * parts["language"])
        num_judged += len(judged)
    assert num_judged > 0


def test_the_summary_says_how_good_the_reward_models_are(folder: Path) -> None:
    summary = json.loads((folder / "run" / "summary.json").read_text("utf-8"))
    assert summary["models"].keys() == {"dev3", "r1"}, "a reward model is no stage of R1"
    assert summary["reward_models"].keys() == {"helpfulness", "safety"}
    for kind, found in summary["reward_models"].items():
        assert found["kind"] == kind
        assert found.keys() >= {"accuracy", "accuracy_ci", "ece", "bins", "length", "num_trained", "before"}
    assert summary["reward_models"]["helpfulness"]["length"].keys() >= {"correlation", "gap", "is_biased"}


def test_r1_knows_the_preferences_that_it_was_paid_by(folder: Path) -> None:
    names = {node.name for node in lineage_of_model(str(folder / "run" / "r1")).nodes.values()}
    assert names == {
        *("r1.model", "dev3.model", "problems", "helpfulness.reward_model", "safety.reward_model"),
        *("preferences.helpfulness", "preferences.safety"),
    }


def test_killed_anywhere_the_last_stages_end_the_same(folder: Path) -> None:
    def work() -> None:
        pipeline(folder, "killed").run(True, Notes())

    kill_until_done(work, folder / "killed", Random(0), 0.1, 1.1, 4)
    assert outputs_of(folder / "killed") == outputs_of(folder / "run")


# Preferences of one's own -------------------------------------------------------------------------


def write_rows(path: Path, kind: Any) -> Path:
    rows = embedded_rows(kind, 32, seed=1)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_of_preferences_is_learned_from(folder: Path) -> None:
    path = write_rows(folder / "pairs.jsonl", "helpfulness")
    shutil.copytree(folder / "run", folder / "own")
    notes = Notes()
    (folder / "own" / "recipe.yaml").unlink()  # it would say that the recipe was another one
    pipeline(folder, "own", f"data.path={path}", only="helpfulness").run(True, notes)
    assert [name for name, _ in notes.begun] == ["helpfulness"]
    nodes = lineage_of_model(str(folder / "own" / "helpfulness" / "model")).nodes.values()
    assert {"path": str(path)} in [node.about for node in nodes]


def test_a_file_of_the_other_kind_is_refused(folder: Path) -> None:
    path = write_rows(folder / "pairs_of_safety.jsonl", "safety")
    work = pipeline(folder, "other", f"data.path={path}")
    with pytest.raises(DataError, match=r"is about safety; give helpfulness\.data\.path=FILE"):
        work.run(False, Notes())


def test_a_file_of_problems_leaves_the_embedded_preferences(folder: Path) -> None:
    problems = write_problems(folder / "problems.jsonl")
    work = pipeline(folder, "problems", f"data.path={problems}", only="dev3")
    work.run(False, Notes())
    pipeline(folder, "problems", f"data.path={problems}", only="safety").run(True, Notes())
    found = (folder / "problems" / "safety" / "preferences.jsonl").read_text("utf-8")
    assert found == (folder / "run" / "safety" / "preferences.jsonl").read_text("utf-8")


# A judge of one's own -----------------------------------------------------------------------------


def seven_points(path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Answered:
    (mark,) = re.findall(r"^Score ([0-9a-f]{8}): N", body["messages"][-1]["content"], re.MULTILINE)
    return completion(f"Score {mark}: 7")


def test_an_endpoint_that_the_options_name_judges_and_no_model_is_trained_in_its_place(folder: Path) -> None:
    notes = Notes()
    with serving(seven_points) as server:
        judge = f"reward.helpfulness_model={server.url}#wise"
        pipeline(folder, "judged", judge, "curate.general=8").run(False, notes)
    assert [name for name, _ in notes.begun] == ["dev3", "safety", "r1"]
    assert not (folder / "judged" / "helpfulness").exists()
    parts = [
        json.loads(row["parts"])
        for row in RunDir(folder / "judged" / "r1").query("SELECT parts FROM rollouts")
    ]
    paid = [part["helpfulness"] for part in parts if "helpfulness" in part]
    assert paid == pytest.approx([6 / 9] * len(paid))
    assert len(server.asked) >= len(paid) > 0
    nodes = lineage_of_model(str(folder / "judged" / "r1")).nodes.values()
    assert {"judge.helpfulness", "safety.reward_model"} <= {node.name for node in nodes}
    assert "helpfulness.reward_model" not in {node.name for node in nodes}


def test_a_reward_model_that_the_options_name_is_the_one_that_judges(folder: Path) -> None:
    own = folder / "run" / "helpfulness"
    config = build_config({}, [*OPTIONS, f"reward.helpfulness_model={own}"])
    graph = with_own_judges(last_stages(), dict.fromkeys(last_stages().names, config))
    assert graph.names == ("dev3", "safety", "r1")
    judge = graph.by_name["r1"].inputs["helpfulness"]
    assert isinstance(judge, Source)
    assert judge.lineage(config).node.name == "helpfulness.reward_model"
    paths = {"model": folder / "run" / "dev3" / "model", "safety": folder / "run" / "safety" / "model"}
    assert with_inputs(StageInputs(config=config, paths=paths)).reward.helpfulness_model == str(own)


def test_without_a_judge_of_ones_own_the_graph_stays_as_declared() -> None:
    graph = r1_graph()
    assert with_own_judges(graph, dict.fromkeys(graph.names, Config())).names == graph.names


def test_a_judge_that_cannot_be_one_is_refused_before_any_work(folder: Path) -> None:
    with pytest.raises(ConfigError, match="helpfulness_model=http://host/v1 does not say which model"):
        pipeline(folder, "unnamed", "reward.helpfulness_model=http://host/v1").run(False, Notes())
    with pytest.raises(ModelError, match="nothing is not a model"):
        pipeline(folder, "nowhere", "reward.safety_model=nothing").run(False, Notes())
