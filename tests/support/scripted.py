"""Models with a known mind, and what drives the real engine and the real loop with them.

`bandit` answers with one token, so its best policy can be written down. `talking_model` writes in
the R1-Zero template by a table of which token follows which, well-formed about half of the time:
there is something to learn from the first step on, and no training was needed to get there.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from fakes import Shape, byte_tokenizer, number_problem, tiny_model
from training import Learner, train
from zerone.config import Config, build_config
from zerone.data.jsonl import Fields, read_problems
from zerone.data.mixture import ListMixture
from zerone.engine.api import Engine, Request, SamplingParams
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.weights import ModuleWeights
from zerone.model.loading import save_model
from zerone.prompts.r1 import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from zerone.runs.directory import RunDir
from zerone.train.loop import Hooks
from zerone.types import Credited, Finish, Graded, Group, Outcome, Problem, Rollout

END = 0
"""The end token of every tokenizer here."""


def make_engine(
    model: Any, *, slots: int = 8, end_ids: Sequence[int] = (END,), tokenizer: Any = None
) -> TorchEngine:
    """Return an engine that holds the model's weights as version 0."""
    engine = TorchEngine(
        tokenizer or byte_tokenizer(), end_ids, model.config.max_position_embeddings, slots, torch.float32
    )
    engine.update_weights(ModuleWeights(model), 0)
    return engine


def ask(
    engine: Engine, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], sampling: SamplingParams
) -> list[list[Rollout]]:
    """Sample answers to bare prompts."""
    requests = [
        Request(problem=number_problem(i), prompt_ids=tuple(prompt), seeds=tuple(own))
        for i, (prompt, own) in enumerate(zip(prompts, seeds, strict=True))
    ]
    return engine.generate(requests, sampling)


@torch.no_grad()
def forced_logprobs(model: Any, rollout: Rollout, temperature: float = 1.0) -> Tensor:
    """Return the log-probabilities of a completion's tokens by transformers' own forward pass."""
    ids = torch.tensor([[*rollout.prompt_ids, *rollout.completion_ids]])
    logits = model(ids).logits[0, len(rollout.prompt_ids) - 1 : -1] / temperature
    logprobs: Tensor = logits.log_softmax(-1).gather(1, ids[0, len(rollout.prompt_ids) :, None])
    return logprobs.squeeze(1)


def copies(model: Any) -> dict[str, Tensor]:
    """Return the parameters as they are now."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def is_unchanged(model: Any, before: Mapping[str, Tensor]) -> bool:
    """Whether every parameter still has the bits that `copies` saw."""
    return all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


# Groups made by hand ------------------------------------------------------------------------------


def member(
    *,
    prompt: Sequence[int] = (1, 2),
    completion: Sequence[int] = (3,),
    logprobs: Sequence[float] | None = None,
    reward: float = 1.0,
    outcome: Outcome | None = None,
    finish: Finish = Finish.STOP,
    text: str = "",
    sample: int = 0,
    problem: Problem | None = None,
    answer: str | None = None,
) -> Graded:
    """Return a graded rollout of given tokens; right if its reward is at least 1."""
    is_right = reward >= 1.0 if outcome is None else outcome is Outcome.CORRECT
    return Graded(
        rollout=Rollout(
            problem=problem or number_problem(),
            sample=sample,
            prompt_ids=tuple(prompt),
            completion_ids=tuple(completion),
            sampler_logprobs=tuple([-1.0] * len(completion) if logprobs is None else logprobs),
            text=text,
            finish=finish,
            weight_version=0,
        ),
        outcome=outcome or (Outcome.CORRECT if is_right else Outcome.WRONG),
        parts={"accuracy": float(is_right), "format": 0.0},
        reward=reward,
        answer=answer,
    )


def group(members: Sequence[Graded]) -> Group:
    """Return a group of these members."""
    return Group(problem=members[0].rollout.problem, members=tuple(members))


def credited(members: Sequence[Graded], advantages: Sequence[float]) -> Credited:
    """Return a group with advantages chosen by the test."""
    return Credited(group=group(members), advantages=tuple(advantages))


def group_as_sampled(model: Any, advantages: Sequence[float], shift: float = 0.0) -> Credited:
    """Return a group of one-token answers with the model's own log-probabilities, or a shift of them."""
    blanks = [member(completion=(3 + j,), sample=j) for j in range(len(advantages))]
    members = [
        member(
            completion=blank.rollout.completion_ids,
            logprobs=(forced_logprobs(model, blank.rollout) + shift).tolist(),
            sample=blank.rollout.sample,
        )
        for blank in blanks
    ]
    return credited(members, advantages)


# The loop around a model --------------------------------------------------------------------------


def make_config(**options: Any) -> Config:
    """Return a small configuration; options are written with `__` for the dot.

    What shapes the numbers is named here, so that a new default of the package changes no test.
    """
    small = {
        "rl.problems_per_step": 4,
        "rl.group_size": 8,
        "rl.minibatches": 2,
        "rl.epochs": 1,
        "rl.microbatch_tokens": 256,
        "loss.aggregation": "token",
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.28,
        "optim.learning_rate": 5e-4,
        "optim.warmup_updates": 0,
        "optim.beta1": 0.9,
        "optim.beta2": 0.95,
        "optim.weight_decay": 0.0,
        "optim.max_grad_norm": 1.0,
        "reward.accuracy": 1.0,
        "reward.format": 0.1,
        "sampling.max_tokens": 24,
        "sampling.slots": 16,
    }
    return build_config(small | {name.replace("__", "."): value for name, value in options.items()})


def silent_hooks() -> Hooks:
    """Return hooks that do nothing."""
    return Hooks(before_step=lambda step: None, after_step=lambda metrics, timing, groups: None)


def new_run(path: Path) -> RunDir:
    """Return a run directory that exists."""
    path.mkdir(parents=True, exist_ok=True)
    return RunDir(path)


# A bandit: every answer is one token --------------------------------------------------------------

NUM_ARMS = 8
_NUM_BANDIT_TOKENS = 1 + 2 * NUM_ARMS


@functools.cache
def bandit_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of the end token, whole answers (the arms), and questions."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<|end|>"]
    words += [f"{ANSWER_OPEN}{arm}{ANSWER_CLOSE}" for arm in range(NUM_ARMS)]
    words += [f"question{i}" for i in range(NUM_ARMS)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=words[0])


def bandit_model(seed: int = 0) -> Any:
    """Return a tiny random model that is nearly indifferent between the bandit's tokens."""
    model = tiny_model(Shape(tied=False), seed)
    model.resize_token_embeddings(_NUM_BANDIT_TOKENS)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.1)
    return model


def bandit_problems(count: int) -> list[Problem]:
    """Return questions that each have another right arm, judged by the verifier of exact texts."""
    return [
        Problem(
            id=f"bandit-{i}",
            family="bandit",
            level=1,
            language="en",
            prompt=f"question{i} question{i}",
            verifier="exact",
            spec={"answer": str((3 * i + 1) % NUM_ARMS)},
        )
        for i in range(count)
    ]


def bandit_prompt(problem: Problem) -> tuple[int, ...]:
    """Return a question as tokens."""
    return tuple(bandit_tokenizer()(problem.prompt)["input_ids"])


def bandit_config(**options: Any) -> Config:
    return make_config(
        **{
            "sampling__max_tokens": 1,
            "reward__format": 0.0,
            "rl__problems_per_step": 8,
            "rl__group_size": 16,
            "optim__learning_rate": 0.01,
            # More slots than answers to a step: what happens otherwise is tested with the engine.
            "sampling__slots": 256,
        }
        | options
    )


def bandit_engine(model: Any, config: Config) -> TorchEngine:
    return make_engine(model, slots=config.sampling.slots, tokenizer=bandit_tokenizer())


def bandit_mixture(config: Config, count: int = 4) -> ListMixture:
    return ListMixture(
        seed=config.seed, problems=bandit_problems(count), problems_per_step=config.rl.problems_per_step
    )


def play(config: Config, learner: Learner, engine: Any, path: Path, count: int = 4) -> RunDir:
    """Train on the bandit and return the run."""
    run = new_run(path)
    train(config, learner, engine, bandit_mixture(config, count), bandit_prompt, run, silent_hooks())
    return run


# A model that writes in the template --------------------------------------------------------------

_THOUGHTS = "abcdefgh"
_DIGITS = "0123456789"


def _follows() -> list[tuple[list[str], dict[str, float]]]:
    """Return (tokens that are followed alike, what follows them with which share)."""
    thoughts, digits = list(_THOUGHTS), list(_DIGITS)

    def shares(among: Sequence[str], total: float) -> dict[str, float]:
        return dict.fromkeys(among, total / len(among))

    return [
        ([":"], {THINK_OPEN: 0.85} | shares(thoughts, 0.15)),
        ([THINK_OPEN], shares(thoughts, 1.0)),
        (thoughts, {THINK_CLOSE: 0.4} | shares(thoughts, 0.6)),
        ([THINK_CLOSE], {ANSWER_OPEN: 0.85} | shares(digits, 0.15)),
        ([ANSWER_OPEN], shares(digits, 1.0)),
        (digits, {ANSWER_CLOSE: 0.8} | shares(digits, 0.2)),
        ([ANSWER_CLOSE], {byte_tokenizer().eos_token: 0.8} | shares(thoughts, 0.2)),
    ]


def talking_model(seed: int = 0, *, kind: Any = "qwen3", context: int = 1024) -> Any:
    """Return a tiny model whose next token depends mostly on the last one, as `_follows` says.

    Each class of tokens has a channel of its own in the embedding; the output head reads the
    channel and answers with the logarithms of the shares. Attention and MLP add a little.
    """
    model = tiny_model(Shape(kind=kind, tied=False, context=context), seed)
    ids = byte_tokenizer().get_vocab()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.1)
            layer.mlp.down_proj.weight.mul_(0.1)
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedding.mul_(0.5)
        head.mul_(0.1)
        for channel, (tokens, shares) in enumerate(_follows()):
            gain = embedding.shape[1] ** 0.5
            head[:, channel] = -6.0 / gain
            for token, share in shares.items():
                head[ids[token], channel] = (6.0 + torch.tensor(share).log()) / gain
            for token in tokens:
                embedding[ids[token], channel] = 8.0
        model.model.norm.weight.fill_(1.0)
    return model


def short_prompt(problem: Problem) -> tuple[int, ...]:
    """Return the bytes of the question and of the colon that the talking model answers to."""
    return tuple(byte_tokenizer()(f"{problem.prompt}:")["input_ids"])


def write_problems(path: Path, count: int = 24) -> Path:
    """Write a JSONL file of questions with one digit as the answer."""
    lines = [
        json.dumps({"prompt": f"Say {i % 10}, please ({i}).", "answer": str(i % 10)}) for i in range(count)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def play_digits(config: Config, learner: Learner, engine: Any, folder: Path) -> RunDir:
    """Train on saying a digit and return the run."""
    problems = read_problems(write_problems(folder / "problems.jsonl"), Fields()).problems
    mixture = ListMixture(seed=config.seed, problems=problems, problems_per_step=config.rl.problems_per_step)
    run = new_run(folder / "run")
    train(config, learner, engine, mixture, short_prompt, run, silent_hooks())
    return run


def save_talking_model(path: Path, kind: Any = "qwen3") -> Path:
    """Write the talking model as a transformers directory."""
    save_model(talking_model(kind=kind), byte_tokenizer(), path)
    return path
