"""The base in two prompts (benchmarks/base_in_notes.py): how notes are read, and the figure itself."""

import pytest

import base_in_notes
from zerone.config.recipes import resolve_config
from zerone.config.sections import ModelConfig
from zerone.curation.sampler import opened_model
from zerone.engine.api import SamplingParams
from zerone.evals.suites import suite_named
from zerone.model.loading import EMBEDDED
from zerone.prompts.r1 import write_completion
from zerone.types import Problem


def problem(language: str = "en") -> Problem:
    return Problem(
        id="p",
        family="arithmetic",
        level=1,
        language=language,
        prompt="?",
        verifier="number",
        spec={"answer": "6"},
    )


@pytest.mark.parametrize(
    ("language", "note", "thought", "answer"),
    [
        ("en", "3+3=6\nResult: 6", "3+3=6", "6"),
        ("en", "3+3=6\nResult: 6\nProblem: another\n1\nResult: 1", "3+3=6", "6"),
        ("en", "a\nI work\nThe answer is \\boxed{13-5}.", "a\nI work", "13-5"),
        ("en", "3+3=6\nThe answer is \\boxed{6}. ", "3+3=6", "6"),
        ("zh", "3+3=6\n结果: 6", "3+3=6", "6"),
        ("zh", "一步\n答案是\\boxed{8*15}。", "一步", "8*15"),
    ],
)
def test_a_note_becomes_reasoning_and_final_answer(
    language: str, note: str, thought: str, answer: str
) -> None:
    assert base_in_notes.completion_of_note(problem(language), note) == write_completion(thought, answer)


@pytest.mark.parametrize(
    "note",
    [
        "3+3=6",
        "Result: 6",  # nothing before it: no note of the corpus
        "3+3=6\nThe answer is 6.",
        "3+3=6\nThe answer is \\boxed{6",
        "3+3=6\nProblem: other\nResult: 6",
        "3+3=6\n答案是\\boxed{6}。",
    ],
)
def test_a_note_without_a_final_answer_is_left_as_it_is(note: str) -> None:
    assert "<answer>" not in base_in_notes.completion_of_note(problem(), note)


@pytest.mark.slow
def test_the_base_solves_as_a_note_what_it_guesses_at_in_the_template() -> None:
    """95.0% [93.6, 96.4] and 15.3% [13.0, 17.6] of the mixed suite (docs/base_model.md)."""
    config = resolve_config("zero", None, [])
    sampling = SamplingParams(temperature=1.0, max_tokens=config.sampling.max_tokens)
    computed = ModelConfig(precision="fp32", threads=1)
    problems = suite_named("mixed", 2).problems
    with opened_model(EMBEDDED, sampling, config.sampling.slots, computed) as model:
        shares = [
            sum(base_in_notes.measure(model, problems, way, 2, 0).correct) / len(problems)
            for way in (base_in_notes.NOTES, base_in_notes.TEMPLATE)
        ]
    assert 0.93 <= shares[0] <= 0.97
    assert 0.12 <= shares[1] <= 0.19
