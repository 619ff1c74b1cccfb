"""The option tree: precedence, refusals that say what to do, and its YAML form."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zerone.config import Config, build_config, options, read_recipe, to_yaml
from zerone.errors import ConfigError, UserError


def _recipe(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path)


def test_defaults_are_a_possible_configuration() -> None:
    assert build_config({}) == Config()


def test_every_option_has_a_description() -> None:
    assert len(options()) > 30
    assert [option for option, description in options().items() if not description.strip()] == []


def test_recipe_beats_default_and_override_beats_recipe_and_later_override_beats_earlier(
    tmp_path: Path,
) -> None:
    recipe = _recipe(
        tmp_path, "seed: 3\nrl:\n  steps: 7\n  group_size: 4\npretrain:\n  habits:\n    slip: 0.5\n"
    )
    config = build_config(recipe, ["rl.steps=9", "--rl.epochs=2", "rl.epochs=3"])
    assert (config.seed, config.rl.group_size, config.pretrain.habits.slip) == (3, 4, 0.5)
    assert config.rl.steps == 9
    assert config.rl.epochs == 3
    assert config.rl.minibatches == Config().rl.minibatches
    assert config.pretrain.habits.careful == Config().pretrain.habits.careful


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "0.0001", "1.0e-4", " 1e-4"])
def test_small_numbers_are_numbers_however_they_are_written(text: str, tmp_path: Path) -> None:
    assert build_config({}, [f"optim.learning_rate={text}"]).optim.learning_rate == 1e-4
    recipe = _recipe(tmp_path, f"optim:\n  learning_rate: {text}\n")
    assert build_config(recipe).optim.learning_rate == 1e-4


def test_whole_numbers_may_be_written_as_powers_of_ten() -> None:
    assert build_config({}, ["rl.steps=1e3"]).rl.steps == 1000


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("rl.stpes", "rl.steps"),
        ("rl.groupsize", "rl.group_size"),
        ("optim.lerning_rate", "optim.learning_rate"),
        ("group_size", "rl.group_size"),
        ("optim.temperature", "sampling.temperature"),
        ("sedd", "seed"),
        ("pretrain.slip", "pretrain.habits.slip"),
    ],
)
def test_unknown_option_is_refused_with_what_was_meant(key: str, suggestion: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown option '{key}'.*Did you mean .*'{suggestion}'"):
        build_config({}, [f"{key}=1"])


def test_unknown_option_of_a_recipe_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'rl\.stpes'.*'rl\.steps'"):
        build_config(_recipe(tmp_path, "rl:\n  stpes: 3\n"))


def test_option_like_nothing_else_points_to_the_list() -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'qqqq'\. `zerone config show`"):
        build_config({}, ["qqqq=1"])


@pytest.mark.parametrize("key", ["rl", "pretrain.habits", "pretrain"])
def test_section_is_not_an_option(key: str) -> None:
    with pytest.raises(ConfigError, match=f"'{key}' is a section, not an option; did you mean '{key}"):
        build_config({}, [f"{key}=1"])


@pytest.mark.parametrize("argument", ["rl.steps", "steps", "--resume", ""])
def test_override_without_a_value_is_refused(argument: str) -> None:
    with pytest.raises(ConfigError, match=r"is not an override; write key=value"):
        build_config({}, [argument])


@pytest.mark.parametrize(
    "override",
    [
        "rl.steps=many",
        "rl.steps=1.5",
        "rl.steps=",
        "rl.steps=[1, 2]",
        "rl.steps={a: 1}",
        "rl.steps=true",
        "rl.steps=0",
        "rl.group_size=1",
        "seed=-1",
        "optim.learning_rate=0",
        "optim.learning_rate=fast",
        "optim.learning_rate=.nan",
        "optim.learning_rate=inf",
        "sampling.top_p=1.1",
        "sampling.temperature=-1",
        "loss.kl_estimator=k4",
        "loss.mask_truncated=maybe",
        "model.precision=fp16",
        "pretrain.habits.slip=2",
        "data.eval_share=1",
    ],
)
def test_value_that_cannot_be_is_refused_by_name(override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(ConfigError) as caught:
        build_config({}, [override])
    assert str(caught.value).startswith(f"{key}=")
    assert options()[key] in str(caught.value)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build_config({}, ["rl.steps=0", "seed=-1"])
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["rl.problems_per_step=10", "rl.minibatches=4"],
            "rl.problems_per_step=10 is not divisible by rl.minibatches=4",
        ),
        (["rl.reference_every=5"], "rl.reference_every has no effect while loss.kl_coef is 0"),
        (["sampling.temperature=0"], "sampling.temperature=0 makes all completions of a group equal"),
        (["reward.accuracy=0", "reward.format=0"], "all reward weights are 0"),
    ],
)
def test_impossible_combination_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config({}, overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["rl.problems_per_step=12", "rl.minibatches=4"],
        ["rl.reference_every=5", "loss.kl_coef=0.001"],
        ["sampling.temperature=0.1"],
        ["reward.accuracy=0"],
    ],
)
def test_possible_neighbours_of_impossible_combinations_are_accepted(overrides: list[str]) -> None:
    build_config({}, overrides)


def test_configuration_error_is_the_users_and_ends_with_code_2() -> None:
    with pytest.raises(UserError) as caught:
        build_config({}, ["seed=-1"])
    assert isinstance(caught.value, ValueError)
    assert caught.value.exit_code == 2


TEXTS = ["#### (.*)", r"#### (\-?[0-9.,]+)", "[0-9]+", ": x", "no", "123", "1e5", "inf", "a: b", "* (.*)"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_option_takes_its_text_as_typed(text: str) -> None:
    """`#### (.*)` is how GSM8K marks its answers, and to YAML it is a comment."""
    assert build_config({}, [f"data.answer_pattern={text}"]).data.answer_pattern == text


@pytest.mark.parametrize("text", TEXTS)
def test_text_option_survives_the_saved_configuration(text: str, tmp_path: Path) -> None:
    data = Config().data.model_copy(update={"answer_pattern": text})
    config = Config().model_copy(update={"data": data})
    assert build_config(_recipe(tmp_path, to_yaml(config))) == config


@pytest.mark.parametrize("with_descriptions", [False, True])
@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**40),
    rate=st.floats(1e-12, 1e3),
    slip=st.floats(0, 1),
    path=st.sampled_from(
        [None, "a.jsonl", "/some where/with spaces/" + "and much more " * 20, "数据.jsonl", "a#b: c"]
    ),
    mask=st.booleans(),
    stop=st.sampled_from([(), ("\n",), ("User:", "# not a comment", "等等")]),
)
def test_saved_configuration_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    with_descriptions: bool,
    seed: int,
    rate: float,
    slip: float,
    path: str | None,
    mask: bool,
    stop: tuple[str, ...],
) -> None:
    config = Config.model_validate(
        {
            "seed": seed,
            "optim": {"learning_rate": rate},
            "data": {"path": path},
            "loss": {"mask_truncated": mask},
            "sampling": {"stop": stop},
            "pretrain": {"habits": {"slip": slip}},
        }
    )
    text = to_yaml(config, with_descriptions=with_descriptions)
    assert build_config(_recipe(tmp_path_factory.mktemp("recipe"), text)) == config


def test_described_configuration_explains_every_option_on_its_line() -> None:
    lines = to_yaml(Config(), with_descriptions=True).splitlines()
    assert [line.split("  # ")[1] for line in lines if "  # " in line] == list(options().values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rl: [1", "is not a YAML file"),
        ("- a\n- b\n", "must hold a mapping of sections, not list"),
        ("", "must hold a mapping of sections, not NoneType"),
        ("just text", "must hold a mapping of sections, not str"),
    ],
)
def test_recipe_that_is_no_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        _recipe(tmp_path, text)
    assert "recipe.yaml" in str(caught.value)


def test_recipe_that_is_missing_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml: No such file"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml is not a YAML file"):
        read_recipe(tmp_path / "binary.yaml")


def test_recipe_cannot_run_code(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a YAML file"):
        _recipe(tmp_path, "seed: !!python/object/apply:os.getpid []\n")


def test_options_cannot_be_changed_after_building() -> None:
    rl: Any = Config().rl
    with pytest.raises(ValueError, match="frozen"):
        rl.steps = 3


def test_options_are_exactly_the_leaves_of_the_saved_tree() -> None:
    def leaves(tree: dict[str, object], prefix: str = "") -> list[str]:
        return [
            leaf
            for key, value in tree.items()
            for leaf in (leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
        ]

    assert leaves(yaml.safe_load(to_yaml(Config()))) == list(options())
