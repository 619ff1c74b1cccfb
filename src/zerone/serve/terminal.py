"""`zerone chat`: a conversation in the terminal, or line by line through a pipe.

The scheduler runs in this process. On a terminal the thought streams dimmed and Ctrl-C stops an
answer; in a pipe every line is a question, answers alone go to standard output, and how long each
thought took goes to standard error.
"""

import io
import queue
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TextIO

from pydantic import ValidationError

from zerone.engine.api import Completion, Event, Failure, Request, SamplingParams, seeds_of
from zerone.escaping import visible
from zerone.serve.exchange import room_for
from zerone.serve.models import Served
from zerone.serve.refusals import Refusal
from zerone.serve.schemas import Message
from zerone.types import Finish

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
HELP = "/again asks once more, /clear forgets what was said, /quit or Ctrl-D ends; Ctrl-C stops an answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How to answer: the sampling (max_tokens 0 is up to the end of the context), and the thought."""

    sampling: SamplingParams
    seed: int
    thinks: bool
    shows_thought: bool


class Chat:
    """One conversation with a model whose scheduler runs."""

    def __init__(self, model: Served, manner: Manner, *, is_terminal: bool) -> None:
        self._model = model
        self._manner = manner
        self._is_terminal = is_terminal
        self._notes: TextIO = sys.stdout if is_terminal else sys.stderr
        self._history: list[Message] = []
        self._is_last_kept = False
        """Whether the last question and its answer are in the history."""

    def run(self, lines: Iterator[str]) -> None:
        """Answer line after line."""
        question = ""
        for line in lines:
            match line.strip():
                case "":
                    continue
                case "/quit" | "/exit":
                    return
                case "/clear":
                    self._history.clear()
                    question = ""
                    continue
                case "/again" if question:
                    if self._is_last_kept:
                        del self._history[-2:]
                case command if command.startswith("/"):
                    print(HELP, file=self._notes)
                    continue
                case text:
                    question = text
            self._ask(question)

    def _ask(self, question: str) -> None:
        self._is_last_kept = False
        try:
            asked = Message(role="user", content=question)
        except ValidationError:
            print("this line is not in UTF-8; write it again", file=self._notes)
            return
        try:
            request, arriving = self._request([*self._history, asked])
        except Refusal as refusal:
            print(f"{refusal.renamed('question', '--max-tokens')} (/clear starts anew)", file=self._notes)
            return
        self._model.scheduler.submit([request])
        try:
            answer = self._show(arriving)
        except KeyboardInterrupt:
            self._model.scheduler.cancel([request])
            if not self._is_terminal:
                raise
            print(f"{_PLAIN}\n(stopped)", file=self._notes)
            return
        # Other models have seen single questions only; earlier turns mislead them.
        if answer is not None and self._model.prompter.uses_template:
            self._is_last_kept = True
            self._history += [asked, Message(role="assistant", content=answer)]

    def _request(self, messages: list[Message]) -> tuple[Request, "queue.SimpleQueue[Event]"]:
        prompt = self._model.prompter.encode_chat(messages, thinks=self._manner.thinks)
        sampling = self._manner.sampling
        max_tokens = room_for(self._model, [prompt.ids], sampling.max_tokens or None)
        arriving: queue.SimpleQueue[Event] = queue.SimpleQueue()
        request = Request(
            prompt_ids=prompt.ids,
            seeds=seeds_of(self._manner.seed or secrets.randbits(63), 1),
            sampling=replace(sampling, max_tokens=max_tokens),
            streams=True,
            split=prompt.split,
            sink=arriving.put,
        )
        return request, arriving

    def _show(self, arriving: "queue.SimpleQueue[Event]") -> str | None:
        """Print an answer as it comes; return it, or None where the engine failed."""
        begun = time.monotonic()
        answer, num_thought, is_folded = "", 0, False
        while True:
            delta = arriving.get()
            if isinstance(delta, Failure):
                print(delta.message, file=self._notes)
                return None
            if isinstance(delta, Completion):
                raise AssertionError("a request that streams gets its text in pieces")
            num_thought += delta.num_reasoning_tokens
            if delta.reasoning and self._manner.shows_thought:
                self._write(delta.reasoning, is_dim=True)
            if num_thought and not is_folded and (delta.content or delta.finish is not None):
                is_folded = True
                self._note_thought(time.monotonic() - begun, num_thought)
            self._write(delta.content)
            answer += delta.content
            if delta.finish is not None:
                print(flush=True)
                if delta.finish is Finish.LENGTH:
                    print("(the token limit ended this answer)", file=self._notes)
                return answer

    def _note_thought(self, seconds: float, num_tokens: int) -> None:
        note = f"(thought for {seconds:.1f} s, {num_tokens} tokens)"
        if self._is_terminal:
            line = "\n" if self._manner.shows_thought else ""
            note = f"{line}{_DIM}{note}{_PLAIN}"
        print(note, file=self._notes, flush=True)

    def _write(self, text: str, *, is_dim: bool = False) -> None:
        """Write what a model said, with its control characters escaped."""
        shown = visible(text)
        if is_dim and self._is_terminal:
            shown = f"{_DIM}{shown}{_PLAIN}"
        sys.stdout.write(shown)
        sys.stdout.flush()


def take_any_text(source: TextIO, *sinks: TextIO) -> None:
    """Let no byte that is not of the stream's encoding, coming or going, end the conversation."""
    for stream, errors in [(source, "surrogateescape"), *((sink, "replace") for sink in sinks)]:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def lines_of(source: TextIO, *, is_terminal: bool) -> Iterator[str]:
    """Yield what the user writes; at the prompt Ctrl-C and Ctrl-D end the conversation."""
    if not is_terminal:
        yield from source
        return
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        yield line
