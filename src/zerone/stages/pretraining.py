"""Makes the embedded base model with its provenance (`zerone pretrain`)."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from zerone import __version__
from zerone.config import Config
from zerone.corpus.documents import Habits
from zerone.machine import available_cores, commit_of_source, cpu_name, keep_freed_memory, known_machine
from zerone.model.loading import PROVENANCE_NAME, save_model
from zerone.pretrain import Architecture, build_tokenizer, new_model, pretrain
from zerone.run_dir import write_atomically


def _overrides(config: Config) -> list[str]:
    """Return the seed and every pre-training option, so that defaults may change later."""
    values = config.pretrain.model_dump()
    habits = values.pop("habits")
    return [
        f"seed={config.seed}",
        *(f"pretrain.{key}={value}" for key, value in values.items()),
        *(f"pretrain.habits.{key}={value}" for key, value in habits.items()),
    ]


def make_base(config: Config, out: Path, say: Callable[[str], None]) -> None:
    """Train tokenizer and model from nothing and write them with provenance.json."""
    keep_freed_memory()
    threads = config.model.threads or known_machine().threads
    torch.set_num_threads(threads)
    habits = Habits(**config.pretrain.habits.model_dump())
    architecture = Architecture()
    tokenizer = build_tokenizer(config.seed, architecture.vocabulary, habits)
    model = new_model(architecture, config.seed, tokenizer.eos_token_id)
    start, num_tokens = time.perf_counter(), 0
    losses: list[float] = []

    def on_step(step: int, loss: float, tokens: int) -> None:
        nonlocal num_tokens
        num_tokens += tokens
        losses.append(loss)
        if step % 10 == 0 or step + 1 == config.pretrain.steps:
            speed = num_tokens / (time.perf_counter() - start)
            done = f"step {step + 1}/{config.pretrain.steps}"
            say(f"{done}  loss {loss:.4f}  {num_tokens:,} tokens  {speed:,.0f}/s")

    pretrain(
        model,
        tokenizer,
        seed=config.seed,
        num_steps=config.pretrain.steps,
        documents_per_step=config.pretrain.documents_per_step,
        learning_rate=config.pretrain.learning_rate,
        habits=habits,
        on_step=on_step,
    )
    model.generation_config.temperature = 1.0
    model.generation_config.do_sample = True
    provenance = {
        "what": "base model of zerone, made from nothing by `zerone pretrain`",
        "command": f"zerone pretrain --out DIR {' '.join(_overrides(config))}",
        "licence": "MIT",
        "corpus": "procedural, src/zerone/corpus; training problems only; see docs/base_model.md",
        "habits": config.pretrain.habits.model_dump(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": config.seed,
        "steps": config.pretrain.steps,
        "documents_per_step": config.pretrain.documents_per_step,
        "tokens": num_tokens,
        "last_loss": losses[-1],
        "hardware": f"{cpu_name()}, {available_cores()} cores, {threads} threads, fp32",
        "seconds": round(time.perf_counter() - start),
        "versions": {
            "zerone": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "commit": commit_of_source(),
    }
    save_model(model, tokenizer, out, provenance)
    provenance["sha256"] = {
        name: hashlib.sha256((out / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "tokenizer.json")
    }
    write_atomically(out / PROVENANCE_NAME, json.dumps(provenance, indent=2) + "\n")
    say(f"wrote {out}")
