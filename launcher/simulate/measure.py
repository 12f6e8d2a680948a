"""Measures of an outcome: waits, swaps, loading, fairness, and how good the forecasts were."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from launcher.core.types import Needs, Priority
from launcher.simulate.engine import Outcome

#: Seconds after which a request counts as starved, unless said otherwise.
STARVED_AFTER = 600.0


@dataclass(frozen=True, slots=True)
class Waits:
    """How long requests waited for their grant, in seconds. Those never granted count with
    what they had waited at the end."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float
    starved: int
    """Those that waited longer than `starved_after`, granted in the end or not."""


@dataclass(frozen=True, slots=True)
class Report:
    """One policy's outcome."""

    policy: str
    seconds: float
    """Makespan: from the beginning to the last answer, or to the horizon."""
    answered: int
    unserved: int
    """Still waiting when it ended."""
    rejected: int
    starts: int
    swaps: int
    """Models stopped to make room for another."""
    loading: float
    """Share of the time that the capacity spent on starts and stops."""
    throughput: float
    """Answers a second."""
    fairness: float
    """Jain's index of the models' speeds; 1 is even, 1/n is all for one."""
    waits: Waits
    models: Mapping[str, Waits]
    classes: Mapping[str, Waits]
    forecasts: Accuracy

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def measure(outcome: Outcome, policy: str, starved_after: float = STARVED_AFTER) -> Report:
    """Return the measures of one outcome."""
    names = outcome.workload.names
    models: list[list[float]] = [[] for _ in names]
    classes: dict[int, list[float]] = {}
    for model, priority, waited in zip(
        outcome.model, outcome.priority, outcome.waited, strict=True
    ):
        models[model].append(waited)
        classes.setdefault(priority, []).append(waited)
    return Report(
        policy=policy,
        seconds=outcome.end,
        answered=outcome.finished,
        unserved=outcome.unserved,
        rejected=len(outcome.rejected),
        starts=outcome.starts,
        swaps=outcome.evictions,
        loading=loading(outcome),
        throughput=outcome.finished / outcome.end if outcome.end else 0.0,
        fairness=jain(speeds(outcome)),
        waits=waits(outcome.waited, starved_after),
        models={
            name: waits(values, starved_after)
            for name, values in zip(names, models, strict=True)
            if values
        },
        classes={
            Priority(number).name.lower(): waits(classes[number], starved_after)
            for number in sorted(classes)
        },
        forecasts=accuracy(forecast_samples(outcome), left_out(outcome)),
    )


def waits(values: Iterable[float], starved_after: float = STARVED_AFTER) -> Waits:
    """Return the statistics of waits; zeros where there are none."""
    ordered = sorted(values)
    if not ordered:
        return Waits(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    return Waits(
        count=len(ordered),
        mean=math.fsum(ordered) / len(ordered),
        p50=quantile(ordered, 0.5),
        p95=quantile(ordered, 0.95),
        p99=quantile(ordered, 0.99),
        max=ordered[-1],
        starved=sum(value > starved_after for value in ordered),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values, linear between the two nearest; of none, 0."""
    if not ordered:
        return 0.0
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def loading(outcome: Outcome) -> float:
    """The share of the time in which the capacity loads and unloads instead of serving: each
    start and stop counts by the largest share of a resource that its model occupies."""
    if not outcome.end:
        return 0.0
    capacity = outcome.workload.capacity
    parts = [_part(model.needs, capacity) for model in outcome.workload.models]
    lost = sum(
        (span.end - span.begin) * parts[span.model]
        for span in outcome.spans
        if span.phase != "ready"
    )
    return lost / outcome.end


def _part(needs: Needs, capacity: Needs) -> float:
    there = dict(capacity)
    return max((units / there[name] for name, units in needs if there.get(name)), default=0.0)


def speeds(outcome: Outcome) -> list[float]:
    """For each model that was asked: the share of their time from arrival to answer in which
    its requests were served. 1: nobody ever waits; near 0: they starve."""
    waited = [0.0] * len(outcome.workload.names)
    served = [0.0] * len(outcome.workload.names)
    asked: set[int] = set()
    for model, wait, service, granted in zip(
        outcome.model, outcome.waited, outcome.service, outcome.served, strict=True
    ):
        asked.add(model)
        waited[model] += wait
        if granted:
            served[model] += service
    return [
        served[model] / (served[model] + waited[model])
        if served[model]
        else float(not waited[model])
        for model in sorted(asked)
    ]


def jain(values: Sequence[float]) -> float:
    """Jain's fairness index: (sum x)^2 / (n * sum x^2); 1 for none and for all zeros."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


#: Seconds waited at which the forecasts of a queued request are noted.
AGES = (0.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class ForecastSample:
    """One forecast, the naive one of the same moment, and the actual wait. Seconds."""

    age: float
    predicted: float
    spread: float
    naive: float | None
    """The mean of what others for the same model had still waited at that age, of those who
    were granted before; None where there were none."""
    actual: float

    @property
    def error(self) -> float:
        """Above 0 where the forecast was too long."""
        return self.predicted - self.actual


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Statistics of many forecasts; zeros where there are none."""

    count: int
    median: float
    p90: float
    """Of the absolute errors, in seconds."""
    bias: float
    """The mean error: above 0 where forecasts are too long."""
    within_one: float
    """The share of errors within the forecast's own spread."""
    within_two: float
    left_out: int
    """Forecasts of requests that were never granted."""


def forecast_samples(outcome: Outcome) -> list[ForecastSample]:
    """Every forecast noted of a request that was granted, in the order of time."""
    seen = _WaitsSoFar(outcome)
    found = []
    for one in outcome.forecasts:
        request = one.request
        if not outcome.served[request]:
            continue
        naive = seen.mean(outcome.model[request], one.age, outcome.arrived[request] + one.age)
        actual = outcome.waited[request] - one.age
        found.append(ForecastSample(one.age, one.seconds, one.spread, naive, actual))
    return found


def left_out(outcome: Outcome) -> int:
    """Forecasts noted of requests that were never granted."""
    return sum(not outcome.served[one.request] for one in outcome.forecasts)


def accuracy(some: Sequence[ForecastSample], left_out: int = 0) -> Accuracy:
    """Return the statistics of these forecasts."""
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


def _within(some: Sequence[ForecastSample], spreads: int) -> float:
    # A microsecond, for what is exact up to rounding.
    return sum(abs(one.error) <= spreads * one.spread + 1e-6 for one in some) / len(some)


@dataclass(slots=True)
class _WaitsSoFar:
    """The waits of those granted up to a moment, which only advances: the naive forecast."""

    outcome: Outcome
    _granted: list[tuple[float, int]] = field(init=False)
    _next: int = 0
    _sums: dict[tuple[int, float], tuple[int, float]] = field(default_factory=dict)
    """By model and age: how many waited longer, and how much longer in all."""
    _ages: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        outcome = self.outcome
        self._ages = tuple(sorted({one.age for one in outcome.forecasts}))
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
