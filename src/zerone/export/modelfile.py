"""Writes what `ollama create NAME -f Modelfile` needs beside the GGUF file.

In: a `Source`. Out: the text of a Modelfile: template with the thinking tags, what ends a completion,
sampling, limits, licence. A chat template that Ollama's language cannot express is named in a comment.
"""

import re
from collections.abc import Iterator

from zerone.export.directory import TEMPERATURE, TOP_P
from zerone.export.source import Source
from zerone.export.template import go_template
from zerone.export.turns import ASSISTANT, USER, Inexpressible, Turns, go_template_of, read_turns

GGUF_NAME = "model.gguf"


def write_modelfile(source: Source) -> str:
    """Return the text of the Modelfile."""
    turns, remark = _turns_of(source)
    lines = [f"FROM ./{GGUF_NAME}", *([] if remark is None else [f"# {remark}"])]
    if source.prompt is not None:
        lines.append(f'TEMPLATE """{go_template(source.prompt)}"""')
    elif turns is not None:
        lines.append(f'TEMPLATE """{go_template_of(turns)}"""')
    lines += [f"PARAMETER {key} {value}" for key, value in _parameters(source)]
    for stop in _stops(source, turns):
        written = _quoted(stop)
        lines.append(
            f"# no Modelfile can hold the stop string {stop!r}"
            if written is None
            else f"PARAMETER stop {written}"
        )
    if source.licence is not None:
        # It may come from a model card that anyone wrote: a line break would begin an instruction.
        lines.append(f"LICENSE {re.sub(r'[^A-Za-z0-9.+_() -]', ' ', source.licence).strip()}")
    return "\n".join(lines) + "\n"


def template_remark(source: Source) -> str | None:
    """Return what Ollama's template lacks of the model's own, or None where it is the same."""
    return _turns_of(source)[1]


def _turns_of(source: Source) -> tuple[Turns | None, str | None]:
    """Return what the model's own chat template writes, and what cannot be said of it in a Modelfile."""
    if source.prompt is not None:
        return None, None
    try:
        turns = read_turns(source.files.tokenizer)
    except Inexpressible as error:
        return None, (
            "the chat template has no form in Ollama's language, so TEMPLATE is left out and Ollama guesses: "
            + _line(str(error))
        )
    if not turns.takes_system:
        return turns, "the chat template takes no system message; Ollama leaves one out"
    return turns, None


def _line(text: str) -> str:
    """Return a text that others had a part in as one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _parameters(source: Source) -> list[tuple[str, str]]:
    parameters = [
        ("temperature", str(TEMPERATURE)),
        ("top_p", str(TOP_P)),
        ("num_ctx", str(source.files.config.max_position_embeddings)),
    ]
    if source.config is not None:
        parameters.append(("num_predict", str(source.config.sampling.max_tokens)))
    return parameters


def _stops(source: Source, turns: Turns | None) -> list[str]:
    """Return what ends a completion: end tokens, what closes a turn, the training's stop strings."""
    tokenizer = source.files.tokenizer
    stops = [tokenizer.decode([token]) for token in source.end_ids]
    if turns is not None:
        stops += _closing(turns.between[ASSISTANT, USER], tokenizer.get_added_vocab())
    if source.config is not None:
        stops += source.config.sampling.stop
    return [stop for stop in dict.fromkeys(stops) if stop]


def _closing(text: str, tokens: dict[str, int]) -> Iterator[str]:
    """Yield the token that a template writes behind a completion."""
    behind = text.lstrip()
    fitting = [token for token in tokens if token and behind.startswith(token)]
    if fitting:
        yield max(fitting, key=len)


def _quoted(text: str) -> str | None:
    """Return a value as a Modelfile holds it, which knows no escapes; None for one that it cannot hold."""
    if not all(letter.isprintable() or letter in "\n\t" for letter in text):
        return None
    if not text.endswith('"') and '"""' not in text:
        return f'"""{text}"""' if '"' in text or "\n" in text else f'"{text}"'
    return None
