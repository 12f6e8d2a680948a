"""The discrete-event loop: the product's own `Scheduler` on a virtual clock.

It stands in for the dispatcher and the drivers: a Start becomes Started after
the model's start time, a Stop becomes Stopped, a Admit becomes Released after the request's
service time, a WakeAt becomes a Tick. Every decision is the scheduler's.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Literal, Protocol

from launcher.core import events as ev
from launcher.core.effects import (
    Admit,
    Decided,
    Effect,
    PermitClosed,
    PermitOpened,
    PrewarmSkipped,
    Reject,
    Start,
    Stop,
    WakeAt,
)
from launcher.core.forecast import Forecasts
from launcher.core.types import (
    BackendId,
    Needs,
    Priority,
    StopReason,
    Ticket,
    TicketId,
    patience,
)
from launcher.simulate.workload import Workload

#: Kinds of events in the heap.
_RELEASE, _STARTED, _STOPPED, _ASK, _FORECAST = range(5)
#: Ticks without any progress of time after which the scheduler is taken to be stuck.
_MAX_TICKS = 10_000
_CLASSES = tuple(Priority)
#: Of so many queued tickets the forecasts are noted; of the n-th after them with the chance
#: SAMPLE / n, so that a long trace stays fast.
SAMPLE = 2_000


class SchedulerLike(Protocol):
    """What the engine drives."""

    def handle(self, event: ev.Event, now: float) -> list[Effect]: ...
    def epoch(self, backend: BackendId) -> int: ...
    def forecasts(self, now: float) -> Forecasts: ...


Make = Callable[[Needs], SchedulerLike]
Phase = Literal["starting", "ready", "stopping"]


@dataclass(frozen=True, slots=True)
class Span:
    """A model was in one phase of residency from `begin` to `end`."""

    model: int
    phase: Phase
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class NotedForecast:
    """A forecast for a queued request that had waited `age` seconds: `seconds` more ± `spread`."""

    request: int
    age: float
    seconds: float
    spread: float


@dataclass(slots=True)
class Outcome:
    """What happened, request by request; a request's number is its place in the columns."""

    workload: Workload
    end: float = 0.0
    """The horizon, or the time of the last answer."""
    model: array[int] = field(default_factory=lambda: array("H"))
    priority: array[int] = field(default_factory=lambda: array("B"))
    arrived: array[float] = field(default_factory=lambda: array("d"))
    service: array[float] = field(default_factory=lambda: array("d"))
    waited: array[float] = field(default_factory=lambda: array("d"))
    """From arrival to grant; to the end for those never granted."""
    loop: dict[int, int] = field(default_factory=dict)
    """Which requests were asked by which loop."""
    served: array[int] = field(default_factory=lambda: array("B"))
    """1 for those granted, whether or not the end came before their answer."""
    finished: int = 0
    """Answers given in full."""
    rejected: dict[int, str] = field(default_factory=dict)
    """Error codes."""
    spans: list[Span] = field(default_factory=list)
    starts: int = 0
    evictions: int = 0
    """Stops that made room for another model."""
    forecasts: list[NotedForecast] = field(default_factory=list)
    """In the order of time."""

    @property
    def unserved(self) -> int:
        """Requests that were still waiting at the end."""
        return len(self.arrived) - sum(self.served) - len(self.rejected)


def simulate(workload: Workload, make: Make, ages: Sequence[float] = ()) -> Outcome:
    """Run it to its horizon or to the last answer. Deterministic.

    Of a sample of the queued requests, what is forecast at these `ages` (seconds waited) is
    noted; that changes nothing of what happens.

    Raises RuntimeError where the scheduler asks for something that nothing here can do, or
    spins without time going on.
    """
    return _Run(workload, make(workload.capacity), ages).go()


class _Run:
    """One simulation under way."""

    __slots__ = (
        "_ages",
        "_asking",
        "_epochs",
        "_heap",
        "_ids",
        "_max_wait",
        "_now",
        "_numbers",
        "_open",
        "_out",
        "_phases",
        "_queued",
        "_sampling",
        "_scheduler",
        "_sequence",
        "_thinking",
        "_times",
        "_wake",
        "_workload",
    )

    def __init__(self, workload: Workload, scheduler: SchedulerLike, ages: Sequence[float]) -> None:
        self._workload = workload
        self._scheduler = scheduler
        self._out = Outcome(workload)
        self._now = 0.0
        self._wake = math.inf
        self._heap: list[tuple[float, int, int, int, int]] = []
        self._sequence = 0
        self._open = 0
        """Requests that have arrived and haven't ended."""
        self._ids = [(BackendId(name),) for name in workload.names]
        self._numbers = {ids[0]: number for number, ids in enumerate(self._ids)}
        self._max_wait = [model.max_wait for model in workload.models]
        self._epochs = [0] * len(self._ids)
        self._phases: dict[int, tuple[Phase, float]] = {}
        # Each draws from a source of its own, so that one policy's decisions don't change
        # what the others meet.
        self._times = [Random(f"{workload.seed}/model/{name}") for name in workload.names]
        self._thinking = [
            Random(f"{workload.seed}/loop/{number}") for number in range(len(workload.loops))
        ]
        self._asking: dict[int, int] = self._out.loop
        self._ages = tuple(ages)
        self._queued = 0
        """Requests that weren't served on arrival, while forecasts are noted."""
        self._sampling = Random(f"{workload.seed}/sample")

    def go(self) -> Outcome:
        """The loop. At one moment: what was under way ends, then timers, then arrivals."""
        self._boot()
        heap, horizon = self._heap, self._workload.horizon
        arrivals = iter(self._workload.requests)
        coming = next(arrivals, None)
        coming_at = math.inf if coming is None else coming[0]
        endless = bool(self._workload.loops)
        ticks = 0
        while coming is not None or self._open or endless:
            due = heap[0][0] if heap else math.inf
            at = min(due, self._wake, coming_at)
            if at >= horizon:
                self._now = max(self._now, horizon if horizon < math.inf else 0.0)
                break
            if at > self._now:
                self._now = at
                ticks = 0
            if due <= at:
                self._happen(heappop(heap))
            elif self._wake <= at:
                ticks += 1
                if ticks > _MAX_TICKS:
                    raise RuntimeError(f"the scheduler asks over and over to be woken at {at}")
                self._wake = math.inf
                self._feed(ev.Tick())
            elif coming is not None:
                if coming_at < self._now:
                    raise ValueError(f"requests are not in order: {coming_at} comes too late")
                self._arrive(coming[1], coming[2], coming[3])
                coming = next(arrivals, None)
                coming_at = math.inf if coming is None else coming[0]
        return self._finish()

    def _boot(self) -> None:
        specs = tuple(model.spec() for model in self._workload.models)
        self._feed(ev.SpecsChanged(added=specs))
        for spec in specs:
            self._feed(ev.Observed(spec.id, self._scheduler.epoch(spec.id), running=False))
        for number, loop in enumerate(self._workload.loops):
            self._later(loop.begin, _ASK, number, 0)

    def _finish(self) -> Outcome:
        out, end = self._out, self._now
        out.end = end
        for model in sorted(self._phases):
            self._enter(model, None, end)
        for number, waited in enumerate(out.waited):
            if waited < 0:
                out.waited[number] = end - out.arrived[number]
        return out

    # -- what happens

    def _later(self, at: float, what: int, number: int, epoch: int) -> None:
        self._sequence += 1
        heappush(self._heap, (at, self._sequence, what, number, epoch))

    def _happen(self, entry: tuple[float, int, int, int, int]) -> None:
        at, _, what, number, epoch = entry
        if what == _RELEASE:
            self._open -= 1
            self._out.finished += 1
            self._feed(ev.Released(TicketId(number)))
            if self._asking:
                self._think(number)
        elif what == _ASK:
            loop = self._workload.loops[number]
            self._asking[len(self._out.arrived)] = number
            self._arrive(loop.model, loop.service(self._thinking[number]), loop.priority)
        elif what == _FORECAST:
            self._note_forecast(number, epoch)
        elif epoch == self._epochs[number]:
            id = self._ids[number][0]
            if what == _STARTED:
                self._enter(number, "ready", at)
                self._feed(ev.Started(id, epoch, f"{id}/{epoch}"))
            else:
                self._enter(number, None, at)
                self._feed(ev.Stopped(id, epoch))

    def _arrive(self, model: int, service: float, priority: int) -> None:
        out, now = self._out, self._now
        number = len(out.arrived)
        out.arrived.append(now)
        out.model.append(model)
        out.service.append(service)
        out.priority.append(priority)
        out.waited.append(-1.0)
        out.served.append(0)
        self._open += 1
        workload, requested = self._workload, _CLASSES[priority]
        max_wait, ages = patience(requested, self._max_wait[model], workload.batch_max_wait)
        ticket = Ticket(
            TicketId(number),
            self._ids[model],
            max_wait,
            now + workload.queue_timeout,
            priority=requested,
            ages=ages,
        )
        self._feed(ev.Arrived(ticket))
        if self._ages and out.waited[number] < 0:
            self._sample(number)

    def _sample(self, number: int) -> None:
        """Have its forecasts noted, if it is of the sample."""
        self._queued += 1
        if self._sampling.random() * self._queued >= SAMPLE:
            return
        for place, age in enumerate(self._ages):
            if age > 0:
                self._later(self._now + age, _FORECAST, number, place)
            else:
                self._note_forecast(number, place)

    def _note_forecast(self, number: int, place: int) -> None:
        """Note what is forecast of it at one of the ages, if it still waits."""
        found = self._scheduler.forecasts(self._now).of_ticket(TicketId(number))
        if found is not None:
            noted = NotedForecast(number, self._ages[place], found.seconds, found.spread)
            self._out.forecasts.append(noted)

    def _think(self, number: int) -> None:
        """A loop that got its answer asks again after a while."""
        loop = self._asking.get(number)
        if loop is not None:
            pause = self._workload.loops[loop].think(self._thinking[loop])
            self._later(self._now + pause, _ASK, loop, 0)

    # -- what the scheduler asks for

    def _feed(self, event: ev.Event) -> None:
        out, now = self._out, self._now
        for effect in self._scheduler.handle(event, now):
            if isinstance(effect, Admit):
                number = effect.ticket
                out.waited[number] = now - out.arrived[number]
                out.served[number] = 1
                self._sequence += 1
                entry = (now + out.service[number], self._sequence, _RELEASE, number, 0)
                heappush(self._heap, entry)
            elif isinstance(effect, WakeAt):
                self._wake = effect.at
            else:
                self._rarely(effect)

    def _rarely(self, effect: Effect) -> None:
        now = self._now
        if isinstance(effect, Start):
            number = self._numbers[effect.backend]
            model = self._workload.models[number]
            self._out.starts += 1
            self._epochs[number] = effect.epoch
            self._enter(number, "starting", now)
            took = self._spread(model.start, model.jitter, number)
            self._later(now + took, _STARTED, number, effect.epoch)
        elif isinstance(effect, Stop):
            number = self._numbers[effect.backend]
            model = self._workload.models[number]
            self._out.evictions += effect.reason is StopReason.EVICTED
            self._epochs[number] = effect.epoch
            self._enter(number, "stopping", now)
            took = self._spread(model.stop, model.jitter, number)
            self._later(now + took, _STOPPED, number, effect.epoch)
        elif isinstance(effect, Reject):
            self._open -= 1
            ticket = effect.ticket
            self._out.waited[ticket] = now - self._out.arrived[ticket]
            self._out.rejected[ticket] = effect.code
            self._think(ticket)
        elif not isinstance(effect, Decided | PrewarmSkipped | PermitOpened | PermitClosed):
            raise RuntimeError(f"nothing here can do {effect}")

    def _spread(self, mean: float, jitter: float, model: int) -> float:
        return mean * (1 + jitter * self._times[model].uniform(-1, 1)) if jitter else mean

    def _enter(self, model: int, phase: Phase | None, now: float) -> None:
        """Note the end of one phase and the beginning of the next."""
        before = self._phases.pop(model, None)
        if before is not None:
            self._out.spans.append(Span(model, before[0], before[1], now))
        if phase is not None:
            self._phases[model] = (phase, now)
