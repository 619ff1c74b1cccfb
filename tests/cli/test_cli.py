"""The command line as a process: exit codes, what is printed where, and what must not be started.

What a command does is tested elsewhere; here are the commands that end before any heavy work.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import zerone
from processes import call_main, command_line, environment_of_runs
from zerone.config import Config, options


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `zerone ARGUMENTS` in a folder."""
    return subprocess.run(
        command_line(*arguments),
        cwd=folder,
        env=environment_of_runs(folder),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("module", "may_load"),
    [("zerone.cli.main", set()), ("zerone.report.page", {"jinja2"})],
    ids=["help", "report"],
)
def test_importing_the_command_line_or_the_report_loads_nothing_heavy(
    module: str, may_load: set[str], tmp_path: Path
) -> None:
    """They answer at once only if torch and its like wait inside the commands."""
    heavy = {"torch", "transformers", "tokenizers", "safetensors", "numpy", "jinja2", "huggingface_hub"}
    program = f"import sys, {module}; print(sorted({heavy - may_load} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment_of_runs(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_help_names_the_commands_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = call(tmp_path, "--help")
    assert done.returncode == 0
    for command in ("zero", "eval", "report", "rollouts", "pretrain", "recipes", "doctor", "config", "model"):
        assert f" {command} " in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_version_is_printed(tmp_path: Path) -> None:
    done = call(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"zerone {zerone.__version__}\n")


def test_dry_run_prints_the_resolved_configuration_and_writes_nothing(tmp_path: Path) -> None:
    done = call(tmp_path, "zero", "--recipe", "tiny", "--dry-run", "rl.steps=9", "optim.learning_rate=1e-3")
    assert done.returncode == 0
    config = Config.model_validate(yaml.safe_load(done.stdout))
    assert (config.rl.steps, config.optim.learning_rate) == (9, 0.001)
    assert config.rl.group_size == 4, "from the recipe"
    assert config.sampling.temperature == 1.0, "from the defaults"
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_file_of_ones_own_is_taken(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text("rl:\n  steps: 3\n", encoding="utf-8")
    done = call(tmp_path, "zero", "--config", str(recipe), "--dry-run")
    assert yaml.safe_load(done.stdout)["rl"]["steps"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rl.stepz=3"], "unknown option 'rl.stepz'. Did you mean 'rl.steps'"),
        (["rl.steps=many"], "rl.steps='many'"),
        (["rl.group_size=1"], "rl.group_size=1"),
        (["rl.minibatches=5"], "is not divisible by rl.minibatches=5"),
        (["rl.steps"], "'rl.steps' is not an override; write key=value"),
        (["--recipe", "none"], "no recipe is named 'none'; there are "),
        (["--config", "nowhere.yaml"], "cannot read nowhere.yaml: No such file or directory"),
        (["--resume"], "--resume needs --run-dir DIR"),
    ],
    ids=["unknown", "type", "range", "combination", "no value", "recipe", "file", "resume"],
)
def test_what_the_user_can_mend_exits_with_2_and_says_how(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = call(tmp_path, "zero", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 24, "one screen"
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["nonsense"], ["zero", "--nonsense"], ["eval"]])
def test_wrong_usage_exits_with_2(arguments: list[str], tmp_path: Path) -> None:
    done = call(tmp_path, *arguments)
    assert done.returncode == 2
    assert "Usage" in done.stderr + done.stdout  # a command without its arguments shows its help


@pytest.mark.parametrize("command", ["report", "rollouts"])
def test_commands_about_a_run_refuse_what_is_none(command: str, tmp_path: Path) -> None:
    done = call(tmp_path, command, "nowhere")
    assert done.returncode == 2
    assert "nowhere is not a run directory" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", ["rollouts", "view", "replay", "eval --suite sums", "export --to hf --out x", "serve", "chat"]
)
def test_a_directory_of_runs_names_them(command: str, tmp_path: Path) -> None:
    """As a pipeline is, whose stages are runs."""
    for stage in ("r1", "dev1"):
        (tmp_path / "pipeline" / stage).mkdir(parents=True)
        (tmp_path / "pipeline" / stage / "config.yaml").write_text("{}", encoding="utf-8")
    code, _, err = call_main(tmp_path, *command.split(), str(tmp_path / "pipeline"))
    told = f"name one of the runs in it: {tmp_path}/pipeline/dev1, {tmp_path}/pipeline/r1"
    assert (code, told in err) == (2, True), err


def test_config_show_explains_every_option(tmp_path: Path) -> None:
    done = call(tmp_path, "config", "show", "rl.steps=7")
    assert yaml.safe_load(done.stdout)["rl"]["steps"] == 7
    for description in options().values():
        assert description in done.stdout


def test_config_options_lists_every_option(tmp_path: Path) -> None:
    done = call(tmp_path, "config", "options")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(options())


def test_recipes_are_listed_with_what_they_are_for(tmp_path: Path) -> None:
    lines = call(tmp_path, "recipes").stdout.splitlines()
    assert {"tiny", "zero"} <= {line.split()[0] for line in lines}
    assert all(len(line.split()) > 4 for line in lines)
