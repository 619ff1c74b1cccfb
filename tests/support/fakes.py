"""Small stand-ins that every test may use: models, a tokenizer, problems, graded groups.

They are real objects made small (stock transformers classes with random weights, our own types),
never imitations of zerone's code, so a test that uses them tests what a user would run.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from zerone.corpus.tokenizer import train_tokenizer
from zerone.problems import arithmetic, countdown
from zerone.seeding import rng_from
from zerone.types import Credited, Finish, Graded, Group, Outcome, Problem, Rollout

Kind = Literal["qwen2", "qwen3", "llama"]

NUM_TOKENS = 261
"""256 bytes, the end token and the four tags: the vocabulary of `byte_tokenizer`."""

_LLAMA3_SCALING = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What makes one tiny model differ from another."""

    kind: Kind = "qwen3"
    kv_heads: int = 2
    tied: bool = True
    biases: bool = False
    llama3_rope: bool = False
    layers: int = 2
    width: int = 32
    head_dim: int = 16
    context: int = 512

    def __str__(self) -> str:
        """Name the shape for the reports of parametrised tests."""
        flags = [name for name in ("tied", "biases", "llama3_rope") if getattr(self, name)]
        return "-".join([self.kind, f"{self.kv_heads}of4kv", *flags])


def tiny_model(shape: Shape = Shape(), seed: int = 0) -> Any:
    """Return a random fp32 model in evaluation mode.

    Weights are drawn ten times wider than transformers would and norms and biases are moved off 1
    and 0: otherwise attention is nearly uniform, logits are nearly equal, and a forgotten norm or
    bias changes nothing that a test could see.
    """
    torch.manual_seed(seed)
    stock: dict[str, Any] = {
        "vocab_size": NUM_TOKENS,
        "hidden_size": shape.width,
        "intermediate_size": 48,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": shape.tied,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    model = _MAKERS[shape.kind](stock, shape).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def _qwen2(stock: dict[str, Any], shape: Shape) -> Any:
    return Qwen2ForCausalLM(Qwen2Config(**stock))


def _qwen3(stock: dict[str, Any], shape: Shape) -> Any:
    return Qwen3ForCausalLM(Qwen3Config(**stock, head_dim=shape.head_dim, attention_bias=shape.biases))


def _llama(stock: dict[str, Any], shape: Shape) -> Any:
    if shape.llama3_rope:
        stock = {**stock, "rope_parameters": dict(_LLAMA3_SCALING)}
    config = LlamaConfig(**stock, attention_bias=shape.biases, mlp_bias=shape.biases, head_dim=shape.head_dim)
    return LlamaForCausalLM(config)


_MAKERS = {"qwen2": _qwen2, "qwen3": _qwen3, "llama": _llama}


def unsupported_config() -> PreTrainedConfig:
    """Return the configuration of an architecture that zerone does not compute."""
    from transformers import GPT2Config

    return GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=NUM_TOKENS, bos_token_id=0, eos_token_id=0)


@functools.cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer without merges: one token per byte, and one per tag."""
    return train_tokenizer([], NUM_TOKENS)


def random_tokens(length: int, *seed: int | str) -> tuple[int, ...]:
    """Return token ids of `byte_tokenizer` other than the end token."""
    rng = rng_from("tokens", *seed)
    return tuple(rng.randrange(1, NUM_TOKENS) for _ in range(length))


def number_problem(number: int = 7) -> Problem:
    """Return the easiest problem there is: say the number."""
    return Problem(
        id=f"say-{number}",
        family="say",
        level=1,
        language="en",
        prompt=f"Say {number}.",
        verifier="number",
        spec={"answer": str(number)},
    )


def few_problems() -> list[Problem]:
    """Return one English and one Chinese problem of the first and last level of each family."""
    return [
        family.draw(rng_from("few", family.FAMILY, level, language), level, language)
        for family in (countdown, arithmetic)
        for level in (family.LEVELS[0], family.LEVELS[-1])
        for language in ("en", "zh")
    ]


def graded(
    problem: Problem,
    sample: int = 0,
    *,
    text: str = "<think>7</think>\n<answer>7</answer>",
    reward: float = 1.1,
) -> Graded:
    """Return a rollout of `byte_tokenizer` with a verdict; any reward of at least 1 counts as right."""
    completion_ids = (*byte_tokenizer()(text)["input_ids"], 0)
    is_right = reward >= 1.0
    return Graded(
        rollout=Rollout(
            problem=problem,
            sample=sample,
            prompt_ids=tuple(byte_tokenizer()(problem.prompt)["input_ids"]),
            completion_ids=completion_ids,
            sampler_logprobs=tuple(-0.25 * (1 + i % 4) for i in range(len(completion_ids))),
            text=text,
            finish=Finish.STOP,
            weight_version=0,
        ),
        outcome=Outcome.CORRECT if is_right else Outcome.WRONG,
        parts={"accuracy": float(is_right), "format": 1.0},
        reward=reward,
        answer="7",
    )


def credited(problem: Problem, rewards: Sequence[float], advantages: Sequence[float]) -> Credited:
    """Return a group with these rewards and advantages."""
    members = tuple(graded(problem, sample, reward=reward) for sample, reward in enumerate(rewards))
    return Credited(group=Group(problem=problem, members=members), advantages=tuple(advantages))
