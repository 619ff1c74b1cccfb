"""The report of a pipeline: what its stages wrote, on one page, also while it goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines import Notes, small_pipeline
from processes import call_main
from report_runs import HOSTILE, Page
from zerone.errors import RunDirError
from zerone.pipeline.summary import beside_grpo
from zerone.report.comparison import render_comparison
from zerone.report.distilled_figure import by_size
from zerone.report.page import render
from zerone.report.pipeline_tables import (
    data_tables,
    dropped_table,
    ppo_table,
    reward_models,
    shape,
    times,
)
from zerone.report.stages_table import Cell, Table, beside_students, students
from zerone.runs.directory import RunDir


def column(table: Table | None, label: str) -> list[str]:
    assert table is not None
    return [cell.value for cell in dict(table.rows)[label]]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished pipeline of a stage of reinforcement learning and others."""
    folder = tmp_path_factory.mktemp("reported")
    small_pipeline(folder).run(False, Notes())
    return folder / "run"


def test_curves_of_each_stage_of_reinforcement_learning_are_on_the_page(pipeline: Path) -> None:
    page = Page(render(RunDir(pipeline)))
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    assert "All 4 stages done" in page.text
    assert "3 steps of 3" in page.text
    assert page.text.count("Reward and its components") == 1, "second is fine-tuned and has no reward"
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert ids >= {(attributes["href"] or "")[1:] for tag, attributes in page.elements if tag == "a"}


def test_cost_samples_and_the_papers_settings_are_on_the_page(pipeline: Path) -> None:
    html = render(RunDir(pipeline), 0.07)
    page = Page(html)
    assert len(html) < 2_000_000
    assert "$0.07 per core-hour" in page.text
    assert "<th>OpenAI o1, January 2025</th><td>15</td><td>60</td>" in html
    assert "<th>cost</th><th>first</th><th>second</th><th>all stages</th>" in html
    sampled = sum(line["num_sampled_tokens"] for line in RunDir(pipeline / "first").read_metrics())
    assert f"<th>tokens sampled</th><td>{sampled:,}</td><td>\u2013</td><td>\u2013</td>" in html
    assert "Reflection words" in page.text and "Recovered after a failed try" in page.text
    assert "Answers of first that notice a failed try" in page.text
    assert '<article class="sample">' in html, "the first and the last step beside each other"
    assert "Settings of first beside the paper's" in page.text
    assert "DeepSeek-V3-Base, 671B parameters" in page.text


def test_price_of_a_core_reaches_the_page_of_a_pipeline(pipeline: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    call_main(tmp_path, "report", str(pipeline), "--core-price", "0.5", "--out", str(page))
    assert "$0.5 per core-hour" in page.read_text(encoding="utf-8")


def test_a_stage_of_fine_tuning_has_a_page_of_its_own(pipeline: Path) -> None:
    assert "Held-out loss from" in Page(render(RunDir(pipeline / "second"))).text


def test_ppo_without_its_times_is_beside_nothing(tmp_path: Path) -> None:
    """A stage that is done may have lost files: the page of the pipeline does without its comparison."""
    (tmp_path / "grpo").mkdir()
    for name in ("metrics.jsonl", "timing.jsonl"):
        line = {"step": 1, "accuracy": 0.5, "total_s": 2.0, "train_s": 1.0}
        (tmp_path / "grpo" / name).write_text(json.dumps(line) + "\n")
    grpo = RunDir(tmp_path / "grpo")
    assert beside_grpo(grpo, RunDir(tmp_path / "ppo")) == {}
    assert beside_grpo(grpo, grpo)["total_s_ratio"] == 1


def test_ppo_stands_beside_grpo_figure_by_figure_with_ratios() -> None:
    ppo = {
        "steps": 5,
        **{"total_s_grpo": 6.0, "total_s_ppo": 9.0, "total_s_ratio": 1.5},
        **{"state_bytes_grpo": 13e6, "state_bytes_ppo": 26e6, "state_bytes_ratio": 2.0},
        **{"accuracy_grpo": 0.36, "accuracy_ppo": 0.35},
    }
    table = ppo_table({"ppo": ppo})
    assert table is not None and table.heads[0] == "the first 5 steps"
    assert column(table, "seconds a step") == ["6", "9", "1.5x"]
    assert column(table, "weights and optimiser, MB") == ["13", "26", "2.0x"]
    assert column(table, "correct in the last of them") == ["36.0%", "35.0%", ""]
    assert len(table.rows) == 3, "no row where a figure is missing"
    assert ppo_table({}) is None


def test_students_stand_beside_the_larger_base_and_the_teacher() -> None:
    def scored(name: str, parameters: int, score: float) -> dict[str, Any]:
        return {"name": name, "parameters": parameters, "score": {"score": score, "ci": [0.1, 0.3]}}

    found = {
        "students": [{"name": "small"}],
        "distillation": {
            "bases": [scored("small", 600_000, 0.01), scored("embedded", 1_100_000, 0.17)],
            "teacher": scored("teacher", 1_100_000, 0.9),
        },
    }
    table = beside_students(found)
    assert table is not None
    assert [label for label, _ in table.rows] == ["embedded, undistilled", "the teacher"]
    assert column(table, "embedded, undistilled") == ["1.1 M", "17.0%"]
    assert beside_students({"students": []}) is None


def difference(value: float, low: float, high: float) -> dict[str, Any]:
    return {"difference": value, "ci": [low, high], "p_value": 0.01, "is_real": not low <= 0 <= high, "n": 9}


def compared_by_problem() -> dict[str, Any]:
    """Return two students, the first of them smaller, held against their twins and the larger bases."""

    def scored(name: str, parameters: int, score: float) -> dict[str, Any]:
        return {"name": name, "parameters": parameters, "score": {"score": score, "ci": [0.0, 1.0]}}

    def student(name: str, parameters: int, **minus: Any) -> dict[str, Any]:
        score = {"score": 0.2, "ci": [0.1, 0.3]}
        return {
            **{"name": name, "architecture": "qwen3", "parameters": parameters, "distilled_minus": minus},
            **{f"{way}_score": score for way in ("base", "distilled", "direct_rl")},
        }

    larger = {"large": difference(0.1, 0.06, 0.14), "embedded": difference(0.02, -0.03, 0.07)}
    return {
        "students": [
            student("small", 580_000, direct_rl=difference(0.2, 0.16, 0.24), larger_bases=larger),
            student("large", 770_000, direct_rl=difference(-0.05, -0.08, -0.02)),
        ],
        "distillation": {
            "bases": [
                scored("small", 580_000, 0.01),
                scored("large", 770_000, 0.1),
                scored("embedded", 1_083_000, 0.18),
            ],
            "teacher": scored("teacher", 1_083_000, 0.9),
        },
    }


def test_students_are_compared_problem_by_problem_where_a_run_wrote_that_down() -> None:
    summary = compared_by_problem()
    twins = students(summary)
    assert twins is not None and twins.heads[-1] == "distilled minus RL, by problem"
    assert [cells[-1] for _, cells in twins.rows] == [
        Cell(value="+20.0%", interval="+16.0% to +24.0%"),
        Cell(value="\u22125.0%", interval="\u22128.0% to \u22122.0%"),
    ]
    beside = beside_students(summary)
    assert beside is not None and beside.heads[-1] == "small distilled minus it, paired"
    assert {label: cells[-1].value for label, cells in beside.rows} == {
        "large, undistilled": "+10.0%",
        "embedded, undistilled": "+2.0%",
        "the teacher": "\u2013",
    }
    figure = by_size(summary)
    assert figure is not None
    for said in (
        "twin by RL: small better, +20.0% (+16.0% to +24.0%); large worse, \u22125.0%",
        "small distilled against larger bases: large better, +10.0% (+6.0% to +14.0%); "
        "embedded inconclusive, +2.0% (\u22123.0% to +7.0%).",
    ):
        assert said in figure.reading


def test_an_older_run_shows_its_students_without_a_comparison_by_problem() -> None:
    summary = compared_by_problem()
    for student in summary["students"]:
        del student["distilled_minus"]
    tables = students(summary), beside_students(summary)
    assert not any("by problem" in head for table in tables if table for head in table.heads)
    figure = by_size(summary)
    assert figure is not None and "Problem by problem" not in figure.reading


def test_an_unfinished_pipeline_can_be_compared(pipeline: Path, tmp_path: Path) -> None:
    small_pipeline(tmp_path, "begun", only="base").run(False, Notes())
    runs = [RunDir(tmp_path / "begun"), RunDir(pipeline), RunDir(pipeline / "first")]
    page = Page(render_comparison(runs, 0.04))
    assert page.open == []
    assert "begun is not finished: 3 stages to go." in page.text
    assert "run is not finished" not in page.text


def test_pipelines_whose_stages_have_other_settings_are_not_called_the_same(
    pipeline: Path, tmp_path: Path
) -> None:
    small_pipeline(tmp_path, "other", only="base", changes={"first": ("rl.steps=4",)}).run(False, Notes())
    small_pipeline(tmp_path, "another", only="base", changes={"first": ("rl.steps=5",)}).run(False, Notes())
    runs = [RunDir(tmp_path / name) for name in ("other", "another")]
    assert "They differ in stages.first.rl.steps." in Page(render_comparison(runs, 0.04)).text


def test_an_unfinished_pipeline_shows_what_there_is_and_how_to_go_on(tmp_path: Path) -> None:
    small_pipeline(tmp_path, only="base").run(False, Notes())
    page = Page(render(RunDir(tmp_path / "run")))
    assert "1 of 4 stages done" in page.text
    assert f"zerone r1 --resume {tmp_path / 'run'}" in page.text
    assert "No step has been recorded yet" in page.text
    code, out, _ = call_main(tmp_path, "report", str(tmp_path / "run"))
    assert (code, out.strip()) == (0, str((tmp_path / "run" / "report.html").resolve()))


def test_a_damaged_recipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("stages: 3\n", encoding="utf-8")
    with pytest.raises(RunDirError, match=r"recipe\.yaml is damaged"):
        render(RunDir(tmp_path))


# Tables -------------------------------------------------------------------------------------------

DATA = {
    "cold_start": {
        "table": [{"domain": "math", "samples": 43, "rounds": 1.0, "tokens": 107.2}],
        "dropped": {"wrong": 3, "too long": 1},
    },
    HOSTILE: {"table": [], "dropped": {"wrong": 5}},
    "answers": 1,
}


def test_data_are_shown_by_domain_and_drops_by_reason() -> None:
    ((name, table),) = data_tables({"data": DATA})
    assert (name, column(table, "math")) == ("cold start", ["43", "1", "107.2"])
    dropped = dropped_table({"data": DATA})
    assert column(dropped, "wrong") == ["3", "5"]
    assert column(dropped, "too long") == ["1", "0"]
    assert column(dropped, "all") == ["4", "5"]
    assert dropped_table({"data": {}}) is None


def test_reward_models_are_shown_before_and_after_with_their_faults() -> None:
    quality = {
        "before": {"accuracy": 0.5},
        "accuracy": 0.91,
        "accuracy_ci": [0.88, 0.94],
        "ece": 0.031,
        "length": {"correlation": -0.25},
        "num_pairs": 160,
    }
    table = reward_models({"reward_models": {"helpfulness": quality, "safety": {}}})
    assert column(table, "helpfulness") == ["160", "50.0%", "91.0%", "3.1%", "-0.25"]
    assert set(column(table, "safety")) == {"\u2013"}
    assert reward_models({}) is None


def test_times_add_up() -> None:
    assert column(times({"stages": {"a": {"seconds": 30}, "b": {"seconds": 90}}}), "all")[0] == "2 min 0 s"


def model(score: float, doubt: float = 0.05) -> dict[str, Any]:
    measured = {"score": score, "ci": [score - doubt, score + doubt], "n": 100}
    return {"suites": {"reasoning": measured, "format": {"score": None, "ci": None, "n": 0}}}


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (model(0.8), model(0.4), "yes"),
        (model(0.4), model(0.8), "no, the opposite"),
        (model(0.5), model(0.45), "inconclusive: the intervals overlap"),
    ],
)
def test_the_papers_findings_are_held_against_the_intervals(
    before: dict[str, Any], after: dict[str, Any], verdict: str
) -> None:
    claims = shape({"models": {"r1_zero": before, "dev1": after}})
    assert [(claim.text, claim.verdict) for claim in claims] == [
        ("Dev1 costs reasoning against R1-Zero (reasoning)", verdict)
    ]


def test_r1_has_lost_nothing_unless_the_intervals_say_so() -> None:
    for score, verdict in ((0.78, "yes"), (0.9, "yes"), (0.6, "no")):
        (claim,) = shape({"models": {"r1_zero": model(0.8), "r1": model(score)}})
        assert claim.verdict == verdict


def suites(**measured: tuple[float, float, float]) -> dict[str, Any]:
    """Return a model by suite, each with its score and the ends of its interval."""
    return {
        "suites": {
            suite: {"score": score, "ci": [low, high], "n": 100}
            for suite, (score, low, high) in measured.items()
        }
    }


def verdict_on(text: str, **models: dict[str, Any]) -> str:
    (claim,) = [claim for claim in shape({"models": models}) if claim.text.startswith(text)]
    return claim.verdict


@pytest.mark.parametrize(
    ("language", "verdict"),
    [
        ((0.998, 0.994, 1.0), "yes"),
        ((0.998, 0.985, 1.0), "inconclusive: the interval contains it"),
        ((0.97, 0.95, 0.985), "no"),
    ],
)
def test_r1_keeps_to_one_language_where_the_whole_interval_is_above_the_limit(
    language: tuple[float, float, float], verdict: str
) -> None:
    assert verdict_on("R1 keeps to one language in at least 99%", r1=suites(language=language)) == verdict


def test_r1_is_best_only_where_it_lies_apart_from_every_other_model() -> None:
    far, near, ahead = (0.2, 0.1, 0.3), (0.6, 0.5, 0.7), (0.95, 0.9, 1.0)
    r1 = suites(helpfulness=(0.8, 0.75, 0.85))
    for others, verdict in (
        ({"base": far, "dev1": near}, "yes"),
        ({"base": far, "dev1": (0.7, 0.6, 0.8)}, "inconclusive: the intervals overlap"),
        ({"base": far, "dev1": ahead}, "no"),
        ({"base": ahead, "dev1": (0.7, 0.6, 0.8)}, "no"),
    ):
        models = {name: suites(helpfulness=found) for name, found in others.items()}
        assert verdict_on("R1 is the most helpful of all", r1=r1, **models) == verdict
    assert not [claim for claim in shape({"models": {"r1": r1}}) if "of all" in claim.text]
    claims = shape({"models": {"r1": suites(safety=near), "dev3": suites(safety=far)}})
    assert [(claim.text, claim.figures) for claim in claims][-1] == (
        "R1 is the safest of all (safety)",
        "Dev3 20.0%, R1 60.0%",
    )


def test_r1_is_held_against_r1_zero_on_hard_problems() -> None:
    zero = suites(hard=(0.80, 0.73, 0.86))
    for hard, verdict in (
        ((0.69, 0.58, 0.80), "inconclusive: the intervals overlap"),
        ((0.60, 0.50, 0.70), "no, the opposite"),
        ((0.95, 0.90, 1.00), "yes"),
    ):
        assert verdict_on("R1 gains on hard problems", r1=suites(hard=hard), r1_zero=zero) == verdict


def test_why_a_suite_was_left_out_is_on_the_page_as_text(tmp_path: Path) -> None:
    left_out = {"score": None, "ci": None, "n": 0, "left_out": HOSTILE}
    summary = {"models": {"r1": {"path": "x", "suites": {"code": left_out}}}, "seed": 0, "wall_s": 1.0}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    page = Page(render(RunDir(tmp_path)))
    assert page.open == []
    assert "Left out, code" in page.text


def test_one_figure_sets_distillation_against_rl_by_size() -> None:
    def scored(score: float) -> dict[str, Any]:
        return {"score": score, "ci": [score - 0.01, score + 0.01]}

    student = {"name": "small", "parameters": 580_000, "direct_rl_score": scored(0.03)}
    found: dict[str, Any] = {
        "students": [{**student, "distilled_score": scored(0.25)}],
        "distillation": {
            "bases": [{"name": "embedded", "parameters": 1_083_000, "score": scored(0.17)}],
            "teacher": {"name": "teacher", "parameters": 1_083_000, "score": scored(0.9)},
        },
    }
    figure = by_size(found)
    assert figure is not None
    assert [label for _, label in figure.legend] == [
        "distilled",
        "reinforcement learning directly",
        "before, and larger bases",
        "the teacher",
    ]
    assert "thousand parameters 1,083" in figure.svg and ">step<" not in figure.svg
    assert figure.reading.startswith("small: 25.0% distilled, 3.0% reinforcement learning directly.")
    assert by_size({"students": [student]}) is None, "nothing to compare before a student is distilled"
