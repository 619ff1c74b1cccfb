"""Publishing: huggingface_hub's own client against a Hub of our own on loopback; nothing else is reached."""

import base64
import json
import subprocess
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from fakes import byte_tokenizer, tiny_model
from processes import call_main, command_line, environment_of_runs
from zerone.model.loading import save_model

REPO = "someone/tiny"

Done = subprocess.CompletedProcess[str]


class Hub(ThreadingHTTPServer):
    """The four routes that an upload of small files needs, and what they were asked."""

    def __init__(self, is_public: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.is_public = is_public
        self.requests: list[tuple[str, Any]] = []
        self.files: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.requests.append((f"GET {self.path}", None))
        self._answer({"id": REPO, "private": not self.server.is_public, "siblings": [], "tags": []})

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        lines = [json.loads(line) for line in text.splitlines()]
        self.server.requests.append((f"POST {self.path}", lines[0]))
        if self.headers.get("Authorization") != "Bearer hf_right":
            self._answer({"error": "Invalid username or password."}, 401)
        elif self.path.endswith("/preupload/main"):
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            self._answer({"files": [{"path": file["path"], **modes} for file in lines[0]["files"]]})
        elif self.path.endswith("/commit/main"):
            for line in lines[1:]:
                value = line["value"]
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            self._answer(
                {"commitUrl": f"{self.server.url}/{REPO}/commit/1", "commitOid": "1", "hookOutput": ""}
            )
        else:
            self._answer({"url": f"{self.server.url}/{REPO}", "name": REPO, "errors": [], "warnings": []})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tiny_model(), byte_tokenizer(), tmp_path / "model", {"model": "tiny", "licence": "MIT"})
    return tmp_path / "model"


ARGUMENTS = ("--to", "hub", "--repo", REPO, "--push")


def publish_by_process(folder: Path, hub: Hub, model: Path) -> Done:
    """Run the command in a process whose environment has that Hub as its only one."""
    environment = environment_of_runs(folder) | {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "hf_right",
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = command_line("export", str(model), "--out", str(folder / "out"), *ARGUMENTS)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def publish(folder: Path, hub: Hub, model: Path, token: str) -> Done:
    """Run the command in this process, where the environment was read at the import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        patch.setenv("HF_TOKEN", token)
        code, out, err = call_main(folder, "export", str(model), "--out", str(folder / "out"), *ARGUMENTS)
    return subprocess.CompletedProcess(ARGUMENTS, code, out, err)


@dataclass(frozen=True, slots=True)
class Push:
    """A push that is over: its folder, its Hub, what the command did."""

    folder: Path
    hub: Hub
    done: Done


def push(folder: Path, case: str) -> Push:
    """Push to a Hub of its own that is as the case says."""
    saved = folder / "model"
    save_model(tiny_model(), byte_tokenizer(), saved, {"model": "tiny", "licence": "MIT"})
    hub = Hub(is_public=case == "public")
    if case == "away":
        hub.server_close()
        return Push(folder, hub, publish(folder, hub, saved, "hf_right"))
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        if case == "private":
            return Push(folder, hub, publish_by_process(folder, hub, saved))
        token = "hf_wrong" if case == "wrong token" else "hf_right"
        return Push(folder, hub, publish(folder, hub, saved, token))
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


@pytest.fixture(scope="module")
def pushes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Push]:
    """Return a push of each case; the one that succeeds is a process of its own."""
    cases = ("private", "public", "wrong token", "away")
    return {case: push(tmp_path_factory.mktemp("hub"), case) for case in cases}


def test_a_push_uploads_the_directory_to_a_private_repository(pushes: dict[str, Push]) -> None:
    hub, done = pushes["private"].hub, pushes["private"].done
    assert done.returncode == 0, done.stderr
    created = next(body for route, body in hub.requests if route == "POST /api/repos/create")
    assert created.get("visibility", created.get("private")) in ("private", True)
    assert hub.files == {
        path.name: path.read_bytes() for path in (pushes["private"].folder / "out").iterdir()
    }
    assert done.stdout.splitlines()[-1] == f"{hub.url}/{REPO}/commit/1"


def test_without_push_nothing_is_contacted(tmp_path: Path, model: Path) -> None:
    """Tests run offline, where any request would be an error."""
    where = ["--to", "hub", "--repo", REPO, "--out", str(tmp_path / "out")]
    code, said, _ = call_main(tmp_path, "export", str(model), *where)
    assert code == 0
    assert "to the private repository someone/tiny" in said
    assert "model.safetensors" in said
    assert said.endswith("nothing was uploaded; add --push to do so\n")


@pytest.mark.parametrize("repo", ["tiny", "some one/tiny", "a/b/c", "someone/", "someone/ti--ny", ""])
def test_a_repository_that_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, model: Path, repo: str
) -> None:
    where = ["--to", "hub", "--repo", repo, "--out", str(tmp_path / "out")]
    code, _, err = call_main(tmp_path, "export", str(model), *where)
    assert (code, "--repo" in err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_public_repository_is_left_alone_unless_that_is_meant(pushes: dict[str, Push]) -> None:
    done = pushes["public"].done
    assert (done.returncode, pushes["public"].hub.files) == (2, {})
    assert "is there already and public; add --public" in done.stderr


def test_a_wrong_token_is_told_with_what_to_do(pushes: dict[str, Push]) -> None:
    done = pushes["wrong token"].done
    assert (done.returncode, pushes["wrong token"].hub.files) == (2, {})
    assert "log in by `hf auth login`" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hf_wrong" not in done.stdout + done.stderr


def test_a_hub_that_cannot_be_reached_is_told(pushes: dict[str, Push]) -> None:
    done = pushes["away"].done
    assert (done.returncode, "the Hub did not take someone/tiny" in done.stderr) == (2, True)
    assert (pushes["away"].folder / "out" / "model.safetensors").exists(), "what was written is kept"


def test_a_model_of_unknown_licence_is_not_pushed(tmp_path: Path) -> None:
    save_model(tiny_model(), byte_tokenizer(), tmp_path / "model")
    where = ["--to", "hub", "--repo", REPO, "--out", str(tmp_path / "out")]
    code, _, err = call_main(tmp_path, "export", str(tmp_path / "model"), *where, "--push")
    assert (code, "give it with --license" in err) == (2, True)
    assert not (tmp_path / "out").exists()
    assert call_main(tmp_path, "export", str(tmp_path / "model"), *where, "--licence", "MIT")[0] == 0
    assert "license: mit" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_offline_nothing_is_uploaded(tmp_path: Path, model: Path) -> None:
    where = ["--to", "hub", "--repo", REPO, "--out", str(tmp_path / "out")]
    code, _, err = call_main(tmp_path, "export", str(model), *where, "--push")
    assert (code, "HF_HUB_OFFLINE is set" in err) == (2, True)
