"""The report of supervised fine-tuning, alone and beside other runs."""

from pathlib import Path
from typing import Any

import pytest

from report_runs import Page, make_run, make_suite
from zerone.config import build_config, to_yaml
from zerone.errors import RunDirError
from zerone.report.comparison import beside_paper, final_figures, name_runs, render_comparison
from zerone.report.page import render
from zerone.report.record import read_record
from zerone.runs.directory import RunDir


def make_fine_tuning(path: Path, suites: dict[str, Any] | None = None, *, is_finished: bool = True) -> RunDir:
    """Write what `zerone sft` writes: its evaluations and summary have a loss beside the suites."""
    run = RunDir(path).lock()
    run.start(to_yaml(build_config({}, [])), {"data": "answers.jsonl", "cores": 2})
    found = []
    for step, loss, score in ((0, 2.5, 0.2), (1, 0.3, 0.5), (2, 0.4, 0.6)):
        measured = {"hard": make_suite(score, votes=True)} if suites is None else suites
        found.append({"step": step, "loss": loss, "suites": measured})
        run.write_eval(step, {**found[-1], "seconds": 0.1})
        if step:
            metrics = {"step": step, "loss": loss, "num_trained_tokens": 1000}
            run.record_step(metrics, {"step": step, "train_s": 1.0, "total_s": 1.0}, [])
    if is_finished:
        ends = dict(zip(("base", "best", "final"), found, strict=True))
        run.write_summary({**ends, "steps": 2, "wall_s": 3.0, "seed": 0})
    run.unlock()
    return run


@pytest.mark.parametrize("is_finished", [True, False])
def test_fine_tuning_has_a_page_of_its_loss_and_suites(tmp_path: Path, is_finished: bool) -> None:
    html = render(make_fine_tuning(tmp_path / "a", is_finished=is_finished))
    page = Page(html)
    assert page.open == []
    assert "Held-out loss from 2.50 to 0.40 in 2 steps" in page.text
    assert '<th>best</th><td class="num">1</td><td class="num">0.30</td>' in html
    assert "20.0%" in page.text and "60.0%" in page.text and "+40.0" in page.text
    assert "eward" not in page.text.replace(to_yaml(build_config({}, [])), ""), "nothing was rewarded"
    assert ("not finished" in page.text) is not is_finished
    assert "No suite was measured" in Page(render(make_fine_tuning(tmp_path / "b", {}))).text


def test_training_of_a_reward_model_is_refused(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a").lock()
    run.start(to_yaml(build_config({}, [])), {})
    run.write_eval(0, {"step": 0, "kind": "helpfulness", "loss": 0.7})
    with pytest.raises(RunDirError, match="reward model"):
        render(run)


def test_runs_of_fine_tuning_are_compared_with_each_other_and_with_others(tmp_path: Path) -> None:
    runs = [make_fine_tuning(tmp_path / "x"), make_fine_tuning(tmp_path / "y", suites={})]
    text = Page(render_comparison(runs, 0.04)).text
    assert "Last evaluated: x 0.40, y 0.40." in text
    assert "Beside the paper" not in text
    zero = make_run(tmp_path / "zero", [0.1, 0.2])
    both = name_runs([read_record(run) for run in (runs[0], zero)])
    rows = {row.label: row.here for row in beside_paper(both)}
    assert rows["Learning rate"] == "\u2013 / 0.00025"
    finals = dict(final_figures(name_runs([read_record(run) for run in (*runs, zero)])))
    assert set(finals) == {"mixed", "hard"}
    assert [value for value, _, _ in finals["hard"][0].cells] == ["60.0%", "\u2013", "10.0%"]
