"""What the scheduling benchmarks share: running policies, seeds on all cores, tables."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TypeVar

from launcher.core.policy import POLICIES
from launcher.core.scheduler import Scheduler
from launcher.core.types import Needs
from launcher.simulate.engine import Outcome, simulate
from launcher.simulate.measure import Report, measure
from launcher.simulate.workload import Workload

Job = TypeVar("Job")
Result = TypeVar("Result")

OURS, COLLATION, ARRIVAL = "bounded", "collation", "arrival"
ALL = (OURS, COLLATION, ARRIVAL)

#: Of the machine that is simulated, unless a benchmark says otherwise. Seconds.
START, STOP, MAX_WAIT, SERVICE, AT_A_TIME = 25.0, 2.0, 60.0, 5.0, 8


def make(policy: str, capacity: Needs) -> Scheduler:
    """The product's scheduler with one of its policies."""
    return Scheduler(capacity, POLICIES[policy]())


def run(workload: Workload, policy: str, ages: Sequence[float] = ()) -> Outcome:
    """One simulation; `ages`: those at which forecasts are noted."""
    return simulate(workload, partial(make, policy), ages)


def reports(workload: Workload, policies: Sequence[str] = ALL) -> dict[str, Report]:
    """The same workload under each policy."""
    return {policy: measure(run(workload, policy), policy) for policy in policies}


def spread(work: Callable[[Job], Result], jobs: Sequence[Job], label: str) -> list[Result]:
    """Do all jobs on all cores; the results stand in the order of the jobs."""
    results: list[Result] = []
    cores = min(os.cpu_count() or 1, len(jobs))
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        for number, result in enumerate(pool.imap(work, jobs), 1):
            results.append(result)
            if sys.stderr.isatty():
                print(f"\r{label}: {number}/{len(jobs)} ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return results


@dataclass(frozen=True)
class Check:
    """One thing that is promised, and what came of it over the seeds."""

    what: str
    values: list[float]
    aim: float
    at_least: bool = False
    """The aim is a floor; else a ceiling."""
    by_median: bool = False
    """The median has to meet the aim; else the worst has."""
    note: str = ""

    @property
    def worst(self) -> float:
        return min(self.values) if self.at_least else max(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        judged = self.median if self.by_median else self.worst
        return judged >= self.aim if self.at_least else judged <= self.aim

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"median": self.median, "worst": self.worst, "met": self.met}


@dataclass
class Bench:
    """What one benchmark found: a table for people, and the checks."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"checks": [check.plain() for check in self.checks]}

    def text(self) -> str:
        """For people."""
        lines = [self.title, "=" * len(self.title), "", *self.notes]
        if self.notes:
            lines.append("")
        if self.rows:
            lines += [*columns([self.columns, *self.rows]), ""]
        if self.checks:
            lines += columns(
                [
                    ("", "median", "worst", "aim", ""),
                    *(
                        (
                            check.what,
                            number(check.median),
                            number(check.worst),
                            f"{'≥' if check.at_least else '≤'} {number(check.aim)}"
                            f"{' (median)' if check.by_median else ''}",
                            ("met" if check.met else "NOT MET")
                            + (f"  {check.note}" if check.note else ""),
                        )
                        for check in self.checks
                    ),
                ]
            )
        return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Three digits that matter, or as many as there are before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned: the first column to the left, the others to the right, the last to the left
    where it holds words."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if n == 0 or not rows[0][n] else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def median_worst(values: Iterable[float]) -> str:
    """`median (worst)` of waits, ratios, counts: the more the worse."""
    held = list(values)
    return f"{number(statistics.median(held))} ({number(max(held))})"
