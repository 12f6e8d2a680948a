"""Named modes: a mode is a lease on its routes, nothing more, and there is one at a time."""

from __future__ import annotations

from launcher.config import LauncherConfig, ModeConfig
from launcher.control.base import find_mode
from launcher.control.leases import Leases, check_term
from launcher.control.records import LeaseRecord, LeaseState


class Modes:
    """The mode that is, and the change to another: the old one's lease ends when the new one's
    is granted, and goes on where that fails."""

    def __init__(self, config: LauncherConfig, leases: Leases) -> None:
        self._config = config
        self._leases = leases

    def reconfigure(self, config: LauncherConfig) -> None:
        """Another configuration holds from now on. A mode that it no longer has lasts on."""
        self._config = config

    @property
    def known(self) -> tuple[ModeConfig, ...]:
        """Those that may be asked for."""
        return self._config.modes

    def check(self, name: str, ttl: float | None) -> ModeConfig:
        """Whether it may be asked for, for so many seconds; it. Raises `unknown_mode` and
        `invalid_request`."""
        mode = find_mode(self._config, name)
        if ttl is not None:
            check_term(self._config, ttl)
        return mode

    def active(self) -> LeaseRecord | None:
        """The lease of the mode that is in force."""
        return self._newest(LeaseState.ACTIVE)

    def pending(self) -> LeaseRecord | None:
        """The lease of the mode that is asked for and not granted yet."""
        return self._newest(LeaseState.PENDING)

    def set(
        self, name: str, ttl: float | None = None, *, by: str | None = None, waited_for: bool
    ) -> LeaseRecord:
        """Ask for a mode, for `ttl` seconds or as long as the configuration says. One that is
        asked for already is given up.

        Raises `unknown_mode`, `invalid_request`, and `leased` where other leases are in its way.
        """
        # Before anything is given up for it.
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
        """No mode from now on; the lease that ended, None where there was none."""
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
