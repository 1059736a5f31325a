"""A report as one HTML page that needs no network and runs no script."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from detecture.benchmark.gallery import Gallery
from detecture.benchmark.report import Report
from detecture.benchmark.table import decimal


def report_page(report: Report, galleries: Sequence[Gallery] = ()) -> str:
    """The page as one text; everything from files and records is escaped.

    Args:
        report: what it says.
        galleries: images of the data sets.
    """
    environment = Environment(
        loader=PackageLoader("detecture.benchmark"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["decimal"] = decimal
    template = environment.get_template("report.html")
    return template.render(report=report, galleries=galleries)
