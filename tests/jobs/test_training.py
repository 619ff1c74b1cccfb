"""What builds a run's trainer: which one is taken, what is refused, and whole runs by the parallel one."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from architectures import PACKED, UNPACKED, build
from fakes import byte_tokenizer, unsupported_config
from forking import fork
from processes import arguments_of, call_main, metrics_of
from scripted import save_talking_model, write_problems
from sft_runs import arguments as sft_arguments
from sft_runs import demonstrations
from zerone.config import Config, build_config
from zerone.errors import ConfigError, ModelError
from zerone.jobs.training import Kind, check_can_sample, new_trainer, open_policy, place
from zerone.model.loading import load_model, save_model
from zerone.train.local import LocalTrainer
from zerone.train.parallel import ParallelTrainer

ENVIRONMENT = {"precision": "fp32", "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with models, problems and demonstrations."""
    path = tmp_path_factory.mktemp("training")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    (path / "data.jsonl").write_text(demonstrations(), encoding="utf-8")
    for name in ("gemma3", "qwen3_moe", "mistral_window"):
        save_model(build(PACKED[name]()), byte_tokenizer(), path / name)
    save_model(build(UNPACKED["mamba"]()), byte_tokenizer(), path / "mamba")
    return path


def config_of(folder: Path, model: str = "base", *options: str) -> Config:
    return build_config({}, [f"model.path={folder / model}", *options])


# Which trainer ------------------------------------------------------------------------------------

CHOICES: list[tuple[str, tuple[str, ...], Kind]] = [
    ("base", (), "local"),
    ("base", ("model.trainer=local",), "local"),
    ("base", ("model.trainer=parallel",), "parallel"),
    ("base", ("lora.rank=4",), "parallel"),
    ("base", ("model.gradient_checkpointing=true",), "parallel"),
    ("base", ("model.offload=reference",), "parallel"),
    ("base", ("model.offload=all",), "parallel"),
    ("base", ("optim.kind=adamw_8bit",), "parallel"),
    ("base", ("rl.microbatch_tokens=0",), "parallel"),
    ("base", ("sft.microbatch_tokens=0",), "parallel"),
    ("base", ("rl.algorithm=ppo",), "local"),
    ("gemma3", (), "parallel"),
    ("qwen3_moe", (), "parallel"),
    ("mistral_window", (), "parallel"),
    ("mamba", (), "parallel"),
    ("gemma3", ("model.trainer=parallel",), "parallel"),
]


@pytest.mark.parametrize(("model", "options", "expected"), CHOICES, ids=lambda value: str(value))
def test_the_trainer_is_the_local_one_where_that_computes_the_model(
    folder: Path, model: str, options: tuple[str, ...], expected: Kind
) -> None:
    placement = place(config_of(folder, model, *options), ENVIRONMENT)
    assert placement.trainer == expected
    assert (placement.device.kind, placement.device.dtype) == ("cpu", torch.float32)


@pytest.mark.parametrize("option", ["local", "parallel"])
def test_one_place_makes_the_trainer(folder: Path, option: str) -> None:
    config = config_of(folder, "base", f"model.trainer={option}")
    placement = place(config, ENVIRONMENT)
    model = open_policy(config, placement)
    trainer = new_trainer(config, model, placement, learning_rate=1e-3, has_reference=True)
    assert isinstance(trainer, LocalTrainer if option == "local" else ParallelTrainer)
    assert trainer.has_reference
    assert trainer.optimizers[0].param_groups[0]["lr"] == 1e-3


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gemma3", "qwen3_moe", "mistral_window", "mamba"])
def test_the_local_trainer_names_the_other_one(folder: Path, model: str) -> None:
    config = config_of(folder, model, "model.trainer=local")
    with pytest.raises(ModelError, match=r"config\.json.*set model\.trainer=parallel"):
        place(config, ENVIRONMENT)


@pytest.mark.parametrize("model", ["gemma3", "qwen3_moe", "mistral_window", "mamba"])
def test_what_the_engine_cannot_sample_is_refused_with_what_can_be_done(folder: Path, model: str) -> None:
    config = config_of(folder, model)
    opened = open_policy(config, place(config, ENVIRONMENT))
    with pytest.raises(ModelError, match=r"cannot sample.*zerone sft.*sft\.suite=none.*engine\.kind=vllm"):
        check_can_sample(config, opened)
    check_can_sample(config_of(folder, model, "engine.kind=vllm"), opened)


@pytest.mark.parametrize(
    "option",
    [
        "model.device=cuda",
        "model.gradient_checkpointing=true",
        "model.offload=all",
        "optim.kind=adamw_8bit",
        "rl.microbatch_tokens=0",
        "sft.microbatch_tokens=0",
        "lora.rank=8",
        "lora.path=somewhere",
    ],
)
def test_the_local_trainer_is_refused_beside_what_it_lacks(option: str) -> None:
    with pytest.raises(ConfigError, match=r"needs model\.trainer=parallel"):
        build_config({}, ["model.trainer=local", option])
    with pytest.raises(ConfigError, match=r"does not train PPO's critic"):
        build_config({}, ["rl.algorithm=ppo", option])


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, _, err = call_main(folder, *arguments_of(folder, "no-gpu", "model.device=cuda"))
    assert (code, "model.device=cpu" in err) == (2, True)
    assert not (folder / "no-gpu" / "config.yaml").exists()


@pytest.mark.parametrize("name", ["RANK=0 WORLD_SIZE=2 LOCAL_RANK=0"])
def test_several_processes_are_refused(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for pair in name.split():
        monkeypatch.setenv(*pair.split("="))
    with pytest.raises(ConfigError, match="start `torchrun -m zerone` for several"):
        place(config_of(folder), ENVIRONMENT)


def test_ppo_is_refused_for_an_architecture_that_its_critic_is_not_of(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"rl\.algorithm=ppo needs model\.trainer=local"):
        place(config_of(folder, "gemma3", "rl.algorithm=ppo"), ENVIRONMENT)


BAD_CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "no_such_model"}, "not a causal language model of this transformers"),
    ({"model_type": None}, "not a causal language model of this transformers"),
    ({"model_type": "t5"}, "not a causal language model"),
    ({"model_type": "gemma3"}, "parts beside its language model"),
    ({"vocab_size": 0}, "vocab_size is 0 and must be at least 1"),
    ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "quantised"),
]


@pytest.mark.parametrize(("change", "message"), BAD_CONFIGS, ids=lambda value: str(value)[:30])
def test_a_directory_that_is_no_such_model_is_refused(
    folder: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    shutil.copytree(folder / "gemma3", tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        place(config_of(tmp_path, "m"), ENVIRONMENT)
        load_model(str(tmp_path / "m"), torch.float32, any_architecture=True)


def test_code_in_a_model_directory_is_never_run(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "gemma3", tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    about = json.loads(path.read_text()) | {
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    }
    path.write_text(json.dumps(about), encoding="utf-8")
    (tmp_path / "m" / "evil.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n"
    )
    assert load_model(str(tmp_path / "m"), torch.float32, any_architecture=True).module.config.model_type
    assert not (tmp_path / "ran").exists()


def test_gpt2_is_trained_by_the_parallel_trainer_only(tmp_path: Path) -> None:
    save_model(build(unsupported_config()), byte_tokenizer(), tmp_path / "m")
    assert place(config_of(tmp_path, "m"), ENVIRONMENT).trainer == "parallel"


# Whole runs ---------------------------------------------------------------------------------------


def test_zero_by_the_parallel_trainer_has_the_curve_of_the_local_one(folder: Path) -> None:
    for name in ("local", "parallel"):
        options = [f"model.trainer={name}", "loss.kl_coef=0.01"]
        code, _, err = call_main(folder, *arguments_of(folder, f"zero-{name}", *options))
        assert (code, err) == (0, "")
    lines = [metrics_of(folder / f"zero-{name}") for name in ("local", "parallel")]
    assert len(lines[0]) == len(lines[1]) == 4
    for first, second in zip(*lines, strict=True):
        assert second["reward_mean"] == first["reward_mean"]
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-4)
        assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-3)
        assert second["kl"] == pytest.approx(first["kl"], abs=1e-4)
        assert second["mismatch_kl"] < 1e-6
    environment = json.loads((folder / "zero-parallel" / "environment.json").read_text(encoding="utf-8"))
    assert environment["device"] == "cpu"


RUNS = {
    "plain": ("model.trainer=parallel",),
    "recomputed": ("model.gradient_checkpointing=true", "loss.kl_coef=0.01"),
    "tried out": ("rl.microbatch_tokens=0",),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_stopped_zero_ends_with_the_bytes_of_one_left_alone(folder: Path, kind: str) -> None:
    names = [f"{kind}-{name}".replace(" ", "-") for name in ("whole", "stopped")]
    whole, stopped = (arguments_of(folder, name, *RUNS[kind]) for name in names)
    assert call_main(folder, *whole)[0] == 0
    stop_after_steps(folder, stopped, 2)
    assert len(metrics_of(folder / names[1])) < 4
    code, _, err = call_main(folder, *stopped, "--resume")
    assert code == 0, err
    for file in ("metrics.jsonl", "model/model.safetensors"):
        found, expected = ((folder / name / file).read_bytes() for name in reversed(names))
        assert found == expected, file


def stop_after_steps(folder: Path, arguments: list[str], steps: int) -> None:
    """Start a run in a process and kill it after some of its steps."""
    process = fork(folder, *arguments)
    for line in process.stdout:
        if line.startswith(f"step {steps} ") or line.startswith(f"step  {steps} "):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_sft_by_the_parallel_trainer_has_the_curve_of_the_local_one(folder: Path) -> None:
    for name in ("local", "parallel"):
        code, _, err = call_main(folder, *sft_arguments(folder, f"sft-{name}", f"model.trainer={name}"))
        assert (code, err) == (0, "")
    first, second = (metrics_of(folder / f"sft-{name}") for name in ("local", "parallel"))
    assert [line["loss"] for line in second] == pytest.approx([line["loss"] for line in first], rel=1e-3)
    summaries = [
        json.loads((folder / f"sft-{name}/summary.json").read_text()) for name in ("local", "parallel")
    ]
    assert summaries[1]["final"]["loss"] == pytest.approx(summaries[0]["final"]["loss"], rel=1e-3)


@pytest.mark.parametrize("model", ["gemma3", "qwen3_moe", "mistral_window", "mamba"])
def test_sft_of_any_architecture_learns_and_goes_on(folder: Path, model: str) -> None:
    def arguments(name: str) -> list[str]:
        options = [f"model.path={folder / model}", "sft.suite=none", "sft.learning_rate=0.01"]
        return sft_arguments(folder, f"{model}-{name}", *options)

    code, _, err = call_main(folder, *arguments("whole"))
    assert code == 0, err
    assert err.count("does not compute packed batches") == (model == "mamba")
    summary = json.loads((folder / f"{model}-whole" / "summary.json").read_text(encoding="utf-8"))
    assert summary["final"]["loss"] < 0.7 * summary["base"]["loss"]
    stop_after_steps(folder, arguments("stopped"), 5)
    code, _, err = call_main(folder, *arguments("stopped"), "--resume")
    assert code == 0, err
    found, expected = (folder / f"{model}-{name}" for name in ("stopped", "whole"))
    for file in ("metrics.jsonl", "model/model.safetensors", "best/model.safetensors"):
        assert (found / file).read_bytes() == (expected / file).read_bytes(), file


def test_zero_of_an_architecture_that_cannot_be_sampled_is_refused_early(folder: Path) -> None:
    arguments = arguments_of(folder, "zero-gemma", f"model.path={folder / 'gemma3'}")
    code, _, err = call_main(folder, *arguments)
    assert code == 2
    assert "cannot sample this model" in err
    assert not (folder / "zero-gemma" / "metrics.jsonl").exists()


def test_options_of_memory_may_change_on_the_way_and_others_not(folder: Path) -> None:
    first = arguments_of(folder, "changed", "model.trainer=parallel")
    stop_after_steps(folder, first, 2)
    code, _, err = call_main(folder, *first, "optim.beta1=0.8", "--resume")
    assert (code, "optim.beta1" in err) == (2, True)
    changes = ["rl.microbatch_tokens=128", "model.gradient_checkpointing=true"]
    code, _, err = call_main(folder, *first, *changes, "--resume")
    assert code == 0, err
    assert "rl.microbatch_tokens" in err
    environment = json.loads((folder / "changed" / "environment.json").read_text(encoding="utf-8"))
    (entry,) = environment["resumed"]
    assert entry["rl.microbatch_tokens"] == 128
    assert entry["model.gradient_checkpointing"] is True
    assert yaml.safe_load((folder / "changed" / "config.yaml").read_text())["rl"]["microbatch_tokens"] == 128
