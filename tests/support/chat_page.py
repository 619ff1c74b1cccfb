"""Steps of a user on the chat page."""

from chromium import Browser
from serving import Live

IDLE = "document.getElementById('send').textContent === 'Send'"


def ask(browser: Browser, text: str) -> None:
    browser.value("document.getElementById('text').focus()")
    browser.type(text)
    browser.press("Enter")


def open_page(browser: Browser, server: Live) -> None:
    browser.open(server.url + "/")
    browser.wait_for("document.querySelector('.examples') !== null")
