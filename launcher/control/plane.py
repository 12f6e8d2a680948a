"""The control plane: switches, leases, modes, drains and the home route, put together."""

from __future__ import annotations

from collections.abc import Callable

from launcher.config import LauncherConfig
from launcher.control.base import Clocks, OperatorGate
from launcher.control.drains import Drains
from launcher.control.home import HomeRoute
from launcher.control.leases import LeaseRegistry
from launcher.control.modes import Modes
from launcher.control.records import LeaseRecord, LeaseState
from launcher.control.switches import SwitchQueue
from launcher.state.store import StateStore
from launcher.telemetry.facts import Fact


class ControlPlane:
    """Builds the parts and connects them."""

    def __init__(
        self,
        config: LauncherConfig,
        gate: OperatorGate,
        store: StateStore,
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`now` is the dispatcher's clock, `wall` the time since 1970; in seconds."""
        clocks = Clocks(now, wall)
        self._store = store
        self.home = HomeRoute(config, gate, store, clocks)
        self.leases = LeaseRegistry(config, gate, store, clocks, self._lease_ended)
        self.modes = Modes(config, self.leases)
        self.drains = Drains(config, gate, store)
        self.switches = SwitchQueue(
            config, gate, self.leases, store, clocks, on_begin=self.home.cancel
        )

    def open(self) -> None:
        """Continue what an earlier run left; called when the dispatcher is open."""
        self.drains.open()
        self.home.open()
        self.leases.open()
        self.switches.open()

    async def close(self) -> None:
        """Leave everything as it stands: the next run continues it."""
        await self.switches.close()
        await self.leases.close()
        await self.home.close()

    def reconfigure(self, config: LauncherConfig) -> None:
        """Use another configuration from now on; called after the dispatcher's."""
        self.home.reconfigure(config)
        self.leases.reconfigure(config)
        self.modes.reconfigure(config)
        self.drains.reconfigure(config)
        self.switches.reconfigure(config)

    def fact(self, fact: Fact) -> None:
        """Pass on a fact of `FactPublisher`."""
        self.switches.fact(fact)

    @property
    def kept(self) -> bool:
        """Whether the state outlives a restart."""
        return self._store.kept

    def _lease_ended(self, record: LeaseRecord) -> None:
        """Return to the home route when the last lease ends, if it was ever granted; not where a
        switch broke it, which says what is to be resident."""
        held = record.granted_at is not None or record.error is not None
        broken = record.state is LeaseState.BROKEN and record.error is None
        if held and not broken and not self.leases.open_ones():
            self.home.request()
