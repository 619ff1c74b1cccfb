"""The chat page in a real browser: a message is sent, and its answer streams in."""

from pathlib import Path

import zerone
from chat_page import IDLE, ask, open_page
from chromium import Browser, needs_chromium
from serving import Live, live_server

pytestmark = needs_chromium


def test_a_question_is_answered_by_both_models_side_by_side(tmp_path: Path) -> None:
    hostile = "<img src=x onerror='document.title=1'> What is 3 + 4?"
    base = tmp_path / "base"
    base.symlink_to(Path(zerone.__file__).parent / "world" / "embedded")
    with live_server(tmp_path, "--compare", str(base), key=None) as server, Browser() as browser:
        open_page(browser, server)
        browser.value("document.getElementById('tokens').value = 60")
        browser.value("document.getElementById('temperature').value = 0")
        browser.value("document.getElementById('budget').value = 20")
        assert browser.value("document.querySelectorAll('.examples button').length") == 2
        ask(browser, "What is 3 + 4?")
        browser.wait_for(f"document.querySelectorAll('.actions').length === 2 && {IDLE}")
        names = browser.value("[...document.querySelectorAll('.who b')].map((node) => node.textContent)")
        assert sorted(names) == ["base", "embedded"]
        assert browser.value("document.querySelector('.thought').textContent.length") > 0
        assert "Reasoned for" in browser.value("document.querySelector('summary').textContent")
        assert "tokens" in browser.value("document.querySelector('summary').textContent")
        assert browser.value("document.querySelector('details').open") is False
        curl = browser.value("asCurl(turns[0].answers.get('embedded').body)")
        assert "What is 3 + 4?" in curl
        assert '"thinking_budget": 20' in curl
        ask(browser, hostile)
        browser.wait_for(f"document.querySelectorAll('.actions').length === 4 && {IDLE}")
        assert browser.value("document.querySelectorAll('.question')[1].textContent") == hostile
        assert browser.value("document.querySelectorAll('img').length") == 0
        assert browser.log == []


def test_an_answer_is_stopped_and_made_again_by_key(open_server: Live) -> None:
    with Browser() as browser:
        open_page(browser, open_server)
        assert browser.value("document.getElementById('both').hidden") is True
        browser.value("document.getElementById('temperature').value = 2")
        ask(browser, "@@")
        browser.wait_for(f"!({IDLE}) || document.querySelector('.actions') !== null")
        browser.press("Escape")
        browser.wait_for(f"document.querySelector('.actions') !== null && {IDLE}")
        open_server.wait_until_idle()
        browser.value("again()")
        browser.press("Escape")
        browser.wait_for(f"document.querySelector('.actions') !== null && {IDLE}")
        assert browser.value("turns.length") == 1
        assert browser.log == []
