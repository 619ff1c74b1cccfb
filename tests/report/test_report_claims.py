"""What the page of a run says of its reward: every part that counts, and nothing that is not so."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from report_runs import Page, make_run
from zerone.config import build_config, to_yaml
from zerone.report import claims, tables
from zerone.report.page import render
from zerone.report.record import read_record
from zerone.rewards.total import RewardWeights
from zerone.runs.directory import write_atomically

PLAIN = "No part of the reward names length, reflection or any way of reasoning"


def test_every_part_of_the_reward_can_be_named() -> None:
    assert list(claims.PARTS) == [field.name for field in fields(RewardWeights)]


@pytest.mark.parametrize(
    ("option", "reward", "thinking", "length", "words"),
    [
        ("reward.format=0", "", PLAIN, "does not name length", "does not name them"),
        (
            "reward.overlong=1",
            "against completions near",
            "Long completions were penalized",
            "penalizes completions",
            "not",
        ),
        ("reward.repetition=1", "against repeated", "Repeated strings were", "does not name length", "not"),
        ("reward.language=1", "for reasoning in", "The language of the reas", "does not name length", "not"),
        ("reward.user=1", "by the user's own", "it may be length", "the user's own", "whether the"),
        (
            "reward.preference=1",
            "by reward models",
            "it may be length",
            "the reward models",
            "whether the",
        ),
    ],
)
def test_page_names_every_part_of_the_reward(
    tmp_path: Path, option: str, reward: str, thinking: str, length: str, words: str
) -> None:
    run = make_run(tmp_path / "a", [0.14, 0.93])
    config = yaml.safe_load(to_yaml(build_config({}, ["rl.steps=3"])))
    name, weight = option.removeprefix("reward.").split("=")
    config["reward"][name] = float(weight)
    write_atomically(run.config_path, yaml.safe_dump(config))
    record = read_record(run)
    assert reward in claims.reward_of(record)
    assert thinking in claims.thinking_claims(record)
    assert length in claims.length_claim(record)
    assert words in claims.reflection_claim(record)
    text = Page(render(run)).text
    assert (PLAIN in text) is (thinking == PLAIN)
    assert ("the reward does not name length" in text) is (length == "does not name length")
    assert f"with {claims.reward_of(record)}, seed 0" in text, "the lead"
    assert f"A{claims.reward_of(record)[1:]}, and nothing else, raised" in text
    here = next(row.here for row in tables.settings(record) if row.label == "Reward")
    assert here == ("1 accuracy" if name == "format" else f"1 accuracy + 0.1 format + 1 {name}")
    assert f"the weights in the reward are {claims.written_weights(record)}." in text
