"""Served tokens per second and time to the first token: `zerone serve`, `transformers serve` and vLLM.

    pip install 'transformers[serving]'     (nothing else of zerone needs it)
    python benchmarks/serve_speed.py [--model embedded|DIR] [--clients 1 8 64] [--vllm PYTHON] ...

All serve the same directory; a model without a chat template gets one that writes the prompt of
its training. Each client sends its requests one after another and reads the streams; prompts,
temperature 1 and the longest answer are the same for all. Tokens are counted afterwards by the
model's tokenizer from the text that arrived, so no server's own counting matters; the prompt,
which `transformers serve` sends back ahead of the answer, is no part of it. zerone is asked to leave
the answer as the model wrote it. `transformers serve` runs as it comes and with
--continuous-batching; vLLM in fp32, as all do here, and with room for 64 requests. First one request
per server warms it up.

The clients run in this process on the same cores, which costs all servers alike per chunk; zerone
sends fewer chunks when it is busy. `transformers serve` is left out, with a note, where it is not
installed. vLLM needs an environment of its own, as it wants older libraries (benchmarks/README.md);
--vllm names its interpreter.
"""

import zerone  # noqa: F401 - before torch, which reads once how threads wait

# isort: split
import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources, util
from pathlib import Path
from statistics import median
from typing import Any

from transformers import AutoTokenizer

from zerone.processes.machine import cpu_name
from zerone.prompts.r1 import write_prompt

QUESTIONS = (
    "Use the numbers {a}, {b}, {c} to make {d}.",
    "What is {a} * {b} - {c}?",
    "Tom has {a} apples, buys {b} more and eats {c}. How many apples are left?",
)
READY_SECONDS = 300
OURS = "zerone serve"
ENDING = 20
"""Characters of the prompt by which its end is found in what the peer sends back, which drops tags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one server did for a number of clients."""

    server: str
    clients: int
    tokens: int
    seconds: float
    first_token_s: float

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How a server is started, and what it calls the model.

    `is_echoing` says that its answers begin with the prompt, `takes_seeds` that requests may have one:
    vLLM 0.32 on CPUs stops for ever at some ("CPU Generator does not use offset").
    """

    name: str
    command: list[str]
    model: str
    is_echoing: bool = False
    takes_seeds: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


def prepared_model(given: str, folder: Path) -> Path:
    """Return a directory with the model and a chat template."""
    source = (
        Path(str(resources.files("zerone") / "world" / "embedded")) if given == "embedded" else Path(given)
    )
    target = folder / "model_served"
    target.mkdir()
    for path in source.resolve().iterdir():
        (target / path.name).symlink_to(path)
    template = target / "chat_template.jinja"
    if not template.exists():
        before, after = write_prompt("QUESTION").split("QUESTION")
        quoted = [json.dumps(part) for part in (before, after)]
        template.write_text("{{ %s + messages[-1]['content'] + %s }}" % tuple(quoted), encoding="utf-8")  # noqa: UP031  # braces
    return target


def servers(directory: Path, vllm: Path | None) -> list[Server]:
    """Return zerone, `transformers serve` in both of its modes where it is installed, and vLLM if given."""
    ours = [sys.executable, "-m", "zerone", "serve", str(directory), "--port"]
    found = [Server(name=OURS, command=ours, model=directory.name)]
    program = Path(sys.executable).with_name("transformers")
    if not program.exists() or util.find_spec("uvicorn") is None:
        print("transformers serve is not installed: pip install 'transformers[serving]'; it is left out")
    else:
        theirs = [str(program), "serve", str(directory), "--device", "cpu"]
        for extra in ([], ["--continuous-batching"]):
            name = " ".join(["transformers serve", *extra])
            command = [*theirs, *extra, "--port"]
            found.append(Server(name=name, command=command, model=str(directory), is_echoing=True))
    if vllm is not None:
        options = ["--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "64"]
        module = [str(vllm), "-m", "vllm.entrypoints.openai.api_server", "--model", str(directory)]
        command = [*module, *options, "--generation-config", "vllm", "--port"]
        environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        vllm_server = Server(
            name="vLLM",
            command=command,
            model=str(directory),
            takes_seeds=False,
            environment=environment,
        )
        found.append(vllm_server)
    return found


@contextlib.contextmanager
def started(server: Server) -> Iterator[int]:
    """Run a server and yield its port once it is healthy."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [*server.command, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **server.environment},
    )
    try:
        until = time.monotonic() + READY_SECONDS
        while not is_healthy(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{server.name} does not start: {' '.join(server.command)} {port}")
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def question(number: int) -> str:
    """Return a question that no other request asks."""
    a, b, c = number % 9 + 2, number // 9 % 9 + 3, number // 81 % 9 + 4
    return QUESTIONS[number % len(QUESTIONS)].format(a=a, b=b, c=c, d=a * b + c)


def conversation(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": question(number)}]


async def ask(port: int, server: Server, number: int, max_tokens: int, tokenizer: Any) -> tuple[str, float]:
    """Return the text of a streamed answer and the seconds until its first piece."""
    body: dict[str, Any] = {
        "model": server.model,
        "messages": conversation(number),
        "stream": True,
        "temperature": 1.0,
        "max_tokens": max_tokens,
    }
    if server.takes_seeds:
        body["seed"] = number
    echo = ""
    if server.name == OURS:
        body["reasoning_format"] = "none"
    elif server.is_echoing:
        prompt = tokenizer.apply_chat_template(conversation(number), add_generation_prompt=True)["input_ids"]
        echo = tokenizer.decode(prompt, skip_special_tokens=True)[-ENDING:]
    content = json.dumps(body).encode()
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    text, first, begin = "", 0.0, 0.0
    async for line in reader:
        if not line.startswith(b"data: {"):
            continue
        for choice in json.loads(line[6:]).get("choices", ()):
            delta = choice["delta"]
            piece = (delta.get("reasoning_content") or "") + (delta.get("content") or "")
            text += piece
            if text:
                begin = begin or time.perf_counter() - begun
            if echo and text.partition(echo)[2]:
                first = first or time.perf_counter() - begun
    writer.close()
    # With some models the prompt does not come back.
    return (text.partition(echo)[2], first) if echo and echo in text else (text, begin)


async def load(port: int, server: Server, clients: int, arguments: argparse.Namespace) -> Figures:
    """Let `clients` clients ask at once."""

    tokenizer = AutoTokenizer.from_pretrained(arguments.directory)

    async def client(number: int) -> list[tuple[str, float]]:
        numbers = range(number * arguments.requests, (number + 1) * arguments.requests)
        return [await ask(port, server, n, arguments.max_tokens, tokenizer) for n in numbers]

    begun = time.perf_counter()
    answers = [answer for done in await asyncio.gather(*map(client, range(clients))) for answer in done]
    seconds = time.perf_counter() - begun
    tokens = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text, _ in answers)
    waits = [first for _, first in answers if first]
    return Figures(
        server=server.name,
        clients=clients,
        tokens=tokens,
        seconds=seconds,
        first_token_s=median(waits) if waits else float("nan"),
    )


def measure(server: Server, arguments: argparse.Namespace) -> list[Figures]:
    with started(server) as port:
        asyncio.run(ask(port, server, 0, 4, AutoTokenizer.from_pretrained(arguments.directory)))
        return [asyncio.run(load(port, server, clients, arguments)) for clients in arguments.clients]


def show(figures: Sequence[Figures]) -> None:
    print(f"\n{cpu_name()}\n")
    print(
        f"{'server':<42} {'clients':>7} {'tokens':>7} {'tokens/s':>9} {'first token':>12} {'zerone is':>10}"
    )
    ours = {figure.clients: figure.rate for figure in figures if figure.server == OURS}
    for figure in figures:
        ratio = (
            "" if figure.server == OURS or not figure.tokens else f"{ours[figure.clients] / figure.rate:.1f}x"
        )
        print(
            f"{figure.server:<42} {figure.clients:>7} {figure.tokens:>7} {figure.rate:>9.0f} "
            f"{figure.first_token_s * 1000:>9.0f} ms {ratio:>10}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="embedded", help="`embedded` or a transformers directory")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=2, help="of each client, one after another")
    parser.add_argument("--max-tokens", type=int, default=200, help="of an answer")
    parser.add_argument("--vllm", type=Path, metavar="PYTHON", help="measure vLLM too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw figures there")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        arguments.directory = prepared_model(arguments.model, folder)
        figures: list[Figures] = []
        for server in servers(arguments.directory, arguments.vllm):
            try:
                figures += measure(server, arguments)
            except (RuntimeError, OSError) as error:
                print(f"{server.name} left out: {error}")
    finally:
        shutil.rmtree(folder)
    show(figures)
    if arguments.json:
        arguments.json.write_text(
            json.dumps([asdict(figure) for figure in figures], indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
