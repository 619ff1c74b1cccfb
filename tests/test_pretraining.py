"""`zerone pretrain` makes a base from nothing, and goes on after a kill to the same weights."""

import functools
import json
from pathlib import Path

import pytest

from zerone import pretrain
from zerone.config import Config
from zerone.config.reading import build_config
from zerone.errors import RunDirError
from zerone.model.loading import hash_weights
from zerone.pretrain import build_tokenizer
from zerone.stages import pretraining

tokenizer_of = functools.cache(build_tokenizer)  # the same for every test


class Cut(Exception):
    """Stands for a kill."""


def settings(*more: str) -> Config:
    return build_config({}, ["pretrain.steps=6", "pretrain.documents_per_step=8", "model.threads=1", *more])


def make(out: Path, config: Config, cut_at: int = 0, resume: bool = False) -> list[str]:
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if cut_at and line.startswith(f"step {cut_at}/"):
            raise Cut

    pretraining.make_base(config, out, say, resume)
    return lines


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    # Enough to fill the vocabulary; 20,000 documents take seconds to draw and change nothing here.
    monkeypatch.setattr(pretrain, "_NUM_TOKENIZER_DOCUMENTS", 3000)
    monkeypatch.setattr(pretraining, "build_tokenizer", tokenizer_of)
    monkeypatch.setattr(pretraining, "STEPS_PER_CHECKPOINT", 3)
    monkeypatch.setattr(pretraining, "STEPS_PER_LINE", 1)


def test_training_that_is_cut_off_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    make(tmp_path / "whole", settings())
    with pytest.raises(Cut):
        make(tmp_path / "cut", settings(), cut_at=4)
    with pytest.raises(RunDirError, match="same options"):
        make(tmp_path / "cut", settings("pretrain.steps=9"), resume=True)
    again = make(tmp_path / "cut", settings(), resume=True)
    assert again[0].startswith("step 4/6"), "from the checkpoint of step 3"
    assert hash_weights(tmp_path / "cut") == hash_weights(tmp_path / "whole")
    of_whole, of_cut = (
        json.loads((tmp_path / name / "provenance.json").read_text()) for name in ("whole", "cut")
    )
    for key in ("tokens", "last_loss", "command", "parameters", "sha256"):
        assert of_cut[key] == of_whole[key]
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    ), "nothing of the checkpoints is left"


def test_loss_falls_from_that_of_uniform_guesses(tmp_path: Path) -> None:
    losses = [float(line.split()[3]) for line in make(tmp_path / "base", settings())[:-1]]
    assert losses[0] > 6.0
    assert losses[-1] < losses[0] - 0.4


def test_empty_directory_has_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="leave out --resume"):
        make(tmp_path / "none", settings(), resume=True)
