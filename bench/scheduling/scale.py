"""What a decision costs: `handle` with 1,000 backends, 64 GPUs, up to 10,000 queued tickets.

The scheduler is brought to a steady state in which everything is busy and the queues are as
long as wanted; then each kind of event is timed by itself, its follow-ups not. The unit beside
microseconds is a push onto and a pop from a heap of as many entries, on the same machine.
"""

from __future__ import annotations

import heapq
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from bench.scheduling.common import OURS, Bench, Check, make, number, run
from launcher.core import events as ev
from launcher.core.effects import Admit, Decided, Effect, Start, Stop, WakeAt
from launcher.core.types import BackendId, BackendSpec, Placement, Ticket, TicketId
from launcher.simulate.measure import quantile
from launcher.simulate.workload import Model, Workload, fixed, open_traffic, zipf

BACKENDS, GPUS = 1_000, 64
#: Enough for all that are not up to be waited for at each size: only the tickets grow.
QUEUED = (4_000, 10_000, 40_000)
ROUNDS = 300
MILLION, AIM_SECONDS = 1_000_000, 120.0
#: Ten times the tickets may cost so much more: log 40,000 / log 4,000 is 1.28; the rest is for
#: caches and what else the machine does.
GROWTH = 2.0
#: Fewer times than this say nothing of growth.
FEWEST = 20
#: Seconds between two events: a thousand backends that wait make a minimum residency of hours,
#: which has to pass for anybody to be evicted.
STEP = 120.0


@dataclass
class World:
    """A scheduler under load, and what it is owed."""

    queued: int
    now: float = 0.0
    wake: float = float("inf")
    tickets: int = 0
    waiting: int = 0
    flying: list[TicketId] = field(default_factory=list)
    starting: list[Start] = field(default_factory=list)
    stopping: list[Stop] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)
    random: Random = field(default_factory=lambda: Random(1))

    def __post_init__(self) -> None:
        self.scheduler = make(OURS, (("gpu", GPUS),))
        self.names = [BackendId(f"model-{n:04}") for n in range(BACKENDS)]
        place = (Placement((("gpu", 1),)),)
        self.feed(
            ev.SpecsChanged(
                tuple(
                    BackendSpec(name, place, start_timeout=1e9, max_queue=1 << 30, max_in_flight=8)
                    for name in self.names
                )
            )
        )
        for name in self.names:
            self.feed(ev.Observed(name, self.scheduler.epoch(name), running=False))
        while self.waiting < self.queued:
            self.arrive()

    def feed(self, event: ev.Event, kind: str = "") -> list[Effect]:
        """Handle it, timed if it has a kind."""
        begin = time.process_time()
        effects = self.scheduler.handle(event, self.now)
        took = time.process_time() - begin
        if kind:
            if any(isinstance(effect, Decided) and effect.wanted_by for effect in effects):
                kind = f"{kind}, evicts"
            self.times.setdefault(kind, []).append(took * 1e6)
        for effect in effects:
            match effect:
                case Admit(ticket):
                    self.flying.append(ticket)
                    self.waiting -= 1
                case Start():
                    self.starting.append(effect)
                case Stop():
                    self.stopping.append(effect)
                case WakeAt(at):
                    self.wake = at
                case _:
                    pass
        return effects

    def arrive(self, kind: str = "") -> None:
        """A ticket for any backend."""
        self.tickets += 1
        self.waiting += 1
        name = self.random.choice(self.names)
        self.feed(ev.Arrived(Ticket(TicketId(self.tickets), (name,))), kind)

    def turn(self, kind: str) -> None:
        """One timed event of this kind, if there is one to be had; and what keeps things going:
        as many arrive as are granted."""
        self.now += STEP
        if kind == "Arrived":
            self.arrive(kind)
        elif kind == "Released" and self.flying:
            place = self.random.randrange(len(self.flying))
            self.flying[place], self.flying[-1] = self.flying[-1], self.flying[place]
            self.feed(ev.Released(self.flying.pop()), kind)
        elif kind == "Abandoned":
            self.tickets += 1
            id = TicketId(self.tickets)
            self.waiting += 1
            before = self.waiting
            self.feed(ev.Arrived(Ticket(id, (self.random.choice(self.names),))))
            if self.waiting == before:
                self.feed(ev.Abandoned(id), kind)
                self.waiting -= 1
        elif kind == "Started" and self.starting:
            start = self.starting.pop(0)
            self.feed(ev.Started(start.backend, start.epoch, "i"), kind)
        elif kind == "Stopped" and self.stopping:
            stop = self.stopping.pop(0)
            self.feed(ev.Stopped(stop.backend, stop.epoch), kind)
        elif kind == "Tick":
            self.now = max(self.now, min(self.wake, self.now + 1.0))
            self.wake = float("inf")
            self.feed(ev.Tick(), kind)
        while self.waiting < self.queued:
            self.arrive()


KINDS = ("Arrived", "Released", "Abandoned", "Started", "Stopped", "Tick")


def heap_unit(size: int) -> float:
    """Microseconds of a push and a pop, the median of many."""
    random = Random(2)
    heap = [(random.random(), n) for n in range(size)]
    heapq.heapify(heap)
    entries = [(random.random(), n) for n in range(1_000)]

    def pairs() -> None:
        for entry in entries:
            heapq.heappush(heap, entry)
            heapq.heappop(heap)

    return statistics.median(timed(pairs) * 1e6 / len(entries) for _ in range(20))


def measured(queued: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds by kind of event, sorted."""
    world = World(queued)
    for _ in range(rounds):
        for kind in KINDS:
            world.turn(kind)
    return {kind: sorted(times) for kind, times in world.times.items()}


def million(count: int) -> tuple[float, int]:
    """Seconds that a trace takes, and how many requests it had."""
    models = tuple(Model(f"model-{n}", max_in_flight=8) for n in range(6))
    requests = open_traffic(
        zipf(6),
        rate=0.8,
        variation=3.0,
        service=fixed(5.0),
        until=count / 0.8,
        seed=1,
    )
    return timed(lambda: run(Workload(models, requests), OURS)), len(requests)


def timed(work: Callable[[], object]) -> float:
    """Seconds of this process's work that it takes: others on the machine don't count."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def bench(quick: bool = False) -> Bench:
    """Events at each size, then a long trace."""
    rounds = ROUNDS // 5 if quick else ROUNDS
    result = Bench(
        f"Scale: {BACKENDS:,} backends, {GPUS} GPUs",
        ("event", "queued", "times", "median µs", "p99 µs", "median, in heap pairs", "p99"),
    )
    medians: dict[tuple[str, int], float] = {}
    found: dict[int, dict[str, list[float]]] = {}
    for queued in QUEUED:
        unit = heap_unit(queued)
        found[queued] = measured(queued, rounds)
        for kind, times in sorted(found[queued].items()):
            median, p99 = quantile(times, 0.5), quantile(times, 0.99)
            medians[kind, queued] = median
            result.rows.append(
                (
                    kind,
                    f"{queued:,}",
                    f"{len(times):,}",
                    number(median),
                    number(p99),
                    number(median / unit),
                    number(p99 / unit),
                )
            )
    for kind in sorted({kind for kind, _ in medians}):
        few, many = medians.get((kind, QUEUED[0])), medians.get((kind, QUEUED[-1]))
        if few and many and len(found[QUEUED[0]][kind]) >= FEWEST:
            what = f"{kind}: {QUEUED[-1] // QUEUED[0]} times the tickets cost"
            result.checks.append(Check(what, [many / few], GROWTH))
    asked = MILLION // 20 if quick else MILLION
    seconds, count = million(asked)
    note = "" if not quick else f"from {count:,}"
    result.checks.append(
        Check(
            "seconds for a trace of a million", [seconds * MILLION / count], AIM_SECONDS, note=note
        )
    )
    return result
