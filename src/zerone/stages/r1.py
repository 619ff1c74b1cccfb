"""The stages of R1, declared: which model comes from which, and from which data (R1 paper, figure 2).

In: nothing. Out: the graph that `zerone r1` runs. A stage is one entry here and one function
elsewhere; what is not said here (order, resuming, lineage) follows.
"""

from zerone.stages.estimates import rl_estimate
from zerone.stages.graph import Graph, Stage
from zerone.stages.rl_stage import BASE_MODEL, OPTIONS, PROBLEMS, run_rl


def r1_graph() -> Graph:
    """Return the stages in the order in which they run."""
    return Graph(
        stages=(
            Stage(
                name="r1_zero",
                makes="R1-Zero, by reinforcement learning alone on the base",
                run=run_rl,
                inputs={"base": BASE_MODEL, "problems": PROBLEMS},
                outputs=("model", "prompts"),
                options=OPTIONS,
                estimate=rl_estimate,
            ),
        )
    )
