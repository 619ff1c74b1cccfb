"""Ablations: one stage of R1 run in several variants beside each other, and what to look at.

In: the name of an ablation, a recipe of stages or a finished pipeline, a directory. Out: a run
directory per variant in it. The stages that the variants start from are run once, or taken from a
pipeline; then each variant is a stage of its own, so all that a pipeline promises (resuming, nothing
done twice, lineage) holds here. A new ablation is one entry in ABLATIONS.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from zerone.config import Config
from zerone.config.staged import StagedRecipe, build_stage_configs, read_staged_recipe
from zerone.errors import ConfigError, RunDirError
from zerone.pipeline.graph import Graph, Source
from zerone.pipeline.rl_stage import BASE_MODEL, PROBLEMS
from zerone.pipeline.run import Pipeline, Selection
from zerone.runs.directory import RECIPE_NAME
from zerone.runs.records import RECORD_NAME, Records


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A figure over the steps, one line per variant.

    `key` is a dotted name in a line of metrics.jsonl or timing.jsonl, or in an evaluation's suites
    (`hard.pass_at_1`); where its last part is a pattern (`requests/*`) it is the mean of what matches.
    Of the rollouts' texts it is `language`, which a run without that reward does not record.
    """

    title: str
    key: str
    source: Literal["metrics", "timing", "evals", "texts"] = "metrics"
    unit: str = "share of answers"
    is_share: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """What is compared: variants of a stage, each by what differs from that stage's options.

    `settings` hold for all variants; a variant in `inputs` starts from those in place of the stage's.
    """

    shows: str
    stage: str
    variants: Mapping[str, Mapping[str, Any]]
    curves: Sequence[Curve]
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, str | Source]] = field(default_factory=dict)


_REASONING = Curve(title="Reasoning, held out", key="hard.pass_at_1", source="evals")
_TRAINING = Curve(title="Right training answers", key="accuracy")
_LENGTH = Curve(title="Response length", key="response_tokens", unit="tokens per response", is_share=False)
_ENTROPY = Curve(title="Entropy", key="entropy", unit="nats per token", is_share=False)
_KL = Curve(title="Distance to the reference", key="kl", unit="nats per token", is_share=False)
_SECONDS = Curve(title="Time per step", key="total_s", source="timing", unit="seconds", is_share=False)
_OFTEN: Mapping[str, Any] = {"eval.every": 2}

ABLATIONS: Mapping[str, Ablation] = {
    "language": Ablation(
        shows="Without a reward for the question's language, thoughts drift into others (R1 paper, B.6).",
        stage="dev2",
        variants={"with": {"reward.language": 1.0}, "without": {"reward.language": 0.0}},
        curves=(
            Curve(
                title="Thoughts in the question's language",
                key="language",
                source="texts",
                unit="share of their words",
            ),
            _REASONING,
            _TRAINING,
        ),
        settings=_OFTEN,
    ),
    "preference": Ablation(
        shows="Paid for pleasing a reward model from the start, a policy learns to please it: that reward "
        "rises while reasoning falls (R1 paper, B.5).",
        stage="r1",
        variants={"scheduled": {}, "from_start": {"reward.preference_share": 1.0}},
        curves=(
            Curve(title="Reward of the helpfulness model", key="parts.helpfulness", unit="mean reward"),
            _REASONING,
            Curve(title="Requests answered well, by the rules", key="accuracy_by.requests/*"),
            _LENGTH,
        ),
        settings=_OFTEN,
    ),
    "cold_start": Ablation(
        shows="Reasoning RL from a model that has seen a few long and readable thoughts, and from the base "
        "as it is: the first begins in a form that people can read (R1 paper, 3.2).",
        stage="dev2",
        variants={"with": {}, "without": {"prompt.style": "tags"}},
        curves=(
            _REASONING,
            _TRAINING,
            Curve(title="Answers in the form asked for", key="format"),
            Curve(
                title="Thoughts in the question's language",
                key="language",
                source="texts",
                unit="share of their words",
            ),
            _LENGTH,
        ),
        settings=_OFTEN,
        inputs={"without": {"base": BASE_MODEL, "problems": PROBLEMS}},
    ),
    "group_size": Ablation(
        shows="The same number of answers in a step, to many problems or to few: the group is the baseline.",
        stage="r1_zero",
        variants={
            f"group_{size}": {"rl.group_size": size, "rl.problems_per_step": 768 // size}
            for size in (4, 16, 64)
        },
        curves=(_REASONING, _TRAINING, Curve(title="Groups with signal", key="groups_with_signal"), _ENTROPY),
    ),
    "kl": Ablation(
        shows="What a pull towards the reference costs and keeps.",
        stage="r1_zero",
        variants={
            "kl_0": {"loss.kl_coef": 0.0},
            "kl_0001": {"loss.kl_coef": 0.001},
            "kl_01": {"loss.kl_coef": 0.1},
        },
        curves=(_REASONING, _TRAINING, _ENTROPY, _LENGTH),
    ),
    "reference": Ablation(
        shows="With a strong pull, a reference that stays where it was holds the policy back; one that is "
        "replaced lets it go on (R1 paper: every 400 updates).",
        stage="r1_zero",
        variants={"fixed": {}, "replaced": {"rl.reference_every": 5}},
        curves=(_REASONING, _TRAINING, _KL, _ENTROPY),
        settings={"loss.kl_coef": 0.1},
    ),
    "algorithm": Ablation(
        shows="GRPO takes the group's mean as its baseline; PPO trains a critic of the policy's size for it.",
        stage="r1_zero",
        variants={"grpo": {"rl.algorithm": "grpo"}, "ppo": {"rl.algorithm": "ppo"}},
        curves=(_REASONING, _TRAINING, _SECONDS, _LENGTH),
    ),
}


def ablation_named(name: str) -> Ablation:
    """Return an ablation; raises ConfigError for an unknown name."""
    if name not in ABLATIONS:
        raise ConfigError(f"no ablation is named {name!r}; there are {', '.join(ABLATIONS)}")
    return ABLATIONS[name]


def ablation_graph(graph: Graph, ablation: Ablation) -> Graph:
    """Return the stages that the ablated one needs, and a copy of it for each variant."""
    stage = graph.by_name[ablation.stage]
    needed = _needed(graph, ablation.stage)
    return Graph(
        stages=(
            *(other for other in graph.stages if other.name in needed),
            *(
                replace(
                    stage,
                    name=variant,
                    makes=f"{stage.name} in the variant {variant}",
                    inputs=ablation.inputs.get(variant, stage.inputs),
                )
                for variant in ablation.variants
            ),
        )
    )


def _needed(graph: Graph, name: str) -> set[str]:
    """Return all stages that a stage needs, directly or not."""
    found: set[str] = set()
    for stage in reversed(graph.stages):
        if stage.name == name or stage.name in found:
            found |= set(stage.parents)
    return found


def ablation_configs(
    graph: Graph, ablation: Ablation, recipe: StagedRecipe, overrides: Sequence[str], *, only_variants: bool
) -> dict[str, Config]:
    """Return the configuration of each stage; `key=value` is for all of them, or for all variants.

    Raises ConfigError where overrides make all variants the same.
    """
    shown = ablation_graph(graph, ablation)
    needed = [name for name in shown.names if name not in ablation.variants]
    own: dict[str, Any] = {}
    for pattern in sorted(recipe.stages, key=lambda pattern: pattern == ablation.stage):
        own |= recipe.stages[pattern] if fnmatchcase(ablation.stage, pattern) else {}
    of_variants = {
        name: {**own, **ablation.settings, **differing} for name, differing in ablation.variants.items()
    }
    known = {name: options for name, options in recipe.stages.items() if name in needed or "*" in name}
    staged = StagedRecipe(common=recipe.common, stages={**known, **of_variants})
    configs = build_stage_configs(staged, shown.names, overrides)
    if only_variants:
        configs |= build_stage_configs(StagedRecipe(common=recipe.common, stages=known), needed)
    if len({configs[name].model_dump_json() for name in ablation.variants}) < len(ablation.variants):
        raise ConfigError(
            "with these overrides some variants are the same; they differ in "
            + ", ".join(sorted({key for differing in ablation.variants.values() for key in differing}))
        )
    return configs


def ablation_pipeline(
    graph: Graph,
    ablation: Ablation,
    directory: Path,
    recipe: Path,
    overrides: Sequence[str],
    parents: Path | None = None,
) -> Pipeline:
    """Return the pipeline of an ablation; with `parents`, a pipeline, it starts from what that made.

    Then the recipe is that pipeline's, and `take_over` must come before it is run.
    """
    if parents is not None:
        recipe = parents / RECIPE_NAME
        if not recipe.is_file():
            raise RunDirError(f"{parents} is not a pipeline (it has no {RECIPE_NAME}); run `zerone r1` first")
    staged = read_staged_recipe(recipe)
    kept = {name: o for name, o in staged.stages.items() if name in graph.names or "*" in name}
    staged = replace(staged, stages=kept)
    configs = ablation_configs(graph, ablation, staged, overrides, only_variants=parents is not None)
    return Pipeline(ablation_graph(graph, ablation), configs, directory, Selection())


def take_over(work: Pipeline, ablation: Ablation, parents: Path) -> None:
    """Copy what a pipeline made that an ablation needs, with its records, unless it is there.

    The hashes in a record say that nothing need be done again, and notice it if something must.
    """
    directory = work.directory
    for name in (name for name in work.stages if name not in ablation.variants):
        record = Records(parents).read(name)
        if record is None or not record.is_done:
            raise RunDirError(f"stage {name} of {parents} is not done; finish it by `zerone r1 --resume`")
        if not (directory / name).exists():
            _copy_stage(parents / name, directory / name, [output.path for output in record.outputs.values()])


def _copy_stage(old: Path, wanted: Path, outputs: Sequence[str]) -> None:
    new = wanted.with_name(f".{wanted.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for made in (RECORD_NAME, *outputs):
            (shutil.copytree if (old / made).is_dir() else shutil.copy2)(old / made, new / made)
        new.rename(wanted)
    except OSError as error:
        raise RunDirError(f"cannot copy {old} to {wanted}: {error}") from error
