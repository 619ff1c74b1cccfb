"""The recipes for models and data of the Hub, tried through the path of a user: names, templates, verifiers.

The models are tiny and random, of each recipe's architecture and context; the rows have the form of its data
set. A Hub on loopback gives both by their real names.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fake_hub import Online, online
from fakes import Kind, Shape, byte_tokenizer, tiny_model
from processes import call_main, metrics_of
from published_rows import GSM8K_CARD
from zerone.config import build_config, read_recipe
from zerone.config.recipes import recipe_file, recipe_paths
from zerone.model.loading import save_model

ON_A_CPU = ("engine.kind=torch", "model.device=cpu", "model.precision=fp32", "model.threads=1")

MODELS: Mapping[str, tuple[Kind, int]] = {
    "Qwen/Qwen2.5-0.5B": ("qwen2", 32768),
    "Qwen/Qwen2.5-1.5B": ("qwen2", 131072),
    "Qwen/Qwen2.5-Math-1.5B": ("qwen2", 4096),
    "Qwen/Qwen2.5-3B": ("qwen2", 32768),
    "Qwen/Qwen2.5-7B": ("qwen2", 131072),
    "meta-llama/Llama-3.1-8B": ("llama", 131072),
}
"""Architecture and context by name."""

DAPO_CARD = """---
configs:
- config_name: all
  data_files: [{split: train, path: all/train-*}]
- config_name: en
  data_files: [{split: train, path: en/train-*}]
---
"""


def rows(*made: Mapping[str, object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in made).encode()


def gsm8k(number: int, first: int = 0) -> bytes:
    return rows(
        *(
            {
                "question": f"Ann has {i} eggs and buys {i + 1} more. How many eggs has she?",
                "answer": f"{i} + {i + 1} = <<{i}+{i + 1}={2 * i + 1}>>{2 * i + 1}.\n#### {2 * i + 1:,}",
            }
            for i in range(first, first + number)
        )
    )


def mathematics() -> bytes:
    """Rows of MATH, one of which has an answer that no rule reads."""
    solved = [
        {
            "problem": f"What is $\\frac{{{i}}}{{7}}$ in lowest terms?",
            "level": f"Level {1 + i % 5}",
            "type": "Prealgebra",
            "solution": f"It is \\boxed{{\\frac{{{i}}}{{7}}}}.",
        }
        for i in range(60)
    ]
    return rows(*solved)


def dapo() -> bytes:
    return rows(
        *(
            {
                "prompt": f"Find the remainder of ${i}^2$ divided by 11.",
                "solution": str(i * i % 11),
                "data_source": "math_dapo",
                "source_prompt": [{"role": "user", "content": f"Solve ... ${i}^2$"}],
                "ability": "MATH",
                "reward_model": {"ground_truth": str(i * i % 11), "style": "rule-lighteval/MATH_v2"},
                "extra_info": {"index": f"id-{i}"},
            }
            for i in range(60)
        )
    )


def countdown() -> bytes:
    return rows(*({"target": 3 * i + 7, "nums": [i + 2, 2 * i + 3, 2]} for i in range(3000)))


def thoughts() -> bytes:
    """Rows of OpenThoughts-114k, whose marks the adapter writes as reasoning and content."""
    return rows(
        *(
            {
                "system": "Write <|begin_of_thought|> {steps} <|end_of_thought|> and a solution.",
                "conversations": [
                    {"from": "user", "value": f"Return your final response within \\boxed{{}}. {i} + 1?"},
                    {
                        "from": "assistant",
                        "value": f"<|begin_of_thought|>\n\nAdd one to {i}.\n\n<|end_of_thought|>\n\n"
                        f"<|begin_of_solution|>\n\nIt is \\boxed{{{i + 1}}}.\n\n<|end_of_solution|>",
                    },
                ],
            }
            for i in range(2000)
        )
    )


DATA: Mapping[str, Mapping[str, bytes]] = {
    "openai/gsm8k": {
        "README.md": GSM8K_CARD,
        "main/train-00000-of-00001.jsonl": gsm8k(80),
        "main/test-00000-of-00001.jsonl": gsm8k(12, 1000),
    },
    "DigitalLearningGmbH/MATH-lighteval": {
        "train-00000-of-00001.jsonl": mathematics(),
        "test-00000-of-00001.jsonl": mathematics(),
    },
    "open-r1/DAPO-Math-17k-Processed": {
        "README.md": DAPO_CARD.encode(),
        "all/train-00000-of-00001.jsonl": b"no JSON: another configuration\n",
        "en/train-00000-of-00001.jsonl": dapo(),
    },
    "Jiayi-Pan/Countdown-Tasks-3to4": {"train-00000-of-00001.jsonl": countdown()},
    "open-thoughts/OpenThoughts-114k": {"train-00000-of-00001.jsonl": thoughts()},
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Online]:
    folder = tmp_path_factory.mktemp("web")
    with online(folder / "hub") as found:
        for name, (kind, context) in MODELS.items():
            made = folder / name
            save_model(tiny_model(Shape(kind=kind, context=context)), byte_tokenizer(), made)
            files = {path.name: path.read_bytes() for path in made.iterdir()}
            found.hub.add("models", name, files)
        for name, of_data in DATA.items():
            found.hub.add("datasets", name, of_data)
        yield found


PLANNED = "# Planned by: zerone plan RECIPE "


def text_of(recipe: str) -> str:
    return recipe_paths()[recipe].read_text(encoding="utf-8")


def command_of(recipe: str) -> list[str]:
    command = {"distill": "sft", "r1": "r1"}.get(recipe.partition("_")[0], "zero")
    return [command, f"--recipe={recipe}"]


@pytest.mark.parametrize(
    ("recipe", "data"),
    [
        ("zero_gsm8k_0.5b", "read as GSM8K"),
        ("zero_math_1.5b", "read as MATH"),
        ("zero_countdown_3b", "read as Countdown"),
        ("zero_math_7b_lora", "read as DAPO-Math-17k-Processed"),
        ("distill_1.5b", None),
        ("distill_8b_llama", None),
    ],
)
def test_a_recipe_is_tried_out_by_the_names_of_its_model_and_data(
    recipe: str, data: str | None, web: Online, tmp_path: Path
) -> None:
    changes = ["optim.kind=adamw"] if recipe == "distill_8b_llama" else []  # torchao is an extra
    before = len(web.hub.fetched)
    code, out, err = call_main(tmp_path, *command_of(recipe), *ON_A_CPU, *changes, "--dry-run")
    assert code == 0, err
    assert "checked as a run would be: model, data, rewards, lengths" in out
    config = build_config(read_recipe(recipe_file(recipe)))
    assert config.model.path in MODELS
    assert not [name for name in web.hub.fetched[before:] if "test" in name or name.startswith("all/")]


def test_all_stages_of_r1_are_planned_without_ppo_and_students(web: Online, tmp_path: Path) -> None:
    code, out, err = call_main(tmp_path, *command_of("r1_1.5b"), *ON_A_CPU, "--dry-run")
    assert code == 0, err
    named = {line.split()[0] for line in out.splitlines() if line.strip()}
    stages = {"r1_zero", "cold_start", "dev1", "dev2", "rejection", "dev3", "helpfulness", "safety", "r1"}
    assert stages <= named
    assert not {"ppo", "teacher_samples", "students"} & named


@pytest.mark.parametrize("recipe", sorted(name for name in recipe_paths() if PLANNED in text_of(name)))
def test_a_recipe_says_what_zerone_plan_says(recipe: str, tmp_path: Path) -> None:
    said = re.search(rf"{PLANNED}(?P<options>[^:]+): (?P<figures>.+)", text_of(recipe))
    assert said is not None
    code, out, err = call_main(tmp_path, "plan", recipe, *said["options"].split())
    assert code == 0, err
    for figure in re.split(r", (?=[\d$])", said["figures"]):
        assert figure in out


def test_every_recipe_for_a_gpu_quotes_its_plan() -> None:
    names = {name for name in recipe_paths() if "Qwen/" in text_of(name) or "meta-llama/" in text_of(name)}
    assert len(names) == 7
    assert names == {name for name in recipe_paths() if PLANNED in text_of(name)}
    assert all("not measured on a GPU yet" in text_of(name) for name in names)


# The tutorial -------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "gsm8k.md"

SMALL = (
    *("rl.problems_per_step=4", "rl.group_size=2", "rl.minibatches=2", "sampling.max_tokens=16"),
    *("eval.problems=4", "eval.hard_samples=1", "eval.every=1", "checkpoint.every=1", "sampling.slots=8"),
)
CHANGES: Mapping[str, tuple[str, ...]] = {
    "zero --recipe zero_gsm8k_0.5b --dry-run": ON_A_CPU,
    "zero --recipe zero_gsm8k_0.5b --run-dir runs/gsm8k": (*ON_A_CPU, *SMALL, "rl.steps=1", "--quiet"),
    "zero --resume runs/gsm8k": ("rl.steps=2", "--quiet"),
    "eval": (*ON_A_CPU, "sampling.max_tokens=8"),
}
"""What a command of the page gets beside, by how it begins, to be small and on a CPU."""

ELSEWHERE = ("doctor", "serve")
"""Commands whose own tests run them: one measures the machine, one does not end."""


def commands() -> list[list[str]]:
    """Return the commands of the page in order, without `zerone`."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.split()[1:] for line in lines if line.startswith("zerone ")]


def changes_of(words: list[str]) -> tuple[str, ...]:
    if words[:2] == ["eval", "compare"]:
        return ()
    return next((more for begin, more in CHANGES.items() if " ".join(words).startswith(begin)), ())


def test_every_command_of_the_page_on_gsm8k_runs_in_its_order(
    web: Online, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps on a CPU, the first run stopped after one and resumed; then evaluated and exported."""
    monkeypatch.chdir(tmp_path)
    told = []
    for words in commands():
        if words[0] not in ELSEWHERE:
            code, out, err = call_main(tmp_path, *words, *changes_of(words))
            assert code == 0, (words, err)
            told.append(out)
    assert len(told) == 10
    run = tmp_path / "runs" / "gsm8k"
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert "hf:openai/gsm8k (read as GSM8K): " in environment["data"]
    assert environment["model_commits"].keys() == {"Qwen/Qwen2.5-0.5B"}
    assert len(list((run / "evals").glob("*.json"))) == 3
    assert sum("gsm8k: pass@1 " in out and "12 problems x 1" in out for out in told) == 2
    assert (tmp_path / "my-model" / "model.safetensors").is_file()
    assert "18.4 GB of 24 GB" in told[0]

    whole = [
        *["zero", "--recipe", "zero_gsm8k_0.5b", "--run-dir", "whole", "--quiet", "rl.steps=2"],
        *ON_A_CPU,
        *SMALL,
    ]
    code, _, err = call_main(tmp_path, *whole)
    assert code == 0, err
    assert metrics_of(run) == metrics_of(tmp_path / "whole")
