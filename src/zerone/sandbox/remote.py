"""The executor elsewhere: the same jobs and executions, over HTTP. docs/sandbox.md has the protocol.

In: a job. Out: what the server says happened, every field checked. No expected value is sent, so
the server cannot forge a verdict either; it is trusted with isolation only.
"""

import http.client
import os
import time
import urllib.error
import urllib.request
from dataclasses import replace

from zerone.errors import SandboxError, SandboxUnavailable
from zerone.sandbox.execution import Execution, Job, Limits, read_execution, write_request

_GRACE_S = 30.0
URL_VARIABLE, TOKEN_VARIABLE = "ZERONE_SANDBOX_URL", "ZERONE_SANDBOX_TOKEN"


class RemoteExecutor:
    """Sends jobs to `URL/v1/executions`; safe to use from many threads."""

    def __init__(self, url: str, token: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise SandboxUnavailable(
                f"a remote executor's address begins with http:// or https://, not {url!r}"
            )
        self._url = f"{url.rstrip('/')}/v1/executions"
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def execute(self, job: Job, limits: Limits) -> Execution:
        """Run a job there; anything but a whole execution is an error of the sandbox."""
        start_cpu = time.thread_time()
        request = urllib.request.Request(
            self._url, data=write_request(job, limits).encode("ascii"), headers=self._headers, method="POST"
        )
        # An answer holds three streams, each byte up to six as JSON.
        most = 32 * limits.output_bytes + (1 << 20)
        try:
            with urllib.request.urlopen(request, timeout=limits.wall_s + _GRACE_S) as answer:
                text = answer.read(most + 1)
        except urllib.error.HTTPError as error:
            raise SandboxError(
                f"{self._url} answered {error.code}: {error.read(500).decode('utf-8', 'replace')}"
            ) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise SandboxError(f"{self._url} cannot be reached: {error}") from error
        if len(text) > most:
            raise SandboxError(f"{self._url} answered more than {most} bytes")
        execution = read_execution(text.decode("utf-8", "replace"), backend=f"remote {self._url}")
        return replace(execution, judge_s=time.thread_time() - start_cpu)


def token_from_environment() -> str | None:
    """Return the token for a remote executor; a command line would show it to every process."""
    return os.environ.get(TOKEN_VARIABLE, "").strip() or None


def executor_from_environment() -> RemoteExecutor | None:
    """Return the remote executor that this process is told to use, if it is told so."""
    url = os.environ.get(URL_VARIABLE, "").strip()
    return RemoteExecutor(url, token_from_environment()) if url else None
