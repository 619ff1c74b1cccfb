"""The data card: what a data set holds, where it comes from, and what was left out and why.

In: counts, records, and what the data were made by. Out: a JSON object and the same for readers.
Nothing in it depends on the clock or on how often the work was interrupted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zerone.curation.tally import Tally, table_5
from zerone.escaping import on_one_line


def card_of(
    made_by: Mapping[str, Any],
    tally: Tally,
    num_skipped: int,
    read: Callable[[], Iterable[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return the card of a data set; `num_skipped` problems were not drawn for, as the mix was full.

    `read` goes through the records, which need not fit into memory.
    """
    return {
        "samples": tally.num_kept,
        "drawn": tally.num_drawn,
        "dropped": tally.dropped(),
        "problems_skipped": num_skipped,
        "languages": dict(sorted(Counter(record["language"] for record in read()).items())),
        "levels": _levels(read()),
        "table": table_5(read()),
        "sources": tally.by_source(),
        "made_by": dict(made_by),
    }


def _levels(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    counts = Counter(f"{record['family']}/{record['level']}" for record in records)
    return dict(sorted(counts.items()))


def markdown_of(name: str, card: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    parts = [
        f"# Data card of {name}",
        f"{card['samples']} samples, kept of {card['drawn']} drawn. Languages: {_listed(card['languages'])}.",
        "## Domains",
        _table(
            ("domain", "samples", "rounds", "tokens (mean)"),
            [(row["domain"], row["samples"], row["rounds"], row["tokens"]) for row in card["table"]],
        ),
        "## Sources",
        _table(
            ("source", "domain", "drawn", "kept", "dropped"),
            [
                (source, domain, cell["drawn"], cell["kept"], _listed(cell["dropped"]))
                for source, domains in card["sources"].items()
                for domain, cell in domains.items()
            ],
        ),
        "## Dropped",
        _table(("reason", "drafts"), list(card["dropped"].items())),
        "## Levels",
        _table(("family/level", "samples"), list(card["levels"].items())),
        "## Made by",
        _table(("setting", "value"), list(card["made_by"].items())),
    ]
    if card["problems_skipped"]:
        parts.insert(2, f"{card['problems_skipped']} problems were not drawn for, as the mix was full.")
    return "\n\n".join(parts) + "\n"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{on_one_line(key)} {count}" for key, count in counts.items()) or "none"


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(on_one_line(str(cell)).replace('|', '/') for cell in line)} |" for line in lines
    )
