"""The report of a run directory, made through RunDir itself with real problems and rollouts."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_runs import HASTY, SEARCH, Page, make_group, make_metrics, make_problem, make_run
from zerone.config import build_config, to_yaml
from zerone.errors import RunDirError
from zerone.escaping import visible
from zerone.report import aha, tables
from zerone.report.figures import all_figures
from zerone.report.page import render, write_report
from zerone.report.record import RunRecord, read_record
from zerone.runs.directory import RunDir


def test_report_is_one_small_balanced_page_that_loads_nothing(tmp_path: Path) -> None:
    path = write_report(make_run(tmp_path / "a", [0.14, 0.5, 0.7, 0.93]))
    page = Page(path.read_text(encoding="utf-8"))
    assert path.name == "report.html"
    assert path.stat().st_size < 2_000_000
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not {"src", "srcset", "onload", "onerror", "style"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")


def test_report_leads_with_base_and_final_figures(tmp_path: Path) -> None:
    page = Page(render(make_run(tmp_path / "a", [0.14, 0.5, 0.7, 0.93])))
    assert "From 14.0% to 93.0% correct on the mixed suite in 3 steps" in page.text
    assert "5 min 12 s including evaluations on 2 CPU cores" in page.text
    assert "89.0% to 97.0%" in page.text
    assert "+79.0 points" in page.text
    assert "not finished" not in page.text


def test_links_of_the_contents_lead_to_sections(tmp_path: Path) -> None:
    page = Page(render(make_run(tmp_path / "a", [0.14, 0.9])))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    links = {(attributes["href"] or "")[1:] for tag, attributes in page.elements if tag == "a"}
    assert len(ids) == len(set(ids))
    assert links == set(ids)


def test_model_output_cannot_become_markup_or_act(tmp_path: Path) -> None:
    html = render(make_run(tmp_path / "a", [0.1, 0.2, 0.3], hostile=True))
    page = Page(html)
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert "</pre><script>alert(1)</script>" in page.text
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "\\x1b[31m\\u202e{{ 7*7 }}" in page.text


def test_unfinished_run_says_so_and_names_the_latest_evaluation(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [0.14, 0.5, 0.7], is_finished=False)
    text = Page(render(run)).text
    assert "This run is not finished." in text
    assert "2 steps of 3 recorded" in text
    assert "latest evaluation of the mixed suite is that after step 2" in text
    assert "--resume" in text


def test_run_without_a_step_still_has_a_page(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a").lock()
    run.start(to_yaml(build_config({}, [])), {"command": "zerone zero"})
    text = Page(render(run)).text
    assert "0 steps recorded, no result yet" in text
    assert "No step has been recorded yet." in text


def test_run_with_one_step_draws_every_figure(tmp_path: Path) -> None:
    record = read_record(make_run(tmp_path / "a", [0.14, 0.5], is_finished=False))
    main, others = all_figures(record, {1: 0.5})
    assert main is not None
    assert len(others) == 8


def test_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="holds no run"):
        write_report(RunDir(tmp_path))


@pytest.mark.parametrize(
    ("final", "claim"),
    [
        (0.93, "raised pass@1 on the mixed suite: the 95% intervals do not overlap"),
        (0.18, "does not show an improvement"),
        (0.02, "does not show an improvement"),
    ],
)
def test_page_claims_an_improvement_only_when_intervals_lie_apart(
    tmp_path: Path, final: float, claim: str
) -> None:
    text = Page(render(make_run(tmp_path / "a", [0.14, final]))).text
    assert claim in text
    assert "elicitation" in text


def test_verdicts_that_are_not_learning_are_listed_with_their_steps(tmp_path: Path) -> None:
    record = read_record(make_run(tmp_path / "a", [0.1, 0.2]))
    stuck = {
        step: f"flat: reward -0.00{step} +/- 0.010 in 10 steps, {step}0% of groups have signal"
        for step in (2, 3, 4, 7)
    }
    full = {8: "learning: accuracy +3.0 points in 10 steps; truncated: 90% of completions are truncated"}
    only = {9: "learning the format only: format +30.0 points in 10 steps"}
    verdicts = stuck | full | only
    learning = "learning: accuracy +20.0 points in 10 steps"
    metrics = [make_metrics(i, 0.1, verdicts.get(i, learning)) for i in range(1, 10)]
    changed = RunRecord(**{**{name: getattr(record, name) for name in record.__slots__}, "metrics": metrics})
    assert tables.troubles(changed) == [("2\u20134, 7", stuck[7]), ("8", full[8]), ("9", only[9])]


def test_settings_stand_beside_the_papers(tmp_path: Path) -> None:
    rows = {row.label: row for row in tables.settings(read_record(make_run(tmp_path / "a", [0.1, 0.2])))}
    assert (rows["Learning rate"].here, rows["Learning rate"].paper) == ("0.00025", "3e-6")
    assert (rows["Questions per update"].here, rows["Questions per update"].paper) == ("24", "32")
    assert rows["Updates (the paper's steps)"].here == "6"


def test_long_questions_are_cut_as_answers_are(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a").lock()
    run.start(to_yaml(build_config({}, [])), {})
    problem = replace(make_problem(), prompt="q" * 500_000)
    for step in (1, 2):
        run.record_step(make_metrics(step, 0.5), {"step": step}, [make_group(problem, [(SEARCH, True, 9)])])
    html = render(run)
    assert len(html) < 2_000_000
    assert "q" * aha.MAX_SHOWN_CHARACTERS in html
    assert "(496,000 more characters are in rollouts.sqlite)" in html


def test_every_figure_has_a_legend_labelled_axes_and_a_reading(tmp_path: Path) -> None:
    record = read_record(make_run(tmp_path / "a", [0.14, 0.5, 0.7, 0.93]))
    main, others = all_figures(record, {1: 0.1, 2: 0.2, 3: 0.5})
    assert main is not None
    for figure in [main, *others]:
        assert len(figure.legend) >= 1
        assert figure.svg.count('class="axis"') == 2
        assert figure.svg.count('class="tick"') >= 4
        assert figure.reading.endswith(".")
        assert "None" not in figure.reading
    assert "hard suite cons@16 went from 11.0% to 50.5%" in main.reading


def test_report_of_the_papers_length_stays_small(tmp_path: Path) -> None:
    record = read_record(make_run(tmp_path / "a", [0.1, 0.2]))
    long = [make_metrics(step, 0.5) for step in range(1, 10_401)]
    fields = {name: getattr(record, name) for name in record.__slots__} | {"metrics": long}
    main, others = all_figures(RunRecord(**fields), {})
    assert main is not None
    assert sum(len(figure.svg) for figure in [main, *others]) < 300_000


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        (SEARCH, True),
        ("35/5=1 check 1*5=5 wrong\nwait 35/5=7", True),
        ("3+4=7不对\n等等3+5=8", True),
        ("3+4=7 yes\ncheck 7-4=3", False),
        ("wait 3+4=7 no", False),
        ("no, wait, 3+4=7", False),
        ("3+4=7 no\nwait", False),
        ("3+4=7 nothing\nwait 3+5=8", False),
        ("", False),
        (None, False),
    ],
)
def test_a_recovery_is_a_try_its_failure_reflection_and_a_further_try(
    thought: str | None, expected: bool
) -> None:
    assert aha.is_recovery(thought) is expected


def test_search_finds_the_earliest_and_the_clearest_right_recovery(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a").lock()
    problem = make_problem()
    twice = f"{SEARCH}\nwait 3+5=8"
    steps = [
        [(HASTY, True, 5), (SEARCH, False, 20)],
        [(HASTY, True, 5), (SEARCH, True, 21)],
        [(twice, True, 40), (twice, True, 30), (twice + " check", False, 30), (SEARCH, True, 20)],
    ]
    for step, thoughts in enumerate(steps, start=1):
        run.record_step(make_metrics(step, 0.5), {"step": step}, [make_group(problem, thoughts)])
    found = aha.find(run)
    assert [(sample.step, sample.num_tokens) for sample in found.earliest] == [(2, 21)]
    assert [(sample.step, sample.num_tokens) for sample in found.clearest] == [(3, 30)]
    assert found.recoveries == {1: 0.0, 2: 0.5, 3: 0.75}


def test_contrast_shows_the_same_hardest_level_early_and_late(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a").lock()
    for step, levels in enumerate([(1, 3, 5), (2, 3), (3, 1)], start=1):
        thoughts = [(HASTY, step == 3, 5), (HASTY, step == 3, 7), (SEARCH, True, 9 * step)]
        groups = [make_group(make_problem(level=level), thoughts) for level in levels]
        run.record_step(make_metrics(step, 0.5), {"step": step}, groups)
    (contrast,) = aha.find(run).contrasts
    assert (contrast.early.step, contrast.early.level) == (1, 3)
    assert (contrast.late.step, contrast.late.level) == (3, 3)
    assert (contrast.early.is_right, contrast.early.num_tokens) == (False, 5)
    assert (contrast.late.is_right, contrast.late.num_tokens) == (True, 7)
    assert contrast.early_accuracy == pytest.approx(1 / 3)


@given(st.text(max_size=200))
def test_shown_pieces_hold_the_whole_text(text: str) -> None:
    assert "".join(piece for _, piece in aha.segments(text)) == visible(text)
