"""What `launcher top` shows. Pure: from what the launcher told to something that fits a screen.

Reads no clock: `now` is the launcher's own time, carried on since it was told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launcher.cli.status_view import (
    STYLES,
    amount,
    following,
    give_or_take,
    glance,
    operations,
    span,
)
from launcher.client.reports import BackendStatus, PastDecision, StatusReport
from launcher.printable import printable

#: So many lines of decisions are kept free for, at least.
_DECISIONS = 4

#: So many are printed where there is no screen.
_PRINTED = 10

#: What is looked at first, where not everything fits.
_ORDER = ("ready", "draining", "starting", "stopping", "failed", "stopped")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the launcher told at a look."""

    status: StatusReport
    decisions: tuple[PastDecision, ...]


def screen(
    seen: Seen, now: datetime, width: int, height: int, trouble: str | None = None
) -> RenderableType:
    """A screenful; `trouble` is why the launcher can't be asked at the moment."""
    head = [_head(seen.status, now, trouble), *_capacity(seen.status, width), Text()]
    age = (now - seen.status.server_time).total_seconds()
    notes = [Text(printable(one), "red") for one in seen.status.problems]
    notes += operations(seen.status, age)
    notes = [Text(), *notes] if notes else []
    foot = Text("q quits", "dim")
    room = height - len(head) - len(notes) - 1
    backends = sorted(seen.status.backends, key=_rank)
    # A line of headings above the backends, one blank below them.
    shown = max(1, min(len(backends), room - 2 - _DECISIONS))
    left = room - 2 - shown
    lines: list[RenderableType] = [*head, _table(backends[:shown], now, width)]
    if shown < len(backends):
        lines.append(Text(f"… and {len(backends) - shown} more", "dim"))
        left -= 1
    lines += [*notes, Text()]
    told = [_told(one) for one in seen.decisions[: max(0, left)]]
    lines += [*told, *(Text() for _ in range(left - len(told))), foot]
    for line in lines:
        if isinstance(line, Text):
            line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines)


def _head(report: StatusReport, now: datetime, trouble: str | None) -> Text:
    if trouble is not None:
        return Text(f"trying again: {printable(trouble)}", "bold red")
    busy = sum(one.in_flight for one in report.backends)
    queued = sum(one.queued for one in report.backends)
    up = span((now - report.started_at).total_seconds())
    return Text.assemble(
        ("launcher", "bold"), f" {report.version}, up {up}, {busy} in flight, {queued} queued"
    )


def _capacity(report: StatusReport, width: int) -> list[Text]:
    longest = max((len(name) for name in report.capacity), default=0)
    cells = max(8, min(40, width - longest - 26))
    return [
        Text.assemble(
            f"{name:<{longest}} ",
            *bar(report.used.get(name, 0), units, cells),
            f" {amount(report.used.get(name, 0))} of {amount(units)}",
        )
        for name, units in report.capacity.items()
    ]


def bar(used: int, units: int, cells: int) -> list[tuple[str, str]]:
    """A budget as a bar: what is used in one kind of block, what is free in another."""
    full = min(cells, round(used / units * cells)) if units else cells * bool(used)
    full = max(full, 1) if used else full
    style = "red" if used > units else "green"
    return [("█" * full, style), ("░" * (cells - full), "dim")]


def _table(backends: Sequence[BackendStatus], now: datetime, width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", width=width, padding=(0, 2, 0, 0))
    table.add_column("BACKEND", no_wrap=True, overflow="ellipsis", ratio=3, min_width=10)
    table.add_column("STATE", no_wrap=True, min_width=8)
    table.add_column("SINCE", no_wrap=True, min_width=8)
    table.add_column("RUN", justify="right", no_wrap=True)
    table.add_column("WAIT", justify="right", no_wrap=True)
    table.add_column("PREDICTED", justify="right", no_wrap=True, min_width=9)
    table.add_column("NEXT", no_wrap=True, overflow="ellipsis", ratio=2, min_width=14)
    for one in backends:
        table.add_row(
            Text(one.backend),
            Text(one.state, STYLES.get(one.state, "")),
            Text(span((now - one.since).total_seconds()) if one.since else ""),
            Text(str(one.in_flight) if one.in_flight else "–"),
            Text(str(one.queued) if one.queued else "–"),
            Text(give_or_take(one.predicted) if one.predicted else "–"),
            Text(following(one, now)),
        )
    return table


def _told(one: PastDecision) -> Text:
    again = f" ({one.times} times)" if one.times > 1 else ""
    return Text.assemble(
        (f"{one.at.astimezone():%H:%M:%S} ", "dim"), printable(one.text), (again, "dim")
    )


def _rank(one: BackendStatus) -> tuple[int, str]:
    return _ORDER.index(one.state), one.backend


def printed(seen: Seen) -> RenderableType:
    """The same for paper: everything, once."""
    told = [_told(one) for one in seen.decisions[:_PRINTED]]
    return Group(glance(seen.status), *([Text(), *told] if told else []))
