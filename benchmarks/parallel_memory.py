"""Memory and time of the parallel trainer: what each of its measures saves, on random weights.

    python benchmarks/parallel_memory.py [--tokens 128] [--prompt 256] [--group 8] [--json FILE]

1. Shared prompts in packed batches, against the padded batch of the same sequences.
2. Logits in pieces, against whole ones, with a vocabulary of 151,936 (Qwen2.5-0.5B's head).
3. Blocks computed again in the backward pass.
4. AdamW with moments in 8 bits, and LoRA of rank 16: bytes held between passes.

The model has the shape of SmolLM2-135M. Peaks are bytes of tensors held at once, beyond those held before;
times are the best of several, in turn. Without torchao or peft their lines are left out, and that is said.
"""

import zerone  # noqa: F401 - before torch, which reads once how threads wait

# isort: split
import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from zerone.device import Device
from zerone.errors import ConfigError
from zerone.model.lora import Adapters, Base, with_adapters
from zerone.model.packed import pack
from zerone.processes.machine import keep_freed_memory
from zerone.train.logprobs import read_logprobs
from zerone.train.memory import Resident, gigabytes, peak_of
from zerone.train.optim import adamw, adamw_8bit
from zerone.train.parallel import ParallelSettings, ParallelTrainer
from zerone.train.sft import CrossEntropy, MicroBatch

SMOLLM2 = LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    max_position_embeddings=8192,
    tie_word_embeddings=True,
    attn_implementation="sdpa",
)
QWEN_WIDTH, QWEN_VOCABULARY = 896, 151_936
CPU = Device()


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds and bytes of a pass."""

    seconds: float
    peak: int


def model_of() -> Any:
    """Return a random model."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(SMOLLM2, dtype=torch.float32)


def trainer_of(kind: Any = adamw, *, recompute: bool = False, rank: int = 0) -> ParallelTrainer:
    """Return a trainer of the model."""
    module, base = model_of(), None
    if rank:
        base = Base("random", "0" * 64)
        module = with_adapters(module, Adapters(rank=rank, alpha=32, targets=("all-linear",)), base, 0)
    settings = ParallelSettings(
        make_optimizer=lambda parameters: kind(parameters, 1e-4, (0.9, 0.95), 0.0), recompute=recompute
    )
    return ParallelTrainer(module, CPU, settings, base=base)


def group_of(prompt: int, group: int, tokens: int) -> MicroBatch:
    """Return a prompt with its completions, whose tokens carry loss."""
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> list[int]:
        return torch.randint(SMOLLM2.vocab_size, (length,), generator=generator).tolist()

    rows = [draw(tokens) for _ in range(group)]
    sources = prompt + torch.arange(group * tokens) - 1
    sources.view(group, tokens)[:, 0] = prompt - 1
    targets = torch.tensor([token for row in rows for token in row])
    return MicroBatch(packed=pack([(draw(prompt), rows)]), sources_C=sources, targets_C=targets)


class Logprobs(CrossEntropy):
    """The same loss by log-probabilities in pieces, as reinforcement learning reads them."""

    def loss(self, policy: Any, reference: Any, batch: MicroBatch) -> tuple[torch.Tensor, None]:
        logprobs_C, _ = policy.logprobs(batch, 1.0)
        return -logprobs_C.sum() / self.num_targets, None


def measured(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, Figures]:
    """Return best time and peak of each, timed in turn."""
    peaks = {name: peak_of(CPU, work) for name, work in works.items()}
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: Figures(best[name], peaks[name]) for name in works}


def a_pass(trainer: ParallelTrainer, batch: MicroBatch) -> Callable[[], None]:
    """Return a forward and backward pass."""

    def work() -> None:
        trainer.forward_backward([batch], Logprobs(len(batch.targets_C)))
        trainer.module.zero_grad(set_to_none=True)

    return work


def logits_passes(tokens: int) -> dict[str, Callable[[], None]]:
    """Return log-probabilities of `tokens` tokens at Qwen's vocabulary: whole, and in pieces."""
    torch.manual_seed(0)
    head = torch.nn.Linear(QWEN_WIDTH, QWEN_VOCABULARY, bias=False)
    hidden = torch.randn(tokens, QWEN_WIDTH, requires_grad=True)
    targets = torch.randint(QWEN_VOCABULARY, (tokens,))

    def work(vocabulary: int) -> None:
        logprobs, _ = read_logprobs(hidden, targets, lambda x: head(x).float(), vocabulary, 1.0)
        logprobs.sum().backward()
        head.zero_grad(set_to_none=True)
        hidden.grad = None

    return {"whole": lambda: work(1), "in pieces": lambda: work(QWEN_VOCABULARY)}


def held_by_each() -> dict[str, Resident]:
    """Return what trainings hold after an update."""
    found = {}
    batch = group_of(8, 1, 8)
    for name, options in {
        "AdamW": {},
        "AdamW in 8 bits": {"kind": adamw_8bit},
        "LoRA of rank 16": {"rank": 16},
    }.items():
        try:
            trainer = trainer_of(**options)  # type: ignore[arg-type]  # options of different types
        except ConfigError as error:
            print(f"{name}: left out, {error}")
            continue
        trainer.forward_backward([batch], Logprobs(8))
        trainer.step(1e-4)
        found[name] = trainer.resident()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--logits", type=int, default=1024, help="tokens at the large vocabulary")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    keep_freed_memory()  # as every run does
    torch.set_num_threads(arguments.threads)
    batch = group_of(arguments.prompt, arguments.group, arguments.tokens)
    number = arguments.group * (arguments.prompt + arguments.tokens)
    packed, again = trainer_of(), trainer_of(recompute=True)
    padded = trainer_of()
    padded.attention = "unpacked"
    tables = {
        f"{arguments.group} completions of {arguments.tokens} tokens, prompt {arguments.prompt}": measured(
            {
                "padded batch": a_pass(padded, batch),
                "packed, prompt shared": a_pass(packed, batch),
                "packed, blocks computed again": a_pass(again, batch),
            },
            arguments.repeats,
        ),
        f"logits of {arguments.logits} tokens, vocabulary {QWEN_VOCABULARY}": measured(
            logits_passes(arguments.logits), arguments.repeats
        ),
    }
    for title, rows in tables.items():
        print(title)
        first = next(iter(rows.values()))
        for name, row in rows.items():
            print(
                f"  {name:32} {row.seconds:7.2f} s {gigabytes(row.peak):>10}  "
                f"time x{row.seconds / first.seconds:.2f}, peak x{row.peak / first.peak:.2f}"
            )
    print(f"  ({number} tokens with the prompt repeated, {len(batch.packed.tokens_N)} packed)")
    held = held_by_each()
    print("held between passes, in fp32 with gradients")
    for name, one in held.items():
        print(
            f"  {name:32} weights {gigabytes(one.weights)}, gradients {gigabytes(one.gradients)}, "
            f"optimizer {gigabytes(one.optimizer)}, in all {gigabytes(one.total)}"
        )
    if arguments.json:
        raw = {
            title: {name: [row.seconds, row.peak] for name, row in rows.items()}
            for title, rows in tables.items()
        }
        raw["held"] = {name: [one.weights, one.gradients, one.optimizer] for name, one in held.items()}
        arguments.json.write_text(json.dumps(raw, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
