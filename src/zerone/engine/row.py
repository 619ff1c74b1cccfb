"""One completion in the making: tokens go in as they are drawn, a completion or pieces of text come out.

A row decides when its completion ends and what of its text can be sent; it knows no tensors and no
other rows, so that a completion depends on its own request only.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from zerone.engine.api import Completion, Delta, Request, TokenLogprob
from zerone.engine.text import CharacterStream, StopStream, ThoughtStream
from zerone.engine.torch.sampling import uniforms
from zerone.prompts.r1 import ANSWER_OPEN, THINK_CLOSE
from zerone.types import Finish

_COLDEST = 1e-5
"""Colder is greedy, as in vLLM: logits divided by much less are beyond fp32, and give no distribution."""


def rows_of(requests: Sequence[Request], tokenizer: Any, end_ids: frozenset[int]) -> "list[Row]":
    """Return a row for every completion that is wanted."""
    return [
        Row(request, index, tokenizer, end_ids)
        for request in requests
        for index in range(request.num_samples)
    ]


class Row:
    """The state of one completion; see the module's docstring."""

    def __init__(self, request: Request, index: int, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self.request = request
        self.index = index
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.forced: deque[int] = deque()
        sampling = request.sampling
        temperature = sampling.temperature if sampling.temperature >= _COLDEST else 0.0
        self.settings = (temperature, sampling.top_k, sampling.top_p)
        """What rows that are drawn together have in common."""
        self.weights = (-1, "")
        """Version and hash of the weights that it is sampled from."""
        self._uniforms: list[float] = []
        self._num_prompt = len(request.prompt_ids)
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._pieces = _Pieces(self, tokenizer, end_ids) if request.streams else None
        # Every token holds at least one byte; 4 more, as the tail may begin inside a character.
        stops = sampling.stop
        self._tail = max(len(stop.encode()) for stop in stops) + 4 if stops else 0

    @property
    def ids(self) -> tuple[int, ...]:
        """What the model has read or must read before the next token."""
        return (*self.request.prompt_ids, *self.tokens)

    @property
    def length(self) -> int:
        """Tokens of prompt and completion so far."""
        return self._num_prompt + len(self.tokens)

    @property
    def next_uniform(self) -> float:
        """The number in [0, 1) that draws the next token."""
        drawn = len(self.tokens)
        if drawn >= len(self._uniforms):
            # Only as many as are used: rows of a long context may wait in great number.
            self._uniforms = uniforms(self.request.seeds[self.index], max(64, 2 * drawn))
        return self._uniforms[drawn]

    def accept(
        self, token: int, logprob: float = 0.0, told: TokenLogprob | None = None
    ) -> Completion | Delta | None:
        """Take the next token with its log-probability; return what there is to send now, if anything.

        `told` is what a stream says of the token's log-probability.
        """
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if self._pieces is not None:
            return self._pieces.accept(token, told)
        finish = self._finish
        return None if finish is None else self._completion(finish)

    @property
    def _finish(self) -> Finish | None:
        if self.tokens[-1] in self._end_ids or (self._tail and self._ends_with_stop()):
            return Finish.STOP
        return Finish.LENGTH if len(self.tokens) == self.request.sampling.max_tokens else None

    def _ends_with_stop(self) -> bool:
        tail = self._tokenizer.decode(self.tokens[-self._tail :])
        return any(stop in tail for stop in self.request.sampling.stop)

    def _completion(self, finish: Finish) -> Completion:
        tokens = self.tokens[:-1] if self.tokens[-1] in self._end_ids else self.tokens
        return Completion(
            index=self.index,
            token_ids=tuple(self.tokens),
            logprobs=tuple(self.logprobs),
            text=self._tokenizer.decode(tokens),
            finish=finish,
            weight_version=self.weights[0],
            weight_hash=self.weights[1],
        )


class _Pieces:
    """The text of a row as it is streamed."""

    def __init__(self, row: Row, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self._row = row
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._characters = CharacterStream(tokenizer)
        self._sampling, self._spans = row.request.sampling, row.request.split
        cut, split = self._sampling.cut_stop, self._spans
        self._stops = StopStream(cut if split is None else (), self._sampling.stop)
        """What ends a text wherever it is: a request's stop strings only where nothing is split off."""
        self._thought = (
            None
            if split is None
            else ThoughtStream(
                is_thinking=split.opens_in_thought,
                strips_answer=split.strips_answer,
                is_closed=split.closed,
                is_reasoner=split.is_reasoner,
                goes_on=split.goes_on,
                stops=cut,
            )
        )
        self._num_thought = 0
        self._unsent = Delta(index=row.index)

    def accept(self, token: int, told: TokenLogprob | None) -> Delta | None:
        """Take the row's next token; return what there is to send now, if anything."""
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
        elif len(self._row.tokens) == self._sampling.max_tokens:
            finish = Finish.LENGTH
        if finish is not None:
            rest = self._rest()
            reasoning, content = reasoning + rest[0], content + rest[1]
            finish = Finish.STOP if self._is_stopped else finish  # what was held back may end with one
        elif piece is not None:
            self._close_long_thought()
        return self._send(
            reasoning, content, num_tokens=1, num_thought=int(is_thought), told=told, finish=finish
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
        budget, split = self._sampling.reasoning_budget, self._spans
        if budget is None or split is None or not self._is_thinking or self._row.forced:
            return
        if self._num_thought >= budget:
            assert self._thought is not None
            self._thought.end_by_force()
            closing = f"{THINK_CLOSE}\n" + (ANSWER_OPEN if split.strips_answer else "")
            self._row.forced.extend(self._tokenizer.encode(closing, add_special_tokens=False))

    def _send(
        self,
        reasoning: str,
        content: str,
        *,
        num_tokens: int,
        num_thought: int = 0,
        told: TokenLogprob | None = None,
        finish: Finish | None = None,
    ) -> Delta | None:
        """Join this piece to what has not been sent; return it once there is something to tell."""
        unsent = self._unsent
        delta = Delta(
            index=self._row.index,
            reasoning=reasoning,
            content=content,
            num_tokens=unsent.num_tokens + num_tokens,
            num_reasoning_tokens=unsent.num_reasoning_tokens + num_thought,
            logprobs=unsent.logprobs if told is None else (*unsent.logprobs, told),
            finish=finish,
            stop=self._cut_off,
            ends_in_thought=finish is not None and self._is_thinking,
        )
        is_worth_sending = bool(reasoning or content) or finish is not None
        self._unsent = Delta(index=self._row.index) if is_worth_sending else delta
        return delta if is_worth_sending else None
