"""Real arrivals: the hours of the Azure LLM inference trace 2023, split over six models.

The trace is of the Azure Public Dataset (CC BY 4.0), described in Patel et al., "Splitwise:
Efficient generative LLM inference using phase splitting", ISCA 2024. It isn't part of this
project: `--traces` names the directory with azure-llm-2023-code.csv and -conv.csv.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from random import Random

from bench.scheduling.common import (
    ALL,
    ARRIVAL,
    AT_A_TIME,
    COLLATION,
    OURS,
    START,
    STOP,
    Bench,
    Check,
    median_worst,
    reports,
    spread,
)
from bench.scheduling.open import models
from launcher.simulate.measure import Report
from launcher.simulate.workload import Requests, Workload, draw_model, zipf

MODELS = 6
#: How much slower than it was; 1 is the hour as it is.
STRETCHES = {"code": (1.0, 2.0, 4.0, 8.0), "conv": (1.0, 4.0, 6.0, 8.0, 16.0)}
#: Seconds by token: reading the context, and writing the answer.
BY_CONTEXT, BY_GENERATED = 0.0005, 0.02
LONGEST = 600.0


@dataclass(frozen=True)
class Case:
    """One file, one split."""

    directory: str
    kind: str
    stretch: float
    seed: int
    share: float


@lru_cache(maxsize=4)
def arrivals(directory: str, kind: str) -> list[tuple[float, float]]:
    """Seconds since the first, and seconds of service."""
    path = Path(directory) / f"azure-llm-2023-{kind}.csv"
    found: list[tuple[float, float]] = []
    first = None
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            moment = datetime.fromisoformat(row["TIMESTAMP"])
            first = first or moment
            service = (
                int(row["ContextTokens"]) * BY_CONTEXT + int(row["GeneratedTokens"]) * BY_GENERATED
            )
            found.append(((moment - first).total_seconds(), service))
    return sorted(found)


def load(directory: str, kind: str, stretch: float) -> float:
    """Offered work per slot: 1 needs all that is served at a time, without a single swap."""
    hour = arrivals(directory, kind)
    return sum(service for _, service in hour) / (hour[-1][0] * stretch * AT_A_TIME)


def can_be_served(offered: float) -> bool:
    """Whether a round over all models, each loaded once, can take ten minutes or less: in
    each the swaps take their time, and the rest has to suffice for the work."""
    return offered + MODELS * (START + STOP) / LONGEST <= 1


def simulated(case: Case) -> dict[str, Report]:
    """All three policies."""
    random = Random(f"{case.seed}/azure/{case.kind}")
    shares = zipf(MODELS)
    hour = arrivals(case.directory, case.kind)
    requests = Requests(
        (at * case.stretch, draw_model(shares, random), service, 1)
        for at, service in hour[: int(len(hour) * case.share)]
    )
    return reports(Workload(models(MODELS), requests, seed=case.seed), ALL)


def bench(seeds: int, directory: str, quick: bool = False) -> Bench:
    """Both files, as they are and stretched."""
    share = 0.2 if quick else 1.0
    cells = [(kind, stretch) for kind, some in STRETCHES.items() for stretch in some]
    if quick:
        cells = [("code", 1.0), ("conv", 8.0)]
    cases = [Case(directory, *cell, seed, share) for cell in cells for seed in range(seeds)]
    found = spread(simulated, cases, "azure")
    result = Bench(
        "The Azure LLM inference trace 2023, over six models",
        ("trace", "offered", "policy", "swaps", "mean wait", "p95", "p99", "max"),
    )
    result.notes += [
        f"Split by a Zipf draw, {seeds} seeds: median (worst). {BY_CONTEXT * 1000:g} ms by token "
        f"of context, {BY_GENERATED * 1000:g} ms by token generated. Offered is the work as a",
        f"share of what {AT_A_TIME} at a time can do with no swap at all; up to "
        f"{1 - MODELS * (START + STOP) / LONGEST:.2f} a round of all models can fit in "
        f"{LONGEST / 60:g} minutes.",
    ]
    for place, (kind, stretch) in enumerate(cells):
        seeded = found[place * seeds : (place + 1) * seeds]
        offered = load(directory, kind, stretch)
        name = f"{kind} x{stretch:g}"
        for policy in ALL:
            of = [one[policy] for one in seeded]
            result.rows.append(
                (
                    name,
                    f"{offered:.2f}",
                    policy,
                    median_worst(one.swaps for one in of),
                    median_worst(one.waits.mean for one in of),
                    median_worst(one.waits.p95 for one in of),
                    median_worst(one.waits.p99 for one in of),
                    median_worst(one.waits.max for one in of),
                )
            )
        if can_be_served(offered):
            note = ", ".join(
                f"{policy} {max(one[policy].waits.max for one in seeded):,.0f}"
                for policy in (COLLATION, ARRIVAL)
            )
            longest = [one[OURS].waits.max for one in seeded]
            result.checks.append(
                Check(f"{name} ({offered:.2f}): longest wait", longest, LONGEST, note=note)
            )
    return result
