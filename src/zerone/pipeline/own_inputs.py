"""Models and demonstrations of the user's in place of what a stage of the pipeline would make.

In: a graph, and the configuration of each stage. Out: the graph that is run. What `STAGE.model.path` or
`STAGE.data.path` names for a stage alone is its input; the stage that would have made it is left out where
nothing else needs it, and the lineage names the user's. A path for all stages is that of the base model
and of the problems, as ever. What names an input that a stage does not have is refused.
"""

from collections import Counter
from collections.abc import Mapping

from zerone.config import Config
from zerone.data.demonstrations import read_demonstrations
from zerone.data.sources import open_source
from zerone.errors import ConfigError
from zerone.pipeline.graph import PATHS, Graph, Source, Stage
from zerone.prompts.form import check_form
from zerone.prompts.r1 import Style
from zerone.runs.lineage import Lineage, Node, lineage_of_model, model_directory

_TAKE_DATA = ("data", "problems", "preferences")
"""Roles of inputs that `data.path` may name."""


def with_own_inputs(graph: Graph, configs: Mapping[str, Config]) -> Graph:
    """Return the graph with the models and demonstrations that options name for single stages as inputs.

    Raises ConfigError for a `data.path` of a stage that reads no data, ModelError for what is not a
    model and DataError for a source that cannot be read.
    """
    own: dict[str, dict[str, Source]] = {}
    named = {role: _named_alone(role, configs) for role in ("model", "data")}
    for stage in graph.stages:
        _refuse_unread(stage, named["data"].get(stage.name))
        for role, make in (("model", _model), ("data", _demonstrations)):
            path = named[role].get(stage.name)
            if path is not None and isinstance(stage.inputs.get(role), str):
                own.setdefault(stage.name, {})[role] = make(path, configs[stage.name])
    return graph.given(own)


def _named_alone(role: str, configs: Mapping[str, Config]) -> dict[str, str]:
    """Return the paths that single stages were given: others than most stages have, which is that for all."""
    section, option = PATHS[role]
    paths = {name: getattr(getattr(config, section), option) for name, config in configs.items()}
    ((for_all, _),) = Counter(paths.values()).most_common(1)
    return {name: path for name, path in paths.items() if path not in (None, for_all)}


def _refuse_unread(stage: Stage, path: str | None) -> None:
    if path is not None and not any(role in stage.inputs for role in _TAKE_DATA):
        raise ConfigError(f"{stage.name}.data.path={path}: stage {stage.name} reads no data; leave it out")


def _model(path: str, config: Config) -> Source:
    known = lineage_of_model(path)
    return Source(lineage=lambda config: known, path=model_directory(path))


def _demonstrations(path: str, config: Config) -> Source:
    """Return what `data.path` names as an input; the stage reads it by that option."""
    source = open_source(path)
    check_form(read_demonstrations(path).demonstrations, Style(config.prompt.style), source.title)
    node = Node(name="demonstrations", kind="data", sha256=source.sha256(), about=source.about)
    return Source(lineage=lambda config: Lineage.of(node))
