"""Adapters by peft: what they compute, what is kept and merged, what is refused, and that they learn."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from architectures import PACKED, build
from fakes import Shape, byte_tokenizer, tiny_model
from forking import fork
from processes import arguments_of, call_main, metrics_of
from scripted import (
    bandit_config,
    bandit_mixture,
    bandit_model,
    bandit_prompt,
    bandit_tokenizer,
    copies,
    new_run,
    save_talking_model,
    silent_hooks,
    write_problems,
)
from two_ranks import assert_same_as_one, batches, examples, objective_of, run_ranks
from zerone.config import build_config
from zerone.device import Device
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.weights import hash_of
from zerone.errors import ConfigError, ModelError
from zerone.identity import sha256_of_path
from zerone.model.loading import load_model
from zerone.model.lora import (
    ADAPTER,
    Adapters,
    Base,
    adapters_at,
    adapters_off,
    merged_weights,
    read_adapter,
    with_adapters,
    write_adapter,
)
from zerone.runs.checkpoint import Progress, load_checkpoint, save_checkpoint
from zerone.runs.directory import RunDir
from zerone.train.algorithm import TrainState
from zerone.train.grpo import Grpo
from zerone.train.loop import train
from zerone.train.metrics import StepSums
from zerone.train.optim import adamw
from zerone.train.parallel import ParallelSettings, ParallelTrainer
from zerone.train.sft import forward_backward
from zerone.train.transformers_forward import add_methods

BASE = Base("tiny", "a" * 64)
WANTED = Adapters(rank=4, alpha=8.0, targets=("all-linear",))

needs_peft = pytest.mark.usefixtures("peft")


@pytest.fixture(scope="module")
def peft() -> Any:
    """Return peft, or skip: it is the extra `lora`."""
    return pytest.importorskip("peft")


def adapted(model: Any = None, wanted: Adapters = WANTED, seed: int = 0) -> Any:
    return with_adapters(tiny_model() if model is None else model, wanted, BASE, seed)


def trainer_of(
    model: Any = None, *, seed: int = 0, has_reference: bool = True, **options: Any
) -> ParallelTrainer:
    module = adapted(model, seed=seed)
    device = options.pop("device", Device())
    settings = ParallelSettings(
        make_optimizer=lambda parameters: adamw(parameters, 0.01, (0.9, 0.95), 0.0), **options
    )
    reference = module if has_reference else None
    return ParallelTrainer(module, device, settings, reference=reference, base=BASE)


def moved(trainer: ParallelTrainer, steps: int = 2) -> list[float]:
    losses = []
    for _ in range(steps):
        losses.append(trainer.forward_backward(batches(44), objective_of(StepSums())))
        trainer.step(0.01)
    return losses


# What they compute --------------------------------------------------------------------------------


@needs_peft
@pytest.mark.parametrize(
    "name", ["qwen3", "qwen3_tied", "llama", "gemma3", "phi3", "deepseek_v3", "qwen3_moe"]
)
def test_training_begins_at_the_base_and_moves_only_the_adapters(name: str) -> None:
    base = copies(build(PACKED[name]()))
    trainer = trainer_of(build(PACKED[name]()))
    assert all(torch.equal(base[at], tensor) for at, tensor in trainer.weights())
    assert sum(one.numel() for one in trainer.optimizers[0].param_groups[0]["params"]) < 20_000
    moved(trainer)
    inside = dict(trainer.module.get_base_model().named_parameters())
    for at, tensor in base.items():
        place, _, kind = at.rpartition(".")
        own = inside[at] if at in inside else inside[f"{place}.base_layer.{kind}"]
        assert torch.equal(own, tensor), at
    changed = {at for at, tensor in trainer.weights() if not torch.equal(base[at], tensor)}
    assert changed
    assert not any("embed" in at or "norm" in at or "lm_head" in at for at in changed)


@needs_peft
@pytest.mark.parametrize("name", ["qwen3_tied", "gemma3", "phi3"])
def test_the_merged_weights_compute_what_the_adapters_do(name: str) -> None:
    trainer = trainer_of(build(PACKED[name]()))
    moved(trainer)
    plain = build(PACKED[name](), seed=9)
    parameters = dict(plain.named_parameters())
    with torch.no_grad():
        for at, tensor in merged_weights(trainer.module):
            parameters.pop(at).copy_(tensor)
        assert not parameters
        add_methods(plain)
        batch = batches(1000)[0]
        found, expected = (
            ParallelTrainer(plain, Device()).evaluating().logits(batch),
            trainer.evaluating().logits(batch),
        )
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@needs_peft
def test_the_reference_is_the_base_with_the_adapters_off_and_no_copy() -> None:
    trainer = trainer_of()
    moved(trainer)
    assert trainer.reference_module is None
    assert trainer.has_reference
    batch = batches(1000)[0]
    with torch.no_grad():
        reference: Any = trainer.reference()
        found, _ = reference.logprobs(batch, 1.0)
        expected, _ = ParallelTrainer(tiny_model(), Device()).evaluating().logprobs(batch, 1.0)
        policy, _ = trainer.evaluating().logprobs(batch, 1.0)
    assert torch.equal(found, expected)
    assert (policy - found).abs().max() > 1e-2
    assert trainer_of(has_reference=False).reference() is None


@needs_peft
def test_adapters_come_back_on_after_an_error_and_keep_wanting_gradients() -> None:
    module = adapted()
    factors = [part.scaling["default"] for part in module.modules() if hasattr(part, "base_layer")]
    assert set(factors) == {2.0}
    with pytest.raises(ValueError, match="inside"), adapters_off(module):
        assert {part.scaling["default"] for part in module.modules() if hasattr(part, "base_layer")} == {0.0}
        raise ValueError("inside")
    assert [part.scaling["default"] for part in module.modules() if hasattr(part, "base_layer")] == factors
    wanting = {name.split(".")[-3] for name, one in module.named_parameters() if one.requires_grad}
    assert wanting == {"lora_A", "lora_B"}


@needs_peft
def test_the_gradient_is_that_of_the_merged_matrix_by_the_chain_rule() -> None:
    """dL/dB = (alpha / r) dL/dW A^T, dL/dA = (alpha / r) B^T dL/dW, with dL/dW of the merged model."""
    trainer = trainer_of(has_reference=False)
    moved(trainer, 1)
    merged = tiny_model()
    with torch.no_grad():
        own = dict(merged.named_parameters())
        for at, tensor in merged_weights(trainer.module):
            own[at].copy_(tensor)
    plain = ParallelTrainer(merged, Device())
    for one in (trainer, plain):
        forward_backward(one, examples(), 1000)
    layer = trainer.module.get_base_model().model.layers[1].mlp.down_proj
    gradient = merged.model.layers[1].mlp.down_proj.weight.grad
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert torch.allclose(b.grad, 2.0 * gradient @ a.detach().T, atol=1e-5)
    assert torch.allclose(a.grad, 2.0 * b.detach().T @ gradient, atol=1e-5)


@needs_peft
def test_the_first_adapters_are_a_function_of_the_seed() -> None:
    models = [tiny_model() for _ in range(3)]
    before = torch.random.get_rng_state()
    pairs = zip(models, (1, 1, 2), strict=True)
    first, again, other = (adapted(model, seed=seed) for model, seed in pairs)
    assert torch.equal(torch.random.get_rng_state(), before)
    states = [dict(one.named_parameters()) for one in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0] if "lora_A" in name)


@needs_peft
def test_below_adapters_the_base_may_be_bf16_and_they_learn_in_fp32() -> None:
    device = Device(dtype=torch.bfloat16)
    trainer = trainer_of(tiny_model().bfloat16(), device=device)
    assert not trainer.is_sharded
    exact = trainer_of(tiny_model().bfloat16().float())
    losses = moved(trainer, 3), moved(exact, 3)
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
    kinds = {one.dtype for one in trainer.module.parameters() if one.requires_grad}
    assert kinds == {torch.float32}
    held = sum(one.numel() * one.element_size() for one in trainer.module.parameters())
    twice = sum(one.numel() * one.element_size() for one in exact.module.parameters())
    assert held < 0.75 * twice


@needs_peft
@pytest.mark.parametrize("options", [{"recompute": True}, {"offload": "all"}])
def test_adapters_learn_the_same_with_less_memory(options: dict[str, Any]) -> None:
    assert moved(trainer_of(**options), 3) == pytest.approx(moved(trainer_of(), 3), rel=1e-5)


@needs_peft
def test_some_targets_are_taken_and_no_others() -> None:
    module = adapted(wanted=Adapters(rank=2, alpha=2.0, targets=("q_proj", "down_proj")))
    names = {
        name.split(".lora_")[0].rpartition(".")[2]
        for name, _ in module.named_parameters()
        if ".lora_" in name
    }
    assert names == {"q_proj", "down_proj"}


# On disk ------------------------------------------------------------------------------------------


@needs_peft
@pytest.mark.parametrize("options", [{}, {"offload": "all"}], ids=["plain", "sharded"])
def test_a_checkpoint_holds_the_adapters_alone_and_goes_on_exactly(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    trainer = trainer_of(**options)
    moved(trainer)
    save_checkpoint(tmp_path, Progress(step=1, updates=2), trainer.state(byte_tokenizer()), keep=1)
    path = tmp_path / "step_000001"
    others = {"optimizer.safetensors", "progress.json", "manifest.json"}
    assert {found.name for found in path.iterdir()} == {ADAPTER, *others}
    again = trainer_of(seed=7, **options)
    load_checkpoint(path, again.state(byte_tokenizer()))
    assert moved(again) == moved(trainer)
    assert hash_of(again.weights()) == hash_of(trainer.weights())


@needs_peft
@pytest.mark.parametrize("options", [{}, {"offload": "all"}], ids=["plain", "sharded"])
def test_peft_itself_opens_the_adapters_beside_the_merged_model(
    tmp_path: Path, peft: Any, options: dict[str, Any]
) -> None:
    trainer = trainer_of(**options)
    moved(trainer)
    trainer.save(tmp_path / "model", byte_tokenizer())
    merged = load_model(str(tmp_path / "model"), torch.float32).module
    assert hash_of_module(merged) == hash_of(trainer.weights())
    by_peft = peft.PeftModel.from_pretrained(tiny_model(), tmp_path / "model" / ADAPTER)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert torch.allclose(by_peft(ids).logits, merged(ids).logits, atol=1e-4)
        assert not torch.allclose(merged(ids).logits, tiny_model()(ids).logits, atol=1e-2)
    about = json.loads((tmp_path / "model" / ADAPTER / "adapter_config.json").read_text(encoding="utf-8"))
    assert (about["r"], about["lora_alpha"], about["base_model_name_or_path"]) == (4, 8.0, "tiny")


def hash_of_module(module: Any) -> str:
    from zerone.engine.weights import ModuleWeights

    return hash_of(ModuleWeights(module))


@needs_peft
def test_adapters_that_peft_wrote_are_a_beginning(tmp_path: Path, peft: Any) -> None:
    theirs = peft.get_peft_model(
        tiny_model(),
        peft.LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    with torch.no_grad():
        for name, one in theirs.named_parameters():
            if "lora_B" in name:
                one.normal_()
    theirs.save_pretrained(tmp_path / "theirs")
    wanted = adapters_at(tmp_path / "theirs")
    assert (wanted.rank, wanted.alpha, set(wanted.targets)) == (3, 6.0, {"q_proj", "v_proj"})
    mine = adapted(wanted=wanted)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert torch.allclose(mine(ids).logits, theirs(ids).logits, atol=1e-5)


# Refusals -----------------------------------------------------------------------------------------


@needs_peft
def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    module = adapted()
    write_adapter(module, tmp_path / "a", BASE)
    other = Base("other", "b" * 64)
    with pytest.raises(ModelError, match=r"belongs to another base model \(tiny\) than other"):
        read_adapter(adapted(), tmp_path / "a", other)
    (tmp_path / "a" / "base.json").unlink()  # without the hash, shapes still tell
    read_adapter(adapted(), tmp_path / "a", other)
    wider = tiny_model(Shape(width=64))
    fewer = tiny_model(Shape(layers=1))
    for model in (wider, fewer):
        with pytest.raises(ModelError, match=r"does not fit other: .* give the base model"):
            read_adapter(with_adapters(model, WANTED, other, 0), tmp_path / "a", other)


BROKEN: list[tuple[dict[str, Any] | None, str]] = [
    (None, "not an adapter in peft's format"),
    ({"peft_type": "IA3"}, r"other adapters than plain LoRA \(IA3\)"),
    ({"use_dora": True}, r"LORA, use_dora"),
    ({"use_rslora": True}, r"LORA, use_rslora"),
    ({"bias": "all"}, "other adapters than plain LoRA"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
    ({"r": None}, "lacks r, lora_alpha or target_modules"),
    ({"lora_alpha": "much"}, "lacks r, lora_alpha or target_modules"),
    ({"target_modules": None}, "lacks r, lora_alpha or target_modules"),
    ({"target_modules": []}, "lacks r, lora_alpha or target_modules"),
]


@needs_peft
@pytest.mark.parametrize(("change", "message"), BROKEN, ids=lambda value: str(value)[:30])
def test_a_directory_that_is_no_plain_adapter_is_refused(
    tmp_path: Path, change: dict[str, Any] | None, message: str
) -> None:
    write_adapter(adapted(), tmp_path / "a", BASE)
    path = tmp_path / "a" / "adapter_config.json"
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        adapters_at(tmp_path / "a")


@needs_peft
def test_a_cut_off_adapter_is_refused(tmp_path: Path) -> None:
    write_adapter(adapted(), tmp_path / "a", BASE)
    path = tmp_path / "a" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot read"):
        read_adapter(adapted(), tmp_path / "a", BASE)


@needs_peft
@pytest.mark.parametrize("targets", [("q_projj",), ("q_proj", "nothing"), ("embed_tokens",), ("layers",)])
def test_a_target_that_the_model_lacks_is_refused_with_those_it_has(targets: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"lora\.targets names .* linear maps are .*down_proj.*q_proj"):
        adapted(wanted=Adapters(rank=2, alpha=2.0, targets=targets))


@needs_peft
@pytest.mark.parametrize("name", ["deepseek_v3", "qwen3_moe"])
def test_adapters_on_experts_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"experts of a mixture.*leave .*down_proj.* out|names 'down_proj'"):
        adapted(build(PACKED[name]()), Adapters(rank=2, alpha=2.0, targets=("o_proj", "down_proj")))


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'zerone\[lora\]'"):
        adapted()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["lora.rank=8", "rl.reference_every=5", "loss.kl_coef=0.1"],
            "rl.reference_every has no effect with lora",
        ),
        (["lora.rank=8", "lora.path=x"], "lora.path has a rank of its own"),
        (["lora.path=x", "loss.kl_coef=0.1"], "lora.path begins elsewhere than at the base model"),
        (["lora.rank=-1"], "lora.rank"),
        (["lora.alpha=0"], "lora.alpha"),
        (["lora.targets=[]"], "lora.targets"),
    ],
)
def test_what_makes_no_adapters_is_refused(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config({}, options)


# Whole runs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lora")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    return path


def lora_arguments(folder: Path, name: str, *changes: str) -> list[str]:
    options = ["lora.rank=8", "lora.alpha=16", "loss.kl_coef=0.001", "optim.learning_rate=0.01"]
    return arguments_of(folder, name, *options, *changes)


@needs_peft
def test_lora_learns_what_is_rewarded_by_the_question(tmp_path: Path) -> None:
    """The bandit of four questions, each with another right arm of eight."""
    config = bandit_config(rl__steps=40, loss__kl_coef=0.001)
    model = bandit_model()
    with torch.no_grad():
        model.lm_head.weight.mul_(10.0)  # it stays as it is, and has to tell the arms apart
    before = copies(model)
    trainer = trainer_of(model)
    engine = TorchEngine(bandit_tokenizer(), (0,), 512, 256, torch.float32, config=model.config)
    run = new_run(tmp_path)
    state = TrainState(trainer=trainer, progress=Progress(step=0, updates=0))
    mixture, hooks = bandit_mixture(config), silent_hooks()
    train(config, state, engine, mixture, bandit_prompt, run, hooks, Grpo())
    rewards = [line["reward_mean"] for line in run.read_metrics()]
    assert rewards[0] < 0.3
    assert min(rewards[-5:]) > 0.9
    assert all(line["mismatch_kl"] < 1e-6 for line in run.read_metrics())
    merged = dict(trainer.weights())
    assert torch.equal(merged["lm_head.weight"], before["lm_head.weight"])


@needs_peft
def test_lora_learns_to_write_in_the_template(folder: Path) -> None:
    options = ["rl.steps=20", "rl.problems_per_step=8", "reward.format=1", "reward.accuracy=0.1"]
    code, _, err = call_main(folder, *lora_arguments(folder, "learns", "eval.every=0", *options))
    assert code == 0, err
    shares = [line["format"] for line in metrics_of(folder / "learns")]
    assert sum(shares[:3]) / 3 < 0.75
    assert sum(shares[-3:]) / 3 > 0.9, shares
    path = folder / "learns" / "model"
    assert load_model(str(path), torch.float32).module is not None
    assert adapters_at(path / ADAPTER).rank == 8


@needs_peft
def test_a_stopped_lora_run_ends_with_the_bytes_of_one_left_alone(folder: Path) -> None:
    assert call_main(folder, *lora_arguments(folder, "whole"))[0] == 0
    process = fork(folder, *lora_arguments(folder, "stopped"))
    for line in process.stdout:
        if line.startswith("step"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    code, _, err = call_main(folder, *lora_arguments(folder, "stopped"), "--resume")
    assert code == 0, err
    for file in ("metrics.jsonl", "model/model.safetensors", f"model/{ADAPTER}/adapter_model.safetensors"):
        assert (folder / "stopped" / file).read_bytes() == (folder / "whole" / file).read_bytes(), file


@needs_peft
def test_a_run_goes_on_from_an_adapter_and_refuses_one_of_another_base(folder: Path) -> None:
    if not (folder / "first" / "model").exists():
        assert call_main(folder, *lora_arguments(folder, "first"))[0] == 0
    adapter = folder / "first" / "model" / ADAPTER
    options = [f"lora.path={adapter}", "lora.rank=0", "loss.kl_coef=0"]
    code, _, err = call_main(folder, *lora_arguments(folder, "second", *options))
    assert code == 0, err
    first, second = (
        json.loads((folder / name / "evals" / f"step_{step:06d}.json").read_text(encoding="utf-8"))
        for name, step in (("first", 4), ("second", 0))
    )
    assert first["suites"]["hard"]["pass_at_1"] == second["suites"]["hard"]["pass_at_1"]
    shutil.copytree(adapter, folder / "foreign")
    about = json.loads((folder / "foreign" / "base.json").read_text(encoding="utf-8"))
    (folder / "foreign" / "base.json").write_text(
        json.dumps(about | {"base_sha256": "0" * 64}), encoding="utf-8"
    )
    options = [f"lora.path={folder / 'foreign'}", "lora.rank=0", "loss.kl_coef=0"]
    code, _, err = call_main(folder, *lora_arguments(folder, "third", *options))
    assert (code, "belongs to another base model" in err) == (2, True)


@needs_peft
def test_the_adapters_that_a_run_begins_from_are_known_by_their_content(folder: Path) -> None:
    if not (folder / "first" / "model").exists():
        assert call_main(folder, *lora_arguments(folder, "first"))[0] == 0
    for name in ("given", "moved"):
        shutil.copytree(folder / "first" / "model" / ADAPTER, folder / name)

    def arguments(name: str, steps: int) -> list[str]:
        options = [f"lora.path={folder / name}", "lora.rank=0", "loss.kl_coef=0", f"rl.steps={steps}"]
        return lora_arguments(folder, "known", *options)

    assert call_main(folder, *arguments("given", 1))[0] == 0
    run = RunDir(folder / "known")
    assert run.read_environment()["adapter_sha256"] == sha256_of_path(folder / "given")
    code, _, err = call_main(folder, *arguments("moved", 2), "--resume")
    assert code == 0, err
    (folder / "moved" / "base.json").write_text("{}", encoding="utf-8")
    code, _, err = call_main(folder, *arguments("moved", 3), "--resume")
    assert (code, "moved has changed since" in err) == (2, True), err


@needs_peft
def test_a_run_does_not_write_over_the_adapters_that_it_is_given(folder: Path) -> None:
    if not (folder / "first" / "model").exists():
        assert call_main(folder, *lora_arguments(folder, "first"))[0] == 0
    options = [f"lora.path={folder / 'first' / 'model' / ADAPTER}", "lora.rank=0", "loss.kl_coef=0"]
    code, _, err = call_main(folder, *lora_arguments(folder, "first", *options))
    assert (code, "is what is read" in err) == (2, True), err


def test_a_dry_run_refuses_what_is_not_an_adapter(folder: Path) -> None:
    options = [f"lora.path={folder / 'base'}", "lora.rank=0", "loss.kl_coef=0"]
    code, _, err = call_main(folder, *lora_arguments(folder, "dry", *options), "--dry-run")
    assert (code, "is not an adapter in peft's format" in err) == (2, True), err


@needs_peft
def test_two_ranks_train_adapters_as_one_does(tmp_path: Path) -> None:
    run_ranks(tmp_path, ["lora"])
    assert_same_as_one(tmp_path, "lora")
