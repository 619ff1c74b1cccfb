"""Chat templates for Ollama: what its language writes is what the model's own template renders.

The language is read by a small evaluator of Go templates here (text, `if`, `else if`, `range`, variables),
which knows nothing of how the templates are made.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fakes import byte_tokenizer, tiny_model
from zerone.export.modelfile import template_remark, write_modelfile
from zerone.export.source import read_source
from zerone.export.turns import Inexpressible, go_template_of, read_turns
from zerone.model.loading import save_model

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    + CHATML
)
LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if loop.first and system is defined %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}"
    "{{ m.content }} [/INST]{% else %} {{ m.content }} </s>{% endif %}{% endfor %}"
)
R1 = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
    "<|User|>{{ m.content }}{% else %}<|Assistant|>{{ m.content.split('</think>')[-1] }}<|im_end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
VICUNA = (
    "A chat.\n\n{% for m in messages %}{% if m.role == 'system' %}"
    "{{ m.content }}\n\n{% elif m.role == 'user' %}"
    "USER: {{ m.content }} {% else %}ASSISTANT: {{ m.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
ALPACA = (
    "{% for m in messages %}{% if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n"
    "{% elif m.role == 'assistant' %}### Response:\n"
    "{{ m.content }}\n\n{% else %}{{ m.content }}\n\n{% endif %}"
    "{% endfor %}### Response:\n"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
)
GO_MARKS = (
    "{% for m in messages %}{{ '{{' }}{{ m.role }}{{ '}}' }}\"\"\"{{ m.content }}\n{% endfor %}"
    "{{ '{{' }}assistant{{ '}}' }}\""
)
BARE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
SEPARATED = (
    "{% for m in messages %}{% if not loop.first %}---\n"
    "{% endif %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "---\nassistant:"
)
EXPRESSIBLE = {
    name: globals()[name]
    for name in (
        *("CHATML", "QWEN", "LLAMA2", "R1", "LLAMA3", "VICUNA", "ALPACA", "NO_SYSTEM", "GO_MARKS", "BARE"),
        "SEPARATED",
    )
}

_ACTION = re.compile(r"\{\{ (.*?) \}\}", re.DOTALL)


class Go:
    """Go's text/template, for the part of it that is used."""

    def __init__(self, template: str) -> None:
        self._pieces = _ACTION.split(template)  # text and actions by turns
        self._at = 0
        self._variables: dict[str, str] = {}
        self._nodes = self._block()

    def _block(self) -> list[Any]:
        """Read up to the action that ends a block, and stop at it."""
        nodes: list[Any] = []
        while self._at < len(self._pieces):
            piece, is_action = self._pieces[self._at], self._at % 2
            if is_action and (piece == "end" or piece.startswith("else")):
                return nodes
            self._at += 1
            if is_action and piece.split(" ")[0] in ("if", "range"):
                nodes.append(self._branches(piece))
            else:
                nodes.append((is_action, piece))
        return nodes

    def _branches(self, opening: str) -> list[tuple[str, list[Any]]]:
        branches = [(opening, self._block())]
        while (piece := self._pieces[self._at]) != "end":
            self._at += 1
            branches.append((piece.removeprefix("else").strip(), self._block()))
        self._at += 1
        return branches

    def _value(self, word: str, dot: dict[str, str]) -> str:
        if word.startswith('"'):
            return str(json.loads(word))
        return self._variables[word] if word.startswith("$") else dot[word.removeprefix(".").lower()]

    def _is_true(self, condition: str, dot: dict[str, str]) -> bool:
        if condition in ("", "if false"):
            return not condition
        first, second = condition.removeprefix("if eq ").split(" ", 1)
        return self._value(first, dot) == self._value(second, dot)

    def _run(self, nodes: list[Any], dot: dict[str, str]) -> str:
        return "".join(self._node(node, dot) for node in nodes)

    def _node(self, node: Any, dot: dict[str, str]) -> str:
        if isinstance(node, list):
            if node[0][0] == "range .Messages":
                return "".join(self._run(node[0][1], message) for message in self._messages)
            return next((self._run(block, dot) for test, block in node if self._is_true(test, dot)), "")
        is_action, text = node
        if not is_action:
            return str(text)
        if text.startswith("$"):
            name, _, word = re.split(r" (:?=) ", text)
            self._variables[name] = self._value(word, dot)
            return ""
        return self._value(text, dot)

    def write(self, messages: list[dict[str, str]]) -> str:
        """Return what the template writes for a conversation."""
        self._messages = messages
        return self._run(self._nodes, {})


def tokenizer_with(template: str) -> Any:
    """Return a byte tokenizer with a chat template and some tokens that such templates write."""
    stock = byte_tokenizer()
    tokenizer = stock.__class__(tokenizer_object=stock.backend_tokenizer, eos_token=stock.eos_token)
    tokenizer.add_tokens(["<|im_end|>", "<|eot_id|>", "</s>"], special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


def say(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


CHATS = [
    [say("user", "Why?")],
    [say("user", "Why {{ .Role }}?\n  Because"), say("assistant", "So."), say("user", "Really?")],
    [say("system", "Be short."), say("user", "Why?")],
    [
        say("system", "A"),
        *[say(role, content) for role, content in zip(("user", "assistant") * 2, "BCDE", strict=True)],
        say("user", "F"),
    ],
]


@pytest.mark.parametrize("name", EXPRESSIBLE)
@pytest.mark.parametrize("chat", CHATS, ids=len)
def test_ollama_is_asked_as_the_models_own_template_asks(name: str, chat: list[dict[str, str]]) -> None:
    tokenizer = tokenizer_with(EXPRESSIBLE[name])
    turns = read_turns(tokenizer)
    if chat[0]["role"] == "system" and not turns.takes_system:
        assert name == "NO_SYSTEM"
        return
    expected = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert Go(go_template_of(turns)).write(chat) == expected


INEXPRESSIBLE = {
    "drops earlier turns": "{{ messages[-1].content }}",
    "numbers the turns": "{% for m in messages %}[{{ loop.index }}] {{ m.content }}{% endfor %}",
    "shouts": "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
    "escapes": "{% for m in messages %}{{ m.content | e }}{% endfor %}",
    "quotes as JSON": "{% for m in messages %}{{ m.content | tojson }}{% endfor %}",
    "turns around": "{% for m in messages | reverse %}{{ m.content }}\n{% endfor %}",
    "repeats": "{{ messages[0].content }}{% for m in messages %}{{ m.content }}\n{% endfor %}",
    "writes the date": "{{ strftime_now('%d') }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "ends the last turn otherwise": (
        "{% for m in messages %}{{ m.content }}{{ '!' if loop.length > 2 else '?' }}{% endfor %}"
    ),
    "moves the system message": (
        "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}\n{% endif %}{% endfor %}"
        "{{ messages[0].content if messages[0].role == 'system' }}"
    ),
    "fails": "{{ messages[0].nothing.there }}",
    "writes what no Modelfile holds": "\u200b{% for m in messages %}{{ m.content }}{% endfor %}",
}


@pytest.mark.parametrize("name", INEXPRESSIBLE)
def test_a_template_that_does_more_is_told(name: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_with(INEXPRESSIBLE[name])
    with pytest.raises(Inexpressible):
        read_turns(tokenizer)
    source = saved(tokenizer, tmp_path)
    remark, written = template_remark(source), write_modelfile(source)
    assert remark is not None and "has no form in Ollama's language" in remark
    assert f"# {remark}" in written.splitlines()
    assert "TEMPLATE" not in [line.split(" ")[0] for line in written.splitlines()]


def saved(tokenizer: Any, tmp_path: Path) -> Any:
    """Return a tiny model with this tokenizer as what is exported."""
    model = tiny_model()
    model.resize_token_embeddings(len(tokenizer))
    save_model(model, tokenizer, tmp_path / "model")
    return read_source(str(tmp_path / "model"))


STOPS = {
    "CHATML": ["<|endoftext|>", "<|im_end|>"],
    "QWEN": ["<|endoftext|>", "<|im_end|>"],
    "LLAMA2": ["<|endoftext|>", "</s>"],
    "R1": ["<|endoftext|>", "<|im_end|>"],
    "LLAMA3": ["<|endoftext|>", "<|eot_id|>"],
    "VICUNA": ["<|endoftext|>", "</s>"],
    "ALPACA": ["<|endoftext|>"],
    "SEPARATED": ["<|endoftext|>"],
}


@pytest.mark.parametrize("name", STOPS)
def test_a_completion_stops_where_the_template_closes_it(name: str, tmp_path: Path) -> None:
    written = write_modelfile(saved(tokenizer_with(EXPRESSIBLE[name]), tmp_path))
    stops = [line for line in written.splitlines() if line.startswith("PARAMETER stop")]
    assert stops == [f'PARAMETER stop "{stop}"' for stop in STOPS[name]]
    assert 'TEMPLATE """{{ $last := "" }}' in written


def test_a_template_without_a_place_for_a_system_message_says_so(tmp_path: Path) -> None:
    written = write_modelfile(saved(tokenizer_with(NO_SYSTEM), tmp_path))
    assert "# the chat template takes no system message" in written
    assert "TEMPLATE" in written


def test_the_start_token_that_llama_cpp_writes_is_left_to_it(tmp_path: Path) -> None:
    from tokenizers import processors

    tokenizer = tokenizer_with("<s>" + CHATML)
    tokenizer.add_tokens(["<s>"], special_tokens=True)
    number = tokenizer.convert_tokens_to_ids("<s>")
    assert read_turns(tokenizer).between["", "user"].startswith("<s><|im_start|>")
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", number)])
    adding = tokenizer.__class__(tokenizer_object=backend, bos_token="<s>", eos_token="<|im_end|>")
    adding.chat_template = tokenizer.chat_template
    assert read_turns(adding).between["", "user"].startswith("<|im_start|>")


def test_thinking_tags_stand_where_ollama_looks_for_them() -> None:
    assert "{{ if false }}<think>{{ .Thinking }}</think>{{ end }}" in go_template_of(
        read_turns(tokenizer_with(R1))
    )
    assert "Thinking" not in go_template_of(read_turns(tokenizer_with(CHATML)))
