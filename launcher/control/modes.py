"""Named modes: a mode is a lease on its routes, nothing more, and there is one at a time."""

from __future__ import annotations

from launcher.config import LauncherConfig, ModeConfig
from launcher.control.base import find_mode
from launcher.control.leases import LeaseRegistry, check_term
from launcher.control.records import LeaseRecord, LeaseState


class Modes:
    """The current mode, and the change to another: the old mode's lease ends when the new one is
    granted, and continues if that fails."""

    def __init__(self, config: LauncherConfig, leases: LeaseRegistry) -> None:
        self._config = config
        self._leases = leases

    def reconfigure(self, config: LauncherConfig) -> None:
        """Use another configuration from now on. A current mode that it lacks continues."""
        self._config = config

    @property
    def known(self) -> tuple[ModeConfig, ...]:
        """The configured modes."""
        return self._config.modes

    def check(self, name: str, ttl: float | None) -> ModeConfig:
        """Return a mode that may be set for `ttl` seconds. Raises `unknown_mode` and
        `invalid_request`."""
        mode = find_mode(self._config, name)
        if ttl is not None:
            check_term(self._config, ttl)
        return mode

    def active(self) -> LeaseRecord | None:
        """Return the lease of the mode that is in force."""
        return self._newest(LeaseState.ACTIVE)

    def pending(self) -> LeaseRecord | None:
        """Return the lease of the mode that is pending."""
        return self._newest(LeaseState.PENDING)

    def set(
        self, name: str, ttl: float | None = None, *, by: str | None = None, waited_for: bool
    ) -> LeaseRecord:
        """Ask for a mode, for `ttl` seconds or as long as the configuration says. A pending one is
        released.

        Raises `unknown_mode`, `invalid_request`, and `leased` where other leases leave it no room.
        """
        # Before anything is released for it.
        mode = self.check(name, ttl)
        before = self.pending()
        if before is not None:
            self._leases.release(before.id, by=f"mode {name}")
        return self._leases.take(
            routes=mode.routes,
            ttl=mode.ttl if ttl is None else ttl,
            by=by,
            mode=name,
            waited_for=waited_for,
            replaces=self.active(),
        )

    def leave(self, by: str | None = None) -> LeaseRecord | None:
        """End the mode; return the lease that ended, None where there was none."""
        ended = None
        for record in (self.pending(), self.active()):
            if record is not None:
                ended = self._leases.release(record.id, by=by)
        return ended

    def _newest(self, state: LeaseState) -> LeaseRecord | None:
        found = [
            one for one in self._leases.open_ones() if one.mode is not None and one.state is state
        ]
        return found[-1] if found else None
