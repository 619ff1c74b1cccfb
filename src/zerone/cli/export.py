"""`zerone export`: a model leaves for other tools.

In: a transformers directory, a run directory or `embedded`, and the wanted form. Out: a directory in
that form; on the Hub only with --push.
"""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zerone.errors import ExportError

if TYPE_CHECKING:
    from zerone.export.source import Source

app = typer.Typer()


class Form(StrEnum):
    """What a model is exported to."""

    HF = "hf"
    GGUF = "gguf"
    OLLAMA = "ollama"
    HUB = "hub"


class Matrices(StrEnum):
    """The precision of the matrices in a GGUF file."""

    F32 = "f32"
    F16 = "f16"


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="a transformers directory, a run directory, or `embedded`")],
    to: Annotated[Form, typer.Option(help="format of the export")],
    out: Annotated[Path, typer.Option(help="where to write it; must not exist yet")],
    licence: Annotated[
        str | None, typer.Option("--license", "--licence", help="license of the model, if none is found")
    ] = None,
    precision: Annotated[
        Matrices, typer.Option(help="number format of matrices, for gguf and ollama")
    ] = Matrices.F32,
    repo: Annotated[str | None, typer.Option(help="OWNER/NAME on the Hub, with --to hub")] = None,
    push: Annotated[
        bool, typer.Option("--push", help="upload; without it, say what would be uploaded")
    ] = False,
    public: Annotated[bool, typer.Option("--public", help="make the uploaded model public")] = False,
) -> None:
    """Write a model for transformers and vLLM (hf), llama.cpp (gguf), Ollama, or the Hugging Face Hub."""
    if to is Form.HUB and repo is None:
        raise ExportError("--to hub needs --repo OWNER/NAME")
    if to is not Form.HUB and (push or public or repo is not None):
        raise ExportError(f"--repo, --push and --public go with --to hub, not with --to {to.value}")
    from zerone.export import hub
    from zerone.export.source import read_source

    if repo is not None:
        hub.check_name(repo)
    source = read_source(model, licence)
    if push and source.licence is None:
        raise ExportError(f"nothing beside {model} states its license; give it with --license")
    name = source.name if repo is None else repo.rpartition("/")[2]
    _write(source, to, out, name, precision)
    print(f"{name}: {to.value} in {out}, license {source.licence or 'unknown'}")
    for line in _afterwards(to, out, name):
        print(line)
    if to is Form.OLLAMA:
        from zerone.export.modelfile import template_remark

        if (remark := template_remark(source)) is not None:
            print(remark)
    if repo is not None:
        _publish(out, repo, push, public)


def _write(source: "Source", to: Form, out: Path, name: str, precision: Matrices) -> None:
    from zerone.export.card import write_card
    from zerone.export.directory import fresh_directory, write_directory
    from zerone.export.modelfile import GGUF_NAME, write_modelfile
    from zerone.export.weights import require_gguf, write_gguf

    if to in (Form.GGUF, Form.OLLAMA):
        require_gguf()
    with fresh_directory(out) as directory:
        if to in (Form.HF, Form.HUB):
            write_directory(source, directory, name)
            return
        write_gguf(source, directory / GGUF_NAME, name, precision.value)
        (directory / "README.md").write_text(write_card(source, name, GGUF_NAME), encoding="utf-8")
        if to is Form.OLLAMA:
            (directory / "Modelfile").write_text(write_modelfile(source), encoding="utf-8")


def _afterwards(to: Form, out: Path, name: str) -> list[str]:
    """Return how the export is used, one line per tool."""
    match to:
        case Form.HF | Form.HUB:
            return [
                f"transformers: pipeline('text-generation', model={json.dumps(str(out))})",
                f"vLLM:         vllm serve {out}",
            ]
        case Form.GGUF:
            return [f"llama.cpp: llama-cli -m {out / 'model.gguf'}"]
        case Form.OLLAMA:
            return [f"ollama create {name} -f {out / 'Modelfile'}"]


def _publish(directory: Path, repo: str, push: bool, public: bool) -> None:
    from zerone.export import hub

    if push:
        print(hub.push(directory, repo, public))
        return
    for line in hub.plan(directory, repo, public):
        print(line)
    print("nothing was uploaded; add --push to do so")
