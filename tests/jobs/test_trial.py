"""`--dry-run` refuses what a run would refuse, estimates what it would take, and leaves nothing behind."""

import json
import re
import sys
from pathlib import Path

import pytest

from fakes import byte_tokenizer, tiny_model
from processes import arguments_of, call_main
from scripted import save_talking_model, write_problems
from zerone.model.loading import save_model
from zerone.planning.hardware import gpu_named

ESTIMATE = re.compile(
    r"about [\d.]+ (s|min|h|days), [\d.]+ (MB|GB|TB) of memory and [\d.]+ (kB|MB|GB|TB) on disk"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and data of every kind, good and bad."""
    path = tmp_path_factory.mktemp("trial")
    save_talking_model(path / "base")
    save_model(tiny_model(), byte_tokenizer(), path / "no-weights")
    (path / "no-weights" / "model.safetensors").unlink()
    write_problems(path / "problems.jsonl")
    rows = [
        {"prompt": f"Say {i}.", "completion": f"<think>a</think>\n<answer>{i}</answer>"} for i in range(20)
    ]
    pairs = [{"prompt": f"Ask {i}", "chosen": f"please {i}", "rejected": f"listen {i}"} for i in range(40)]
    for name, lines in (("data.jsonl", rows), ("pairs.jsonl", pairs)):
        (path / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (path / "broken.jsonl").write_text('{"prompt": "a"\n', encoding="utf-8")
    (path / "rewards.py").write_text(
        "def fine(completion, answer, problem):\n    return 1.0\n"
        "def fails(completion, answer, problem):\n    raise KeyError('my reward broke')\n",
        encoding="utf-8",
    )
    return path


def sft(folder: Path, *changes: str) -> list[str]:
    return [
        *("sft", f"model.path={folder / 'base'}", f"data.path={folder / 'data.jsonl'}", "sft.suite=none"),
        *("data.eval_share=0.25", *changes),
    ]


def reward_model(folder: Path, file: str = "pairs.jsonl", *changes: str) -> list[str]:
    return ["reward-model", "train", str(folder / file), f"model.path={folder / 'base'}", *changes]


@pytest.mark.parametrize("kind", ["zero", "sft", "reward-model"])
def test_a_sound_run_is_estimated_and_nothing_is_left(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    arguments = {
        "zero": arguments_of(folder, "never"),
        "sft": sft(folder),
        "reward-model": reward_model(folder),
    }[kind]
    code, out, err = call_main(folder, *arguments, "--dry-run")
    assert code == 0, err
    assert "model:" in out and "rl:" in out  # the configuration alone
    assert ESTIMATE.search(out), out
    assert not (folder / "never").exists() and list(tmp_path.iterdir()) == []


def minutes_of(folder: Path, *arguments: str) -> float:
    """Return what a dry run estimates."""
    _, out, err = call_main(folder, *arguments, "--dry-run")
    found = ESTIMATE.search(out)
    assert found is not None, err
    number = float(found[0].split("about ")[1].split()[0])
    return number * {"s": 1 / 60, "min": 1, "h": 60, "days": 1440}[found[1]]


def test_more_steps_take_longer(folder: Path) -> None:
    few, many = (minutes_of(folder, *arguments_of(folder, "never"), f"rl.steps={n}") for n in (400, 40_000))
    assert many > 10 * few


def test_evaluations_of_sft_take_time(folder: Path) -> None:
    """By the problems of its suite, of which there are few here, and the completions of each."""
    suite = f"sft.suite={folder / 'problems.jsonl'}"
    without, few, many = (
        minutes_of(folder, *sft(folder, *changes))
        for changes in ((), (suite, "sft.samples=1"), (suite, "sft.samples=100000"))
    )
    assert few < without + 1
    assert many > 10 * few


def test_weights_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise AssertionError("weights are read")

    monkeypatch.setattr("zerone.model.loading.load_weights", refuse)
    code, _, err = call_main(folder, *arguments_of(folder, "never"), "--dry-run")
    assert code == 0, err


FAULTS = {
    "no model": ("zero", ["model.path=nowhere"], "nowhere does not exist"),
    "no weights": ("zero", ["model.path={folder}/no-weights"], "safetensors"),
    "no data": ("zero", ["data.path={folder}/nowhere.jsonl"], "nowhere.jsonl"),
    "broken data": ("zero", ["data.path={folder}/broken.jsonl"], "broken.jsonl"),
    "no field": ("zero", ["data.answer_field=gold"], "gold"),
    "too long": ("zero", ["sampling.max_tokens=100000"], "lower sampling.max_tokens to"),
    "no reward file": ("zero", ["reward.user=1", "reward.function={folder}/none.py:f"], "none.py"),
    "no reward function": ("zero", ["reward.user=1", "reward.function={folder}/rewards.py:none"], "none"),
    "a reward that fails": (
        "zero",
        ["reward.user=1", "reward.function={folder}/rewards.py:fails"],
        "my reward broke",
    ),
    "no gpu": ("zero", ["model.device=cuda"], "model.device=cuda"),
    "no reward model": (
        "zero",
        ["reward.preference=1", "reward.helpfulness_model={folder}/nowhere"],
        "nowhere",
    ),
    "sft without data": ("sft", ["data.path=null"], "SFT needs data.path"),
    "sft of nothing": ("sft", ["data.path={folder}/nowhere.jsonl"], "nowhere.jsonl"),
    "sft too long": ("sft", ["sft.max_tokens=3"], "longer than 3 tokens"),
    "sft of no suite": ("sft", ["sft.suite={folder}/nowhere.jsonl"], "nowhere.jsonl"),
    "reward model of nothing": ("reward-model nowhere.jsonl", [], "nowhere.jsonl"),
    "reward model of what is broken": ("reward-model broken.jsonl", [], "broken.jsonl"),
    "reward model without a model": ("reward-model pairs.jsonl", ["model.path=nowhere"], "nowhere"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_run_would_refuse_is_refused(fault: str, folder: Path) -> None:
    command, changes, message = FAULTS[fault]
    changes = [change.format(folder=folder) for change in changes]
    kind, _, file = command.partition(" ")
    arguments = {
        "zero": lambda: arguments_of(folder, "never", *changes),
        "sft": lambda: sft(folder, *changes),
        "reward-model": lambda: reward_model(folder, file, *changes),
    }[kind]()
    code, _, err = call_main(folder, *arguments, "--dry-run")
    assert code == 2 and message in " ".join(err.split()), err
    assert not (folder / "never").exists()


@pytest.mark.parametrize("kind", ["zero", "sft"])
@pytest.mark.parametrize(
    ("package", "option", "message"),
    [
        ("peft", "lora.rank=4", "pip install 'zerone[lora]'"),
        ("torchao.optim", "optim.kind=adamw_8bit", "pip install 'zerone[quantized]'"),
    ],
)
def test_a_missing_extra_is_named(
    package: str, option: str, message: str, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    arguments = arguments_of(folder, "never", option) if kind == "zero" else sft(folder, option)
    code, _, err = call_main(folder, *arguments, "--dry-run")
    assert (code, message in err) == (2, True), err


@pytest.mark.parametrize("kind", ["zero", "sft"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("lora.rank=4",), ""),
        (("lora.rank=4", "lora.targets=[q_proj]"), ""),
        (
            ("lora.rank=4", "lora.targets=[nowhere]"),
            "lora.targets names 'nowhere', and the model's linear maps",
        ),
    ],
)
def test_adapters_are_tried_on_the_model(
    options: tuple[str, ...], message: str, kind: str, folder: Path
) -> None:
    pytest.importorskip("peft")
    arguments = arguments_of(folder, "never", *options) if kind == "zero" else sft(folder, *options)
    code, out, err = call_main(folder, *arguments, "--dry-run")
    assert code == (2 if message else 0) and message in err, err
    assert bool(ESTIMATE.search(out)) == (not message)


def test_a_training_of_the_base_is_estimated(folder: Path) -> None:
    code, out, _ = call_main(folder, "pretrain", f"--out={folder / 'new'}", "--dry-run")
    assert code == 0 and "# about" in out and "on disk" in out and not (folder / "new").exists()


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("NVIDIA A100-PCIE-40GB", "A100-40"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA B200", "B200"),
        ("Tesla T4", None),
    ],
)
def test_a_driver_s_name_of_a_gpu_is_known(device: str, name: str | None) -> None:
    found = gpu_named(device)
    assert (found.name if found else None) == name
