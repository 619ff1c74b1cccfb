"""`zerone zero --mix` from the command line: a run with answers that only a sandbox can judge, the
refusal where there is none, and what the option leaves alone.
"""

from pathlib import Path

import pytest
import yaml

from broken_sandbox import break_sandbox
from processes import call_main, metrics_of
from scripted import make_config, save_talking_model
from zerone.errors import SandboxUnavailable
from zerone.jobs.data import data_of
from zerone.problems.mixture import (
    CHINESE_SHARE,
    CORPUS_SHARES,
    MIX_FAMILIES,
    hard_suite,
    mix_suite,
    mixed_suite,
)
from zerone.rewards.verifiers import prepare_verifiers
from zerone.runs.directory import RunDir


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base model."""
    path = tmp_path_factory.mktemp("mix")
    save_talking_model(path / "base")
    return path


def _arguments(folder: Path, run: Path, *changes: str) -> list[str]:
    options = ("model.precision=fp32", "model.threads=1", "sampling.max_tokens=24", "rl.steps=1", *changes)
    return ["zero", "--recipe=tiny", f"--run-dir={run}", f"model.path={folder / 'base'}", *options]


def test_without_a_sandbox_a_run_on_functions_stops_before_anything_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_sandbox(monkeypatch)
    code, _, err = call_main(folder, *_arguments(folder, tmp_path / "run"), "--mix")
    assert code == 2
    assert "no isolation works here" in err
    assert "apt-get install bubblewrap" in err
    assert not RunDir(tmp_path / "run").has_run


def test_without_a_sandbox_the_code_suite_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_sandbox(monkeypatch)
    code, _, err = call_main(folder, "eval", str(folder / "base"), "--suite", "code")
    assert code == 2
    assert "apt-get install bubblewrap" in err


def test_verifiers_that_run_no_code_need_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    break_sandbox(monkeypatch)
    prepare_verifiers({"countdown", "number", "choice", "exact", "math"})
    with pytest.raises(SandboxUnavailable, match="bubblewrap"):
        prepare_verifiers({"number", "code"})


def test_mix_trains_on_every_family_and_records_the_option(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    changes = ("rl.problems_per_step=32", "rl.group_size=2", "eval.problems=16")
    code, out, err = call_main(folder, *_arguments(folder, run, *changes), "--mix")
    assert code == 0, out + err
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]["family"] == "mix"
    (step,) = metrics_of(run)
    families = {cell.partition("/")[0] for cell in step["accuracy_by"]}
    assert families == {family.FAMILY for family in MIX_FAMILIES}
    assert step["verifier_errors"] == 0


def test_default_run_has_countdown_and_word_problems_only() -> None:
    data = data_of(make_config())
    assert data.mixed.problems == mixed_suite()
    assert data.hard.problems == hard_suite()
    assert data.verifiers == {"countdown", "number"}
    assert {p.family for p in data.mixture.draw(0, 100)} == {"countdown", "arithmetic"}


def test_mix_knows_its_verifiers_however_few_problems_are_evaluated() -> None:
    data = data_of(make_config(data__family="mix", eval__problems=1))
    assert len(data.mixed.problems) == 1
    assert "code" in data.verifiers


def test_mix_suite_has_every_family_and_level_in_equal_shares() -> None:
    suite = mix_suite()
    cells = {(family.FAMILY, level) for family in MIX_FAMILIES for level in family.LEVELS}
    counts = {cell: sum((p.family, p.level) == cell for p in suite) for cell in cells}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert sum(counts.values()) == len({problem.id for problem in suite}) == len(suite)
    assert abs(sum(p.language == "zh" for p in suite) / len(suite) - CHINESE_SHARE) < 0.08


def test_shares_of_the_corpus_add_up_and_countdown_and_word_problems_prevail() -> None:
    shares = {family.FAMILY: share for family, share in CORPUS_SHARES}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["countdown"] + shares["arithmetic"] > 0.5
