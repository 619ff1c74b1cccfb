"""What the values in a run's files must be, wherever they stand: what is damaged is refused where it is read.

In: what a JSON file or a row of the database holds. Out: nothing, or a FileError that names file and field.
The names are those of docs/run_directory.md; one that is not listed here may hold anything, as fields may be
added.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from sqlite3 import Row
from typing import Any

from zerone.errors import FileError
from zerone.types import Finish, Outcome

_Check = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_measured(value: Any) -> bool:
    return value is not None and _is_number(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_number, value.values()))


def _are_measured(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_measured, value.values()))


def _is_interval(value: Any) -> bool:
    return value is None or (
        isinstance(value, list)
        and len(value) == 2
        and all(_is_number(end) and end is not None for end in value)
    )


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _are_mappings(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_mapping, value.values()))


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_mapping, value))


_NUMBERS = """
accuracy accuracy_grpo accuracy_ppo clip_high clip_low consistent deviation difference ece entropy epoch
explained_variance first_wins format grad_norm groups_all_right groups_all_wrong groups_with_signal kl
learning_rate loss mean mismatch_kl no_answer num_updates p_value pass_at_1 ratio_max reflection_words
response_tokens response_tokens_right response_tokens_wrong reward_mean reward_std state_bytes_ratio
total_s_ratio train_s_ratio truncated unparsable value_loss verifier_errors weight_version
"""
_MEASURED = "between_s generate_s peak_rss_bytes record_s reward_s seconds total_s train_s wall_s"
_COUNTS = """
cores num_examples num_held_out num_problems num_sampled_tokens num_samples num_tokens num_trained
num_trained_tokens parameters seed step steps threads updates
"""
_TEXTS = "architecture command commit cpu data_sha256 model model_sha256 platform python started verdict"
_FIELDS: Mapping[str, tuple[_Check, str]] = {
    **dict.fromkeys(_NUMBERS.split(), (_is_number, "a number")),
    **dict.fromkeys(_MEASURED.split(), (_is_measured, "a number")),
    **dict.fromkeys(_COUNTS.split(), (_is_count, "a whole number")),
    **dict.fromkeys(_TEXTS.split(), (_is_text, "text")),
    **dict.fromkeys(("accuracy_by", "outcomes", "parts", "pass_at_k"), (_are_numbers, "numbers by name")),
    "problems": (_are_measured, "numbers by name"),
    **dict.fromkeys(("suites", "levels", "models", "stages"), (_are_mappings, "objects by name")),
    **dict.fromkeys(("base", "final", "best", "reward_models"), (_is_mapping, "an object")),
    "precision": (lambda value: value in ("fp32", "bf16"), "fp32 or bf16"),
    "score": (
        lambda value: _is_number(value) or _is_mapping(value),
        "a number, with or without its interval",
    ),
    **dict.fromkeys(("students", "bases", "resumed"), (_are_rows, "a list of objects")),
}
_NAMING = frozenset(
    ("suites", "levels", "models", "stages", "base", "final", "best", "reward_models", "data")
)
"""What holds objects by names that are not fields: of suites, models and the like."""


def check_shape(value: Any, place: str, *, is_naming: bool = False) -> None:
    """Raise FileError where a field, at any depth, holds another kind of value than its name says."""
    if isinstance(value, list):
        for inner in value:
            check_shape(inner, place)
    if not isinstance(value, Mapping):
        return
    for name, inner in value.items():
        if not (is_naming and isinstance(inner, Mapping)):
            check, wanted = _kind_of(name)
            if not check(inner):
                raise FileError(
                    f"{place}: {name} holds {str(inner)[:40]!r}, not {wanted}; the file is damaged"
                )
        if not (_are_numbers(inner) and name in ("accuracy_by", "outcomes", "parts", "problems")):
            check_shape(inner, place, is_naming=name in _NAMING)


def _kind_of(name: str) -> tuple[_Check, str]:
    if name == "ci" or name.endswith("_ci"):
        return _is_interval, "an interval"
    if name.startswith("cons_at_") or name.endswith("_se"):
        return _is_number, "a number"
    return _FIELDS.get(name, (lambda value: True, ""))


_WHOLE = "step position sample level weight_version n size"
_WRITTEN = "problem_id family language prompt spec text finish outcome parts"
_CHOICES: Mapping[str, frozenset[str]] = {
    "finish": frozenset(finish.value for finish in Finish),
    "outcome": frozenset(outcome.value for outcome in Outcome),
}
_TOKENS = (bytes,)
"""Numbers of four bytes each."""
_COLUMNS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(_WHOLE.split(), (int,)),
    **dict.fromkeys(_WRITTEN.split(), (str,)),
    **dict.fromkeys(("prompt_ids", "completion_ids", "logprobs"), _TOKENS),
    "answer": (str, type(None)),
    **dict.fromkeys(("first", "last"), (int, type(None))),
    **dict.fromkeys(("reward", "advantage"), (int, float, type(None))),  # SQLite keeps NaN as NULL
    "num_tokens": (int, float),
}
_FREE = (object,)


def check_columns(rows: Iterable[Row], names: Sequence[str], path: Path) -> Iterator[Row]:
    """Yield rows of the rollouts; raises FileError for a value that its column cannot hold."""
    kinds = [_COLUMNS.get(name, _FREE) for name in names]
    checked = [(at, kind) for at, kind in enumerate(kinds) if kind is not _FREE]
    for row in rows:
        for at, kind in checked:
            value = row[at]
            if (
                not isinstance(value, kind)
                or (isinstance(value, bytes) and len(value) % 4)
                or value not in _CHOICES.get(names[at], (value,))
            ):
                raise FileError(
                    f"cannot read {path}: a row holds {str(value)[:40]!r} as {names[at]}; it is damaged"
                )
        yield row
