"""Who answers: the model in this process, or one behind HTTP. Both are asked the same questions.

In: questions, each a prompt with a seed. Out: answers as they come, so that each can be kept at once.
A local model is asked in parts of some problems, an endpoint by as many requests as it may have at a
time. What an endpoint refuses (a prompt that is too long for it, say) is a Refusal, not an answer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Protocol

from zerone.endpoint import Draw, EndpointClient, Reply, ask_many
from zerone.errors import RequestRefused
from zerone.evals.asking import Form, message_of, prompt_of
from zerone.evals.store import Answer
from zerone.rollout.engine import Engine, Request, Sampling
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
    """Why an endpoint would not answer a question."""

    reason: str


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

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Answer | Refusal]]:
        """Yield an answer to each question, in any order."""
        ...


def drawing_of(sampling: Sampling) -> dict[str, Any]:
    """Return how answers are drawn, as JSON."""
    return asdict(sampling) | {"stop": list(sampling.stop)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAnswerer:
    """The model in this process. `render` makes the prompt of a problem, `encode` its tokens.

    `problems_at_once` are sampled together: what an interruption loses at most.
    """

    identity: str
    engine: Engine
    sampling: Sampling
    form: Form
    render: Callable[[Problem], str]
    encode: Callable[[str], tuple[int, ...]]
    problems_at_once: int

    def prompt(self, problem: Problem) -> str:
        """Return the text that the model continues."""
        return self.render(problem)

    def drawing(self) -> Mapping[str, Any]:
        """Return how answers are drawn."""
        return drawing_of(self.sampling)

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Answer | Refusal]]:
        """Yield the answers to some problems at a time."""
        groups = [list(own) for _, own in groupby(questions, key=lambda question: question.problem.id)]
        for start in range(0, len(groups), self.problems_at_once):
            part = groups[start : start + self.problems_at_once]
            requests = [
                Request(
                    problem=own[0].problem,
                    prompt_ids=self.encode(self.render(own[0].problem)),
                    seeds=tuple(question.seed for question in own),
                )
                for own in part
            ]
            for own, rollouts in zip(part, self.engine.generate(requests, self.sampling), strict=True):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAnswerer:
    """A model behind HTTP: spoken to as a chat, or given a template's text to continue."""

    client: EndpointClient
    sampling: Sampling
    form: Form

    @property
    def identity(self) -> str:
        """Address, model and kind of request."""
        endpoint = self.client.endpoint
        return f"{endpoint.address} {endpoint.model} {'chat' if self.form.is_chat else 'completions'}"

    def prompt(self, problem: Problem) -> str:
        """Return the message of a chat, or the text to be continued."""
        return message_of(problem) if self.form.is_chat else prompt_of(problem, self.form)

    def drawing(self) -> Mapping[str, Any]:
        """Return how answers are drawn."""
        return drawing_of(self.sampling)

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Answer | Refusal]]:
        """Yield answers and refusals as they come; raises EndpointError where the endpoint fails."""
        for question, reply in ask_many(self.client, questions, self._send):
            if isinstance(reply, RequestRefused):
                yield question, Refusal(reason=str(reply))
            else:
                yield (
                    question,
                    Answer(
                        text=("" if self.form.is_chat else self.form.opened) + reply.whole,
                        prompt_tokens=reply.prompt_tokens,
                        num_tokens=reply.completion_tokens,
                        is_truncated=reply.is_truncated,
                    ),
                )

    def _send(self, question: Question) -> Reply:
        s = self.sampling
        draw = Draw(
            temperature=s.temperature,
            top_p=s.top_p,
            top_k=s.top_k,
            max_tokens=s.max_tokens,
            stop=s.stop,
            seed=question.seed,
        )
        prompt = self.prompt(question.problem)
        if self.form.is_chat:
            return self.client.chat([{"role": "user", "content": prompt}], draw)
        return self.client.complete(prompt, draw)
