"""A string that ends answers is part of them on both sides of HTTP, where the server names it."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluating import evaluate
from model_server import Answered, completion, serving
from serving import live_server
from zerone.engine.api import SamplingParams
from zerone.engine.remote import Endpoint, EndpointClient
from zerone.evals.answerers import EndpointAnswerer, Question
from zerone.evals.asking import Form
from zerone.evals.store import Answer
from zerone.types import Problem


def texts(out: Path) -> list[tuple[str, str]]:
    """Return text and outcome of each sample."""
    lines = (out / "sums.samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["text"], row["outcome"]) for row in map(json.loads, lines)]


def test_a_model_and_the_same_behind_zerone_serve_end_at_the_same_string(tmp_path: Path) -> None:
    asked = ["--suite", "sums", "--limit", "8", "--k", "1", "sampling.temperature=0"]
    asked += ["sampling.max_tokens=160", 'sampling.stop=["</answer>"]']
    with live_server(tmp_path, key=None) as live:
        there = evaluate(f"{live.url}/v1", *asked, "--no-chat", "--out", tmp_path / "there")
    here = evaluate("embedded", *asked, "--out", tmp_path / "here")
    assert texts(tmp_path / "there") == texts(tmp_path / "here")
    assert any(text.endswith("</answer>") for text, _ in texts(tmp_path / "there"))
    assert there["format"] == here["format"] > 0


PROBLEM = Problem(
    id="p", family="f", level=1, language="en", prompt="1+1?", verifier="number", spec={"answer": "2"}
)


@pytest.mark.parametrize(
    ("text", "stop_reason", "end"),
    [
        ("<answer>2", "</answer>", "</answer>"),
        ("2", "</answer>", ""),  # a server that has taken the tags away
        ("2", "\n\n", "\n\n"),
        ("<answer>2", "Q:", ""),  # not one of those asked for
        ("<answer>2", 151643, ""),  # a token, as vLLM names the end of a text
        ("<answer>2</answer>", None, ""),
    ],
)
def test_the_string_that_a_server_names_is_put_back(text: str, stop_reason: Any, end: str) -> None:
    def answer(*_: Any) -> Answered:
        answered = completion(text)
        answered.body["choices"][0]["stop_reason"] = stop_reason
        return answered

    sampling = SamplingParams(stop=("</answer>", "\n\n"))
    with serving(answer) as server, EndpointClient(Endpoint(url=server.url, model="m")) as client:
        answerer = EndpointAnswerer(client=client, sampling=sampling, form=Form(is_chat=True))
        [(_, got)] = answerer.ask([Question(problem=PROBLEM, sample=0, seed=1, key="k")])
    assert isinstance(got, Answer)
    assert got.text == text + end
