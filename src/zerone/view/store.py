"""What the page asks of rollouts.sqlite, one small read at a time.

In: a run directory, finished, cut off or being written. Out: plain values for JSON. Each statement
reads one step or an index: SQLite's reader holds the lock that the training needs to record its next
step, so a look at the whole run is many short statements, never a long one. The indexes are made
with the tables (runs/directory.py); on runs older than them the same statements work and are slower.
"""

import math
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from zerone.escaping import visible
from zerone.rewards.reflection import count_reflection_words
from zerone.runs.directory import RunDir, numbers_stored

Json = dict[str, Any]

SEARCH_S = 0.5
"""A search that takes longer answers with what it has, and where to go on."""
SNIPPET = 160


class GroupOrder(StrEnum):
    """By what the groups of a step are sorted; all but the first put the largest first."""

    POSITION = "position"
    RIGHT = "right"
    REWARD = "reward"
    LENGTH = "length"
    SIGNAL = "signal"


class RolloutOrder(StrEnum):
    """By what rollouts are sorted; the first keeps the order of the run."""

    RUN = "run"
    REWARD = "reward"
    LENGTH = "length"
    ADVANTAGE = "advantage"


_GROUP_KEYS = {
    GroupOrder.POSITION: "position",
    GroupOrder.RIGHT: "num_right DESC, position",
    GroupOrder.REWARD: "reward DESC, position",
    GroupOrder.LENGTH: "num_tokens DESC, position",
    GroupOrder.SIGNAL: "signal DESC, position",
}
_ROLLOUT_KEYS = {
    RolloutOrder.RUN: "0",
    RolloutOrder.REWARD: "reward",
    RolloutOrder.LENGTH: "num_tokens",
    RolloutOrder.ADVANTAGE: "advantage",
}


def steps(run: RunDir) -> list[Json]:
    """Return every step that has rollouts, with how many groups; none before the first is recorded."""
    if not run.rollouts_path.exists():
        return []
    rows = run.query("SELECT step, COUNT(*) AS num_groups FROM groups GROUP BY step ORDER BY step")
    return [dict(row) for row in rows]


def overview(run: RunDir) -> Json:
    """Return what the page shows of the run as a whole: its steps and their figures."""
    figures = {entry["step"]: entry for entry in run.read_metrics()}
    keys = ("accuracy", "reward_mean", "response_tokens", "reflection_words", "entropy", "verdict")
    return {
        "name": run.path.absolute().name,
        "is_finished": run.read_summary() is not None,
        "steps": [row | {key: figures.get(row["step"], {}).get(key) for key in keys} for row in steps(run)],
    }


_GROUPS = """
SELECT f.*, g.problem_id, g.family, g.level, g.language, substr(g.prompt, 1, 200) AS prompt
FROM (SELECT position, COUNT(*) AS size, SUM(outcome = 'correct') AS num_right, AVG(reward) AS reward,
             AVG(num_tokens) AS num_tokens, MAX(ABS(advantage)) AS signal
      FROM rollouts WHERE step = ?1 GROUP BY position ORDER BY {order} LIMIT ?2 OFFSET ?3) f
JOIN groups g ON g.step = ?1 AND g.position = f.position ORDER BY {order}
"""


def groups(run: RunDir, step: int, order: GroupOrder, offset: int, limit: int) -> Json:
    """Return one page of a step's groups with their means."""
    key = _GROUP_KEYS[order]
    # Inside, the names are the means'; outside, `position` alone would be ambiguous.
    sql = _GROUPS.replace("{order}", key, 1).replace("{order}", key.replace("position", "f.position"), 1)
    rows = [_shown(dict(row)) for row in run.query(sql, (step, limit + 1, offset))]
    return {"groups": rows[:limit], "has_more": len(rows) > limit}


def _shown(row: Json) -> Json:
    """Return a row in which every text is safe to look at."""
    return {key: visible(value) if isinstance(value, str) else value for key, value in row.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A completion's tokens as sampled, each with the log-probability that the sampler gave it."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


_ROLLOUT = """
SELECT sample, text, answer, finish, outcome, reward, parts, advantage, num_tokens, weight_version,
       completion_ids, logprobs FROM rollouts WHERE step = ? AND position = ?
"""


def group(run: RunDir, step: int, position: int) -> tuple[Json, list[tuple[Json, Tokens]]] | None:
    """Return a group and its rollouts with their tokens, or None where there is none."""
    rows = list(run.query("SELECT * FROM groups WHERE step = ? AND position = ?", (step, position)))
    if not rows:
        return None
    head = {key: rows[0][key] for key in rows[0].keys() if key != "prompt_ids"}  # noqa: SIM118
    found = run.query(f"{_ROLLOUT} ORDER BY sample", (step, position))
    return _shown(head), [_rollout(run, dict(row)) for row in found]


def rollout(run: RunDir, step: int, position: int, sample: int) -> tuple[Json, Tokens] | None:
    """Return one rollout, or None where there is none."""
    rows = list(run.query(f"{_ROLLOUT} AND sample = ?", (step, position, sample)))
    return _rollout(run, dict(rows[0])) if rows else None


def _rollout(run: RunDir, row: Json) -> tuple[Json, Tokens]:
    ids, logprobs = row.pop("completion_ids"), row.pop("logprobs")
    tokens = Tokens(
        ids=struct.unpack(f"<{len(ids) // 4}i", ids),
        logprobs=struct.unpack(f"<{len(logprobs) // 4}f", logprobs),
    )
    row["reflection_words"] = count_reflection_words(row["text"])
    return _shown(row) | {"parts": numbers_stored(row["parts"], run)}, tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What rollouts to find: in one step, or from a step on; of these, skip `offset`."""

    text: str = ""
    outcome: str = ""
    step: int | None = None
    order: RolloutOrder = RolloutOrder.RUN
    is_ascending: bool = False
    from_step: int = 0
    offset: int = 0


Hit = tuple[float, int, int, int]
"""(the key that is sorted by, step, position, sample)"""


def find(run: RunDir, search: Search, limit: int) -> Json:
    """Return one page of the rollouts that a search finds, and where the next page begins.

    In the run's order it reads only as many steps as fill the page. Sorted, it looks through all
    of them; what is found after `SEARCH_S` is sorted and returned with the step to go on from.
    """
    end = time.monotonic() + SEARCH_S
    wanted = search.offset + limit + 1
    if search.step is None:
        todo = [row["step"] for row in steps(run) if row["step"] >= search.from_step]
    else:
        todo = [search.step]
    hits: list[Hit] = []
    unread = list(todo)
    is_sorted = search.order is not RolloutOrder.RUN
    while unread and time.monotonic() < end:
        hits += _hits(run, unread.pop(0), search, wanted)
        if is_sorted:
            hits = sorted(hits, key=lambda hit: hit[0], reverse=not search.is_ascending)[:wanted]
        elif len(hits) >= wanted:
            break
    page = hits[search.offset : search.offset + limit]
    return {
        "rollouts": [_found(run, hit, search.text) for hit in page],
        "num_steps": len(todo) - len(unread),
        "next": _next(search, hits, limit),
        "unread_from": unread[0] if unread and (is_sorted or len(hits) < wanted) else None,
    }


def _next(search: Search, hits: Sequence[Hit], limit: int) -> Json | None:
    if len(hits) <= search.offset + limit:
        return None
    if search.order is not RolloutOrder.RUN or search.step is not None:
        return {"from_step": search.from_step, "offset": search.offset + limit}
    # In the run's order the next page starts within the step of its first rollout: nothing before
    # that step is read again.
    step = hits[search.offset + limit][1]
    return {"from_step": step, "offset": sum(hit[1] == step for hit in hits[: search.offset + limit])}


def _hits(run: RunDir, step: int, search: Search, wanted: int) -> list[Hit]:
    where = ["step = ?"]
    parameters: list[Any] = [step]
    if search.text:
        where.append(r"text LIKE ? ESCAPE '\'")
        parameters.append(f"%{_escaped(search.text)}%")
    if search.outcome:
        where.append("outcome = ?")
        parameters.append(search.outcome)
    key = _ROLLOUT_KEYS[search.order]
    direction = "ASC" if search.is_ascending else "DESC"
    order = "" if search.order is RolloutOrder.RUN else f"{key} {direction}, "
    sql = (
        f"SELECT {key} AS key, step, position, sample FROM rollouts WHERE {' AND '.join(where)} "
        f"ORDER BY {order}position, sample LIMIT ?"
    )
    return [
        # SQLite keeps NaN as NULL, and sorts that before all numbers.
        (-math.inf if row["key"] is None else row["key"], row["step"], row["position"], row["sample"])
        for row in run.query(sql, [*parameters, wanted])
    ]


def _escaped(text: str) -> str:
    for special in "\\%_":
        text = text.replace(special, f"\\{special}")
    return text


_FOUND = """
SELECT r.step, r.position, r.sample, r.outcome, r.reward, r.advantage, r.num_tokens, r.text,
       g.family, g.level FROM rollouts r JOIN groups g ON g.step = r.step AND g.position = r.position
WHERE r.step = ? AND r.position = ? AND r.sample = ?
"""


def _found(run: RunDir, hit: Hit, text: str) -> Json:
    row = dict(next(iter(list(run.query(_FOUND, hit[1:])))))
    whole = row.pop("text")
    at = max(0, whole.lower().find(text.lower())) if text else 0
    start = max(0, at - SNIPPET // 3)
    row["snippet"] = ("\u2026" if start else "") + whole[start : start + SNIPPET]
    return _shown(row)


_SAME_PROBLEM = "g.problem_id = ?"
_SAME_KIND = "g.family = ? AND g.level = ? AND g.language = ?"
_ACROSS = """
SELECT g.step, MIN(g.position) AS position, COUNT(DISTINCT g.position) AS num_groups, COUNT(*) AS size,
       SUM(r.outcome = 'correct') AS num_right, AVG(r.reward) AS reward, AVG(r.num_tokens) AS num_tokens
FROM groups g JOIN rollouts r ON r.step = g.step AND r.position = g.position WHERE {where}
GROUP BY g.step ORDER BY g.step
"""


def across(run: RunDir, step: int, position: int) -> Json | None:
    """Return how a problem went in every step that drew it, or None where there is no such group.

    A problem that no other step drew is followed by the groups of its family, level and language.
    """
    rows = list(
        run.query(
            "SELECT problem_id, family, level, language FROM groups WHERE step = ? AND position = ?",
            (step, position),
        )
    )
    if not rows:
        return None
    problem_id, *kind = tuple(rows[0])
    same = [dict(row) for row in run.query(_ACROSS.format(where=_SAME_PROBLEM), (problem_id,))]
    is_same_problem = len(same) > 1
    if not is_same_problem:
        same = [dict(row) for row in run.query(_ACROSS.format(where=_SAME_KIND), kind)]
    return {
        "is_same_problem": is_same_problem,
        "name": visible(problem_id if is_same_problem else f"{kind[0]}/{kind[1]}, {kind[2]}"),
        "steps": same,
    }
