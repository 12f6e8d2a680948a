"""A dispatcher over the fake driver, with the real scheduler, for the tests of the shell."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from launcher.config import BackendConfig, Health, Secret
from launcher.core.effects import Admit, Effect, Expired, Reject, Start
from launcher.core.events import Abandoned, Arrived, Event, Released
from launcher.core.scheduler import Scheduler
from launcher.core.types import BackendId, BackendSnapshot, BackendState, Estimates, Needs, TicketId
from launcher.drivers.base import ContainerSpec
from launcher.runtime.admission import Ask, TicketAdmission
from launcher.runtime.dispatcher import Dispatcher
from tests.fake_driver import FakeDriver
from tests.fake_probe import FakeProber
from tests.runtime.waiting import eventually

A = BackendId("a")
B = BackendId("b")
C = BackendId("c")
ALL = (A, B, C)


def config(
    backend: BackendId,
    *,
    needs: Needs | None = None,
    health: str = "http",
    idle_timeout: float = 600.0,
    start_timeout: float = 60.0,
    stop_grace: float = 10.0,
    busy: str | None = None,
    key: str | None = None,
) -> BackendConfig:
    """A backend as the tests like it."""
    return BackendConfig(
        id=backend,
        driver=ContainerSpec(str(backend), 8000, stop_grace=stop_grace),
        health=Health(health, "/health"),  # type: ignore[arg-type]
        needs=needs,
        idle_timeout=idle_timeout,
        start_timeout=start_timeout,
        busy=busy,
        linger=0.0,  # so that who is idle makes way at once
        backend_key=None if key is None else Secret(key),
    )


class Ledger:
    """Holds the scheduler to its word: every ticket ends once, what was let go was held."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.effects: list[Effect] = []
        self.queued: set[TicketId] = set()
        self.granted: set[TicketId] = set()
        self.ended: list[TicketId] = []

    def __call__(self, event: Event, effects: Sequence[Effect], now: float) -> None:
        self.events.append(event)
        self.effects.extend(effects)
        match event:
            case Arrived(ticket):
                self.queued.add(ticket.id)
            case Abandoned(id):
                self.queued.remove(id)
                self.ended.append(id)
            case Released(id):
                self.granted.remove(id)
                self.ended.append(id)
            case _:
                pass
        for effect in effects:
            match effect:
                case Admit(id):
                    self.queued.remove(id)
                    self.granted.add(id)
                case Reject(id):
                    self.queued.remove(id)
                    self.ended.append(id)
                case Expired(id):
                    self.granted.remove(id)
                    self.ended.append(id)
                case _:
                    pass

    def of(self, kind: type[Any]) -> list[Any]:
        """The events and effects of one kind."""
        return [x for x in (*self.events, *self.effects) if isinstance(x, kind)]

    def starts(self, backend: BackendId) -> int:
        """How often the scheduler said Start."""
        return sum(e.backend == backend for e in self.of(Start))


class House:
    """Everything together."""

    def __init__(
        self,
        *configs: BackendConfig,
        capacity: Needs = (("gpu", 1),),
        prewarm: Sequence[BackendId] = (),
        estimates: Mapping[BackendId, Estimates] | None = None,
    ) -> None:
        self.configs = {c.id: c for c in configs or tuple(config(id) for id in ALL)}
        self.driver = FakeDriver()
        self.prober = FakeProber(self.driver)
        self.ledger = Ledger()
        self.scheduler = Scheduler(capacity)
        self.dispatcher = Dispatcher(
            self.scheduler,
            [self.driver],
            self.configs,
            dict.fromkeys(self.configs, self.driver),
            prober=self.prober,
            observers=[self.ledger],
            prewarm=prewarm,
            estimates=estimates,
        )

    def ask(self, *backends: BackendId, **more: Any) -> TicketAdmission:
        """A ticket."""
        return self.dispatcher.admit(Ask(backends or (A,), **more))

    @contextlib.contextmanager
    def asking(self, *backends: BackendId, **more: Any) -> Iterator[TicketAdmission]:
        """A ticket, let go at the end."""
        with self.ask(*backends, **more) as admission:
            yield admission

    async def use(self, backend: BackendId = A) -> None:
        """A good exchange that takes no time."""
        with self.ask(backend) as admission:
            await admission.granted()
            admission.ok = True

    def one(self, backend: BackendId = A) -> BackendSnapshot:
        """A backend now."""
        return self.dispatcher.snapshot().backends[backend]

    def state(self, backend: BackendId = A) -> BackendState:
        """Where it stands."""
        return self.scheduler.state(backend)

    async def until(self, fits: Callable[[], object], within: float = 1000.0) -> None:
        """Wait on a condition, looking at every moment at which something may happen."""
        await eventually(fits, within, pace=0.005)

    def nobody_left(self) -> None:
        """No ticket stands anywhere, and each ended once."""
        snapshot = self.dispatcher.snapshot()
        assert {b.id: (b.in_flight, b.queued) for b in snapshot.backends.values()} == dict.fromkeys(
            snapshot.backends, (0, 0)
        )
        assert not self.ledger.queued
        assert not self.ledger.granted
        assert len(self.ledger.ended) == len(set(self.ledger.ended))
        assert "tickets=0" in repr(self.dispatcher)
        assert all(handle.waiting == 0 for handle in self.dispatcher._handles.values())


@contextlib.asynccontextmanager
async def opened(house: House, stop: bool = False) -> AsyncIterator[House]:
    """The house, open and with everything listed once; closed and left clean."""
    await house.dispatcher.open()
    await house.until(lambda: all(why is None for why in house.dispatcher.driver_health().values()))
    try:
        yield house
    finally:
        await house.dispatcher.close(stop_backends=stop)
