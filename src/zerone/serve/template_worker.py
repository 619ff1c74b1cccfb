"""The process that renders chat templates: reads conversations, answers with texts.

In: JSON lines `{"template": ..., "conversation": ..., "settings": ...}` on standard input. Out: one JSON
line each, `{"text": ...}` or `{"fault": [kind, message]}`, after a first line `{"ready": true}`. A template
is a program that its model's makers wrote, and transformers' sandbox keeps it from all but time and
memory: so it runs in a process that can be killed, and has its memory limited.
"""

import json
import resource
import sys
from typing import Any

import jinja2

FAULTS: tuple[type[Exception], ...] = (
    jinja2.TemplateSyntaxError,
    jinja2.TemplateError,
    *(RecursionError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
)
"""What a template can raise, the narrower kinds first."""

MAX_CHARACTERS = 4 << 20
"""Of a rendered text. A request's body has at most a quarter of that, and no context takes more."""


def main() -> None:
    """Serve until standard input ends; argument: MiB of memory beyond what the libraries take."""
    from transformers.utils.chat_template_utils import render_jinja_template

    _limit_memory(int(sys.argv[1]) << 20)
    _say({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        _say(_answer(render_jinja_template, request))


def _answer(render: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        rendered, _ = render(
            conversations=[request["conversation"]], chat_template=request["template"], **request["settings"]
        )
    except MemoryError:
        return {"fault": ["ValueError", f"it needs more than {sys.argv[1]} MiB of memory"]}
    except FAULTS as error:
        kind = next(kind for kind in FAULTS if isinstance(error, kind))
        return {"fault": [kind.__name__, str(error)[:1000]]}
    text = rendered[0]
    if len(text) > MAX_CHARACTERS:
        return {"fault": ["ValueError", f"it writes {len(text)} characters, more than {MAX_CHARACTERS}"]}
    return {"text": text}


def _limit_memory(num_bytes: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (taken + num_bytes, taken + num_bytes))


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
