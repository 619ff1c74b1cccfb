"""Who answers: the model in this process, or one behind HTTP. Both are asked the same questions.

In: questions, each a prompt with a seed. Out: answers as they come, so that each can be kept at once.
A local model is asked in parts of some problems, an endpoint by as many requests as it may have at a
time. What is refused (a prompt that is too long for the model, say) is a Refusal, not an answer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any, Protocol

from zerone.engine.api import Engine, Request, SamplingParams
from zerone.engine.remote import Draw, EndpointClient, Reply, ask_many
from zerone.errors import EndpointError, ModelError, RequestRefused, ZeroneError
from zerone.evals.asking import Form, message_of, prompt_of
from zerone.evals.store import Answer
from zerone.prompts.r1 import ANSWER_CLOSE, ANSWER_OPEN
from zerone.types import Finish, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One sample that is wanted."""

    problem: Problem
    sample: int
    seed: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a question has no answer; `error` is raised where no question of a suite has one."""

    reason: str
    error: type[ZeroneError] = EndpointError


class Answerer(Protocol):
    """A model that can be asked."""

    @property
    def identity(self) -> str:
        """The model's name: the same name, the same answers."""
        ...

    def prompt(self, problem: Problem) -> str:
        """Return what is sent for a problem, which the store's keys are made of."""
        ...

    def drawing(self) -> Mapping[str, Any]:
        """Return how answers are drawn, for the store's keys and the record."""
        ...

    def budget(self, problem: Problem) -> int:
        """Return how many of `drawing`'s tokens the context surely has for an answer, for the keys."""
        ...

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Answer | Refusal]]:
        """Yield an answer to each question, in any order."""
        ...


def drawing_of(sampling: SamplingParams) -> dict[str, Any]:
    """Return how answers are drawn, as JSON."""
    return asdict(sampling) | {"stop": list(sampling.stop)}


_Asked = tuple[list[Question], Request]
"""The questions of one problem, and what the engine is asked for them."""

_BUDGETS = 64
"""How many different budgets a local model's context gives: alike ones are sampled together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAnswerer:
    """The model in this process. `render` makes the prompt of a problem, `encode` its tokens.

    `readable` shows a prompt as text, where control tokens of its question are written under other names.
    `context` holds prompt and answer; with `fits_budget` an answer may have fewer tokens than `sampling`
    says. `problems_at_once` are sampled together: what an interruption loses at most.
    """

    identity: str
    engine: Engine
    sampling: SamplingParams
    form: Form
    render: Callable[[Problem], str]
    encode: Callable[[str], tuple[int, ...]]
    context: int
    problems_at_once: int
    fits_budget: bool = True
    readable: Callable[[str], str] = str

    def prompt(self, problem: Problem) -> str:
        """Return the text that the model continues."""
        return self.readable(self.render(problem))

    def drawing(self) -> Mapping[str, Any]:
        """Return how answers are drawn."""
        return drawing_of(self.sampling)

    def budget(self, problem: Problem) -> int:
        """Return the tokens that an answer may have by its own prompt; 0 where there is no room for any.

        Rounded down to a 64th of the context: what is sampled together ends at the same length.
        """
        return self._budget(self._request(problem, ()))

    def _request(self, problem: Problem, asked: Sequence[Question]) -> Request:
        seeds = tuple(question.seed for question in asked)
        return Request(problem=problem, prompt_ids=self.encode(self.render(problem)), seeds=seeds)

    def _budget(self, request: Request) -> int:
        room = self.context - len(request.prompt_ids)
        if room >= self.sampling.max_tokens:
            return self.sampling.max_tokens
        if room < 1 or not self.fits_budget:
            return 0
        step = max(1, self.context // _BUDGETS)
        return room - room % step if room > step else room

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Answer | Refusal]]:
        """Yield the answers to some problems at a time."""
        alike: dict[int, list[_Asked]] = defaultdict(list)
        for _, own in groupby(questions, key=lambda question: question.problem.id):
            asked = list(own)
            request = self._request(asked[0].problem, asked)
            alike[self._budget(request)].append((asked, request))
        for budget, groups in alike.items():
            for start in range(0, len(groups), self.problems_at_once):
                part = groups[start : start + self.problems_at_once]
                yield from self._answers(part, budget) if budget else self._refusals(part)

    def _answers(self, part: Sequence[_Asked], budget: int) -> Iterator[tuple[Question, Answer]]:
        requests = [request for _, request in part]
        generated = self.engine.generate(requests, replace(self.sampling, max_tokens=budget))
        for (own, _), rollouts in zip(part, generated, strict=True):
            for question, rollout in zip(own, rollouts, strict=True):
                yield (
                    question,
                    Answer(
                        text=self.form.opened + rollout.text,
                        prompt_tokens=len(rollout.prompt_ids),
                        num_tokens=len(rollout.completion_ids),
                        is_truncated=rollout.finish is Finish.LENGTH,
                    ),
                )

    def _refusals(self, part: Sequence[_Asked]) -> Iterator[tuple[Question, Refusal]]:
        given, hint = "", "choose another model"
        if not self.fits_budget:
            given = f" and sampling.max_tokens={self.sampling.max_tokens}"
            hint = "lower sampling.max_tokens or leave it out"
        for own, request in part:
            length = len(request.prompt_ids)
            reason = f"a context of {self.context} tokens has no room for a prompt of {length}{given}"
            for question in own:
                yield question, Refusal(reason=f"{reason}; {hint}", error=ModelError)


_MARKS = 8
"""Tokens that a tokenizer may put around a text."""

_TEMPLATE = 1024
"""Tokens that a chat template may write around a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAnswerer:
    """A model behind HTTP: spoken to as a chat, or given a template's text to continue.

    `context`, where the tokens of an answer are to be fitted to it; `fingerprint`, where the endpoint
    tells one: of most the name is all there is to know a model by.
    """

    client: EndpointClient
    sampling: SamplingParams
    form: Form
    context: int | None = None
    fingerprint: str | None = None
    _rooms: dict[str, int] = field(default_factory=dict, init=False)

    @property
    def identity(self) -> str:
        """Address, model, kind of request, and what tells the model's weights."""
        endpoint = self.client.endpoint
        named = f"{endpoint.address} {endpoint.model} {'chat' if self.form.is_chat else 'completions'}"
        return named if self.fingerprint is None else f"{named} {self.fingerprint}"

    def prompt(self, problem: Problem) -> str:
        """Return the message of a chat, or the text to be continued."""
        return message_of(problem) if self.form.is_chat else prompt_of(problem, self.form)

    def drawing(self) -> Mapping[str, Any]:
        """Return how answers are drawn."""
        return drawing_of(self.sampling)

    def budget(self, problem: Problem) -> int:
        """Return the tokens that surely fit beside the prompt, of which each is a byte at least."""
        if self.context is None:
            return self.sampling.max_tokens
        around = _TEMPLATE if self.form.is_chat else _MARKS
        room = self.context - around - len(self.prompt(problem).encode("utf-8", "surrogatepass"))
        return max(1, min(self.sampling.max_tokens, room))

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Answer | Refusal]]:
        """Yield answers and refusals as they come; raises EndpointError where the endpoint fails."""
        for question, reply in ask_many(self.client, questions, self._send):
            if isinstance(reply, RequestRefused):
                yield question, Refusal(reason=str(reply))
            else:
                yield (
                    question,
                    Answer(
                        text=self._text(reply),
                        prompt_tokens=reply.prompt_tokens,
                        num_tokens=reply.completion_tokens,
                        is_truncated=reply.is_truncated,
                    ),
                )

    def _text(self, reply: Reply) -> str:
        """Return the answer as this package's own engine writes it: with the string that stopped it.

        Not so where a server has taken the tags of an R1-Zero answer away: one alone would be malformed.
        """
        is_untagged = reply.stop == ANSWER_CLOSE and ANSWER_OPEN not in reply.text
        end = reply.stop if reply.stop in self.sampling.stop and not is_untagged else ""
        return ("" if self.form.is_chat else self.form.opened) + reply.whole + end

    def _send(self, question: Question) -> Reply:
        s = self.sampling
        draw = Draw(
            temperature=s.temperature,
            top_p=s.top_p,
            top_k=s.top_k,
            max_tokens=self._max_tokens(question.problem),
            stop=s.stop,
            seed=question.seed,
        )
        return self._request(self.prompt(question.problem), draw)

    def _request(self, prompt: str, draw: Draw) -> Reply:
        if self.form.is_chat:
            return self.client.chat([{"role": "user", "content": prompt}], draw)
        return self.client.complete(prompt, draw)

    def _max_tokens(self, problem: Problem) -> int | None:
        """Return the tokens to be sent; None for what is left of the context, which chats have by default.

        Where a prompt may be short enough, one token of an answer tells how long it is.
        """
        wanted, sure = self.sampling.max_tokens, self.budget(problem)
        if self.context is None or sure == wanted:
            return wanted
        if self.form.is_chat and self.context <= wanted:
            return None
        prompt = self.prompt(problem)
        if prompt not in self._rooms:
            length = self._request(prompt, Draw(max_tokens=1)).prompt_tokens
            self._rooms[prompt] = self.context - length if length else sure
        return max(1, min(wanted, self._rooms[prompt]))
