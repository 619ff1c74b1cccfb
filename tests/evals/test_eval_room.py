"""How many tokens an answer of an evaluation may have in a short context; and whose answers are kept.

The served model is the embedded base behind `zerone serve`; a small server plays others.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluating import evaluate
from fakes import Shape, byte_tokenizer, tiny_model
from model_server import Answered, completion, refusal, serving
from serving import live_server
from whole_groups import WholeGroups, problem_of
from zerone.engine.api import Request, SamplingParams
from zerone.engine.remote import Endpoint, EndpointClient
from zerone.engine.torch.engine import TorchEngine
from zerone.errors import ModelError
from zerone.evals.answerers import EndpointAnswerer, LocalAnswerer, Question, Refusal
from zerone.evals.asking import Form
from zerone.evals.store import Answer
from zerone.model.loading import save_model
from zerone.types import Finish, Problem, Rollout


def suite_of(path: Path, *questions: str) -> Path:
    rows = [{"prompt": question, "answer": 3} for question in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def problem(prompt: str) -> Problem:
    return Problem(
        id=prompt,
        family="f",
        level=1,
        language="en",
        prompt=prompt,
        verifier="number",
        spec={"answer": "3"},
    )


def question(prompt: str, seed: int = 1) -> Question:
    return Question(problem=problem(prompt), sample=seed - 1, seed=seed, key=f"{prompt} {seed}")


# A local model ------------------------------------------------------------------------------------


class Counting(WholeGroups):
    """An engine that writes as much as it may, and notes of which prompts at once."""

    weight_version = 0

    def __init__(self) -> None:
        self.calls: list[tuple[list[int], int]] = []

    def update_weights(self, source: Any, version: int) -> None: ...

    def sleep(self) -> None: ...

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Rollout]]:
        self.calls.append(([len(request.prompt_ids) for request in requests], sampling.max_tokens))
        return [
            [
                Rollout(
                    problem=problem_of(request),
                    sample=sample,
                    prompt_ids=request.prompt_ids,
                    completion_ids=(1,) * sampling.max_tokens,
                    sampler_logprobs=(0.0,) * sampling.max_tokens,
                    text=str(seed),
                    finish=Finish.LENGTH,
                    weight_version=0,
                )
                for sample, seed in enumerate(request.seeds)
            ]
            for request in requests
        ]


def local(engine: Counting, max_tokens: int, *, fits_budget: bool = True) -> LocalAnswerer:
    return LocalAnswerer(
        identity="m",
        engine=engine,
        sampling=SamplingParams(max_tokens=max_tokens),
        form=Form(is_chat=False),
        render=lambda problem: problem.prompt,
        encode=lambda text: (1,) * len(text),
        context=1024,
        problems_at_once=100,
        fits_budget=fits_budget,
    )


def test_each_problem_gets_what_its_own_prompt_leaves() -> None:
    engine = Counting()
    answerer = local(engine, 1024)
    lengths = [100, 101, 1000, 1015, 400]
    asked = [question(f"{i}" + "x" * (n - 1), seed) for i, n in enumerate(lengths) for seed in (1, 2)]
    answers = list(answerer.ask(asked))
    assert sorted(one.key for one, _ in answers) == sorted(one.key for one in asked)
    for one, answer in answers:
        room = 1024 - len(one.problem.prompt)
        assert isinstance(answer, Answer) and answer.text == str(one.seed)
        assert room - 16 < answer.num_tokens <= room, "but for a 64th of the context"
        assert answer.num_tokens == answerer.budget(one.problem)
    assert [lengths for lengths, _ in engine.calls] == [[100, 101], [1000], [1015], [400]], (
        "alike ones at once"
    )


def test_answers_that_have_room_enough_are_sampled_together_as_they_were() -> None:
    engine = Counting()
    list(local(engine, 448).ask([question("x" * n) for n in (1, 200, 576)]))
    assert engine.calls == [([1, 200, 576], 448)]


@pytest.mark.parametrize(
    ("fits", "lengths", "reason"),
    [
        (True, (1024, 1500), "has no room for a prompt of 1024; choose another model"),
        (False, (577,), "of 577 and sampling.max_tokens=448; lower sampling.max_tokens or leave it out"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_and_no_other_one(
    fits: bool, lengths: Sequence[int], reason: str
) -> None:
    engine = Counting()
    found = list(local(engine, 448, fits_budget=fits).ask([question("x" * n) for n in (10, *lengths)]))
    refused = [answer for _, answer in found if isinstance(answer, Refusal)]
    assert len(refused) == len(lengths) and reason in refused[0].reason
    assert engine.calls == [([10], 448)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a random model with a context of 512 bytes."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(tiny_model(Shape(context=512)), byte_tokenizer(), path)
    return path


def test_one_long_prompt_neither_ends_an_evaluation_nor_shortens_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[int] = []
    generate = TorchEngine.generate

    def spied(self: TorchEngine, requests: Any, sampling: SamplingParams) -> Any:
        budgets.append(sampling.max_tokens)
        return generate(self, requests, sampling)

    monkeypatch.setattr(TorchEngine, "generate", spied)
    common = ["--k", "1", "model.threads=1"]
    found = evaluate(model, "--suite", suite_of(tmp_path / "a.jsonl", "1+2?", "2+1?" + "x" * 600), *common)
    assert (found["refused"], found["num_problems"]) == (1, 2)
    assert found["outcomes"]["infrastructure_error"] == 1
    assert len(budgets) == 1 and budgets[0] > 150, "what the short one leaves"
    assert found["protocol"]["max_tokens"] == 512, "the most that it could be"
    too_long = suite_of(tmp_path / "b.jsonl", "x" * 600)
    with pytest.raises(ModelError, match="a context of 512 tokens has no room for a prompt of"):
        evaluate(model, "--suite", too_long, *common)


# An endpoint --------------------------------------------------------------------------------------

CONTEXT = 4096


def short_server(path: str, body: Mapping[str, Any], headers: Any, most: int = CONTEXT) -> Answered:
    """Answer as servers with a context of 4096 do; a token is a letter, and a chat has 50 more."""
    if not body:
        return Answered(body={"data": [{"id": "m", "max_model_len": most}]})
    is_chat = "messages" in body
    length = len(body["messages"][0]["content"]) + 50 if is_chat else len(body["prompt"])
    wanted = body.get("max_tokens", 1 if is_chat else 16)
    if length + wanted > most:
        return refusal(400, f"context {most}, prompt {length}, wanted {wanted}")
    answered = completion("\\boxed{3}")
    answered.body["usage"]["prompt_tokens"] = length
    return answered


def test_a_chat_leaves_the_tokens_to_a_server_of_a_shorter_context(tmp_path: Path) -> None:
    suite = suite_of(tmp_path / "a.jsonl", "1+2?", "2+1?" + "x" * 3900)
    with serving(short_server) as server:
        found = evaluate(server.url, "--suite", suite, "--k", "1")
        given = evaluate(server.url, "--suite", suite, "--k", "1", "sampling.max_tokens=500")
    sent = [body.get("max_tokens") for body in server.asked if body]
    assert (found["pass_at_1"], found["refused"]) == (1.0, 0)
    assert sent[:2] == [None, None] and sent[2:] == [500, 500], "what is given is sent as it is"
    assert given["refused"] == 1
    assert found["protocol"]["max_tokens"] == CONTEXT


def test_a_text_to_be_continued_is_given_what_its_prompt_leaves(tmp_path: Path) -> None:
    suite = suite_of(tmp_path / "a.jsonl", "1+2?", "2+1?" + "x" * 3000)
    common: list[str | Path] = ["--suite", suite, "--k", "2", "--no-chat", "--concurrency", "1"]
    common += ["--out", tmp_path / "out"]
    with serving(short_server) as server:
        found = evaluate(server.url, *common)
        sent = [body for body in server.asked if body]
        assert evaluate(server.url, *common) == found
        assert len([body for body in server.asked if body]) == len(sent), "all comes from the store"
    asked = [body for body in sent if body["max_tokens"] > 1]
    assert (found["refused"], len(asked)) == (0, 4)
    assert all(len(body["prompt"]) + body["max_tokens"] == CONTEXT for body in asked)
    assert len(sent) == 4 + 2, "the length of a prompt is asked for once"


def test_a_context_beyond_the_papers_tokens_keeps_them(tmp_path: Path) -> None:
    suite = suite_of(tmp_path / "a.jsonl", "1+2?", "2+1?" + "x" * 3000)

    def large(path: str, body: Mapping[str, Any], headers: Any) -> Answered:
        return short_server(path, body, headers, most=34_000)

    with serving(large) as server:
        found = evaluate(server.url, "--suite", suite, "--k", "1", "--concurrency", "1")
    assert found["refused"] == 0
    short, length, long = (body for body in server.asked if body)
    assert (short["max_tokens"], length["max_tokens"]) == (32768, 1)
    assert long["max_tokens"] == 34_000 - 50 - len(long["messages"][0]["content"])


def test_a_server_that_tells_no_context_is_sent_the_papers_tokens(tmp_path: Path) -> None:
    with serving(lambda *_: completion("\\boxed{3}")) as server:
        evaluate(server.url, "--model", "m", "--suite", suite_of(tmp_path / "a.jsonl", "1+2?"), "--k", "1")
    assert [body["max_tokens"] for body in server.asked if body] == [32768]


@pytest.mark.parametrize("how", ["--chat", "--no-chat"])
def test_our_own_server_answers_a_published_suite_without_being_told_its_context(
    how: str, tmp_path: Path
) -> None:
    data = tmp_path / "gsm8k.jsonl"
    rows = [{"question": f"What is {i} + 2?", "answer": f"#### {i + 2}"} for i in range(2)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with live_server(tmp_path, key=None) as live:
        suite: list[str | Path] = ["--suite", "gsm8k", "--data", data, "--k", "1"]
        found = evaluate(f"{live.url}/v1", *suite, how, "--out", tmp_path / "out")
        listed = json.loads(live.get("/v1/models"))["data"][0]
    assert (found["refused"], found["verifier_errors"], found["num_problems"]) == (0, 0, 2)
    assert found["fingerprint"] == listed["fingerprint"]
    assert listed["fingerprint"].startswith("zerone-")


# Whose answers they are ---------------------------------------------------------------------------


def told(fingerprint: object) -> Callable[..., Answered]:
    about = {"id": "m"} if fingerprint is None else {"id": "m", "fingerprint": fingerprint}
    return lambda _, body, __: completion("\\boxed{3}") if body else Answered(body={"data": [about]})


def test_another_model_under_the_same_name_is_asked_again(tmp_path: Path) -> None:
    suite = suite_of(tmp_path / "a.jsonl", "1+2?")
    answer = [told("one")]
    with serving(lambda *request: answer[0](*request)) as server:
        counts = []
        for answer[0] in (told("one"), told("one"), told("two"), told("one")):
            before = sum(bool(body) for body in server.asked)
            found = evaluate(
                server.url, "--model", "m", "--suite", suite, "--k", "1", "--out", tmp_path / "o"
            )
            counts.append(sum(bool(body) for body in server.asked) - before)
    assert counts == [1, 0, 1, 0]
    assert found["fingerprint"] == "one"


@pytest.mark.parametrize("fingerprint", [None, 7])
def test_of_others_the_name_is_all_there_is(fingerprint: object) -> None:
    with (
        serving(told(fingerprint)) as server,
        EndpointClient(Endpoint(url=server.url, model="m")) as client,
    ):
        assert client.about_model().get("fingerprint") == fingerprint
        answerer = EndpointAnswerer(client=client, sampling=SamplingParams(), form=Form(is_chat=True))
        assert answerer.identity == f"{server.url} m chat"


@pytest.mark.parametrize(
    "listed",
    [refusal(404, "no"), refusal(401, "no"), Answered(body=[]), Answered(body={"data": {"id": "m"}})],
)
def test_a_server_without_a_list_of_models_tells_nothing(listed: Answered) -> None:
    with (
        serving(lambda *_: listed) as server,
        EndpointClient(Endpoint(url=server.url, model="m")) as client,
    ):
        assert client.about_model() == {}
