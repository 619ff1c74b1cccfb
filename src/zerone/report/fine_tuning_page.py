"""The report of supervised fine-tuning: the loss on answers held out, and suites where they were measured.

In: the record of a run of `zerone sft`, or of such a stage of a pipeline. Out: one self-contained HTML
page, by the same rules as the page of reinforcement learning (page.py), which has other figures: here
nothing is sampled to learn from, and no answer has a reward.
"""

from collections.abc import Iterator

from zerone.report import cost, tables
from zerone.report.charts import Chart, Mark, Series
from zerone.report.figures import Figure, accuracy_figure, figure_of, series_of
from zerone.report.numbers import duration, number, plural
from zerone.report.record import RunRecord
from zerone.report.template import template


def render_fine_tuning(record: RunRecord, core_price: float) -> str:
    """Return the page of a run of fine-tuning, finished or not."""
    return template("fine_tuning.html.j2").render(
        record=record,
        title=_title(record),
        lead=_lead(record),
        final_word="final" if record.is_finished else "latest",
        moments=list(_moments(record)),
        before_after=tables.before_after(record),
        figures=[figure for figure in (_loss_figure(record), accuracy_figure(record)) if figure],
        costs=[cost.cost_of(record, core_price)],
        core_price=core_price,
        prices={"rows": cost.rows, "apis": cost.APIS},
        environment=tables.environment(record),
        command=str(record.environment.get("command", "")),
    )


def _title(record: RunRecord) -> str:
    losses = list(record.losses.values())
    ends = f"Held-out loss from {number(losses[0])} to {number(losses[-1])}"
    return f"{ends} in {plural(max(record.losses), 'step')}"


def _lead(record: RunRecord) -> str:
    model = record.setting("model.path")
    shown = "the embedded base model" if model == "embedded" else model
    return (
        f"Supervised fine-tuning of {shown} on {record.environment.get('data', 'answers')}, seed "
        f"{record.setting('seed')}: {plural(record.num_steps, 'step')}, {duration(record.wall_s)}."
    )


def _moments(record: RunRecord) -> Iterator[tuple[str, int, str]]:
    """Yield the evaluations that count, with their step and loss; the best model is kept."""
    losses = record.losses
    best = min(losses, key=lambda step: (losses[step], step))
    last = "final" if record.is_finished else "latest"
    for name, step in (("base", min(losses)), ("best", best), (last, max(losses))):
        yield name, step, number(losses[step])


def loss_series(record: RunRecord, label: str, tone: str, mark: Mark = "points") -> Series:
    """Return the loss on the answers held out, over the steps."""
    points = [(float(step), loss) for step, loss in record.losses.items()]
    return Series(label=label, points=points, tone=tone, mark=mark)


def _loss_figure(record: RunRecord) -> Figure:
    training = series_of(record.metrics, "loss", label="training, each step", tone="gray", mark="thin")
    held_out = loss_series(record, label="held out", tone="blue")
    chart = Chart(
        title="Loss", y_label="nats per token", series=[*([training] if training else []), held_out]
    )
    first, last = (number(held_out.points[end][1]) for end in (0, -1))
    return figure_of(chart, f"On held-out completions it went from {first} to {last}.")
