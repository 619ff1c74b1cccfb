"""The templates of the report: where they are, and how text gets into them.

In: the name of a template. Out: the template, in which everything is escaped, as HTML and for the eye,
unless it is markup of our own charts, and a name that was not given is an error.
"""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from zerone.escaping import visible
from zerone.report import aha
from zerone.report.numbers import number, percent, plural


def _finalized(value: Any) -> Any:
    """Return what a template puts in: of all text that is no markup of ours, what is safe to look at."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def template(name: str) -> Template:
    """Return a template of this package."""
    environment = Environment(
        loader=PackageLoader("zerone", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=_finalized,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "plural": plural}
    environment.filters |= {"segments": aha.segments, "cut": aha.cut}
    return environment.get_template(name)
