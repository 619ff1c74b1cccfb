"""Who judges general requests in a stage: what its options name, or else a reward model of the pipeline.

In: a graph, and the configuration of each stage. Out: the graph that is run. A judge that
`reward.helpfulness_model` or `reward.safety_model` names for a stage, an endpoint or a reward model of
yours, stands in the place of the pipeline's own there. The pipeline's own is then not trained unless
another stage needs it.
"""

from collections.abc import Mapping

from zerone.config import Config
from zerone.data.preferences import Kind
from zerone.pipeline.graph import Graph, Source
from zerone.reward_model.by_endpoint import SCHEMES, RubricRewards, judge_endpoint
from zerone.runs.lineage import Lineage, Node, lineage_of_model

KINDS: tuple[Kind, ...] = ("helpfulness", "safety")


def with_own_judges(graph: Graph, configs: Mapping[str, Config]) -> Graph:
    """Return the graph with the judges that options name as inputs, and without what they make needless.

    Raises ConfigError for an endpoint without a model, ModelError for a directory without one.
    """
    own: dict[str, dict[str, Source]] = {}
    for stage in graph.stages:
        for kind in KINDS:
            if isinstance(stage.inputs.get(kind), str) and _named(kind, configs[stage.name]) is not None:
                own.setdefault(stage.name, {})[kind] = _given(kind, configs[stage.name])
    return graph.given(own)


def _named(kind: Kind, config: Config) -> str | None:
    """Return the judge that the options of a stage name."""
    return config.reward.helpfulness_model if kind == "helpfulness" else config.reward.safety_model


def _given(kind: Kind, config: Config) -> Source:
    """Return a judge as an input; raises ConfigError or ModelError, before any work, for what is none."""
    known = _lineage(kind, config)
    return Source(lineage=lambda config: known)


def _lineage(kind: Kind, config: Config) -> Lineage:
    where = str(_named(kind, config))
    if not where.startswith(SCHEMES):
        return lineage_of_model(where, kind)
    judge = RubricRewards(endpoint=judge_endpoint(where, f"reward.{kind}_model"), kind=kind, seed=config.seed)
    about = {"address": judge.endpoint.address, "model": judge.endpoint.model}
    return Lineage.of(Node(name=f"judge.{kind}", kind="endpoint", sha256=judge.sha256, about=about))
