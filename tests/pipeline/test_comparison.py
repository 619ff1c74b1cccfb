"""Several runs on one page, what runs cost, and the tables of stages and students."""

import json
from pathlib import Path
from typing import Any

import pytest

from processes import call_main
from report_runs import HOSTILE, Page, make_run
from zerone.config import build_config, to_yaml
from zerone.errors import FileError, UserError
from zerone.files import JsonObject
from zerone.report import cost, stages_table
from zerone.report.comparison import (
    MAX_RUNS,
    beside_paper,
    differing_settings,
    final_figures,
    name_runs,
    paired,
    render_comparison,
)
from zerone.report.page import render
from zerone.report.record import read_record
from zerone.report.tables import before_after
from zerone.runs.directory import HELD_OUT, RunDir, shown_suites, write_atomically


def make_runs(folder: Path, **changes: str) -> list[RunDir]:
    """Make two runs; the second has other options."""
    first = make_run(folder / "first", [0.14, 0.5, 0.7, 0.93])
    second = make_run(folder / "second", [0.14, 0.4, 0.6], is_finished=False)
    overrides = ["rl.steps=3", *(f"{name}={value}" for name, value in changes.items())]
    write_atomically(second.config_path, to_yaml(build_config({}, overrides)))
    return [first, second]


def summary_of_stages(**changes: Any) -> dict[str, Any]:
    """Return what `zerone r1` writes, with two models and one student."""

    def model(score: float) -> dict[str, Any]:
        suites = {
            name: {"score": score, "ci": [score - 0.05, score + 0.05], "n": 100}
            for name in ("format", "reasoning")
        }
        return {"path": "x", "suites": suites, "cons_at_16": score, "response_tokens": 80.5}

    student = {
        "name": HOSTILE,
        "architecture": "llama",
        "parameters": 1_200_000,
        "base_score": 0.1,
        "base_score_ci": [0.05, 0.15],
        "distilled_score": {"score": 0.62, "ci": [0.55, 0.7]},
    }
    return {
        "models": {"r1": model(0.9), "r1_zero": model(0.8)},
        "students": [student],
        "wall_s": 60.0,
    } | changes


def test_runs_share_one_small_balanced_page_that_loads_nothing(tmp_path: Path) -> None:
    html = render_comparison(make_runs(tmp_path, **{"optim.learning_rate": "0.5"}), 0.04)
    page = Page(html)
    assert page.open == []
    assert len(html) < 2_000_000
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert ids == {(attributes["href"] or "")[1:] for tag, attributes in page.elements if tag == "a"}
    for name in ("first", "second"):
        assert page.text.count(name) > 5


def test_final_figures_stand_side_by_side_with_intervals(tmp_path: Path) -> None:
    compared = name_runs([read_record(run) for run in make_runs(tmp_path)])
    finals = dict(final_figures(compared))
    pass_at_1 = next(row for row in finals["mixed"] if row.label == "pass@1")
    assert pass_at_1.cells == [("93.0%", "89.0% to 97.0%", "14.0%"), ("60.0%", "56.0% to 64.0%", "14.0%")]


def test_only_settings_that_differ_are_listed(tmp_path: Path) -> None:
    compared = name_runs([read_record(run) for run in make_runs(tmp_path, **{"rl.group_size": "4"})])
    assert [(row.label, row.values) for row in differing_settings(compared)] == [
        ("rl.group_size", ["16", "4"])
    ]


def test_page_says_that_only_the_seed_differs_and_gives_the_mean(tmp_path: Path) -> None:
    text = Page(render_comparison(make_runs(tmp_path, seed="7"), 0.04)).text
    assert "They differ in the seed only" in text
    assert "76.5% on the mixed suite" in text
    assert "second is not finished" in text


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        ("commit", "abc", "def"),
        ("model_sha256", "abc", "def"),
        ("precision", "fp32", "bf16"),
        ("cpu", f"{'x' * 20} 1", f"{'x' * 20} 2"),
    ],
)
def test_runs_with_other_surroundings_do_not_differ_in_the_seed_only(
    tmp_path: Path, key: str, first: str, second: str
) -> None:
    runs = make_runs(tmp_path, seed="7")
    for run, value in zip(runs, (first, second), strict=True):
        write_atomically(run.path / "environment.json", json.dumps(run.read_environment() | {key: value}))
    text = Page(render_comparison(runs, 0.04)).text
    assert f"They differ in seed, {key.replace('_', ' ')}." in text
    assert "that of chance" not in text


def test_values_beside_the_papers_stand_in_the_order_of_the_runs(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, [0.1, 0.2]) for name in "abc"]
    write_atomically(runs[1].config_path, to_yaml(build_config({}, ["rl.steps=3", "rl.group_size=4"])))
    rows = {row.label: row.here for row in beside_paper(name_runs([read_record(run) for run in runs]))}
    assert rows["Answers per question (group size)"] == "16 / 4 / 16"
    assert rows["Training steps"] == "3"


def test_runs_called_alike_are_told_apart_by_their_path(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name / "run", [0.1, 0.2]) for name in ("a", "b")]
    names = [run.name for run in name_runs([read_record(run) for run in runs])]
    assert len(set(names)) == 2
    assert len({run.tone for run in name_runs([read_record(run) for run in runs])}) == 2


def test_model_output_and_options_are_escaped(tmp_path: Path) -> None:
    runs = make_runs(tmp_path)
    write_atomically(runs[0].config_path, "seed: 0\nmodel: {path: '</td><script>alert(1)</script>'}\n")
    page = Page(render_comparison(runs, 0.04))
    assert "script" not in {tag for tag, _ in page.elements}
    assert "</td><script>alert(1)</script>" in page.text


def test_too_many_runs_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [0.1, 0.2])
    with pytest.raises(UserError, match="at most"):
        render_comparison([run] * (MAX_RUNS + 1), 0.04)
    assert Page(render_comparison([run] * MAX_RUNS, 0.04)).open == []


def test_cost_follows_from_tokens_times_and_the_price_of_a_core() -> None:
    found = cost.Cost(
        name="a",
        num_sampled=2_000_000,
        num_trained=1_000_000,
        wall_s=7200.0,
        sampling_s=3600.0,
        training_s=1800.0,
        num_cores=2,
        core_price=0.05,
    )
    assert found.core_hours == 4.0
    assert found.price == pytest.approx(0.2)
    assert found.price_out == pytest.approx(0.05), "2 core-hours for 2 million tokens"
    assert found.price_in == pytest.approx(0.05 / 3), "a third of a core-hour for a million"
    rows = dict(cost.rows([found]))
    assert rows["tokens/s, sampling"] == ["556"]
    assert rows["core-hours"] == ["4"]


def test_cost_of_a_run_that_recorded_nothing_is_blank(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a").lock()
    run.start(to_yaml(build_config({}, [])), {})
    rows = dict(cost.rows([cost.cost_of(read_record(run), 0.04)]))
    assert rows["$ per million tokens out"] == ["\u2013"]
    assert rows["tokens sampled"] == ["\u2013"]


def test_prices_of_the_interfaces_stand_beside_the_costs(tmp_path: Path) -> None:
    html = render(make_run(tmp_path / "a", [0.1, 0.2]))
    text = Page(html).text
    assert "$0.04 per core-hour" in text
    # Cell by cell: "15" alone is also in the 15.6% of the paper's table.
    for cells in (
        "<th>deepseek-reasoner, January 2025</th><td>0.55</td><td>2.19</td>",
        "<th>OpenAI o1, January 2025</th><td>15</td><td>60</td>",
    ):
        assert cells in html


def test_stage_table_is_in_the_order_of_the_stages() -> None:
    table = stages_table.stages(summary_of_stages())
    assert table is not None
    assert table.heads == ["suite", "R1-Zero", "R1"]
    rows = {label: [(cell.value, cell.interval) for cell in cells] for label, cells in table.rows}
    assert list(rows) == ["reasoning", "format", "cons@16", "tokens per response"]
    assert rows["reasoning"] == [("80.0%", "75.0% to 85.0%"), ("90.0%", "85.0% to 95.0%")]
    assert rows["tokens per response"] == [("80.5", ""), ("80.5", "")]


def test_students_are_shown_before_distilled_and_trained_directly() -> None:
    table = stages_table.students(summary_of_stages())
    assert table is not None
    _, cells = table.rows[0]
    assert [cell.value for cell in cells] == ["1.2 M", "10.0%", "62.0%", "\u2013"]
    assert cells[1].interval == "5.0% to 15.0%"


@pytest.mark.parametrize(
    "summary", [{}, {"models": {}}, {"models": None, "students": []}, {"base": {}, "final": {}}]
)
def test_summary_of_another_kind_has_no_such_tables(summary: dict[str, Any]) -> None:
    assert stages_table.stages(summary) is None
    assert stages_table.students(summary) is None


def test_summary_of_all_stages_is_on_the_page_of_one_run_and_of_several(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "r1").lock()
    run.write_summary(summary_of_stages())
    run.unlock()
    other = make_run(tmp_path / "zero", [0.1, 0.2])
    for html in (render(run), render_comparison([run, other], 0.04)):
        page = Page(html)
        assert page.open == []
        assert "script" not in {tag for tag, _ in page.elements}
        assert "85.0% to 95.0%" in page.text
        assert "AIME 2024" in page.text
        assert "1.2 M" in page.text
    models = summary_of_stages()["models"]
    run.write_summary(summary_of_stages(models=models | {"base": models["r1_zero"]}))
    assert "From 80.0% to 90.0% correct on the reasoning suite in four stages" in Page(render(run)).text


def test_run_through_all_stages_needs_no_settings_of_its_own(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "r1").lock()
    run.write_summary(summary_of_stages(seed=3))
    page = Page(render(run))
    assert page.open == []
    assert "seed 3: 1 min 0 s" in page.text
    assert "Dev1" in page.text


def test_command_writes_one_page_or_several_runs_to_a_file(tmp_path: Path) -> None:
    first, second = make_runs(tmp_path)
    code, out, _ = call_main(tmp_path, "report", str(first.path))
    assert (code, out.strip()) == (0, str(first.report_path.resolve()))
    code, out, err = call_main(tmp_path, "report", str(first.path), str(second.path))
    assert (code, out) == (2, "")
    assert "add --out FILE.html" in err
    page = tmp_path / "both.html"
    code, out, _ = call_main(tmp_path, "report", str(first.path), str(second.path), "--out", str(page))
    assert (code, out.strip()) == (0, str(page.resolve()))
    assert "first" in page.read_text(encoding="utf-8")
    code, _, err = call_main(tmp_path, "report", str(first.path), str(tmp_path / "none"), "--out", str(page))
    assert code == 2
    assert "none is not a run directory" in err


def test_a_score_has_its_share_without_a_readable_answer_beside_it() -> None:
    measured = {"score": 0.5, "ci": [0.4, 0.6], "n": 8, "unparsable": 0.25}
    older = {"score": 0.5, "ci": [0.4, 0.6], "n": 8}
    models = {"base": {"suites": {"reasoning": measured}}, "r1": {"suites": {"reasoning": older}}}
    table = stages_table.stages({"models": models})
    assert table is not None
    [(_, cells)] = table.rows
    assert [cell.interval for cell in cells] == [
        "40.0% to 60.0%, no readable answer 25.0%",
        "40.0% to 60.0%",
    ]


# Is the difference real? --------------------------------------------------------------------------


def make_run_of_shares(path: Path, shares: dict[str, float], *overrides: str) -> RunDir:
    """Make a run whose last evaluation tells each problem's share of correct completions."""
    run = make_run(path, [0.2, 0.5], is_finished=False)
    write_atomically(run.config_path, to_yaml(build_config({}, ["rl.steps=3", *overrides])))
    last = run.read_evals()[1]
    last["suites"]["hard"]["problems"] = shares
    run.write_eval(1, last)
    return run


EVEN = {f"p{i}": 0.25 for i in range(40)}


@pytest.mark.parametrize(
    ("shares", "conclusion"),
    [
        (dict.fromkeys(EVEN, 0.5), "b is better than a"),
        (dict.fromkeys(EVEN, 0.0), "a is better than b"),
        ({name: 0.0 if i % 2 else 0.5 for i, name in enumerate(EVEN)}, "no difference is shown"),
        ({name: 1.0 if i < 2 else 0.25 for i, name in enumerate(EVEN)}, "no difference is shown"),
    ],
)
def test_runs_are_compared_problem_by_problem(
    tmp_path: Path, shares: dict[str, float], conclusion: str
) -> None:
    runs = [make_run_of_shares(tmp_path / "a", EVEN), make_run_of_shares(tmp_path / "b", shares)]
    (found,) = paired(name_runs([read_record(run) for run in runs]))
    assert (found.suite, found.num_problems, found.conclusion) == ("hard", "40", conclusion)
    text = Page(render_comparison(runs, 0.04)).text
    assert "Is the difference real?" in text
    assert conclusion in text


def test_each_run_is_compared_with_the_first(tmp_path: Path) -> None:
    runs = [make_run_of_shares(tmp_path / name, EVEN) for name in "abc"]
    found = paired(name_runs([read_record(run) for run in runs]))
    assert [row.runs for row in found] == ["b minus a", "c minus a"]


def test_runs_without_a_common_problem_are_not_compared(tmp_path: Path) -> None:
    others = {f"q{i}": 0.5 for i in range(9)}
    runs = [make_run_of_shares(tmp_path / "a", EVEN), make_run_of_shares(tmp_path / "b", others)]
    assert paired(name_runs([read_record(run) for run in runs])) == []
    assert "Is the difference real?" not in render_comparison(runs, 0.04)
    assert paired(name_runs([read_record(run) for run in make_runs(tmp_path)])) == []


# Own problems -------------------------------------------------------------------------------------


def test_own_problems_are_one_suite_on_every_page(tmp_path: Path) -> None:
    own = "data.path=mine.jsonl"
    runs = [make_run_of_shares(tmp_path / name, EVEN, own) for name in "ab"]
    record = read_record(runs[0])
    assert record.suites == [HELD_OUT]
    assert [suite for suite, _ in before_after(record)] == [HELD_OUT]
    (found,) = paired(name_runs([read_record(run) for run in runs]))
    assert found.suite == HELD_OUT
    for page in (render(runs[0]), render_comparison(runs, 0.04)):
        text = Page(page).text
        assert "held-out suite" in text
        assert "hard suite" not in text
        assert "mixed suite" not in text


def test_embedded_problems_stay_two_suites_and_sft_keeps_its_own() -> None:
    suites = {"mixed": 1, "hard": 2}
    assert shown_suites(suites, {"data": {"path": None}}) == suites
    assert shown_suites(suites, {}) == suites
    assert shown_suites({"problems": 1}, {"data": {"path": "x.jsonl"}}) == {"problems": 1}
    assert shown_suites({"hard": 2}, {"data": {"path": "x.jsonl"}}) == {HELD_OUT: 2}
    mixture = {"one": {"path": "x.jsonl", "weight": 1.0}}
    assert shown_suites(suites, {"data": {"path": None, "mixture": mixture}}) == {HELD_OUT: 2}


def test_a_damaged_suite_of_own_problems_is_named() -> None:
    """What lacks a field still says so: what is shown is still an object of its file."""
    shown = shown_suites(JsonObject({"hard": 1}, "a/b.json"), {"data": {"path": "x.jsonl"}})
    with pytest.raises(FileError, match=r"b\.json"):
        shown["mixed"]


@pytest.mark.parametrize("shares", [["p1"], {"p1": None}, {"p1": "much"}, 0.5, None])
def test_damaged_shares_of_problems_are_refused(tmp_path: Path, shares: Any) -> None:
    run = make_run_of_shares(tmp_path / "run", shares)
    with pytest.raises(FileError, match="problems"):
        read_record(run)
