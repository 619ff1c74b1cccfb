"""What `/metrics` says: requests, answers under way, tokens and cost per key, in Prometheus' format.

Labels are names that the server knows (models, keys, its own addresses), never what a client
sends, so their number is bounded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from zerone.errors import ConfigError
from zerone.serve.models import Served

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars per million tokens."""

    prompt: float
    completion: float

    @classmethod
    def read(cls, given: str) -> "Prices":
        """Read `IN,OUT`; raises ConfigError."""
        try:
            prompt, completion = map(float, given.split(","))
        except ValueError:
            prompt = completion = math.nan
        if not (0 <= prompt < math.inf and 0 <= completion < math.inf):
            raise ConfigError(f"--price {given!r} is not two amounts like 0.55,2.19")
        return cls(prompt=prompt, completion=completion)


@dataclass(slots=True, kw_only=True)
class Usage:
    """The tokens of one request, counted up as it is answered."""

    num_prompt: int
    num_completion: int = 0
    num_reasoning: int = 0


class Telemetry:
    """The counters of one server."""

    def __init__(self, models: Sequence[Served], prices: Prices) -> None:
        self._registry = CollectorRegistry()
        self._prices = prices
        counters = {
            "requests": ("requests answered", ("route", "status", "key")),
            "prompt_tokens": ("prompt tokens of answered requests", ("model", "key")),
            "completion_tokens": ("tokens written, thoughts included", ("model", "key")),
            "reasoning_tokens": ("tokens of thoughts", ("model", "key")),
            "cost_usd": ("tokens at the server's prices, in US dollars", ("model", "key")),
        }
        self._counters = {
            name: Counter(f"zerone_{name}", text, labels, registry=self._registry)
            for name, (text, labels) in counters.items()
        }
        self._first_token = Histogram(
            "zerone_time_to_first_token_seconds",
            "from a request's arrival to the first text of its answer",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(_Schedulers(models))

    def count_request(self, route: str, status: int, key: str) -> None:
        """Count a request by its outcome."""
        self._counters["requests"].labels(route, str(status), key).inc()

    def time_first_token(self, model: str, seconds: float) -> None:
        """Count the wait for a first token."""
        self._first_token.labels(model).observe(seconds)

    def charge(self, model: str, key: str, usage: Usage) -> None:
        """Count a request's tokens and what they cost, also where the client has left."""
        prices = self._prices
        cost = usage.num_prompt * prices.prompt + usage.num_completion * prices.completion
        amounts = {
            "prompt_tokens": usage.num_prompt,
            "completion_tokens": usage.num_completion,
            "reasoning_tokens": usage.num_reasoning,
            "cost_usd": cost / 1e6,
        }
        for name, amount in amounts.items():
            self._counters[name].labels(model, key).inc(amount)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Schedulers(Collector):
    """Reads the schedulers' states when asked."""

    def __init__(self, models: Sequence[Served]) -> None:
        self._models = models

    def collect(self) -> list[Metric]:
        """Return the gauges."""
        active = GaugeMetricFamily("zerone_rows_active", "answers being decoded", labels=["model"])
        waiting = GaugeMetricFamily("zerone_rows_waiting", "answers in the queue", labels=["model"])
        cancelled = CounterMetricFamily(
            "zerone_rows_cancelled", "answers given up because their client left", labels=["model"]
        )
        for model in self._models:
            active.add_metric([model.name], model.scheduler.num_active)
            waiting.add_metric([model.name], model.scheduler.num_waiting)
            cancelled.add_metric([model.name], model.scheduler.num_cancelled)
        return [active, waiting, cancelled]
