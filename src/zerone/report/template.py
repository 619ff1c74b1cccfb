"""The templates of the report: where they are, and how text gets into them.

In: the name of a template. Out: the template, in which everything is escaped unless it is markup of
our own charts, and a name that was not given is an error.
"""

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from zerone.report import aha
from zerone.report.numbers import number, percent, plural, visible


def template(name: str) -> Template:
    """Return a template of this package."""
    environment = Environment(
        loader=PackageLoader("zerone", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "plural": plural, "visible": visible}
    environment.filters |= {"segments": aha.segments, "cut": aha.cut}
    return environment.get_template(name)
