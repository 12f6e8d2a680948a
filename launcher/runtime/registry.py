"""Who is held by whom: the backends that are configured, their drivers, and reservations.

It knows what the scheduler was told of each, and what to tell it when the configuration is
another. It neither decides nor carries anything out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from launcher.config import BackendConfig, Health
from launcher.core.events import SpecsChanged
from launcher.core.types import BackendId, BackendSpec, Estimates, Needs, Placement, Snapshot
from launcher.drivers.base import Driver, DriverSpec, ReservedSpec
from launcher.drivers.reserved import ReservedDriver
from launcher.runtime.handle import BackendHandle


def spec_of(
    config: BackendConfig, capacity: Needs, prewarm: int | None, estimates: Estimates
) -> BackendSpec:
    """`needs = None` is all of the capacity; `prewarm` is the rank among those prewarmed."""
    needs = capacity if config.needs is None else config.needs
    return BackendSpec(
        id=config.id,
        placements=(Placement(needs),),
        idle_timeout=config.idle_timeout,
        start_timeout=config.start_timeout,
        max_queue=config.max_queue,
        prewarm=prewarm,
        asks_busy=config.busy is not None,
        max_in_flight=config.max_in_flight,
        linger=config.linger,
        estimates=estimates,
        start_guess=config.start_guess,
        stop_guess=config.stop_guess,
    )


#: Of so many backends that are gone the measured times are remembered: a route that is taken
#: out and put back is as quick as before.
REMEMBERED = 100


class Registry:
    """The backends, and what holds them."""

    def __init__(
        self,
        drivers: Sequence[Driver],
        configs: Mapping[BackendId, BackendConfig],
        driver_of: Mapping[BackendId, Driver],
        prewarm: Sequence[BackendId],
        estimates: Mapping[BackendId, Estimates],
    ) -> None:
        """`estimates`: what an earlier run measured."""
        self.drivers = list(drivers)
        self.handles = {
            id: BackendHandle(id, config, driver_of[id]) for id, config in sorted(configs.items())
        }
        self._prewarm = tuple(prewarm)
        self._estimates = dict(estimates)
        self._specs: dict[BackendId, BackendSpec] = {}
        self._reserved = ReservedDriver()

    def __repr__(self) -> str:
        return f"<Registry {len(self.handles)} backends, {len(self.drivers)} drivers>"

    def first(self, capacity: Needs) -> SpecsChanged:
        """What the scheduler is told of all at boot."""
        return SpecsChanged(
            added=tuple(
                self._with_estimates(self._told(handle.config, capacity))
                for handle in self.handles.values()
            )
        )

    def reconfigure(
        self,
        configs: Mapping[BackendId, BackendConfig],
        driver_of: Mapping[BackendId, Driver],
        prewarm: Sequence[BackendId],
        capacity: Needs,
    ) -> SpecsChanged:
        """Take in another configuration. What is started otherwise than before is replaced; the
        rest applies where it stands. Reservations stay."""
        self._prewarm = tuple(prewarm)
        added, changed, replaced, removed = [], [], [], []
        for id, config in sorted(configs.items()):
            handle, driver = self.handles.get(id), driver_of[id]
            before = self._specs.get(id)
            spec = self._told(config, capacity)
            if handle is None:
                self.handles[id] = BackendHandle(id, config, driver)
                added.append(self._with_estimates(spec))
            elif handle.driver is driver and same_start(handle.config.driver, config.driver):
                if handle.removed:
                    added.append(spec)
                elif handle.next is not None or spec != before:
                    changed.append(spec)
                handle.config, handle.next, handle.removed = config, None, False
            else:
                handle.next, handle.removed = (config, driver), False
                replaced.append(spec)
        for id, handle in self.handles.items():
            if id not in configs and handle.driver is not self._reserved and not handle.removed:
                handle.removed, handle.next = True, None
                removed.append(id)
        self._follow_all()
        return SpecsChanged(
            added=tuple(added),
            changed=tuple(changed),
            removed=tuple(removed),
            replaced=tuple(replaced),
            capacity=capacity,
        )

    def reserve(self, id: BackendId, needs: Needs, *, held: bool) -> SpecsChanged:
        """A place for work outside the launcher; `held`: it is taken already, since an earlier
        run. Raises ValueError where there is such a backend."""
        if id in self.handles:
            raise ValueError(f"there is a backend {id} already")
        config = BackendConfig(
            id,
            ReservedSpec(),
            health=Health("none"),
            needs=needs,
            idle_timeout=0.0,
            linger=0.0,
            start_guess=0.0,
            stop_guess=0.0,
        )
        self.handles[id] = BackendHandle(id, config, self._reserved)
        if held:
            self._reserved.take(id)
        self._follow_all()
        return SpecsChanged(added=(self._told(config, needs),))

    def unreserve(self, id: BackendId) -> SpecsChanged:
        """A reservation is over. Raises KeyError where there is none."""
        handle = self.handles[id]
        if handle.driver is not self._reserved:
            raise KeyError(id)
        handle.removed = True
        return SpecsChanged(removed=(id,))

    def remember(self, snapshot: Snapshot) -> None:
        """Note what was measured of those that may be on their way out."""
        for id, one in snapshot.backends.items():
            self._estimates.pop(id, None)
            self._estimates[id] = one.estimates
        for id in list(self._estimates)[: -(REMEMBERED + len(snapshot.backends))]:
            del self._estimates[id]

    def leaving(self) -> dict[BackendId, DriverSpec]:
        """What backends still are that they are no longer configured to be."""
        return {
            id: handle.config.driver
            for id, handle in self.handles.items()
            if handle.removed or handle.next is not None
        }

    def replaced(self, id: BackendId) -> BackendHandle:
        """Nothing runs of what it was: hold it as it is configured now."""
        handle = self.handles[id]
        before = handle.driver
        if handle.next is not None:
            handle.config, handle.driver = handle.next
        handle.next = handle.endpoint = handle.instance = None
        # Looks that are under way are at what it was.
        handle.look_fed = handle.looks_begun + 1
        for driver in {before, handle.driver}:
            self.configure(driver)
        return handle

    def forget(self, id: BackendId) -> BackendHandle:
        """It is no longer configured, and nothing of it is left."""
        handle = self.handles.pop(id)
        del self._specs[id]
        self.configure(handle.driver)
        return handle

    def configure(self, driver: Driver) -> None:
        """Tell a driver what it holds."""
        driver.configure(
            {h.id: h.config.driver for h in self.handles.values() if h.driver is driver}
        )

    def _told(self, config: BackendConfig, capacity: Needs) -> BackendSpec:
        ranks = {id: rank for rank, id in enumerate(self._prewarm)}
        spec = spec_of(config, capacity, ranks.get(config.id), Estimates())
        self._specs[config.id] = spec
        return spec

    def _with_estimates(self, spec: BackendSpec) -> BackendSpec:
        return replace(spec, estimates=self._estimates.get(spec.id, Estimates()))

    def _follow_all(self) -> None:
        """Drivers that came with a configuration are ours from now on."""
        for handle in self.handles.values():
            for driver in (handle.driver, *((handle.next[1],) if handle.next else ())):
                if driver not in self.drivers:
                    self.drivers.append(driver)
        for driver in self.drivers:
            self.configure(driver)


def same_start(one: DriverSpec, other: DriverSpec) -> bool:
    """Whether the same thing is started and reached in the same way; how long a stop may take
    is no part of that."""
    return replace(one, stop_grace=0.0) == replace(other, stop_grace=0.0)
