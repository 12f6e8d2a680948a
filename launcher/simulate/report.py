"""Reports for people: tables of what each policy did with the same workload."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launcher.simulate.measure import Report, Waits


def tables(reports: Sequence[Report]) -> RenderableType:
    """One line for each policy, then the waits of each model and class side by side, and how
    good the forecasts were."""
    classes = sorted({name for report in reports for name in report.classes})
    parts: list[RenderableType] = [_policies(reports), Text(), _waits(reports, "wait, s", "models")]
    if len(classes) > 1:
        parts += [Text(), _waits(reports, "class", "classes")]
    if any(report.forecasts.count for report in reports):
        parts += [Text(), _forecasts(reports)]
    parts += [Text(), Text(_legend(), style="dim")]
    return Group(*parts)


def _policies(reports: Sequence[Report]) -> Table:
    table = _table(
        "policy", "swaps", "makespan", "loading", "answers/min", "starved", "unserved", "fairness"
    )
    for report in reports:
        table.add_row(
            report.policy,
            f"{report.swaps:,}",
            duration(report.seconds),
            f"{report.loading:.0%}",
            f"{report.throughput * 60:.1f}",
            f"{report.waits.starved:,}",
            f"{report.unserved + report.rejected:,}",
            f"{report.fairness:.2f}",
        )
    return table


def _waits(reports: Sequence[Report], title: str, of: str) -> Table:
    table = _table(title, "policy", "requests", "mean", "p50", "p95", "p99", "max", "starved")
    table.columns[1].justify = "left"
    found: list[dict[str, Waits]] = [dict(getattr(report, of)) for report in reports]
    if of == "models":
        found = [{"all": report.waits} | one for report, one in zip(reports, found, strict=True)]
    names = list(dict.fromkeys(name for one in found for name in one))
    for name in names:
        for number, (report, waits) in enumerate(zip(reports, found, strict=True)):
            if name not in waits:
                continue
            one = waits[name]
            table.add_row(
                name if number == 0 else "",
                report.policy,
                f"{one.count:,}",
                *_cells(one),
                f"{one.starved:,}",
                end_section=number == len(reports) - 1,
            )
    return table


def _forecasts(reports: Sequence[Report]) -> Table:
    table = _table(
        "forecasts, s", "noted", "error p50", "p90", "bias", "within ±", "within 2 ±", "left out"
    )
    for report in reports:
        one = report.forecasts
        table.add_row(
            report.policy,
            f"{one.count:,}",
            seconds(one.median),
            seconds(one.p90),
            f"{one.bias:+.1f}",
            f"{one.within_one:.0%}",
            f"{one.within_two:.0%}",
            f"{one.left_out:,}",
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _cells(waits: Waits) -> list[str]:
    return [seconds(x) for x in (waits.mean, waits.p50, waits.p95, waits.p99, waits.max)]


def _legend() -> str:
    return (
        "mean to max: seconds from a request's arrival to its grant. loading: share of the time "
        "spent starting and stopping. starved: waited too long. unserved: rejected, or "
        "waiting at the end. fairness: Jain's index of the models' speeds, 1 is even. forecasts: "
        "of a sample of those who queue, at several ages; bias: seconds foreseen too many; left "
        "out: unserved."
    )


def seconds(value: float) -> str:
    """A wait, short: `0.4`, `12.5`, `1,204`."""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def duration(value: float) -> str:
    """A span of time, in its largest two units: `45 s`, `12 min 5 s`, `3 h 20 min`."""
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", 1, "s")
    if whole < 72 * 3600:
        return _two(whole, 3600, "h", 60, "min")
    return _two(whole, 86400, "d", 3600, "h")


def _two(whole: int, large: int, name: str, small: int, other: str) -> str:
    first, rest = divmod(whole, large)
    second = rest // small
    return f"{first} {name} {second} {other}" if second else f"{first} {name}"
