"""A Hugging Face Hub on loopback with repositories of the test's own, which tells what it was asked for."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from zerone import hub as names


@dataclass(slots=True)
class Repository:
    """Files by revision and name; a commit is the hash of what it holds."""

    files: dict[str, dict[str, bytes]]
    is_gated: bool = False
    is_private: bool = False

    def commit_of(self, revision: str) -> str | None:
        for name, files in self.files.items():
            commit = commit_of(files)
            if revision in (name, commit):
                return commit
        return None

    def at(self, commit: str) -> dict[str, bytes]:
        return next(files for files in self.files.values() if commit_of(files) == commit)


def commit_of(files: Mapping[str, bytes]) -> str:
    """Return the commit of a state of a repository."""
    return hashlib.sha1(json.dumps({k: v.hex() for k, v in files.items()}).encode()).hexdigest()


class Hub(ThreadingHTTPServer):
    """The routes that reading a repository needs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[str] = []
        self.status: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, kind: str, name: str, files: Mapping[str, bytes], **options: Any) -> Repository:
        """Add a repository (`models` or `datasets`) with one revision, `main`."""
        made = Repository(files={"main": dict(files)}, **options)
        self.repositories[kind, name] = made
        return made

    @property
    def fetched(self) -> list[str]:
        """The files whose content was sent."""
        return [one.split("/resolve/", 1)[1].split("/", 1)[1] for one in self.requests if "/resolve/" in one]


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str = "") -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code or "busy"})

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        if self.command == "GET":
            self.server.requests.append(path)
        if self.server.status is not None:
            return self._refuse(self.server.status)
        is_api = path.startswith("api/")
        path = path.removeprefix("api/")
        kind = "datasets" if path.startswith("datasets/") else "models"
        owner, name, *rest = path.removeprefix(f"{kind}/").split("/")
        found = self.server.repositories.get((kind, f"{owner}/{name}"))
        if found is None or (found.is_private and not self._is_known()):
            return self._refuse(401, "RepoNotFound")
        if found.is_gated and not self._is_known() and not (is_api and "tree" not in rest):
            return self._refuse(401, "GatedRepo")
        revision = "/".join(rest[1:]) if is_api and rest else rest[1] if rest else "main"
        commit = found.commit_of(revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound")
        files = found.at(commit)
        if not is_api:
            return self._file(files, "/".join(rest[2:]), commit)
        return self._describe(f"{owner}/{name}", files, commit, is_tree=bool(rest) and rest[0] == "tree")

    def _is_known(self) -> bool:
        return self.headers.get("Authorization") == "Bearer hf_right"

    def _describe(self, name: str, files: Mapping[str, bytes], commit: str, *, is_tree: bool) -> None:
        listed = [
            {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for path, data in files.items()
        ]
        siblings = [{"rfilename": path} for path in files]
        whole = {
            "id": name,
            "sha": commit,
            "siblings": siblings,
            "private": False,
            "gated": False,
            "tags": [],
        }
        body = json.dumps(listed if is_tree else whole).encode()
        self._send(200, body, {"Content-Type": "application/json"})

    def _file(self, files: Mapping[str, bytes], name: str, commit: str) -> None:
        if name not in files:
            return self._refuse(404, "EntryNotFound")
        etag = hashlib.sha1(files[name]).hexdigest()
        return self._send(200, files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": commit})


AWAY = ("offline", "no network", "the Hub is down")


@dataclass(slots=True)
class Online:
    """A Hub that this process takes for the only one, and the cache that it fetches into."""

    hub: Hub
    cache: Path
    patch: pytest.MonkeyPatch = field(repr=False)

    def go_offline(self) -> None:
        """Set the switch, in a process that has asked nothing yet."""
        self.patch.setattr(constants, "HF_HUB_OFFLINE", True)
        names.forget()

    def break_network(self) -> None:
        """Let nothing answer any more."""
        self.hub.socket.close()

    def lose(self, away: str) -> None:
        """Take the Hub away, in one of the ways of `AWAY`."""
        if away == "offline":
            self.go_offline()
        elif away == "no network":
            self.break_network()
        else:
            self.hub.status = 503

    def log_in(self) -> None:
        self.patch.setenv("HF_TOKEN", "hf_right")

    def restart(self) -> None:
        """Forget what was resolved, as another process would."""
        names.forget()


@contextmanager
def online(folder: Path) -> Iterator[Online]:
    """Run a Hub, and make this process ask it."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
        patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        patch.delenv("HF_TOKEN", raising=False)
        patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
        names.forget()
        try:
            yield Online(hub=hub, cache=folder / "cache", patch=patch)
        finally:
            names.forget()
            hub.shutdown()
            thread.join()
            hub.server_close()
