"""What a stage alone is given as model or demonstrations is used, and what would have made it is left out."""

import json
from pathlib import Path

import pytest

from pipelines import Notes, small_pipeline
from scripted import save_talking_model, write_problems
from zerone.config import Config
from zerone.config.staged import StagedRecipe, build_stage_configs
from zerone.data.sources import register_source
from zerone.errors import ConfigError, DataError, ModelError
from zerone.pipeline.graph import Graph, Source
from zerone.pipeline.own_inputs import with_own_inputs
from zerone.pipeline.r1 import r1_graph
from zerone.pipeline.run import State
from zerone.runs.lineage import lineage_of_model

R1 = r1_graph()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, demonstrations and problems."""
    folder = tmp_path_factory.mktemp("own")
    save_talking_model(folder / "model")
    rows = [
        {"prompt": f"Say {i}.", "completion": f"<think>{i}</think><answer>{i}</answer>"} for i in range(40)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "demonstrations.jsonl").write_text(text, encoding="utf-8")
    write_problems(folder / "problems.jsonl")
    return folder


def given(files: Path, *overrides: str) -> Graph:
    """Return the graph of R1 under overrides, in which DATA and MODEL stand for own files."""
    names = {
        "DATA": files / "demonstrations.jsonl",
        "MODEL": files / "model",
        "PROBLEMS": files / "problems.jsonl",
    }
    told = [f"{key}={names.get(value, value)}" for key, _, value in (o.partition("=") for o in overrides)]
    return with_own_inputs(R1, build_stage_configs(StagedRecipe(common={}, stages={}), R1.names, told))


@pytest.mark.parametrize(
    ("overrides", "left_out"),
    [
        ((), set()),
        (("data.path=PROBLEMS",), set()),
        (("model.path=MODEL",), set()),
        (("r1_zero.data.path=PROBLEMS",), set()),
        (("r1_zero.model.path=MODEL",), set()),
        (("dev1.model.path=MODEL",), set()),
        (("dev1.data.path=DATA",), {"cold_start"}),
        (("data.path=PROBLEMS", "dev1.data.path=DATA"), {"cold_start"}),
        (("dev3.data.path=DATA",), {"rejection"}),
        (("dev1.data.path=DATA", "dev3.data.path=DATA"), {"cold_start", "rejection"}),
        (("dev2.model.path=MODEL",), {"dev1", "eval_dev1", "cold_start"}),
        (("rejection.model.path=MODEL",), {"dev2", "eval_dev2"}),
        (("r1.model.path=MODEL",), set()),
        (("eval_dev1.model.path=MODEL",), set()),
        (("helpfulness.model.path=MODEL",), set()),
        (("teacher_samples.model.path=MODEL",), set()),
        (("*_distilled.data.path=DATA",), {"teacher_samples"}),
        (("dev1.data.path=null",), set()),
    ],
)
def test_what_would_have_been_made_is_left_out_where_nothing_else_needs_it(
    files: Path, overrides: tuple[str, ...], left_out: set[str]
) -> None:
    assert {*R1.names} - {*given(files, *overrides).names} == left_out


@pytest.mark.parametrize(
    ("override", "stage", "role"),
    [
        ("dev1.data.path=DATA", "dev1", "data"),
        ("dev3.data.path=DATA", "dev3", "data"),
        ("dev2.model.path=MODEL", "dev2", "model"),
        ("r1.model.path=MODEL", "r1", "model"),
        ("rejection.model.path=MODEL", "rejection", "model"),
        ("eval_r1.model.path=MODEL", "eval_r1", "model"),
        ("safety.model.path=MODEL", "safety", "model"),
        ("teacher_samples.model.path=MODEL", "teacher_samples", "model"),
    ],
)
def test_a_stage_is_given_what_its_options_name(files: Path, override: str, stage: str, role: str) -> None:
    source = given(files, override).by_name[stage].inputs[role]
    assert isinstance(source, Source)
    if role == "model":
        assert source.path == files / "model"
    else:  # which the stage reads by its own option
        about = source.lineage(Config()).node.about
        assert about == {"path": str(files / "demonstrations.jsonl")}


def test_demonstrations_by_name_are_an_input_too(files: Path) -> None:
    """As a directory of shards, or by a scheme of a package: whatever `data.path` may name."""
    shards = files / "shards"
    shards.mkdir()
    text = (files / "demonstrations.jsonl").read_text(encoding="utf-8")
    (shards / "one.jsonl").write_text(text, encoding="utf-8")
    register_source("shown", lambda text: [{"prompt": text, "completion": "<answer>1</answer>"}])
    for name, about in (
        (str(shards), {"path": str(shards), "files": 1}),
        ("shown:one", {"path": "shown:one"}),
    ):
        graph = given(files, f"dev1.data.path={name}")
        assert "cold_start" not in graph.names
        source = graph.by_name["dev1"].inputs["data"]
        assert isinstance(source, Source)
        assert source.lineage(Config()).node.about == about


@pytest.mark.parametrize("stage", R1.names)
@pytest.mark.parametrize("key", ["data.path", "model.path"])
def test_a_path_for_a_stage_is_used_or_refused(files: Path, stage: str, key: str) -> None:
    """It names an input: as a source with that path, or as what `model.path` and `data.path` are read for."""
    value = "MODEL" if key == "model.path" else "DATA"
    try:
        found = given(files, f"{stage}.{key}={value}").by_name[stage]
    except ConfigError as error:
        assert f"stage {stage} reads no data" in str(error)
        return
    role = key.partition(".")[0]
    sources = [name for name, one in found.inputs.items() if isinstance(one, Source)]
    assert role not in found.inputs or role in sources
    assert sources


def test_it_trains_on_the_file_and_the_lineage_says_so(files: Path, tmp_path: Path) -> None:
    own = files / "demonstrations.jsonl"
    changes = {"second": (f"data.path={own}", "data.eval_share=0.2")}
    notes = Notes()
    pipeline = small_pipeline(tmp_path, changes=changes)
    assert pipeline.left_out == ("answers",)
    pipeline.run(False, notes)
    assert [name for name, _ in notes.begun] == ["base", "first", "second"]
    assert any(own.name in said for said in notes.said)
    nodes = {node.name: node for node in lineage_of_model(str(tmp_path / "run" / "second")).nodes.values()}
    assert nodes["demonstrations"].about == {"path": str(own)}
    assert "answers.answers" not in nodes
    again = Notes()
    small_pipeline(tmp_path, changes=changes).run(True, again)
    assert again.begun == []


def test_a_changed_file_is_trained_on_again(files: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    text = (files / "demonstrations.jsonl").read_text(encoding="utf-8")
    own.write_text(text, encoding="utf-8")
    changes = {"second": (f"data.path={own}",)}
    small_pipeline(tmp_path, changes=changes).run(False, Notes())
    own.write_text("".join(text.splitlines(keepends=True)[1:]), encoding="utf-8")
    plan = {planned.stage.name: planned for planned in small_pipeline(tmp_path, changes=changes).plan()}
    assert (plan["second"].state, plan["second"].reason) == (State.REPEAT, "its data changed")


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("dev1.data.path=nowhere.jsonl", DataError, "nowhere.jsonl"),
        ("dev1.data.path=PROBLEMS", DataError, "completion"),
        ("dev2.model.path=nowhere", ModelError, "nowhere is not a model"),
    ],
)
def test_what_cannot_be_an_input_is_refused_before_any_work(
    files: Path, override: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        given(files, override)


def test_a_stage_that_reads_no_data_refuses_a_file(files: Path) -> None:
    name = next(name for name in R1.names if name.endswith("_pretrained"))
    with pytest.raises(ConfigError, match=rf"{name}\.data\.path=.*: stage {name} reads no data"):
        given(files, f"{name}.data.path=DATA")


def test_a_stage_that_is_left_out_cannot_be_asked_for(files: Path, tmp_path: Path) -> None:
    changes = {"second": (f"data.path={files / 'demonstrations.jsonl'}",)}
    for start, only in ((None, "answers"), ("answers", None)):
        with pytest.raises(ConfigError, match="stage answers is left out, as options name"):
            small_pipeline(tmp_path, changes=changes, start=start, only=only)
    assert small_pipeline(tmp_path).left_out == ()
