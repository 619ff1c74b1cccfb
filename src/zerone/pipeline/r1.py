"""The stages of R1, declared: which model comes from which, and from which data (R1 paper, figure 2).

In: nothing. Out: the graph that `zerone r1` runs. A stage is one entry here and one function
elsewhere; what is not said here (order, resuming, lineage) follows.
"""

from collections.abc import Mapping, Sequence

from zerone.config.staged import StagedRecipe
from zerone.data.preferences import Kind
from zerone.pipeline import curation_stage, reward_stage, rl_stage, sft_stage
from zerone.pipeline.distillation import distillation_stages
from zerone.pipeline.estimates import reward_model_estimate, rl_estimate, sft_estimate
from zerone.pipeline.graph import Graph, Source, Stage, StageFunction
from zerone.pipeline.ppo_stage import ppo_stage
from zerone.pipeline.rl_stage import BASE_MODEL, PROBLEMS
from zerone.pipeline.students import DEFAULT_STUDENTS
from zerone.pipeline.suites_stage import with_measurements

TEACHER = "r1.model"
"""Whose answers the students learn from."""


def r1_graph(students: Sequence[str] = DEFAULT_STUDENTS) -> Graph:
    """Return the stages in the order in which they run: a measurement after each model, students last."""
    stages = with_measurements((*_to_dev3(), *_to_r1()))
    return Graph(stages=(*stages, *(distillation_stages(TEACHER, students) if students else ())))


def graph_of(recipe: StagedRecipe) -> Graph:
    """Return the graph of a recipe: with the students that it names, and without what it leaves out."""
    students = DEFAULT_STUDENTS if recipe.students is None else recipe.students
    return r1_graph(students).without(recipe.left_out)


def _to_dev3() -> tuple[Stage, ...]:
    """Return the stages that make R1-Zero and, from its answers, the first three models."""
    r1_zero = _reinforced(
        "r1_zero", "R1-Zero, by reinforcement learning alone on the base", {"base": BASE_MODEL}
    )
    return (
        r1_zero,
        ppo_stage(r1_zero),
        _curated(
            "cold_start",
            "few and readable long thoughts, from R1-Zero and the base",
            curation_stage.run_cold_start,
            {"base": BASE_MODEL, "zero": "r1_zero.model"},
        ),
        _tuned("dev1", "Dev1, by SFT of the base on the cold start", "cold_start.data", 50_000),
        _reinforced("dev2", "Dev2, by reasoning RL on Dev1", {"model": "dev1.model"}),
        _curated(
            "rejection",
            "many right and readable answers of Dev2",
            curation_stage.run_rejection_sampling,
            {"model": "dev2.model"},
        ),
        _tuned("dev3", "Dev3, by SFT of the base on what was kept", "rejection.data", 300_000),
    )


def _to_r1() -> tuple[Stage, ...]:
    """Return the stages from Dev3 to R1."""
    judges = {"helpfulness": "helpfulness.reward_model", "safety": "safety.reward_model"}
    return (
        _reward_model("helpfulness", "how helpful an answer is"),
        _reward_model("safety", "whether a response is safe"),
        _reinforced(
            "r1", "R1, by RL on reasoning and, at the end, preferences", {"model": "dev3.model", **judges}
        ),
    )


def _reinforced(name: str, makes: str, inputs: Mapping[str, str | Source]) -> Stage:
    """Return a stage of reinforcement learning on the problems."""
    return Stage(
        name=name,
        makes=makes,
        run=rl_stage.run_rl,
        inputs={**inputs, "problems": PROBLEMS},
        outputs=("model", "prompts"),
        options=rl_stage.OPTIONS,
        estimate=rl_estimate,
    )


def _curated(name: str, makes: str, run: StageFunction, inputs: Mapping[str, str | Source]) -> Stage:
    """Return a stage that samples answers to the problems and keeps what is fit for SFT."""
    return Stage(
        name=name,
        makes=makes,
        run=run,
        inputs={**inputs, "problems": PROBLEMS},
        outputs=("data", "summary"),
        options=curation_stage.OPTIONS,
        estimate=curation_stage.curation_estimate,
        revision=3,
    )


def _tuned(name: str, makes: str, data: str, num_tokens: int) -> Stage:
    """Return a stage of SFT, from the base again, on data of about `num_tokens`."""
    return Stage(
        name=name,
        makes=makes,
        run=sft_stage.run_sft_stage,
        inputs={"base": BASE_MODEL, "data": data},
        outputs=("model", "best"),
        options=sft_stage.OPTIONS,
        estimate=sft_estimate(num_tokens),
    )


def _reward_model(kind: Kind, judges: str) -> Stage:
    """Return a stage that trains a reward model, which has the shape of R1 (R1 paper, 3.1)."""
    return Stage(
        name=kind,
        makes=f"a model of {judges}, from preferences",
        run=reward_stage.run_reward_stage(kind),
        inputs={"model": "dev3.model", "preferences": reward_stage.preferences_of(kind)},
        outputs=("reward_model", "summary"),
        options=reward_stage.OPTIONS,
        estimate=reward_model_estimate,
    )
