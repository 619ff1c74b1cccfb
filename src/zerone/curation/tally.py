"""Exact counts of curation: what was drawn, kept and dropped, by source, domain and reason.

In: one entry per draft. Out: the same as JSON, for the data card, the summary and messages, and the
table that the paper gives of its data (Table 5: domain, samples, rounds, tokens).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

KEPT = "kept"

DOMAINS = ("math", "code", "stem", "logic", "general")


class Tally:
    """Counts by (source, domain, what became of it)."""

    def __init__(self, counts: Mapping[tuple[str, str, str], int] | None = None) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter(counts or {})

    def add(self, source: str, domain: str, fate: str) -> None:
        """Count one draft; `fate` is KEPT or the reason against it."""
        self._counts[source, domain, fate] += 1

    def update(self, other: "Tally") -> None:
        """Add the counts of another."""
        self._counts.update(other._counts)

    @property
    def num_drawn(self) -> int:
        """All drafts."""
        return self._counts.total()

    @property
    def num_kept(self) -> int:
        """The drafts that were kept."""
        return sum(count for (_, _, fate), count in self._counts.items() if fate == KEPT)

    def dropped(self) -> dict[str, int]:
        """Return the counts by reason, the most frequent first."""
        found: Counter[str] = Counter()
        for (_, _, fate), count in self._counts.items():
            if fate != KEPT:
                found[fate] += count
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def rows(self) -> list[list[str | int]]:
        """Return the counts as rows for a file, in a fixed order."""
        return [[*key, count] for key, count in sorted(self._counts.items())]

    @classmethod
    def of_rows(cls, rows: Iterable[list[Any]]) -> "Tally":
        """Return the counts that `rows` wrote."""
        return cls({(str(s), str(d), str(f)): int(count) for s, d, f, count in rows})

    def by_source(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return {source: {domain: {"drawn", "kept", "dropped": {reason: count}}}}."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for (source, domain, fate), count in sorted(self._counts.items()):
            cell = found.setdefault(source, {}).setdefault(domain, {"drawn": 0, "kept": 0, "dropped": {}})
            cell["drawn"] += count
            if fate == KEPT:
                cell["kept"] += count
            else:
                cell["dropped"][fate] = count
        return found


def table_5(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the paper's Table 5 of a data set: a row per domain, and the total."""
    sums: dict[str, Counter[str]] = {}
    for record in records:
        for name in (record["domain"], "total"):
            row = sums.setdefault(name, Counter())
            row["samples"] += 1
            row["rounds"] += record["rounds"]
            row["tokens"] += record["tokens"]
    order = [name for name in (*DOMAINS, "total") if name in sums]
    return [
        {
            "domain": name,
            "samples": sums[name]["samples"],
            "rounds": round(sums[name]["rounds"] / sums[name]["samples"], 2),
            "tokens": round(sums[name]["tokens"] / sums[name]["samples"], 1),
        }
        for name in order
    ]


def told(counts: Mapping[str, int]) -> str:
    """Return counts by reason in a line."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "none"
