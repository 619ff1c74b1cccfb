"""Exports: what another tool reads is the model that was trained, asked as it was trained.

The readers are real: transformers' pipeline and GGUF loader, and huggingface_hub against a server on
loopback. llama.cpp, Ollama and vLLM are not run here.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fakes import byte_tokenizer, tiny_model
from processes import call_main
from zerone.config import Config, build_config, to_yaml
from zerone.export.card import write_card
from zerone.export.modelfile import write_modelfile
from zerone.export.source import read_source
from zerone.export.template import ChatPrompt, go_template, jinja_template
from zerone.model.loading import load_model, read_model_files, save_model
from zerone.model.smollm2 import PROVENANCE as SMOLLM2
from zerone.prompts.r1 import Example, Style, write_completion, write_prompt
from zerone.reward_model.scorer import HEAD_ABOUT
from zerone.runs.directory import RunDir

EXAMPLE = Example(question="What is 2 + 2?", thought="2 + 2 = 4", answer="4")
FIGURES = {"pass_at_1": 0.25, "pass_at_1_ci": [0.2, 0.3], "response_tokens": 12.0}


def finished_run(path: Path, base: Path, *overrides: str) -> RunDir:
    """Write a run that has trained the model in `base`, with figures."""
    run = RunDir(path)
    path.mkdir(parents=True)
    config: Config = build_config({}, [f"model.path={base}", *overrides])
    environment = {"commit": "c0ffee", "seed": 3, "model": str(base)}
    run.start(to_yaml(config), environment | {"model_sha256": read_model_files(str(base)).sha256})
    save_model(tiny_model(seed=1), byte_tokenizer(), run.model_path)
    final = FIGURES | {"pass_at_1": 0.75, "pass_at_1_ci": [0.7, 0.8]}
    run.write_summary({"base": {"hard": FIGURES}, "final": {"hard": final}, "steps": 2, "seed": 3})
    return run


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_model(tiny_model(), byte_tokenizer(), tmp_path / "base", {"model": "tiny", "licence": "MIT"})
    return tmp_path / "base"


def text_of(folder: Path) -> str:
    """Return all text files of an export, one after another."""
    return "\n".join(
        path.read_text(encoding="utf-8")
        for path in sorted(folder.iterdir())
        if path.suffix in (".json", ".md", ".jinja", "")
    )


# Templates ----------------------------------------------------------------------------------------


def render(prompt: ChatPrompt, messages: list[dict[str, Any]], **settings: Any) -> str:
    """Render a chat as transformers does."""
    text: str = byte_tokenizer().apply_chat_template(
        messages,
        chat_template=jinja_template(prompt),
        tokenize=False,
        **{"add_generation_prompt": True, **settings},
    )
    return text


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("style", list(Style))
@pytest.mark.parametrize("opened", ["", "<think>"])
@pytest.mark.parametrize("examples", [(), (EXAMPLE,)])
def test_one_question_is_asked_as_in_training(
    style: Style, opened: str, examples: tuple[Example, ...]
) -> None:
    prompt = ChatPrompt(style=style, opened=opened, examples=examples)
    assert render(prompt, [user("Why?")]) == write_prompt("Why?", examples, style) + opened


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_no_question_escapes_the_template(question: str) -> None:
    prompt = ChatPrompt(style=Style.TAGS)
    assert render(prompt, [user(question)]) == write_prompt(question)


@pytest.mark.parametrize("style", list(Style))
def test_old_thoughts_are_dropped_from_the_history(style: Style) -> None:
    completion = write_completion("a long search", "7", style)
    messages = [user("One?"), {"role": "assistant", "content": completion}, user("Two?")]
    text = render(ChatPrompt(style=style, opened="<think>"), messages)
    answer = completion.partition("</think>\n")[2]
    assert text == write_prompt("One?", (), style) + f"{answer}\nUser: Two?\nAssistant:<think>"


def test_an_answer_that_was_cut_off_in_its_thought_is_dropped_as_a_whole() -> None:
    messages = [user("One?"), {"role": "assistant", "content": "<think>never closed"}, user("Two?")]
    text = render(ChatPrompt(style=Style.TAGS), messages)
    assert text == write_prompt("One?") + "\nUser: Two?\nAssistant:"


def test_a_system_message_stands_after_the_fixed_text() -> None:
    text = render(ChatPrompt(style=Style.TAGS), [{"role": "system", "content": "Be short."}, user("Why?")])
    assert text == write_prompt("Why?").replace("User: Why?", "Be short.\nUser: Why?")


def test_thinking_can_be_turned_off() -> None:
    text = render(ChatPrompt(style=Style.TAGS, opened="<think>"), [user("Why?")], enable_thinking=False)
    assert text == write_prompt("Why?") + "<think></think>\n"


def test_an_unknown_role_is_refused() -> None:
    from jinja2 import TemplateError

    with pytest.raises(TemplateError, match="not tool"):
        render(ChatPrompt(style=Style.TAGS), [{"role": "tool", "content": "7"}])


def test_the_template_of_ollama_is_the_same_prompt_and_names_the_tags() -> None:
    template = go_template(ChatPrompt(style=Style.BOXED, opened="<think>"))
    before, _, rest = template.partition('{{ range .Messages }}{{ if eq .Role "user" }}')
    question, _, rest = rest.partition("{{ else if")
    after = rest.rpartition("{{ end }}{{ end }}")[2]
    asked = before + question.replace("{{ .Content }}", "Why?") + after
    assert asked == write_prompt("Why?", (), Style.BOXED) + "<think>"
    assert "{{ if false }}<think>{{ .Thinking }}</think>{{ end }}" in template, "Ollama infers tags from this"


# The directory ------------------------------------------------------------------------------------


def test_a_run_becomes_a_directory_with_the_same_weights(tmp_path: Path, base: Path) -> None:
    run = finished_run(tmp_path / "runs" / "one", base, "prompt.open_thought=true", "sampling.max_tokens=99")
    out = tmp_path / "out"
    assert call_main(tmp_path, "export", str(run.path), "--to", "hf", "--out", str(out))[0] == 0
    same = ("config.json", "model.safetensors")
    assert all((out / name).read_bytes() == (run.model_path / name).read_bytes() for name in same)
    exported = load_model(str(out), torch.float32)
    assert exported.sha256 == load_model(str(run.model_path), torch.float32).sha256
    chat = exported.tokenizer.apply_chat_template([user("Why?")], tokenize=False, add_generation_prompt=True)
    assert chat == write_prompt("Why?") + "<think>"
    settings = json.loads((out / "generation_config.json").read_text(encoding="utf-8"))
    expected = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "max_new_tokens": 99}
    assert expected.items() <= settings.items()
    assert settings["eos_token_id"] == [0]


def test_the_card_has_figures_lineage_and_licence_and_no_path(tmp_path: Path, base: Path) -> None:
    run = finished_run(tmp_path / "runs" / "one", base, "loss.clip_high=0.5", f"data.path={tmp_path}/p.jsonl")
    out = tmp_path / "out"
    call_main(tmp_path, "export", str(run.path), "--to", "hf", "--out", str(out))
    card = (out / "README.md").read_text(encoding="utf-8")
    matter = yaml.safe_load(card.split("---\n")[1])
    assert (matter["license"], matter["pipeline_tag"]) == ("mit", "text-generation")
    assert matter["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.75
    # Its problems are its own: what a run keeps as `hard` is what it held out of them.
    assert "| held-out | pass@1 | 25.0% [20.0%, 30.0%] | 75.0% [70.0%, 80.0%] |" in card
    source = read_source(str(run.path))
    assert [ancestor.name for ancestor in source.lineage] == ["one", "tiny"]
    for ancestor in source.lineage:
        assert ancestor.sha256 in card
    assert "commit c0ffee" in card
    for setting in ("loss.clip_high=0.5", "data.path=p.jsonl", "model.path=base"):
        assert f"\n{setting}\n" in card
    assert str(tmp_path) not in text_of(out)


def test_an_export_of_an_export_keeps_the_lineage(tmp_path: Path, base: Path) -> None:
    run = finished_run(tmp_path / "one", base)
    for name, model in (("first", run.path), ("second", tmp_path / "first")):
        call_main(tmp_path, "export", str(model), "--to", "hf", "--out", str(tmp_path / name))
    assert read_source(str(tmp_path / "second")).lineage == read_source(str(run.path)).lineage
    templates = [(tmp_path / name / "chat_template.jinja").read_text() for name in ("first", "second")]
    assert templates[0] == templates[1]


def test_a_lineage_that_was_edited_is_not_believed(tmp_path: Path, base: Path) -> None:
    run = finished_run(tmp_path / "one", base)
    call_main(tmp_path, "export", str(run.path), "--to", "hf", "--out", str(tmp_path / "out"))
    path = tmp_path / "out" / "provenance.json"
    fine = read_source(str(tmp_path / "out")).lineage[0].as_dict()
    false: tuple[dict[str, Any], ...] = ({"name": 3}, {"licence": ["mit"]}, {"sha256": "`x`"}, {"made": []})
    for lineage in ("none", [3], [{"name": "x"}], [], *([fine | wrong] for wrong in false)):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"lineage": lineage}))
        assert [ancestor.name for ancestor in read_source(str(tmp_path / "out")).lineage] == ["one"]


def test_a_licence_that_is_no_text_is_none(tmp_path: Path) -> None:
    save_model(tiny_model(), byte_tokenizer(), tmp_path / "other", {"licence": ["mit"]})
    source = read_source(str(tmp_path / "other"))
    assert source.licence is None
    write_card(source, "other")


def test_what_others_wrote_stays_one_line_of_text_in_card_and_modelfile(tmp_path: Path) -> None:
    """The card of a model from the Hub: whoever exports it must not write the author's instructions."""
    card = 'license: "mit\\nADAPTER /etc/passwd\\n# Forged"'
    save_model(tiny_model(), byte_tokenizer(), tmp_path / "other")
    (tmp_path / "other" / "README.md").write_text(f"---\n{card}\n---\n", encoding="utf-8")
    source = read_source(str(tmp_path / "other"))
    assert source.licence == "mit\nADAPTER /etc/passwd\n# Forged"
    words = [line.split()[0] for line in write_modelfile(source).splitlines() if line[:1].isupper()]
    assert set(words) == {"FROM", "TEMPLATE", "PARAMETER", "LICENSE"}
    hostile = replace(
        source.lineage[0], name="x | y\n# Forged <b>`z`</b>", made={"commit": "1 | 2\n\n## Forged"}
    )
    written = write_card(replace(source, lineage=(hostile,)), "a\n# Forged")
    body = written.split("\n---\n", 1)[1]
    assert [line for line in body.splitlines() if line.startswith("#")] == [
        "# a \\# Forged",
        *(f"## {title}" for title in ("Figures", "Use", "Lineage", "License")),
    ]
    assert "| x \\| y \\# Forged \\<b\\>\\`z\\`\\</b\\> | commit 1 \\| 2 \\#\\# Forged |" in body


def test_a_copy_of_a_fine_tuned_model_is_not_named_after_its_base(tmp_path: Path) -> None:
    provenance = {"what": "SFT by zerone", "model": "/home/someone/base", "model_sha256": "0"}
    save_model(tiny_model(), byte_tokenizer(), tmp_path / "copy", provenance)
    assert read_source(str(tmp_path / "copy")).name == "copy"


def test_the_licence_of_a_run_is_that_of_its_first_ancestor(tmp_path: Path) -> None:
    save_model(tiny_model(), byte_tokenizer(), tmp_path / "base", SMOLLM2)
    first = finished_run(tmp_path / "first", tmp_path / "base")
    second = finished_run(tmp_path / "second", first.model_path)
    source = read_source(str(second.path))
    assert [ancestor.licence for ancestor in source.lineage] == ["Apache-2.0"] * 3
    assert [ancestor.name for ancestor in source.lineage] == ["second", "first", "SmolLM2-135M-Instruct"]


def test_a_base_that_is_gone_or_changed_is_named_by_its_hash(tmp_path: Path, base: Path) -> None:
    run = finished_run(tmp_path / "one", base)
    before = read_source(str(run.path)).lineage[1]
    save_model(tiny_model(seed=9), byte_tokenizer(), base, {"model": "tiny", "licence": "MIT"})
    changed = read_source(str(run.path)).lineage[1]
    assert (changed.name, changed.sha256, changed.licence) == ("base", before.sha256, None)


def test_the_licence_on_the_card_of_a_hub_model_is_found(tmp_path: Path) -> None:
    save_model(tiny_model(), byte_tokenizer(), tmp_path / "other")
    (tmp_path / "other" / "README.md").write_text("---\nlicense: llama3.1\n---\n# x\n", encoding="utf-8")
    assert read_source(str(tmp_path / "other")).licence == "llama3.1"


def test_a_model_with_a_template_of_its_own_keeps_it(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer().__class__(tokenizer_object=byte_tokenizer().backend_tokenizer)
    tokenizer.eos_token = tokenizer.pad_token = byte_tokenizer().eos_token
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    save_model(tiny_model(), tokenizer, tmp_path / "other")
    call_main(tmp_path, "export", str(tmp_path / "other"), "--to", "hf", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == tokenizer.chat_template
    run = finished_run(tmp_path / "run", tmp_path / "other")
    save_model(tiny_model(), tokenizer, run.model_path)
    prompt = read_source(str(run.path)).prompt
    assert prompt is not None, "a run replaces it by the prompt that it trained with"


def test_a_checkpoint_of_a_run_is_asked_as_the_run_was(tmp_path: Path, base: Path) -> None:
    run = finished_run(tmp_path / "one", base, "prompt.style=boxed")
    save_model(tiny_model(), byte_tokenizer(), run.checkpoints_path / "step_000001" / "model")
    source = read_source(str(run.checkpoints_path / "step_000001" / "model"))
    assert source.prompt is not None
    assert (source.name, source.prompt.style, source.summary) == ("one-step_000001", Style.BOXED, None)


def test_a_figure_that_nothing_was_judged_for_is_left_out_of_the_card(tmp_path: Path, base: Path) -> None:
    run = finished_run(tmp_path / "one", base)
    moments = {"base": {"hard": FIGURES}, "final": {"hard": FIGURES | {"cons_at_16": None, "format": None}}}
    run.write_summary(moments | {"steps": 2, "seed": 3})
    card = write_card(read_source(str(run.path)), "one")
    assert "| hard | pass@1 |" in card
    assert "cons@16" not in card
    assert "well formed" not in card


def test_the_best_model_of_fine_tuning_has_its_name_and_the_final_one_its_figures(
    tmp_path: Path, base: Path
) -> None:
    run = finished_run(tmp_path / "one", base, "data.path=shown.jsonl")
    save_model(tiny_model(), byte_tokenizer(), run.best_path)
    moments = {name: {"step": 1, "loss": 0.5, "suites": {"hard": FIGURES}} for name in ("base", "final")}
    run.write_summary(moments | {"seed": 3})
    assert "| hard | pass@1 | 25.0% [20.0%, 30.0%] |" in write_card(read_source(str(run.path)), "one")
    best = read_source(str(run.best_path))
    assert (best.name, best.summary) == ("one-best", None)


def test_the_pipeline_of_transformers_chats_with_it(tmp_path: Path) -> None:
    """The embedded model, greedy: the pipeline continues the very tokens that training would ask with."""
    from transformers import pipeline

    out = tmp_path / "out"
    assert call_main(tmp_path, "export", "embedded", "--to", "hf", "--out", str(out))[0] == 0
    question = "Use the numbers 3, 5, 8 to make 16."
    chat: Any = pipeline("text-generation", model=str(out))
    answer = chat([user(question)], do_sample=False, max_new_tokens=40)[0]["generated_text"][-1]["content"]
    model = load_model("embedded", torch.float32)
    asked = model.tokenizer(write_prompt(question), return_tensors="pt")
    ids = model.module.generate(**asked, do_sample=False, max_new_tokens=40)[0, asked["input_ids"].shape[1] :]
    assert answer == model.tokenizer.decode(ids, skip_special_tokens=True)
    assert len(answer) > 10


VLLM_ARCHITECTURES = {"Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM"}
VLLM_CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)


def test_the_embedded_model_is_one_that_vllm_lists() -> None:
    """Architectures and head sizes as vLLM's registry and its CPU attention name them (not run here)."""
    config = read_model_files("embedded").config
    assert set(config.architectures or []) <= VLLM_ARCHITECTURES
    assert config.head_dim in VLLM_CPU_HEAD_SIZES


# What cannot be exported --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--to", "hf"], "nowhere does not exist"),
        (["embedded", "--to", "hub"], "--to hub needs --repo OWNER/NAME"),
        (["embedded", "--to", "hf", "--push"], "go with --to hub, not with --to hf"),
    ],
)
def test_refusals_say_what_to_do_and_write_nothing(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    code, _, err = call_main(tmp_path, "export", *arguments, "--out", str(tmp_path / "out"))
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_reward_model_is_not_exported_as_one_that_answers(tmp_path: Path, base: Path) -> None:
    shutil.copytree(base, tmp_path / "judge")
    (tmp_path / "judge" / HEAD_ABOUT).write_text("{}")
    out = tmp_path / "out"
    code, _, err = call_main(tmp_path, "export", str(tmp_path / "judge"), "--to", "hf", "--out", str(out))
    assert (code, "is a reward model" in err, out.exists()) == (2, True, False)


def test_what_stands_at_the_place_is_left_alone(tmp_path: Path, base: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, _, err = call_main(tmp_path, "export", str(base), "--to", "hf", "--out", str(tmp_path / "out"))
    assert (code, "is there already" in err) == (2, True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_run_without_a_finished_model_is_refused(tmp_path: Path, base: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.start(to_yaml(Config()), {"model": str(base)})
    code, _, err = call_main(tmp_path, "export", str(run.path), "--to", "hf", "--out", str(tmp_path / "out"))
    assert (code, "has no finished model" in err) == (2, True)
