"""One answer in the making: tokens go in as they are drawn, pieces of text come out.

A row decides when its answer ends and what of its text can be sent; it knows no tensors and no
other rows, so that an answer depends on its own request only.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from zerone.engine.jobs import Delta, Job, TokenLogprob
from zerone.engine.text import CharacterStream, StopStream, ThoughtStream
from zerone.engine.torch.sampling import uniforms
from zerone.prompts.r1 import ANSWER_OPEN, THINK_CLOSE
from zerone.seeding import seed_from
from zerone.types import Finish


def rows_of(jobs: Sequence[Job], tokenizer: Any, end_ids: frozenset[int]) -> "list[Row]":
    """Return a row for every answer that is wanted."""
    return [Row(job, index, tokenizer, end_ids) for job in jobs for index in range(job.num_samples)]


class Row:
    """The state of one answer; see the module's docstring."""

    def __init__(self, job: Job, index: int, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self.job = job
        self.index = index
        self.tokens: list[int] = []
        self.forced: deque[int] = deque()
        self.is_told = False
        """Whether its client has been sent something of it."""
        self._seed = seed_from("serve", job.decoding.seed, index)
        self._uniforms: list[float] = []
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._characters = CharacterStream(tokenizer)
        stops, trained_stops = job.decoding.stop, job.decoding.trained_stop
        self._stops = StopStream(stops if job.split is None else (), trained_stops)
        """What ends a text wherever it is: a request's stop strings only where nothing is split off."""
        self._thought = (
            None
            if job.split is None
            else ThoughtStream(
                is_thinking=job.split.opens_in_thought,
                strips_answer=job.split.strips_answer,
                is_closed=job.split.closed,
                is_reasoner=job.split.is_reasoner,
                goes_on=job.split.goes_on,
                stops=stops,
            )
        )
        self._num_thought = 0
        self._unsent = Delta(index=index)

    @property
    def ids(self) -> tuple[int, ...]:
        """What the model has read or must read before the next token."""
        return (*self.job.prompt_ids, *self.tokens)

    @property
    def length(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self.job.prompt_ids) + len(self.tokens)

    @property
    def next_uniform(self) -> float:
        """The number in [0, 1) that draws the next token."""
        drawn = len(self.tokens)
        if drawn >= len(self._uniforms):
            # Only as many as are used: rows of a long context may wait in great number.
            self._uniforms = uniforms(self._seed, max(64, 2 * drawn))
        return self._uniforms[drawn]

    def accept(self, token: int, logprob: TokenLogprob | None) -> Delta | None:
        """Take the next token; return what there is to send now, if anything."""
        self.tokens.append(token)
        if token in self._end_ids:
            return self._send(*self._rest(), num_tokens=1, finish=Finish.STOP)
        was_thinking = self._is_thinking
        piece = self._characters.feed(token)
        reasoning, content = self._split("" if piece is None else self._stops.feed(piece))
        is_thought = was_thinking or self._is_thinking
        self._num_thought += is_thought
        finish = None
        if self._is_stopped:
            finish = Finish.STOP
        elif len(self.tokens) == self.job.decoding.max_tokens:
            finish = Finish.LENGTH
        if finish is not None:
            rest = self._rest()
            reasoning, content = reasoning + rest[0], content + rest[1]
            finish = Finish.STOP if self._is_stopped else finish  # what was held back may end with one
        elif piece is not None:
            self._close_long_thought()
        return self._send(
            reasoning, content, num_tokens=1, num_thought=int(is_thought), logprob=logprob, finish=finish
        )

    @property
    def _is_thinking(self) -> bool:
        return self._thought is not None and self._thought.is_thinking

    @property
    def _is_stopped(self) -> bool:
        return self._stops.is_stopped or (self._thought is not None and self._thought.answer.is_stopped)

    @property
    def _cut_off(self) -> str | None:
        return self._stops.cut_off if self._thought is None else self._thought.answer.cut_off

    def _split(self, text: str) -> tuple[str, str]:
        return ("", text) if self._thought is None else self._thought.feed(text)

    def _rest(self) -> tuple[str, str]:
        """Return what was held back of thought and answer, for the answer ends."""
        held = ""
        if not self._stops.is_stopped:
            held = self._stops.feed(self._characters.close()) + self._stops.close()
        reasoning, content = self._split(held)
        if self._thought is not None:
            more = self._thought.close()
            reasoning, content = reasoning + more[0], content + more[1]
        return reasoning, content

    def _close_long_thought(self) -> None:
        """Write the end of a thought that has used up its budget in the model's stead."""
        budget, split = self.job.decoding.thinking_budget, self.job.split
        if budget is None or split is None or not self._is_thinking or self.forced:
            return
        if self._num_thought >= budget:
            assert self._thought is not None
            self._thought.end_by_force()
            closing = f"{THINK_CLOSE}\n" + (ANSWER_OPEN if split.strips_answer else "")
            self.forced.extend(self._tokenizer.encode(closing, add_special_tokens=False))

    def _send(
        self,
        reasoning: str,
        content: str,
        *,
        num_tokens: int,
        num_thought: int = 0,
        logprob: TokenLogprob | None = None,
        finish: Finish | None = None,
    ) -> Delta | None:
        """Join this piece to what has not been sent; return it once there is something to tell."""
        unsent = self._unsent
        delta = Delta(
            index=self.index,
            reasoning=reasoning,
            content=content,
            num_tokens=unsent.num_tokens + num_tokens,
            num_reasoning_tokens=unsent.num_reasoning_tokens + num_thought,
            logprobs=unsent.logprobs if logprob is None else (*unsent.logprobs, logprob),
            finish=finish,
            stop=self._cut_off,
            ends_in_thought=finish is not None and self._is_thinking,
        )
        is_worth_sending = bool(reasoning or content) or finish is not None
        self._unsent = Delta(index=self.index) if is_worth_sending else delta
        return delta if is_worth_sending else None
