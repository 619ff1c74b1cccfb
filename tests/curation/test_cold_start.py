"""Cold start and rejection sampling as commands, on the embedded base and on a model with a known mind."""

import json
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import byte_tokenizer, number_problem
from forking import fork
from processes import call_main
from scripted import make_engine, save_talking_model, talking_model, write_problems
from zerone.config import build_config, to_yaml
from zerone.curation.designed import designed_problems, draw_designed
from zerone.curation.drafts import hash_of
from zerone.curation.few_shot import FewShotDraw, few_shot_prompt, worked_examples
from zerone.curation.filters import Limits, Reason, reason_against
from zerone.curation.sampler import ModelAtWork, ModelDraw
from zerone.curation.settings import draw_of_zero, read_examples
from zerone.data.demonstrations import read_demonstrations
from zerone.data.split import split_of
from zerone.engine.api import SamplingParams
from zerone.errors import DataError
from zerone.problems import arithmetic, countdown, requests
from zerone.prompts.r1 import Example, Style, parse_completion
from zerone.runs.directory import RunDir


def at_work(context: int = 1024, max_tokens: int = 24) -> ModelAtWork:
    return ModelAtWork(
        engine=make_engine(talking_model(context=context)),
        tokenizer=byte_tokenizer(),
        context=context,
        sampling=SamplingParams(max_tokens=max_tokens),
        sha256="0" * 64,
    )


def draw(model: ModelAtWork, num_samples: int = 3) -> ModelDraw:
    return ModelDraw(model=model, source="r1_zero", style=Style.TAGS, num_samples=num_samples, seed=0)


def test_a_draft_depends_on_its_problem_and_not_on_its_neighbours() -> None:
    problems = [number_problem(i) for i in range(6)]
    whole = draw(at_work())(problems)
    assert draw(at_work())(problems[3:]) == whole[3:]
    assert len({one.text for drafts in whole for one in drafts}) > 6


def test_r1_zero_is_asked_in_the_prompt_of_its_own_run(tmp_path: Path) -> None:
    run, config = RunDir(tmp_path / "zero"), build_config({"prompt.style": "boxed"})
    own = build_config({"prompt.open_thought": True, "prompt.examples": 2})
    run.path.mkdir()
    run.start(to_yaml(own), {})
    asked = draw_of_zero(config, at_work(context=4096), run.model_path)
    assert (asked.style, asked.opened, len(asked.examples)) == (Style.TAGS, "<think>", 2)
    assert all(one.text.startswith("<think>") for one in asked([number_problem()])[0])
    bare = draw_of_zero(config, at_work(), tmp_path / "elsewhere" / "model")
    assert (bare.style, bare.opened, bare.examples) == (Style.TAGS, "", ())


def test_whatever_decides_an_answer_or_its_verdict_is_part_of_what_a_data_set_is_made_by() -> None:
    plain = draw(at_work())
    changed = [
        replace(plain, opened="<think>"),
        replace(plain, examples=(Example(question="q", thought="t", answer="a"),)),
        *(
            replace(plain, model=replace(plain.model, sampling=sampling))
            for sampling in (SamplingParams(max_tokens=24, top_p=0.9), SamplingParams(max_tokens=24, top_k=5))
        ),
        replace(plain, model=replace(plain.model, sampling=SamplingParams(max_tokens=24, stop=("x",)))),
    ]
    identities = [json.dumps(one.identity()) for one in (plain, *changed)]
    assert len(set(identities)) == len(identities)
    problem = number_problem()
    assert hash_of([problem]) != hash_of([replace(problem, spec={**problem.spec, "answer": "77"})])


def test_a_prompt_without_room_is_counted_and_stops_nothing() -> None:
    (drafts,) = draw(at_work(context=64))([number_problem()])
    assert [reason_against(one, Limits()) for one in drafts] == [Reason.NO_ROOM] * 3


def test_worked_examples_go_until_an_answer_has_room() -> None:
    problem = designed_problems(1, 0, (countdown,))[0]
    examples = worked_examples(problem, 2, seed=0)
    assert len(examples) == 2
    assert problem.prompt not in few_shot_prompt(problem, examples).rsplit("\n", 2)[0]
    lengths = []
    for context in (4096, 700, 64):
        work = FewShotDraw(
            model=at_work(context=context), examples_for=lambda problem: examples, num_samples=1, seed=0
        )
        lengths.append(len(work.request(problem).prompt_ids))
    assert lengths[0] > 700 - 24 >= lengths[1] > lengths[2]


def test_designed_cases_are_training_problems_of_the_highest_levels_and_pass_every_filter() -> None:
    families = (countdown, arithmetic, requests)
    problems = designed_problems(60, 3, families)
    assert {p.level for p in problems if p.family != "requests"} == {4, 5}
    assert {p.level for p in problems if p.family == "requests"} == {1, 2, 3, 4, 5}
    assert {split_of(problem.id) for problem in problems} == {"train"}
    assert problems == designed_problems(60, 3, families)
    drafts = [one for drawn in draw_designed(problems, 3, Style.BOXED) for one in drawn]
    reasons = Counter(reason_against(one, Limits()) for one in drafts)
    # The bare procedure writes "The answer is" in every language, and its searches may start again.
    assert set(reasons) <= {None, Reason.MIXED_LANGUAGE, Reason.REPEATED}
    assert reasons[None] >= 0.8 * len(drafts)


SMALL = ("model.precision=fp32", "model.threads=1", "sampling.slots=32")


def test_cold_start_on_the_embedded_base(tmp_path: Path) -> None:
    out = tmp_path / "cs.jsonl"
    arguments = [
        *("data", "cold-start", f"--out={out}", *SMALL, "sampling.max_tokens=160", "curate.samples=1"),
        *("curate.prompts=8", "curate.general=4", "curate.designed=12", "curate.minimum=8"),
    ]
    code, shown, err = call_main(tmp_path, *arguments)
    assert code == 0, err
    card = json.loads(out.with_name("cs.card.json").read_text(encoding="utf-8"))
    assert set(card["sources"]) == {"few_shot", "designed"}
    assert card["sources"]["few_shot"]["math"]["kept"] >= 3
    assert card["sources"]["designed"]["general"]["kept"] >= 2
    assert f"total    {card['samples']:>8} samples" in shown
    for demonstration in read_demonstrations(out).demonstrations:
        assert demonstration.messages[-1].content.startswith("<think>")
        assert "</think>\n" in demonstration.messages[-1].content


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("talker")
    save_talking_model(path / "model")
    write_problems(path / "problems.jsonl", count=80)
    return path


def reject_arguments(talker: Path, out: Path, *changes: str) -> list[str]:
    return [
        *("data", "reject-sample", f"--out={out}", *SMALL),
        f"model.path={talker / 'model'}",
        f"data.path={talker / 'problems.jsonl'}",
        *("prompt.style=tags", "sampling.max_tokens=24", "curate.prompts=70", "curate.samples=16"),
        *("curate.minimum=1", *changes),
    ]


def card_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.with_name(f"{out.stem}.card.json").read_text(encoding="utf-8"))
    return found


def test_rejection_sampling_keeps_what_is_right(talker: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    code, _, err = call_main(tmp_path, *reject_arguments(talker, out))
    assert code == 0, err
    card = card_of(out)
    assert card["drawn"] == 70 * 16
    assert card["samples"] + sum(card["dropped"].values()) == card["drawn"]
    assert {"wrong", "malformed"} <= set(card["dropped"])
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == card["samples"] > 3
    for line in lines:
        digit = line["prompt"].removeprefix("Say ")[0]
        answer = parse_completion(line["completion"]).answer
        assert answer is not None
        assert int(answer) == int(digit)


def test_a_sampling_that_was_killed_ends_like_one_left_alone(talker: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    code, _, err = call_main(tmp_path, *reject_arguments(talker, whole))
    assert code == 0, err
    process = fork(tmp_path, *reject_arguments(talker, killed))
    for line in process.stderr:
        if line.startswith("1/3 "):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not killed.exists()
    code, _, err = call_main(tmp_path, *reject_arguments(talker, killed))
    assert code == 0, err
    assert "1/3 " not in err
    assert killed.read_bytes() == whole.read_bytes()
    assert card_of(killed)["dropped"] == card_of(whole)["dropped"]


def test_too_few_samples_stop_the_stage_with_the_counts(talker: Path, tmp_path: Path) -> None:
    changes = ("curate.prompts=8", "curate.samples=1", "curate.minimum=50")
    code, _, err = call_main(tmp_path, *reject_arguments(talker, tmp_path / "r.jsonl", *changes))
    assert code == 1
    assert "50 are wanted; dropped: " in err
    assert " malformed" in err


def test_an_endpoint_needs_the_name_of_its_model(talker: Path, tmp_path: Path) -> None:
    changes = ("curate.judge=http://127.0.0.1:9/v1",)
    code, _, err = call_main(tmp_path, *reject_arguments(talker, tmp_path / "r.jsonl", *changes))
    assert code == 2
    assert "needs curate.endpoint_model=NAME" in err


def test_worked_examples_of_your_own_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_text('{"question": "1+1?", "thought": "I add.", "answer": "2"}\n\n', encoding="utf-8")
    assert [example.answer for example in read_examples(path)] == ["2"]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [example.answer for example in read_examples(path)] == ["2"]
    half = '{"question": "\\ud800", "thought": "I add.", "answer": "2"}'
    for bad in ("", "{}", half, "[1]", '{"question": "1+1?", "thought": "I add.", "answer": 2}'):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(DataError):
            read_examples(path)


def test_dry_run_prints_the_configuration(tmp_path: Path) -> None:
    code, out, _ = call_main(tmp_path, "data", "cold-start", "--out=x.jsonl", "curate.cap=7", "--dry-run")
    assert code == 0
    assert "cap: 7" in out
    assert "style: boxed" in out


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zerone.curation.settings.make_rejection_samples", interrupted)
    code, _, err = call_main(tmp_path, "data", "reject-sample", "--out=x.jsonl")
    assert code == 130
    assert "interrupted; finished work is saved: give the same command again" in err
