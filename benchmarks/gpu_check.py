"""One check of a machine with a GPU in under ten minutes: is all correct on it, and how quick is it?

    pip install torch==2.13.0 vllm==0.31.0 peft==0.21.2 trl==1.16.0 datasets==5.2.0 accelerate==1.15.0
    python benchmarks/gpu_check.py --json gpu_check.json

All wheels are for CUDA 13; vLLM 0.31 is the last that TRL 1.16 takes, and brings its own transformers.
Without vLLM the engine is our own, in a child process on the CPU; without TRL its comparison is skipped, and
that is said. No network is needed: the model has the shape of Qwen2.5-0.5B and random weights, unless
`--model DIR` names another. Nothing of this was run on a GPU yet.

Correctness, as a bound for each:
1. log-probabilities of packed groups in the trainer against transformers, each sequence alone;
2. the ratio of trainer and engine at step zero, where both hold the same weights, and the KL between them;
3. after an update: the hash of the weights in the engine, the version in its completions, the ratio again;
4. a run that is stopped and resumed against one that was left alone (a tiny model, fp32, our engine).

Then figures, on a GPU or with `--figures`: the peaks of matrix products and of memory, engine and trainer in
tokens/s with their shares of these peaks, a GRPO step by phase, peak memory, and the same step by TRL with
vLLM.
Without a GPU the correctness half runs on the CPU with a tiny model, in under a minute.
"""

import zerone  # noqa: F401 - before torch, which reads once how threads wait

# isort: split
import argparse
import contextlib
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from machine_peak import copy_peak, matmul_peak, num_matmul_parameters, wait_for
from workload import Workload, add_arguments, conditions, open_workload, print_table, with_signal, write_json
from zerone.config import Config, build_config
from zerone.config.sections import EngineConfig
from zerone.device import Device, device_kind
from zerone.engine.api import Engine
from zerone.engine.opening import open_engine
from zerone.engine.weights import hash_of, write_weights
from zerone.jobs.rl import run_zero
from zerone.model.loading import load_model, save_model
from zerone.planning.known_models import KNOWN_MODELS
from zerone.processes.machine import DTYPES, Precision
from zerone.runs.checkpoint import Progress
from zerone.runs.directory import RunDir
from zerone.train.advantage import credit
from zerone.train.algorithm import TrainState
from zerone.train.grpo import Grpo, batches_of
from zerone.train.loop import Clock, collect
from zerone.train.memory import gigabytes, peak_of
from zerone.train.optim import adamw
from zerone.train.parallel import ParallelSettings, ParallelTrainer, on_device
from zerone.types import Credited, Group

SHAPE = "Qwen/Qwen2.5-0.5B"
TINY = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 1024,
}
CONTEXT = 4096

BOUNDS = {
    # Of fp32 in another order of additions 1e-5 is usual; a wrong position or mask gives more than 0.1.
    "fp32": {"largest": 1e-3, "mean": 1e-4, "kl": 1e-6},
    # bf16 has 8 bits: trainer and engine round at other places. `largest` is of one token in thousands.
    "bf16": {"largest": 0.5, "mean": 0.03, "kl": 2e-3},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something measured, with the bound that it has to keep."""

    name: str
    value: float
    bound: float
    note: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether it is within the bound; what is no number is not."""
        return self.value <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is checked: a model with its problems, on a device, beside an engine."""

    work: Workload
    device: Device
    precision: Precision
    engine: Engine
    engine_kind: str
    trainer: ParallelTrainer

    def state(self, updates: int) -> TrainState:
        """Return the trainer after so many updates, of one a step."""
        return TrainState(trainer=self.trainer, progress=Progress(step=updates, updates=updates))


# What is checked ----------------------------------------------------------------------------------


def save_random_model(path: Path, sizes: Mapping[str, Any]) -> None:
    """Write a Qwen2 of these sizes with random weights and the tokenizer of the embedded model."""
    torch.manual_seed(0)
    tokenizer = load_model("embedded", torch.float32).tokenizer
    end = tokenizer.eos_token_id
    sizes = {key: value for key, value in sizes.items() if key != "model_type"}
    config = Qwen2Config(
        **{"tie_word_embeddings": True, **sizes},
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
        # Logits of about 2: with the usual 0.02 all tokens are equally likely, and no wrong mask shows.
        initializer_range=2.0 / sizes["hidden_size"] ** 0.5,
    )
    save_model(AutoModelForCausalLM.from_config(config, dtype=torch.float32), tokenizer, path)


@contextlib.contextmanager
def opened(arguments: argparse.Namespace, precision: Precision) -> Iterator[Setup]:
    """Open model, trainer and engine."""
    kind = device_kind(arguments.device)
    work = open_workload(
        arguments,
        precision,
        ["optim.learning_rate=1e-4", "optim.warmup_updates=0", "rl.minibatches=1", "loss.kl_coef=0"],
    )
    device = Device(kind=kind, dtype=DTYPES[precision], threads=work.threads)
    o = work.config.optim
    settings = ParallelSettings(
        make_optimizer=lambda parameters: adamw(parameters, o.learning_rate, (o.beta1, o.beta2), 0.0),
        recompute=arguments.recompute,
    )
    chosen = arguments.engine
    if chosen == "auto":
        chosen = "vllm" if kind == "cuda" and util.find_spec("vllm") is not None else "process"
    engine = open_engine(
        work.model,
        work.config.sampling.slots,
        precision,
        EngineConfig(kind=chosen),
        threads=work.threads,
    )
    with contextlib.closing(engine):
        trainer = ParallelTrainer(copy.deepcopy(work.model.module), device, settings)
        yield Setup(
            work=work,
            device=device,
            precision=precision,
            engine=engine,
            engine_kind=chosen,
            trainer=trainer,
        )


def sample(setup: Setup, step: int) -> list[Group]:
    """Return sampled groups whose members differ in reward, so that there is something to learn."""
    work = setup.work
    return with_signal(collect(work.config, setup.engine, work.mixture, work.to_prompt, step, Clock()))


def credited(setup: Setup, groups: Sequence[Group]) -> list[Credited]:
    """Return the groups with their advantages."""
    return credit(groups, setup.work.config.advantage.scale)


@torch.no_grad()
def of_trainer(setup: Setup, groups: Sequence[Credited]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities of all tokens by the trainer, and those that the engine recorded."""
    mine, recorded = [], []
    now = setup.trainer.evaluating()
    for batch in batches_of(setup.work.config, groups, keep_silent=True):
        moved = on_device(batch, setup.device.torch)
        logprobs_C, _ = now.logprobs(moved, setup.work.config.sampling.temperature)
        mine.append(logprobs_C.float().cpu())
        recorded.append(batch.sampler_logprobs_C)
    return torch.cat(mine), torch.cat(recorded)


@torch.no_grad()
def of_transformers(setup: Setup, groups: Sequence[Credited]) -> torch.Tensor:
    """Return the same by transformers' own forward pass, each sequence alone, in the order of the batches."""
    module = copy.deepcopy(setup.work.model.module).to(setup.device.torch, setup.device.dtype).eval()
    found = []
    for batch in batches_of(setup.work.config, groups, keep_silent=True):
        for member in batch.members:
            prompt, completion = member.rollout.prompt_ids, member.rollout.completion_ids
            ids = torch.tensor([[*prompt, *completion]], device=setup.device.torch)
            logits = module(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
            logprobs = (logits / setup.work.config.sampling.temperature).log_softmax(-1)
            found.append(logprobs.gather(1, ids[0, len(prompt) :, None]).squeeze(1).cpu())
    return torch.cat(found)


def compared(name: str, ours: torch.Tensor, theirs: torch.Tensor, precision: Precision) -> list[Check]:
    """Return the checks of two sets of log-probabilities of the same tokens."""
    difference = ours - theirs
    bounds = BOUNDS[precision]
    kl = (difference.exp() - 1 - difference).mean().item()
    about = f"{precision}, {len(difference):,} tokens"
    return [
        Check(
            name=f"{name}: largest |ratio - 1|",
            value=(difference.exp() - 1).abs().max().item(),
            bound=bounds["largest"],
            note=about,
        ),
        Check(
            name=f"{name}: mean |difference|",
            value=difference.abs().mean().item(),
            bound=bounds["mean"],
            note=about,
        ),
        Check(name=f"{name}: KL (k3), nats a token", value=kl, bound=bounds["kl"], note=about),
    ]


def check_model(setup: Setup) -> list[Check]:
    """Check trainer against transformers, engine against trainer, and weights on their way to the engine."""
    trainer, engine = setup.trainer, setup.engine
    engine.update_weights(trainer.weights(), 0)
    groups = credited(setup, sample(setup, 0))
    ours, recorded = of_trainer(setup, groups)
    found = compared("trainer and transformers", ours, of_transformers(setup, groups), setup.precision)
    found += compared("engine and trainer at step zero", ours, recorded, setup.precision)
    before = hash_of(trainer.weights())
    Grpo().update(setup.work.config, setup.state(0), groups, 0)
    engine.update_weights(trainer.weights(), 1)
    # The child in a process hashes the file that it reads, vLLM the tensors as they come.
    with tempfile.TemporaryDirectory() as folder:
        sent = {
            hash_of(trainer.weights()),
            write_weights(trainer.weights(), Path(folder) / "sent.safetensors"),
        }
    groups = credited(setup, sample(setup, 1))
    versions = {member.rollout.weight_version for one in groups for member in one.group.members}
    moved = before not in sent
    # The torch engine reads the trainer's weights in place, and has no hash.
    is_same = engine.weight_hash in sent or (setup.engine_kind == "torch" and not engine.weight_hash)
    found += [
        _holds("weights change in an update", moved),
        _holds("weights in the engine have the trainer's hash", is_same),
        _holds("completions carry the version of these weights", versions == {1}),
    ]
    ours, recorded = of_trainer(setup, groups)
    return found + compared("engine and trainer after an update", ours, recorded, setup.precision)


def _holds(name: str, is_so: bool) -> Check:
    return Check(name=name, value=0.0 if is_so else 1.0, bound=0.0, note="0 is yes")


# Resuming -----------------------------------------------------------------------------------------


class _Silent:
    """Shows nothing of a run."""

    def start(self, config: Config, environment: Mapping[str, Any]) -> None: ...

    def step(self, metrics: Any, timing: Any, groups: Any) -> None: ...

    def evaluation(self, step: int, suites: Any) -> None: ...


def check_resume(folder: Path, kind: str) -> list[Check]:
    """Check that two steps, one after the other, are the two steps of a run that was left alone."""
    save_random_model(folder / "tiny", TINY)

    def run(name: str, steps: int, *, resume: bool = False) -> Path:
        config = build_config(
            {
                "model.path": str(folder / "tiny"),
                "model.trainer": "parallel",
                "model.device": kind,
                "model.precision": "fp32",
                "model.threads": 1,
                "sampling.max_tokens": 16,
                "rl.steps": steps,
                "rl.problems_per_step": 4,
                "rl.group_size": 4,
                "eval.problems": 2,
                "eval.mixed_samples": 1,
                "eval.hard_samples": 1,
                "checkpoint.every": 1,
            }
        )
        run_zero(config, RunDir(folder / name), resume, _Silent())
        return folder / name

    whole = run("whole", 2)
    run("parts", 1)
    parts = run("parts", 2, resume=True)
    left, right = ((path / "metrics.jsonl").read_text(encoding="utf-8") for path in (whole, parts))
    rows = [[json.loads(line) for line in text.splitlines()] for text in (left, right)]
    largest = max(
        abs(a[key] - b[key])
        for a, b in zip(*rows, strict=True)
        for key in ("loss", "grad_norm", "reward_mean")
        if isinstance(a.get(key), float)
    )
    weights = [(path / "model" / "model.safetensors").read_bytes() for path in (whole, parts)]
    same = "to the byte" if weights[0] == weights[1] else "not to the byte, as a GPU may add in another order"
    # One process on a CPU repeats a run bit for bit; a GPU to the rounding of fp32.
    bound = 0.0 if kind == "cpu" else 1e-4
    return [Check(name="resumed run: largest difference of metrics", value=largest, bound=bound, note=same)]


# Figures ------------------------------------------------------------------------------------------


def figures_of(setup: Setup) -> dict[str, Any]:
    """Return tokens/s of engine and trainer with their shares of the peaks, and a step by phase."""
    work, device, config = setup.work, setup.device.torch, setup.work.config
    flops, bandwidth = peaks(setup, device)
    parameters = num_matmul_parameters(work.model.module)
    is_beside = setup.engine_kind == "vllm"  # ours computes on the CPU
    engine_flops, engine_bandwidth = (flops, bandwidth) if is_beside else peaks(setup, torch.device("cpu"))
    setup.engine.update_weights(setup.trainer.weights(), 2)
    clock = Clock()
    groups = with_signal(collect(config, setup.engine, work.mixture, work.to_prompt, 2, clock))
    setup.engine.sleep()
    lengths = [len(member.rollout.completion_ids) for group in groups for member in group.members]
    rounds = -(-len(lengths) // config.sampling.slots)
    ready = credited(setup, groups)
    state = setup.state(2)
    Grpo().update(config, state, ready, 2)  # kernels are made by the first pass
    wait_for(device)
    start = time.perf_counter()
    stats = Grpo().update(config, state, ready, 2)
    wait_for(device)
    training = time.perf_counter() - start
    peak = peak_of(setup.device, lambda: _discard(Grpo().update(config, state, ready, 2)))
    start = time.perf_counter()
    setup.engine.update_weights(setup.trainer.weights(), 3)
    sync = time.perf_counter() - start
    sampled = sum(lengths)
    generating = clock.seconds["generate_s"]
    held = 2.0 * parameters if setup.device.dtype is torch.bfloat16 else 4.0 * parameters
    return {
        "matmul_peak_tflops": flops / 1e12,
        "copy_peak_gbytes": bandwidth / 1e9,
        "engine": setup.engine_kind,
        "engine_tokens_per_s": sampled / generating,
        "engine_share_of_matmul_peak": 2 * parameters * sampled / generating / engine_flops,
        # At least: each decoding step reads all weights once, and the cache besides.
        "engine_share_of_bandwidth": held * rounds * max(lengths) / generating / engine_bandwidth,
        "trainer_tokens_per_s": stats.num_tokens / training,
        "trainer_share_of_matmul_peak": 6 * parameters * stats.num_tokens / training / flops,
        "step_generate_s": generating,
        "step_reward_s": clock.seconds["reward_s"],
        "step_train_s": training,
        "step_sync_s": sync,
        "step_s": generating + clock.seconds["reward_s"] + training + sync,
        "sampled_tokens": sampled,
        "peak_of_a_pass_bytes": peak,
        "held_bytes": setup.trainer.resident().total,
    }


def peaks(setup: Setup, device: torch.device) -> tuple[float, float]:
    """Return FLOP/s of the best matrix product and bytes/s of a copy on a device."""
    seconds = 1.0 if device.type == "cuda" else 0.3
    dtype = setup.device.dtype
    return matmul_peak(setup.work.threads, dtype, seconds, device), copy_peak(device, seconds)


def _discard(_: object) -> None:
    """Take a result that nobody wants."""


# TRL ----------------------------------------------------------------------------------------------

LACKING = "skipped: {} not installed"


def peer_figures(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of the same step by TRL with vLLM, in a process of its own, or why none."""
    lacking = [name for name in ("trl", "vllm", "datasets", "accelerate") if util.find_spec(name) is None]
    if lacking:
        is_or_are = "is" if len(lacking) == 1 else "are"
        return {"trl": LACKING.format(f"{', '.join(lacking)} {is_or_are}")}
    if device_kind(arguments.device) != "cuda":
        return {"trl": "skipped: its vLLM needs a GPU"}
    command = [sys.executable, __file__, "--peer", *sys.argv[1:], f"--model={arguments.model}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        return {"trl": f"failed: {done.stderr.strip().splitlines()[-1:]}"}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {"trl": "measured", **{f"trl_{name}": value for name, value in found.items()}}


def peer_step(arguments: argparse.Namespace) -> None:
    """Make a step by TRL with vLLM beside its trainer, the second of two, and print its times."""
    import grpo_step_speed as peer

    work = open_workload(arguments, "bf16", ["rl.minibatches=1", "sampling.stop=[]"])
    length = work.config.sampling.max_tokens
    changes = {
        "bf16": True,
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": EngineConfig().gpu_share,
        "vllm_enable_sleep_mode": True,
        "generation_kwargs": {"min_tokens": length, "ignore_eos": True},
    }
    rows = work.config.rl.problems_per_step * work.config.rl.group_size
    steps = [
        peer.trl_step(work, number, min(32, rows), is_equal=True, changes=changes) for number in range(2)
    ]
    print(json.dumps(asdict(steps[-1])))


# The whole ----------------------------------------------------------------------------------------


def parse_arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments; sizes are those of the machine, unless they are given."""
    parser = argparse.ArgumentParser(description="Check a machine with a GPU; measure engine and trainer.")
    add_arguments(parser)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--engine", choices=["auto", "torch", "process", "vllm"], default="auto")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="of the model (GPU: bf16, CPU: fp32)")
    parser.add_argument("--figures", action="store_true", help="measure on a CPU too")
    parser.add_argument("--recompute", action="store_true", help="compute blocks again in the backward pass")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    is_gpu = torch.cuda.is_available()
    parser.set_defaults(model="random", family="embedded")
    parser.set_defaults(problems=32 if is_gpu else 4, group=8 if is_gpu else 4)
    parser.set_defaults(max_tokens=512 if is_gpu else 24)
    return parser.parse_args(given)


def check(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check, and where there is a GPU measure; print tables and return all of it."""
    kind = device_kind(arguments.device)
    precision: Precision = arguments.precision or ("bf16" if kind == "cuda" else "fp32")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if arguments.model == "random":
            save_random_model(folder / "random", KNOWN_MODELS[SHAPE] if kind == "cuda" else TINY)
            arguments.model = str(folder / "random")
        checks = check_resume(folder, kind)
        figures: dict[str, Any] = {}
        with opened(arguments, precision) as setup:
            checks += check_model(setup)
            show_checks(checks)
            about = conditions(setup.work, matmul_peak(setup.work.threads, torch.float32, 0.2))
            about |= {"device": _name_of(setup.device), "engine": setup.engine_kind, "precision": precision}
            if kind == "cuda" or arguments.figures:
                figures = figures_of(setup)
        if figures:
            figures |= peer_figures(arguments)
            show_figures(figures)
        else:
            print("no figures: torch sees no GPU here (--figures measures the CPU)")
    listed = [asdict(one) | {"is_kept": one.is_kept} for one in checks]
    return {"conditions": about, "checks": listed, "figures": figures}


def _name_of(device: Device) -> str:
    return "cpu" if device.kind == "cpu" else torch.cuda.get_device_name(device.torch)


def show_checks(checks: Sequence[Check]) -> None:
    """Print each check with its bound."""
    rows = [
        [one.name, f"{one.value:.3g}", f"{one.bound:.3g}", "ok" if one.is_kept else "FAILED", one.note]
        for one in checks
    ]
    print_table(["correctness", "value", "bound", "", ""], rows)


def show_figures(figures: Mapping[str, Any]) -> None:
    """Print the figures, one a line."""

    def told(name: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        if "share" in name:
            return f"{value:.1%}"
        return gigabytes(value) if name.endswith("_bytes") else f"{value:,.4g}"

    print()
    print_table(["figure", ""], [[name, told(name, value)] for name, value in figures.items()])


def main(given: Sequence[str] | None = None) -> int:
    """Run the check; the exit status is 1 where a bound is not kept."""
    arguments = parse_arguments(given)
    if arguments.peer:
        peer_step(arguments)
        return 0
    found = check(arguments)
    write_json(arguments.json, found)
    return 0 if all(one["is_kept"] for one in found["checks"]) else 1


if __name__ == "__main__":
    sys.exit(main())
