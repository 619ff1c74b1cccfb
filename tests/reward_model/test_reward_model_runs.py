"""`zerone reward-model` from the command line: what a run leaves, how it goes on, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import yaml

from fakes import Shape, byte_tokenizer, tiny_model
from killing import kill_until_done
from processes import call_main
from zerone.config import Config, build_config, to_yaml
from zerone.errors import RunDirError
from zerone.model.loading import save_model
from zerone.reward_model.run import train_reward_model
from zerone.runs.directory import RunDir
from zerone.runs.lineage import lineage_of_model
from zerone.runs.start import prepare_run

OPTIONS = [
    *("model.threads=1", "reward_model.learning_rate=3e-3", "reward_model.batch_size=8"),
    *("reward_model.epochs=3", "data.eval_share=0.25", "checkpoint.every=2", "optim.warmup_updates=1"),
]


def write_pairs(path: Path, count: int) -> Path:
    """Write pairs whose better answer says please; both orders of length are there."""
    rng, lines = Random(0), []
    for i in range(count):
        one, other = ("".join(rng.choices("abcd ", k=rng.randint(2, 9))) for _ in range(2))
        row = {"prompt": f"Ask {i}", "chosen": f"please {one}", "rejected": f"listen {other}", "margin": 0.8}
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base model, pairs, and a run `run` that was left alone."""
    path = tmp_path_factory.mktemp("reward-model")
    save_model(tiny_model(Shape(context=1024)), byte_tokenizer(), path / "base")
    write_pairs(path / "pairs.jsonl", 60)
    code, out, err = train(path, "run")
    assert code == 0, err
    assert "held out after step 0: accuracy" in out
    assert "correlation of score and length" in out
    return path


def train(folder: Path, name: str, *more: str) -> tuple[int, str, str]:
    paths = (str(folder / "pairs.jsonl"), f"--run-dir={folder / name}", f"model.path={folder / 'base'}")
    return call_main(folder, "reward-model", "train", *paths, *OPTIONS, *more)


def config_of(folder: Path) -> Config:
    paths = [f"model.path={folder / 'base'}", f"data.path={folder / 'pairs.jsonl'}"]
    return build_config({}, [*paths, *OPTIONS])


def same_run(found: Path, expected: Path) -> None:
    names = ("metrics.jsonl", "summary.json", "model/model.safetensors", "model/reward_head.safetensors")
    for name in (*names, "model/reward_head.json", "model/lineage.json"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def test_a_run_learns_and_says_how_well(folder: Path) -> None:
    summary = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["final"]["accuracy"] > 0.9
    assert summary["final"]["loss"] < summary["base"]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert summary["final"].keys() >= {"accuracy_ci", "ece", "bins", "length"}
    assert summary["num_trained"] + summary["num_held_out"] + sum(summary["dropped"].values()) == 60
    assert (summary["kind"], summary["judge"], summary["seed"]) == ("helpfulness", None, 0)
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, summary["steps"] + 1))


def test_a_run_killed_ten_times_ends_with_the_same_bytes(folder: Path) -> None:
    def work() -> None:
        train_reward_model(config_of(folder), RunDir(folder / "killed"), True, lambda line: None)

    kill_until_done(work, folder / "killed", Random(0), 0.1, 0.6, 10)
    same_run(folder / "killed", folder / "run")


def test_resuming_a_finished_run_changes_nothing(folder: Path) -> None:
    shutil.copytree(folder / "run", folder / "again")
    assert train(folder, "again", "--resume")[0] == 0
    same_run(folder / "again", folder / "run")


def test_of_a_configuration_with_a_line_more_only_that_line_is_named(tmp_path: Path) -> None:
    tree = yaml.safe_load(to_yaml(Config()))
    del tree["seed"]
    run = RunDir(tmp_path)
    run.start(yaml.safe_dump(tree), {})
    with pytest.raises(RunDirError, match=r"seed: not there  \(now: 0\)") as error:
        prepare_run(Config(), run, resume=True)
    assert str(error.value).count("(now:") == 1


def _other_pairs(folder: Path) -> None:
    write_pairs(folder / "pairs.jsonl", 61)


def _other_base(folder: Path) -> None:
    save_model(tiny_model(Shape(context=1024), seed=1), byte_tokenizer(), folder / "base")


def test_what_does_not_fit_the_run_is_refused(folder: Path, tmp_path: Path) -> None:
    code, _, err = train(folder, "run")
    assert (code, "already holds a run" in err) == (2, True)
    code, _, err = train(folder, "run", "--resume", "seed=3")
    assert (code, "seed: 0  (now: 3)" in err) == (2, True)
    changes: list[tuple[Callable[[Path], None], str]] = [(_other_pairs, "pairs.jsonl"), (_other_base, "base")]
    for change, name in changes:
        kept = Path(shutil.copytree(folder, tmp_path / change.__name__))
        try:
            change(folder)
            code, _, err = train(folder, "run", "--resume")
        finally:
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)
        assert (code, f"{folder / name} has changed since" in err) == (2, True)


def test_a_run_keeps_what_every_run_keeps_of_its_beginning(folder: Path) -> None:
    environment = RunDir(folder / "run").read_environment()
    keys = ("zerone", "commit", "torch", "cpu", "command", "started", "seed", "model", "data")
    assert environment.keys() >= {*keys, "model_sha256", "data_sha256"}
    assert (environment["precision"], environment["threads"]) == ("fp32", 1)


def test_a_model_is_measured_and_asked_by_itself(folder: Path) -> None:
    write_pairs(folder / "other.jsonl", 20)
    code, out, _ = call_main(
        folder, "reward-model", "eval", str(folder / "run"), str(folder / "other.jsonl"), "--json"
    )
    assert code == 0
    assert json.loads(out)["num_pairs"] == 20
    scores = []
    for response in ("please a b", "<think>listen</think> please a b", "listen a b"):
        code, out, _ = call_main(
            folder, "reward-model", "score", str(folder / "run"), "--prompt=Ask 99", f"--response={response}"
        )
        assert code == 0
        scores.append(json.loads(out))
    assert scores[0] == scores[1]
    assert scores[0]["reward"] > 0.5 > scores[2]["reward"]


def test_a_file_of_the_other_kind_is_refused(folder: Path) -> None:
    row = {"prompt": "p", "response": "r", "is_safe": True}
    (folder / "safety.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    code, _, err = call_main(
        folder, "reward-model", "eval", str(folder / "run"), str(folder / "safety.jsonl")
    )
    assert (code, "judges helpfulness" in err) == (2, True)


def test_a_reward_model_has_a_lineage(folder: Path) -> None:
    lineage = lineage_of_model(str(folder / "run"))
    assert lineage.node.name == "reward_model.helpfulness"
    assert {lineage.nodes[key].name for key in lineage.node.inputs.values()} == {"base", "preferences"}
