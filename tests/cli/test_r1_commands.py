"""`zerone r1` and `zerone lineage` as a user calls them, and recipes of several stages."""

import json
from pathlib import Path

import pytest

from processes import call_main
from scripted import save_talking_model, write_problems
from zerone.cli.r1 import recipe_of
from zerone.config import Config, read_recipe
from zerone.config.recipes import recipe_paths
from zerone.config.staged import StagedRecipe, build_stage_configs, read_staged_recipe
from zerone.errors import ConfigError
from zerone.identity import sha256_of_path
from zerone.pipeline.r1 import graph_of
from zerone.runs.directory import RECIPE_NAME

NAMES = ("r1_zero", "dev1")


def configs(tmp_path: Path, text: str, *overrides: str) -> dict[str, Config]:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return build_stage_configs(read_staged_recipe(path), NAMES, overrides)


# Recipes ------------------------------------------------------------------------------------------


def test_the_later_wins_from_defaults_to_arguments_of_one_stage(tmp_path: Path) -> None:
    text = (
        "seed: 1\nrl: {steps: 2, epochs: 2, group_size: 2}\n"
        "stages:\n  dev1:\n    rl: {epochs: 3}\n    rl.group_size: 3\n    data.answer_pattern: '1e3'\n"
    )
    found = configs(tmp_path, text, "seed=5", "dev1.rl.group_size=4", "stages.r1_zero.optim.beta1=0.5")

    def values(config: Config) -> tuple[object, ...]:
        return (config.seed, config.rl.steps, config.rl.epochs, config.rl.group_size, config.optim.beta1)

    assert values(found["r1_zero"]) == (5, 2, 2, 2, 0.5)
    assert values(found["dev1"]) == (5, 2, 3, 4, 0.9)
    assert found["dev1"].data.answer_pattern == "1e3", "text stays text"


@pytest.mark.parametrize(
    ("text", "overrides", "complaint"),
    [
        ("stages: {dve1: {rl.steps: 2}}", (), r"no stage is named 'dve1'. Did you mean 'dev1'\? There are"),
        (
            "stages: {dev1: {rl.stpes: 2}}",
            (),
            "stage dev1: unknown option 'rl.stpes'. Did you mean 'rl",
        ),
        ("rl: {stpes: 2}", (), r"unknown option 'rl.stpes'. Did you mean 'rl.steps'"),
        ("stages: [dev1]", (), "must map names of stages to options"),
        ("stages: {dev1: 3}", (), "`stages.dev1` in .* must be a mapping"),
        ("stages: {dev1: {rl.steps: 0}}", (), "stage dev1: rl.steps=0"),
        ("{}", ("dve1.rl.steps=2",), "no stage is named 'dve1'. Did you mean 'dev1'"),
        ("{}", ("stages.dve1.rl.steps=2",), "no stage is named 'dve1'. Did you mean 'dev1'"),
        ("{}", ("dev1.rl.stpes=2",), "stage dev1: unknown option 'rl.stpes'. Did you mean 'rl.steps'"),
        ("{}", ("rl.stpes=2",), "unknown option 'rl.stpes'. Did you mean 'rl.steps'"),
        ("{}", ("dev1.rl.steps",), "is not an override; write key=value"),
        ("{}", ("steps",), "'steps' is not an override; write key=value"),
    ],
)
def test_what_is_wrong_in_a_staged_recipe_is_named(
    tmp_path: Path, text: str, overrides: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        configs(tmp_path, text, *overrides)


def test_recipes_of_the_package_fit_the_stages() -> None:
    for name in ("r1_embedded", "r1_tiny", "r1_1.5b"):
        recipe = read_staged_recipe(recipe_paths()[name])
        names = graph_of(recipe).names
        assert build_stage_configs(recipe, names).keys() == set(names)
        with pytest.raises(ConfigError, match="is a recipe of several stages; run it by `zerone r1`"):
            read_recipe(recipe_paths()[name])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("leave_out: [pop]\nstages: {}", "no stage is named 'pop', to leave out"),
        ("leave_out: [dev1]\nstages: {}", "stage dev1 cannot be left out: eval_dev1 needs it"),
        ("leave_out: ppo\nstages: {}", "`leave_out` in .* must be a list of names"),
        ("students: qwen_s\nstages: {}", "`students` in .* must be a list of names"),
    ],
)
def test_what_cannot_be_left_out_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "r1.yaml").write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        graph_of(read_staged_recipe(tmp_path / "r1.yaml"))


def test_a_pipeline_goes_on_with_the_stages_that_it_began_with(tmp_path: Path) -> None:
    """What its recipe left out, and the students that it did without, are not run on resume."""
    names = graph_of(read_staged_recipe(recipe_paths()["r1_1.5b"])).names
    (tmp_path / RECIPE_NAME).write_text(json.dumps({"stages": {name: {} for name in names}}))
    assert graph_of(recipe_of(None, None, tmp_path)).names == names


def test_a_recipe_without_stages_is_the_same_for_all(tmp_path: Path) -> None:
    assert len({config.model_dump_json() for config in configs(tmp_path, "seed: 3").values()}) == 1
    assert build_stage_configs(StagedRecipe(common={}, stages={}), NAMES)["dev1"] == Config()


# The commands -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base model, problems and a pipeline `run` whose first stage is done."""
    path = tmp_path_factory.mktemp("r1")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    code, out, err = call_main(path, *arguments(path))
    assert code == 0, err
    assert "\x1b[" not in out
    assert f"r1_zero    {path / 'run' / 'r1_zero' / 'model'}" in out
    return path


def arguments(folder: Path, *changes: str) -> list[str]:
    return [
        *("r1", "--recipe=r1_tiny", f"--run-dir={folder / 'run'}", "--only=r1_zero"),
        *(f"model.path={folder / 'base'}", f"data.path={folder / 'problems.jsonl'}", "data.eval_share=0.2"),
        *("model.precision=fp32", "model.threads=1", "sampling.max_tokens=16", "rl.steps=2", *changes),
    ]


def test_a_dry_run_shows_state_time_and_disk(folder: Path) -> None:
    code, out, _ = call_main(folder, *arguments(folder), "--dry-run")
    assert code == 0
    assert all(word in out for word in ("r1_zero", "done", "about", "disk", "still ahead", "0 of "))
    code, out, _ = call_main(folder, *arguments(folder, "--from=r1_zero"), "--dry-run")
    assert "runs: by --from r1_zero" in out


def test_an_existing_pipeline_needs_resume_and_another_recipe_is_refused(folder: Path) -> None:
    code, _, err = call_main(folder, *arguments(folder))
    assert code == 2
    assert "already holds a pipeline" in err
    code, _, err = call_main(folder, *arguments(folder), "--resume", "r1_zero.rl.steps=3")
    assert code == 2
    assert "r1_zero: rl.steps: 2  (now: 3)" in err
    assert call_main(folder, *arguments(folder), "--resume")[0] == 0


@pytest.mark.parametrize(
    ("text", "override", "complaint"),
    [
        ('{"prompt": "a", "answer": 1}\n{', "r1.data.path=FILE", "bad.jsonl:2: not valid JSON"),
        (None, "dev2.data.path=FILE", "bad.jsonl does not exist"),
        (None, "dev3.model.path=FILE", "bad.jsonl is not a model"),
        (
            '{"prompt": "a", "response": "b", "is_safe": true}\n' * 30,
            "helpfulness.data.path=FILE",
            "too few for both training and evaluation",
        ),
        ('{"prompt": "a", "chosen": 1, "rejected": "c"}', "safety.data.path=FILE", "chosen must be text"),
    ],
)
def test_what_a_late_stage_cannot_read_is_refused_before_the_first(
    tmp_path: Path, text: str | None, override: str, complaint: str
) -> None:
    file = tmp_path / "bad.jsonl"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    options = ("r1", "--recipe=r1_tiny", f"--run-dir={tmp_path / 'run'}")
    code, _, err = call_main(tmp_path, *options, override.replace("FILE", str(file)))
    assert code == 2
    assert complaint in " ".join(err.split())
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_resume_without_a_directory_is_refused(folder: Path) -> None:
    for option in ("--resume", "--from=r1_zero"):
        code, _, err = call_main(folder, "r1", "--recipe=r1_tiny", option)
        assert code == 2
        assert "need --run-dir DIR" in err


def test_lineage_is_printed_as_a_tree_and_as_json(folder: Path) -> None:
    code, out, _ = call_main(folder, "lineage", str(folder / "run" / "r1_zero"))
    assert code == 0
    assert all(text in out for text in ("r1_zero.model", "base: base", "problems: problems", "rl.steps=2"))
    code, out, _ = call_main(folder, "lineage", str(folder / "run" / "r1_zero" / "model"), "--json")
    found = json.loads(out)
    root = found["nodes"][found["root"]]
    assert root["sha256"] == sha256_of_path(folder / "run" / "r1_zero" / "model")
    assert {found["nodes"][key]["name"] for key in root["inputs"].values()} == {"base", "problems"}
    assert not found["weights_have_changed"]
    code, _, err = call_main(folder, "lineage", str(folder / "nothing"))
    assert code == 2
    assert "is not a model" in err
