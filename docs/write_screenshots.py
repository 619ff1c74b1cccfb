"""Takes the pictures of the documentation from a run: its report, its rollouts in the browser, its chat page.

    PYTHONPATH=tests/support python docs/write_screenshots.py runs/zero-1

In: a run directory of reinforcement learning; a Chromium on this machine. Out: assets/*.png.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chat_page import IDLE, ask
from chromium import Browser

ASSETS = Path(__file__).parent / "assets"
QUESTION = "Use three of the numbers 10, 12, 9 to make 13."


@contextmanager
def listening(*arguments: str) -> Iterator[str]:
    """Run a server of the command line and yield its address."""
    command = [sys.executable, "-m", "zerone", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address is not None
        try:
            yield address[0]
        finally:
            process.kill()


def report(browser: Browser, run: str, folder: Path) -> None:
    """Take the curves of the report."""
    page = folder / "report.html"
    subprocess.run([sys.executable, "-m", "zerone", "report", run, "--out", page], check=True)
    browser.open(page.as_uri())
    browser.wait_for("document.readyState === 'complete' && document.querySelector('h1') !== null")
    browser.value("document.querySelector('#training').scrollIntoView()")
    browser.screenshot(ASSETS / "report.png")


def view(browser: Browser, run: str) -> None:
    """Take a group of step 3, colored by advantage."""
    with listening("view", run) as address:
        browser.open(f"{address}/?step=3&sort=reward-down&colour=advantage")
        browser.wait_for("document.querySelectorAll('.card').length > 4")
        browser.screenshot(ASSETS / "view.png")


def chat(browser: Browser, run: str) -> None:
    """Take one problem, answered by the run's model and by its base."""
    with listening("serve", run, "--compare", "embedded") as address:
        browser.open(address)
        browser.wait_for("document.querySelector('.examples') !== null")
        ask(browser, QUESTION)
        browser.wait_for(f"document.querySelector('.actions') !== null && {IDLE}", 60)
        browser.screenshot(ASSETS / "chat.png")


def main(run: str) -> None:
    """Take all of them, light and at one size."""
    with tempfile.TemporaryDirectory() as folder, Browser(1100, 600) as browser:
        report(browser, run, Path(folder))
        view(browser, run)
        chat(browser, run)


if __name__ == "__main__":
    main(sys.argv[1])
