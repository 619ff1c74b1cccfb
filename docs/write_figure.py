"""Writes the figure of README from a run: two charts of its report, with their style, as one SVG.

    zerone zero eval.every=5 && python docs/write_figure.py runs/zero-1

In: a run directory of reinforcement learning. Out: assets/zero.svg, or the file that is named second.
The charts are the report's own (`report/figures.py`); light and dark follow the reader's screen.
"""

import re
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from markupsafe import escape

from zerone.report.figures import Figure, accuracy_figure, length_figure
from zerone.report.record import read_record
from zerone.runs.directory import RunDir, write_atomically

FIGURE = Path(__file__).parent / "assets" / "zero.svg"

_WIDTH, _HEIGHT, _GAP, _HEAD = 520, 310, 32, 64
_SELECTORS = (
    *(":root", "@media (prefers-color-scheme", ".chart text", ".grid", ".baseline"),
    *(".blue", ".violet", ".series"),
)
_OWN_STYLE = """\
.title { font: 640 16px var(--sans); fill: var(--ink); }
.label { font: 13px var(--sans); fill: var(--soft); }"""
_HOVER = re.compile(r'<rect class="band".*?</rect>', re.DOTALL)


def style() -> str:
    """Return the part of the report's style that its charts need."""
    sheet = (resources.files("zerone") / "report" / "style.css.j2").read_text(encoding="utf-8")
    rules = re.findall(r"^[^\s}][^{]*\{(?:[^{}]|\{[^{}]*\})*\}(?:[ \t]*\S[^\n]*)?$", sheet, re.MULTILINE)
    return "\n".join(rule for rule in rules if rule.startswith(_SELECTORS))


def _panel(figure: Figure, left: int) -> Iterator[str]:
    """Yield a chart at its place, with title and legend above it."""
    yield f'<text class="title" x="{left}" y="26">{escape(figure.title)}</text>'
    x = left
    for swatch, label in figure.legend:
        yield str(swatch).replace("<svg ", f'<svg x="{x}" y="40" width="20" height="12" ', 1)
        yield f'<text class="label" x="{x + 26}" y="50">{escape(label)}</text>'
        x += 50 + 7 * len(label)
    place = f'<svg x="{left}" y="{_HEAD}" width="{_WIDTH}" height="{_HEIGHT}" '
    yield _HOVER.sub("", str(figure.svg)).replace("<svg ", place, 1)


def figure_text(run: RunDir) -> str:
    """Return the SVG of a run; raises LookupError where it has no steps yet."""
    record = read_record(run)
    figures = [figure for figure in (accuracy_figure(record), length_figure(record)) if figure is not None]
    if len(figures) < 2:
        raise LookupError(f"{run.path} has no steps yet, so there is nothing to draw")
    width, height = 2 * _WIDTH + 3 * _GAP, _HEAD + _HEIGHT + 8
    panels = [part for i, figure in enumerate(figures) for part in _panel(figure, _GAP + i * (_WIDTH + _GAP))]
    says = escape(" ".join(figure.reading for figure in figures))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    return "\n".join(
        [
            *(head, f"<title>{says}</title>", f"<style>\n{style()}\n{_OWN_STYLE}\n</style>"),
            f'<rect width="{width}" height="{height}" fill="var(--paper)"/>',
            *panels,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    run_path, *named = map(Path, sys.argv[1:])
    write_atomically(named[0] if named else FIGURE, figure_text(RunDir(run_path)))
