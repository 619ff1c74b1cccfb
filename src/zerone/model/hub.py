"""A model on the Hugging Face Hub becomes a directory: safetensors, JSON and the chat template, nothing else.

In: OWNER/NAME, perhaps with a revision. Out: a directory in the cache of huggingface_hub. Small files come
first and are checked, so that what cannot be used is refused before gigabytes of weights are fetched. No
pickle and no code of a repository is ever fetched, and nothing out of its folders.
"""

from collections.abc import Callable
from pathlib import Path

from zerone import hub
from zerone.errors import ModelError
from zerone.model.configuration import read_config, read_object

_SMALL = ("*.json", "chat_template.jinja")
_BELOW = ("*/*",)
"""Folders of a repository hold other forms of the model (onnx, original, gguf)."""

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def fetch_small(name: str) -> Path:
    """Return the directory of a model on the Hub with all but its weights; raises ModelError."""
    reference = hub.parse(name, "model", ModelError)
    return hub.once(("small", reference), lambda: _fetch_small(reference))


def fetch_model(name: str, weight_names: Callable[[Path], set[str]]) -> Path:
    """Return the directory of a model on the Hub, all that is needed of it fetched; raises ModelError.

    `weight_names` tells the weight files of a directory whose small files are there.
    """
    small = fetch_small(name)
    reference = hub.parse(name, "model", ModelError)
    return hub.once(("model", reference), lambda: _fetch_weights(reference, weight_names(small)))


def _fetch_small(reference: hub.Reference) -> Path:
    directory = hub.fetch(reference, _SMALL, ModelError, _BELOW)
    if (directory / "config.json").is_file():
        read_config(directory, any_architecture=True)
        return directory
    what = "it is not a transformers model (GGUF files and diffusion models cannot be trained here)"
    adapter = directory / "adapter_config.json"
    if adapter.is_file():
        base = read_object(adapter).get("base_model_name_or_path")
        what = f"it is an adapter, to be put on its base {base}; give a model with the adapter merged into it"
    raise ModelError(f"{reference.called} has no config.json: {what}")


def _fetch_weights(reference: hub.Reference, wanted: set[str]) -> Path:
    if others := sorted(name for name in wanted if not name.endswith(".safetensors")):
        raise ModelError(f"{reference.called} names {others[0]} as weights; only safetensors are fetched")
    directory = hub.fetch(reference, sorted(wanted), ModelError, _BELOW)
    missing = sorted(name for name in wanted if not (directory / name).is_file())
    if missing:
        raise ModelError(_without_weights(reference, directory, missing))
    return directory


def _without_weights(reference: hub.Reference, directory: Path, missing: list[str]) -> str:
    files = hub.files_of(reference, directory, ModelError)
    pickles = [name for name in files if name.endswith(_PICKLES)]
    if pickles and not any(name.endswith(".safetensors") for name in files):
        return (
            f"{reference.called} holds only pickled weights ({pickles[0]}), which can run code when opened "
            f"and "
            "are never fetched; look for a revision with safetensors (often @refs/pr/1), or convert them in "
            "a "
            "place you trust and give the directory"
        )
    return (
        f"{reference.called} has no {', '.join(missing)} at {directory.name[:12]}; choose another revision, "
        f"or "
        "set HF_HUB_OFFLINE=0 if only the cache lacks it"
    )
