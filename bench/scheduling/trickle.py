"""A saturated model and a trickle for another: nobody waits for ever, little is lost."""

from __future__ import annotations

from dataclasses import dataclass

from bench.scheduling.common import (
    ALL,
    AT_A_TIME,
    COLLATION,
    MAX_WAIT,
    OURS,
    START,
    STOP,
    Bench,
    Check,
    median_worst,
    number,
    run,
    spread,
)
from launcher.simulate.measure import measure
from launcher.simulate.workload import Model, Workload, between, clients, trickle

CLIENTS = 12
EVERY = 600.0
LEAST, MOST = 10.0, 30.0
SWAP = START + STOP
#: What may be queued when the drain begins: those beyond what is served at a time are served
#: after them, each of both at most so long.
QUEUED = -(-CLIENTS // AT_A_TIME) * MOST
#: max_wait, the minimum residency (one rival's swap), the work queued, one swap.
BOUND = MAX_WAIT + SWAP + QUEUED + SWAP


@dataclass(frozen=True)
class Case:
    """How long it goes on."""

    seed: int
    hours: float


@dataclass(frozen=True)
class Result:
    """One policy's time."""

    answers: int
    """From the saturated model."""
    trickle: tuple[int, int]
    """Requests of the trickle: all, and served."""
    mean: float
    longest: float
    """Of the trickle's waits."""


def workload(case: Case) -> Workload:
    """The busy one's clients and the rare one's trickle."""
    until = case.hours * 3600
    service = between(LEAST, MOST)
    models = tuple(
        Model(name, start=START, stop=STOP, max_in_flight=AT_A_TIME, max_wait=MAX_WAIT)
        for name in ("busy", "rare")
    )
    return Workload(
        models,
        trickle(1, every=EVERY, service=service, until=until, seed=case.seed),
        clients(CLIENTS, 0, service=service, think=between(0.0, 0.2)),
        horizon=until,
        seed=case.seed,
    )


def simulated(case: Case) -> dict[str, Result]:
    """All three policies."""
    results = {}
    for policy in ALL:
        outcome = run(workload(case), policy)
        rare = measure(outcome, policy).models["rare"]
        served = [0, 0]
        for model, granted in zip(outcome.model, outcome.served, strict=True):
            served[model] += granted
        results[policy] = Result(served[0], (rare.count, served[1]), rare.mean, rare.max)
    return results


def bench(seeds: int, hours: float, quick: bool = False) -> Bench:
    """`hours` in all, divided among the seeds."""
    each = 5.0 if quick else hours / seeds
    seeded = spread(simulated, [Case(seed, each) for seed in range(seeds)], "trickle")
    result = Bench(
        "A saturated model, and a trickle for another",
        ("policy", "busy one's answers/h", "trickle served", "its mean wait", "longest"),
    )
    result.notes.append(
        f"{CLIENTS} clients that hardly think ({LEAST:g} to {MOST:g} s of service, {AT_A_TIME} at "
        f"a time), one request in {EVERY:g} s for the other model; {seeds} seeds of {each:g} h "
        "each: median (worst)."
    )
    for policy in ALL:
        of = [one[policy] for one in seeded]
        total = sum(one.trickle[0] for one in of)
        result.rows.append(
            (
                policy,
                number(sum(one.answers for one in of) / (each * seeds)),
                f"{sum(one.trickle[1] for one in of):,} of {total:,}",
                median_worst(one.mean for one in of),
                median_worst(one.longest for one in of),
            )
        )
    note = f"{MAX_WAIT:g} + {SWAP:g} residency + {QUEUED:g} queued + {SWAP:g} swap"
    longest = [one[OURS].longest for one in seeded]
    result.checks.append(Check("longest wait of the trickle", longest, BOUND, note=note))
    kept = [one[OURS].answers / one[COLLATION].answers for one in seeded]
    result.checks.append(Check("busy one's answers, of collation's", kept, 0.8, at_least=True))
    return result
