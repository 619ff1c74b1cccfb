"""The field's published suites: which columns they have and how a row becomes a problem.

In: rows of a data set as published, a seed. Out: problems that a verifier of rewards/ judges, or for
instructions and comparisons one of this package. The numbers of samples and the budget are those of
the R1 paper (section D.1 and its GitHub page); docs/evaluation.md lists all of them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerone.data.choices import LETTERS, choice_prompt
from zerone.data.numerals import plain_number
from zerone.data.records import Row
from zerone.errors import DataError
from zerone.evals.ifeval.checkers import instruction_complaint
from zerone.evals.programs import codeforces, codeforces_obstacle, humaneval, livecodebench, mbpp
from zerone.rewards.ground_truth import gold_complaint
from zerone.seeding import rng_from, seed_from
from zerone.types import Problem

MAX_TOKENS = 32_768
"""Of a completion (R1 paper, D.1)."""

TEMPERATURE, TOP_P = 0.6, 0.95
"""The paper's; greedy answers repeat themselves more and vary between checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A row's problem before it has its family and its id."""

    prompt: str
    verifier: str
    spec: Mapping[str, Any]
    level: int = 1
    domain: str | None = None
    identity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A suite as published.

    `columns` are those that tell its files apart: any one of each group must be there. `hub` is where
    it lives on the Hub, asked only when the user says so; `num_samples` is the paper's k. `obstacle`
    says why a row is left out, if it is: what can never be judged right is no problem of a suite.
    """

    name: str
    title: str
    columns: tuple[tuple[str, ...], ...]
    read: Callable[[Row, int], Asked]
    num_samples: int = 1
    hub: str = ""
    obstacle: Callable[[Row], str | None] = lambda row: None

    @property
    def repository(self) -> str:
        """The data set's name on the Hub, without which part of it is read."""
        return "/".join(re.split("[/#]", self.hub)[:2])

    def fits(self, row: Row) -> bool:
        """Whether a row has this suite's columns."""
        return all(row.has(*names) for names in self.columns)


def problems_of(suite: Published, rows: Sequence[Row], seed: int) -> list[Problem]:
    """Return a suite's problems; raises DataError for a row that cannot be used."""
    problems: dict[str, Problem] = {}
    for row in rows:
        asked = suite.read(row, seed)
        identity = f"{suite.name}/{asked.identity or f'{seed_from(asked.prompt):016x}'}"
        while identity in problems:  # a question that a data set holds twice
            identity += "+"
        domain = {} if asked.domain is None else {"domain": asked.domain}
        problem = Problem(
            id=identity,
            family=suite.name,
            level=asked.level,
            language="en",
            prompt=asked.prompt,
            verifier=asked.verifier,
            spec={**asked.spec, **domain},
        )
        if asked.verifier in _WITH_GOLD and (complaint := gold_complaint(problem)) is not None:
            raise DataError(f"{row.place}: {complaint}")
        problems[identity] = problem
    return list(problems.values())


_WITH_GOLD = frozenset(("number", "math", "choice"))


# Mathematics --------------------------------------------------------------------------------------


def _aime(row: Row, seed: int) -> Asked:
    return Asked(
        prompt=row.text("problem", "Problem", "question").strip(),
        verifier="math",
        spec={"answer": row.text("answer", "Answer").strip()},
        identity=row.optional("id", "ID", "problem_idx"),
    )


def _math500(row: Row, seed: int) -> Asked:
    level = re.search(r"\d", row.text("level"))
    return Asked(
        prompt=row.text("problem").strip(),
        verifier="math",
        spec={"answer": row.text("answer").strip()},
        level=int(level.group()) if level else 0,
        domain=row.text("subject", "type"),
        identity=row.optional("unique_id"),
    )


def _gsm8k(row: Row, seed: int) -> Asked:
    answer = row.text("answer")
    _, mark, gold = answer.rpartition("####")
    number = plain_number(gold.strip())
    if not mark or number is None:
        raise row.error(("answer",), f"must end with '#### NUMBER', not {answer[-30:]!r}")
    return Asked(prompt=row.text("question").strip(), verifier="math", spec={"answer": number})


# Choices ------------------------------------------------------------------------------------------


def _choice(question: str, choices: Sequence[str], answer: int) -> dict[str, Any]:
    """Return prompt, verifier and gold of a choice question."""
    return {
        "prompt": choice_prompt(question.strip(), choices, "en"),
        "verifier": "choice",
        "spec": {"choices": list(choices), "answer": LETTERS[answer]},
    }


def _gpqa(row: Row, seed: int) -> Asked:
    """Shuffle the choices by the seed: the right one comes first in the file."""
    question = row.text("Question")
    choices = [row.text(name).strip() for name in ("Correct Answer", *_INCORRECT)]
    order = list(range(len(choices)))
    rng_from(seed, "gpqa", question).shuffle(order)
    return Asked(
        **_choice(question, [choices[i] for i in order], order.index(0)),
        domain=row.optional("High-level domain", "Subdomain"),
        identity=row.optional("Record ID"),
    )


_INCORRECT = tuple(f"Incorrect Answer {number}" for number in (1, 2, 3))


def _mmlu(row: Row, seed: int) -> Asked:
    choices = [row.text(letter) for letter in "ABCD"] if row.has("A") else row.list_of(str, "choices")
    return Asked(
        **_choice(row.text("question", "Question"), choices, _position(row, choices, "answer", "Answer")),
        domain=row.optional("subject", "type", "Subject"),
    )


def _mmlu_pro(row: Row, seed: int) -> Asked:
    options = [option for option in row.list_of(str, "options") if option != "N/A"]
    return Asked(
        **_choice(row.text("question"), options, _position(row, options, "answer", "answer_index")),
        domain=row.text("category"),
        identity=row.optional("question_id"),
    )


def _position(row: Row, choices: Sequence[str], *names: str) -> int:
    """Return the place of the right choice, given as a number from 0 or as a letter."""
    value = row.get(*names)
    if isinstance(value, str):
        text = value.strip().upper()
        value = int(text) if text.isdigit() else LETTERS.find(text) if len(text) == 1 else -1
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(choices):
        raise row.error(names, f"names none of {len(choices)} choices: {row.get(*names)!r}")
    return value


# Programs, instructions, comparisons --------------------------------------------------------------


def _program(read: Callable[[Row], Mapping[str, Any]]) -> Callable[[Row, int], Asked]:
    return lambda row, seed: Asked(verifier="code", **read(row))


def _ifeval(row: Row, seed: int) -> Asked:
    names, kwargs = row.list_of(str, "instruction_id_list"), row.list_of(dict, "kwargs")
    if len(names) != len(kwargs) or not names:
        raise row.error(("kwargs",), f"must have one entry for each of {len(names)} instructions")
    given = [{key: _whole(value) for key, value in own.items() if value is not None} for own in kwargs]
    for name, own in zip(names, given, strict=True):
        if (complaint := instruction_complaint(name, own)) is not None:
            raise row.error(("instruction_id_list",), f"cannot be checked: {complaint}")
    return Asked(
        prompt=row.text("prompt"),
        verifier="instructions",
        spec={"instructions": names, "kwargs": given},
        identity=row.optional("key"),
    )


def _whole(value: Any) -> Any:
    """Return a whole number as one, which a table with gaps holds as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _alpaca(row: Row, seed: int) -> Asked:
    return Asked(
        prompt=row.text("instruction"),
        verifier="pairwise",
        spec={"reference": row.text("output")},
        domain=row.optional("dataset"),
    )


def _arena(row: Row, seed: int) -> Asked:
    if row.has("prompt"):
        prompt = row.text("prompt")
    else:
        turns = row.list_of(dict, "turns")
        prompt = Row(place=row.place, values=turns[0] if turns else {}).text("content")
    reference = row.optional("reference")
    return Asked(
        prompt=prompt,
        verifier="pairwise",
        spec={} if reference is None else {"reference": reference},
        domain=row.optional("category"),
        identity=row.optional("uid", "question_id"),
    )


_AIME_COLUMNS = (("problem", "Problem", "question"), ("answer", "Answer"))

PUBLISHED: Mapping[str, Published] = {
    suite.name: suite
    for suite in (
        Published(
            name="aime24",
            title="AIME 2024, 30 problems",
            columns=_AIME_COLUMNS,
            read=_aime,
            num_samples=64,
            hub="HuggingFaceH4/aime_2024#train",
        ),
        Published(
            name="aime25",
            title="AIME 2025, 30 problems",
            columns=_AIME_COLUMNS,
            read=_aime,
            num_samples=64,
            hub="math-ai/aime25",
        ),
        Published(
            name="math500",
            title="MATH-500",
            columns=(("problem",), ("answer",), ("subject",), ("level",)),
            read=_math500,
            num_samples=16,
            hub="HuggingFaceH4/MATH-500",
        ),
        Published(
            name="gsm8k",
            title="GSM8K, test split",
            columns=(("question",), ("answer",)),
            read=_gsm8k,
            hub="openai/gsm8k/main",
        ),
        Published(
            name="gpqa",
            title="GPQA Diamond, choices shuffled by the seed",
            columns=(("Question",), ("Correct Answer",), *((name,) for name in _INCORRECT)),
            read=_gpqa,
            num_samples=64,
            hub="Idavidrein/gpqa/gpqa_diamond#train",
        ),
        Published(
            name="mmlu",
            title="MMLU, zero-shot",
            columns=(("question", "Question"), ("choices", "A"), ("answer", "Answer")),
            read=_mmlu,
            hub="cais/mmlu/all",
        ),
        Published(
            name="mmlu_pro",
            title="MMLU-Pro, zero-shot",
            columns=(("question",), ("options",), ("category",)),
            read=_mmlu_pro,
            hub="TIGER-Lab/MMLU-Pro",
        ),
        Published(
            name="livecodebench",
            title="LiveCodeBench, code generation",
            columns=(("question_content",), ("public_test_cases",), ("private_test_cases",)),
            read=_program(livecodebench),
            num_samples=8,
            hub="livecodebench/code_generation_lite/test*.jsonl",
        ),
        Published(
            name="codeforces",
            title="Codeforces problems with ratings; estimates a rating",
            columns=(("rating",), ("official_tests",)),
            read=_program(codeforces),
            num_samples=16,
            hub="open-r1/codeforces",
            obstacle=codeforces_obstacle,
        ),
        Published(
            name="humaneval",
            title="HumanEval",
            columns=(("task_id",), ("entry_point",), ("test",)),
            read=_program(humaneval),
            hub="openai/openai_humaneval",
        ),
        Published(
            name="mbpp",
            title="MBPP, test split (tasks 11 to 510)",
            columns=(("task_id",), ("test_list",)),
            read=_program(mbpp),
            hub="google-research-datasets/mbpp/full",
        ),
        Published(
            name="ifeval",
            title="IFEval, verifiable instructions",
            columns=(("instruction_id_list",), ("kwargs",)),
            read=_ifeval,
            hub="google/IFEval#train",
        ),
        Published(
            name="alpaca_eval",
            title="AlpacaEval 2, judged against the reference answers",
            columns=(("instruction",), ("output",)),
            read=_alpaca,
            hub="tatsu-lab/alpaca_eval/alpaca_eval_gpt4_baseline.json",
        ),
        Published(
            name="arena_hard",
            title="ArenaHard, judged against a baseline's answers",
            columns=(("uid", "question_id"), ("cluster",)),
            read=_arena,
            hub="lmarena-ai/arena-hard-auto-v0.1#train",
        ),
    )
}
