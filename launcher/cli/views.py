"""What the commands print: reports of the client → text and what rich can print.

Imported when a command runs: rich takes a tenth of a second. No function reads a clock: ages
are counted to the launcher's own time, which may differ from this machine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launcher.client.reports import (
    BackendStatus,
    LeaseReport,
    ModeReport,
    PastDecision,
    PlanReport,
    Predicted,
    StatusReport,
    SwitchReport,
    SwitchStep,
    Trouble,
)
from launcher.printable import printable

#: Colours of states.
STYLES = {
    "ready": "green",
    "starting": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "failed": "red",
    "stopped": "dim",
}

#: From this many units on a budget is in bytes: nobody has a million GPUs.
_BYTES_FROM = 1024 * 1024


def render_status(report: StatusReport) -> RenderableType:
    """Render `launcher status`."""
    up = duration((report.server_time - report.started_at).total_seconds())
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
    under_way = operation_lines(report)
    below = [Text(), *under_way] if under_way else []
    return Group(head, Text(), table, *below, *_troubles(report))


def _row(one: BackendStatus, now: datetime) -> list[RenderableType]:
    starts = str(one.start_count)
    if one.average_start is not None:
        starts += f" × {duration(one.average_start)}"
    return [
        Text(one.backend, "bold"),
        Text(", ".join(one.routes)),
        Text(one.state, STYLES.get(one.state, "")),
        Text(duration((now - one.since).total_seconds()) if one.since else ""),
        Text(str(one.in_flight) if one.in_flight else "–"),
        Text(str(one.queued) if one.queued else "–"),
        Text(with_spread(one.predicted) if one.predicted else "–"),
        Text(", ".join(f"{name} {amount(units)}" for name, units in one.needs.items()) or "–"),
        Text(next_change(one, now)),
        Text(starts),
    ]


def next_change(one: BackendStatus, now: datetime) -> str:
    """Return what becomes of a backend if nobody asks for it."""
    if one.retry_at is not None and one.retry_at > now:
        return f"no start for {duration((one.retry_at - now).total_seconds())}"
    if one.idle_stop_at is not None:
        return f"stops in {duration(max(0.0, (one.idle_stop_at - now).total_seconds()))}"
    return "–"


def operation_lines(report: StatusReport, since: float = 0.0) -> list[Text]:
    """Return switches, leases and drains, a line each; `since` is the report's age in seconds."""
    lines = [
        Text(f"switch {one.id} to {printable(one.to)} {printable(one.text)}", "yellow")
        for one in report.switches
    ]
    for one in report.leases:
        mode = f"mode {one.mode}, " if one.mode is not None else ""
        stands = "waits for its place" if one.state == "pending" else _time_left_text(one, since)
        about = ": ".join(part for part in (one.by, one.note) if part)
        line = f"lease {one.id}, {mode}{one.what}, {stands}"
        lines.append(Text(printable(f"{line} ({about})" if about else line), "cyan"))
    if report.drained:
        lines.append(Text(f"drained: {', '.join(map(printable, report.drained))}", "yellow"))
    return lines


def _time_left_text(lease: LeaseReport, since: float) -> str:
    return "pinned" if lease.left is None else f"for another {duration(round(lease.left - since))}"


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


def start_progress(report: StatusReport, route: str) -> str:
    """Return the progress of a start that somebody waits for."""
    one = report.of_route(route)
    if one is None:
        return f"starting {route}"
    if one.state == "starting":
        taken = _age(one, report.server_time)
        about = f", {predicted_wait(one.predicted)} more" if one.predicted else ""
        return f"starting {one.backend}, {taken}{about}"
    for other in report.backends:
        if other.backend != one.backend and other.state in ("draining", "stopping"):
            return f"making room for {one.backend}: {stopping_backend(other, report.server_time)}"
    about = f", {predicted_wait(one.predicted)}" if one.predicted else ""
    return f"{one.backend} waits for its place{about}"


def stop_progress(report: StatusReport, route: str) -> str:
    """Return the progress of a stop that somebody waits for."""
    one = report.of_route(route)
    return f"stopping {route}" if one is None else stopping_backend(one, report.server_time)


def stopping_backend(one: BackendStatus, now: datetime) -> str:
    """Return the progress of a backend's stop."""
    if one.state == "draining" and one.in_flight:
        some = "one request" if one.in_flight == 1 else f"{one.in_flight} requests"
        return f"{one.backend} finishes {some}"
    return f"stopping {one.backend}, {_age(one, now)}"


def _age(one: BackendStatus, now: datetime) -> str:
    return duration((now - one.since).total_seconds() if one.since else 0.0)


def predicted_wait(predicted: Predicted) -> str:
    """Return a predicted wait: `about 40 s ± 12 s`."""
    return f"about {with_spread(predicted)}"


def with_spread(predicted: Predicted) -> str:
    """Return a predicted wait and its spread: `40 s ± 12 s`."""
    return f"{duration(predicted.wait)} ± {duration(predicted.spread)}"


def duration(seconds: float) -> str:
    """Return a duration for people: `0.4 s`, `38 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
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
    """Return units for people; sizes in the largest binary unit."""
    if units < _BYTES_FROM:
        return str(units)
    size, unit = float(units), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.3g} {unit}"


#: Least number of lines for decisions.
_DECISIONS = 4

#: Decisions that are printed where there is no screen.
_PRINTED = 10

#: The order of states, where not all backends fit.
_ORDER = ("ready", "draining", "starting", "stopping", "failed", "stopped")


@dataclass(frozen=True, slots=True)
class TopData:
    """What `launcher top` shows: one answer of the launcher."""

    status: StatusReport
    decisions: tuple[PastDecision, ...]


def render_top(
    data: TopData, now: datetime, width: int, height: int, trouble: str | None = None
) -> RenderableType:
    """Render `launcher top` for a screen; `trouble` is why the launcher doesn't answer now."""
    head = [_head(data.status, now, trouble), *_capacity(data.status, width), Text()]
    age = (now - data.status.server_time).total_seconds()
    notes = [Text(printable(one), "red") for one in data.status.problems]
    notes += operation_lines(data.status, age)
    notes = [Text(), *notes] if notes else []
    foot = Text("q quits", "dim")
    room = height - len(head) - len(notes) - 1
    backends = sorted(data.status.backends, key=_rank)
    # A line of headings above the backends, one blank below them.
    shown = max(1, min(len(backends), room - 2 - _DECISIONS))
    left = room - 2 - shown
    lines: list[RenderableType] = [*head, _table(backends[:shown], now, width)]
    if shown < len(backends):
        lines.append(Text(f"… and {len(backends) - shown} more", "dim"))
        left -= 1
    lines += [*notes, Text()]
    told = [_decision_line(one) for one in data.decisions[: max(0, left)]]
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
    up = duration((now - report.started_at).total_seconds())
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
    """Return a budget as a bar of used and free blocks, with their styles."""
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
            Text(duration((now - one.since).total_seconds()) if one.since else ""),
            Text(str(one.in_flight) if one.in_flight else "–"),
            Text(str(one.queued) if one.queued else "–"),
            Text(with_spread(one.predicted) if one.predicted else "–"),
            Text(next_change(one, now)),
        )
    return table


def _decision_line(one: PastDecision) -> Text:
    again = f" ({one.times} times)" if one.times > 1 else ""
    return Text.assemble(
        (f"{one.at.astimezone():%H:%M:%S} ", "dim"), printable(one.text), (again, "dim")
    )


def _rank(one: BackendStatus) -> tuple[int, str]:
    return _ORDER.index(one.state), one.backend


def render_top_once(data: TopData) -> RenderableType:
    """Render `launcher top` where there is no screen: everything, once."""
    told = [_decision_line(one) for one in data.decisions[:_PRINTED]]
    return Group(render_status(data.status), *([Text(), *told] if told else []))


def render_plan(report: PlanReport) -> RenderableType:
    """Render `launcher plan`: the request's outcome, and below it the decisions for it."""
    lines: list[RenderableType] = [Text(_outcome(report))]
    # The rejection of the request itself is in the first line.
    told = [one for one in report.decisions if one.action != "reject" or not report.rejection]
    lines += [Text(f"  {_when(one.after)}: {printable(one.text)}") for one in told]
    if report.outcome == "waits" and not told:
        lines.append(Text("  nothing would be decided before something else happens", "dim"))
    return Group(*lines)


def _outcome(report: PlanReport) -> str:
    asked = f"a request for {report.route}"
    if report.rejection is not None:
        code, message = report.rejection.code, printable(report.rejection.message)
        later = report.retry_after
        again = "" if later is None else f" It may come again in {duration(later)}."
        return f"{asked} would be rejected ({code}): {message}{again}"
    if report.outcome == "served":
        return f"{asked} would be served by {report.backend} at once"
    if report.predicted is None:
        return f"{asked} would wait for {report.backend}; nobody can tell how long"
    place = f"place {report.predicted.place}"
    return f"{asked} would wait for {report.backend}, {place}, {predicted_wait(report.predicted)}"


def _when(after: float) -> str:
    return "now" if after < 0.05 else f"in about {duration(after)}"


_SIGNS = {True: ("✓", "green"), False: ("✕", "red"), None: ("…", "yellow")}


def render_switch(report: SwitchReport, waited: float) -> RenderableType:
    """Render a switch's steps, and below them what is still to come. `waited` in seconds."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for one in report.steps:
        table.add_row(
            Text(*_SIGNS[one.ok]),
            Text(printable(one.name)),
            Text(duration(one.took) if one.took is not None else "", "dim"),
            Text(printable(one.detail or ""), "dim"),
        )
    if report.over:
        return table
    left = f", about {duration(report.left)} left" if report.left is not None else ""
    stands = "waits for its turn" if report.state == "queued" else "is under way"
    line = f"switch {report.id} to {report.to} {stands}, {duration(waited)}{left}"
    return Group(table, Text(line, "bold"))


def finished_steps(report: SwitchReport) -> list[str]:
    """Return a line for each step that is over, in order, up to the first that isn't."""
    lines = []
    for one in report.steps:
        if one.ok is None and not report.over:
            break
        lines.append(_line(one))
    return lines


def _line(one: SwitchStep) -> str:
    how = {True: "done", False: "failed", None: "cut short"}[one.ok]
    took = "" if one.took is None else f" after {duration(one.took)}"
    return f"{printable(one.name)}: {how}{took}" + (
        f" ({printable(one.detail)})" if one.detail else ""
    )


def render_leases(leases: Iterable[LeaseReport]) -> Table:
    """Render `launcher lease list`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("LEASE", "HOLDS", "STATE", "LEFT", "BY", "NOTE"):
        table.add_column(name)
    for one in leases:
        table.add_row(
            Text(one.id, "bold"),
            Text(printable(one.what)),
            Text(one.state),
            Text("" if one.state == "pending" else time_left(one)),
            Text(printable(one.by)),
            Text(printable(one.note)),
        )
    return table


def time_left(lease: LeaseReport) -> str:
    """Return how long a lease lasts yet."""
    return "no end" if lease.left is None else duration(round(lease.left))


def end_words(lease: LeaseReport) -> str:
    """Return when a lease ends, as the end of a sentence."""
    return "without an end" if lease.left is None else f"for {duration(round(lease.left))}"


def mode_lines(report: ModeReport) -> list[str]:
    """Return a line for the current mode, and one for each that there is."""
    if report.mode is None:
        lines = ["no mode"]
    else:
        left = "" if report.left is None else f", for another {duration(round(report.left))}"
        lines = [f"mode {printable(report.mode)}{left}"]
    if not report.modes:
        lines.append("routes.toml has no [modes.NAME] table")
    for name, routes in report.modes.items():
        sign = "*" if name == report.mode else " "
        lines.append(f" {sign} {printable(name)}: {', '.join(printable(one) for one in routes)}")
    return lines
