"""Looking through a data set by hand: accept, reject or edit each sample (R1 paper, B.3.2: humans do).

In: a JSONL of samples and a person's keys. Out: a JSONL of what was accepted. Each decision is
appended to `FILE.decisions` at once, under a hash of the sample, so a review keeps its place when it
is left, and decisions stay with their samples when the file grows or is put in another order.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from zerone.data.jsonl import objects_of
from zerone.errors import ConfigError, DataError, FileError, RunDirError
from zerone.escaping import on_one_line, visible
from zerone.files import parse_json, refuse_overwriting
from zerone.prompts.r1 import Style, parse_completion
from zerone.runs.directory import write_atomically

Verdict = Literal["accept", "reject"]
Ask = Callable[[str], str]

_KEYS = "[a]ccept  [r]eject  [e]dit  [b]ack  [q]uit"


class Review:
    """The samples of a file and what was decided about them.

    Raises DataError for a file that cannot be read, and for one that is to be written over by what
    is accepted of it: until all is decided, that is a part.
    """

    def __init__(self, path: Path, out_path: Path) -> None:
        decisions = path.with_name(path.name + ".decisions")
        try:
            refuse_overwriting({"--out": out_path}, [path, decisions])
        except FileError as error:
            raise DataError(
                f"accepted samples cannot go to {path} itself; give another --out: {error}"
            ) from error
        self.path = path
        self.out_path = out_path
        self.samples = _read_samples(path)
        self._decisions_path = decisions
        self._decisions = self._read_decisions()

    def decide(self, index: int, verdict: Verdict, completion: str | None = None) -> None:
        """Write a decision down; `completion` is what the sample was edited to."""
        decision = {"sample": _key(self.samples[index]), "verdict": verdict, "completion": completion}
        try:
            with self._decisions_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(decision, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunDirError(f"cannot write {self._decisions_path}: {error.strerror}") from error
        self._decisions[str(decision["sample"])] = decision

    def decision(self, index: int) -> Mapping[str, Any] | None:
        """Return what was decided about a sample, or None."""
        return self._decisions.get(_key(self.samples[index]))

    def first_open(self, start: int = 0) -> int | None:
        """Return the first sample from `start` on that nothing was decided about, or None."""
        return next((i for i in range(start, len(self.samples)) if self.decision(i) is None), None)

    def counts(self) -> dict[str, int]:
        """Return how many samples were accepted (edited ones included), edited, rejected, and are open."""
        found = {"accepted": 0, "edited": 0, "rejected": 0, "open": 0}
        for i in range(len(self.samples)):
            decision = self.decision(i)
            if decision is None:
                found["open"] += 1
            elif decision["verdict"] == "reject":
                found["rejected"] += 1
            else:
                found["accepted"] += 1
                found["edited"] += decision["completion"] is not None
        return found

    def write(self) -> None:
        """Write the accepted samples, edits in them, in the order of the file."""
        lines = []
        for i, sample in enumerate(self.samples):
            decision = self.decision(i)
            if decision is not None and decision["verdict"] == "accept":
                edit = decision["completion"]
                whole = sample if edit is None else {**sample, "completion": edit, "edited": True}
                lines.append(json.dumps(whole, ensure_ascii=False) + "\n")
        write_atomically(self.out_path, "".join(lines))

    def _read_decisions(self) -> dict[str, dict[str, Any]]:
        if not self._decisions_path.exists():
            return {}
        found: dict[str, dict[str, Any]] = {}
        text = self._decisions_path.read_bytes().decode("utf-8", "replace")
        if text and not text.endswith("\n"):
            # What a crash cut must not swallow the next decision.
            with self._decisions_path.open("a", encoding="utf-8") as file:
                file.write("\n")
        for line in text.split("\n"):
            try:
                decision = parse_json(line, str(self._decisions_path))
                if decision["verdict"] not in ("accept", "reject"):
                    continue
                found[decision["sample"]] = {"completion": None, **decision}
            except (ValueError, LookupError, TypeError):
                continue  # cut by a crash: its sample is open again
        return found


def _read_samples(path: Path) -> list[dict[str, Any]]:
    samples = []
    for place, sample in objects_of(path, "the argument", '{"prompt": ..., "completion": ...}'):
        if not all(isinstance(sample.get(name), str) for name in ("prompt", "completion")):
            raise DataError(f"{place}: a sample has the fields `prompt` and `completion`")
        if sample.get("style", Style.TAGS) not in list(Style):
            raise DataError(
                f"{place}: style is one of {', '.join(Style)}, not {sample['style']!r}; leave it out "
                "if it is not known"
            )
        samples.append(sample)
    if not samples:
        raise DataError(f"{path} is empty; there is nothing to look through")
    return samples


def _key(sample: Mapping[str, Any]) -> str:
    text = json.dumps([sample["prompt"], sample["completion"]])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def review_all(work: Review, console: Console, ask: Ask | None = None, edit: Ask | None = None) -> None:
    """Show sample after sample until all are decided about, or the person leaves."""
    ask = ask or (lambda text: str(typer.prompt(text, default="q", show_default=False)))
    edit = edit or _edit
    index = work.first_open()
    try:
        while index is not None:
            _show(work, index, console)
            match ask(_KEYS).strip().lower()[:1]:
                case "a":
                    work.decide(index, "accept")
                case "r":
                    work.decide(index, "reject")
                case "e":
                    kept = _edited(work, index, console, edit)
                    if kept is None:
                        continue
                    is_new = kept != work.samples[index]["completion"]
                    work.decide(index, "accept", kept if is_new else None)
                case "b":
                    index = max(0, index - 1)
                    continue
                case "q":
                    break
                case _:
                    continue
            following = work.first_open(index + 1)
            index = work.first_open() if following is None else following
    except typer.Abort:  # Ctrl-C, or the end of the input, at the question
        console.print()
    finally:
        work.write()


def _edited(work: Review, index: int, console: Console, edit: Ask) -> str | None:
    """Return what the completion is edited to, itself if it stayed as it was, None if that was given up.

    What lost its form is shown again, until it has one or is left as it is.
    """
    sample = work.samples[index]
    before = text = str(sample["completion"])
    styles = _styles_of(sample)
    told = " or ".join(repr(style.value) for style in styles)
    while True:
        changed = edit(text).strip()
        if changed == before.strip():
            return before
        if not styles or any(parse_completion(changed, style).is_well_formed for style in styles):
            return changed
        if changed == text:
            return None
        text = changed
        console.print(
            f"this is no thought and answer in the style {told} any more; edit again, or leave the editor "
            "without a change to drop the edit"
        )


def _styles_of(sample: Mapping[str, Any]) -> list[Style]:
    """Return the styles that an edit may be in: the sample's own, else those that it is in by its form.

    None for a sample that is in no style: it has no form to lose.
    """
    if "style" in sample:
        return [Style(sample["style"])]
    return [style for style in Style if parse_completion(sample["completion"], style).is_well_formed]


def _edit(text: str) -> str:
    import click

    try:
        edited = click.edit(text, extension=".txt")
    except click.ClickException as error:
        raise ConfigError(
            f"{error.message}; set the environment variable EDITOR to an editor. All decisions are kept"
        ) from error
    return text if edited is None else edited


def _show(work: Review, index: int, console: Console) -> None:
    sample = work.samples[index]
    facts = "  ".join(str(sample[name]) for name in ("domain", "source", "language") if name in sample)
    # Text, not markup: a sample may hold brackets.
    console.rule(Text(on_one_line(f"{index + 1} of {len(work.samples)}  {facts}")))
    console.print(Text(visible(sample["prompt"]), style="bold"))
    console.print(Text(visible(sample["completion"])))
    decision = work.decision(index)
    if decision is not None:
        edited = " (edited)" if decision["completion"] is not None else ""
        console.print(f"decided: {decision['verdict']}{edited}")
