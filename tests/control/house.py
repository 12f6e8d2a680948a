"""The control plane over a real dispatcher and scheduler, a fake driver and a virtual clock.

A life ends by a kill or a shutdown; the next one finds what was written down and what runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from launcher.config import LauncherConfig, ModeConfig, RouteConfig
from launcher.control.plane import ControlPlane
from launcher.control.records import SwitchRecord
from launcher.core.events import Closed
from launcher.core.types import BackendId, Needs, OnLease
from launcher.state.store import StateTable
from launcher.telemetry.facts import FactPublisher
from tests.fake_driver import FakeDriver
from tests.runtime.house import A, B, C, House, config, opened

K = TypeVar("K", str, int)
R = TypeVar("R")

#: What the wall's clock is ahead of the loop's.
EPOCH = 1_800_000_000.0

#: What stands in the file: by table and key, the row.
Rows = dict[tuple[str, str | int], tuple[Any, ...]]


class MemoryStore:
    """A store whose disk is a dictionary: what was synced, and what would have followed."""

    def __init__(self, rows: Rows | None = None, lost: bool = False) -> None:
        self.synced: Rows = dict(rows or {})
        self.pending: Rows = dict(self.synced)
        self.lost = lost
        self.kept = True
        self.dead = False

    def loaded(self, table: StateTable[K, R]) -> dict[K, R]:
        rows = [(key, *row) for (name, key), row in self.synced.items() if name == table.name]
        return table.records(sorted(rows))  # type: ignore[arg-type]

    def put(self, table: StateTable[K, R], key: K, record: R) -> None:
        if not self.dead:
            self.pending[table.name, key] = table.cells_of(record)

    def drop(self, table: StateTable[K, R], key: K) -> None:
        if not self.dead:
            self.pending.pop((table.name, key), None)

    async def durable(self) -> bool:
        if not self.dead:
            self.synced = dict(self.pending)
        return True


class Life:
    """One run of the launcher."""

    def __init__(
        self, config: LauncherConfig, store: MemoryStore, before: FakeDriver | None = None
    ) -> None:
        """`before`: the driver of the life before; what ran then still does."""
        self.config = config
        self.store = store
        self.house = House(*config.backends, capacity=config.capacity)
        self.driver = self.house.driver
        if before is not None:
            for backend in config.backends:
                self.driver._one(backend.id).script = before.script(backend.id)
        self.running = set() if before is None else before.running()
        dispatcher = self.house.dispatcher
        self.plane = ControlPlane(
            config,
            dispatcher,
            store,
            now=dispatcher._clock,
            wall=lambda: EPOCH + dispatcher._clock(),
        )
        dispatcher._observers += (FactPublisher(self.plane.fact).observe,)

    @property
    def leases(self) -> Any:
        return self.plane.leases

    @property
    def switches(self) -> Any:
        return self.plane.switches

    async def up(self, id: BackendId) -> None:
        """Somebody uses it."""
        await self.house.use(id)

    async def switched(self, route: str, **more: Any) -> SwitchRecord:
        """A switch, to its end."""
        found: SwitchRecord = await self.switches.over(self.switches.begin(route, **more).id)
        return found

    def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        self.store.dead = True


@contextlib.asynccontextmanager
async def living(life: Life) -> AsyncIterator[Life]:
    """From boot to its end: the leaving of the block is a clean shutdown, unless it was killed."""
    for id in sorted(life.running):
        life.driver.run(id)
    async with opened(life.house):
        life.plane.open()
        try:
            yield life
        finally:
            life.house.dispatcher.feed(Closed())
            await life.plane.close()
            if not life.store.dead:
                await life.store.durable()


def after(life: Life, config: LauncherConfig | None = None) -> Life:
    """The next life, over what is on the disk and what runs."""
    return Life(config or life.config, MemoryStore(life.store.synced), life.driver)


def world(
    *backends: BackendId,
    capacity: Needs = (("gpu", 1),),
    home: str | None = None,
    modes: tuple[ModeConfig, ...] = (),
    on_lease: OnLease = OnLease.WAIT,
    needs: Needs | None = None,
) -> LauncherConfig:
    """A configuration of backends that exclude each other, each with a route of its name."""
    ids = backends or (A, B, C)
    return LauncherConfig(
        routes=tuple(RouteConfig(id, (id,), (f"/{id}",), on_lease=on_lease) for id in ids),
        backends=tuple(config(id, needs=needs) for id in ids),
        capacity=capacity,
        home=home,
        modes=modes,
        state_file="",
    )


def life(**more: Any) -> Life:
    """The first life."""
    return Life(world(**more), MemoryStore())
