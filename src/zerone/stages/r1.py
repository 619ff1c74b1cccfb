"""The stages of R1, declared: which model comes from which, and from which data (R1 paper, figure 2).

In: nothing. Out: the graph that `zerone r1` runs. A stage is one entry here and one function
elsewhere; what is not said here (order, resuming, lineage) follows.
"""

from collections.abc import Sequence

from zerone.reward_model.data import Kind
from zerone.stages import curation_stage, reward_stage, rl_stage, sft_stage
from zerone.stages.distillation import distillation_stages
from zerone.stages.estimates import reward_model_estimate, rl_estimate, sft_estimate
from zerone.stages.graph import Graph, Stage
from zerone.stages.ppo_stage import ppo_stage
from zerone.stages.rl_stage import BASE_MODEL, PROBLEMS
from zerone.stages.students import DEFAULT_STUDENTS
from zerone.stages.suites_stage import with_measurements

TEACHER = "r1.model"
"""Whose answers the students learn from."""

_TRAINED = ("model", "prompts")
_TUNED = ("model", "best")
_CURATED = ("data", "summary")


def r1_graph(students: Sequence[str] = DEFAULT_STUDENTS) -> Graph:
    """Return the stages in the order in which they run: a measurement after each model, students last."""
    stages = with_measurements((*_to_dev3(), *_to_r1()))
    return Graph(stages=(*stages, *distillation_stages(TEACHER, students)))


def _to_dev3() -> tuple[Stage, ...]:
    """Return the stages that make R1-Zero and, from its answers, the first three models."""
    r1_zero = Stage(
        name="r1_zero",
        makes="R1-Zero, by reinforcement learning alone on the base",
        run=rl_stage.run_rl,
        inputs={"base": BASE_MODEL, "problems": PROBLEMS},
        outputs=_TRAINED,
        options=rl_stage.OPTIONS,
        estimate=rl_estimate,
    )
    return (
        r1_zero,
        ppo_stage(r1_zero),
        Stage(
            name="cold_start",
            makes="few and readable long thoughts, from R1-Zero and the base",
            run=curation_stage.run_cold_start,
            inputs={"base": BASE_MODEL, "zero": "r1_zero.model", "problems": PROBLEMS},
            outputs=_CURATED,
            options=curation_stage.OPTIONS,
            estimate=curation_stage.curation_estimate,
        ),
        Stage(
            name="dev1",
            makes="Dev1, by SFT of the base on the cold start",
            run=sft_stage.run_sft_stage,
            inputs={"base": BASE_MODEL, "data": "cold_start.data"},
            outputs=_TUNED,
            options=sft_stage.OPTIONS,
            estimate=sft_estimate(50_000),
        ),
        Stage(
            name="dev2",
            makes="Dev2, by reasoning RL on Dev1",
            run=rl_stage.run_rl,
            inputs={"model": "dev1.model", "problems": PROBLEMS},
            outputs=_TRAINED,
            options=rl_stage.OPTIONS,
            estimate=rl_estimate,
        ),
        Stage(
            name="rejection",
            makes="many right and readable answers of Dev2",
            run=curation_stage.run_rejection_sampling,
            inputs={"model": "dev2.model", "problems": PROBLEMS},
            outputs=_CURATED,
            options=curation_stage.OPTIONS,
            estimate=curation_stage.curation_estimate,
        ),
        Stage(
            name="dev3",
            makes="Dev3, by SFT of the base on what was kept",
            run=sft_stage.run_sft_stage,
            inputs={"base": BASE_MODEL, "data": "rejection.data"},
            outputs=_TUNED,
            options=sft_stage.OPTIONS,
            estimate=sft_estimate(300_000),
        ),
    )


def _to_r1() -> tuple[Stage, ...]:
    """Return the stages from Dev3 to R1."""
    return (
        _reward_model("helpfulness", "how helpful an answer is"),
        _reward_model("safety", "whether a response is safe"),
        Stage(
            name="r1",
            makes="R1, by RL on reasoning and, at the end, preferences",
            run=rl_stage.run_rl,
            inputs={
                "model": "dev3.model",
                "helpfulness": "helpfulness.reward_model",
                "safety": "safety.reward_model",
                "problems": PROBLEMS,
            },
            outputs=_TRAINED,
            options=rl_stage.OPTIONS,
            estimate=rl_estimate,
        ),
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
