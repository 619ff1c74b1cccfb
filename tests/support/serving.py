"""A live server for tests: `zerone serve` in a process of its own, and what it says about itself."""

import contextlib
import json
import re
import select
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import start

KEY = "zr-test-key"


@dataclass(frozen=True, slots=True)
class Live:
    """A running server."""

    process: subprocess.Popen[str]
    url: str
    key: str | None = KEY

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str) -> str:
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            text: str = answer.read().decode()
        return text

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        lines = re.findall(rf"^{name}(?:{{.*}})? (.+)$", self.get("/metrics"), re.MULTILINE)
        return sum(map(float, lines))

    def wait_until_idle(self, seconds: float = 5.0) -> float:
        """Wait until nothing is decoded or queued; return how long that took."""
        begun = time.monotonic()
        while self.metric("zerone_rows_active") + self.metric("zerone_rows_waiting"):
            assert time.monotonic() - begun < seconds, "answers that nobody waits for are still being made"
            time.sleep(0.02)
        return time.monotonic() - begun


def chat(text: str = "What is 3 + 4?", **more: Any) -> dict[str, Any]:
    """Return the body of a chat request."""
    return {"model": "embedded", "messages": [{"role": "user", "content": text}], **more}


@contextlib.contextmanager
def live_server(
    folder: Path, *arguments: str, model: str = "embedded", key: str | None = KEY
) -> Iterator[Live]:
    """Run `zerone serve` until the block ends."""
    keys: list[str] = []
    if key is not None:
        (folder / "keys").write_text(f"# for tests\ntester {key}\n", encoding="utf-8")
        keys = ["--api-key-file", str(folder / "keys")]
    process = start(folder, "serve", model, "--port", "0", *keys, *arguments)
    try:
        yield Live(process, ready_url(process), key)
    finally:
        process.kill()  # an orderly end takes seconds; it has a test of its own
        process.communicate()


def ready_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 90)
    line = process.stdout.readline() if ready else ""
    if not line.startswith("listening on "):
        process.kill()
        raise AssertionError(f"no server: {line!r} {process.communicate()[1]}")
    return line.removeprefix("listening on ").strip()


def events(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream; it must be well framed and end with [DONE]."""
    blocks = text.split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]
