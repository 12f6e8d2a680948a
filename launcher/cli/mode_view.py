"""Modes in words. Pure."""

from __future__ import annotations

from launcher.cli.status_view import span
from launcher.client.reports import ModeReport
from launcher.printable import printable


def mode_words(report: ModeReport) -> list[str]:
    """Which mode it is, and a line for each that there is."""
    if report.mode is None:
        lines = ["no mode"]
    else:
        left = "" if report.left is None else f", for another {span(round(report.left))}"
        lines = [f"mode {printable(report.mode)}{left}"]
    if not report.modes:
        lines.append("routes.toml has no [modes.NAME] table")
    for name, routes in report.modes.items():
        sign = "*" if name == report.mode else " "
        lines.append(f" {sign} {printable(name)}: {', '.join(printable(one) for one in routes)}")
    return lines
