"""What `launcher status` prints, and the words that `start` and `stop` wait with.

Pure: from a report to something that rich can print. Reads no clock: every age is counted to
the launcher's own time, which may differ from this machine's.
"""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launcher.client.reports import BackendStatus, LeaseReport, Predicted, StatusReport, Trouble
from launcher.printable import printable

#: How states are coloured; they are words as well.
STYLES = {
    "ready": "green",
    "starting": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "failed": "red",
    "stopped": "dim",
}

#: Above this many units a budget is bytes: nobody has a million GPUs.
_BYTES_FROM = 1024 * 1024


def glance(report: StatusReport) -> RenderableType:
    """The table and what stands around it."""
    up = span((report.server_time - report.started_at).total_seconds())
    used = ", ".join(
        f"{name} {amount(report.used.get(name, 0))} of {amount(units)}"
        for name, units in report.capacity.items()
    )
    head = Text(f"launcher {report.version}, up {up}; in use: {used or 'no capacity is declared'}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("BACKEND", "ROUTES", "STATE", "SINCE"):
        table.add_column(name)
    for name in ("IN FLIGHT", "QUEUED"):
        table.add_column(name, justify="right")
    table.add_column("WAIT", justify="right", no_wrap=True)
    for name in ("NEEDS", "NEXT", "STARTS"):
        table.add_column(name)
    for one in report.backends:
        table.add_row(*_row(one, report.server_time))
    said = operations(report)
    return Group(head, Text(), table, *([Text(), *said] if said else []), *_troubles(report))


def _row(one: BackendStatus, now: datetime) -> list[RenderableType]:
    starts = str(one.start_count)
    if one.average_start is not None:
        starts += f" × {span(one.average_start)}"
    return [
        Text(one.backend, "bold"),
        Text(", ".join(one.routes)),
        Text(one.state, STYLES.get(one.state, "")),
        Text(span((now - one.since).total_seconds()) if one.since else ""),
        Text(str(one.in_flight) if one.in_flight else "–"),
        Text(str(one.queued) if one.queued else "–"),
        Text(give_or_take(one.predicted) if one.predicted else "–"),
        Text(", ".join(f"{name} {amount(units)}" for name, units in one.needs.items()) or "–"),
        Text(following(one, now)),
        Text(starts),
    ]


def following(one: BackendStatus, now: datetime) -> str:
    """What becomes of a backend if nobody asks for it."""
    if one.retry_at is not None and one.retry_at > now:
        return f"no start for {span((one.retry_at - now).total_seconds())}"
    if one.idle_stop_at is not None:
        return f"stops in {span(max(0.0, (one.idle_stop_at - now).total_seconds()))}"
    return "–"


def operations(report: StatusReport, since: float = 0.0) -> list[Text]:
    """What operators have under way, a line each; `since` is how old the report is, in seconds."""
    lines = [
        Text(f"switch {one.id} to {printable(one.to)} {printable(one.text)}", "yellow")
        for one in report.switches
    ]
    for one in report.leases:
        mode = f"mode {one.mode}, " if one.mode is not None else ""
        stands = "waits for its place" if one.state == "pending" else _for_another(one, since)
        said = ": ".join(part for part in (one.by, one.note) if part)
        line = f"lease {one.id}, {mode}{one.what}, {stands}"
        lines.append(Text(printable(f"{line} ({said})" if said else line), "cyan"))
    if report.drained:
        lines.append(Text(f"drained: {', '.join(map(printable, report.drained))}", "yellow"))
    return lines


def _for_another(lease: LeaseReport, since: float) -> str:
    return "pinned" if lease.left is None else f"for another {span(round(lease.left - since))}"


def _troubles(report: StatusReport) -> list[RenderableType]:
    lines: list[RenderableType] = [Text(printable(problem), "red") for problem in report.problems]
    for one in report.backends:
        if one.failure is not None:
            lines += _trouble(one.backend, one.failure)
    return [Text(), *lines] if lines else []


def _trouble(backend: str, trouble: Trouble) -> list[RenderableType]:
    lines: list[RenderableType] = [
        Text.assemble((backend, "red"), f": {printable(trouble.message)}")
    ]
    if trouble.detail:
        lines += [Text(f"    {printable(line)}", "dim") for line in trouble.detail.splitlines()]
    return lines


def starting(report: StatusReport, route: str) -> str:
    """Where a start that somebody waits for stands."""
    one = report.of_route(route)
    if one is None:
        return f"starting {route}"
    if one.state == "starting":
        taken = _age(one, report.server_time)
        about = f", {waiting(one.predicted)} more" if one.predicted else ""
        return f"starting {one.backend}, {taken}{about}"
    for other in report.backends:
        if other.backend != one.backend and other.state in ("draining", "stopping"):
            return f"making room for {one.backend}: {going(other, report.server_time)}"
    about = f", {waiting(one.predicted)}" if one.predicted else ""
    return f"{one.backend} waits for its place{about}"


def stopping(report: StatusReport, route: str) -> str:
    """Where a stop that somebody waits for stands."""
    one = report.of_route(route)
    return f"stopping {route}" if one is None else going(one, report.server_time)


def going(one: BackendStatus, now: datetime) -> str:
    """A backend on its way out."""
    if one.state == "draining" and one.in_flight:
        some = "one request" if one.in_flight == 1 else f"{one.in_flight} requests"
        return f"{one.backend} finishes {some}"
    return f"stopping {one.backend}, {_age(one, now)}"


def _age(one: BackendStatus, now: datetime) -> str:
    return span((now - one.since).total_seconds() if one.since else 0.0)


def waiting(predicted: Predicted) -> str:
    """A predicted wait: `about 40 s ± 12 s`."""
    return f"about {give_or_take(predicted)}"


def give_or_take(predicted: Predicted) -> str:
    """A predicted wait and its spread: `40 s ± 12 s`."""
    return f"{span(predicted.wait)} ± {span(predicted.spread)}"


def span(seconds: float) -> str:
    """A duration for people: `0.4 s`, `38 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 48:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def amount(units: int) -> str:
    """Units for people; sizes in the largest unit that leaves two figures to read."""
    if units < _BYTES_FROM:
        return str(units)
    size, unit = float(units), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.3g} {unit}"
