"""What comes with the page of `zerone view` is what it would ask for, whatever its address says."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from view_groups import GROUPS, STEPS, make_group
from zerone.config import build_config, to_yaml
from zerone.runs.directory import RunDir
from zerone.view.app import make_app


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = RunDir(tmp_path_factory.mktemp("first") / "small").lock()
    run.start(to_yaml(build_config({}, [])), {})
    for step in range(1, STEPS + 1):
        metrics = {"step": step, "accuracy": 0.5, "response_tokens": 20.0, "verdict": "learning"}
        run.record_step(metrics, {"step": step}, [make_group(step, position) for position in range(GROUPS)])
    run.unlock()
    return run


def client_of(run: RunDir) -> TestClient:
    return TestClient(make_app(run), base_url="http://127.0.0.1")


def known_of(page: str) -> dict[str, Any]:
    (block,) = re.findall(r'<script type="application/json" id="known">(.*?)</script>', page, re.DOTALL)
    known: dict[str, Any] = json.loads(block)
    return known


@pytest.mark.parametrize(
    ("address", "step", "order", "group"),
    [
        ({}, 3, "position", 0),
        ({"step": "2", "group": "1"}, 2, "position", 1),
        ({"step": "2", "order": "length"}, 2, "length", None),
        ({"step": "99", "order": "nonsense", "group": "77"}, 3, "position", 0),
        ({"step": "2; DROP TABLE groups", "group": "-1"}, 3, "position", 0),
    ],
)
def test_what_comes_with_the_page_is_what_the_addresses_answer(
    run: RunDir, address: dict[str, str], step: int, order: str, group: int | None
) -> None:
    client = client_of(run)
    known = known_of(client.get("/", params=address).text)
    listed = client.get("/api/groups", params={"step": step, "order": order}).json()
    position = listed["groups"][0]["position"] if group is None else group
    expected = {
        "run?": client.get("/api/run").json(),
        f"groups?{urlencode({'step': step, 'order': order})}": listed,
        f"group?{urlencode({'step': step, 'position': position})}": client.get(
            "/api/group", params={"step": step, "position": position}
        ).json(),
    }
    assert known == expected


def test_another_view_asks_for_its_own(run: RunDir) -> None:
    assert set(known_of(client_of(run).get("/?view=find&text=wait").text)) == {"run?"}


def test_what_a_model_wrote_ends_no_script(run: RunDir) -> None:
    page = client_of(run).get("/").text
    assert page.count("<script") == page.count("</script>") == 2
    assert "<script>document.title" in json.dumps(known_of(page)), "the run holds what would"


def test_a_page_that_another_site_asks_for_comes_without_data(run: RunDir) -> None:
    page = client_of(run).get("/", headers={"Sec-Fetch-Site": "cross-site"}).text
    assert known_of(page) == {}


def test_a_run_that_cannot_be_read_is_for_the_page_to_tell(run: RunDir, tmp_path: Path) -> None:
    empty = RunDir(tmp_path / "empty").lock()
    empty.start(to_yaml(build_config({}, [])), {})
    empty.unlock()
    client = client_of(empty)
    assert known_of(client.get("/").text) in ({}, {"run?": client.get("/api/run").json()})
    broken = RunDir(tmp_path / "broken").lock()
    broken.start(to_yaml(build_config({}, [])), {})
    broken.unlock()
    broken.rollouts_path.write_bytes(b"no database" * 1000)
    client = client_of(broken)
    assert known_of(client.get("/").text) == {}
    assert client.get("/api/run").status_code == 503
