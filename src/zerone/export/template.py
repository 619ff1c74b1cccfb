"""The prompt of prompts/r1.py as a chat template: Jinja for transformers and vLLM, Go for Ollama.

In: style, worked examples, and what the prompt opens of the answer. Out: template text. For one
question both render what `write_prompt` writes, to the last character: a model is asked as it was
trained. With more turns, old answers come back without their thoughts, as R1's own template has it.
A system message, which the training prompt has not, stands after the fixed text.
"""

import json
from dataclasses import dataclass
from string import Template

from zerone.prompts.r1 import ASSISTANT, THINK_CLOSE, THINK_OPEN, USER, Example, Style, write_prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPrompt:
    """How a model is asked: `opened` is what the prompt writes of the completion, `begins_with` the
    start token that the tokenizer puts before plain text."""

    style: Style
    opened: str = ""
    examples: tuple[Example, ...] = ()
    begins_with: str = ""

    @property
    def preamble(self) -> str:
        """What stands before the first question."""
        return write_prompt("", self.examples, self.style).removesuffix(f"{USER}\n{ASSISTANT}")


_JINJA = Template(
    """\
{{- $PREAMBLE -}}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] + '\\n' -}}
{%- elif message['role'] == 'user' -%}
{{- $USER + message['content'] + '\\n' -}}
{%- elif message['role'] == 'assistant' -%}
{%- set content = message['content'] or '' -%}
{%- set head = content.split('$CLOSE')[0] -%}
{%- if '$CLOSE' in content -%}
{%- set before = head.split('$OPEN')[0] if '$OPEN' in head else '' -%}
{%- set content = before + content.split('$CLOSE')[1:] | join('$CLOSE') -%}
{%- elif content.lstrip().startswith('$OPEN') -%}
{%- set content = '' -%}
{%- endif -%}
{{- $ASSISTANT + content.lstrip() + '\\n' -}}
{%- else -%}
{{- raise_exception('the roles are system, user and assistant, not ' + message['role']) -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- $ASSISTANT -}}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{- $NO_THOUGHT -}}
{%- else -%}
{{- $OPENED -}}
{%- endif -%}
{%- endif -%}
"""
)


def jinja_template(prompt: ChatPrompt) -> str:
    """Return the chat template as transformers, vLLM and llama.cpp read it."""
    texts = {
        "PREAMBLE": prompt.begins_with + prompt.preamble,
        "USER": USER,
        "ASSISTANT": ASSISTANT,
        "NO_THOUGHT": f"{THINK_OPEN}{THINK_CLOSE}\n",
        "OPENED": prompt.opened,
    }
    # A JSON string is a Jinja string: both read the same escapes.
    return _JINJA.substitute(
        {name: json.dumps(text) for name, text in texts.items()}, OPEN=THINK_OPEN, CLOSE=THINK_CLOSE
    )


_GO = Template(
    """\
$PREAMBLE{{ range .Messages }}{{ if eq .Role "user" }}$USER{{ .Content }}
{{ else if eq .Role "assistant" }}$ASSISTANT\
{{ if false }}$OPEN{{ .Thinking }}$CLOSE{{ end }}{{ .Content }}
{{ else }}{{ .Content }}
{{ end }}{{ end }}$ASSISTANT$OPENED"""
)


def go_template(prompt: ChatPrompt) -> str:
    """Return the chat template as Ollama reads it.

    Ollama learns the thinking tags from what surrounds `.Thinking`; `if false` keeps old thoughts out.
    The start token is left to llama.cpp, which puts it there by itself.
    """
    return _GO.substitute(
        PREAMBLE=prompt.preamble,
        USER=USER,
        ASSISTANT=ASSISTANT,
        OPEN=THINK_OPEN,
        CLOSE=THINK_CLOSE,
        OPENED=prompt.opened,
    )
