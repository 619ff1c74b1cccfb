"""Where the model of one run comes from: the base, the data, the seed, the options.

In: a run's configuration and environment. Out: the lineage that is written into its model (a pipeline
knows more and writes its own, pipeline.py); and of a model, the prompt that its run trained it in.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zerone.config import Config
from zerone.config.reading import flat_options, read_tree
from zerone.config.sections import PromptConfig
from zerone.identity import sha256_of_file, sha256_of_path, sha256_of_value
from zerone.lineage import Lineage, Node, lineage_of_model
from zerone.model.loading import hash_weights
from zerone.run_dir import RunDir, run_of_model


def problems_lineage(config: Config) -> Lineage:
    """Return what the section `data` names: a file by its hash, procedural problems by how they are drawn."""
    data = config.data
    about: dict[str, Any]
    if data.path is not None:
        sha256, about = sha256_of_file(Path(data.path)), {"path": data.path}
    else:
        about = {"family": data.family, "draw": f"problem j of step i is a function of ({config.seed}, i, j)"}
        sha256 = sha256_of_value(about)
    return Lineage.of(Node(name="problems", kind="problems", sha256=sha256, about=about))


def run_lineage(config: Config, run: RunDir, does: str) -> Lineage:
    """Return the lineage of the model of a finished run."""
    base, data = lineage_of_model(config.model.path), problems_lineage(config)
    environment = run.read_environment()
    options = config.model_dump(mode="json")
    node = Node(
        name="model",
        kind="model",
        sha256=sha256_of_path(run.model_path),
        about={"weights_sha256": hash_weights(run.model_path)},
        made_by={
            "does": does,
            "seed": options.pop("seed"),
            "options": differences_from_defaults(options),
            "zerone": environment["zerone"],
            "commit": environment["commit"],
        },
        inputs={"base": base.root, "data": data.root},
    )
    return Lineage.of(node, (base, data))


def prompt_of_model(path: Path) -> PromptConfig | None:
    """Return the prompt of the run that made a model, or None where no run did."""
    run = run_of_model(path)
    return None if run is None else PromptConfig.model_validate(read_tree(run.config_path).get("prompt", {}))


def differences_from_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a tree of options that are not at their defaults, by dotted key."""
    defaults = flat_options(Config().model_dump(mode="json"))
    return {key: value for key, value in flat_options(options).items() if value != defaults.get(key)}
