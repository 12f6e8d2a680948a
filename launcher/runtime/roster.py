"""Who is held by whom: the backends that are configured, and their drivers.

Knows configurations and drivers; it neither decides nor carries anything out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from launcher.config import BackendConfig
from launcher.core.types import BackendId, BackendSpec, Estimates, Needs
from launcher.drivers.base import Driver
from launcher.runtime.held import Held
from launcher.runtime.specs import spec_of


class Roster:
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
        self.drivers = tuple(drivers)
        self.held = {id: Held(id, config, driver_of[id]) for id, config in sorted(configs.items())}
        self._prewarm = tuple(prewarm)
        self._estimates = dict(estimates)

    def __repr__(self) -> str:
        return f"<Roster {len(self.held)} backends, {len(self.drivers)} drivers>"

    def specs(self, capacity: Needs) -> tuple[BackendSpec, ...]:
        """What the scheduler is told of each."""
        ranks = {id: rank for rank, id in enumerate(self._prewarm)}
        return tuple(
            spec_of(held.config, capacity, ranks.get(id), self._estimates.get(id, Estimates()))
            for id, held in self.held.items()
        )

    def configure(self, driver: Driver) -> None:
        """Tell a driver what it holds."""
        driver.configure({h.id: h.config.driver for h in self.held.values() if h.driver is driver})
