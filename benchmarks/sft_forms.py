"""What SFT teaches for each form of the data in each style: well-formed completions and pass@1.

In: word problems of the embedded world with their careful solutions, written in each form that data come
in. Out: a table, style x form, of a short SFT from the embedded model, measured on problems that were held
out. Where a style refuses a form, the table says so.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zerone.corpus.documents import SOLUTIONS
from zerone.corpus.words import WORDS
from zerone.data.split import Split
from zerone.problems import arithmetic
from zerone.problems.mixture import draw_from_split
from zerone.seeding import rng_from
from zerone.types import Problem

STYLES = ("tags", "boxed", "summary")
Row = Mapping[str, Any]


def user(question: str) -> dict[str, str]:
    return {"role": "user", "content": question}


def assistant(content: str, **more: str) -> dict[str, str]:
    return {"role": "assistant", "content": content, **more}


FORMS: Mapping[str, Callable[[str, str, str], Row]] = {
    "messages, reasoning_content": lambda q, t, a: {"messages": [user(q), assistant(a, reasoning_content=t)]},
    "messages, <think> in content": lambda q, t, a: {
        "messages": [user(q), assistant(f"<think>{t}</think>\n\n{a}")]
    },
    "messages, boxed summary": lambda q, t, a: {
        "messages": [user(q), assistant(f"This gives \\boxed{{{a}}}.", reasoning_content=t)]
    },
    "ShareGPT": lambda q, t, a: {
        "conversations": [
            {"from": "human", "value": q},
            {"from": "gpt", "value": f"<think>{t}</think>\n{a}"},
        ]
    },
    "Alpaca, no reasoning": lambda q, t, a: {"instruction": q, "input": "", "output": a},
    "prompt, plain completion": lambda q, t, a: {"prompt": q, "completion": f"<think>{t}</think>\n{a}"},
    "prompt, completion in tags": lambda q, t, a: {
        "prompt": q,
        "completion": f"<think>{t}</think>\n<answer>{a}</answer>",
    },
}


def problems(split: Split, count: int) -> list[Problem]:
    """Return different word problems of the two lowest levels."""
    found: dict[str, Problem] = {}
    for i in range(4 * count):
        problem = draw_from_split(
            rng_from("sft forms", split, i), arithmetic, arithmetic.LEVELS[i % 2], "en", split
        )
        found.setdefault(problem.prompt, problem)
    return list(found.values())[:count]


def solution(problem: Problem) -> tuple[str, str, str]:
    found = SOLUTIONS[problem.family].careful(problem, WORDS["en"], rng_from("sft forms", problem.id))
    return problem.prompt, found.thought, found.answer


def write(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def train(folder: Path, name: str, style: str, examples: int) -> str:
    """Return format and pass@1 after training, or that the data were refused."""
    run = folder / f"{name}-{style}"
    arguments = [
        *("sft", f"--run-dir={run}", f"data.path={folder / name}.jsonl", f"prompt.style={style}"),
        *("sft.epochs=2", f"sft.batch_size={min(32, examples)}", "eval.every=1000", "checkpoint.every=1000"),
        *(f"sft.suite={folder / 'held_out.jsonl'}", "eval.hard_samples=4", "sampling.max_tokens=120"),
    ]
    call = [sys.executable, "-c", "from zerone.cli.main import main; main()", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode == 2:
        return f"refused: {' '.join(done.stderr.split())[:60]}..."
    suites = json.loads((run / "summary.json").read_text(encoding="utf-8"))["final"]["suites"]
    (found,) = suites.values()
    return f"{found['format']:.0%}, {found['pass_at_1']:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--forms", nargs="*", default=list(FORMS))
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held_out = problems("eval", wanted.problems)
        write(folder / "held_out.jsonl", [{"prompt": p.prompt, "answer": p.spec["answer"]} for p in held_out])
        solved = [solution(problem) for problem in problems("train", wanted.examples)]
        print("| form of the data | " + " | ".join(STYLES) + " |\n|---|---|---|---|")
        for i, form in enumerate(wanted.forms):
            write(folder / f"{i}.jsonl", [FORMS[form](*one) for one in solved])
            cells = [train(folder, str(i), style, wanted.examples) for style in STYLES]
            print(f"| {form} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
