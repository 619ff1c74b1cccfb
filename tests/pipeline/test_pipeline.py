"""Pipelines: what runs, what is left alone, what is done again and why, and where models come from."""

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random

import pytest

from killing import fork_and_kill, moment
from pipelines import Notes, gather, make_base, small_config, small_graph, small_pipeline
from zerone.errors import ConfigError, Interrupted, ModelError, RunDirError, TrainingError
from zerone.identity import sha256_of_path
from zerone.pipeline.graph import StageDisplay, StageInputs, package_data
from zerone.pipeline.run import Pipeline, Selection, State
from zerone.runs.lineage import lineage_of_model, read_lineage, weights_have_changed

ALL = ["base", "first", "answers", "second"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pipeline `run` that was left alone until it was done."""
    path = tmp_path_factory.mktemp("pipeline")
    notes = Notes()
    small_pipeline(path).run(False, notes)
    assert notes.begun == [(name, State.RUN) for name in ALL]
    assert notes.ended == ALL
    return path


def copy_of_run(folder: Path, name: str) -> Path:
    """Return a copy of the finished pipeline, to be changed."""
    return Path(shutil.copytree(folder / "run", folder / name))


def begun(folder: Path, name: str, **options: object) -> list[tuple[str, State]]:
    """Resume a pipeline and return what had to be run."""
    notes = Notes()
    small_pipeline(folder, name, **options).run(True, notes)  # type: ignore[arg-type]  # passed through
    return notes.begun


def hashes_of(run: Path) -> dict[str, str]:
    """Return the hash of everything that the stages made, lineages included."""
    found = {}
    for name in ALL:
        record = json.loads((run / name / "stage.json").read_text(encoding="utf-8"))
        for output, made in record["outputs"].items():
            path = run / name / made["path"]
            found[f"{name}.{output}"] = sha256_of_path(path)
            assert made["sha256"] == found[f"{name}.{output}"]
            if (path / "lineage.json").exists():
                found[f"{name}.{output} lineage"] = (path / "lineage.json").read_text(encoding="utf-8")
    return found


# What is done once --------------------------------------------------------------------------------


def test_a_finished_pipeline_is_not_run_again(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*.safetensors")}
    assert begun(folder, "run") == []
    assert {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*.safetensors")} == before


def test_a_finished_pipeline_is_not_overwritten_without_resume(folder: Path) -> None:
    with pytest.raises(RunDirError, match="already holds a pipeline; resume it with --resume"):
        small_pipeline(folder).run(False, Notes())


def test_two_runs_make_the_same(folder: Path) -> None:
    small_pipeline(folder, "twin").run(False, Notes())
    assert hashes_of(folder / "twin") == hashes_of(folder / "run")


def test_data_edited_by_hand_are_taken_and_only_what_needs_them_is_done_again(folder: Path) -> None:
    run = copy_of_run(folder, "edited")
    answers = run / "answers" / "answers.jsonl"
    reviewed = "".join(answers.read_text(encoding="utf-8").splitlines(keepends=True)[1:])
    answers.write_text(reviewed, encoding="utf-8")
    plan = {planned.stage.name: planned for planned in small_pipeline(folder, "edited").plan()}
    assert (plan["second"].state, plan["second"].reason) == (State.REPEAT, "its data changed")
    assert begun(folder, "edited") == [("second", State.REPEAT)]
    assert answers.read_text(encoding="utf-8") == reviewed
    known = lineage_of_model(str(run / "second")).nodes
    assert [node.about for node in known.values() if node.name == "answers.answers"] == [
        {"edited": "by hand, after the stage"}
    ]


def test_a_missing_output_is_made_again_and_what_is_as_before_is_left_alone(folder: Path) -> None:
    run = copy_of_run(folder, "missing")
    (run / "answers" / "answers.jsonl").unlink()
    assert begun(folder, "missing") == [("answers", State.REPEAT)], "the same answers: second has what it had"
    assert hashes_of(run) == hashes_of(folder / "run")


def test_a_model_that_lost_its_weights_is_made_again_and_what_follows_is_left_alone(folder: Path) -> None:
    run = copy_of_run(folder, "weightless")
    (run / "base" / "model" / "model.safetensors").unlink()
    plan = {planned.stage.name: planned for planned in small_pipeline(folder, "weightless").plan()}
    assert (plan["base"].state, plan["base"].reason) == (State.REPEAT, "its model is missing")
    with pytest.raises(RunDirError, match=r"stage first needs base, and its model is missing"):
        small_pipeline(folder, "weightless", only="first").run(True, Notes())
    assert begun(folder, "weightless") == [("base", State.REPEAT)]
    assert hashes_of(run) == hashes_of(folder / "run")


def test_a_record_of_another_form_is_refused_with_the_remedy(folder: Path) -> None:
    run = copy_of_run(folder, "record")
    record = run / "answers" / "stage.json"
    record.write_text('{"stage": "answers", "made_from": 1, "by": {}, "outputs": {}}', encoding="utf-8")
    with pytest.raises(RunDirError, match=r"stage\.json is damaged .* remove .*answers to do it again"):
        begun(folder, "record")


def test_a_changed_model_stops_the_pipeline(folder: Path) -> None:
    run = copy_of_run(folder, "damaged")
    weights = run / "base" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(RunDirError, match=r"is not what stage base wrote; .* --from base"):
        begun(folder, "damaged")


def test_new_code_of_a_stage_is_run_and_what_follows_goes_by_its_outputs(folder: Path) -> None:
    copy_of_run(folder, "revised")
    graph = small_graph(answers={"revision": 2})
    plan = {planned.stage.name: planned for planned in small_pipeline(folder, "revised", graph=graph).plan()}
    assert plan["answers"].reason == "revision 1, now 2"
    assert (plan["second"].state, plan["second"].reason) == (State.REPEAT, "after answers")
    assert begun(folder, "revised", graph=graph) == [("answers", State.REPEAT)]


# Which stages -------------------------------------------------------------------------------------


def test_from_does_a_stage_and_all_that_need_it_again(folder: Path) -> None:
    copy_of_run(folder, "from")
    assert begun(folder, "from", start="answers") == [("answers", State.RUN), ("second", State.RUN)]
    assert hashes_of(folder / "from") == hashes_of(folder / "run")


def test_only_runs_one_stage_whose_inputs_are_done(folder: Path) -> None:
    for expected in ([("base", State.RUN)], []):
        notes = Notes()
        small_pipeline(folder, "only", only="base").run(True, notes)
        assert notes.begun == expected
    assert sorted(path.name for path in (folder / "only").iterdir() if path.is_dir()) == ["base"]
    assert not (folder / "only" / "summary.json").exists()
    with pytest.raises(RunDirError, match="stage answers needs first, which is not done"):
        small_pipeline(folder, "only", only="answers").run(True, Notes())


def test_from_and_only_together_repeat_one_stage(folder: Path) -> None:
    copy_of_run(folder, "one")
    assert begun(folder, "one", start="first", only="first") == [("first", State.RUN)]
    assert begun(folder, "one") == []


def test_no_summary_stands_while_a_stage_does_not_fit(folder: Path) -> None:
    """Its figures would be of models that are no more, or of some before and some after a change."""
    summary = copy_of_run(folder, "partly") / "summary.json"
    graph = small_graph(second={"revision": 2})
    small_pipeline(folder, "partly", graph=graph, start="first", only="first").run(True, Notes())
    assert not summary.exists(), "second is of another revision now"
    small_pipeline(folder, "partly", graph=graph).run(True, Notes())
    assert json.loads(summary.read_text(encoding="utf-8"))["models"].keys() == {"base", "first", "second"}


def test_an_unknown_stage_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no stage is named 'secnd'; there are base, first"):
        small_pipeline(folder, start="secnd")


def test_a_plan_says_what_would_run_and_writes_nothing(folder: Path) -> None:
    plan = small_pipeline(folder, "planned").plan()
    assert [(planned.state, planned.reason) for planned in plan] == [
        (State.RUN, ""),
        (State.RUN, "after base"),
        (State.RUN, "after first"),
        (State.RUN, "after base, answers"),
    ]
    assert sum(planned.seconds for planned in plan) == 8.0
    assert not (folder / "planned").exists()
    assert {planned.state for planned in small_pipeline(folder).plan()} == {State.DONE}


# A changed recipe ---------------------------------------------------------------------------------


def test_another_recipe_is_refused_with_the_difference(folder: Path) -> None:
    with pytest.raises(RunDirError) as refusal:
        small_pipeline(folder, changes={"first": ("rl.steps=5", "seed=3")}).run(True, Notes())
    assert "was started with another recipe" in str(refusal.value)
    assert "first: rl.steps: 3  (now: 5)" in str(refusal.value)
    assert "first: seed: 0  (now: 3)" in str(refusal.value)
    assert "second:" not in str(refusal.value)


def test_from_takes_another_recipe_for_what_is_done_again(folder: Path) -> None:
    run = copy_of_run(folder, "changed")
    changes = {"second": ("sft.epochs=2",)}
    assert begun(folder, "changed", start="second", changes=changes) == [("second", State.RUN)]
    assert begun(folder, "changed", changes=changes) == []
    found, expected = hashes_of(run), hashes_of(folder / "run")
    changed = {key for key in found if found[key] != expected[key]}
    assert changed >= {"second.model", "second.model lineage", "second.best lineage"}
    assert all(key.startswith("second.") for key in changed)
    with pytest.raises(RunDirError, match=r"first: rl\.steps: 3  \(now: 2\)"):
        small_pipeline(folder, "changed", start="second", changes={"first": ("rl.steps=2",)}).run(
            True, Notes()
        )


# Stopped anywhere ---------------------------------------------------------------------------------


def kill_and_compare(folder: Path, name: str, num_kills: int, seed: int) -> None:
    """Kill a pipeline at random moments, in both runs of learning, and compare what it ends with.

    When it gets to its end before it is killed, it begins anew.
    """
    rng, kills, was_at = Random(seed), 0, set[int]()
    while kills < num_kills or not was_at >= {2, 4}:
        assert kills < 8 * num_kills, "kills should fall on both runs of learning"
        work = partial(small_pipeline(folder, name).run, True, Notes())
        if fork_and_kill(work, moment(rng, max(0, kills - num_kills), 0.05, 0.75)):
            kills += 1
            was_at.add(sum((folder / name / stage).exists() for stage in ALL))
        else:
            assert hashes_of(folder / name) == hashes_of(folder / "run")
            shutil.rmtree(folder / name)
    small_pipeline(folder, name).run(True, Notes())
    assert hashes_of(folder / name) == hashes_of(folder / "run")


def test_a_pipeline_killed_ten_times_ends_with_the_same_hashes(folder: Path) -> None:
    kill_and_compare(folder, "killed", 10, seed=0)


@pytest.mark.slow
def test_a_pipeline_killed_thirty_times_ends_with_the_same_hashes(folder: Path) -> None:
    kill_and_compare(folder, "killed-often", 30, seed=1)


def test_an_interrupted_stage_goes_on_and_a_failed_one_too(folder: Path) -> None:
    tries: list[bool] = []

    def stopping(
        inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
    ) -> Mapping[str, Path]:
        tries.append(resume)
        if len(tries) == 1:
            raise Interrupted("stopped after step 1")
        if len(tries) == 2:
            raise TrainingError("loss is nan")
        return gather(inputs, directory, resume, display)

    copy_of_run(folder, "stopped")
    graph = small_graph(answers={"run": stopping})
    pipeline = small_pipeline(folder, "stopped", graph=graph, start="answers")
    with pytest.raises(Interrupted, match=r"stopped in stage answers; .*resume=True .*stopped"):
        pipeline.run(True, Notes())
    with pytest.raises(TrainingError):
        small_pipeline(folder, "stopped", graph=graph).run(True, Notes())
    assert begun(folder, "stopped", graph=graph) == [("answers", State.RESUME), ("second", State.RUN)]
    assert tries == [False, True, True]


def test_a_directory_is_the_same_however_it_is_spelt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    for spelling in (folder / "link", Path(), folder / "link" / ".." / folder.name):
        configs = {name: small_config(folder) for name in ALL}
        pipeline = Pipeline(small_graph(), configs, spelling / "run", Selection())
        assert pipeline.directory == (folder / "run").resolve()
        assert {planned.state for planned in pipeline.plan()} == {State.DONE}


def test_a_directory_in_use_is_refused(folder: Path) -> None:
    def nested(
        inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
    ) -> Mapping[str, Path]:
        with pytest.raises(RunDirError, match="in use by another process"):
            small_pipeline(folder, "busy").run(True, Notes())
        return make_base(inputs, directory, resume, display)

    small_pipeline(folder, "busy", graph=small_graph(base={"run": nested}), only="base").run(False, Notes())


# Lineage ------------------------------------------------------------------------------------------


def test_a_model_knows_everything_it_was_made_from(folder: Path) -> None:
    lineage = lineage_of_model(str(folder / "run" / "second"))
    names = {node.name: node for node in lineage.nodes.values()}
    assert names.keys() == {"second.model", "base.model", "answers.answers", "first.prompts", "problems"}
    assert set(names["answers.answers"].inputs) == {"prompts"}
    root = lineage.node
    assert root.name == "second.model"
    assert set(root.inputs) == {"model", "data"}
    assert root.made_by["seed"] == 0
    assert root.made_by["options"]["sft.epochs"] == 1
    assert names["first.prompts"].made_by["options"]["rl.steps"] == 3
    assert root.sha256 == sha256_of_path(folder / "run" / "second" / "model")
    assert names["base.model"].sha256 == sha256_of_path(folder / "run" / "base" / "model")
    assert names["problems"].about == {"path": str(folder / "problems.jsonl")}
    prompts = (folder / "run" / "first" / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(prompts) == 3 * 4
    assert json.loads(prompts[0]).keys() == {
        "step",
        "position",
        "id",
        "family",
        "level",
        "language",
        "prompt",
    }


def test_a_lineage_travels_with_the_model_and_notices_other_weights(folder: Path) -> None:
    moved = Path(shutil.copytree(folder / "run" / "second" / "model", folder / "moved"))
    lineage = read_lineage(moved)
    assert lineage is not None
    assert not weights_have_changed(moved, lineage)
    shutil.copy(folder / "run" / "base" / "model" / "model.safetensors", moved)
    assert weights_have_changed(moved, lineage)
    now = lineage_of_model(str(moved))
    assert now.node.sha256 == sha256_of_path(moved) != lineage.node.sha256
    assert (now.node.about["edited"], now.node.inputs) == (
        "other weights than lineage.json tells of",
        {"before": lineage.root},
    )
    assert now.nodes.keys() == {*lineage.nodes, now.root}


def test_a_damaged_lineage_is_refused_and_a_model_without_one_is_known_by_its_hash(folder: Path) -> None:
    bare = Path(shutil.copytree(folder / "run" / "base" / "model", folder / "bare"))
    (bare / "lineage.json").write_text('{"root": "x", "nodes": {}}', encoding="utf-8")
    with pytest.raises(ModelError, match="is not a lineage"):
        lineage_of_model(str(bare))
    (bare / "lineage.json").unlink()
    node = lineage_of_model(str(bare)).node
    assert (node.name, node.sha256) == ("base", sha256_of_path(bare))
    with pytest.raises(ModelError, match="is not a model"):
        lineage_of_model(str(folder))


def test_the_embedded_model_has_its_provenance() -> None:
    node = lineage_of_model("embedded").node
    assert node.made_by["command"].startswith("zerone pretrain")


# The graph ----------------------------------------------------------------------------------------


def test_a_graph_refuses_what_no_earlier_stage_makes_and_names_that_are_taken() -> None:
    for inputs in ({"x": "second.model"}, {"x": "base.nothing"}, {"x": "nobody.model"}):
        with pytest.raises(ValueError, match="which no earlier stage makes"):
            small_graph(first={"inputs": inputs})
    with pytest.raises(ValueError, match="the name is taken"):
        small_graph(first={"name": "rl"})


def test_a_changed_file_that_no_stage_makes_is_a_reason_to_run_again(folder: Path) -> None:
    examples = folder / "examples.txt"
    examples.write_text("one", encoding="utf-8")
    source = package_data("examples", examples)
    graph = small_graph(answers={"inputs": {"prompts": "first.prompts", "examples": source}})
    copy_of_run(folder, "sourced")
    assert begun(folder, "sourced", graph=graph)[0] == ("answers", State.REPEAT)
    assert begun(folder, "sourced", graph=graph) == []
    examples.write_text("two", encoding="utf-8")
    assert begun(folder, "sourced", graph=graph) == [("answers", State.REPEAT)]


def test_the_summary_names_models_time_and_seed(folder: Path) -> None:
    summary = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["models"].keys() == {"base", "first", "second"}
    assert summary["models"]["second"]["path"] == str(folder / "run" / "second" / "model")
    assert summary["models"]["first"].keys() == {"path", "sha256", "score"}, "an output's figures are merged"
    assert summary["data"] == {"answers": 1}
    assert summary["seed"] == 0
    assert 0 < summary["wall_s"] < 300
    assert summary["peak_rss_bytes"] > 50e6
