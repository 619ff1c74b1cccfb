"""A chat template that loops, or writes without end, is stopped within seconds, and others go on."""

import concurrent.futures
import json
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest

from fakes import byte_tokenizer, tiny_model
from processes import call_main
from serving_scripts import CHATML
from zerone.errors import ModelError
from zerone.model.loading import save_model
from zerone.serve.bounded_template import BoundedTemplate, bound_template
from zerone.serve.chat_prompt import Prompter
from zerone.serve.models import Limits, Served, open_model
from zerone.serve.refusals import Refusal
from zerone.serve.schemas import Message

# Each behaves until the message says `go`, so that the start lets it pass. Constants would be computed when a
# template is read.
ATTACKS = {
    "loop in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "endless power": "{{ 9 ** (messages | length * 9 ** 9) }}",
    "gigabytes at once": "{{ 'a' * 10 ** 10 }}",
    "gigabytes by format": "{{ '%10000000000d' % 1 }}",
    "gigabytes by padding": "{{ 'a'.ljust(10 ** 10) }}",
    "gigabytes by doubling": (
        "{% set n = namespace(x='a' * 1024) %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
    ),
    "gigabytes written": "{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}",
    "a long list": (
        "{% set n = namespace(x=[1]) %}{% for i in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}"
    ),
    "a slow filter": "{{ ('a ' * messages | length * 10 ** 7) | wordwrap(1) | wordcount }}",
    "sorting": "{% for i in range(9999) %}{{ range(99999) | list | sort(reverse=true) | first }}{% endfor %}",
    "recursion": "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "too long": "{{ 'ab' * 4 * 10 ** 6 }}",
}


def armed(attack: str) -> str:
    return CHATML + "{% if 'go' in messages[-1].content %}" + attack + "{% endif %}"


def served(path: Path, template: str) -> Served:
    save_model(tiny_model(), byte_tokenizer(), path)
    settings = path / "tokenizer_config.json"
    told = {**json.loads(settings.read_text(encoding="utf-8")), "chat_template": template}
    settings.write_text(json.dumps(told), encoding="utf-8")
    return open_model(str(path), Limits())


def asked(prompter: Prompter, text: str) -> Any:
    return prompter.encode_chat([Message(role="user", content=text)], thinks=True)


@pytest.mark.parametrize("attack", list(ATTACKS.values()), ids=list(ATTACKS))
def test_a_template_that_takes_time_or_memory_is_stopped_with_a_sentence(tmp_path: Path, attack: str) -> None:
    prompter = served(tmp_path / "model", armed(attack)).prompter
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    asked(prompter, "Why?")
    begun = time.monotonic()
    with pytest.raises(Refusal) as caught:
        asked(prompter, "go")
    assert time.monotonic() - begun < 20, "5 s of a machine that is not shared"
    assert caught.value.status == 400
    message = str(caught.value)
    assert message.startswith("the model's chat template refuses these messages: ")
    assert len(message.split()) > 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
    assert asked(prompter, "Why?").ids  # it goes on


@pytest.mark.parametrize("attack", ["loop in loops", "gigabytes at once"])
def test_a_model_whose_template_always_loops_is_refused_at_the_start(tmp_path: Path, attack: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ModelError, match=r"fails at any question: it (did not end|needs more than)"):
        served(tmp_path / "model", ATTACKS[attack])
    assert time.monotonic() - begun < 15  # with the start of a process


def test_the_command_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        served(tmp_path / "model", ATTACKS["gigabytes at once"])
    code, out, err = call_main(tmp_path, "serve", str(tmp_path / "model"), "--port", "0")
    assert (code, out) == (2, "")
    assert "chat template" in err


def test_looping_requests_do_not_hold_up_others_for_long(tmp_path: Path) -> None:
    prompter = served(tmp_path / "model", armed(ATTACKS["loop in loops"])).prompter
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        looping = [pool.submit(asked, prompter, "go") for _ in range(2)]
        begun = time.monotonic()
        assert asked(prompter, "Why?").ids
        assert time.monotonic() - begun < 12
        for one in looping:
            with pytest.raises(Refusal):
                one.result()


# What it renders ----------------------------------------------------------------------------------

TEMPLATES = [
    CHATML,
    "{{ bos_token }}{% for m in messages %}{{ m['role'] | upper }}: {{ m['content'] | trim }}\n{% endfor %}",
    "{% for m in messages %}{{ loop.index }}{{ m | tojson }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{%- for m in messages %}{% if enable_thinking %}T{% endif %}{{ m.content }}{{ eos_token }}{% endfor %}",
]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("generates", [False, True])
def test_a_text_is_that_of_transformers(template: str, generates: bool) -> None:
    tokenizer = byte_tokenizer().__class__(tokenizer_object=byte_tokenizer().backend_tokenizer)
    tokenizer.chat_template = template
    tokenizer.add_special_tokens({"eos_token": "<e>"})
    conversation: list[dict[str, Any]] = [
        {"role": "system", "content": " Be\u2028brief. "},
        {"role": "user", "content": "\u7b54\u6848 \U0001f600 {{ 1 }} <e>\x00", "name": None},
    ]
    settings = {"tokenize": False, "add_generation_prompt": generates, "enable_thinking": True}
    wanted = tokenizer.apply_chat_template(conversation, **settings)
    assert BoundedTemplate(tokenizer)(conversation, **settings) == wanted
    bound_template(tokenizer)
    assert tokenizer.apply_chat_template(conversation, **settings) == wanted


def test_a_megabyte_comes_back_whole() -> None:
    tokenizer = byte_tokenizer().__class__(tokenizer_object=byte_tokenizer().backend_tokenizer)
    tokenizer.chat_template = "{{ messages[0].content }}"
    for text in ("a" * (1 << 20), "\u4e2d" * 300_000, "\x00" * 600_000, "\n" * (1 << 20)):
        assert BoundedTemplate(tokenizer)([{"role": "user", "content": text}]) == text


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("{% for", jinja2.TemplateSyntaxError),
        ("{{ raise_exception('no') }}", jinja2.TemplateError),
        ("{{ a.b.c }}", jinja2.TemplateError),
        ("{{ 1 / 0 }}", ArithmeticError),
        ("{{ 1 + 'a' }}", TypeError),
        ("{{ 'a' | int('b') | round(0, 'x') }}", Exception),
        ("{{ ''.__class__.__mro__ }}", jinja2.TemplateError),
    ],
)
def test_what_a_template_raises_is_raised_here(template: str, kind: type[Exception]) -> None:
    tokenizer = byte_tokenizer().__class__(tokenizer_object=byte_tokenizer().backend_tokenizer)
    tokenizer.chat_template = template
    with pytest.raises(kind):
        BoundedTemplate(tokenizer)([{"role": "user", "content": "a"}])


@pytest.fixture(autouse=True)
def no_core_files() -> Iterator[None]:
    yield
    assert not [name for name in os.listdir(".") if name.startswith("core.")]
