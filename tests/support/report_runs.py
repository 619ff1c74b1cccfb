"""Run directories written through RunDir for tests of reports, and a parser of their pages."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from zerone.config import build_config, to_yaml
from zerone.prompts.r1 import write_completion
from zerone.runs.directory import RunDir
from zerone.types import Credited, Finish, Graded, Group, Outcome, Problem, Rollout

SEARCH = "3+4=7 no\nwait 3+5=8 yes"


HASTY = "easy, it is 9"


HOSTILE = (
    '</pre><script>alert(1)</script><img src="http://x.example/a" onerror=alert(2)>\x1b[31m\u202e{{ 7*7 }}'
)


def make_problem(family: str = "countdown", level: int = 1) -> Problem:
    return Problem(
        id=f"{family}-{level}",
        family=family,
        level=level,
        language="en",
        prompt=f"A question of {family} & level {level}",
        verifier="number",
        spec={"answer": "8"},
    )


def make_graded(problem: Problem, sample: int, thought: str, *, is_right: bool, tokens: int = 9) -> Graded:
    rollout = Rollout(
        problem=problem,
        sample=sample,
        prompt_ids=(1, 2),
        completion_ids=(5,) * tokens,
        sampler_logprobs=(-0.5,) * tokens,
        text=write_completion(thought, "8" if is_right else "9"),
        finish=Finish.STOP,
        weight_version=0,
    )
    return Graded(
        rollout=rollout,
        outcome=Outcome.CORRECT if is_right else Outcome.WRONG,
        parts={"accuracy": float(is_right), "format": 1.0},
        reward=float(is_right) + 0.1,
        answer="8" if is_right else "9",
    )


def make_group(problem: Problem, thoughts: list[tuple[str, bool, int]]) -> Credited:
    members = tuple(
        make_graded(problem, i, thought, is_right=is_right, tokens=tokens)
        for i, (thought, is_right, tokens) in enumerate(thoughts)
    )
    return Credited(
        group=Group(problem=problem, members=members),
        advantages=tuple(1.0 if is_right else -1.0 for _, is_right, _ in thoughts),
    )


def make_metrics(step: int, accuracy: float, verdict: str = "learning") -> dict[str, Any]:
    return {
        "step": step,
        "accuracy": accuracy,
        "format": 0.9,
        "groups_with_signal": 0.5,
        "groups_all_right": 0.25,
        "groups_all_wrong": 0.25,
        "response_tokens": 20.0 + step,
        "response_tokens_right": None if step == 1 else 30.0,
        "response_tokens_wrong": 15.0,
        "reflection_words": 0.5 * step,
        "entropy": 1.0 / step,
        "kl": 0.001 * step,
        "mismatch_kl": 1e-7,
        "verdict": verdict,
    }


def make_suite(pass_at_1: float, *, votes: bool) -> dict[str, Any]:
    low, high = max(0.0, pass_at_1 - 0.04), min(1.0, pass_at_1 + 0.04)
    suite = {
        "num_problems": 48,
        "pass_at_1": pass_at_1,
        "pass_at_1_ci": [low, high],
        "pass_at_k": {"1": pass_at_1, "2": min(1.0, pass_at_1 + 0.1)},
        "format": 0.8,
        "format_ci": [0.75, 0.85],
        "response_tokens": 30.0,
        "response_tokens_ci": [28.0, 32.0],
        "reflection_words": 1.5,
        "reflection_words_ci": [1.25, 1.75],
        "truncated": 0.01,
        "levels": {f"countdown/{i}": {"pass_at_1": pass_at_1, "num_problems": 24} for i in (1, 2)},
    }
    return suite | ({"cons_at_16": high, "cons_at_16_ci": [low, 1.0]} if votes else {})


def make_run(
    path: Path, accuracies: list[float], *, is_finished: bool = True, hostile: bool = False
) -> RunDir:
    """Write a run whose accuracy at each step is given; the suites score what the steps score."""
    run = RunDir(path).lock()
    environment = {"zerone": "0.1.0", "cores": 2, "seed": 0, "command": "zerone zero --run-dir runs/a"}
    run.start(to_yaml(build_config({}, ["rl.steps=3"])), environment)
    for step, accuracy in enumerate(accuracies):
        suites = {"mixed": make_suite(accuracy, votes=False), "hard": make_suite(accuracy / 2, votes=True)}
        if 0 < step < len(accuracies) - 1:
            del suites["mixed"]
        run.write_eval(step, {"step": step, "suites": suites})
        if step == 0:
            continue
        thoughts = [(SEARCH + (HOSTILE if hostile else ""), True, 20 + step), (HASTY, False, 6)]
        families = ("countdown", HOSTILE if hostile else "arithmetic")
        groups = [make_group(make_problem(family), thoughts) for family in families]
        timing = {"step": step, "generate_s": 3.0, "reward_s": 0.1, "train_s": 2.0, "record_s": 0.1}
        verdict = HOSTILE if hostile else "learning"
        run.record_step(make_metrics(step, accuracy, verdict), timing | {"total_s": 5.2}, groups)
    if is_finished:
        ends = {
            end: {
                "mixed": make_suite(accuracies[i], votes=False),
                "hard": make_suite(accuracies[i] / 2, votes=True),
            }
            for end, i in (("base", 0), ("final", -1))
        }
        run.write_summary(
            {**ends, "steps": len(accuracies) - 1, "wall_s": 312.4, "peak_rss_bytes": 2**30, "seed": 0}
        )
    run.unlock()
    return run


class Page(HTMLParser):
    """Reads a page the way a browser does: elements, attributes, and whether tags are balanced."""

    VOID = ("meta", "br", "img", "link", "input", "rect", "line", "circle", "path")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
