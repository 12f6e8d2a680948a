"""Owns the scheduler: events go in here, one at a time, and their effects are carried out.

`feed` is the one way in. It is synchronous, nothing is awaited inside, and what is fed while
an event is being handled comes after it. Effects that take time become named tasks, whose
outcomes are fed back. It decides nothing, and knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from launcher import tasks
from launcher.config import BackendConfig
from launcher.config.redact import Redactor
from launcher.core.dry_run import Step
from launcher.core.effects import (
    Abort,
    Admit,
    Adopt,
    AskBusy,
    Decided,
    Effect,
    Expired,
    Forget,
    Inspect,
    PermitClosed,
    PermitOpened,
    PrewarmSkipped,
    Reject,
    Replace,
    Start,
    Stop,
    WakeAt,
)
from launcher.core.events import (
    Arrived,
    Closed,
    Drained,
    Event,
    Renewed,
    Silenced,
    SpecsChanged,
    StopRequested,
    Tick,
)
from launcher.core.scheduler import Scheduler
from launcher.core.types import (
    RESIDENT,
    BackendId,
    BackendState,
    Estimates,
    Failure,
    Forecast,
    Needs,
    Snapshot,
    Ticket,
)
from launcher.drivers.base import Driver, DriverSpec
from launcher.http.endpoint import Endpoint
from launcher.runtime import admission
from launcher.runtime.admission import Admissions, Ask, Progress, TicketAdmission, progress
from launcher.runtime.forecaster import Forecaster
from launcher.runtime.handle import BackendHandle, Clock
from launcher.runtime.liveness import Liveness
from launcher.runtime.permits import Permit, Permits
from launcher.runtime.probe import Probe
from launcher.runtime.reconcile import Reconciler
from launcher.runtime.registry import Registry
from launcher.runtime.starter import Operations, Starter


class Timer:
    """Calls `ring` at the time set last."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Ring at `at` (on the clock; `inf`: never) and at no other time."""
        self.cancel()
        if at < math.inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, at - self._clock()), self._due, at)

    def cancel(self) -> None:
        """Don't ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self, at: float) -> None:
        self._timer = None
        if self._clock() < at:
            self.set(at)  # uvloop's timers count in whole milliseconds
        else:
            self._ring()


log = logging.getLogger(__name__)

T = TypeVar("T")

Observer = Callable[[Event, Sequence[Effect], float], None]
"""Is told every event, what the scheduler made of it, and when. Must be quick."""

_UP = (BackendState.READY, BackendState.DRAINING)
#: Seconds after which the scheduler, and so whoever observes it, knows of permitted requests.
FOLD_WITHIN = 1.0
#: Between the scheduler and its shell, and nobody else's business.
_PERMIT = (PermitOpened, PermitClosed)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Dispatcher:
    """Owns the scheduler: admits requests, carries out operators' requests and effects."""

    def __init__(
        self,
        scheduler: Scheduler,
        drivers: Sequence[Driver],
        configs: Mapping[BackendId, BackendConfig],
        driver_of: Mapping[BackendId, Driver],
        *,
        prober: Probe,
        clock: Clock | None = None,
        observers: Sequence[Observer] = (),
        prewarm: Sequence[BackendId] = (),
        estimates: Mapping[BackendId, Estimates] | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        """`clock`: seconds, the running loop's by default. `estimates`: what an earlier run
        measured. `redactor` takes secrets out of failures; by default the backend keys."""
        self._scheduler = scheduler
        self._registry = Registry(drivers, configs, driver_of, prewarm, estimates or {})
        self._clock = clock or _loop_time
        self._observers = tuple(observers)
        self._handles = self._registry.handles
        if redactor is None:
            keys = (config.backend_key for config in configs.values())
            redactor = Redactor(key for key in keys if key is not None)
        self._starter = Starter(prober, self._clock, redactor.text)
        self._reconciler = Reconciler(self, self._handles)
        self._operations = Operations(self, self._starter, self._reconciler, self._clock)
        self._liveness = Liveness(self, prober, self._reconciler, self._clock)
        self._forecaster = Forecaster(scheduler, self._clock)
        self._admissions = Admissions(self._handles, self._forecaster.retry_after, scheduler.epoch)
        self._permits = Permits(self._admissions.granted, self._fold_soon, self._take)
        self._folding: asyncio.TimerHandle | None = None
        self.permits: Mapping[BackendId, Permit] = self._permits.open
        """See `Admitter.permits`."""
        self._feeding = False
        self._later: deque[Event | TicketAdmission | Permit] = deque()
        self._timer = Timer(self._clock, lambda: self.feed(Tick()))
        self._tasks = tasks.Group()
        self._closing = False

    def __repr__(self) -> str:
        return f"<Dispatcher tickets={len(self._admissions)} {self._tasks}>"

    # -- life

    async def open(self) -> None:
        """Begin: the specs are fed, the drivers opened and followed. Returns at once, however
        long an engine takes; nothing is started before everything of it was listed."""
        self.feed(self._registry.first(self.snapshot().capacity))
        for driver in self._registry.drivers:
            self._registry.configure(driver)
            self._reconciler.follow(driver)

    async def close(self, stop_backends: bool) -> None:
        """End: the queue is rejected, every task cancelled, the drivers closed.

        With `stop_backends` everything resident is stopped first, each within its stop grace.
        """
        self.feed(Closed())
        self._closing = True
        self._timer.cancel()
        if self._folding is not None:
            self._folding.cancel()
        await self._tasks.cancel()
        if stop_backends:
            await _all(
                tasks.spawn(self._last_stop(handle), name=f"last stop of {handle.id}")
                for handle in self._handles.values()
                if self._scheduler.state(handle.id) in RESIDENT
            )
        await _all(
            tasks.spawn(driver.close(), name=f"close {driver.name}")
            for driver in self._registry.drivers
        )

    async def _last_stop(self, handle: BackendHandle) -> None:
        failure = await self._starter.stop(handle, ())
        if failure is not None:
            log.error("stopping %s at the end failed: %s", handle.id, failure.message)

    # -- admission

    def admit(self, ask: Ask) -> TicketAdmission:
        """See `Admitter.admit`."""
        admission = self._admissions.enter(ask, self, self._clock())
        if not admission.refused:
            self.feed(Arrived(admission.ticket))
            self._admissions.waits(admission)
        return admission

    async def suspect(self, grant: admission.Grant) -> bool:
        """See `Admitter.suspect`."""
        return await self._liveness.suspect(self._handles[grant.backend], grant)

    def watch_silence(self, grant: admission.Grant) -> None:
        """See `Admitter.watch_silence`."""
        self._liveness.watch_silence(self._handles[grant.backend], grant)

    def left(self, admission: TicketAdmission) -> None:
        """A holder let go. What that means is settled in its turn: a grant that is on its way
        makes it a release."""
        self._take(admission)

    def silenced(self, admission: TicketAdmission, silent: bool) -> None:
        """A granted ticket's tunnel fell silent, or speaks again."""
        self.feed(Silenced(admission.ticket.id, silent))

    def renewed(self, admission: TicketAdmission, until: float) -> None:
        """A lease is to end at another time."""
        self.feed(Renewed(admission.ticket.id, until))

    def progress_of(self, admission: TicketAdmission) -> Progress:
        """Where a ticket stands."""
        self._fold()
        forecast = self._forecaster.of(admission.ticket.id)
        return progress(self.snapshot(), admission.ticket.backends, admission.asked_at, forecast)

    def waiting(self, most: int) -> list[tuple[Ticket, Progress]]:
        """The first so many of those who wait, and where each stands."""
        shot = self.snapshot()
        return [
            (
                admission.ticket,
                progress(
                    shot,
                    admission.ticket.backends,
                    admission.asked_at,
                    self._forecaster.of(admission.ticket.id),
                ),
            )
            for admission in self._admissions.waiting(most)
        ]

    # -- operators

    def request_stop(self, backend: BackendId, force: bool = False) -> None:
        """Stop it: after what runs, or with `force` at once. Raises KeyError."""
        self._handles[backend]
        self.feed(StopRequested(backend, force))

    def drain(self, backends: Sequence[BackendId] | None, on: bool) -> None:
        """Refuse new tickets of these backends, or take them again; None: of all, those that a
        reload adds as well. Raises KeyError."""
        self.feed(Drained(None if backends is None else tuple(backends), on))

    def reconfigure(
        self,
        configs: Mapping[BackendId, BackendConfig],
        driver_of: Mapping[BackendId, Driver],
        *,
        prewarm: Sequence[BackendId] = (),
        capacity: Needs | None = None,
    ) -> SpecsChanged:
        """Another configuration: applied in place, as far as nothing else is started by it;
        what is replaced or removed drains first. Says what that came to. Reservations stay."""
        before = self.snapshot()
        self._registry.remember(before)
        capacity = before.capacity if capacity is None else capacity
        return self._configure(self._registry.reconfigure(configs, driver_of, prewarm, capacity))

    def leaving(self) -> Mapping[BackendId, DriverSpec]:
        """What backends still are that they are no longer configured to be."""
        return self._registry.leaving()

    def reserve(self, backend: BackendId, needs: Needs, *, held: bool = False) -> None:
        """A place for work outside the launcher, to be had by a lease on it; `held`: the work
        has it already, since an earlier run. Not before `open`. Raises ValueError where there is
        such a backend."""
        self._configure(self._registry.reserve(backend, needs, held=held))

    def unreserve(self, backend: BackendId) -> None:
        """A reservation is over, its leases with it. Raises KeyError where there is none."""
        self._configure(self._registry.unreserve(backend))

    def _configure(self, event: SpecsChanged) -> SpecsChanged:
        for driver in self._registry.drivers:
            self._reconciler.follow(driver)
        self.feed(event)
        self._permits.renew()
        for spec in event.added:
            self._reconciler.joined(self._handles[spec.id])
        return event

    def snapshot(self) -> Snapshot:
        """Everything at this moment."""
        self._fold()
        return self._scheduler.snapshot(self._clock())

    def forecasts(self) -> Mapping[BackendId, Forecast]:
        """What one more request would wait, for each backend where it would wait at all."""
        self._fold()
        return self._forecaster.all()

    def plan(self, ask: Ask) -> list[Step]:
        """What asking would bring about, without asking; the ticket is `PLANNED`."""
        self._fold()
        return self._forecaster.plan(ask)

    def endpoint(self, backend: BackendId) -> Endpoint | None:
        """Where it answers, while it is up. Raises KeyError."""
        handle = self._handles[backend]
        return handle.endpoint if self._scheduler.state(backend) in _UP else None

    def driver(self, backend: BackendId) -> Driver:
        """Who holds it. Raises KeyError."""
        return self._handles[backend].driver

    async def missing(self, backend: BackendId) -> Failure | None:
        """Why nothing of it could be started: there is nothing. None where there is something,
        and where nobody can tell."""
        handle = self._handles.get(backend)
        return None if handle is None else await self._reconciler.missing(handle)

    def driver_health(self) -> dict[str, str | None]:
        """Driver name → None where it answers (and was listed), else why not."""
        return self._reconciler.health()

    # -- for the other parts of the runtime

    def epoch(self, backend: BackendId) -> int:
        """The epoch that an observation beginning now has to carry."""
        return self._scheduler.epoch(backend)

    def state(self, backend: BackendId) -> BackendState:
        """Where the backend stands."""
        return self._scheduler.state(backend)

    def spawn(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """A task that ends with the dispatcher at the latest."""
        return self._tasks.spawn(coro, name=name)

    # -- events

    def feed(self, event: Event) -> None:
        """Take in one event and carry out what comes of it, before this returns; called from
        within that, the event has its turn in the loop's next round. First in, first out."""
        self._take(event)

    def _take(self, item: Event | TicketAdmission | Permit) -> None:
        if self._feeding:
            self._later.append(item)
            asyncio.get_running_loop().call_soon(self._next)
            return
        while self._later:
            self._next()
        self._process(item)

    def _next(self) -> None:
        """One that had to wait; its own fault isn't that of whoever comes after it."""
        if not self._later:
            return
        item = self._later.popleft()
        try:
            self._process(item)
        except Exception:
            # A bug, and nobody above to tell it to.
            log.exception("feeding %r failed", item)

    def _process(self, item: Event | TicketAdmission | Permit) -> None:
        event: Event | None
        match item:
            case TicketAdmission():
                event = self._admissions.left(item)
            case Permit():
                event = self._permits.reported(item)
            case _:
                event = item
        if event is None or (isinstance(event, Renewed) and not self._admissions.has(event.ticket)):
            return
        self._fold()
        now = self._clock()
        self._feeding = True
        try:
            effects = self._scheduler.handle(event, now)
            self._observe(event, [one for one in effects if not isinstance(one, _PERMIT)], now)
            for effect in effects:
                self._carry_out(effect, now)
        finally:
            self._feeding = False

    def _fold(self) -> None:
        """Tell the scheduler what was done under permits, before it is asked or told anything
        else. While an event is being handled it knows."""
        if self._feeding:
            return
        now = self._clock()
        for used in self._permits.noted():
            self._scheduler.handle(used, now)
            self._observe(used, (), now)

    def _fold_soon(self) -> None:
        """See to it that what is done under permits is known before long."""
        if self._folding is None and not self._closing:
            loop = asyncio.get_running_loop()
            self._folding = loop.call_later(FOLD_WITHIN, self._fold_now)

    def _fold_now(self) -> None:
        self._folding = None
        self._fold()

    def _observe(self, event: Event, effects: Sequence[Effect], now: float) -> None:
        for observer in self._observers:
            try:
                observer(event, effects, now)
            except Exception:
                # An observer's fault must not cost anybody an effect.
                log.exception("an observer failed on %r", event)

    # -- effects

    def _carry_out(self, effect: Effect, now: float) -> None:
        match effect:
            case Admit():
                self._admissions.grant(effect, now)
            case Reject():
                self._admissions.reject(effect, now)
            case PermitOpened():
                self._permits.opened(effect)
            case PermitClosed():
                self._permits.closed(effect)
            case Abort():
                self._admissions.abort(effect)
                self._permits.abort(effect)
            case Expired():
                self._admissions.expire(effect)
            case Forget(backend):
                self._registry.forget(backend).let_go()
            case Decided() | PrewarmSkipped():
                pass  # the observers' business
            case _ if self._closing:
                pass
            case WakeAt(at):
                self._timer.set(at)
            case Start() | Adopt():
                self._operations.start(self._handles[effect.backend], effect, now)
            case Stop():
                self._operations.stop(self._handles[effect.backend], effect)
            case AskBusy(backend, epoch):
                self._liveness.ask_busy(self._handles[backend], epoch)
            case Replace(backend):
                self._reconciler.joined(self._registry.replaced(backend))
            case Inspect(backend):
                self._reconciler.look(self._handles[backend])


async def _all(running: Iterable[asyncio.Task[None]]) -> None:
    """Wait until all have ended; a crash has been logged by `tasks`."""
    waiting = set(running)
    if waiting:
        await asyncio.wait(waiting)
