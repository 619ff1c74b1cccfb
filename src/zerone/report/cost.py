"""What a run cost: tokens, core-hours, and the price of a million tokens at a price per core-hour.

In: the record of a run and a price. Out: rows of plain strings, and the prices of the interfaces that
the paper's readers compare with. A figure whose data a run does not have is left blank.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zerone.report.numbers import MISSING, duration, number
from zerone.report.record import RunRecord

CORE_PRICE = 0.04
"""Dollars per core-hour where none is given: about what a core of a rented machine costs."""

APIS = (
    ("deepseek-reasoner, January 2025", "0.55", "2.19"),
    ("OpenAI o1, January 2025", "15", "60"),
)
_PASSES_OF_AN_UPDATE = 3
"""A backward pass costs two forward passes, so an update costs three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The figures of one run; times in seconds, None where the run did not record them."""

    name: str
    num_sampled: int | None
    num_trained: int | None
    wall_s: float
    sampling_s: float | None
    training_s: float | None
    num_cores: int | None
    core_price: float

    @property
    def core_hours(self) -> float | None:
        """Hours of the run times the cores that it could use."""
        return None if self.num_cores is None else self.num_cores * self.wall_s / 3600

    @property
    def price(self) -> float | None:
        """Dollars of the whole run, evaluations included."""
        return None if self.core_hours is None else self.core_hours * self.core_price

    @property
    def price_out(self) -> float | None:
        """Dollars per million tokens written."""
        return self._per_million(self.sampling_s, self.num_sampled)

    @property
    def price_in(self) -> float | None:
        """Dollars per million tokens read, estimated from training."""
        trained = self._per_million(self.training_s, self.num_trained)
        return None if trained is None else trained / _PASSES_OF_AN_UPDATE

    def _per_million(self, seconds: float | None, num_tokens: int | None) -> float | None:
        if seconds is None or not num_tokens or self.num_cores is None:
            return None
        return self.num_cores * seconds / 3600 * self.core_price / num_tokens * 1e6


def cost_of(record: RunRecord, core_price: float, name: str | None = None) -> Cost:
    """Return what a run has cost so far."""
    cores = record.environment.get("cores")
    return Cost(
        name=name or record.name,
        num_sampled=_sum_tokens(record, "num_sampled_tokens"),
        num_trained=_sum_tokens(record, "num_trained_tokens"),
        wall_s=record.wall_s,
        sampling_s=_sum_seconds(record, "generate_s"),
        training_s=_sum_seconds(record, "train_s"),
        num_cores=cores if isinstance(cores, int) else None,
        core_price=core_price,
    )


def _sum_tokens(record: RunRecord, key: str) -> int | None:
    found = [int(entry[key]) for entry in record.metrics if key in entry]
    return sum(found) if found else None


def _sum_seconds(record: RunRecord, key: str) -> float | None:
    found = [float(entry[key]) for entry in record.timing if key in entry]
    return sum(found) if found else None


def rows(costs: Sequence[Cost]) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows of the table: a label and one value per run."""
    yield "tokens sampled", [_count(cost.num_sampled) for cost in costs]
    yield "tokens trained", [_count(cost.num_trained) for cost in costs]
    yield "wall time", [duration(cost.wall_s) for cost in costs]
    yield "cores", [_count(cost.num_cores) for cost in costs]
    yield "core-hours", [number(cost.core_hours) for cost in costs]
    yield "tokens/s, sampling", [_rate(cost.num_sampled, cost.sampling_s) for cost in costs]
    yield "tokens/s, training", [_rate(cost.num_trained, cost.training_s) for cost in costs]
    yield "the run, $", [number(cost.price) for cost in costs]
    yield "$ per million tokens in", [number(cost.price_in) for cost in costs]
    yield "$ per million tokens out", [number(cost.price_out) for cost in costs]


def _count(count: int | None) -> str:
    return MISSING if count is None else f"{count:,}"


def _rate(count: int | None, seconds: float | None) -> str:
    return MISSING if count is None or not seconds else f"{count / seconds:,.0f}"
