"""What is exported, and all that is known about it: prompt, figures, ancestors, licence.

In: a transformers directory, a run directory, a checkpoint inside a run, or `embedded`. Out: a
`Source`. A run says by itself how its model was prompted and what it was trained from; a plain
directory says what its provenance.json and README.md say. Local paths are never passed on, only
their last part: what is exported may be published.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zerone.config import Config, build_config, read_recipe
from zerone.config.reading import resolve_reference
from zerone.errors import ExportError, FileError, ModelError, RunDirError
from zerone.export.template import ChatPrompt, jinja_template
from zerone.files import parse_yaml, read_text
from zerone.model.loading import (
    EMBEDDED,
    ModelFiles,
    end_ids_of,
    generation_settings,
    read_model_files,
    read_provenance,
)
from zerone.model.tokenizer import start_ids
from zerone.prompts.r1 import Style, shown_examples
from zerone.reward_model.scorer import HEAD_ABOUT
from zerone.runs.directory import RunDir
from zerone.runs.settings import locate_model
from zerone.train.loop import opened_by_prompt

_MAX_ANCESTORS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """One model of the lineage: its name, the hash of its weights, and how it was made."""

    name: str
    sha256: str
    licence: str | None
    made: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {"name": self.name, "sha256": self.sha256, "licence": self.licence, "made": dict(self.made)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Ancestor":
        """Take back what `as_dict` gave."""
        return cls(**{name: value[name] for name in ("name", "sha256", "licence", "made")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model to export.

    `lineage` begins with the model itself and ends with the oldest known ancestor. `prompt` is None
    where the model keeps a chat template of its own; `summary` holds a run's figures of base and
    final model; `config` is that of the run.
    """

    files: ModelFiles
    lineage: tuple[Ancestor, ...]
    prompt: ChatPrompt | None
    config: Config | None
    summary: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """What the model is called unless the user names it."""
        return self.lineage[0].name

    @property
    def licence(self) -> str | None:
        """The licence of the model, or None where nothing tells it."""
        return self.lineage[0].licence

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end a completion."""
        return end_ids_of(self.files.tokenizer, generation_settings(self.files), str(self.files.directory))

    @property
    def chat_template(self) -> str | None:
        """The template of the prompt, or the model's own."""
        if self.prompt is not None:
            return jinja_template(self.prompt)
        own = self.files.tokenizer.chat_template
        return own if isinstance(own, str) else None


def read_source(model: str, licence: str | None = None) -> Source:
    """Return what is to be exported; `licence` takes the place of what was found.

    Raises ModelError or RunDirError when there is no such model or the run has none yet, and
    ExportError for a reward model.
    """
    run, path = locate_model(model)
    files = read_model_files(path)
    if (files.directory / HEAD_ABOUT).is_file():
        raise ExportError(
            f"{model} is a reward model, which gives scores and writes no text: no other tool knows its "
            f"head ({HEAD_ABOUT}), so it stays with zerone"
        )
    config = None if run is None else build_config(read_recipe(run.config_path))
    is_final = run is not None and Path(path) == run.model_path
    lineage = _lineage(path, files, run)
    if licence is not None:
        lineage = (replace(lineage[0], licence=licence), *lineage[1:])
    return Source(
        files=files,
        lineage=lineage,
        prompt=_prompt_of(files, config),
        config=config,
        summary=run.read_summary() if run is not None and is_final else None,
    )


def _prompt_of(files: ModelFiles, config: Config | None) -> ChatPrompt | None:
    """Return the prompt that the model was trained with; None to keep the model's own template.

    A model without any template is prompted as zerone prompts it: in the R1-Zero style.
    """
    if config is not None:
        return ChatPrompt(
            style=Style(config.prompt.style),
            opened=opened_by_prompt(config),
            examples=shown_examples(config.prompt.examples),
            begins_with=_beginning(files.tokenizer),
        )
    if files.tokenizer.chat_template:
        return None
    return ChatPrompt(style=Style.TAGS, begins_with=_beginning(files.tokenizer))


def _beginning(tokenizer: Any) -> str:
    """Return the start token that the tokenizer puts before plain text, and a chat template must write."""
    return "".join(tokenizer.convert_ids_to_tokens(list(start_ids(tokenizer))))


# Lineage ------------------------------------------------------------------------------------------


def _lineage(path: str, files: ModelFiles, run: RunDir | None) -> tuple[Ancestor, ...]:
    """Return the model and what it was trained from, newest first."""
    if run is None:
        return _lineage_of_directory(path, files)
    parents = _parents(run)
    licence = parents[0].licence if parents else None
    return (
        Ancestor(name=_name_in_run(path, run), sha256=files.sha256, licence=licence, made=_made_by(run)),
        *parents,
    )


def _name_in_run(path: str, run: RunDir) -> str:
    """Return RUN, RUN-step_N for a checkpoint, RUN-best."""
    inside = Path(path).absolute().relative_to(run.path.absolute()).parts
    return "-".join([run.path.absolute().name, *(part for part in inside if part not in _FOLDERS)])


def _parents(run: RunDir, depth: int = 0) -> tuple[Ancestor, ...]:
    """Follow the bases of runs; what is no longer where it was is named by the hash that the run kept."""
    environment = run.read_environment()
    path = resolve_reference(str(environment.get("model", "")), run.path)
    sha256 = str(environment.get("model_sha256", ""))
    unknown = Ancestor(
        name=Path(path).name or "unknown", sha256=sha256, licence=_LICENCE_OF.get(path), made={}
    )
    try:
        above, there = locate_model(path)
        files = read_model_files(there)
    except (ModelError, RunDirError):
        return (unknown,)
    if files.sha256 != sha256 or depth > _MAX_ANCESTORS:
        return (unknown,)
    if above is None:
        return _lineage_of_directory(there, files)
    parents = _parents(above, depth + 1)
    here = Ancestor(
        name=_name_in_run(there, above), sha256=sha256, licence=parents[0].licence, made=_made_by(above)
    )
    return (here, *parents)


_FOLDERS = (RunDir(Path()).model_path.name, RunDir(Path()).checkpoints_path.name)

_LICENCE_OF = {EMBEDDED: "MIT"}
"""Whatever made the embedded base, then or now, is this project."""

_KEPT_ENVIRONMENT = ("commit", "zerone", "torch", "transformers", "seed", "started", "data")
_KEPT_PROVENANCE = ("package", "version", "file", "weights", "commit", "seed", "steps", "tokens")


def _made_by(run: RunDir) -> dict[str, Any]:
    """Return how a run made its model, without the paths of the machine."""
    environment = run.read_environment()
    kept = {key: environment[key] for key in _KEPT_ENVIRONMENT if environment.get(key) is not None}
    return {"run": run.path.absolute().name, **kept}


def _lineage_of_directory(path: str, files: ModelFiles) -> tuple[Ancestor, ...]:
    """Return what a directory says of itself; one that zerone exported names its ancestors as well."""
    provenance = read_provenance(files.directory) or {}
    if provenance.get("sha256") == files.sha256 and _is_lineage(provenance.get("lineage")):
        return tuple(Ancestor.from_dict(entry) for entry in provenance["lineage"])
    kept = {key: provenance[key] for key in _KEPT_PROVENANCE if provenance.get(key) is not None}
    name = Path(path).absolute().name
    if path == EMBEDDED:
        name = "zerone-embedded"
    elif "model_sha256" not in provenance:  # else `model` is what this one was trained from
        name = Path(str(provenance.get("model") or name)).name
    licence = provenance.get("licence")
    if not (isinstance(licence, str) and licence):
        licence = _licence_of_card(files.directory / "README.md")
    return (Ancestor(name=name, sha256=files.sha256, licence=licence, made=kept),)


def _is_lineage(value: object) -> bool:
    """Whether a provenance.json, which anyone may have edited, holds what `Ancestor.as_dict` writes."""
    kinds = {"name": str, "sha256": str, "licence": str | None, "made": dict}
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(
            isinstance(entry, dict)
            and kinds.keys() <= entry.keys()
            and all(isinstance(entry[key], kind) for key, kind in kinds.items())
            and set(entry["sha256"]) <= set("0123456789abcdef")
            for entry in value
        )
    )


def _licence_of_card(path: Path) -> str | None:
    """Return the licence that the front matter of a model card names, as models from the Hub have it."""
    try:
        text = read_text(path)
    except FileError:
        return None
    opening, _, rest = text.partition("---\n")
    if opening.strip():
        return None
    try:
        matter = parse_yaml(rest.partition("\n---")[0])
    except ValueError:
        return None
    found = matter.get("license") if isinstance(matter, dict) else None
    return found if isinstance(found, str) else None
