"""Where the model of one run comes from: the base, the data, the seed, the options.

In: a run's configuration and environment. Out: the lineage that is written into its model (a pipeline
knows more and writes its own, pipeline.py); and of a model, how its run asked it.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zerone.config import Config
from zerone.config.reading import flat_options
from zerone.config.sections import DataConfig, PromptConfig
from zerone.data.jsonl import Fields, read_problems
from zerone.errors import ConfigError
from zerone.evals.suites import fields_of
from zerone.identity import sha256_of_file, sha256_of_path, sha256_of_value
from zerone.jobs.data import data_at_any_time, sources_of
from zerone.model.loading import hash_weights
from zerone.rewards.verifiers import prepare_verifiers
from zerone.runs.directory import RunDir, run_of_model
from zerone.runs.lineage import Lineage, Node, lineage_of_model
from zerone.runs.settings import prompt_of_run, sampling_of_run
from zerone.runs.start import programs_of


def problems_lineage(config: Config) -> Lineage:
    """Return what the section `data` names: sources by hash, procedural problems by how they are drawn."""
    data, sources = config.data, sources_of(config)
    about: dict[str, Any]
    if data.path is not None:
        about, sha256 = dict(sources["data.path"].about), sources["data.path"].sha256()
    elif sources:
        about = {
            option.rpartition(".")[2]: {**source.about, "weight": part.weight, "sha256": source.sha256()}
            for (option, source), part in zip(sources.items(), data.mixture, strict=True)
        }
        sha256 = sha256_of_value(about)
    else:
        about = {"family": data.family, "draw": f"problem j of step i is a function of ({config.seed}, i, j)"}
        sha256 = sha256_of_value(about)
    if data.pass_rates is not None:
        about["pass_rates_sha256"] = sha256_of_file(Path(data.pass_rates).expanduser())
    return Lineage.of(Node(name="problems", kind="problems", sha256=sha256, about=about))


def check_problems(config: Config) -> None:
    """Raise DataError for a source that is not there or has a bad line."""
    d = config.data
    for name, part in ((d.path, None), *((one.path, one) for one in d.mixture)):
        if name is not None:
            _read_once(name, fields_of(d, part), d.skip_unreadable)


def require_verifiers(config: Config) -> None:
    """Raise SandboxUnavailable where the problems need a sandbox to verify programs and there is none."""
    _prepare_once(config.data)


@functools.cache
def _prepare_once(data: DataConfig) -> None:
    """Prepare the verifiers of problems that many stages name alike; making the problems takes seconds."""
    prepare_verifiers(data_at_any_time(Config(data=data)).verifiers)


@functools.cache
def _read_once(name: str, fields: Fields, skip: bool) -> None:
    """Read a source that many stages name alike."""
    read_problems(name, fields, skip=skip)


def run_lineage(config: Config, run: RunDir, does: str) -> Lineage:
    """Return the lineage of the model of a finished run."""
    base, data = lineage_of_model(config.model.path), problems_lineage(config)
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
            **programs_of(run.read_environment()),
        },
        inputs={"base": base.root, "data": data.root},
    )
    return Lineage.of(node, (base, data))


def prompt_of_model(path: Path) -> PromptConfig | None:
    """Return the prompt of the run that made a model, or None where no run did."""
    run = run_of_model(path)
    return None if run is None else prompt_of_run(run)


def options_as_trained(path: Path, *, is_drawn_alike: bool) -> dict[str, Any] | None:
    """Return the options of the run that made a model which say how it is asked, by dotted key.

    These are its prompt and its stops, and with `is_drawn_alike` how it drew. None where no run made it,
    or one whose configuration is damaged or of a version that this one cannot read.
    """
    run = run_of_model(path)
    if run is None:
        return None
    try:
        prompt, sampling = prompt_of_run(run), sampling_of_run(run)
    except ConfigError:
        return None
    drawn = {"stop", *(("temperature", "top_p", "top_k", "max_tokens") if is_drawn_alike else ())}
    return flat_options({"prompt": prompt.model_dump(), "sampling": sampling.model_dump(include=drawn)})


def differences_from_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a tree of options that are not at their defaults, by dotted key."""
    defaults = flat_options(Config().model_dump(mode="json"))
    return {key: value for key, value in flat_options(options).items() if value != defaults.get(key)}
