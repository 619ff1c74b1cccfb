"""A live server whose model says what a test has written, through the rows of the real one."""

import contextlib
import copy
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from fakes import byte_tokenizer
from processes import wait_until
from zerone.engine.api import Deliver, Request, sink_all
from zerone.engine.row import rows_of
from zerone.prompts.r1 import Style
from zerone.serve.application import create_app
from zerone.serve.chat_prompt import Prompter
from zerone.serve.models import Served
from zerone.serve.running import Protocol, open_socket
from zerone.serve.telemetry import Prices

END = 0
CONTEXT = 4096
CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(slots=True)
class ScriptedEngine:
    """Writes `text`, token by token: each byte is one, and a tag is one where `tags_are_tokens`."""

    tokenizer: Any
    text: str = ""
    tags_are_tokens: bool = False
    capacity: int = 64
    is_alive: bool = True
    fault: str | None = None
    num_active: int = 0
    num_waiting: int = 0
    num_cancelled: int = 0
    prompts: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    deliver: Deliver = sink_all

    def start(self, deliver: Deliver | None = None) -> None:
        self.deliver = deliver or sink_all

    def stop(self) -> None:
        pass

    def cancel(self, jobs: Sequence[Request]) -> None:
        pass

    def submit(self, jobs: Sequence[Request]) -> None:
        self.requests += jobs
        for row in rows_of(jobs, self.tokenizer, frozenset([END])):
            self.prompts.append(self.tokenizer.decode(row.request.prompt_ids))
            tokens = iter(self.tokens())
            while True:
                token = row.forced.popleft() if row.forced else next(tokens, END)
                delta = row.accept(token)
                if delta is not None:
                    self.deliver([(row.request, delta)])
                    if delta.finish is not None:
                        break

    def tokens(self) -> list[int]:
        """Return the tokens of the text."""
        if self.tags_are_tokens:
            ids: list[int] = self.tokenizer(self.text)["input_ids"]
            return ids
        return [token for character in self.text for token in self.tokenizer(character)["input_ids"]]


@dataclass(frozen=True, slots=True)
class Scripted:
    """A server on loopback, and the engine that it asks."""

    url: str
    engine: ScriptedEngine


def served_by(engine: ScriptedEngine, template: str | None, **more: Any) -> Served:
    """Return a model called `scripted`; without a template it is asked in the R1-Zero style."""
    engine.tokenizer.chat_template = template
    prompter = Prompter(
        tokenizer=engine.tokenizer,
        uses_template=template is not None,
        style=Style.TAGS,
        opens_thought=False,
        context=CONTEXT,
        max_characters=CONTEXT * 16,
    )
    return Served(
        name="scripted",
        directory="",
        fingerprint="f",
        context=CONTEXT,
        tokenizer=engine.tokenizer,
        prompter=prompter,
        scheduler=engine,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        **more,
    )


@contextlib.contextmanager
def scripted_server(
    template: str | None = None, *, origins: Sequence[str] = (), **more: Any
) -> Iterator[Scripted]:
    """Serve a scripted model while the context lasts."""
    engine = ScriptedEngine(copy.deepcopy(byte_tokenizer()))
    app = create_app([served_by(engine, template, **more)], None, Prices.read("1,1"), origins)
    listener = open_socket("127.0.0.1", 0, has_keys=False)
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(app, http=Protocol, ws="none", log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, "the server did not start")
        yield Scripted(f"http://127.0.0.1:{listener.getsockname()[1]}", engine)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
