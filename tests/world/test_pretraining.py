"""Pre-training, of a base from nothing and of a student: after a kill both go on to the same weights."""

import functools
import json
from pathlib import Path

import pytest

from pipelines import Notes
from zerone import pretrain
from zerone.config import Config
from zerone.config.reading import build_config
from zerone.errors import RunDirError
from zerone.jobs import pretraining
from zerone.model.loading import hash_weights
from zerone.pipeline.graph import Graph
from zerone.pipeline.run import Pipeline, Selection, State
from zerone.pipeline.students import base_stage
from zerone.pretrain import build_tokenizer

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


# The base of a student ----------------------------------------------------------------------------


class Cutting(Notes):
    """A display under which a stage is killed after its step `cut_at`."""

    def __init__(self, cut_at: int) -> None:
        super().__init__()
        self._cut_at = cut_at

    def progress(self, share: float, note: str) -> None:
        """Remember a note, and stop at the step."""
        super().progress(share, note)
        if note.startswith(f"step {self._cut_at}/"):
            raise Cut


def student(path: Path, name: str) -> Pipeline:
    stage = base_stage(name)
    return Pipeline(Graph(stages=(stage,)), {stage.name: settings()}, path, Selection())


@pytest.mark.parametrize("name", ["qwen_xs", "llama_s"])
@pytest.mark.parametrize(("cut_at", "again_from"), [(2, 1), (3, 1), (5, 4)])
def test_a_student_whose_training_was_cut_off_goes_on_to_the_same_weights(
    tmp_path: Path, name: str, cut_at: int, again_from: int
) -> None:
    student(tmp_path / "whole", name).run(False, Notes())
    with pytest.raises(Cut):
        student(tmp_path / "cut", name).run(False, Cutting(cut_at))
    notes = Notes()
    student(tmp_path / "cut", name).run(True, notes)
    assert notes.begun == [(f"{name}_pretrained", State.RESUME)]
    steps = [line.split("/")[0] for line in notes.said if line.startswith("step ")]
    assert steps == [f"step {number}" for number in range(again_from, 7)]
    made = [tmp_path / run / f"{name}_pretrained" for run in ("whole", "cut")]
    assert hash_weights(made[1] / "model") == hash_weights(made[0] / "model")
    assert [line for line in notes.said if line.startswith("pre-trained on")], "the tokens of all steps"
    assert not (made[1] / "model.partial").exists()
