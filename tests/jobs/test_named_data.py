"""Runs on data by name: GSM8K from a Hub, mixtures by weight, epochs, pass rates; all resumed exactly."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_hub import Online, commit_of, online
from fakes import byte_tokenizer, tiny_model
from processes import call_main, metrics_of
from published_rows import GSM8K_CARD
from zerone.config import build_config
from zerone.curation.pass_rates import measure_pass_rates
from zerone.errors import ConfigError
from zerone.jobs.data import data_of, with_epochs
from zerone.model.loading import save_model

DATA = Path(__file__).parents[3] / "shared" / "data"
SMALL = (
    *("rl.problems_per_step=4", "rl.group_size=2", "rl.minibatches=2", "sampling.max_tokens=16"),
    *("eval.problems=4", "eval.hard_samples=1", "eval.mixed_samples=1", "eval.every=0", "checkpoint.every=1"),
    *("model.precision=fp32", "model.threads=1", "data.eval_share=0.2"),
)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Online]:
    with online(tmp_path / "hub") as found:
        yield found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "model"
    save_model(tiny_model(), byte_tokenizer(), path)
    return path


def zero(folder: Path, name: str, *changes: str) -> tuple[int, str]:
    arguments = ("zero", "--quiet", f"--run-dir={folder / name}", *SMALL, *changes)
    code, _, err = call_main(folder, *arguments)
    return code, err


def environment_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    return found


def groups_of(run: Path) -> list[tuple[int, str, str]]:
    with sqlite3.connect(run / "rollouts.sqlite") as database:
        return database.execute("SELECT step, prompt, spec FROM groups ORDER BY step, position").fetchall()


def sums(number: int, first: int = 0) -> str:
    rows = [{"prompt": f"{i} + {i}?", "answer": str(2 * i)} for i in range(first, first + number)]
    return "".join(json.dumps(row) + "\n" for row in rows)


# GSM8K --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not DATA.is_dir(), reason="the published data sets are not here")
def test_gsm8k_as_published_is_trained_on_by_its_name(web: Online, tmp_path: Path) -> None:
    """Source, template, verifier, rollouts, training, record, and going on after the branch moved."""
    train = b"".join((DATA / "gsm8k_train.jsonl").read_bytes().splitlines(keepends=True)[:400])
    files = {
        "README.md": GSM8K_CARD,
        "main/train-00000-of-00001.jsonl": train,
        "main/test-00000-of-00001.jsonl": (DATA / "gsm8k_test.jsonl").read_bytes(),
    }
    made = web.hub.add("datasets", "openai/gsm8k", files)
    name = "data.path=hf:openai/gsm8k"
    assert zero(tmp_path, "whole", name, "rl.steps=2")[0] == 0
    assert [one for one in web.hub.fetched if "test" in one] == []
    environment = environment_of(tmp_path / "whole")
    assert environment["data_commits"] == {"hf:openai/gsm8k": commit_of(files)}
    assert environment["data"].startswith("hf:openai/gsm8k (read as GSM8K): ")
    published = {json.loads(line)["question"]: json.loads(line)["answer"] for line in train.splitlines()}
    groups = groups_of(tmp_path / "whole")
    assert len(groups) == 8
    for _, prompt, spec in groups:
        gold = published[prompt].rpartition("#### ")[2].replace(",", "")
        assert json.loads(spec) == {"answer": gold}
    lineage = json.loads((tmp_path / "whole" / "model" / "lineage.json").read_text(encoding="utf-8"))
    (data,) = (node for node in lineage["nodes"].values() if node["kind"] == "problems")
    assert data["about"]["revision"] == commit_of(files)

    assert zero(tmp_path, "parts", name, "rl.steps=1")[0] == 0
    made.files |= {"main": {"train.jsonl": b'{"question": "x", "answer": "#### 1"}\n'}, "v1": files}
    web.restart()
    code, err = zero(tmp_path, "parts", name, "rl.steps=2", "--resume")
    assert code == 0, err
    assert metrics_of(tmp_path / "parts") == metrics_of(tmp_path / "whole")


def test_a_data_set_that_has_changed_is_refused_on_resume(tmp_path: Path, base: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(2):
        (shards / f"part-{number}.jsonl").write_text(sums(15, 15 * number))
    options = (f"model.path={base}", f"data.path={shards}")
    assert zero(tmp_path, "run", *options, "rl.steps=1")[0] == 0
    (shards / "README.md").write_text("About")
    assert zero(tmp_path, "run", *options, "rl.steps=2", "--resume")[0] == 0
    (shards / "part-1.jsonl").write_text(sums(14, 15))
    code, err = zero(tmp_path, "run", *options, "rl.steps=3", "--resume")
    assert (code, "has changed since" in err) == (2, True)


# Mixtures and epochs ------------------------------------------------------------------------------


def test_a_mixture_is_drawn_by_its_weights_and_resumed_exactly(tmp_path: Path, base: Path) -> None:
    (tmp_path / "a.jsonl").write_text(sums(30))
    (tmp_path / "b.jsonl").write_text(sums(30, 100).replace("prompt", "q").replace("answer", "a"))
    options = (
        f"model.path={base}",
        f"data.mixture.a={tmp_path / 'a.jsonl'}",
        f"data.mixture.b={tmp_path / 'b.jsonl'}",
        *("data.mixture.b.weight=3", "data.mixture.b.prompt_field=q", "data.mixture.b.answer_field=a"),
    )
    code, err = zero(tmp_path, "whole", *options, "rl.steps=3")
    assert code == 0, err
    steps = Counter(
        (step, int(prompt.split()[0]) >= 100) for step, prompt, _ in groups_of(tmp_path / "whole")
    )
    assert steps == {(step, is_b): 3 if is_b else 1 for step in (1, 2, 3) for is_b in (False, True)}
    described = environment_of(tmp_path / "whole")["data"]
    assert "a.jsonl: " in described
    assert "75.0% of the mixture" in described
    assert zero(tmp_path, "parts", *options, "rl.steps=1")[0] == 0
    assert zero(tmp_path, "parts", *options, "rl.steps=3", "--resume")[0] == 0
    assert metrics_of(tmp_path / "parts") == metrics_of(tmp_path / "whole")
    (tmp_path / "b.jsonl").write_text(sums(31, 100).replace("prompt", "q").replace("answer", "a"))
    code, err = zero(tmp_path, "parts", *options, "rl.steps=4", "--resume")
    assert (code, "has changed since" in err) == (2, True)


def test_what_is_held_out_is_of_every_source(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 1000)):
        (tmp_path / f"{name}.jsonl").write_text(sums(200, first))
    config = build_config(
        {}, [f"data.mixture={{a: {tmp_path}/a.jsonl, b: {tmp_path}/b.jsonl}}", "eval.problems=10"]
    )
    data = data_of(config)
    sides = Counter(int(problem.prompt.split()[0]) >= 1000 for problem in data.mixed.problems)
    assert sides == {False: 5, True: 5}
    assert not {p.id for p in data.mixed.problems} & {p.id for p in data.listed}


def test_a_part_keeps_its_order_when_another_is_added(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 1000)):
        (tmp_path / f"{name}.jsonl").write_text(sums(60, first))

    def of_a(*names: str) -> list[str]:
        parts = ", ".join(f"{name}: {tmp_path}/{name}.jsonl" for name in names)
        mixture = data_of(build_config({}, [f"data.mixture={{{parts}}}", "rl.problems_per_step=8"])).mixture
        drawn = [problem for step in range(4) for problem in mixture.draw(step, 8)]
        return [one.prompt for one in drawn if int(one.prompt.split()[0]) < 1000]

    both = of_a("a", "b")
    assert both == of_a("a")[: len(both)]


@pytest.mark.parametrize(("epochs", "number", "steps"), [(1, 40, 8), (2, 40, 16), (3, 7, 4)])
def test_epochs_decide_the_steps(tmp_path: Path, epochs: int, number: int, steps: int) -> None:
    (tmp_path / "a.jsonl").write_text(sums(number))
    config = build_config(
        {},
        [
            f"data.path={tmp_path / 'a.jsonl'}",
            f"data.epochs={epochs}",
            *("rl.problems_per_step=4", "rl.minibatches=2", "data.eval_share=0.2"),
        ],
    )
    wanted = -(-epochs * len(data_of(config).listed) // 4)
    assert with_epochs(config).rl.steps == wanted
    assert abs(wanted - steps) <= 2, "a fifth is held out, by hash"


def test_a_run_of_epochs_meets_every_problem_as_often(tmp_path: Path, base: Path) -> None:
    (tmp_path / "a.jsonl").write_text(sums(16))
    options = (f"model.path={base}", f"data.path={tmp_path / 'a.jsonl'}", "data.epochs=2")
    code, err = zero(tmp_path, "run", *options, "rl.problems_per_step=2", "rl.minibatches=1")
    assert code == 0, err
    seen = Counter(prompt for _, prompt, _ in groups_of(tmp_path / "run"))
    assert set(seen.values()) <= {2, 3}, "the last step may begin another epoch"
    config = (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")
    assert f"  steps: {len(metrics_of(tmp_path / 'run'))}\n" in config
    code, err = zero(tmp_path, "run", *options, "rl.problems_per_step=2", "rl.minibatches=1", "--resume")
    assert code == 0, err


# Pass rates ---------------------------------------------------------------------------------------


def measured(folder: Path, *changes: str) -> tuple[int, str]:
    options = ("sampling.max_tokens=16", "model.precision=fp32", "model.threads=1", "data.eval_share=0.2")
    code, out, err = call_main(folder, "data", "pass-rates", "--samples", "2", *options, *changes)
    return code, out + err


def test_pass_rates_are_measured_beside_the_data_and_trained_by(tmp_path: Path, base: Path) -> None:
    (tmp_path / "a.jsonl").write_text(sums(40))
    options = (f"model.path={base}", f"data.path={tmp_path / 'a.jsonl'}")
    code, said = measured(tmp_path, *options)
    assert code == 0, said
    rates = tmp_path / "a.jsonl.pass_rates.jsonl"
    lines = [json.loads(line) for line in rates.read_text(encoding="utf-8").splitlines()]
    card = json.loads((tmp_path / "a.jsonl.pass_rates.card.json").read_text(encoding="utf-8"))
    assert len(lines) == card["problems"] == sum(card["counts"].values())
    assert card["made_by"]["samples"] == 2
    # A model of random weights solves nothing: the rates are written by hand here.
    changed = [{**line, "pass_rate": (i % 5) / 4} for i, line in enumerate(lines)]
    rates.write_text("".join(json.dumps(line) + "\n" for line in changed), encoding="utf-8")
    band = (f"data.pass_rates={rates}", "data.pass_rate_min=0.5", "data.pass_rate_max=0.75")
    code, err = zero(tmp_path, "run", *options, *band, "rl.steps=1")
    assert code == 0, err
    described = environment_of(tmp_path / "run")["data"]
    kept = sum(0.5 <= line["pass_rate"] <= 0.75 for line in changed)
    assert f"a.jsonl: {kept} for training" in described
    assert "below a pass rate of 0.5 left out" in described
    assert "above a pass rate of 0.75 left out" in described
    rates.write_text(rates.read_text(encoding="utf-8").replace("0.25", "0.5"), encoding="utf-8")
    code, err = zero(tmp_path, "run", *options, *band, "rl.steps=2", "--resume")
    assert (code, "has changed since" in err) == (2, True)


def test_a_measurement_that_is_interrupted_goes_on_and_ends_the_same(tmp_path: Path, base: Path) -> None:
    (tmp_path / "a.jsonl").write_text(sums(100))
    options = [f"model.path={base}", f"data.path={tmp_path / 'a.jsonl'}", "sampling.max_tokens=8"]
    config = build_config({}, [*options, "model.precision=fp32", "model.threads=1"])
    whole = measure_pass_rates(config, tmp_path / "whole.jsonl", 2, lambda share, line: None)
    shown: list[str] = []

    def interrupt(share: float, line: str) -> None:
        shown.append(line)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            measure_pass_rates(config, tmp_path / "parts.jsonl", 2, interrupt)
    assert not (tmp_path / "parts.jsonl").exists()
    parts = measure_pass_rates(config, tmp_path / "parts.jsonl", 2, lambda share, line: shown.append(line))
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert parts["sha256"] == whole["sha256"]
    assert len(set(shown)) == len(shown) >= 3, "no piece is measured twice"
    again = measure_pass_rates(config, tmp_path / "parts.jsonl", 2, interrupt)
    assert again == parts, "a finished file is kept, and nothing is drawn"


def test_other_settings_over_a_finished_measurement_are_refused(tmp_path: Path, base: Path) -> None:
    (tmp_path / "a.jsonl").write_text(sums(20))
    options = (f"model.path={base}", f"data.path={tmp_path / 'a.jsonl'}")
    assert measured(tmp_path, *options)[0] == 0
    code, said = measured(tmp_path, *options, "sampling.temperature=0.5")
    assert (code, "was made otherwise" in said, "temperature" in said) == (2, True, True)
    (tmp_path / "a.jsonl").write_text(sums(30))
    code, said = measured(tmp_path, *options)
    assert (code, "problems_sha256" in said) == (2, True)


def test_a_filter_does_not_hide_problems_from_the_measurement(tmp_path: Path, base: Path) -> None:
    (tmp_path / "a.jsonl").write_text(sums(20))
    options = (f"model.path={base}", f"data.path={tmp_path / 'a.jsonl'}")
    assert measured(tmp_path, *options)[0] == 0
    rates = tmp_path / "a.jsonl.pass_rates.jsonl"
    out = tmp_path / "again.jsonl"
    assert measured(tmp_path, *options, f"data.pass_rates={rates}", "--out", str(out))[0] == 0
    assert out.read_bytes() == rates.read_bytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((), "is not a file here that pass rates could lie beside; give --out FILE"),
        (("--out", "rates.jsonl"), "pass rates are of a fixed set of problems"),
        (("data.path=missing.jsonl",), "is not a file here"),
    ],
)
def test_what_has_no_pass_rates_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, told = measured(tmp_path, *changes)
    assert (code, said in told) == (2, True), told


def test_a_family_that_is_drawn_without_end_has_no_epochs() -> None:
    with pytest.raises(ConfigError, match=r"data\.epochs needs problems of your own"):
        build_config({}, ["data.family=sums", "data.epochs=1"])
