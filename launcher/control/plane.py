"""The control plane: all that operators do over time, put together."""

from __future__ import annotations

from collections.abc import Callable

from launcher.config import LauncherConfig
from launcher.control.book import Store
from launcher.control.clock import Clocks
from launcher.control.drains import Drains
from launcher.control.gate import Gate
from launcher.control.home import Home
from launcher.control.leases import Leases
from launcher.control.modes import Modes
from launcher.control.records import LeaseRecord, LeaseState
from launcher.control.switches import Switchboard
from launcher.telemetry.facts import Fact


class ControlPlane:
    """Switches, leases, modes, drains and home, and how they know of each other."""

    def __init__(
        self,
        config: LauncherConfig,
        gate: Gate,
        store: Store,
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`now` is the gate's clock, `wall` the time since 1970; in seconds."""
        clocks = Clocks(now, wall)
        self._store = store
        self.home = Home(config, gate, store, clocks)
        self.leases = Leases(config, gate, store, clocks, self._lease_ended)
        self.modes = Modes(config, self.leases)
        self.drains = Drains(config, gate, store)
        self.switches = Switchboard(
            config, gate, self.leases, store, clocks, on_begin=self.home.forgive
        )

    def open(self) -> None:
        """Go on with what an earlier run left; called when the gate is open."""
        self.drains.open()
        self.home.open()
        self.leases.open()
        self.switches.open()

    async def close(self) -> None:
        """Leave everything as it stands: the next run goes on with it."""
        await self.switches.close()
        await self.leases.close()
        await self.home.close()

    def reconfigure(self, config: LauncherConfig) -> None:
        """Another configuration holds from now on; called when the gate knows it."""
        self.home.reconfigure(config)
        self.leases.reconfigure(config)
        self.modes.reconfigure(config)
        self.drains.reconfigure(config)
        self.switches.reconfigure(config)

    def fact(self, fact: Fact) -> None:
        """Something happened: listens to `launcher.telemetry.facts.FactPublisher`."""
        self.switches.fact(fact)

    @property
    def kept(self) -> bool:
        """Whether all this would outlive the launcher now."""
        return self._store.kept

    def _lease_ended(self, record: LeaseRecord) -> None:
        """Home is owed when the last lease ends, if it ever held its place; not where a switch
        broke it, which says what is to be resident."""
        held = record.granted_at is not None or record.error is not None
        broken = record.state is LeaseState.BROKEN and record.error is None
        if held and not broken and not self.leases.open_ones():
            self.home.owe()
