"""Leases in words and in a table. Pure, and reads no clock."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from launcher.cli.status_view import span
from launcher.client.reports import LeaseReport
from launcher.printable import printable


def leases_table(leases: Iterable[LeaseReport]) -> Table:
    """A row for each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("LEASE", "HOLDS", "STATE", "LEFT", "BY", "NOTE"):
        table.add_column(name)
    for one in leases:
        table.add_row(
            Text(one.id, "bold"),
            Text(printable(one.what)),
            Text(one.state),
            Text("" if one.state == "pending" else left(one)),
            Text(printable(one.by)),
            Text(printable(one.note)),
        )
    return table


def left(lease: LeaseReport) -> str:
    """What is left of it."""
    return "no end" if lease.left is None else span(round(lease.left))


def ending(lease: LeaseReport) -> str:
    """When it ends, as the end of a sentence."""
    return "without an end" if lease.left is None else f"for {span(round(lease.left))}"
