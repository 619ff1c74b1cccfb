"""The view of a pipeline: one table on a terminal, plain lines elsewhere."""

import io
from pathlib import Path

from rich.console import Console

from pipelines import planned, small_graph, small_pipeline
from zerone.cli.pipeline_progress import PipelineView, duration, plan_table, size
from zerone.pipeline.run import State


def show(tmp_path: Path, *, is_terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=120, no_color=False)
    with PipelineView(console) as view:
        view.begin(small_pipeline(tmp_path).plan())
        view.stage_ends("base", State.DONE, 75.0)
        stage = view.stage_begins("first", State.RESUME, "")
        stage.say("[a line] with brackets")
        stage.progress(0.5, "step 2/4")
        view.stage_ends("first", State.DONE, 150.0)
    return out.getvalue()


def test_a_pipe_gets_plain_lines_that_begin_with_the_stage(tmp_path: Path) -> None:
    lines = show(tmp_path, is_terminal=False).splitlines()
    assert lines[4:] == [
        "first      what first makes (goes on)",
        "first      [a line] with brackets",
        "first      step 2/4",
        "first      done in 2 min",
    ]
    assert lines[0] == "base       runs"


def test_a_terminal_gets_all_stages_at_once(tmp_path: Path) -> None:
    shown = show(tmp_path, is_terminal=True)
    assert "[a line] with brackets" in shown
    last = shown[shown.rindex("base") :]
    assert all(stage in last for stage in small_graph().names)
    assert "step 2/4" in shown


def test_many_stages_are_folded_around_the_one_at_work() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, height=24, no_color=False)
    with PipelineView(console) as view:
        view.begin([planned(i) for i in range(27)])
        for i in range(13):
            view.stage_ends(f"stage_{i}", State.DONE, 1.0)
        view.stage_begins("stage_13", State.RUN, "")
    frame = out.getvalue()[out.getvalue().rindex("time") :]
    assert frame.count("\n") < 24
    assert all(
        text in frame for text in ("4 before", "stage_4 ", "stage_13", "stage_22", "4 after", "~4 min")
    )
    assert "stage_3 " not in frame and "stage_23" not in frame


def test_progress_is_shown_only_where_there_is_some() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, height=24, no_color=False)
    with PipelineView(console) as view:
        view.begin([planned(0)])
        stage = view.stage_begins("stage_0", State.RUN, "")
        assert "\u2501" not in out.getvalue()  # what rich draws bars with
        stage.progress(0.5, "half")
        assert "\u2501" in out.getvalue()


def test_a_plan_adds_up_what_is_ahead(tmp_path: Path) -> None:
    out = io.StringIO()
    Console(file=out, width=160).print(plan_table(small_pipeline(tmp_path).plan()))
    assert "4 of 4 stages" in out.getvalue()
    assert out.getvalue().rstrip().endswith("8 s  4 MB")


def test_durations_and_sizes_are_short() -> None:
    assert [duration(seconds) for seconds in (0.4, 99, 150, 7200)] == ["0 s", "99 s", "2 min", "2.0 h"]
    assert [size(number) for number in (4e5, 2.5e9)] == ["0 MB", "2.5 GB"]
