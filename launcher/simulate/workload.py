"""What is simulated: models, the requests that come by themselves, the clients that wait for
their answer before they ask again. Times are in seconds on the simulation's clock."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from launcher.core.types import BackendId, BackendSpec, Needs, Placement, Priority

#: Draws one time in seconds.
Draw = Callable[[Random], float]
#: When it arrives, the number of its model, its service time, its class.
Request = tuple[float, int, float, int]

ONE_SLOT: Needs = (("gpu", 1),)
#: A simulated queue is as long as it gets: what a policy can't serve has to show as waits.
NO_QUEUE_LIMIT = 1 << 40


@dataclass(frozen=True, slots=True)
class Model:
    """A model server: what it occupies and how long it takes."""

    name: str
    needs: Needs = ONE_SLOT
    start: float = 25.0
    stop: float = 2.0
    jitter: float = 0.0
    """Starts and stops take up to this share more or less, evenly."""
    max_in_flight: int | None = 8
    max_wait: float = 60.0
    priority: Priority = Priority.NORMAL
    """The class of requests that name none."""
    idle_timeout: float = math.inf
    linger: float = math.inf

    def spec(self) -> BackendSpec:
        """As the scheduler knows it: what it takes is guessed well, then measured."""
        return BackendSpec(
            BackendId(self.name),
            (Placement(self.needs),),
            idle_timeout=self.idle_timeout,
            start_timeout=max(600.0, 4 * self.start),
            max_queue=NO_QUEUE_LIMIT,
            max_in_flight=self.max_in_flight,
            linger=self.linger,
            start_guess=self.start,
            stop_guess=self.stop,
        )


@dataclass(frozen=True, slots=True)
class Loop:
    """A client that asks, waits for the answer, thinks, and asks again: an agent."""

    model: int
    service: Draw
    think: Draw
    begin: float = 0.0
    priority: Priority = Priority.NORMAL


class Requests:
    """Open arrivals in the order of time, kept in columns: a million take 20 MB.

    Iterating gives `Request`s, as often as wanted.
    """

    __slots__ = ("at", "model", "priority", "service")

    def __init__(self, rows: Iterable[Request] = ()) -> None:
        self.at = array("d")
        self.model = array("H")
        self.service = array("d")
        self.priority = array("B")
        for row in rows:
            self.add(*row)

    def add(self, at: float, model: int, service: float, priority: int = Priority.NORMAL) -> None:
        """Append one; `in_order` puts them right afterwards."""
        self.at.append(at)
        self.model.append(model)
        self.service.append(service)
        self.priority.append(priority)

    def in_order(self) -> Requests:
        """The same ones sorted by time; those of one moment stay in their order."""
        times = self.at
        order = sorted(range(len(times)), key=times.__getitem__)
        return Requests((times[n], self.model[n], self.service[n], self.priority[n]) for n in order)

    def __iter__(self) -> Iterator[Request]:
        return zip(self.at, self.model, self.service, self.priority, strict=True)

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True, slots=True)
class Workload:
    """All that is given; the policy is what is tried on it."""

    models: tuple[Model, ...]
    requests: Iterable[Request] = ()
    """In the order of time."""
    loops: tuple[Loop, ...] = ()
    capacity: Needs = ONE_SLOT
    horizon: float = math.inf
    """Everything ends here; without loops it may be infinite: the end is the last answer."""
    queue_timeout: float = math.inf
    """How long a request waits at most before it is rejected."""
    batch_max_wait: float = 1800.0
    """As in the configuration: what bounds the waits of the lower classes."""
    seed: int = 0
    """Of what the models and loops draw; it doesn't depend on the policy."""
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.loops and self.horizon == math.inf:
            raise ValueError("loops go on for ever: they need a horizon")
        object.__setattr__(self, "names", tuple(model.name for model in self.models))
        if len(set(self.names)) != len(self.names):
            raise ValueError("two models have the same name")


def fixed(seconds: float) -> Draw:
    """Always the same time."""
    return lambda _: seconds


def between(least: float, most: float) -> Draw:
    """Evenly spread."""
    return lambda random: random.uniform(least, most)


def exponential(mean: float) -> Draw:
    """Memoryless, with this mean."""
    return lambda random: random.expovariate(1 / mean)
