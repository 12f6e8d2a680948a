"""Agents: clients that wait for their answer, think, and ask again."""

from __future__ import annotations

from dataclasses import dataclass

from bench.scheduling.common import (
    ALL,
    ARRIVAL,
    AT_A_TIME,
    COLLATION,
    MAX_WAIT,
    OURS,
    STOP,
    Bench,
    Check,
    median_worst,
    number,
    run,
    spread,
)
from launcher.simulate.measure import measure
from launcher.simulate.workload import Model, Requests, Workload, agents, fixed, together, trickle

HOURS = 6.0
START = 18.0
#: Both are better off lingering where their starts differ, too.
UNEVEN = 36.0


@dataclass(frozen=True)
class Case:
    """Which agents, for how long."""

    kind: str
    seed: int
    hours: float


@dataclass(frozen=True)
class Result:
    """One policy's six hours."""

    answers: int
    """To the agents."""
    share: float
    """The first agent's."""
    swaps: int
    trickle_max: float


def workload(case: Case) -> Workload:
    """Two agents, evenly and unevenly slow to start, or three and a trickle for two more."""
    until = case.hours * 3600
    count = 5 if case.kind == "three" else 2
    models = tuple(
        Model(
            f"model-{n + 1}",
            start=UNEVEN if case.kind == "uneven" and n else START,
            stop=STOP,
            max_in_flight=AT_A_TIME,
            max_wait=MAX_WAIT,
        )
        for n in range(count)
    )
    requests = Requests()
    if case.kind == "three":
        parts = [
            trickle(model, every=600.0, service=fixed(4.0), until=until, seed=case.seed)
            for model in (3, 4)
        ]
        requests = together(*parts)
    loops = agents(range(3 if case.kind == "three" else 2))
    return Workload(models, requests, loops, horizon=until, seed=case.seed)


def simulated(case: Case) -> dict[str, Result]:
    """All three policies."""
    results = {}
    for policy in ALL:
        outcome = run(workload(case), policy)
        report = measure(outcome, policy)
        answered = [0, 0, 0]
        for request, loop in outcome.loop.items():
            answered[loop] += outcome.served[request]
        results[policy] = Result(
            answers=sum(answered),
            share=answered[0] / (sum(answered) or 1),
            swaps=report.swaps,
            trickle_max=max(
                (
                    report.models[name].max
                    for name in ("model-4", "model-5")
                    if name in report.models
                ),
                default=0.0,
            ),
        )
    return results


def bench(seeds: int, quick: bool = False) -> Bench:
    """Two agents, two of unequal starts, three with a trickle."""
    hours = 2.0 if quick else HOURS
    kinds = {
        "two": "2 agents",
        "uneven": "2 agents, starts 18 and 36 s",
        "three": "3 agents, trickle",
    }
    cases = [Case(kind, seed, hours) for kind in kinds for seed in range(seeds)]
    found = spread(simulated, cases, "agents")
    result = Bench(
        "Agents: ask, wait, think, ask again",
        ("workload", "policy", "answers", "swaps", "longest trickle wait", "first's share"),
    )
    result.notes.append(f"{hours:g} h, {seeds} seeds: median (worst, or least and most).")
    for place, (kind, title) in enumerate(kinds.items()):
        seeded = found[place * seeds : (place + 1) * seeds]
        for policy in ALL:
            of = [one[policy] for one in seeded]
            answers = sorted(one.answers for one in of)
            shares = sorted(one.share for one in of)
            result.rows.append(
                (
                    title,
                    policy,
                    f"{number(answers[len(answers) // 2])} ({number(answers[0])})",
                    median_worst(one.swaps for one in of),
                    median_worst(one.trickle_max for one in of) if kind == "three" else "",
                    f"{shares[0]:.2f} to {shares[-1]:.2f}" if kind != "three" else "",
                )
            )
        aim = 2.0 if kind == "three" else 3.0
        for policy in (COLLATION, ARRIVAL):
            if kind == "uneven":
                continue
            ratios = [one[OURS].answers / max(1, one[policy].answers) for one in seeded]
            result.checks.append(
                Check(f"{title}: answers, of {policy}'s", ratios, aim, at_least=True)
            )
        if kind == "two":
            uneven = [abs(one[OURS].share - 0.5) for one in seeded]
            result.checks.append(Check(f"{title}: share, off one half", uneven, 0.05))
    return result
