"""What those who wait were told, beside what came."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from bench.scheduling import agents, open, trickle
from bench.scheduling.common import OURS, SERVICE, Bench, Check, number, run, spread
from launcher.simulate.measure import (
    AGES,
    ForecastSample,
    accuracy,
    forecast_samples,
    left_out,
    p90,
)
from launcher.simulate.workload import Workload, fixed, open_traffic, zipf

RATES = (0.1, 0.4, 0.8)
VARIATION = 3.0
HOURS = 2.0
#: The spread is to hold for two of three.
LEAST, MOST = 0.60, 0.75
#: "Clearly below" the naive forecast's median error.
CLEARLY = 0.8


@dataclass(frozen=True)
class Case:
    """Which traffic, for how long."""

    kind: str
    seed: int
    hours: float


@dataclass(frozen=True)
class Result:
    """All forecasts noted in one simulation, and how many of them came to nothing."""

    compared: list[ForecastSample]
    left_out: int


def _open(rate: float) -> Callable[[Case], Workload]:
    def workload(case: Case) -> Workload:
        requests = open_traffic(
            zipf(6),
            rate=rate,
            variation=VARIATION,
            service=fixed(SERVICE),
            until=case.hours * 3600,
            seed=case.seed,
        )
        return Workload(open.models(6), requests, seed=case.seed)

    return workload


WORKLOADS: dict[str, Callable[[Case], Workload]] = {
    **{f"open, {rate:g}/s": _open(rate) for rate in RATES},
    "2 agents": lambda case: agents.workload(agents.Case("two", case.seed, case.hours)),
    "trickle": lambda case: trickle.workload(trickle.Case(case.seed, case.hours)),
}


def simulated(case: Case) -> Result:
    """One run of the product's policy."""
    outcome = run(WORKLOADS[case.kind](case), OURS, AGES)
    return Result(forecast_samples(outcome), left_out(outcome))


def bench(seeds: int, quick: bool = False) -> Bench:
    """Each workload, by how long they had waited when they were told."""
    hours = HOURS / 4 if quick else HOURS
    cases = [Case(kind, seed, hours) for kind in WORKLOADS for seed in range(seeds)]
    found = spread(simulated, cases, "forecasts")
    result = Bench(
        "Forecasts: what those who wait are told",
        (
            "workload",
            "waited",
            "forecasts",
            "error p50",
            "p90",
            "bias",
            "within ±",
            "within 2 ±",
            "naive p50",
            "p90",
            "naive bias",
            "left out",
        ),
    )
    result.notes.append(
        f"{hours:g} h each, {seeds} seeds, {OURS}: seconds still to wait as foreseen, against "
        "what came. Naive is the mean of what others for the same model had still waited."
    )
    for place, kind in enumerate(WORKLOADS):
        seeded = found[place * seeds : (place + 1) * seeds]
        every = [one for result in seeded for one in result.compared]
        lost = sum(result.left_out for result in seeded)
        result.rows.append(row(kind, "all", every, f"{lost:,}"))
        for age in AGES:
            of = [one for one in every if one.age == age]
            if of:
                result.rows.append(row("", f"{age:g} s", of))
        share = accuracy(every).within_one
        result.checks += [
            Check(f"{kind}: share within the spread", [share], LEAST, at_least=True),
            Check(f"{kind}: the same, no more than", [share], MOST),
            Check(f"{kind}: median error, of the naive one's", [against_naive(every)], CLEARLY),
        ]
    return result


def row(kind: str, waited: str, some: list[ForecastSample], lost: str = "") -> tuple[str, ...]:
    """One line of the table."""
    ours = accuracy(some)
    naive = [one.naive - one.actual for one in some if one.naive is not None]
    errors = sorted(abs(error) for error in naive)
    return (
        kind,
        waited,
        f"{ours.count:,}",
        number(ours.median),
        number(ours.p90),
        f"{ours.bias:+.1f}",
        f"{ours.within_one:.0%}",
        f"{ours.within_two:.0%}",
        number(statistics.median(errors)) if errors else "",
        number(p90(errors)) if errors else "",
        f"{statistics.fmean(naive):+.1f}" if errors else "",
        lost,
    )


def against_naive(some: list[ForecastSample]) -> float:
    """Our median absolute error as a share of the naive one's, where there is a naive one."""
    both = [(abs(one.error), abs(one.naive - one.actual)) for one in some if one.naive is not None]
    if not both:
        return 1.0
    ours, naive = (statistics.median(errors) for errors in zip(*both, strict=True))
    return ours / naive if naive else 1.0
