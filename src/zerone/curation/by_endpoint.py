"""A larger model as refiner and as judge, behind any endpoint that speaks the OpenAI protocol.

In: drafts, or a request with an answer. Out: drafts rewritten for readers, which is asked for as one
JSON object (R1 paper, B.3.2); verdicts by the rubric that RL is paid by (evals/rubric.py). What is not
in the form asked for is asked for again with another seed, a few times; after that the draft is
unrefined or unjudged, which is counted. An endpoint that is down raises its EndpointError, and so does
one that says nothing usable of many drafts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from zerone.curation.drafts import Draft
from zerone.engine.remote import Draw, EndpointClient, ask_many
from zerone.errors import EndpointError, RequestRefused
from zerone.evals.rubric import KEPT_FROM, Rubric
from zerone.prompts.r1 import Style, parse_completion, style_for, write_completion
from zerone.seeding import seed_from
from zerone.types import Outcome, Problem

_Found = TypeVar("_Found")

_REFINE = """\
You edit the notes of someone who solves problems, so that others like to read them. You get a question,
the notes, and the final answer, which is right.

Write the notes again as a train of thought in the first person ("I"), in the language of the question
({language}). Keep every step that matters, also tries that fail and what is noticed about them. Use short
paragraphs and plain words, no headings, no lists, no code blocks. Add no step and no fact.
Then write a summary for the reader: how the answer is reached, shortly, in the same language{box}.

Answer with one JSON object and nothing else: {{"thought": "...", "summary": "..."}}

Question:
{question}

Notes:
{thought}

Final answer:
{answer}
"""
TELLING = 8
"""So many drafts, none rewritten or judged usably, speak against the endpoint; fewer against the drafts."""

_BOX = ", ending with the final answer, unchanged, inside \\boxed{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How an endpoint is asked: `tries` is how often for one usable answer."""

    seed: int = 0
    temperature: float = 0.6
    max_tokens: int = 8192
    tries: int = 3


def refine_by_endpoint(
    client: EndpointClient, drafts: Sequence[Draft], style: Style, asking: Asking
) -> list[Draft | None]:
    """Return each draft as the endpoint rewrites it, in order; None where it could not.

    Raises EndpointError where the endpoint fails, or rewrites not one of many drafts usably.
    """
    refined: list[Draft | None] = [None] * len(drafts)
    refusal = ""
    answers = ask_many(client, enumerate(drafts), lambda job: _rewritten(client, job[1], style, asking))
    for (number, _), result in answers:
        if isinstance(result, RequestRefused):
            refusal = refusal or str(result)
        else:
            refined[number] = result
    if len(drafts) >= TELLING and not any(refined):
        why = refusal or (
            f"model {client.endpoint.model!r} must answer with the JSON object it is asked for, in "
            f"{asking.max_tokens} tokens"
        )
        raise EndpointError(
            f"{client.endpoint.address} rewrote none of {len(drafts)} drafts usably ({why}); what was "
            "refined before is kept"
        )
    return refined


def _rewritten(client: EndpointClient, draft: Draft, style: Style, asking: Asking) -> Draft | None:
    problem = draft.problem
    parsed = parse_completion(draft.text, draft.style)
    wanted = style_for(problem, style)
    content = _REFINE.format(
        language=problem.language,
        box=_BOX if wanted is Style.BOXED else "",
        question=problem.prompt,
        thought=parsed.thought,
        answer=parsed.answer,
    )

    def read(reply: Mapping[str, Any]) -> Draft:
        thought, summary = (_text(reply, name) for name in ("thought", "summary"))
        # In tags the answer stands alone; the summary is the endpoint's in the other styles.
        if wanted is Style.TAGS:
            text = write_completion(thought, str(parsed.answer), wanted)
        else:
            text = write_completion(thought, summary, Style.SUMMARY)
        if not parse_completion(text, wanted).is_well_formed:
            raise ValueError("reasoning or a summary with tags, or without the box, in it")
        return Draft(problem=problem, source=draft.source, number=draft.number, text=text, style=wanted)

    return _ask(client, content, ("refine", problem.id, draft.source, draft.number), asking, read)


def judge_by_endpoint(client: EndpointClient, problem: Problem, answer: str, asking: Asking) -> Outcome:
    """Return what the endpoint says of an answer; no usable verdict is an infrastructure error."""
    rubric = Rubric(
        seed=asking.seed,
        temperature=asking.temperature,
        max_tokens=asking.max_tokens,
        tries=asking.tries,
    )
    reference = problem.spec.get("reference") or problem.spec.get("answer")
    try:
        points = rubric.points(client, problem.prompt, answer, str(reference) if reference else None)
    except RequestRefused:
        points = None
    if points is None:
        return Outcome.INFRASTRUCTURE_ERROR
    return Outcome.CORRECT if points >= KEPT_FROM else Outcome.WRONG


def _ask(
    client: EndpointClient,
    content: str,
    purpose: tuple[int | str, ...],
    asking: Asking,
    read: Callable[[Mapping[str, Any]], _Found],
) -> _Found | None:
    """Ask until the answer is a JSON object that `read` takes; None after `tries` in vain."""
    for number in range(asking.tries):
        draw = Draw(
            temperature=asking.temperature,
            max_tokens=asking.max_tokens,
            seed=seed_from(asking.seed, *purpose, number),
        )
        reply = client.chat([{"role": "user", "content": content}], draw)
        try:
            return read(json_object(reply.text))
        except (ValueError, LookupError, RecursionError):
            continue
    return None


def json_object(text: str) -> Mapping[str, Any]:
    """Return the JSON object in an answer, which may stand in a fence or between words."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError("no JSON object")
    value = json.loads(text[start : end + 1], strict=False)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def _text(reply: Mapping[str, Any], name: str) -> str:
    value = reply[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is not text")
    value.encode("utf-8")  # half a surrogate pair is no character, and JSON can hold one
    return value.strip()
