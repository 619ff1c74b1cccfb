"""A model is asked through its own chat template, and nothing that is said gets lost on the way."""

import copy
import json
from pathlib import Path
from typing import Any

import jinja2
import pytest

from fakes import byte_tokenizer, tiny_model
from processes import call_main
from zerone.errors import ModelError
from zerone.model.chat_template import check_template, render_chat
from zerone.model.loading import save_model
from zerone.serve.models import Limits, open_model
from zerone.serve.refusals import Refusal
from zerone.serve.schemas import ChatRequest
from zerone.serve.schemas import Message as Sent
from zerone.types import Message

LOOP = "{% for m in messages %}"
END = "{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
PLAIN = LOOP + "{{ m.role }}: {{ m.content }}\n" + END
PARTS = LOOP + "{{ m.role }}: {% for p in m.content %}{{ p['text'] }}{% endfor %}\n" + END
TYPED = (
    LOOP
    + "{{ m.role }}: {% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}\n"
    + END
)
SYSTEM_AS_TEXT = (
    LOOP
    + "{% if m.role == 'system' %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}"
    + "{% endif %}\n"
    + END
)


def tokenizer_with(template: str) -> Any:
    tokenizer = copy.deepcopy(byte_tokenizer())  # that is shared by all tests
    tokenizer.chat_template = template
    return tokenizer


def render(template: str, *said: tuple[str, str], thinks: bool = True) -> str:
    messages = [Message(role=role, content=content) for role, content in said]
    return render_chat(tokenizer_with(template), messages, thinks=thinks)


SHOWING = {
    "plain": PLAIN,
    "trimmed": LOOP + "{{ m.content | trim }}\n" + END,
    "quoted": LOOP + "{{ m.content | tojson }}\n" + END,
    "escaped": LOOP + "{{ m.content | e }}\n" + END,
    "lower case": LOOP + "{{ m.content | lower }}\n" + END,
    "upper case": LOOP + "{{ m.content | upper }}\n" + END,
    "replaced": LOOP + "{{ m.content | replace('\n', ' ') }}\n" + END,
    "parts": PARTS,
    "typed parts": TYPED,
    "first part": LOOP + "{{ m.content[0]['text'] }}\n" + END,
    "either": LOOP
    + "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}"
    + "{% endif %}\n"
    + END,
    "parts or an error": LOOP
    + "{% if m.content is string %}{{ raise_exception('a list, please') }}{% endif %}"
    + "{{ m.content[0].text }}\n"
    + END,
    "system as text": SYSTEM_AS_TEXT,
    "with what thinks": PLAIN + "{% if thinking %}<think>{% endif %}",
}


@pytest.mark.parametrize(
    "question", ["Why?", 'A "quoted" <b>&\nquestion', "  spaces  ", "\u4e3a\u4ec0\u4e48"]
)
@pytest.mark.parametrize("name", list(SHOWING))
def test_a_template_that_shows_what_is_asked_is_used(name: str, question: str, tmp_path: Path) -> None:
    check_template(tokenizer_with(SHOWING[name]), tmp_path)
    text = render(
        SHOWING[name], ("system", "Be brief."), ("user", "Hi."), ("assistant", "Yes."), ("user", question)
    )
    assert "'type'" not in text
    assert "A:" in text
    if name not in ("quoted", "escaped", "upper case", "replaced"):
        assert question.strip().lower() in text.lower()


DROPPING = {
    "nothing of it": "Hello. " + END.replace("{% endfor %}", ""),
    "roles only": LOOP + "{{ m.role }}: \n" + END,
    "another role": LOOP + "{% if m.role == 'human' %}{{ m.content }}{% endif %}\n" + END,
    "another key": LOOP + "{{ m.role }}: {{ m.text }}\n" + END,
    "another name of the list": "{% for m in conversation %}{{ m.content }}{% endfor %}A:",
    "a part of another key": LOOP + "{% for p in m.content %}{{ p.value }}{% endfor %}\n" + END,
    "images only": LOOP
    + "{% for p in m.content %}{% if p.type == 'image' %}<img>{% endif %}{% endfor %}"
    + END,
    "its length": LOOP + "{{ m.content | length }}\n" + END,
    "its beginning": LOOP + "{{ m.content[:3] }}\n" + END,
    "only what came before": "{% for m in messages[:-1] %}{{ m.content }}{% endfor %}A:",
    "only answers": LOOP + "{% if m.role == 'assistant' %}{{ m.content }}{% endif %}" + END,
    "nothing": "",
}


@pytest.mark.parametrize("name", list(DROPPING))
def test_a_template_that_drops_the_question_is_refused_at_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="drops the question: the chat template leaves out what the user"):
        check_template(tokenizer_with(DROPPING[name]), tmp_path)


@pytest.mark.parametrize("name", ["another key", "its beginning", "roles only"])
def test_serving_and_evaluation_refuse_it_before_anything_is_asked(tmp_path: Path, name: str) -> None:
    save_model(tiny_model(), tokenizer_with(DROPPING[name]), tmp_path / "model")
    with pytest.raises(ModelError, match="drops the question"):
        open_model(str(tmp_path / "model"), Limits())
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "1+1?", "answer": 2}) + "\n", encoding="utf-8")
    called = ("eval", "model", str(tmp_path / "model"), "--suite", str(tmp_path / "p.jsonl"))
    code, _, err = call_main(tmp_path, *called)
    assert (code, "drops the question" in err) == (2, True), err


NO_SYSTEM = LOOP + "{% if m.role != 'system' %}{{ m.role }}: {{ m.content }}\n{% endif %}" + END
LAST_ONLY = "{{ messages[-1].content }}\nA:"


@pytest.mark.parametrize(
    ("template", "said", "lost"),
    [
        (NO_SYSTEM, [("system", "Be brief."), ("user", "Why?")], "system"),
        (LAST_ONLY, [("user", "One."), ("assistant", "Yes."), ("user", "Two.")], "user"),
        (LAST_ONLY, [("system", "Be brief."), ("user", "Two.")], "system"),
    ],
)
def test_messages_that_a_template_leaves_out_are_a_request_that_is_refused(
    tmp_path: Path, template: str, said: list[tuple[str, str]], lost: str
) -> None:
    save_model(tiny_model(), tokenizer_with(template), tmp_path / "model")
    served = open_model(str(tmp_path / "model"), Limits())
    messages = [Sent.model_validate({"role": role, "content": content}) for role, content in said]
    with pytest.raises(Refusal, match=f"leaves out what the {lost} says") as caught:
        served.prompter.encode_chat(messages, thinks=True)
    assert caught.value.status == 400
    assert served.prompter.encode_chat(messages[-1:], thinks=True).ids


def test_answers_of_before_are_the_templates_to_leave_out() -> None:
    template = LOOP + "{% if m.role == 'user' %}{{ m.content }}\n{% endif %}" + END
    assert render(template, ("user", "One."), ("assistant", "Yes."), ("user", "Two.")) == "One.\nTwo.\nA:"


def test_a_fault_of_the_template_is_told_as_it_is() -> None:
    with pytest.raises(jinja2.TemplateError, match="no system, please"):
        render(
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system, please') }}{% endif %}"
            + PLAIN,
            ("system", "Be brief."),
            ("user", "Why?"),
        )


# Thinking, as the makers of models call it ---------------------------------------------------------

DEEPSEEK = (
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
    + LOOP
    + "<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    + "{% if add_generation_prompt %}<|assistant|>"
    + "{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}"
)
QWEN = (
    LOOP
    + "<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    + "{% if add_generation_prompt %}<|assistant|>"
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    + "{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "thinks", "ending"),
    [
        (DEEPSEEK, True, "<|assistant|><think>"),
        (DEEPSEEK, False, "<|assistant|></think>"),
        (QWEN, True, "<|assistant|>"),
        (QWEN, False, "<|assistant|><think>\n\n</think>\n\n"),
    ],
)
def test_thinking_is_wished_for_under_both_names(template: str, thinks: bool, ending: str) -> None:
    assert render(template, ("user", "Why?"), thinks=thinks) == f"<|user|>Why?{ending}"


@pytest.mark.parametrize(
    ("options", "thinks"),
    [
        ({}, True),
        ({"thinking": True}, True),
        ({"thinking": False}, False),
        ({"enable_thinking": False}, False),
        ({"thinking": None}, True),
        ({"thinking": True, "enable_thinking": False}, False),
    ],
)
def test_a_request_says_it_by_either_name(options: dict[str, Any], thinks: bool) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": options}
    assert ChatRequest.model_validate(body).is_thinking_wanted == thinks


@pytest.mark.parametrize("thinks", [True, False])
def test_deepseek_is_served_in_both_ways(tmp_path: Path, thinks: bool) -> None:
    save_model(tiny_model(), tokenizer_with(DEEPSEEK), tmp_path / "model")
    served = open_model(str(tmp_path / "model"), Limits())
    prompt = served.prompter.encode_chat([Sent(role="user", content="Why?")], thinks=thinks)
    assert prompt.split.opens_in_thought == thinks
    assert served.tokenizer.decode(prompt.ids).endswith("<think>" if thinks else "</think>")
