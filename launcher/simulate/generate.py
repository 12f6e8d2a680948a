"""Made-up traffic: how popular models are, how requests bunch, what agents do.

Everything is drawn from seeds; the same arguments give the same traffic.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import accumulate
from random import Random

from launcher.core.types import Priority
from launcher.simulate.workload import Draw, Loop, Request, Requests, between, fixed


def zipf(count: int, exponent: float = 1.0) -> tuple[float, ...]:
    """Shares of `count` models: the n-th most popular is asked n^-exponent as often as the
    first. They add up to 1."""
    raw = [n**-exponent for n in range(1, count + 1)]
    return tuple(share / sum(raw) for share in raw)


def draw_model(shares: Sequence[float], random: Random) -> int:
    """One model's number, by its share."""
    sums = list(accumulate(shares))
    return min(bisect(sums, random.random() * sums[-1]), len(sums) - 1)


def gamma_times(rate: float, variation: float, until: float, random: Random) -> Iterator[float]:
    """Arrival times with Gamma-distributed gaps, up to `until`.

    `variation` is the gaps' coefficient of variation: 1 is a Poisson process, above 1 requests
    come in bursts. The rate is the long run's, requests a second.
    """
    shape = variation**-2
    scale = 1 / (rate * shape)
    # The first gap is cut at random: watching begins somewhere in the middle of things.
    at = random.gammavariate(shape, scale) * random.random()
    while at < until:
        yield at
        at += random.gammavariate(shape, scale)


def open_traffic(
    shares: Sequence[float],
    *,
    rate: float,
    variation: float,
    service: Draw,
    until: float,
    seed: int,
    apart: bool = False,
    priorities: Sequence[Priority] = (),
) -> Requests:
    """Requests that come whether or not others are answered, `rate` a second in all.

    One bursty stream whose requests name models at random by their shares; or, with `apart`,
    a bursty stream for each model: a burst then asks for one model.
    """
    random = Random(f"{seed}/open")
    classes = priorities or [Priority.NORMAL] * len(shares)

    def drawn(at: float, model: int) -> Request:
        return at, model, service(random), classes[model]

    if not apart:
        return Requests(
            drawn(at, draw_model(shares, random))
            for at in gamma_times(rate, variation, until, random)
        )
    streams = [
        [(at, model) for at in gamma_times(rate * share, variation, until, random)]
        for model, share in enumerate(shares)
        if share > 0
    ]
    return Requests(drawn(at, model) for at, model in merge(*streams))


def trickle(model: int, *, every: float, service: Draw, until: float, seed: int) -> Requests:
    """A few requests for one model, Poisson, one in `every` seconds."""
    random = Random(f"{seed}/trickle/{model}")
    return Requests(
        (at, model, service(random), Priority.NORMAL)
        for at in gamma_times(1 / every, 1.0, until, random)
    )


def together(*parts: Requests) -> Requests:
    """Several streams as one, in the order of time."""
    return Requests(merge(*parts))


def agents(
    models: Sequence[int],
    *,
    service: Draw | None = None,
    think: Draw | None = None,
    priorities: Sequence[Priority] = (),
) -> tuple[Loop, ...]:
    """One agent for each model named: 4 s of service, 0.3 to 2 s of thinking."""
    classes = priorities or [Priority.NORMAL] * len(models)
    return tuple(
        Loop(model, service or fixed(4.0), think or between(0.3, 2.0), 0.1 * number, priority)
        for number, (model, priority) in enumerate(zip(models, classes, strict=True))
    )


def clients(count: int, model: int, *, service: Draw, think: Draw) -> tuple[Loop, ...]:
    """Closed-loop clients of one model, which ask again as soon as they have thought."""
    return tuple(Loop(model, service, think, begin=0.01 * number) for number in range(count))
