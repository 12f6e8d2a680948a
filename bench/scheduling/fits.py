"""Where all models fit together, nobody is stopped and nobody waits but for the starts."""

from __future__ import annotations

from dataclasses import dataclass

from bench.scheduling.common import (
    ALL,
    AT_A_TIME,
    OURS,
    SERVICE,
    START,
    STOP,
    Bench,
    Check,
    number,
    run,
    spread,
)
from launcher.simulate.workload import Model, Workload, agents, fixed, open_traffic

HOURS = 4.0


@dataclass(frozen=True)
class Case:
    """One seed."""

    seed: int
    hours: float


@dataclass(frozen=True)
class Result:
    """What shouldn't be."""

    swaps: int
    later: float
    """The longest wait of a request that didn't come during a start."""
    starting: float
    """The longest of one that did."""


def simulated(case: Case) -> dict[str, Result]:
    """Two models on two places: bursts and agents at once, without a bound of what is served
    at a time, so that a wait can only be for a start."""
    until = case.hours * 3600
    models = tuple(
        Model(f"model-{n + 1}", start=START, stop=STOP, max_in_flight=None) for n in range(2)
    )
    requests = open_traffic(
        (0.5, 0.5),
        rate=0.05 * AT_A_TIME,
        variation=3.0,
        service=fixed(SERVICE),
        until=until,
        seed=case.seed,
    )
    workload = Workload(
        models,
        requests,
        agents((0, 1)),
        capacity=(("gpu", 2),),
        horizon=until,
        seed=case.seed,
    )
    results = {}
    for policy in ALL:
        outcome = run(workload, policy)
        up = [
            [
                (span.begin, span.end)
                for span in outcome.spans
                if span.model == model and span.phase == "starting"
            ]
            for model in range(2)
        ]
        later = starting = 0.0
        for model, arrived, waited in zip(
            outcome.model, outcome.arrived, outcome.waited, strict=True
        ):
            if any(begin <= arrived < end for begin, end in up[model]):
                starting = max(starting, waited)
            else:
                later = max(later, waited)
        results[policy] = Result(outcome.evictions, later, starting)
    return results


def bench(seeds: int, quick: bool = False) -> Bench:
    """Nothing has to happen."""
    hours = 1.0 if quick else HOURS
    seeded = spread(simulated, [Case(seed, hours) for seed in range(seeds)], "fits")
    result = Bench("Both models fit", ("policy", "swaps", "longest wait", "during a start"))
    for policy in ALL:
        of = [one[policy] for one in seeded]
        result.rows.append(
            (
                policy,
                number(max(one.swaps for one in of)),
                number(max(one.later for one in of)),
                number(max(one.starting for one in of)),
            )
        )
    ours = [one[OURS] for one in seeded]
    result.checks += [
        Check("swaps", [float(one.swaps) for one in ours], 0.0),
        Check("longest wait but for a start", [one.later for one in ours], 0.0),
        Check("longest wait during a start", [one.starting for one in ours], START),
    ]
    return result
