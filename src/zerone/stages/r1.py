"""The stages of R1, declared: which model comes from which, and from which data (R1 paper, figure 2).

In: nothing. Out: the graph that `zerone r1` runs. A stage is one entry here and one function
elsewhere; what is not said here (order, resuming, lineage) follows.
"""

from zerone.stages import curation_stage, rl_stage, sft_stage
from zerone.stages.estimates import rl_estimate, sft_estimate
from zerone.stages.graph import Graph, Stage
from zerone.stages.rl_stage import BASE_MODEL, PROBLEMS
from zerone.stages.suites_stage import with_measurements

_TRAINED = ("model", "prompts")
_TUNED = ("model", "best")
_CURATED = ("data", "summary")


def r1_graph() -> Graph:
    """Return the stages in the order in which they run, and a measurement after each model."""
    return Graph(stages=with_measurements(_making().stages))


def _making() -> Graph:
    """Return the stages that make data and models."""
    return Graph(
        stages=(
            Stage(
                name="r1_zero",
                makes="R1-Zero, by reinforcement learning alone on the base",
                run=rl_stage.run_rl,
                inputs={"base": BASE_MODEL, "problems": PROBLEMS},
                outputs=_TRAINED,
                options=rl_stage.OPTIONS,
                estimate=rl_estimate,
            ),
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
    )
