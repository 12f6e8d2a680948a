"""What `launcher plan` prints. Pure: from a report to something that rich can print."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.status_view import span, waiting
from launcher.client.reports import PlanReport
from launcher.printable import printable


def outlook(report: PlanReport) -> RenderableType:
    """What would become of the request, and below it what would be decided for it."""
    lines: list[RenderableType] = [Text(_fate(report))]
    # The rejection of the request itself has just been told.
    told = [one for one in report.decisions if one.deed != "reject" or not report.rejection]
    lines += [Text(f"  {_when(one.after)}: {printable(one.text)}") for one in told]
    if report.outcome == "waits" and not told:
        lines.append(Text("  nothing would be decided before something else happens", "dim"))
    return Group(*lines)


def _fate(report: PlanReport) -> str:
    asked = f"a request for {report.route}"
    if report.rejection is not None:
        code, message = report.rejection.code, printable(report.rejection.message)
        later = report.retry_after
        again = "" if later is None else f" It may come again in {span(later)}."
        return f"{asked} would be rejected ({code}): {message}{again}"
    if report.outcome == "served":
        return f"{asked} would be served by {report.backend} at once"
    if report.predicted is None:
        return f"{asked} would wait for {report.backend}; nobody can tell how long"
    place = f"place {report.predicted.place}"
    return f"{asked} would wait for {report.backend}, {place}, {waiting(report.predicted)}"


def _when(after: float) -> str:
    return "now" if after < 0.05 else f"in about {span(after)}"
