"""Published data sets whose rows are read without naming fields, known by name or by shape.

In: a row as published, and what its file is called. Out: the same row with `prompt`, `answer` and `verifier`
(problems), with `messages` (demonstrations), or with `prompt`, `chosen` and `rejected` (preferences). The
options `data.prompt_field` and its like put these aside. docs/data_sets.md has the table.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerone.errors import DataError
from zerone.prompts.r1 import last_boxed

Record = Mapping[str, Any]
Adapt = Callable[[Record], Record]

PROBLEMS, DEMONSTRATIONS, PREFERENCES = "problems", "demonstrations", "preferences"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """How the rows of a data set are read, for one purpose.

    `names` are parts of a repository's or a file's name, in small letters. `columns` must all be there;
    `fits` tells rows of that shape apart from others with the same columns. `by_shape`: a file of any name
    is read so. `config` is the configuration that is meant where the data set has several.
    """

    title: str
    purpose: str
    names: tuple[str, ...]
    columns: frozenset[str]
    adapt: Adapt
    fits: Callable[[Record], bool] = lambda record: True
    by_shape: bool = True
    config: str | None = None

    def reads(self, record: Record) -> bool:
        """Whether a row has this data set's shape."""
        return self.columns <= record.keys() and self.fits(record)

    def is_named(self, names: Sequence[str]) -> bool:
        """Whether a name is one of the data set's."""
        return any(
            re.search(rf"(?<![a-z0-9]){known}", name.lower()) for name in names for known in self.names
        )


def adapter_for(purpose: str, names: Sequence[str], record: Record) -> Adapter | None:
    """Return what reads the rows of a file, by the first of them; None where they are read as they are.

    A name counts before a shape, and neither where the rows lack the columns, or have those of one's own.
    """
    if purpose == PROBLEMS and {"prompt", "answer"} <= record.keys():
        return None
    fitting = [one for one in ADAPTERS if one.purpose == purpose and one.reads(record)]
    named = [one for one in fitting if one.is_named(names)]
    return next(iter(named), next((one for one in fitting if one.by_shape), None))


def adapted(adapter: Adapter | None, record: Record, place: str) -> Record:
    """Return a row as its adapter gives it; raises DataError, with its place, for one of another shape."""
    if adapter is None:
        return record
    what = f"{place}: not a row of {adapter.title}, as which the file is read"
    if missing := sorted(adapter.columns - record.keys()):
        present = ", ".join(map(repr, record)) or "no fields"
        raise DataError(f"{what}: no field {missing[0]!r}; the line has {present}")
    try:
        return adapter.adapt(record)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(f"{what}: {error}") from error


def default_config(repository: str) -> str | None:
    """Return the configuration that is meant where none is named, if the repository is a known one."""
    return next((one.config for one in ADAPTERS if one.config and one.is_named([repository])), None)


def _renamed(prompt: str, answer: str) -> Adapt:
    return lambda record: {**record, "prompt": record[prompt], "answer": record[answer]}


def _is_text(record: Record, *names: str) -> bool:
    return all(isinstance(record.get(name), str) for name in names)


# Problems -----------------------------------------------------------------------------------------

_GSM8K_ANSWER = re.compile(r"####\s*(\S[^\n]*?)\s*$")


def _gsm8k(record: Record) -> Record:
    match = _GSM8K_ANSWER.search(record["answer"].strip())
    if match is None:
        raise ValueError(f"the answer must end with '#### NUMBER', not {record['answer'][-40:]!r}")
    return {**record, "prompt": record["question"], "answer": match[1]}


def _is_gsm8k(record: Record) -> bool:
    return _is_text(record, "question", "answer") and "####" in record["answer"]


def _math(record: Record) -> Record:
    """Take the box of the worked solution, where the row has no answer of its own."""
    answer = record.get("answer")
    if not isinstance(answer, str) or not answer.strip():
        solution = record.get("solution")
        answer = last_boxed(solution) if isinstance(solution, str) else None
    if answer is None:
        raise ValueError("the solution has no \\boxed{ANSWER} that can be taken out of it")
    return {**record, "prompt": record["problem"], "answer": answer}


def _has_box(record: Record) -> bool:
    return (
        _is_text(record, "problem", "solution") and "answer" not in record and "\\box" in record["solution"]
    )


def _is_mathematics(record: Record) -> bool:
    return _is_text(record, "problem") and "prompt" not in record and "question" not in record


_DAPO = re.compile(
    r"\s*Solve the following math problem step by step\. The last line of your response should be of the "
    r"form "
    r"Answer: \$?Answer \(without quotes\) where \$?Answer is the answer to the "
    r"problem\.\s*(?P<question>.*?)\s*"
    r"Remember to put your answer on its own line after \"Answer:\"\.\s*",
    re.DOTALL,
)


def _dapo_text(record: Record) -> str | None:
    prompt = record.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], Mapping):
        prompt = prompt[0].get("content")
    match = _DAPO.fullmatch(prompt) if isinstance(prompt, str) else None
    return match["question"] if match else None


def _dapo(record: Record) -> Record:
    """Take the question out of its instruction about the form, which contradicts the template's."""
    truth = record.get("reward_model")
    answer = truth.get("ground_truth") if isinstance(truth, Mapping) else None
    return {**record, "prompt": _dapo_text(record) or record["prompt"], "answer": answer}


def _countdown(record: Record) -> Record:
    numbers = ", ".join(map(str, record["nums"]))
    return {
        **record,
        "prompt": (
            f"Using the numbers {numbers}, write an expression that equals {record['target']}. You can use + "
            f"- * / "
            "and parentheses, and each number at most once."
        ),
        "numbers": record["nums"],
        "verifier": "countdown",
    }


def _is_countdown(record: Record) -> bool:
    numbers = [record["target"], *(record["nums"] if isinstance(record["nums"], list) else [None])]
    return all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)


def _livecodebench(record: Record) -> Record:
    return {**record, "prompt": record["question_content"], "verifier": "code"}


def _apps(record: Record) -> Record:
    return {**record, "prompt": record["question"], "verifier": "code"}


# Demonstrations -----------------------------------------------------------------------------------

_MARKED = re.compile(
    r"\s*<\|begin_of_thought\|>(?P<thought>.*?)<\|end_of_thought\|>\s*<\|begin_of_solution\|>(?P<said>.*?)"
    r"(?:<\|end_of_solution\|>)?\s*",
    re.DOTALL,
)
_MARK = "<|begin_of_thought|>"


def _turns_of(record: Record) -> list[Any]:
    turns = record.get("conversations")
    return turns if isinstance(turns, list) else []


def _is_marked(record: Record) -> bool:
    return any(
        isinstance(turn, Mapping) and isinstance(turn.get("value"), str) and _MARK in turn["value"]
        for turn in _turns_of(record)
    )


def _openthoughts(record: Record) -> Record:
    """Write the marks of thought and solution as reasoning and content; the system message that asks for
    the marks goes with them.
    """
    turns = []
    for turn in _turns_of(record):
        match = _MARKED.fullmatch(turn["value"]) if isinstance(turn, Mapping) and turn.get("value") else None
        if match is not None:
            turn = {
                **{key: value for key, value in turn.items() if key != "value"},
                "value": match["said"].strip(),
                "reasoning_content": match["thought"].strip(),
            }
        turns.append(turn)
    system = record.get("system")
    is_about_marks = isinstance(system, str) and _MARK in system
    return {**record, "conversations": turns, **({"system": None} if is_about_marks else {})}


def _reasoned(question: str, thought: str, said: str) -> Adapt:
    """Make a conversation of columns that hold question, reasoning and solution."""
    return lambda record: {
        "messages": [
            {"role": "user", "content": record.get(question)},
            {"role": "assistant", "content": record.get(said), "reasoning_content": record.get(thought)},
        ]
    }


def _generated(record: Record) -> Record:
    """Take the conversation alone of a row that has problem and generations beside it."""
    return {"messages": record["messages"]}


# Preferences --------------------------------------------------------------------------------------


def _last_said(value: Any) -> Any:
    """Return what the assistant says last in a list of messages; anything else as it is."""
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        return value[-1].get("content")
    return value


def _asked(record: Record) -> Any:
    """Return the prompt, behind a system message; of conversations alone, all that precedes the responses."""
    prompt = record.get("prompt", record.get("instruction", record.get("question")))
    if prompt is None and isinstance(record["chosen"], list):
        prompt = record["chosen"][:-1]
    if isinstance(prompt, list):
        turns = [turn for turn in prompt if isinstance(turn, Mapping)]
        is_one = len(turns) == 1
        prompt = "\n\n".join(
            str(turn.get("content")) if is_one else f"{turn.get('role')}: {turn.get('content')}"
            for turn in turns
        )
    system = record.get("system")
    return f"{system.strip()}\n\n{prompt}" if isinstance(system, str) and system.strip() else prompt


def _margin(record: Record) -> float | None:
    """Return by how much the chosen response was rated better, where both were rated."""
    for chosen, rejected in (("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating")):
        scores = (record.get(chosen), record.get(rejected))
        numbers = [float(s) for s in scores if isinstance(s, int | float) and not isinstance(s, bool)]
        if len(numbers) == 2:
            return max(0.0, numbers[0] - numbers[1])
    return None


def _ultrafeedback(record: Record) -> Record:
    margin = _margin(record)
    return {
        "prompt": _asked(record),
        "chosen": _last_said(record["chosen"]),
        "rejected": _last_said(record["rejected"]),
        **({} if margin is None else {"margin": margin}),
    }


def _is_rated(record: Record) -> bool:
    is_chat = isinstance(record["chosen"], list) and isinstance(record["rejected"], list)
    return is_chat or ("margin" not in record and _margin(record) is not None) or "prompt" not in record


def _is_dialogue(record: Record) -> bool:
    return _is_text(record, "chosen", "rejected") and all(
        "\n\nAssistant:" in record[name] and record[name].startswith("\n\nHuman:")
        for name in ("chosen", "rejected")
    )


def _dialogue(record: Record) -> Record:
    """Cut two dialogues behind the last turn of the assistant's that begins."""
    sides = {}
    for name in ("chosen", "rejected"):
        head, _, said = record[name].rpartition("\n\nAssistant:")
        sides[name] = (head.removeprefix("\n\nHuman:").strip(), said.strip())
    prompt = sides["chosen"][0]
    if sides["rejected"][0] != prompt:
        raise ValueError("the two dialogues differ before their last response")
    return {"prompt": prompt, "chosen": sides["chosen"][1], "rejected": sides["rejected"][1]}


def _columns(*names: str) -> frozenset[str]:
    return frozenset(names)


def _processed(title: str, name: str, config: str) -> Adapter:
    """Return the adapter of a set as open-r1 has processed it, its final answer being `solution`."""
    return Adapter(
        title=title,
        purpose=PROBLEMS,
        names=(name,),
        columns=_columns("prompt", "solution"),
        adapt=_renamed("prompt", "solution"),
        fits=lambda record: _is_text(record, "prompt", "solution") and "answer" not in record,
        by_shape=False,
        config=config,
    )


ADAPTERS: tuple[Adapter, ...] = (
    Adapter(
        title="GSM8K",
        purpose=PROBLEMS,
        names=("gsm8k", "grade-school-math"),
        columns=_columns("question", "answer"),
        adapt=_gsm8k,
        fits=_is_gsm8k,
        config="main",
    ),
    Adapter(
        title="DeepMath-103K",
        purpose=PROBLEMS,
        names=("deepmath",),
        columns=_columns("question", "final_answer"),
        adapt=_renamed("question", "final_answer"),
        fits=lambda record: "prompt" not in record and not isinstance(record["final_answer"], list),
    ),
    Adapter(
        title="OpenR1-Math",
        purpose=PROBLEMS,
        names=("openr1-math",),
        columns=_columns("problem", "answer", "generations"),
        adapt=_renamed("problem", "answer"),
        fits=_is_mathematics,
    ),
    Adapter(
        title="DAPO-Math-17k",
        purpose=PROBLEMS,
        names=("dapo-math",),
        columns=_columns("prompt", "reward_model"),
        adapt=_dapo,
        fits=lambda record: _dapo_text(record) is not None,
    ),
    _processed("DAPO-Math-17k-Processed", "dapo-math", config="en"),
    Adapter(
        title="Big-Math",
        purpose=PROBLEMS,
        names=("big-math",),
        columns=_columns("problem", "answer", "llama8b_solve_rate"),
        adapt=_renamed("problem", "answer"),
        fits=_is_mathematics,
    ),
    _processed("Big-Math-Processed", "big-math", config="all"),
    Adapter(
        title="DeepScaleR, or MATH with answers",
        purpose=PROBLEMS,
        names=("deepscaler",),
        columns=_columns("problem", "answer", "solution"),
        adapt=_renamed("problem", "answer"),
        fits=_is_mathematics,
    ),
    Adapter(
        title="MATH",
        purpose=PROBLEMS,
        names=("math", "competition_math", "hendrycks"),
        columns=_columns("problem", "solution"),
        adapt=_math,
        fits=_has_box,
    ),
    Adapter(
        title="Countdown",
        purpose=PROBLEMS,
        names=("countdown",),
        columns=_columns("nums", "target"),
        adapt=_countdown,
        fits=_is_countdown,
    ),
    Adapter(
        title="LiveCodeBench",
        purpose=PROBLEMS,
        names=("livecodebench", "code_generation"),
        columns=_columns("question_content", "public_test_cases"),
        adapt=_livecodebench,
    ),
    Adapter(
        title="APPS and TACO",
        purpose=PROBLEMS,
        names=("apps", "taco"),
        columns=_columns("question", "input_output"),
        adapt=_apps,
    ),
    Adapter(
        title="OpenThoughts",
        purpose=DEMONSTRATIONS,
        names=("openthoughts", "bespoke-stratos", "open-thoughts"),
        columns=_columns("conversations"),
        adapt=_openthoughts,
        fits=_is_marked,
    ),
    Adapter(
        title="OpenThoughts, metadata",
        purpose=DEMONSTRATIONS,
        names=("openthoughts",),
        columns=_columns("problem", "deepseek_reasoning", "deepseek_solution"),
        adapt=_reasoned("problem", "deepseek_reasoning", "deepseek_solution"),
    ),
    Adapter(
        title="s1K",
        purpose=DEMONSTRATIONS,
        names=("s1k",),
        columns=_columns("question", "deepseek_thinking_trajectory", "deepseek_attempt"),
        adapt=_reasoned("question", "deepseek_thinking_trajectory", "deepseek_attempt"),
    ),
    Adapter(
        title="OpenR1-Math, solutions",
        purpose=DEMONSTRATIONS,
        names=("openr1-math",),
        columns=_columns("messages", "generations"),
        adapt=_generated,
    ),
    Adapter(
        title="UltraFeedback and other rated pairs",
        purpose=PREFERENCES,
        names=("ultrafeedback",),
        columns=_columns("chosen", "rejected"),
        adapt=_ultrafeedback,
        fits=lambda record: not _is_dialogue(record) and _is_rated(record),
    ),
    Adapter(
        title="HH-RLHF",
        purpose=PREFERENCES,
        names=("hh-rlhf",),
        columns=_columns("chosen", "rejected"),
        adapt=_dialogue,
        fits=_is_dialogue,
    ),
)
"""Those with more columns come before those that share some of them."""
