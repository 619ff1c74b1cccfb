"""An audit in the terminal: a table of suspicions, the last examples of each, one line that sums up.

In: an `Audit`. Out: text on a rich console. Model output is never read as markup, and control
characters are shown instead of obeyed.
"""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from zerone.escaping import on_one_line
from zerone.report.audit import Audit, Example, Finding
from zerone.report.numbers import percent


def show_audit(found: Audit, console: Console) -> None:
    """Print an audit."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("suspicion", "wins", "share", "first third", "last third"):
        table.add_column(column, justify="left" if column == "suspicion" else "right", no_wrap=True)
    for name, finding in [*found.findings.items(), ("any of them", found.suspicious)]:
        shares = (finding.share, finding.early_share, finding.late_share)
        style = "bold red" if finding.grows else ""
        table.add_row(name, str(finding.count), *map(percent, shares), style=style)
    console.print(table)
    for name, failure in found.failures.items():
        line = f"{name}: {failure.count} of {found.num_rollouts} completions"
        console.print(Text(line), soft_wrap=True)
    for name, finding in [*found.findings.items(), *found.failures.items()]:
        _show_examples(name, finding, console)
    console.print(Text(f"\n{conclusion(found)}", style="bold"), soft_wrap=True)


def conclusion(found: Audit) -> str:
    """Return what the audit comes to, in one sentence."""
    suspicious = found.suspicious
    if not found.num_wins:
        return f"none of {found.num_rollouts} completions won; there is nothing to suspect"
    counted = f"{suspicious.count} of {found.num_wins} wins are suspicious ({percent(suspicious.share)})"
    growing = [name for name, finding in found.findings.items() if finding.grows]
    if growing:
        return (
            f"{counted}, and {', '.join(growing)} grew with training, as a policy that exploits its reward "
            "would make it: read the examples and fix the verifier"
        )
    return f"{counted}; no kind grew with training"


def _show_examples(name: str, finding: Finding, console: Console) -> None:
    if not finding.count:
        return
    console.print(Text(f"\n{name}: {finding.meaning}", style="bold"), soft_wrap=True)
    for example in finding.examples:
        console.print(Text(_line(example)), soft_wrap=True)


def _line(example: Example) -> str:
    where = f"step {example.step}, group {example.group}, sample {example.sample}"
    return f"  {where}, reward {example.reward:.2f}: {on_one_line(example.excerpt)}"
