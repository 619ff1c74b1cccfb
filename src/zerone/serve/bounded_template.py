"""A tokenizer's chat template within bounds of time and memory, in a process of its own.

In: a tokenizer, and what its `apply_chat_template` takes. Out: the text, or what the template raises; a
template that loops or grows is ended, and that is a ValueError which says so.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from zerone.processes.worker_pool import WorkerPool, WorkerStalled, WorkerTimeout
from zerone.serve.template_worker import FAULTS, MAX_CHARACTERS

SECONDS = 1.0
"""Of processor time; real templates take milliseconds, also for the longest conversation."""
_STALL = 4
"""Times that by the clock, on a machine that is busy with something else."""
MEMORY_MIB = 256
_NUM_WORKERS = 2

_KINDS = {kind.__name__: kind for kind in FAULTS}


@functools.cache
def _pool(_process_id: int) -> WorkerPool:
    """Return the workers of this process; after a fork there are others."""
    return WorkerPool(
        "zerone.serve.template_worker",
        (str(MEMORY_MIB),),
        _NUM_WORKERS,
        SECONDS,
        stall=_STALL,
        longest_line=8 * MAX_CHARACTERS,  # a character may take six in JSON
    )


class BoundedTemplate:
    """Stands in for `tokenizer.apply_chat_template`, with text as its only result."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(
        self, conversation: Sequence[Mapping[str, Any]], *, tokenize: bool = False, **settings: Any
    ) -> str:
        """Return the rendered text.

        Raises one of FAULTS, and VerifierError where no process can render at all.
        """
        assert not tokenize
        template = self._tokenizer.get_chat_template()
        if not conversation:
            raise ValueError("it is given no message")
        turns = [{key: value for key, value in turn.items() if value is not None} for turn in conversation]
        request = {
            "template": template,
            "conversation": turns,
            "settings": {**self._tokenizer.special_tokens_map, **settings},
        }
        try:
            answer = _pool(os.getpid()).ask(request)
        except (WorkerTimeout, WorkerStalled) as error:
            raise ValueError(
                f"it did not end within {SECONDS:g} s of processor time or {_STALL * SECONDS:g} s by the "
                "clock, and was stopped"
            ) from error
        if "fault" in answer:
            kind, message = answer["fault"]
            raise _fault(kind, message)
        text: str = answer["text"]
        return text


def bound_template(tokenizer: Any) -> None:
    """Have a tokenizer's chat template rendered within bounds, whoever asks for it."""
    tokenizer.apply_chat_template = BoundedTemplate(tokenizer)


def _fault(kind: str, message: str) -> Exception:
    if kind == jinja2.TemplateSyntaxError.__name__:
        return jinja2.TemplateSyntaxError(message, 1)
    return _KINDS[kind](message)
