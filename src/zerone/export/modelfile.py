"""Writes what `ollama create NAME -f Modelfile` needs beside the GGUF file.

In: a `Source`. Out: the text of a Modelfile: template with the thinking tags, sampling, limits,
licence. A model that keeps its own chat template has it inside the GGUF file, where Ollama finds it.
"""

import json
import re

from zerone.export.directory import TEMPERATURE, TOP_P
from zerone.export.source import Source
from zerone.export.template import go_template

GGUF_NAME = "model.gguf"


def write_modelfile(source: Source) -> str:
    """Return the text of the Modelfile."""
    lines = [f"FROM ./{GGUF_NAME}"]
    if source.prompt is not None:
        lines.append(f'TEMPLATE """{go_template(source.prompt)}"""')
    lines += [f"PARAMETER {key} {value}" for key, value in _parameters(source)]
    if source.licence is not None:
        # It may come from a model card that anyone wrote: a line break would begin an instruction.
        lines.append(f"LICENSE {re.sub(r'[^A-Za-z0-9.+_() -]', ' ', source.licence).strip()}")
    return "\n".join(lines) + "\n"


def _parameters(source: Source) -> list[tuple[str, str]]:
    parameters = [
        ("temperature", str(TEMPERATURE)),
        ("top_p", str(TOP_P)),
        ("num_ctx", str(source.files.config.max_position_embeddings)),
    ]
    if source.config is not None:
        parameters.append(("num_predict", str(source.config.sampling.max_tokens)))
        parameters += [("stop", json.dumps(stop)) for stop in source.config.sampling.stop]
    return parameters
