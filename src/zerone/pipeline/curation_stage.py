"""Making data for SFT as stages of a pipeline: the cold start, and what rejection sampling keeps.

In: models of earlier stages. Out: a JSONL of demonstrations, and the counts of its card for the
pipeline's summary. Both go on where they were after a kill, by their own journal.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zerone.config import Config
from zerone.curation.settings import make_cold_start, make_rejection_samples
from zerone.pipeline.estimates import sampling_estimate
from zerone.pipeline.graph import Estimate, StageDisplay, StageInputs, with_inputs
from zerone.runs.directory import write_atomically

OPTIONS = (
    *("model.precision", "model.threads", "data", "prompt", "sampling", "curate"),
    "reward.latin_languages",
)
"""What shapes a data set."""


def run_cold_start(
    inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    """Build the cold start from the input `zero` and the base model."""
    path = directory / "cold_start.jsonl"
    card = make_cold_start(with_inputs(inputs), path, str(inputs.paths["zero"]), None, display.progress)
    return {"data": path, "summary": write_counts(directory, "cold_start", card)}


def run_rejection_sampling(
    inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    """Sample from the input `model` and keep what is right and readable."""
    path = directory / "samples.jsonl"
    card = make_rejection_samples(with_inputs(inputs), path, display.progress)
    return {"data": path, "summary": write_counts(directory, "rejection_sampling", card)}


def write_counts(directory: Path, name: str, card: Mapping[str, Any]) -> Path:
    """Write what the card of a data set counts, for the pipeline's summary: over all sources."""
    path = directory / "counts.json"
    by_domain: dict[str, Counter[str]] = {}
    for domains in card["sources"].values():
        for domain, cell in domains.items():
            by_domain.setdefault(domain, Counter()).update(cell["dropped"])
    counts = {
        "table": card["table"],
        "dropped": card["dropped"],
        "dropped_by_domain": {domain: dict(found.most_common()) for domain, found in by_domain.items()},
    }
    write_atomically(path, json.dumps({"data": {name: counts}}, indent=2) + "\n")
    return path


def curation_estimate(config: Config) -> Estimate:
    """Return what sampling takes; of the cold start it is half, as two models are asked."""
    return sampling_estimate(config, (config.curate.prompts + config.curate.general) * config.curate.samples)
