"""`zerone plan`: memory, time and money of a run before it is started, from its configuration alone.

In: a recipe, `key=value`, GPUs, or sizes of a model. Out: the plan as text or JSON. Nothing is started,
fetched or written.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zerone.cli.arguments import ConfigFile
from zerone.config import Config, build_config, read_recipe
from zerone.config.recipes import recipe_file
from zerone.config.staged import build_stage_configs, read_staged_recipe
from zerone.errors import ConfigError, DataError

if TYPE_CHECKING:
    from zerone.planning.work import Work


def plan(  # noqa: PLR0913 - the flags of a command
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="a recipe, then dotted overrides"),
    ] = None,
    config: ConfigFile = None,
    gpus: Annotated[
        str | None, typer.Option(help="such as 1xH200 or 16xA100 [default: this machine's processor]")
    ] = None,
    per_node: Annotated[int, typer.Option(min=1, help="GPUs of a node")] = 8,
    price: Annotated[float | None, typer.Option(min=0, help="dollars an hour of a GPU")] = None,
    params: Annotated[
        float | None, typer.Option(help="parameters, where there is no model directory, as 671e9")
    ] = None,
    active_params: Annotated[float | None, typer.Option(help="those that a token meets")] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="of a model given by --params")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="its hidden size")] = None,
    cache_width: Annotated[
        int | None, typer.Option(min=1, help="numbers that its cache keeps of a token in a layer")
    ] = None,
    vocabulary: Annotated[int | None, typer.Option(min=1, help="its vocabulary")] = None,
    method: Annotated[
        str | None, typer.Option(help="rl or sft [default: as the recipe's options say]")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="a stage of a recipe of `zerone r1`, such as r1_zero or dev1")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="of SFT [default: those of data.path]")] = None,
    length: Annotated[float | None, typer.Option(min=1, help="tokens of a completion, on average")] = None,
    prompt: Annotated[float, typer.Option(min=0, help="tokens of a prompt, on average")] = 80,
    keep_experts: Annotated[
        bool, typer.Option("--keep-experts", help="tokens travel to experts, not experts to tokens")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Say what a run takes of memory, time and money, with the formulas."""
    from zerone.planning.hardware import parse_cluster
    from zerone.planning.plan import plan_here, plan_on_gpus
    from zerone.planning.shapes import GivenSizes, shape_of_model, shape_of_sizes

    recipe, overrides = _sorted_out(words or [])
    resolved, is_sft = _resolved(recipe, config, overrides, method, stage)
    sizes = {"layers": layers, "width": width, "cache_width": cache_width, "vocabulary": vocabulary}
    if params is None:
        given = [
            name for name, value in {**sizes, "active_params": active_params}.items() if value is not None
        ]
        if given:
            raise ConfigError(
                f"--{given[0].replace('_', '-')} describes a model that --params gives; give both"
            )
        shape = shape_of_model(resolved.model.path, resolved.lora.targets)
    else:
        shape = shape_of_sizes(GivenSizes(parameters=params, active=active_params, **sizes))
    work = _work_of(resolved, is_sft, rows, length, prompt)
    of_stage = "" if stage is None else f", stage {stage},"
    name = f"{'SFT' if is_sft else 'RL'} of {shape.name} by {config or recipe}{of_stage}"
    if gpus is None:
        _refuse_of_gpus(price=price is not None, keep_experts=keep_experts)
        found = plan_here(name, resolved, shape, work)
    else:
        cluster = parse_cluster(gpus, price=price, per_node=per_node)
        found = plan_on_gpus(name, resolved, shape, work, cluster, are_experts_kept=keep_experts)
    print(json.dumps(found.as_dict()) if as_json else "\n".join(found.lines()))


def _sorted_out(words: Sequence[str]) -> tuple[str, list[str]]:
    """Tell the recipe from `key=value`; raises ConfigError for more than one."""
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise ConfigError(f"one recipe is planned at a time; given are {', '.join(names)}")
    return (names or ["zero"])[0], [word for word in words if "=" in word]


def _resolved(
    recipe: str, file: Path | None, overrides: Sequence[str], method: str | None, stage: str | None
) -> tuple[Config, bool]:
    """Return the configuration, and whether it is of SFT: so `--method` says, or its own options."""
    if method not in (None, "rl", "sft"):
        raise ConfigError(f"--method {method!r} is not known; there are rl and sft")
    if stage is not None:
        resolved, is_sft = _of_stage(file or recipe_file(recipe), overrides, stage)
        return resolved, is_sft if method is None else method == "sft"
    flat = read_recipe(file or recipe_file(recipe))
    sections = {key.split(".")[0] for key in (*flat, *(word.partition("=")[0] for word in overrides))}
    is_sft = recipe == "sft" or ("sft" in sections and "rl" not in sections)
    return build_config(flat, overrides), is_sft if method is None else method == "sft"


def _of_stage(path: Path, overrides: Sequence[str], stage: str) -> tuple[Config, bool]:
    """Return the configuration of a stage of R1, and whether it is of SFT."""
    from zerone.pipeline.r1 import graph_of

    staged = read_staged_recipe(path)
    graph = graph_of(staged)
    if stage not in graph.names:
        raise ConfigError(f"no stage is named {stage!r}; there are {', '.join(graph.names)}")
    return build_stage_configs(staged, graph.names, overrides)[stage], "sft" in graph.by_name[stage].options


def _refuse_of_gpus(**given: bool) -> None:
    for name, is_given in given.items():
        if is_given:
            raise ConfigError(f"--{name.replace('_', '-')} is of GPUs; give them as --gpus 1xH200")


def _work_of(config: Config, is_sft: bool, rows: int | None, length: float | None, prompt: float) -> "Work":
    from zerone.planning.work import rl_work, sft_work

    if not is_sft:
        if rows is not None:
            raise ConfigError("--rows counts what SFT learns from; RL samples rl.problems_per_step a step")
        return rl_work(config, length, prompt)
    num_rows, of_file = (rows, None) if rows is not None else _data_of(config)
    if length is None and of_file is None:
        raise ConfigError("SFT's completions are of no known length; give --length TOKENS")
    return sft_work(config, num_rows, length or of_file or 1, prompt)


_CHARACTERS_OF_A_TOKEN = 3.5


def _data_of(config: Config) -> tuple[int, float]:
    """Return the completions of `data.path` and about how many tokens they have."""
    from zerone.data.demonstrations import read_demonstrations

    if config.data.path is None:
        raise ConfigError(
            "how much SFT learns from is not known; give data.path=FILE.jsonl, or --rows and --length"
        )
    if config.data.path.startswith("hf:"):
        raise ConfigError(
            f"{config.data.path} is not read, as a plan fetches nothing; give --rows and --length TOKENS"
        )
    found = read_demonstrations(config.data.path).demonstrations
    texts = [
        len(message.content) + len(message.thought or "")
        for one in found
        for message in one.messages
        if message.role == "assistant"
    ]
    if not texts:
        raise DataError(f"{config.data.path} holds no completion")
    return len(texts), sum(texts) / len(texts) / _CHARACTERS_OF_A_TOKEN
