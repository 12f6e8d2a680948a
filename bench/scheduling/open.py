"""Open traffic: six models by Zipf, bursty, from light to heavy."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench.scheduling.common import (
    ALL,
    ARRIVAL,
    AT_A_TIME,
    COLLATION,
    MAX_WAIT,
    OURS,
    SERVICE,
    START,
    STOP,
    Bench,
    Check,
    median_worst,
    reports,
    spread,
)
from launcher.simulate.measure import Report
from launcher.simulate.workload import Model, Workload, fixed, open_traffic, zipf

RATES = (0.04, 0.1, 0.2, 0.4, 0.8, 1.1, 1.4)
VARIATIONS = (3.0, 8.0)
#: At least so long, and long enough for so many requests.
HOURS, REQUESTS = 2.0, 600
#: Above, arrival order's queue only grows: three of four requests need a swap of 27 s.
HOPELESS = 0.4
#: A policy that makes somebody wait this long doesn't survive, or starves.
ENDLESS = 1800.0


@dataclass(frozen=True)
class Case:
    """One simulated afternoon."""

    rate: float
    variation: float
    apart: bool
    seed: int
    hours: float


def models(count: int) -> tuple[Model, ...]:
    """The usual ones."""
    return tuple(
        Model(
            f"model-{n + 1}",
            start=START,
            stop=STOP,
            max_in_flight=AT_A_TIME,
            max_wait=MAX_WAIT,
        )
        for n in range(count)
    )


def simulated(case: Case) -> dict[str, Report]:
    """The policies that stand a chance."""
    until = case.hours * 3600
    requests = open_traffic(
        zipf(6),
        rate=case.rate,
        variation=case.variation,
        service=fixed(SERVICE),
        until=until,
        seed=case.seed,
        apart=case.apart,
    )
    return reports(Workload(models(6), requests, seed=case.seed), tried(case.rate))


def tried(rate: float) -> tuple[str, ...]:
    """All but arrival order where that is hopeless."""
    return ALL if rate <= HOPELESS else (OURS, COLLATION)


def bench(seeds: int, quick: bool = False) -> Bench:
    """All rates, variations and both kinds of burst."""
    rates = RATES[1::3] if quick else RATES
    hours = 1.0 if quick else HOURS
    cells = [
        (rate, variation, apart)
        for apart in (False, True)
        for variation in VARIATIONS
        for rate in rates
    ]
    cases = [
        Case(*cell, seed, max(hours, 0.0 if quick else REQUESTS / cell[0] / 3600))
        for cell in cells
        for seed in range(seeds)
    ]
    found = spread(simulated, cases, "open")
    result = Bench(
        "Open traffic: six models, one slot",
        ("requests/s", "gaps' cv", "bursts", "policy", "swaps", "mean wait", "p95", "p99", "max"),
    )
    result.notes.append(
        f"{hours:g} h or more each, 5 s of service, {seeds} seeds: median (worst). Bursts "
        "are mixed (one stream, each request draws its model) or apart (one for each model). Above "
        f"{HOPELESS:g}/s arrival order's queue only grows, and isn't shown."
    )
    for place, (rate, variation, apart) in enumerate(cells):
        seeded = found[place * seeds : (place + 1) * seeds]
        kind = "apart" if apart else "mixed"
        for policy in tried(rate):
            of = [one[policy] for one in seeded]
            result.rows.append(
                (
                    f"{rate:g}",
                    f"{variation:g}",
                    kind,
                    policy,
                    median_worst(one.swaps for one in of),
                    median_worst(one.waits.mean for one in of),
                    median_worst(one.waits.p95 for one in of),
                    median_worst(one.waits.p99 for one in of),
                    median_worst(one.waits.max for one in of),
                )
            )
        result.checks += checks(f"{rate:g}/s, cv {variation:g}, {kind}", seeded)
    return result


def checks(cell: str, seeded: list[dict[str, Report]]) -> list[Check]:
    """Against collation where it starves nobody, against arrival order where that survives."""
    kept: list[Check] = []
    peers = [one for one in seeded if one[COLLATION].waits.max <= ENDLESS]
    if peers:
        note = "" if len(peers) == len(seeded) else f"{len(peers)} of {len(seeded)} seeds"
        for what, value in (
            ("swaps", lambda report: report.swaps),
            ("mean wait", lambda report: report.waits.mean),
            ("p95 wait", lambda report: report.waits.p95),
        ):
            ratios = [ratio(value(one[OURS]), value(one[COLLATION])) for one in peers]
            name = f"{cell}: {what}, of collation's"
            kept.append(Check(name, ratios, 1.1, by_median=True, note=note))
    alive = [one for one in seeded if ARRIVAL in one and survives(one[ARRIVAL])]
    if len(alive) * 2 > len(seeded):
        ratios = [ratio(one[OURS].waits.p99, one[ARRIVAL].waits.p99) for one in alive]
        note = f"{len(alive)} of {len(seeded)} seeds; median of arrival's p99: " + (
            f"{statistics.median(one[ARRIVAL].waits.p99 for one in alive):.0f} s"
        )
        name = f"{cell}: p99 wait, of arrival's"
        kept.append(Check(name, ratios, 0.5, by_median=True, note=note))
    return kept


def survives(report: Report) -> bool:
    """Nobody waits for ever."""
    return report.waits.max <= ENDLESS


def ratio(ours: float, theirs: float) -> float:
    """1 where both are nothing."""
    return ours / theirs if theirs else 1.0 if not ours else float("inf")
