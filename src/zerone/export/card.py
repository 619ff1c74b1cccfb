"""The model card: what the model is, how it was measured, where it comes from, what one may do with it.

In: a `Source`. Out: README.md with the front matter that the Hub reads. Every figure is one of the
run's summary.json, with its interval; a model without a run has no figures, and the card says so.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from zerone import __version__
from zerone.config import Config
from zerone.export.source import Ancestor, Source
from zerone.prompts.r1 import write_prompt
from zerone.runs.directory import shown_suites

_MEASURES = {
    "pass_at_1": ("pass@1", "{:.1%}"),
    "cons_at_16": ("cons@16 (majority vote)", "{:.1%}"),
    "unparsable": ("no readable answer", "{:.1%}"),
    "format": ("well formed", "{:.1%}"),
    "response_tokens": ("tokens per response", "{:.0f}"),
    "reflection_words": ("reflection words per response", "{:.2f}"),
}
_MODEL_INDEX = ("pass_at_1", "cons_at_16")
"""The measures that the Hub shows: those that are a score."""


def write_card(source: Source, name: str, gguf_name: str | None = None) -> str:
    """Return the text of README.md, which stands beside a transformers model or a GGUF file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("zerone.export", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, of our own figures and of names
    )
    environment.filters["line"] = _line
    return environment.get_template("card.md.j2").render(
        front_matter=_front_matter(source, name),
        name=name,
        version=__version__,
        model=source.lineage[0],
        parents=source.lineage[1:],
        rows=list(_rows(source)),
        made=_made(source.lineage),
        settings=_settings(source.config),
        gguf_name=gguf_name,
        temperature=None if source.config is None else source.config.sampling.temperature,
        max_tokens=None if source.config is None else source.config.sampling.max_tokens,
        stops=[] if source.config is None else list(source.config.sampling.stop),
        example=_example(source),
        keeps_template=source.prompt is None,
        is_opened=source.prompt is not None and bool(source.prompt.opened),
        architecture=(source.files.config.architectures or ["unknown"])[0],
        context=source.files.config.max_position_embeddings,
    )


_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\|<>[]*#`"})


def _line(text: str) -> str:
    """Return what others wrote (names, licences, how a model was made) as one line that is but text."""
    return " ".join(text.split()).translate(_MARKS)


def _front_matter(source: Source, name: str) -> str:
    data = ModelCardData(
        license=source.licence.lower() if source.licence else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["zerone", *(["reasoning"] if source.config is not None else [])],
        model_name=name,
        eval_results=_results(source) or None,
    )
    return data.to_yaml()


def _results(source: Source) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=f"zerone-{suite}",
            dataset_name=f"zerone {suite} suite",
            metric_type=key,
            metric_name=_MEASURES[key][0],
            metric_value=figures[key],
        )
        for suite, figures in _suites(source, "final").items()
        for key in _MODEL_INDEX
        if figures.get(key) is not None
    ]


def _rows(source: Source) -> Iterator[tuple[str, str, str, str]]:
    """Yield (suite, measure, base, this model)."""
    bases = _suites(source, "base")
    for suite, final in _suites(source, "final").items():
        base = bases.get(suite, {})
        for key, (measure, form) in _MEASURES.items():
            if final.get(key) is not None:  # null is what nothing could be judged for
                yield suite, measure, _figure(base, key, form), _figure(final, key, form)


def _suites(source: Source, moment: str) -> Mapping[str, Any]:
    """Return the figures by suite; those of SFT stand one level deeper, beside the loss."""
    found: Mapping[str, Any] = {} if source.summary is None else source.summary[moment]
    if "suites" in found:
        inner: Mapping[str, Any] = found["suites"]
        return inner
    return found if source.config is None else shown_suites(found, source.config.model_dump())


def _figure(figures: Mapping[str, Any], key: str, form: str) -> str:
    if figures.get(key) is None:
        return ""
    interval = figures.get(f"{key}_ci")
    text = form.format(figures[key])
    return text if interval is None else f"{text} [{', '.join(form.format(end) for end in interval)}]"


def _made(lineage: tuple[Ancestor, ...]) -> list[tuple[Ancestor, str]]:
    """Return each model of the lineage with how it was made, in one line."""
    return [
        (ancestor, "; ".join(f"{key} {value}" for key, value in ancestor.made.items()) or "not recorded")
        for ancestor in lineage
    ]


def _settings(config: Config | None) -> list[str]:
    """Return the options that were not at their defaults, of files only the name."""
    if config is None:
        return []
    now, default = (_flat(tree.model_dump()) for tree in (config, Config()))
    return [
        f"{key}={value.rpartition('/')[2] if isinstance(value, str) else value}"
        for key, value in now.items()
        if value != default[key] and not key.startswith("pretrain.")
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _example(source: Source) -> str:
    """Return the prompt of one question as the chat template renders it."""
    if source.prompt is None:
        return ""
    prompt = source.prompt
    return write_prompt("QUESTION", prompt.examples, prompt.style) + prompt.opened
