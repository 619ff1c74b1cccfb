"""Groups for tests of the rollouts browser."""

from pathlib import Path

from tokenizers import Tokenizer

import zerone
from zerone.prompts.r1 import write_completion
from zerone.types import Credited, Finish, Graded, Group, Outcome, Problem, Rollout

HOSTILE = (
    "</pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b[31m"
)


STEPS, GROUPS, SAMPLES = 3, 4, 4


EMBEDDED = Tokenizer.from_file(str(Path(zerone.__file__).parent / "world" / "embedded" / "tokenizer.json"))


def make_graded(problem: Problem, step: int, sample: int, text: str, *, is_right: bool) -> Graded:
    ids = (*EMBEDDED.encode(text, add_special_tokens=False).ids, 0)
    rollout = Rollout(
        problem=problem,
        sample=sample,
        prompt_ids=(1, 2),
        completion_ids=ids,
        sampler_logprobs=tuple(-0.5 * (i % 3) for i in range(len(ids))),
        text=text,
        finish=Finish.STOP,
        weight_version=step,
    )
    return Graded(
        rollout=rollout,
        outcome=Outcome.CORRECT if is_right else Outcome.WRONG,
        parts={"accuracy": float(is_right), "format": 1.0},
        reward=float(is_right) + 0.1,
        answer="8" if is_right else "9",
    )


def make_group(step: int, position: int) -> Credited:
    """Group 0 asks the same in each step; of step s, s + 1 of 4 answers are right; one says 'wait'."""
    problem = Problem(
        id="always" if position == 0 else f"{step}-{position}",
        family="countdown",
        level=1 + position % 2,
        language="en",
        prompt=f"Question {position} {HOSTILE}",
        verifier="number",
        spec={"answer": "8"},
    )
    texts = [
        write_completion(f"3+{i}=8 no\nwait 3+5=8" if i == position else f"{HOSTILE} {'7' * i} 100%", "8")
        for i in range(SAMPLES)
    ]
    rights = [i < step + 1 for i in range(SAMPLES)]
    members = tuple(
        make_graded(problem, step, i, text, is_right=is_right)
        for i, (text, is_right) in enumerate(zip(texts, rights, strict=True))
    )
    mean = sum(rights) / SAMPLES
    return Credited(
        group=Group(problem=problem, members=members), advantages=tuple(right - mean for right in rights)
    )
