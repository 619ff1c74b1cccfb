"""Each filter of curation drops the case that was built for it, by its name, and nothing else."""

import dataclasses

import pytest

from zerone.curation.drafts import Draft, domain_of
from zerone.curation.filters import Limits, Reason, is_mixed, longest_paragraph, reason_against
from zerone.curation.sieve import Sieve, resemblance, signature_of
from zerone.prompts.r1 import Style, style_for
from zerone.types import Outcome, Problem


def problem(language: str = "en", verifier: str = "number", **spec: object) -> Problem:
    return Problem(
        id="p",
        family="sums",
        level=1,
        language=language,
        prompt="What is 17+25?",
        verifier=verifier,
        spec=spec or {"answer": "42"},
    )


THOUGHT = "I add the tens first, 10+20=30, then the ones, 7+5=12, and both together make 30+12=42."
SUMMARY = "Tens and ones make 30+12=42. The answer is \\boxed{42}."


def draft(
    thought: str = THOUGHT, summary: str = SUMMARY, style: Style = Style.BOXED, **changes: object
) -> Draft:
    made = Draft(
        problem=problem(), source="test", number=0, text=f"<think>{thought}</think>\n{summary}", style=style
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]  # fields by name, as tests give them


NUMBERS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "

BUILT_CASES = [
    (draft(text="", is_cut=True), Reason.NO_ROOM),
    (draft(is_cut=True), Reason.TOO_LONG),
    (draft(thought=THOUGHT + " " * 100_000), Reason.TOO_LONG),
    (draft(summary=""), Reason.NO_SUMMARY),
    (draft(summary="\u200b \n"), Reason.NO_SUMMARY),
    (draft(summary="\\boxed{42}"), Reason.NO_SUMMARY),
    (draft(text=f"{THOUGHT}\n{SUMMARY}"), Reason.MALFORMED),
    (draft(text=f"<think>{THOUGHT}\n{SUMMARY}"), Reason.MALFORMED),
    (draft(thought=""), Reason.MALFORMED),
    (draft(summary="The answer is 42."), Reason.MALFORMED),
    (draft(summary="It is \\boxed{42}, or \\boxed{43}."), Reason.MALFORMED),
    (draft(summary="The answer is \\boxed{41}."), Reason.WRONG),
    (draft(summary="The answer is \\boxed{many}."), Reason.WRONG),
    (draft(problem=problem(verifier="no such verifier")), Reason.UNJUDGED),
    (draft(thought=f"{THOUGHT} 然后我把两个数加起来，得到四十二。"), Reason.MIXED_LANGUAGE),
    (draft(summary="答案当然就是\\boxed{42}。"), Reason.MIXED_LANGUAGE),
    (draft(problem=problem(language="zh")), Reason.MIXED_LANGUAGE),
    (draft(summary="<answer>42</answer>", style=Style.TAGS, problem=problem("zh")), Reason.MIXED_LANGUAGE),
    (draft(thought=" ".join(str(i) for i in range(600))), Reason.LONG_PARAGRAPH),
    (draft(thought=f"{THOUGHT}\n```python\nprint(17 + 25)\n```"), Reason.CODE_BLOCK),
    (draft(thought=f"{THOUGHT}\n~~~\n17+25\n~~~"), Reason.CODE_BLOCK),
    (draft(thought="\n".join([NUMBERS] * 6)), Reason.REPEATED),
]


@pytest.mark.parametrize(("built", "reason"), BUILT_CASES, ids=lambda value: str(value)[:40])
def test_a_built_case_is_dropped_for_its_reason(built: Draft, reason: Reason) -> None:
    assert reason_against(built, Limits()) is reason


@pytest.mark.parametrize(
    "good",
    [
        draft(),
        draft(thought="17+25=42", summary="The answer is \\boxed{42}."),
        draft(thought="I add.\n\nIt is `17+25`.\n\n17+25=42"),
        draft(summary="<answer>42</answer>", style=Style.TAGS),
        draft(
            problem=problem(language="zh"),
            thought="先加十位，再加个位。",
            summary="答案是\\boxed{42}。",
        ),
    ],
    ids=lambda value: str(value.text)[:40],
)
def test_what_is_right_and_readable_passes(good: Draft) -> None:
    assert reason_against(good, Limits()) is None


def test_every_limit_can_be_moved() -> None:
    mixed = draft(thought=f"{THOUGHT} 然后我把两个数加起来，得到四十二。")
    assert reason_against(mixed, Limits(language_share=0.3)) is None
    assert reason_against(draft(), Limits(paragraph=20)) is Reason.LONG_PARAGRAPH
    assert reason_against(draft(), Limits(longest=30)) is Reason.TOO_LONG
    again = draft(thought="\n".join([NUMBERS] * 6))
    assert reason_against(again, Limits(repeated_share=0.9)) is None


def steps(count: int, between: str = "\n") -> str:
    """Return lines of 80 characters, none like another."""
    return between.join(f"{i:>4} + {i * i:>8} = {i + i * i:>8}, ".ljust(79, ".") + ";" for i in range(count))


def test_a_paragraph_ends_at_a_blank_line_and_not_with_its_line() -> None:
    limits = Limits(repeated_share=1.0)
    assert reason_against(draft(thought=steps(200)), limits) is Reason.LONG_PARAGRAPH
    assert reason_against(draft(summary=f"{steps(200)}\n{SUMMARY}"), limits) is Reason.LONG_PARAGRAPH
    for blank in ("\n\n", "\n \t\n", "\r\n\r\n"):
        assert reason_against(draft(thought=steps(200, blank)), limits) is None
    assert reason_against(draft(thought=steps(18)), limits) is None
    assert reason_against(draft(thought=steps(19)), limits) is Reason.LONG_PARAGRAPH


def test_lines_of_a_program_are_no_paragraph() -> None:
    program = "\n".join(f"x{i} = {i}" for i in range(400))
    assert longest_paragraph(program) > 1500
    assert longest_paragraph(program, is_program=True) == len("x399 = 399")
    assert longest_paragraph(f"It is so:\n```python\n{program}\n```\nThat is all.") == len("That is all.")
    assert longest_paragraph(f"x = '{'y' * 2000}'", is_program=True) > 2000


def test_a_text_without_words_is_in_no_wrong_language() -> None:
    assert not is_mixed("3*7=21, 21*2=42", "en", 0.9)
    assert not is_mixed("3*7=21, 21*2=42", "zh", 0.9)
    assert is_mixed("wait, that is too much", "zh", 0.9)


def test_a_judge_is_asked_only_where_no_rule_can_check() -> None:
    asked = []

    def judge(problem: Problem, answer: str) -> Outcome:
        asked.append(answer)
        return Outcome.WRONG if "rude" in answer else Outcome.CORRECT

    request = problem(verifier="judge", kind="greeting")
    polite = draft(thought="I greet.", summary="Hello!", style=Style.SUMMARY, problem=request)
    rude = draft(thought="I am", summary="I am rude.", style=Style.SUMMARY, problem=request)
    assert reason_against(polite, Limits(), judge) is None
    assert reason_against(rude, Limits(), judge) is Reason.WRONG
    assert reason_against(draft(), Limits(), judge) is None
    assert asked == ["Hello!", "I am rude."]


def test_a_judge_without_a_verdict_is_not_a_wrong_answer() -> None:
    request = problem(verifier="judge", kind="greeting")
    polite = draft(thought="I greet.", summary="Hello!", style=Style.SUMMARY, problem=request)
    assert reason_against(polite, Limits(), lambda p, a: Outcome.INFRASTRUCTURE_ERROR) is Reason.UNJUDGED


def test_texts_are_no_boxes() -> None:
    request, sum_ = problem(verifier="judge"), problem()
    assert style_for(request, Style.BOXED) is Style.SUMMARY
    assert style_for(sum_, Style.BOXED) is Style.BOXED
    assert style_for(request, Style.TAGS) is Style.TAGS
    assert (domain_of(request), domain_of(sum_)) == ("general", "math")


# Sieve --------------------------------------------------------------------------------------------


def numbered(number: int, prompt: str = "What is 17+25?", verifier: str = "number") -> Draft:
    thought = f"I take {number} steps: " + ", ".join(str(number * k) for k in range(12))
    return draft(thought=thought, problem=dataclasses.replace(problem(verifier=verifier), prompt=prompt))


def test_the_same_text_is_a_duplicate_whatever_its_case_and_spaces() -> None:
    sieve = Sieve(cap=9, similarity=0.9)
    assert sieve.reason_against(draft()) is None
    assert sieve.reason_against(draft(thought=THOUGHT.upper().replace(" ", "  "))) is Reason.DUPLICATE
    assert sieve.reason_against(draft(problem=dataclasses.replace(problem(), prompt="17+25?"))) is None


def test_a_text_with_a_word_changed_is_a_near_duplicate_of_its_prompt_only() -> None:
    long = " ".join(f"Step {i}: I add {i} to {i * i} and have {i * i + i}." for i in range(40))
    sieve = Sieve(cap=9, similarity=0.9)
    assert sieve.reason_against(draft(thought=long)) is None
    changed = draft(thought=long.replace("Step 7:", "Stage 7:"))
    assert sieve.reason_against(changed) is Reason.NEAR_DUPLICATE
    elsewhere = dataclasses.replace(changed, problem=dataclasses.replace(problem(), prompt="17+25=?"))
    assert sieve.reason_against(elsewhere) is None
    assert sieve.reason_against(numbered(3)) is None


@pytest.mark.parametrize("shared", [0.5, 0.8, 0.95])
def test_resemblance_estimates_the_share_of_common_shingles(shared: float) -> None:
    """Standard error 0.044 at a half with 128 hashes; 0.15 is three of them and a bit."""
    size = 400
    common = " ".join(f"c{i}" for i in range(round(size * shared)))
    a, b = (f"{common} " + " ".join(f"{x}{i}" for i in range(size - round(size * shared))) for x in "ab")
    expected = shared / (2 - shared)
    assert resemblance(signature_of(a), signature_of(b)) == pytest.approx(expected, abs=0.15)
    assert resemblance(signature_of(a), signature_of(a)) == 1.0


def test_the_cap_is_per_prompt() -> None:
    sieve = Sieve(cap=2, similarity=0.9)
    found = [sieve.reason_against(numbered(i)) for i in range(1, 5)]
    assert found == [None, None, Reason.OVER_CAP, Reason.OVER_CAP]
    assert sieve.reason_against(numbered(1, "another")) is None


def test_the_mix_is_never_beyond_its_ratio() -> None:
    sieve = Sieve(cap=1, similarity=0.9, ratio=2.0)
    assert sieve.reason_against(numbered(1, "a")) is Reason.OVER_MIX
    for i in range(2):
        assert sieve.reason_against(numbered(1, f"general {i}", "judge")) is None
    found = [sieve.reason_against(numbered(1, f"sum {i}")) for i in range(6)]
    assert found == [None] * 4 + [Reason.OVER_MIX] * 2
    assert not sieve.has_room


def test_a_sieve_remembers_from_records_what_it_admitted() -> None:
    first, second = (Sieve(cap=2, similarity=0.9, ratio=1.0) for _ in range(2))
    for admitted in (numbered(1, "g", "judge"), numbered(2, "s")):
        assert first.reason_against(admitted) is None
        second.remember(
            {
                "prompt": admitted.problem.prompt,
                "completion": admitted.text,
                "domain": domain_of(admitted.problem),
            }
        )
    for later in (numbered(2, "s"), numbered(3, "s"), numbered(4, "g", "judge"), numbered(5, "t")):
        assert first.reason_against(later) is second.reason_against(later)
