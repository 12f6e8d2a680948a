"""What was measured, as numbers by workload, metric, column and candidate; tables of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

REFERENCE = "nginx"
WIDTH = 17
FIRST = 40


@dataclass(frozen=True)
class Place:
    """Where a number belongs: `small`, `requests/s`, `64 connections`."""

    workload: str
    metric: str
    column: str


@dataclass
class Results:
    """All numbers, the runs of a candidate in their order."""

    values: dict[Place, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, place: Place, candidate: str, value: float) -> None:
        """Add one run's number."""
        self.values.setdefault(place, {}).setdefault(candidate, []).append(value)

    def add_all(
        self, workload: str, column: str, candidate: str, numbers: Mapping[str, float]
    ) -> None:
        """Add one run's numbers, by metric."""
        for metric, value in numbers.items():
            self.add(Place(workload, metric, column), candidate, value)

    def of(self, place: Place, candidate: str) -> list[float]:
        """Return the numbers of all runs of one candidate that are known."""
        found = self.values.get(place, {}).get(candidate, [])
        return [value for value in found if not math.isnan(value)]

    def median(self, place: Place, candidate: str) -> float:
        """Return the median of one candidate's runs; nan where there are none."""
        found = self.of(place, candidate)
        return statistics.median(found) if found else math.nan

    def ratio(self, place: Place, one: str, other: str) -> float:
        """Return the median over the rounds of one's number by the other's in the same round, so
        that whatever else the machine did then counts for both; nan where the other's is never
        above 0, as an added delay may be."""
        runs = (self.values.get(place, {}).get(name, []) for name in (one, other))
        found = [mine / theirs for mine, theirs in zip(*runs, strict=False) if theirs > 0]
        found = [value for value in found if not math.isnan(value)]
        return statistics.median(found) if found else math.nan

    def plain(self) -> list[dict[str, object]]:
        """Return everything, for --json."""
        return [
            {"workload": place.workload, "metric": place.metric, "column": place.column}
            | {
                "candidates": {
                    name: {
                        "median": none(self.median(place, name)),
                        "ratio": none(self.ratio(place, name, REFERENCE)),
                        "runs": [none(value) for value in runs],
                    }
                    for name, runs in by_name.items()
                }
            }
            for place, by_name in self.values.items()
        ]

    def text(self) -> str:
        """Return tables of medians, in brackets the ratio to nginx."""
        return "\n\n".join("\n".join(self._table(one)) for one in self._workloads())

    def _workloads(self) -> list[str]:
        return list(dict.fromkeys(place.workload for place in self.values))

    def _table(self, workload: str) -> Iterator[str]:
        places = [place for place in self.values if place.workload == workload]
        names = list(dict.fromkeys(name for place in places for name in self.values[place]))
        yield f"{workload:{FIRST}}" + "".join(f"{name:>{WIDTH}}" for name in names)
        for place in places:
            line = f"{f'{place.column}: {place.metric}':{FIRST}}"
            yield line + "".join(f"{self._cell(place, name):>{WIDTH}}" for name in names)

    def _cell(self, place: Place, name: str) -> str:
        median = self.median(place, name)
        if math.isnan(median):
            return "-"
        ratio = self.ratio(place, name, REFERENCE)
        return short(median) + (f" ({ratio:.2f})" if not math.isnan(ratio) else "")


def none(value: float) -> float | None:
    """Return None for nan, which JSON doesn't know."""
    return None if math.isnan(value) else value


def short(value: float) -> str:
    """Return a number with three digits, or all that stand before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
