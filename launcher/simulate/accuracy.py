"""How good the forecasts were: what was foreseen of those who queued, beside what came."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from launcher.simulate.engine import Outcome

#: Seconds waited at which the forecasts of a queued request are noted.
AGES = (0.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Compared:
    """One forecast, the naive one of the same moment, and what came. Seconds."""

    age: float
    foreseen: float
    spread: float
    naive: float | None
    """The mean of what others for the same model had still waited at that age, of those who
    were granted before; None where there were none."""
    came: float

    @property
    def error(self) -> float:
        """Above 0 where too much was foreseen."""
        return self.foreseen - self.came


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Many of them, summed up; zeros where there are none."""

    count: int
    median: float
    p90: float
    """Of the absolute errors, in seconds."""
    bias: float
    """The mean error: above 0 where too much is foreseen."""
    within_one: float
    """The share of errors of no more than the spread that was told."""
    within_two: float
    left_out: int
    """Forecasts of requests that were never granted."""


def compared(outcome: Outcome) -> list[Compared]:
    """Every forecast noted of a request that was granted, in the order of time."""
    seen = _Seen(outcome)
    found = []
    for one in outcome.foreseen:
        request = one.request
        if not outcome.served[request]:
            continue
        naive = seen.mean(outcome.model[request], one.age, outcome.arrived[request] + one.age)
        came = outcome.waited[request] - one.age
        found.append(Compared(one.age, one.seconds, one.spread, naive, came))
    return found


def left_out(outcome: Outcome) -> int:
    """Forecasts noted of requests that were never granted."""
    return sum(not outcome.served[one.request] for one in outcome.foreseen)


def accuracy(some: Sequence[Compared], left_out: int = 0) -> Accuracy:
    """Summed up."""
    if not some:
        return Accuracy(0, 0.0, 0.0, 0.0, 0.0, 0.0, left_out)
    errors = sorted(abs(one.error) for one in some)
    return Accuracy(
        count=len(some),
        median=statistics.median(errors),
        p90=p90(errors),
        bias=statistics.fmean(one.error for one in some),
        within_one=_within(some, 1),
        within_two=_within(some, 2),
        left_out=left_out,
    )


def p90(values: Sequence[float]) -> float:
    """The ninth decile, linear between neighbours; of none, 0."""
    if len(values) < 2:
        return sum(values)
    return statistics.quantiles(values, n=10, method="inclusive")[8]


def _within(some: Sequence[Compared], spreads: int) -> float:
    # A microsecond, for what is exact up to rounding.
    return sum(abs(one.error) <= spreads * one.spread + 1e-6 for one in some) / len(some)


@dataclass(slots=True)
class _Seen:
    """The waits seen up to a moment that doesn't go back."""

    outcome: Outcome
    _granted: list[tuple[float, int]] = field(init=False)
    _next: int = 0
    _sums: dict[tuple[int, float], tuple[int, float]] = field(default_factory=dict)
    """By model and age: how many waited longer, and how much longer in all."""
    _ages: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        outcome = self.outcome
        self._ages = tuple(sorted({one.age for one in outcome.foreseen}))
        self._granted = sorted(
            (outcome.arrived[request] + waited, request)
            for request, waited in enumerate(outcome.waited)
            if self._ages and outcome.served[request] and waited > 0
        )

    def mean(self, model: int, age: float, now: float) -> float | None:
        """Of what those for this model that were granted by `now` had still waited at `age`."""
        while self._next < len(self._granted) and self._granted[self._next][0] <= now:
            self._add(self._granted[self._next][1])
            self._next += 1
        count, total = self._sums.get((model, age), (0, 0.0))
        return total / count if count else None

    def _add(self, request: int) -> None:
        model, waited = self.outcome.model[request], self.outcome.waited[request]
        for age in self._ages:
            if waited <= age:
                return
            count, total = self._sums.get((model, age), (0, 0.0))
            self._sums[model, age] = (count + 1, total + waited - age)
