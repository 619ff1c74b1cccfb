"""Ablations: variants side by side, each done once, and one figure of what their runs recorded."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

from killing import kill_until_done
from pipelines import Notes, small_graph, small_pipeline
from processes import call_main, metrics_of
from report_runs import Page
from scripted import save_talking_model, write_problems
from zerone.config.recipes import recipe_file
from zerone.config.staged import read_staged_recipe
from zerone.errors import ConfigError, RunDirError
from zerone.pipeline.ablations import (
    ABLATIONS,
    Ablation,
    Curve,
    ablation_configs,
    ablation_graph,
    ablation_named,
    ablation_pipeline,
    take_over,
)
from zerone.pipeline.r1 import r1_graph
from zerone.pipeline.run import State
from zerone.report.ablation import render_ablation
from zerone.report.numbers import number, percent

FORMAT = Ablation(
    shows="What pay for the format does.",
    stage="first",
    variants={"paid": {"reward.format": 1.0}, "unpaid": {"reward.format": 0.0}},
    curves=(
        Curve(title="Right", key="accuracy"),
        Curve(title="By level", key="accuracy_by.*"),
        Curve(title="Held out", key="hard.pass_at_1", source="evals"),
        Curve(title="Seconds", key="total_s", source="timing", unit="seconds", is_share=False),
        Curve(title="Language", key="language", source="texts"),
        Curve(title="Never recorded", key="parts.safety"),
    ),
    settings={"eval.every": 2},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pipeline `run`, and the ablation of its stage `first` in `ablation`."""
    path = tmp_path_factory.mktemp("ablations")
    small_pipeline(path, only="base").run(False, Notes())
    notes = Notes()
    run_ablation(path, "ablation", notes)
    assert notes.begun == [("paid", State.RUN), ("unpaid", State.RUN)], "base is taken over"
    return path


def run_ablation(folder: Path, name: str, notes: Notes) -> None:
    work = ablation_pipeline(small_graph(), FORMAT, folder / name, Path("unused"), (), folder / "run")
    take_over(work, FORMAT, folder / "run")
    work.run(True, notes)


def test_each_variant_is_the_stage_with_what_differs(folder: Path) -> None:
    both = [metrics_of(folder / "ablation" / name) for name in FORMAT.variants]
    assert [len(metrics) for metrics in both] == [3, 3]
    assert both[0] != both[1]
    lineages = [
        json.loads((folder / "ablation" / name / "model" / "lineage.json").read_text("utf-8"))
        for name in FORMAT.variants
    ]
    roots = [lineage["nodes"][lineage["root"]] for lineage in lineages]
    assert [root["made_by"]["options"]["reward.format"] for root in roots] == [1.0, 0.0]
    assert len({root["inputs"]["model"] for root in roots}) == 1, "from one model"


def test_the_figure_shows_what_the_runs_recorded(folder: Path) -> None:
    html = render_ablation("format", FORMAT, folder / "ablation")
    page = Page(html)
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    charts = [attributes.get("aria-label") for tag, attributes in page.elements if tag == "svg"]
    titles = ("Right", "By level", "Held out", "Seconds", "Language", "Never recorded")
    assert [title for title in titles if title in charts] == list(titles[:-1])
    for name in FORMAT.variants:
        run = folder / "ablation" / name
        for line in metrics_of(run):
            assert f"{name}: {percent(line['accuracy'])}" in html
        timing = [json.loads(line) for line in (run / "timing.jsonl").read_text("utf-8").splitlines()]
        assert f"{name}: {number(timing[0]['total_s'])}" in html
        evaluation = json.loads((run / "evals" / "step_000002.json").read_text("utf-8"))
        assert f"{name}: {percent(evaluation['suites']['hard']['pass_at_1'])}" in html
    assert "reward.format" in page.text


def test_a_finished_ablation_is_not_run_again_and_a_killed_one_goes_on(folder: Path) -> None:
    notes = Notes()
    run_ablation(folder, "ablation", notes)
    assert notes.begun == []
    work = partial(run_ablation, folder, "killed", Notes())
    kill_until_done(work, folder / "killed", Random(0), 0.05, 0.75, 4)
    for name in FORMAT.variants:
        assert metrics_of(folder / "killed" / name) == metrics_of(folder / "ablation" / name)


def test_stages_that_are_not_done_cannot_be_started_from(folder: Path) -> None:
    late = replace(FORMAT, stage="second")
    work = ablation_pipeline(small_graph(), late, folder / "early", Path("unused"), (), folder / "run")
    with pytest.raises(
        RunDirError, match=r"stage first of .* is not done; finish it by `zerone r1 --resume`"
    ):
        take_over(work, late, folder / "run")
    with pytest.raises(RunDirError, match="is not a pipeline"):
        ablation_pipeline(small_graph(), FORMAT, folder / "x", Path("unused"), (), folder)


@pytest.mark.parametrize("name", list(ABLATIONS))
def test_every_declared_ablation_fits_the_stages_and_recipes(name: str) -> None:
    ablation, graph = ablation_named(name), r1_graph()
    shown = ablation_graph(graph, ablation)
    assert shown.names[-len(ablation.variants) :] == tuple(ablation.variants)
    for recipe in ("r1_embedded", "r1_tiny"):
        staged = read_staged_recipe(recipe_file(recipe))
        configs = ablation_configs(graph, ablation, staged, (), only_variants=False)
        assert configs.keys() == set(shown.names)
        plain = ablation_configs(graph, ablation, staged, ["seed=5"], only_variants=True)
        assert {plain[variant].seed for variant in ablation.variants} == {5}
        assert all(plain[other].seed == 0 for other in shown.names if other not in ablation.variants)


def test_overrides_that_make_variants_the_same_are_refused() -> None:
    staged = read_staged_recipe(recipe_file("r1_tiny"))
    with pytest.raises(ConfigError, match=r"some variants are the same; they differ in loss\.kl_coef"):
        ablation_configs(r1_graph(), ABLATIONS["kl"], staged, ["loss.kl_coef=0.5"], only_variants=False)
    with pytest.raises(ConfigError, match="no ablation is named 'lr'; there are language, preference"):
        ablation_named("lr")


def test_one_command_runs_the_variants_and_writes_the_figure(tmp_path: Path) -> None:
    save_talking_model(tmp_path / "base")
    write_problems(tmp_path / "problems.jsonl")
    command = [
        *("ablate", "reference", "--recipe=r1_tiny", f"--run-dir={tmp_path / 'run'}"),
        *(f"model.path={tmp_path / 'base'}", f"data.path={tmp_path / 'problems.jsonl'}"),
        *("model.precision=fp32", "model.threads=1", "sampling.max_tokens=16", "rl.steps=2"),
        *("replaced.rl.reference_every=1", "eval.hard_samples=1"),
    ]
    code, out, _ = call_main(tmp_path, *command, "--dry-run")
    assert (code, (tmp_path / "run").exists()) == (0, False)
    assert all(word in out for word in ("fixed", "replaced", "2 of 2 stages"))
    code, out, err = call_main(tmp_path, *command)
    assert code == 0, err
    page = tmp_path / "run" / "reference.html"
    assert f"figure: {page}" in out
    assert "Distance to the reference" in page.read_text("utf-8")
    assert call_main(tmp_path, *command)[0] == 2, "it is there already"
    assert call_main(tmp_path, *command, "--resume")[0] == 0
    code, out, _ = call_main(tmp_path, "ablate")
    assert (code, out.count("\n")) == (0, len(ABLATIONS))


def test_rl_without_a_cold_start_begins_at_the_base() -> None:
    stages = ablation_graph(r1_graph(), ablation_named("cold_start")).by_name
    assert stages["with"].inputs == r1_graph().by_name["dev2"].inputs
    assert set(stages["without"].inputs) == {"base", "problems"}
    assert stages["without"].parents == ()
