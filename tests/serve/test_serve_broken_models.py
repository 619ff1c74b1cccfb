"""A model that computes NaN is told as such, whoever asks for it and how; others are answered beside it.

Its weights are numbers, as ones that are not are refused when they are loaded: it overflows.
"""

import queue
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import zerone
from serving import Live, live_server
from streaming import scheduler_over, streamed
from zerone.engine.api import Delta, Failure
from zerone.engine.torch.batch import NO_NUMBERS
from zerone.model.decoder import Decoder
from zerone.model.loading import end_ids, load_model
from zerone.prompts.r1 import write_prompt

EMBEDDED = Path(zerone.__file__).parent / "world" / "embedded"


def damaged(path: Path, value: float) -> Path:
    """Write the embedded model with one number of its last norm replaced."""
    shutil.copytree(EMBEDDED, path)
    file = path / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("model.norm.weight"))
    tensors[name] = tensors[name].clone()
    tensors[name][0] = value
    save_file(tensors, file, metadata={"format": "pt"})
    return path


@pytest.fixture(scope="module", params=[3e38, -3e38], ids=["inf", "minus inf"])
def broken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("broken")
    with live_server(folder, model=str(damaged(folder / "broken", request.param)), key=None) as live:
        yield live


BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "3+4?"}]},
    "/v1/completions": {"prompt": "3+4?"},
    "/v1/responses": {"input": "3+4?"},
}


@pytest.mark.parametrize(
    ("address", "fields"),
    [
        *((address, {}) for address in BODIES),
        ("/v1/chat/completions", {"temperature": 0}),
        ("/v1/chat/completions", {"temperature": 0.7, "top_p": 0.9, "top_k": 5}),
        ("/v1/chat/completions", {"n": 3, "logprobs": True, "top_logprobs": 2}),
        ("/v1/completions", {"prompt": ["a", "b"], "temperature": 0}),
        ("/v1/chat/completions", {"thinking_budget": 1}),
    ],
)
def test_a_model_that_computes_nan_is_an_error_with_its_reason(
    broken: Live, address: str, fields: dict[str, Any]
) -> None:
    body = {"model": "broken", **BODIES[address], **fields}
    answer = httpx.post(broken.url + address, json=body, timeout=30)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (500, "server_error", "model_broken")
    assert error["message"] == NO_NUMBERS
    told = httpx.post(broken.url + address, json={**body, "stream": True}, timeout=30).text
    assert NO_NUMBERS in told
    broken.wait_until_idle()


class Overflowing(Decoder):
    """Computes NaN for the first of several rows after some steps."""

    num_steps = 0

    def logits(self, hidden_BD: Tensor) -> Tensor:
        logits_BV = super().logits(hidden_BD)
        self.num_steps += 1
        if len(logits_BV) > 1 and self.num_steps > 8:
            logits_BV[0] = float("nan")
        return logits_BV


def test_only_the_job_whose_numbers_are_none_fails() -> None:
    """Rows of two jobs are decoded together; after some steps the first row of them breaks."""
    model = load_model("embedded", torch.float32)
    limits = {"context": 1024, "max_rows": 8, "max_waiting": 8, "kv_bytes": 1 << 26}
    scheduler = scheduler_over(
        Overflowing(model.module, torch.float32), model.tokenizer, end_ids(model), **limits
    )
    arriving: list[queue.SimpleQueue[Delta | Failure]] = [queue.SimpleQueue(), queue.SimpleQueue()]
    jobs = [
        streamed(
            tuple(model.tokenizer(write_prompt(text))["input_ids"]), sink.put, temperature=0.0, max_tokens=40
        )
        for text, sink in zip(("What is 3 + 4?", "Compute 12*3-4."), arriving, strict=True)
    ]
    scheduler.start()
    try:
        scheduler.submit(jobs)
        ends = [last_of(sink) for sink in arriving]
    finally:
        scheduler.stop()
    assert ends[0] == Failure(message=NO_NUMBERS, is_lasting=True)
    assert isinstance(ends[1], Delta)


def last_of(arriving: "queue.SimpleQueue[Delta | Failure]") -> Delta | Failure:
    while True:
        said = arriving.get(timeout=30)
        if isinstance(said, Failure) or said.finish is not None:
            return said
