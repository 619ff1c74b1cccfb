"""A language model with one number as its output: how good, or how safe, a response is.

In: prompts and responses. Out: scores, and rewards from 0 to 1 on a known scale. A helpfulness model
reads the final answer alone, so that a thought can neither earn nor lose anything; a safety model
reads the whole response. On disk it is a transformers directory with the head beside the weights.

Dimensions: N packed tokens, R responses, D width.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from zerone.data.preferences import Kind, final_answer
from zerone.errors import CheckpointError, ModelError
from zerone.files import read_json
from zerone.identity import sha256_of_value
from zerone.model.decoder import Decoder
from zerone.model.loading import load_model, save_model, sync_path
from zerone.model.packed import Packed, common_prefix, pack, packed_hidden
from zerone.model.tokenizer import encode, encode_prompt, end_id
from zerone.prompts.r1 import Style, write_prompt
from zerone.runs.directory import write_atomically

HEAD_WEIGHTS = "reward_head.safetensors"
HEAD_ABOUT = "reward_head.json"

_TOKENS_PER_BATCH = 8192


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and responses to it, in tokens; the prompt is computed once for all of them."""

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]

    @property
    def num_tokens(self) -> int:
        """What it costs to score it."""
        return len(self.prompt) + sum(map(len, self.responses))

    @property
    def longest(self) -> int:
        """The tokens of the prompt with the longest response."""
        return len(self.prompt) + max(map(len, self.responses))


@dataclass(slots=True, kw_only=True)
class RewardModel:
    """A scorer. `mean` and `deviation` are those of its scores in training: the scale of rewards."""

    module: Any
    tokenizer: Any
    head: nn.Linear
    kind: Kind
    mean: float = 0.0
    deviation: float = 1.0
    weights_sha256: str = ""

    @property
    def sha256(self) -> str:
        """The hash of all that decides the rewards."""
        head = [*self.head.weight.flatten().tolist(), self.head.bias.item()]
        return sha256_of_value([self.weights_sha256, head, self.kind, self.mean, self.deviation])

    def score(self, prompt: str, response: str) -> float:
        """Return the score of one response."""
        return self.scores([(prompt, response)])[0]

    @torch.no_grad()
    def scores(self, responses: Sequence[tuple[str, str]]) -> list[float]:
        """Return the scores of (prompt, response) pairs; equal prompts next to each other cost less."""
        questions: list[Question] = []
        prompts: list[str] = []
        for prompt, response in responses:
            if prompts and prompts[-1] == prompt:
                last = questions.pop()
                row = self._response_ids(response)
                self._check(prompt, len(last.prompt) + len(row))
                questions.append(Question(last.prompt, (*last.responses, row)))
            else:
                prompts.append(prompt)
                questions.append(self.encode(prompt, [response]))
        decoder = Decoder(self.module)
        return [
            score
            for batch in batches_of(questions, _TOKENS_PER_BATCH)
            for score in scores_of(decoder, self.head, batch).tolist()
        ]

    def rewards(self, responses: Sequence[tuple[str, str]]) -> list[float]:
        """Return rewards from 0 to 1: a safety model's probability, else the place among known scores."""
        return [_sigmoid((score - self.mean) / self.deviation) for score in self.scores(responses)]

    def encode(self, prompt: str, responses: Sequence[str]) -> Question:
        """Return what is computed; raises ModelError for what is longer than the context."""
        question = self._question(prompt, responses)
        self._check(prompt, question.longest)
        return question

    def fits(self, prompt: str, responses: Sequence[str]) -> bool:
        """Whether a prompt has room in the context with each of the responses."""
        return self._question(prompt, responses).longest <= self._context

    @property
    def _context(self) -> int:
        return int(self.module.config.max_position_embeddings)

    def _question(self, prompt: str, responses: Sequence[str]) -> Question:
        ids = encode_prompt(self.tokenizer, write_prompt(prompt, style=Style.SUMMARY))
        return Question(ids, tuple(map(self._response_ids, responses)))

    def _check(self, prompt: str, num_tokens: int) -> None:
        if num_tokens > self._context:
            raise ModelError(
                f"a prompt and response of {num_tokens} tokens exceed the reward model's context of "
                f"{self._context}: {prompt[:60]!r}; leave it out or use another model"
            )

    def _response_ids(self, response: str) -> tuple[int, ...]:
        text = final_answer(response) if self.kind == "helpfulness" else response
        # It goes on from the prompt, so without the token of a beginning that some tokenizers put first.
        return (*encode(self.tokenizer, " " + text), end_id(self.tokenizer))


def new_head(width: int) -> nn.Linear:
    """Return a head that gives every response 0."""
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def batches_of(questions: Sequence[Question], max_tokens: int) -> Iterator[list[Question]]:
    """Cut questions into batches of about `max_tokens`, in order."""
    batch: list[Question] = []
    num_tokens = 0
    for question in questions:
        if batch and num_tokens + question.num_tokens > max_tokens:
            yield batch
            batch, num_tokens = [], 0
        batch.append(question)
        num_tokens += question.num_tokens
    if batch:
        yield batch


def scores_of(decoder: Decoder, head: nn.Linear, questions: Sequence[Question]) -> Tensor:
    """Return the scores [R] in fp32, response after response: the head at the end token of each."""
    prefix = common_prefix([question.prompt for question in questions]) if len(questions) > 1 else ()
    cut = len(prefix)
    packed = pack([(question.prompt[cut:], question.responses) for question in questions], prefix)
    hidden_ND = packed_hidden(decoder, packed)
    ends_R = _ends(packed, questions, cut)
    scores_R: Tensor = head(hidden_ND.index_select(0, ends_R).float()).squeeze(-1)
    return scores_R


def _ends(packed: Packed, questions: Sequence[Question], num_prefix: int) -> Tensor:
    """Return where in the flat batch each response ends."""
    ends, position = [], num_prefix
    for question in questions:
        position += len(question.prompt) - num_prefix
        for response in question.responses:
            position += len(response)
            ends.append(position - 1)
    if position != len(packed.tokens_N):
        raise AssertionError("the packed batch is not what was put into it")
    return torch.tensor(ends)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))


def save_reward_model(model: RewardModel, path: Path) -> None:
    """Write a transformers directory with the head in it; the head last, as it marks a reward model."""
    save_model(model.module, model.tokenizer, path)
    about = {"kind": model.kind, "mean": model.mean, "deviation": model.deviation, "format": 1}
    tensors = {"weight": model.head.weight.detach(), "bias": model.head.bias.detach()}
    try:
        (path / HEAD_WEIGHTS).write_bytes(save(tensors))
        sync_path(path / HEAD_WEIGHTS)
    except OSError as error:
        raise CheckpointError(f"cannot write {path / HEAD_WEIGHTS}: {error.strerror}") from error
    write_atomically(path / HEAD_ABOUT, json.dumps(about, indent=2) + "\n")


def load_reward_model(path: Path) -> RewardModel:
    """Read what `save_reward_model` wrote; raises ModelError for anything else."""
    directory = path if (path / HEAD_ABOUT).is_file() else path / "model"
    if not (directory / HEAD_ABOUT).is_file():
        raise ModelError(
            f"{path} is not a reward model (it has no {HEAD_ABOUT}); train one by `zerone reward-model`"
        )
    model = load_model(str(directory), torch.float32)
    head = new_head(int(model.module.config.hidden_size))
    try:
        about = read_json(directory / HEAD_ABOUT)
        if about["kind"] not in ("helpfulness", "safety"):
            raise ValueError(f"kind is {about['kind']!r}")
        head.load_state_dict(load_file(directory / HEAD_WEIGHTS))
        return RewardModel(
            module=model.module,
            tokenizer=model.tokenizer,
            head=head,
            kind=about["kind"],
            mean=float(about["mean"]),
            deviation=float(about["deviation"]),
            weights_sha256=model.sha256,
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the reward head in {directory} is damaged ({error}); train the model again"
        ) from error
