"""Web pages of other origins ask only where `--origin` names them; their browser is told so."""

from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from processes import call_main
from serving import KEY, Live, chat, live_server
from serving_scripts import Scripted, scripted_server
from zerone.errors import ConfigError
from zerone.serve.origins import read_origins

OURS, FOREIGN = "http://localhost:3000", "https://evil.example"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("origins")
    with live_server(folder, "--origin", OURS, "--origin", "https://app.example:443/") as server:
        yield server


def preflight(url: str, origin: str, **headers: str) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", **headers}
    return httpx.options(url + "/v1/chat/completions", headers=asked)


def allowed(answer: httpx.Response) -> str | None:
    origin: str | None = answer.headers.get("access-control-allow-origin")
    return origin


@pytest.mark.parametrize("origin", [OURS, "https://app.example"])
def test_a_page_that_was_named_may_ask_and_read_every_answer(live: Live, origin: str) -> None:
    wanted = "authorization, content-type, x-stainless-lang"
    asked = preflight(
        live.url,
        origin,
        **{"Access-Control-Request-Headers": wanted, "Access-Control-Request-Private-Network": "true"},
    )
    assert (asked.status_code, allowed(asked)) == (200, origin)
    assert asked.headers["access-control-allow-headers"] == wanted
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert asked.headers["access-control-allow-private-network"] == "true"
    key = {"Authorization": f"Bearer {KEY}"}
    for stream in (False, True):
        body = chat(max_tokens=3, stream=stream)
        answer = httpx.post(
            live.url + "/v1/chat/completions", json=body, headers={"Origin": origin, **key}, timeout=30
        )
        assert (answer.status_code, allowed(answer)) == (200, origin)
        assert "Origin" in answer.headers["vary"]
    # Refusals too, or the page could not tell why.
    for path, headers, status in [
        ("/v1/models", {}, 401),
        ("/v1/nothing", key, 404),
        ("/v1/chat/completions", key, 405),
    ]:
        refused = httpx.get(live.url + path, headers={"Origin": origin, **headers})
        assert (refused.status_code, allowed(refused)) == (status, origin)


@pytest.mark.parametrize("origin", [FOREIGN, "null", "http://localhost:3001", "http://localhost", OURS + "/"])
def test_other_pages_are_not_let_in(live: Live, origin: str) -> None:
    asked = preflight(live.url, origin)
    assert (asked.status_code, allowed(asked)) == (400, None)
    answer = httpx.get(live.url + "/health", headers={"Origin": origin})
    assert allowed(answer) is None


def test_a_page_that_was_named_needs_a_key_all_the_same(live: Live) -> None:
    body = chat(max_tokens=3)
    answer = httpx.post(live.url + "/v1/chat/completions", json=body, headers={"Origin": OURS})
    assert answer.status_code == 401


def test_by_default_no_page_is_let_in() -> None:
    with scripted_server() as server:
        for origin in (OURS, FOREIGN, server.url):
            asked = preflight(server.url, origin)
            assert asked.status_code >= 400
            answer = httpx.get(server.url + "/v1/models", headers={"Origin": origin})
            for found in (asked, answer):
                assert not [name for name in found.headers if name.startswith("access-control")]


def test_any_page_may_ask_where_that_is_said() -> None:
    def told(server: Scripted) -> list[str | None]:
        answer = httpx.get(server.url + "/v1/models", headers={"Origin": FOREIGN})
        return [allowed(preflight(server.url, FOREIGN)), allowed(answer)]

    with scripted_server(origins=["*"]) as server:
        assert told(server) == ["*", "*"]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("http://localhost:3000", "http://localhost:3000"),
        ("HTTPS://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80/", "http://app.example"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("null", "null"),
        ("*", "*"),
    ],
)
def test_origins_are_read_as_browsers_write_them(given: str, read: str) -> None:
    assert read_origins([given]) == (read,)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "localhost",
        "localhost:3000",
        "http://",
        "http://a/b",
        "http://a?b",
        "http://*.example",
        "http://a:99999",
        "http://a:b",
        "http://user@a",
        "http://a b",
        "http://b\u00fccher.example",
        "http://a,http://b",
    ],
)
def test_what_is_no_origin_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="is not the origin of a page"):
        read_origins([given])


def test_the_command_refuses_it_before_it_loads_anything(tmp_path: Path) -> None:
    code, out, err = call_main(tmp_path, "serve", "nowhere", "--origin", "localhost")
    assert (code, out) == (2, "")
    assert "--origin 'localhost'" in err
