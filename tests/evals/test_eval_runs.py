"""Evaluations from end to end: a local model, the same model behind HTTP, stops, failures, judges.

The model is the embedded base and the server a real one on loopback that runs the same engine.
"""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from evaluating import evaluate
from model_server import Answered, Server, completion, refusal, serving
from zerone.cli.eval import app
from zerone.config import Config
from zerone.engine.api import Request, SamplingParams
from zerone.engine.remote import Endpoint, EndpointClient
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.weights import ModuleWeights
from zerone.errors import (
    DataError,
    EndpointError,
    EndpointUnusable,
    Interrupted,
    ModelError,
    RunDirError,
    UserError,
)
from zerone.evals.asking import Form, answer_of, message_of, prompt_of
from zerone.evals.judged import Judged
from zerone.evals.pairwise import judge_pairs, pairwise_figures, read_verdict
from zerone.evals.sources import Choice, load_source
from zerone.evals.store import Answer, AnswerStore
from zerone.intervals import wilson_interval
from zerone.model.loading import Model, end_ids, load_model
from zerone.prompts.r1 import visible_answer
from zerone.types import Finish, Outcome, Problem

OPTIONS = ["model.precision=fp32", "model.threads=1"]
GREEDY = ["sampling.temperature=0", "sampling.max_tokens=48", *OPTIONS]
SMOLLM2 = Path(__file__).parents[2] / "models" / "smollm2-135m"
GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_test.jsonl"
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}User: {{ m['content'] }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:<think>{% endif %}"
)


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the embedded model with a chat template that opens the thought."""
    path = tmp_path_factory.mktemp("models") / "chat"
    shutil.copytree(str(resources.files("zerone") / "world" / "embedded"), path)
    (path / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "sums.jsonl"
    rows = [{"prompt": f"What is {i} + {i + 1}?", "answer": 2 * i + 1} for i in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Host:
    """A server's side of a model: the same engine, greedy, one request at a time."""

    def __init__(self, path: str) -> None:
        self.model: Model = load_model(path, torch.float32)
        context = int(self.model.module.config.max_position_embeddings)
        self.engine = TorchEngine(self.model.tokenizer, end_ids(self.model), context, 4, torch.float32)
        self.engine.update_weights(ModuleWeights(self.model.module), 0)

    def encode(self, prompt: str, is_chat: bool) -> tuple[int, ...]:
        return tuple(self.model.tokenizer(prompt, add_special_tokens=not is_chat)["input_ids"])

    def answer(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Answered:
        if path.endswith("/models"):
            return Answered(body={"data": [{"id": "base"}]})
        if path.endswith("/chat/completions"):
            prompt = self.model.tokenizer.apply_chat_template(
                body["messages"], tokenize=False, add_generation_prompt=True
            )
        else:
            prompt = body["prompt"]
        request = Request(
            problem=PROBLEM,
            prompt_ids=self.encode(prompt, path.endswith("/chat/completions")),
            seeds=(body["seed"],),
        )
        sampling = SamplingParams(temperature=body["temperature"], max_tokens=body["max_tokens"])
        [[rollout]] = self.engine.generate([request], sampling)
        finish = "length" if rollout.finish is Finish.LENGTH else "stop"
        thought, closed, rest = rollout.text.partition("</think>")
        if path.endswith("/chat/completions") and closed:
            return completion(rest, reasoning=thought, tokens=len(rollout.completion_ids), finish=finish)
        return completion(rollout.text, tokens=len(rollout.completion_ids), finish=finish)


PROBLEM = Problem(
    id="p", family="f", level=1, language="en", prompt="1+1?", verifier="math", spec={"answer": "2"}
)


def questions(server: Server) -> list[Mapping[str, Any]]:
    """Return what was asked of a server; its list of models, which each evaluation reads, has no body."""
    return [body for body in server.asked if body]


def verdicts(out: Path, suite: str) -> list[tuple[str, int, str, str | None, int]]:
    lines = (out / f"{suite}.samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        (row["problem"], row["sample"], row["outcome"], row["answer"], row["num_tokens"])
        for row in map(json.loads, lines)
    ]


# Local and behind HTTP ----------------------------------------------------------------------------


def test_a_model_and_the_same_model_behind_http_get_the_same_verdicts(tmp_path: Path) -> None:
    common = ["--suite", "sums", "--limit", "12", "--k", "1", *GREEDY]
    local = evaluate("embedded", *common, "--out", tmp_path / "local")
    with serving(Host("embedded").answer) as server:
        remote = evaluate(server.url, *common, "--out", tmp_path / "remote", "--concurrency", "1")
    assert verdicts(tmp_path / "local", "sums") == verdicts(tmp_path / "remote", "sums")
    same = ("pass_at_1", "format", "response_tokens", "truncated", "levels", "outcomes", "protocol")
    assert {key: local[key] for key in same} == {key: remote[key] for key in same}
    assert remote["model"] == "base", "the only model there need not be named"
    found = evaluate("compare", tmp_path / "local", tmp_path / "remote" / "sums.json")
    assert (found["num_problems"], found["difference"], found["p_value"]) == (12, 0.0, 1.0)


def test_a_chat_gives_the_same_verdicts_on_both_sides(
    chat_model: Path, problems: Path, tmp_path: Path
) -> None:
    common: list[str | Path] = ["--suite", problems, "--k", "1", *GREEDY]
    local = evaluate(chat_model, *common, "--out", tmp_path / "local")
    with serving(Host(str(chat_model)).answer) as server:
        evaluate(server.url, *common, "--out", tmp_path / "remote", "--concurrency", "1")
        assert server.asked[-1]["messages"][0]["content"].endswith("inside \\boxed{}.")
    assert local["protocol"]["form"] == "chat"
    assert verdicts(tmp_path / "local", "sums") == verdicts(tmp_path / "remote", "sums")


@pytest.mark.real
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="zerone model smollm2-135m --out models/smollm2-135m")
@pytest.mark.skipif(not GSM8K.exists(), reason="the public data are not here")
def test_smollm2_on_gsm8k_gets_the_same_verdicts_behind_http(tmp_path: Path) -> None:
    common: list[str | Path] = [
        "--suite",
        GSM8K,
        "--limit",
        "8",
        "--k",
        "1",
        "sampling.temperature=0",
        "sampling.max_tokens=160",
    ]
    evaluate(SMOLLM2, *common, *OPTIONS, "--out", tmp_path / "local")
    with serving(Host(str(SMOLLM2)).answer) as server:
        evaluate(server.url, *common, "--out", tmp_path / "remote", "--concurrency", "1")
    assert verdicts(tmp_path / "local", "gsm8k") == verdicts(tmp_path / "remote", "gsm8k")


def test_the_papers_way_to_draw_is_the_default_but_for_embedded_suites(problems: Path) -> None:
    with serving(lambda *_: completion("\\boxed{1}")) as server:
        found = evaluate(server.url, "--model", "m", "--suite", problems)
        embedded = evaluate(server.url, "--model", "m", "--suite", "sums", "--limit", "1")
    wanted = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 32768}
    assert found["protocol"].items() >= wanted.items()
    assert found["num_samples"] == 4
    assert embedded["protocol"].items() >= {"temperature": 1.0, "top_p": 1.0, "max_tokens": 448}.items()
    assert "messages" in questions(server)[0] and "prompt" in questions(server)[-1]


def test_a_local_model_is_given_no_more_tokens_than_its_context_has(problems: Path) -> None:
    found = evaluate("embedded", "--suite", problems, "--k", "1", "--limit", "1", *OPTIONS)
    assert 0 < found["protocol"]["max_tokens"] < 32768


def test_a_chat_is_refused_without_a_template_and_the_json_names_what_was_done(problems: Path) -> None:
    with pytest.raises(ModelError, match="no chat template; leave out --chat"):
        evaluate("embedded", "--suite", problems, "--chat", *OPTIONS)


# Stops and failures -------------------------------------------------------------------------------


def counted(answers: int, then: Answered) -> Callable[..., Answered]:
    """Answer so many questions, then fail; the list of models is none."""
    count = iter(range(10_000))
    return lambda _, body, __: completion("\\boxed{1}") if not body or next(count) < answers else then


def test_an_endpoint_that_dies_keeps_what_was_done_and_the_same_command_goes_on(
    problems: Path, tmp_path: Path
) -> None:
    common: list[str | Path] = [
        "--model",
        "m",
        "--suite",
        problems,
        "--k",
        "4",
        "--concurrency",
        "2",
        "--tries",
        "2",
    ]
    common += ["--out", tmp_path]
    answer: list[Callable[..., Answered]] = [counted(10, refusal(500, "out of memory"))]
    with serving(lambda *request: answer[0](*request)) as server:
        with pytest.raises(EndpointError, match=r"out of memory.*; 10 answers are kept in .*same command"):
            evaluate(server.url, *common)
        assert not (tmp_path / "sums.json").exists()
        asked = len(questions(server))
        answer[0] = counted(1000, refusal(500, "unused"))
        record = evaluate(server.url, *common)
        assert len(questions(server)) - asked == 24 - 10, "what was answered is not asked again"
        assert (record["num_problems"], record["num_samples"], record["refused"]) == (6, 4, 0)
        again = len(questions(server))
        assert evaluate(server.url, *common) == record
        assert len(questions(server)) == again, "all comes from the store"
        evaluate(server.url, *common, "sampling.temperature=0.7")
        assert len(questions(server)) == again + 24, "another way to draw is another question"


def test_a_local_model_that_is_stopped_keeps_the_problems_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AIME's own k is 64, so that 12 slots have work enough in one problem at a time."""
    path = tmp_path / "aime24.jsonl"
    rows = [{"problem": f"What is {i} + 2?", "answer": str(i + 2)} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    common: list[str | Path] = ["--suite", path, "--out", tmp_path / "out", *OPTIONS]
    common += ["sampling.slots=12", "sampling.max_tokens=2"]
    asked: list[int] = []
    generate = TorchEngine.generate

    def stopped_at_the_second(self: TorchEngine, requests: Any, sampling: SamplingParams) -> Any:
        asked.append(sum(len(request.seeds) for request in requests))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return generate(self, requests, sampling)

    monkeypatch.setattr(TorchEngine, "generate", stopped_at_the_second)
    with pytest.raises(Interrupted, match="64 answers are kept"):
        evaluate("embedded", *common)
    record = evaluate("embedded", *common)
    assert asked == [64, 64, 64, 64], "what was answered is not asked again"
    assert (record["num_problems"], record["num_samples"]) == (3, 64)


def test_what_an_endpoint_refuses_is_counted_and_is_no_wrong_answer(problems: Path, tmp_path: Path) -> None:
    def answer(path: str, body: Mapping[str, Any], headers: Any) -> Answered:
        content = body["messages"][0]["content"] if body else ""
        return refusal(400, "too long") if "What is 0" in content else completion("\\boxed{3}")

    with serving(answer) as server:
        found = evaluate(server.url, "--model", "m", "--suite", problems, "--k", "1", "--out", tmp_path)
    assert (found["refused"], found["verifier_errors"]) == (1, 1)
    assert found["pass_at_1"] == pytest.approx(1 / 5), "one of the five that were answered"
    assert len(json.loads((tmp_path / "sums.json").read_text())["problems"]) == 5


def test_an_endpoint_that_refuses_everything_is_an_error(problems: Path) -> None:
    with (
        serving(lambda *_: refusal(400, "no such field")) as server,
        pytest.raises(EndpointError, match="no such field"),
    ):
        evaluate(server.url, "--model", "m", "--suite", problems, "--k", "1")


def test_of_several_models_one_must_be_named(problems: Path) -> None:
    with (
        serving(lambda *_: Answered(body={"data": [{"id": "a"}, {"id": "b"}]})) as server,
        pytest.raises(EndpointUnusable, match=r"serves 2 models \(a, b\); choose one by --model"),
    ):
        evaluate(server.url, "--suite", problems)


def test_of_several_judges_one_must_be_named_by_the_judges_option(
    arena: tuple[list[str | Path], Path],
) -> None:
    common, _ = arena
    with (
        serving(lambda *_: Answered(body={"data": [{"id": "a"}, {"id": "b"}]})) as server,
        pytest.raises(EndpointUnusable, match=r"serves 2 models \(a, b\); choose one by --judge-model NAME"),
    ):
        evaluate(server.url, "--model", "m", *common, "--judge", server.url)


def test_a_line_that_was_cut_off_is_dropped_and_a_foreign_one_refused(tmp_path: Path) -> None:
    answer = Answer(text="hi", prompt_tokens=1, num_tokens=2, is_truncated=False)
    with AnswerStore(tmp_path) as store:
        store.put("a", "p", 0, answer)
        with pytest.raises(RunDirError, match="in use by another evaluation"), AnswerStore(tmp_path):
            pass
    path = tmp_path / "answers.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-9])
    with AnswerStore(tmp_path) as store:
        assert (len(store), store.get("a")) == (1, answer)
        store.put("b", "p", 1, answer)
    with AnswerStore(tmp_path) as store:
        assert len(store) == 2
    path.write_bytes(whole + b'{"x": 1}\n')
    with pytest.raises(RunDirError, match=r"answers\.jsonl:2 is not an answer"), AnswerStore(tmp_path):
        pass


def test_a_rating_is_that_of_rated_problems_and_what_was_left_out_is_told(tmp_path: Path) -> None:
    row = {
        "description": "Print twice the number.",
        "examples": [],
        "official_tests": [{"input": "4", "output": "8"}],
    }
    rows = [
        row | {"id": "solved", "rating": 1000},
        row | {"id": "unrated", "rating": None, "description": "Print a number."},
        row | {"id": "special", "rating": 3000, "generated_checker": "..."},
    ]
    path = tmp_path / "codeforces.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    program = "```python\nprint(2 * int(input()))\n```"
    with serving(lambda *_: completion(program)) as server:
        found = evaluate(server.url, "--model", "m", "--suite", path, "--k", "1")
        unrated = path.with_name("codeforces_2.jsonl")
        unrated.write_text(json.dumps(rows[1]) + "\n", encoding="utf-8")
        without = evaluate(server.url, "--model", "m", "--suite", unrated, "--k", "1")
        shown = CliRunner().invoke(app, [server.url, "--model", "m", "--suite", str(path), "--k", "1"])
    assert found["problems_left_out"] == {"needs a checker of its own": 1}
    assert (found["num_problems"], found["pass_at_1"]) == (2, 1.0)
    assert (found["rating"]["num_problems"], found["rating"]["mean_problem_rating"]) == (1, 1000)
    assert (without["pass_at_1"], without.get("rating")) == (1.0, None)
    assert "left out of the suite: 1 needs a checker of its own" in shown.stdout
    assert re.search(r"  pass_at_k 1 +1\.000 \(0\.\d+ to 1\.000\)\n", shown.stdout)
    assert re.search(
        r"  codeforces/1000 +100\.0% of 1; 0% no readable answer, 3 tokens, 0% cut off\n", shown.stdout
    )


RATINGS = {"A": "1500", "B": "1600.0", "C": "", "D": " "}


def test_a_rating_in_a_csv_is_a_text_and_none_is_empty(tmp_path: Path) -> None:
    tests = json.dumps([{"input": "4", "output": "8"}])
    path = tmp_path / "codeforces.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "description", "rating", "examples", "official_tests"])
        rows.writerows([[name, "Print twice.", rating, "[]", tests] for name, rating in RATINGS.items()])
    found = load_source(Config(), str(path), None, Choice()).problems
    assert [problem.spec.get("rating") for problem in found] == [1500.0, 1600.0, None, None]
    assert [problem.level for problem in found] == [1500, 1600, 0, 0]


@pytest.mark.parametrize("rating", ["high", "-3", "nan", "1e9"])
def test_another_text_is_no_rating(rating: str, tmp_path: Path) -> None:
    tests = [{"input": "4", "output": "8"}]
    row = {"id": "A", "description": "Print twice.", "rating": rating, "official_tests": tests}
    path = tmp_path / "codeforces.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"must hold the problem's rating or null, not '{rating}'"):
        load_source(Config(), str(path), None, Choice())


# Forms --------------------------------------------------------------------------------------------


def choice(text: str, verifier: str = "choice", **form: Any) -> str | None:
    problem = Problem(id="p", family="f", level=1, language="en", prompt="?", verifier=verifier, spec={})
    return answer_of(problem, text, Form(**({"is_chat": True} | form)))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So.\nAnswer: C", "C"),
        ("<think>Answer: A</think>**Answer:** B", "B"),
        ("Answer: A\nNo.\nanswer: D.", "D."),
        ("The box: \\boxed{C}", "C"),
        ("Answer: B, and boxed \\boxed{C}", "C"),
        ("I do not know", None),
        # The letter of the box stands in later words, too.
        ("\\boxed{C}\nAnswer: B\nClearly.", "B"),
        ("\\boxed{A}, or so.\nAnswer: B, As shown", "B, As shown"),
        ("Answer: A\n\\boxed{D}", "D"),
        ("\\boxed{D}\nAnswer:", "D"),
    ],
)
def test_the_choice_of_a_chat_is_its_last_answer_line_or_box(text: str, answer: str | None) -> None:
    assert choice(text) == answer


def test_what_is_said_comes_after_the_thought() -> None:
    assert visible_answer("<think>hm</think>\n hello ") == "hello"
    assert visible_answer("hello") == "hello"
    assert visible_answer("<think>never ending") is None
    assert visible_answer("<think>hm</think>\n<think>never ending") is None
    assert choice("<think>x</think> all of it", "instructions") == "all of it"


def test_prompts_say_where_the_answer_goes() -> None:
    assert message_of(PROBLEM) == "1+1?\n\nReason step by step, and put your final answer inside \\boxed{}."
    assert prompt_of(PROBLEM, Form(is_chat=False, opened="<think>")).endswith("User: 1+1?\nAssistant:<think>")


# Judged by comparison -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("[[A>>B]]", 2.0, -2.0),
        ("mine ... [[A>B]]", 1.0, -1.0),
        ("[[A>B]] no: [[B>>A]]", -2.0, 2.0),
        ("[[A=B]]", 0.0, 0.0),
        ("[[B=A]]", 0.0, 0.0),
        ("[[A<B]]", -1.0, 1.0),
        ("[[B<<A]]", 2.0, -2.0),
        ("my verdict: [[a>>b]]", 2.0, -2.0),
        ("my verdict: [A>B]", 1.0, -1.0),
        ("not [B>A], in the end [[A>B]], or [B>A]", 1.0, -1.0),
        ("A is better", None, None),
        ("A > B", None, None),
        ("[[C>B]]", None, None),
        ("[[A>A]]", None, None),
    ],
)
def test_a_judges_last_verdict_counts_for_the_side_it_names(
    text: str, first: float | None, second: float | None
) -> None:
    assert (read_verdict(text, True), read_verdict(text, False)) == (first, second)


@pytest.mark.parametrize(
    ("reply", "is_truncated", "score"),
    [
        ("Because. [[A>B]]", False, 1.0),
        ("At first [[A>B]], but then", True, None),
        ("<think>[[B>A]]?</think>[[A>B]]", False, 1.0),
        ("<think>[[B>A]]?</think>hard to say", False, None),
        ("<think>[[B>A]]? or", False, None),
    ],
)
def test_what_a_judge_weighs_on_its_way_is_no_verdict(
    reply: str, is_truncated: bool, score: float | None
) -> None:
    problem = replace(PROBLEM, verifier="pairwise", spec={"reference": "base"})
    finish = "length" if is_truncated else "stop"
    with (
        serving(lambda *_: completion(reply, finish=finish)) as server,
        EndpointClient(Endpoint(url=server.url, model="j")) as client,
        AnswerStore(None) as store,
    ):
        [judged] = judge_pairs([pending(problem)], client, store)
    # The same reply names A both times, who is the candidate once and the reference once.
    assert judged.details["scores"] == [score, None if score is None else -score]


def pending(problem: Problem) -> Judged:
    """Return an answer that waits for its judge."""
    return Judged(
        problem=problem,
        sample=0,
        text="mine",
        prompt_tokens=1,
        num_tokens=1,
        is_truncated=False,
        outcome=Outcome.INFRASTRUCTURE_ERROR,
        answer=None,
        is_well_formed=True,
    )


def played(scores: list[float], length: int = 5) -> Judged:
    """Return an answer that was judged in both orders."""
    preference = sum((score > 0) + (score == 0) / 2 for score in scores) / len(scores)
    details = {"scores": scores, "preference": preference, "length": length, "reference_length": 5}
    return replace(pending(PROBLEM), details=details)


def test_a_clear_verdict_counts_as_three_games_among_those_of_all_requests() -> None:
    """arena-hard-auto's show_result: [[A>>B]] is a won game three times in the list of all games."""
    won, lost = [2.0, 2.0], [-1.0, -1.0]
    found = pairwise_figures([played(won), played(lost)])
    assert (found["win_rate"], found["win_rate_weighted"]) == (0.5, 6 / 8)
    found = pairwise_figures([played([1.0, 1.0]), played([-2.0, 0.0])])
    assert found["win_rate_weighted"] == pytest.approx((1 + 1 + 0 + 0.5) / (1 + 1 + 3 + 1))


def test_a_request_with_one_game_alone_is_not_in_arena_hards_rate() -> None:
    """arena-hard-auto leaves out a question one of whose two judgements has no score."""
    half = played([1.0, 1.0])
    half = replace(half, details={**half.details, "scores": [2.0, None]})
    found = pairwise_figures([half, played([-1.0, -1.0]), played([1.0, 1.0])])
    assert found["win_rate_weighted"] == 0.5
    assert found["judge_errors"] == 1
    assert "win_rate_weighted" not in pairwise_figures([half])
    assert pairwise_figures([half])["win_rate"] == 1.0


def test_every_win_rate_has_an_interval() -> None:
    games = [played([1.0, 1.0], length=5 + i % 7) for i in range(20)]
    games += [played([-2.0, -1.0], length=5 + i % 3) for i in range(10)]
    found = pairwise_figures(games)
    for name in ("win_rate", "win_rate_weighted", "win_rate_length_controlled"):
        low, high = found[f"{name}_ci"]
        # Of 30 requests, 95% of the shares are within about 0.17 of the mean; the others' weigh more.
        assert found[name] - 0.4 < low < found[name] < high < found[name] + 0.4
    assert pairwise_figures(games) == found, "the seed is fixed"
    alike = pairwise_figures(games[:5])
    for name in ("win_rate", "win_rate_weighted", "win_rate_length_controlled"):
        assert alike[f"{name}_ci"] == list(wilson_interval(1.0, 5))


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[tuple[list[str | Path], Path]]:
    rows = [
        {"uid": f"u{i}", "category": "arena-hard-v0.1", "cluster": "c", "prompt": f"Request {i}"}
        for i in range(4)
    ]
    questions, answers = tmp_path / "questions.jsonl", tmp_path / "baseline.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    turns = [{"question_id": f"u{i}", "choices": [{"turns": [{"content": "base"}]}]} for i in range(4)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in turns), encoding="utf-8")
    yield ["--suite", "arena_hard", "--data", questions, "--baseline", answers], tmp_path


def judging(path: str, body: Mapping[str, Any], headers: Any) -> Answered:
    """Answer as a candidate, and judge: it wins 0 twice, 1 by place only, 2 never; 3 has no verdict."""
    content = str(body["messages"][0]["content"]) if body else ""
    if "---- request " not in content:
        return completion("<think>secret</think>candidate")
    assert "secret" not in content, "only what is said is judged"
    is_first = content.index("candidate") < content.index("base\n")
    number = int(content.split("Request ")[1][0])
    verdict = [
        "[[A>>B]]" if is_first else "[[B>>A]]",
        "[[A>B]]",
        "[[B>A]]" if is_first else "[[A>B]]",
        "hard to say",
    ][number]
    return completion(f"Because. {verdict}")


def test_pairs_are_judged_in_both_orders_and_a_silent_judge_is_counted(
    arena: tuple[list[str | Path], Path],
) -> None:
    common, folder = arena
    with serving(judging) as server:
        found = evaluate(
            server.url, "--model", "m", *common, "--judge", server.url, "--judge-model", "j", "--out", folder
        )
        games = [body for body in questions(server) if body["model"] == "j"]
        assert len(games) == 8
        again = len(questions(server))
        evaluate(
            server.url, "--model", "m", *common, "--judge", server.url, "--judge-model", "j", "--out", folder
        )
        assert len(questions(server)) == again, "verdicts are kept too"
    pairwise = found["pairwise"]
    assert pairwise["win_rate"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert pairwise["judge_errors"] == 2
    assert pairwise["position_consistency"] == pytest.approx(2 / 3)
    assert found["outcomes"]["infrastructure_error"] == 1
    assert (pairwise["mean_length"], pairwise["mean_reference_length"]) == (9, 4)


def test_comparisons_need_a_judge_and_a_baseline(arena: tuple[list[str | Path], Path]) -> None:
    common, _ = arena
    with pytest.raises(UserError, match="name its endpoint by --judge URL"):
        evaluate("embedded", *common)
    with pytest.raises(UserError, match="--baseline FILE"):
        evaluate("embedded", *common[:-2], "--judge", "http://127.0.0.1:1")


def test_a_judge_that_refuses_everything_is_an_error(arena: tuple[list[str | Path], Path]) -> None:
    common, folder = arena

    def answer(path: str, body: Mapping[str, Any], headers: Any) -> Answered:
        return refusal(400, "no such field") if body.get("model") == "j" else completion("candidate")

    with (
        serving(answer) as server,
        pytest.raises(EndpointError, match=r"judge refuses everything: .*no such field.*4 answers are kept"),
    ):
        judge = ["--judge", server.url, "--judge-model", "j"]
        evaluate(server.url, "--model", "m", *common, *judge, "--out", folder / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "m"], "--model m names a model behind an address, and embedded is none"),
        (["--judge", "http://127.0.0.1:1"], "--judge: suite 'sums' is judged by rules"),
        (["--judge-model", "j", "--baseline", "b.jsonl"], "--judge-model, --baseline: suite 'sums'"),
        (["--since", "2024-08-01"], "choose by the date of a contest, and suite 'sums' has none"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate("embedded", "--suite", "sums", *options)


def test_figures_are_shown_with_their_intervals(arena: tuple[list[str | Path], Path]) -> None:
    common, _ = arena
    with serving(judging) as server:
        judge = ["--judge", server.url, "--judge-model", "j"]
        shown = CliRunner().invoke(app, [*map(str, [server.url, "--model", "m", *common, *judge])]).stdout
    assert re.search(r"pairwise win_rate +0\.500 \(0\.\d+ to 1\.000\)", shown)
    assert "[" not in shown and "None" not in shown


# The other commands -------------------------------------------------------------------------------


def test_contamination_and_suites_from_the_command_line(problems: Path, tmp_path: Path) -> None:
    found = evaluate("contamination", problems, "--suite", problems)
    assert (found["share"], found["num_hit"]) == (1.0, 6)
    listed = CliRunner().invoke(app, ["suites"]).stdout
    assert all(name in listed for name in ("mini-aime", "aime24", "arena_hard"))


def test_records_of_other_suites_and_other_files_are_not_compared(tmp_path: Path) -> None:
    for name, suite in (("a", "x"), ("b", "y")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"suite": suite, "problems": {"p": 1.0}}))
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(UserError, match="compare the same suite"):
        evaluate("--compare", tmp_path / "a.json", tmp_path / "b.json")
    with pytest.raises(UserError, match=r"c\.json is not a record"):
        evaluate("compare", tmp_path / "c.json", tmp_path / "c.json")
    with pytest.raises(UserError, match="holds 3 records"):
        evaluate("compare", tmp_path, tmp_path)


def test_a_log_of_inspect_ai_is_read_back_by_it(problems: Path, tmp_path: Path) -> None:
    log = pytest.importorskip("inspect_ai.log", reason="the extra `inspect` is not installed")
    path = tmp_path / "log.json"
    with serving(lambda *_: completion("\\boxed{3}", finish="length")) as server:
        evaluate(server.url, "--model", "m", "--suite", problems, "--k", "2", "--inspect-log", path)
    read = log.read_eval_log(str(path))
    assert (read.status, read.eval.model, read.eval.dataset.samples) == ("success", "m", 6)
    right = [sample for sample in read.samples if sample.scores["zerone"].value == "C"]
    assert len(read.samples) == 12
    assert len({sample.id for sample in right}) == 1
    assert [sample.epoch for sample in right] == [1, 2]
    assert right[0].output.completion == "\\boxed{3}"
    assert read.results.scores[0].metrics["pass_at_1"].value == pytest.approx(1 / 6)


def test_an_inspect_log_of_another_ending_is_refused_before_anything_is_asked(problems: Path) -> None:
    with serving(lambda *_: completion("x")) as server:
        with pytest.raises(UserError, match=r"ends in \.json or \.eval"):
            evaluate(server.url, "--model", "m", "--suite", problems, "--inspect-log", "log.txt")
        assert server.asked == []
