"""How far from the best that anybody could do who knows the future.

Twelve requests over three models, one slot. The optimum is exact, by dynamic programming over
what has been served: of one model's requests, all of one length, first come first served is
optimal, so a count per model says which. Beside the counts, a state has the resident model,
the time from which it is ready and the time at which its last answer ends; of two states that
differ only in times and cost, the one that is nowhere better is dropped.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from random import Random

from bench.scheduling.common import (
    ALL,
    AT_A_TIME,
    COLLATION,
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
from bench.scheduling.open import models
from launcher.simulate.measure import quantile
from launcher.simulate.workload import Requests, Workload

REQUESTS, MODELS = 12, 3
#: All of an instance comes within a time between these two. Seconds.
SHORTEST, LONGEST = 30.0, 600.0

#: Two who know the future: one loads what was asked for, the other also ahead of that.
LAZY, EARLY = "lazy optimum", "optimum that loads ahead"

#: Ready from, last answer's end, sum of waits.
Label = tuple[float, float, float]


@dataclass(frozen=True)
class Instance:
    """Arrival times by model, the first at 0."""

    times: tuple[tuple[float, ...], ...]


def instance(seed: int) -> Instance:
    """A random one in which no model has more requests than are served at a time, so that this
    bound, which the dynamic programme doesn't know, plays no part."""
    random = Random(f"optimum/{seed}")
    window = random.uniform(SHORTEST, LONGEST)
    while True:
        times: list[list[float]] = [[] for _ in range(MODELS)]
        for _ in range(REQUESTS):
            times[random.randrange(MODELS)].append(random.uniform(0.0, window))
        if max(map(len, times)) <= AT_A_TIME:
            break
    first = min(min(some) for some in times if some)
    return Instance(tuple(tuple(sorted(at - first for at in some)) for some in times))


def optimum(given: Instance, *, early: bool = False) -> float:
    """The least sum of waits of those who know all that will come. A lazy one begins to load
    a model when somebody has asked for it; an `early` one may do so before."""
    times = given.times
    goal = tuple(map(len, times))
    start = (0,) * MODELS
    # By what was served and who is resident; each step serves one more request, so states
    # are done in the order of their sums.
    layers: list[dict[tuple[tuple[int, ...], int], list[Label]]] = [
        {} for _ in range(sum(goal) + 1)
    ]
    layers[0][start, -1] = [(0.0, 0.0, 0.0)]
    for done, layer in enumerate(layers[:-1]):
        for (served, resident), labels in layer.items():
            for label in labels:
                for model in range(MODELS):
                    count = served[model]
                    if count == goal[model]:
                        continue
                    after = _serve(label, resident, model, times[model][count], early)
                    key = ((*served[:model], count + 1, *served[model + 1 :]), model)
                    _keep(layers[done + 1].setdefault(key, []), after)
    return min(label[2] for labels in layers[-1].values() for label in labels)


def _serve(label: Label, resident: int, model: int, arrival: float, early: bool) -> Label:
    """The model's next request is served as soon as it can be."""
    ready, ends, cost = label
    if model != resident:
        go = ends if early else max(ends, arrival)
        ready = go + START + (STOP if resident >= 0 else 0.0)
        ends = ready
    granted = max(ready, arrival)
    return ready, max(ends, granted + SERVICE), cost + granted - arrival


def _keep(labels: list[Label], new: Label) -> None:
    """Add it unless another is as good in everything; drop those that it beats."""
    if any(old[0] <= new[0] and old[1] <= new[1] and old[2] <= new[2] for old in labels):
        return
    labels[:] = [
        old for old in labels if not (new[0] <= old[0] and new[1] <= old[1] and new[2] <= old[2])
    ]
    labels.append(new)


def simulated(seed: int) -> dict[str, float]:
    """Sums of waits: of each policy, and the optima."""
    given = instance(seed)
    requests = Requests(
        sorted((at, model, SERVICE, 1) for model, some in enumerate(given.times) for at in some)
    )
    sums = {policy: sum(run(Workload(models(MODELS), requests), policy).waited) for policy in ALL}
    return sums | {
        EARLY: optimum(given, early=True),
        LAZY: optimum(given),
    }


def bench(instances: int) -> Bench:
    """The distribution of each policy's ratio to the optimum."""
    found = spread(simulated, range(instances), "optimum")
    result = Bench(
        "Against the exact optimum",
        ("policy", "ratio to the", "mean", "p50", "p90", "p99", "worst", "as good"),
    )
    result.notes.append(
        f"{instances:,} instances of {REQUESTS} requests over {MODELS} models within "
        f"{SHORTEST:g} to {LONGEST:g} s; ratios of total waits. Both optima know the future; the "
        "lazy one, like any launcher, loads nothing that nobody has asked for."
    )
    means: dict[tuple[str, str], float] = {}
    for bound in (LAZY, EARLY):
        for policy in ALL:
            ratios = sorted(one[policy] / one[bound] for one in found)
            means[policy, bound] = statistics.fmean(ratios)
            result.rows.append(
                (
                    policy,
                    bound,
                    f"{means[policy, bound]:.3f}",
                    number(quantile(ratios, 0.5)),
                    number(quantile(ratios, 0.9)),
                    number(quantile(ratios, 0.99)),
                    number(ratios[-1]),
                    f"{sum(ratio < 1.0001 for ratio in ratios) / len(ratios):.0%}",
                )
            )
    ours, peer = means[OURS, LAZY], means[COLLATION, LAZY]
    result.checks += [
        Check(f"mean ratio to the {LAZY}", [ours], 1.3),
        Check("the same, no higher than collation's", [ours], peer),
    ]
    return result
