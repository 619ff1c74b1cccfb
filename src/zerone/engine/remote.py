"""Client for OpenAI-compatible endpoints.

In: an `Endpoint` (address, model, key), a conversation or a prompt, and how to draw. Out: a `Reply`.
A server that is busy or stumbles is asked again, after the time that it names or ever longer pauses;
one that stays silent is an EndpointError, never an empty answer. Calls may come from many threads.
"""

import email.utils
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from zerone.errors import EndpointError, EndpointUnusable, FileError, RequestRefused
from zerone.escaping import on_one_line
from zerone.files import parse_json
from zerone.processes.stopping import waiting
from zerone.prompts.messages import read_reply
from zerone.prompts.r1 import THINK_CLOSE, THINK_OPEN
from zerone.seeding import rng_from

_Read = TypeVar("_Read")
_Job = TypeVar("_Job")
_Done = TypeVar("_Done")

KEY_VARIABLE = "ZERONE_API_KEY"
"""The environment variable that holds the key; a key on the command line could be seen by others."""

_TRY_AGAIN = frozenset((408, 409, 425, 429))
_LONGEST_PAUSE = 60.0
_LONGEST_RETRY_AFTER = 300.0
_SHOWN = 300
_LARGEST_RESPONSE = 64 << 20
"""Bytes after unpacking: a completion of 128k tokens with its log-probabilities stays below."""
_SEEDS = 2**31
"""Seeds go out modulo this: some servers read 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a model is and how patiently it is asked; times in seconds.

    `url` is the address of the API, with or without `/v1`. `tries` counts the first one.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    concurrency: int = 8
    timeout_s: float = 600.0
    tries: int = 6
    first_pause_s: float = 0.5

    @property
    def address(self) -> str:
        """The address that paths such as `/models` are put behind."""
        url = self.url.rstrip("/").removesuffix("/completions").removesuffix("/chat")
        return url if httpx2.URL(url).path.strip("/") else f"{url}/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How a completion is sampled; what has its default is left to the server's and not sent."""

    temperature: float | None = None
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def fields(self) -> dict[str, Any]:
        """Return the fields of the request's body."""
        found: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": None if self.top_p == 1 else self.top_p,
            "top_k": self.top_k or None,
            "max_tokens": self.max_tokens,
            "stop": list(self.stop) or None,
            "seed": None if self.seed is None else self.seed % _SEEDS,
        }
        return {key: value for key, value in found.items() if value is not None}


_QUOTED_CLOSE = THINK_CLOSE.replace("/", "\\/")
"""How reasoning quotes its closing tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer. `reasoning` is the thought where the server tells it apart; tokens as it counts them.

    `stop` is the stop string that the server cut off, where it says so as vLLM does (`stop_reason`).
    """

    text: str
    reasoning: str
    is_truncated: bool
    prompt_tokens: int
    completion_tokens: int
    stop: str = ""

    @property
    def whole(self) -> str:
        """Reasoning and answer in one text, tagged as a model without such a server would write it.

        Reasoning without an answer behind it stays open, as the model left it. A closing tag that the
        server found to be a part of the reasoning must not close it here.
        """
        if not self.reasoning:
            return self.text
        reasoning = self.reasoning.replace(THINK_CLOSE, _QUOTED_CLOSE)
        return f"{THINK_OPEN}{reasoning}" + (f"{THINK_CLOSE}\n{self.text}" if self.text.strip() else "")


def key_from_environment(variable: str = KEY_VARIABLE) -> str | None:
    """Return the key that the environment holds, or None."""
    return os.environ.get(variable, "").strip() or None


class EndpointClient:
    """Connections to one endpoint; close it, or use it in a `with`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.stopped = threading.Event()
        """Set to end all pauses at once, when the answers are no longer wanted."""
        headers = {"accept-encoding": "identity"}
        if endpoint.api_key:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        limits = httpx2.Limits(max_connections=endpoint.concurrency)
        try:
            url = httpx2.URL(endpoint.url)
            if url.scheme not in ("http", "https") or not url.host:
                raise EndpointUnusable(f"{endpoint.url!r} is not an address; write it as http://HOST:PORT/v1")
            self._client = httpx2.Client(headers=headers, timeout=endpoint.timeout_s, limits=limits)
        except (httpx2.InvalidURL, UnicodeEncodeError) as error:
            raise EndpointUnusable(f"{endpoint.url!r} or its key cannot be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.stopped.set()
        self._client.close()

    def models(self) -> list[str]:
        """Return the names of the models that the endpoint serves."""
        body = self._ask("GET", "/models", None, lambda body: list(body["data"]))
        return [str(model["id"]) for model in body if isinstance(model, Mapping) and "id" in model]

    def about_model(self) -> Mapping[str, Any]:
        """Return what the endpoint tells of its model beside the name; nothing where it does not say."""

        def read(body: Any) -> list[Any]:
            listed = body.get("data") if isinstance(body, Mapping) else None
            return listed if isinstance(listed, list) else []

        try:
            listed = self._ask("GET", "/models", None, read)
        except EndpointError:  # many servers have no such list, and what they are asked for next tells more
            return {}
        named = (m for m in listed if isinstance(m, Mapping) and m.get("id") == self.endpoint.model)
        return next(named, {})

    def chat(self, messages: Sequence[Mapping[str, str]], draw: Draw) -> Reply:
        """Return the next message of a conversation."""
        body = {"model": self.endpoint.model, "messages": [dict(m) for m in messages]} | draw.fields()
        return self._ask("POST", "/chat/completions", body, _read_chat)

    def complete(self, prompt: str, draw: Draw) -> Reply:
        """Return what continues a text."""
        body = {"model": self.endpoint.model, "prompt": prompt} | draw.fields()
        return self._ask("POST", "/completions", body, _read_completion)

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], _Read]
    ) -> _Read:
        """Send a request until it is answered; raises an EndpointError of the kind that fits."""
        with waiting():
            return self._ask_patiently(method, path, body, read)

    def _ask_patiently(
        self, method: str, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], _Read]
    ) -> _Read:
        complaint = ""
        for number in range(self.endpoint.tries):
            pause: float | None = None
            try:
                url = self.endpoint.address + path
                with self._client.stream(method, url, json=body) as response:
                    text = self._text_of(response)
                if response.is_success:
                    return read(parse_json(text, "the response"))
                self._refuse(response, path, _message_of(response, text))
                complaint = f"HTTP {response.status_code}: {_message_of(response, text)}"
                pause = _retry_after(response)
            except httpx2.RequestError as error:
                complaint = f"{type(error).__name__}: {error}"
            except (FileError, ValueError, LookupError, TypeError, zlib.error) as error:
                complaint = f"its answer cannot be read ({type(error).__name__}: {error})"
            is_last = number + 1 == self.endpoint.tries or (pause or 0) > _LONGEST_RETRY_AFTER
            if is_last or self.stopped.wait(self._pause(number) if pause is None else pause):
                break
        raise EndpointError(
            f"{self.endpoint.address} does not answer (asked {number + 1} times; "
            f"{on_one_line(complaint)[:_SHOWN]})"
        )

    def _text_of(self, response: httpx2.Response) -> str:
        """Return the text of a response, within bounds of size and time that no server can exceed.

        The client's own limit of time is for each read, which a server that drips a byte now and then never
        meets. Raises ValueError beyond a bound.
        """
        unpack = _unpacker(response.headers.get("content-encoding", "").strip().lower())
        end_s = time.monotonic() + self.endpoint.timeout_s
        body = bytearray()
        for piece in response.iter_raw():
            body += unpack(piece, _LARGEST_RESPONSE + 1 - len(body))
            if len(body) > _LARGEST_RESPONSE:
                raise ValueError(f"it has more than {_LARGEST_RESPONSE >> 20} MiB")
            if time.monotonic() > end_s:
                raise ValueError(f"it was not complete after {self.endpoint.timeout_s:g} s")
        return body.decode("utf-8", "replace")

    def _pause(self, number: int) -> float:
        """Return how long to wait after a failed try: doubling, with a part by chance so that many
        callers do not come back at once."""
        longest = min(_LONGEST_PAUSE, self.endpoint.first_pause_s * 2.0**number)
        return longest * (0.5 + rng_from("pause", time.monotonic_ns()).random() / 2)

    def _refuse(self, response: httpx2.Response, path: str, message: str) -> None:
        """Raise for a refusal that asking again cannot change."""
        status = response.status_code
        if status in _TRY_AGAIN or status >= 500:
            return
        where = f"{self.endpoint.address}{path} answers HTTP {status}: {message}"
        if status in (401, 403):
            raise EndpointUnusable(f"{where}; set {KEY_VARIABLE} to a key that may use it")
        if status in (404, 405) or response.is_redirect:
            raise EndpointUnusable(
                f"{where}; check the address and the name of the model ({self.endpoint.model!r})"
            )
        raise RequestRefused(where)


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes]:
    """Return what unpacks a body piece by piece to at most so many bytes.

    We ask for none, but a server may send gzip all the same: a thousand bytes of that hold a million.
    Raises ValueError for another packing.
    """
    if encoding in ("", "identity"):
        return lambda piece, room: piece[:room]
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ValueError(f"it is packed as {on_one_line(encoding)[:40]}, which was not asked for")
    unpacked = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    return lambda piece, room: unpacked.decompress(unpacked.unconsumed_tail + piece, max(1, room))


def _message_of(response: httpx2.Response, text: str) -> str:
    """Return what an error's body says, in whatever shape, with control characters made visible."""
    message: Any = text
    with suppress(FileError, ValueError, LookupError, TypeError):
        body = parse_json(text, "the response")
        error = body.get("error", body) if isinstance(body, Mapping) else body
        message = error["message"] if isinstance(error, Mapping) else error
    shown = on_one_line(" ".join(str(message).split()))[:_SHOWN]
    return shown or on_one_line(response.reason_phrase)


def _retry_after(response: httpx2.Response) -> float | None:
    """Return the seconds that the server asks to wait: a number or a date."""
    value = response.headers.get("retry-after", "").strip()
    with suppress(ValueError):
        return max(0.0, float(value)) if value else None
    with suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


def _read_chat(body: Any) -> Reply:
    return _reply(body, *read_reply(body["choices"][0]["message"]))


def _read_completion(body: Any) -> Reply:
    return _reply(body, str(body["choices"][0]["text"]), "")


def _reply(body: Any, text: str, reasoning: str) -> Reply:
    usage, choice = body.get("usage") or {}, body["choices"][0]
    stop = choice.get("stop_reason")
    return Reply(
        text=text,
        reasoning=reasoning,
        is_truncated=choice.get("finish_reason") == "length",
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        stop=stop if isinstance(stop, str) else "",
    )


def ask_many(
    client: EndpointClient, jobs: Iterable[_Job], work: Callable[[_Job], _Done]
) -> Iterator[tuple[_Job, _Done | RequestRefused]]:
    """Yield each job with its result as it is done, at most `concurrency` at once.

    A refused request is a result. Where the endpoint fails, what is still under way is yielded
    first, so that nothing answered is lost; then the EndpointError is raised.
    """
    unasked = iter(jobs)
    running: dict[Future[_Done], _Job] = {}
    failure: EndpointError | None = None
    try:
        while True:
            room = 0 if failure else client.endpoint.concurrency - len(running)
            running |= {_begun(work, job): job for job in islice(unasked, room)}
            if not running:
                break
            with waiting():
                done = wait(running, return_when=FIRST_COMPLETED).done
            for future in done:
                job = running.pop(future)
                try:
                    yield job, future.result()
                except RequestRefused as refusal:
                    yield job, refusal
                except EndpointError as error:
                    failure = failure or error
                    client.stopped.set()
    finally:
        if running:
            client.stopped.set()
    if failure:
        raise failure


class _Settling:
    """Hands what a piece of work comes to, or fails by, to whoever waits for it."""

    def __init__(self, future: "Future[Any]") -> None:
        self._future = future

    def __enter__(self) -> "Future[Any]":
        return self._future

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None:
            self._future.set_exception(error)
        return True


def _begun(work: Callable[[_Job], _Done], job: _Job) -> "Future[_Done]":
    """Start a piece of work in a thread of its own.

    Who presses Ctrl-C does not wait for a server that thinks for minutes: the process ends without it.
    """
    future: Future[_Done] = Future()

    def run() -> None:
        with _Settling(future):
            future.set_result(work(job))

    threading.Thread(target=run, daemon=True).start()
    return future
