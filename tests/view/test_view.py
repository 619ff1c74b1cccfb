"""The rollouts browser: its answers over HTTP, who may read them, and the page in a real Chromium."""

import contextlib
import http.client
import json
import math
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromium import Browser, needs_chromium
from processes import call_main, start
from view_groups import EMBEDDED, GROUPS, SAMPLES, STEPS, make_group
from zerone.config import build_config, to_yaml
from zerone.escaping import visible
from zerone.runs.directory import RunDir
from zerone.view import store
from zerone.view.pieces import Pieces, find_tokenizer
from zerone.view.store import GroupOrder, RolloutOrder, Search


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = RunDir(tmp_path_factory.mktemp("view") / "small").lock()
    run.start(to_yaml(build_config({}, [])), {})
    for step in range(1, STEPS + 1):
        metrics = {"step": step, "accuracy": (step + 1) / 4, "response_tokens": 20.0, "verdict": "learning"}
        run.record_step(metrics, {"step": step}, [make_group(step, position) for position in range(GROUPS)])
    run.unlock()
    return run


@contextlib.contextmanager
def started_view(run: RunDir, home: Path) -> Iterator[tuple[str, int]]:
    """Start `zerone view` as a user would, wait for its ready line, and end it whatever happens."""
    with start(home, "view", str(run.path), "--port", "0") as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:"), line
            yield "127.0.0.1", int(line.rpartition(":")[2])
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, -signal.SIGINT, 130)


@pytest.fixture(scope="module")
def address(run: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Return where the run is served."""
    with started_view(run, tmp_path_factory.mktemp("home")) as where:
        yield where


def get(
    address: tuple[str, int], path: str, headers: dict[str, str] | None = None, **query: Any
) -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection(*address, timeout=20)
    try:
        connection.request("GET", f"{path}?{urlencode(query)}", headers=headers or {})
        answer = connection.getresponse()
        body = answer.read().decode()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        is_json = fields.get("content-type") == "application/json"
        return answer.status, json.loads(body) if is_json else body, fields
    finally:
        connection.close()


def test_overview_lists_steps_with_their_figures(address: tuple[str, int]) -> None:
    status, found, _ = get(address, "/api/run")
    assert status == 200
    assert [row["step"] for row in found["steps"]] == [1, 2, 3]
    assert [row["accuracy"] for row in found["steps"]] == [0.5, 0.75, 1.0]
    assert (found["name"], found["is_finished"], found["has_tokenizer"]) == ("small", False, True)


def test_groups_come_in_pages_and_sorted(address: tuple[str, int]) -> None:
    _, first, _ = get(address, "/api/groups", step=2, limit=3)
    _, second, _ = get(address, "/api/groups", step=2, limit=3, offset=3)
    assert [row["position"] for row in first["groups"] + second["groups"]] == [0, 1, 2, 3]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert {(row["size"], row["num_right"]) for row in first["groups"]} == {(4, 3)}
    for order in GroupOrder:
        status, found, _ = get(address, "/api/groups", step=2, order=order)
        assert status == 200
        assert len(found["groups"]) == GROUPS
    _, by_length, _ = get(address, "/api/groups", step=2, order="length")
    lengths = [row["num_tokens"] for row in by_length["groups"]]
    assert lengths == sorted(lengths, reverse=True)


def test_group_holds_each_token_with_its_logprob(address: tuple[str, int], run: RunDir) -> None:
    _, found, _ = get(address, "/api/group", step=2, position=1)
    assert [rollout["sample"] for rollout in found["rollouts"]] == [0, 1, 2, 3]
    texts = [row["text"] for row in run.query("SELECT text FROM rollouts WHERE step=2 AND position=1")]
    for rollout, text in zip(found["rollouts"], texts, strict=True):
        assert "".join(rollout["pieces"]) == text.replace("\x1b", "\\x1b") + "<|endoftext|>"
        assert sum(rollout["sizes"]) == rollout["num_tokens"]
        expected = sum(-0.5 * (i % 3) for i in range(rollout["num_tokens"]))
        assert sum(rollout["logprobs"]) == pytest.approx(expected)
    assert found["rollouts"][0]["parts"] == {"accuracy": 1.0, "format": 1.0}


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/api/group", {"step": 9, "position": 0}, 404),
        ("/api/across", {"step": 1, "position": 99}, 404),
        ("/api/rollout", {"step": 1, "position": 0, "sample": 99}, 404),
        ("/api/group", {"step": "x", "position": 0}, 422),
        ("/api/groups", {"step": 1, "limit": 100000}, 422),
        ("/api/groups", {"step": 2**63, "limit": 1}, 422),
        ("/api/groups", {"step": 1, "order": "1; DROP TABLE groups"}, 422),
        ("/api/find", {"text": "x" * 2000}, 422),
        ("/nowhere", {}, 404),
        ("/openapi.json", {}, 404),
    ],
)
def test_what_is_not_there_is_refused(
    path: str, query: dict[str, Any], status: int, address: tuple[str, int]
) -> None:
    assert get(address, path, **query)[0] == status


def test_other_sites_cannot_read(address: tuple[str, int]) -> None:
    host = f"127.0.0.1:{address[1]}"
    assert get(address, "/api/run", {"Host": "evil.example"})[0] == 400
    assert get(address, "/api/run", {"Host": f"evil.example:{address[1]}"})[0] == 400
    assert get(address, "/api/run", {"Host": host, "Sec-Fetch-Site": "cross-site"})[0] == 403
    assert get(address, "/api/run", {"Host": host, "Sec-Fetch-Site": "same-site"})[0] == 403
    assert get(address, "/", {"Host": host, "Sec-Fetch-Site": "cross-site"})[0] == 200, "a link may open it"
    status, _, headers = get(address, "/api/run", {"Host": host, "Origin": "http://evil.example"})
    assert status == 200, "the browser keeps the answer from a page of another origin"
    assert "access-control-allow-origin" not in headers
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_page_loads_nothing_and_runs_its_own_script_only(address: tuple[str, int]) -> None:
    _, page, headers = get(address, "/")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http://www.w3.org/2000/svg" in page
    assert page.count("http://") + page.count("https://") == 1, "the name of SVG is its only address"
    assert "innerHTML" not in page


def test_search_finds_in_pages_without_a_gap(run: RunDir) -> None:
    found, continued = [], Search(text="WAIT")
    while True:
        page = store.find(run, continued, 5)
        found += [(row["step"], row["position"], row["sample"]) for row in page["rollouts"]]
        if page["next"] is None:
            break
        continued = replace(continued, **page["next"])
    assert found == [(step, i, i) for step in range(1, STEPS + 1) for i in range(GROUPS)]


@pytest.mark.parametrize(("text", "num"), [("100%", 36), ("1%0", 0), ("_wait", 0), ("\\", 0), ("' OR 1", 0)])
def test_search_takes_text_as_it_stands(text: str, num: int, run: RunDir) -> None:
    assert len(store.find(run, Search(text=text), 200)["rollouts"]) == num


@pytest.mark.parametrize("step", [None, 2])
@pytest.mark.parametrize("is_ascending", [False, True])
def test_search_sorts_over_all_steps(step: int | None, is_ascending: bool, run: RunDir) -> None:
    for order, key in (("reward", "reward"), ("length", "num_tokens"), ("advantage", "advantage")):
        search = Search(step=step, order=RolloutOrder(order), is_ascending=is_ascending)
        pages = [store.find(run, replace(search, offset=offset), 10) for offset in range(0, 50, 10)]
        rows = [row for page in pages for row in page["rollouts"]]
        assert len({(row["step"], row["position"], row["sample"]) for row in rows}) == (
            48 if step is None else 16
        )
        values = [row[key] for row in rows]
        assert values == sorted(values, reverse=not is_ascending)


def test_search_sorts_what_has_no_number(run: RunDir, tmp_path: Path) -> None:
    """A run that diverged has NaN among its advantages, which SQLite keeps as NULL."""
    broken = RunDir(tmp_path / "broken")
    broken.path.mkdir()
    with sqlite3.connect(run.rollouts_path) as source, sqlite3.connect(broken.rollouts_path) as copy:
        source.backup(copy)
        copy.execute("UPDATE rollouts SET advantage = ? WHERE sample = 1", (math.nan,))
    copy.close()
    source.close()
    for is_ascending in (False, True):
        search = Search(order=RolloutOrder.ADVANTAGE, is_ascending=is_ascending)
        rows = store.find(broken, search, 200)["rollouts"]
        assert len(rows) == 48
        ends = rows[:12] if is_ascending else rows[-12:]
        assert {row["advantage"] for row in ends} == {None}


def test_search_filters_by_outcome(run: RunDir) -> None:
    rows = store.find(run, Search(outcome="wrong", step=1), 200)["rollouts"]
    assert len(rows) == 8
    assert {row["outcome"] for row in rows} == {"wrong"}


def test_search_that_takes_long_says_where_to_go_on(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SEARCH_S", -1.0)
    assert store.find(run, Search(text="wait"), 5) == {
        "rollouts": [],
        "num_steps": 0,
        "next": None,
        "unread_from": 1,
    }


def test_same_problem_is_followed_across_steps_else_its_kind(run: RunDir) -> None:
    same = store.across(run, 2, 0)
    assert same is not None
    assert same["is_same_problem"]
    assert [(row["step"], row["num_right"], row["size"]) for row in same["steps"]] == [
        (1, 2, 4),
        (2, 3, 4),
        (3, 4, 4),
    ]
    kind = store.across(run, 2, 3)
    assert kind is not None
    assert (kind["is_same_problem"], kind["name"]) == (False, "countdown/2, en")
    assert [(row["step"], row["position"], row["num_groups"], row["size"]) for row in kind["steps"]] == [
        (step, 1, 2, 8) for step in (1, 2, 3)
    ]


def test_runs_without_indexes_answer_the_same(run: RunDir, tmp_path: Path) -> None:
    old = RunDir(tmp_path / "old")
    old.path.mkdir()
    with sqlite3.connect(run.rollouts_path) as source, sqlite3.connect(old.rollouts_path) as copy:
        source.backup(copy)
        for index in ("groups_problem", "groups_kind", "rollouts_figures"):
            copy.execute(f"DROP INDEX {index}")
    copy.close()
    source.close()
    for order in GroupOrder:
        assert store.groups(old, 2, order, 0, 10) == store.groups(run, 2, order, 0, 10)
    assert store.across(old, 2, 3) == store.across(run, 2, 3)
    search = Search(text="wait", order=RolloutOrder.LENGTH)
    assert store.find(old, search, 10) == store.find(run, search, 10)


def test_figures_of_a_step_are_read_from_the_index_alone(run: RunDir) -> None:
    plan = run.query(
        "EXPLAIN QUERY PLAN SELECT AVG(reward), MAX(advantage) FROM rollouts WHERE step=2 GROUP BY position"
    )
    assert any("COVERING INDEX rollouts_figures" in row["detail"] for row in plan)


def test_steps_recorded_while_it_is_open_are_seen(run: RunDir, tmp_path: Path) -> None:
    live = RunDir(tmp_path / "live").lock()
    live.start(to_yaml(build_config({}, [])), {})
    for step in (1, 2):
        live.record_step({"step": step}, {"step": step}, [make_group(step, 0)])
        assert [row["step"] for row in store.overview(live)["steps"]] == list(range(1, step + 1))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    code, out, err = call_main(tmp_path, "view", str(tmp_path / "nowhere"))
    assert (code, out) == (2, "")
    assert "nowhere is not a run directory" in err


@given(st.text(max_size=40))
def test_pieces_join_to_the_text_that_was_sampled(text: str) -> None:
    ids = EMBEDDED.encode(text, add_special_tokens=False).ids
    cut = Pieces(EMBEDDED).cut(ids, text)
    assert "".join(piece for piece, _ in cut) == visible(text)
    assert sum(size for _, size in cut) == len(ids)


@given(st.lists(st.integers(min_value=0, max_value=600), max_size=30))
def test_pieces_take_any_tokens(ids: list[int]) -> None:
    cut = Pieces(EMBEDDED).cut(ids, "")
    assert sum(size for _, size in cut) == len(ids)
    assert all(piece.isprintable() or set(piece) & set("\n\t") for piece, _ in cut)


def test_without_a_tokenizer_the_text_is_one_piece() -> None:
    assert Pieces(None).cut((5, 6, 7), "some text") == [("some text", 3)]


@needs_chromium
def test_page_in_a_browser(address: tuple[str, int]) -> None:
    """The main path: step, group, sort, colour, search, what changed, a link, the way back."""
    origin = f"http://127.0.0.1:{address[1]}"
    with Browser() as browser:
        browser.open(f"{origin}/")
        browser.wait_for("document.documentElement.dataset.firstView")
        assert browser.value("document.querySelectorAll('.card').length") == SAMPLES
        assert browser.value("document.querySelectorAll('#groups li').length") == GROUPS
        assert browser.value("document.querySelectorAll('[aria-current=true]').length") == 2, "view and group"
        assert "step=3" in browser.value("location.search"), "the last step"
        assert "<script>document.title='owned'" in browser.value("document.querySelector('h1').textContent")

        browser.press("ArrowLeft")
        browser.wait_for("location.search.includes('step=2')")
        browser.press("j")
        browser.wait_for("location.search.includes('group=1')")
        browser.press("s")
        browser.press("c")
        browser.wait_for(
            "location.search.includes('sort=reward-down') && location.search.includes('colour=advantage')"
        )
        colour = "getComputedStyle(document.querySelector('.text span')).backgroundColor"
        browser.wait_for(f"{colour} !== 'rgba(0, 0, 0, 0)'")  # the address changes before the texts do

        browser.press("/")
        browser.wait_for("document.activeElement.id === 'text'")
        browser.type("wait")
        browser.press("Enter")
        browser.wait_for("document.querySelectorAll('.hits li mark').length === 12")
        browser.value("document.querySelector('.hits button').click()")
        browser.wait_for("document.querySelector('.card.chosen')")
        link = browser.value("location.href")
        browser.press("w")
        browser.wait_for("document.querySelectorAll('.pair .card').length === 2")
        browser.wait_for("document.querySelector('.about').textContent.includes('same problem')")
        browser.value("history.back()")
        browser.wait_for("document.querySelector('.card.chosen')")

        browser.open("about:blank")
        browser.open(link)
        browser.wait_for("document.querySelector('.card.chosen')")
        assert browser.value("document.querySelector('.card.chosen').id") == "sample-1-0-0"
        browser.open("about:blank")
        browser.open(f"{origin}/?order=nonsense&by=sample&outcome=nothing")
        browser.wait_for("document.querySelectorAll('.card').length === " + str(SAMPLES))
        assert browser.value("document.getElementById('order').value") == "position", "an unknown one is none"
        browser.resize(390, 800)
        assert browser.value("document.documentElement.scrollWidth") <= 390, "nothing to scroll sideways"
        assert "owned" not in browser.value("document.title")


@needs_chromium
def test_page_opened_before_the_first_step_shows_it_and_forgets_what_failed(
    run: RunDir, tmp_path: Path
) -> None:
    """The page looks again every ten seconds, which here is done by hand."""
    live = RunDir(tmp_path / "live").lock()
    live.start(to_yaml(build_config({}, [])), {})
    said = "(document.getElementById('notice').hidden ? '' : document.getElementById('notice').textContent)"
    with started_view(live, tmp_path) as (_, port), Browser() as browser:
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait_for(f"{said}.startsWith('No step has been recorded yet')")
        for step in (1, 2):
            live.record_step({"step": step}, {"step": step}, [make_group(step, 0)])
        browser.value("followRun()")
        browser.wait_for(f"document.querySelectorAll('.card').length === {SAMPLES} && !{said}")
        assert "step=2" in browser.value("location.search")

        elsewhere = live.rollouts_path.rename(tmp_path / "elsewhere.sqlite")
        browser.press("ArrowLeft")
        browser.wait_for(f"{said}.includes('has no rollouts.sqlite')")
        elsewhere.rename(live.rollouts_path)
        browser.value("followRun()")
        browser.wait_for(f"location.search.includes('step=1') && !{said}")


@pytest.mark.parametrize("damaged", ["", "{", "[]"])
def test_a_damaged_tokenizer_is_passed_over(run: RunDir, tmp_path: Path, damaged: str) -> None:
    copy = RunDir(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    copy.model_path.mkdir()
    (copy.model_path / "tokenizer.json").write_text(damaged)
    found = find_tokenizer(copy)
    assert found is not None, "that of the base the run began with"
    assert found.get_vocab() == EMBEDDED.get_vocab()


def test_reader_gives_the_lock_back_between_statements(run: RunDir, tmp_path: Path) -> None:
    """A page that is open all the time must not keep the training from recording its step."""
    live = RunDir(tmp_path / "live").lock()
    live.start(to_yaml(build_config({}, [])), {})
    live.record_step({"step": 1}, {"step": 1}, [make_group(1, 0)])
    store.group(live, 1, 0)
    store.find(live, Search(text="wait"), 1)
    before = time.monotonic()
    live.record_step({"step": 2}, {"step": 2}, [make_group(2, 0)])
    assert time.monotonic() - before < 2.0, "SQLite gives up after 5 s"
