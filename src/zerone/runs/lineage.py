"""Where a model comes from: every parent, data set and seed, back to the base.

In: what made a thing and from what. Out: `lineage.json` in the model's directory, which travels with
it. It is a graph of nodes, each known by its content (`NAME@HASH`), so that a model made from models
that have a lineage takes theirs along. Nothing in it depends on the clock: the same work done twice
has the same lineage.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zerone import hub
from zerone.errors import ModelError
from zerone.files import read_json
from zerone.identity import LINEAGE_NAME, is_model, sha256_of_path, sha256_of_text
from zerone.model.loading import EMBEDDED, find_directory, hash_weights, read_provenance
from zerone.runs.directory import write_atomically

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A model or a data set: what it is, what made it, and from what.

    `made_by` and `about` are what is known, in JSON; `inputs` maps the role of a parent to its key.
    """

    name: str
    kind: str
    sha256: str
    about: Mapping[str, Any] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name under which others refer to it."""
        return f"{self.name}@{self.sha256[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A node and all that it comes from, by key."""

    root: str
    nodes: Mapping[str, Node]

    @classmethod
    def of(cls, node: Node, parents: Iterable["Lineage"] = ()) -> "Lineage":
        """Join a node to the lineages of what it was made from."""
        nodes: dict[str, Node] = {}
        for parent in parents:
            nodes |= parent.nodes
        return cls(root=node.key, nodes={**nodes, node.key: node})

    @property
    def node(self) -> Node:
        """The thing itself."""
        return self.nodes[self.root]

    def as_dict(self) -> dict[str, Any]:
        """Return what lineage.json holds: the root first, then its parents."""
        ordered: dict[str, Any] = {}
        waiting = [self.root]
        while waiting:
            key = waiting.pop(0)
            if key not in ordered:
                ordered[key] = asdict(self.nodes[key])
                waiting += self.nodes[key].inputs.values()
        return {"format": FORMAT, "root": self.root, "nodes": ordered}


def write_lineage(directory: Path, lineage: Lineage) -> None:
    """Put a lineage into a model's directory."""
    text = json.dumps(lineage.as_dict(), indent=2, ensure_ascii=False) + "\n"
    write_atomically(directory / LINEAGE_NAME, text)


def read_lineage(directory: Path) -> Lineage | None:
    """Return the lineage in a directory, or None if there is none; raises ModelError for a damaged one."""
    path = directory / LINEAGE_NAME
    if not path.exists():
        return None
    try:
        value = read_json(path)
        nodes = {key: _node(node) for key, node in value["nodes"].items()}
        lineage = Lineage(root=value["root"], nodes=nodes)
        lineage.as_dict()  # every key that is named is there
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ModelError(f"{path} is not a lineage ({error}); remove it or put it back") from error
    return lineage


def _node(value: Mapping[str, Any]) -> Node:
    node = Node(**value)
    told = (node.about, node.made_by, node.inputs)
    if not all(isinstance(one, dict) for one in told) or not all(
        isinstance(one, str) for one in (node.name, node.kind, node.sha256, *node.inputs.values())
    ):
        raise TypeError("a node of it is damaged")
    return node


def lineage_of_model(path: str, name: str = "base") -> Lineage:
    """Return what is known about a model directory: its lineage, else its provenance, else its hash.

    Where the weights are others than its lineage tells of, it is a model of its own, made from that one.
    """
    directory = model_directory(path)
    known = read_lineage(directory)
    if known is not None and not weights_have_changed(directory, known):
        return known
    about: dict[str, Any] = {"path": path, "weights_sha256": hash_weights(directory)}
    commit = hub.pinned([path]).get("model", {}).get(path)
    if commit is not None:
        about["revision"] = commit
    if known is not None:
        about["edited"] = f"other weights than {LINEAGE_NAME} tells of"
    node = Node(
        name=name if known is None else known.node.name,
        kind="model",
        # What else lies in the cache is not the model's: the commit says all.
        sha256=sha256_of_path(directory) if commit is None else sha256_of_text(f"{path} {commit}"),
        about=about,
        made_by=(read_provenance(directory) or {}) if known is None else {},
        inputs={} if known is None else {"before": known.root},
    )
    return Lineage.of(node, [] if known is None else [known])


def model_directory(path: str) -> Path:
    """Return the directory of a model, which may be named by its run; raises ModelError if there is none."""
    if path == EMBEDDED or hub.is_model_name(path):
        return find_directory(path)
    directory = Path(path).expanduser()
    for candidate in (directory, directory / "model"):
        if is_model(candidate):
            return candidate
    raise ModelError(
        f"{directory} is not a model: neither it nor {directory / 'model'} holds config.json and weights"
    )


def weights_have_changed(directory: Path, lineage: Lineage) -> bool:
    """Whether the weights are others than those that the lineage tells of."""
    described = lineage.node.about.get("weights_sha256")
    return described is not None and described != hash_weights(directory)
