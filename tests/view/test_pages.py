"""Every page in a real Chromium as people look at it: light, dark, and on a phone.

Each leaves a screenshot in its test's folder (`--basetemp DIR` says where those are).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_page import IDLE, ask, open_page
from chromium import Browser, needs_chromium
from processes import start
from report_runs import make_run
from serving import Live
from zerone.report.page import write_report
from zerone.runs.directory import RunDir

pytestmark = needs_chromium

LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"is_dark": True},
    "phone": {"width": 390, "height": 844},
}
SHADES = """(() => {
  const shade = (colour) => {
    const [red, green, blue, alpha] = colour.match(/[0-9.]+/g).map(Number);
    return alpha === 0 ? null : .2126 * red + .7152 * green + .0722 * blue;
  };
  const style = getComputedStyle(document.body);
  return [shade(style.backgroundColor), shade(getComputedStyle(document.querySelector('h1, b')).color)];
})()"""
"""How light the page and its heading are, from 0 to 255."""

SHOWN_THOUGH_HIDDEN = """[...document.querySelectorAll('[hidden]')]
  .filter((node) => getComputedStyle(node).display !== 'none').map((node) => node.outerHTML)"""
"""Rules for the display of an element win over its `hidden`."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run with every figure, whose texts are long and mean to break out."""
    return make_run(tmp_path_factory.mktemp("pages") / "run", [0.14, 0.5, 0.7, 0.93], hostile=True)


@pytest.fixture(scope="module")
def view_url(run: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start(tmp_path_factory.mktemp("pages-home"), "view", str(run.path), "--port", "0") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield line.removeprefix("listening on ").strip()
        process.kill()


def open_chat(browser: Browser, server: Live) -> None:
    open_page(browser, server)
    browser.value("document.getElementById('tokens').value = 20")
    ask(browser, "What is 3 + 4? " + "7" * 200)
    browser.wait_for(f"document.querySelector('.actions') !== null && {IDLE}")


@pytest.fixture
def openers(open_server: Live, view_url: str, run: RunDir) -> dict[str, Callable[[Browser], None]]:
    """How each page is opened and waited for."""

    def view(browser: Browser) -> None:
        browser.open(view_url)
        browser.wait_for("document.documentElement.dataset.firstView")

    def report(browser: Browser) -> None:
        browser.open(write_report(run).as_uri())
        browser.wait_for("document.readyState === 'complete' && document.querySelector('h1') !== null")

    return {"chat": lambda browser: open_chat(browser, open_server), "view": view, "report": report}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("page", ["chat", "view", "report"])
def test_a_page_is_whole_in_every_look(
    openers: dict[str, Callable[[Browser], None]], page: str, look: str, tmp_path: Path
) -> None:
    with Browser(**LOOKS[look]) as browser:
        openers[page](browser)
        browser.screenshot(tmp_path / f"{page}_{look}.png")
        wide, seen = browser.value("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= seen, "nothing to scroll sideways"
        assert browser.value(SHOWN_THOUGH_HIDDEN) == []
        back, ink = browser.value(SHADES)
        if look == "dark":
            assert back < 60
            assert ink > 180
        else:
            assert back > 230
            assert ink < 80
        assert browser.log == []
