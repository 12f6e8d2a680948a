"""The steps of a switch, as `launcher switch` shows them. Pure, and reads no clock."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launcher.cli.status_view import span
from launcher.client.reports import SwitchReport, SwitchStep
from launcher.printable import printable

_SIGNS = {True: ("✓", "green"), False: ("✕", "red"), None: ("…", "yellow")}


def steps(report: SwitchReport, waited: float) -> RenderableType:
    """All of them, and below what is still to come; `waited` is how long somebody has looked."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for one in report.steps:
        table.add_row(
            Text(*_SIGNS[one.ok]),
            Text(printable(one.name)),
            Text(span(one.took) if one.took is not None else "", "dim"),
            Text(printable(one.detail or ""), "dim"),
        )
    if report.over:
        return table
    left = f", about {span(report.left)} left" if report.left is not None else ""
    stands = "waits for its turn" if report.state == "queued" else "is under way"
    line = f"switch {report.id} to {report.to} {stands}, {span(waited)}{left}"
    return Group(table, Text(line, "bold"))


def finished(report: SwitchReport) -> list[str]:
    """The steps that are over, in a line each, in their order up to the first that isn't."""
    lines = []
    for one in report.steps:
        if one.ok is None and not report.over:
            break
        lines.append(_line(one))
    return lines


def _line(one: SwitchStep) -> str:
    how = {True: "done", False: "failed", None: "cut short"}[one.ok]
    took = "" if one.took is None else f" after {span(one.took)}"
    return f"{printable(one.name)}: {how}{took}" + (
        f" ({printable(one.detail)})" if one.detail else ""
    )
