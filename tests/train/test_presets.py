"""Each preset has its paper's settings, trains, and yields to what is set beside it."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest

from scripted import copies, is_unchanged, make_config, make_engine, play_digits, talking_model
from training import make_learner
from zerone.config import Config, build_config
from zerone.config.presets import PRESETS
from zerone.config.tree import options

PAGE = (Path(__file__).parents[2] / "docs" / "grpo.md").read_text(encoding="utf-8")

GRPO: dict[str, Any] = {
    "advantage.baseline": "mean",
    "advantage.scale": "group",
    "loss.ratio": "token",
    "loss.surrogate": "clip",
    "loss.aggregation": "sequence",
    "loss.correction": "none",
    "loss.kl_coef": 0.0,
    "loss.clip_low": 0.2,
    "loss.clip_high": 0.2,
    "loss.mask_truncated": False,
    "rl.reference_every": 0,
    "rl.refill": 0,
}
WIDE = {"loss.clip_low": 10.0, "loss.clip_high": 10.0}
RESET = {"loss.kl_coef": 0.001, "loss.kl_estimator": "k3", "rl.reference_every": 25}
PAPERS: dict[str, dict[str, Any]] = {
    "r1_zero": WIDE | RESET,
    "r1": WIDE | RESET | {"reward.language": 1.0},
    "dapo": {"loss.clip_high": 0.28, "loss.aggregation": "token", "rl.refill": 3, "reward.overlong": 1.0},
    "dr_grpo": {"advantage.scale": "none", "loss.aggregation": "constant"},
    "gspo": {"loss.ratio": "sequence", "loss.clip_low": 3e-4, "loss.clip_high": 4e-4},
    "cispo": {"loss.surrogate": "cispo", "loss.clip_high": 5.0, "loss.aggregation": "token"},
    "rloo": {
        "advantage.baseline": "leave_one_out",
        "advantage.scale": "none",
        "loss.aggregation": "constant",
    },
    "reinforce_pp": {
        "advantage.scale": "batch",
        "loss.aggregation": "token",
        "loss.kl_coef": 0.001,
        "loss.kl_estimator": "k2",
    },
    "v3_2": {
        "advantage.scale": "none",
        "loss.kl_coef": 0.001,
        "loss.kl_estimator": "unbiased",
        "loss.correction": "stale_mask",
        "loss.correction_high": 0.5,
    },
}
"""What each paper changes of GRPO."""


def value(config: Config, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def test_every_preset_is_in_this_table_and_on_the_page() -> None:
    assert {*PRESETS} - {"none"} == {*PAPERS}
    for name in PAPERS:
        assert f"| `{name}` |" in PAGE


@pytest.mark.parametrize("name", PAPERS)
def test_a_preset_has_the_settings_of_its_paper(name: str) -> None:
    config = build_config({}, [f"rl.preset={name}"])
    for key, expected in (GRPO | PAPERS[name]).items():
        assert value(config, key) == expected, key


@pytest.mark.parametrize("name", PAPERS)
def test_a_preset_changes_nothing_of_model_data_rate_and_sizes(name: str) -> None:
    plain, config = build_config({}), build_config({}, [f"rl.preset={name}"])
    changed = {key for key in options() if "." in key and key.count(".") == 1}
    changed = {key for key in changed if value(config, key) != value(plain, key)}
    assert changed <= {*GRPO, *PAPERS[name], "rl.preset"}


@pytest.mark.parametrize("name", PAPERS)
def test_what_is_set_beside_a_preset_overrides_it_in_any_order(name: str) -> None:
    for overrides in (
        [f"rl.preset={name}", "loss.clip_high=0.33"],
        ["loss.clip_high=0.33", f"rl.preset={name}"],
    ):
        config = build_config({}, overrides)
        assert (config.rl.preset, config.loss.clip_high) == (name, 0.33)


@pytest.mark.parametrize("name", PAPERS)
def test_a_preset_trains_two_steps(name: str, tmp_path: Path) -> None:
    changes = {key.replace(".", "__"): value for key, value in PRESETS[name].items()}
    config = make_config(**changes, rl__preset=name, rl__steps=2, optim__learning_rate=0.003)
    model = talking_model()
    before = copies(model)
    reference = copy.deepcopy(model) if config.loss.kl_coef else None
    run = play_digits(config, make_learner(model, config, reference=reference), make_engine(model), tmp_path)
    steps = run.read_metrics()
    assert len(steps) == 2
    assert not is_unchanged(model, before)
    for line in steps:
        assert line["num_updates"] == 2
        assert math.isfinite(line["loss"])
        assert line["grad_norm"] > 0
    assert (steps[-1]["kl"] > 0) is (reference is not None)
    assert ("corrected" in steps[-1]) is (config.loss.correction != "none")
