"""Permits: backends that may be used without asking, and who uses them so.

    permit = dispatcher.permits.get(backend)
    if permit is not None and permit.room > 0:
        permit.enter(holder, now)
        ...                     # the exchange, with permit.grant
        permit.leave(holder, now, ok)

Only what an ordinary request for one backend needs: no quiet one, no tunnel, no lease, no
operator's order. Everything else goes through `admit`, which works beside permits. Times are on the
dispatcher's clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

from launcher.core.effects import Abort, PermitClosed, PermitOpened
from launcher.core.events import PermitUsed
from launcher.core.types import BackendId
from launcher.errors import LauncherError
from launcher.runtime.admission import Grant

log = logging.getLogger(__name__)

#: So much is noted of a permit before the scheduler is told.
LONGEST: Final = 512


class Holder(Protocol):
    """Who uses a backend under a permit: an exchange, hashed by its identity."""

    def cut(self, error: LauncherError) -> None:
        """End the exchange: its backend is stopped by force, or hung. Called once, synchronously;
        must lead to `Permit.leave` soon."""
        ...


class Permit:
    """The right to use a ready backend without asking, as long as there is room."""

    __slots__ = (
        "_cut",
        "_entered",
        "_holders",
        "_log",
        "_note",
        "_open",
        "_report",
        "_report_idle",
        "backend",
        "grant",
        "number",
        "room",
    )

    def __init__(
        self,
        backend: BackendId,
        number: int,
        grant: Grant,
        note: Callable[[], None],
        report: Callable[[Permit], None],
    ) -> None:
        """`note` is called when there is something to tell the scheduler, `report` when it has to
        hear it at once."""
        self.backend = backend
        self.number = number
        self.grant = grant
        self.room = 0
        """How many more may enter now; 0 when it is full or was taken back."""
        self._note = note
        self._report = report
        self._report_idle = True
        self._open = True
        self._cut = False
        self._entered = 0
        self._holders: dict[Holder, int] = {}
        self._log: list[float | tuple[float, int, bool]] = []

    def __repr__(self) -> str:
        state = f"room={self.room}" if self._open else "taken back"
        return f"<Permit {self.number} of {self.backend}: {len(self._holders)} hold it, {state}>"

    def __len__(self) -> int:
        """Return how many use it."""
        return len(self._holders)

    def enter(self, holder: Holder, now: float) -> None:
        """Use the backend from now on. Raise RuntimeError if there is no room, or the holder
        has entered already."""
        if self.room <= 0 or holder in self._holders:
            raise RuntimeError(f"{holder!r} may not enter {self!r}")
        self.room -= 1
        self._entered += 1
        self._holders[holder] = self._entered
        if not self._log:
            self._note()
        self._log.append(now)

    def leave(self, holder: Holder, now: float, ok: bool) -> None:
        """Use the backend no longer; `ok` if the exchange was a good one. To be called exactly
        once for each `enter`, also after the permit was taken back. Raise KeyError otherwise."""
        number = self._holders.pop(holder)
        if not self._log:
            self._note()
        self._log.append((now, number, ok))
        if self._open:
            self.room += 1
            if (self._holders or not self._report_idle) and len(self._log) < LONGEST:
                return
        self._report(self)

    # -- for the dispatcher

    def set(self, limit: int, report_idle: bool) -> None:
        """So many may use it at a time; report, or don't, that nobody does any more."""
        self.room = max(0, limit - len(self._holders))
        self._report_idle = report_idle

    def take_back(self) -> None:
        """Let nobody enter any more."""
        self._open = False
        self.room = 0

    def used(self, *, decide: bool) -> PermitUsed:
        """Return what was noted since this was called last."""
        noted, self._log = self._log, []
        return PermitUsed(self.backend, self.number, tuple(noted), decide)

    @property
    def noted(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._log)

    def cut(self, error: LauncherError) -> None:
        """End all exchanges under it, each once."""
        if self._cut:
            return
        self._cut = True
        for holder in list(self._holders):
            try:
                holder.cut(error)
            except Exception:
                # A holder's fault must not keep the other exchanges from being cut.
                log.exception("cutting the exchange of %r failed", holder)


class Permits:
    """The permits that are open, and those taken back under which exchanges still run."""

    def __init__(
        self,
        grant: Callable[[BackendId], Grant],
        note: Callable[[], None],
        report: Callable[[Permit], None],
    ) -> None:
        """`grant` is what a request for that backend is granted now; see `Permit` for the rest."""
        self._grant = grant
        self._note = note
        self._report = report
        self.open: dict[BackendId, Permit] = {}
        self._ending: dict[int, Permit] = {}

    def __repr__(self) -> str:
        return f"<Permits {list(self.open.values())}, ending: {list(self._ending.values())}>"

    def opened(self, effect: PermitOpened) -> None:
        """A permit is open, or another number may use it."""
        permit = self.open.get(effect.backend)
        if permit is None:
            grant = self._grant(effect.backend)
            permit = Permit(effect.backend, effect.permit, grant, self._note, self._report)
            self.open[effect.backend] = permit
        permit.set(effect.limit, effect.report_idle)

    def closed(self, effect: PermitClosed) -> None:
        """A permit is taken back."""
        permit = self.open.pop(effect.backend)
        permit.take_back()
        if len(permit):
            self._ending[permit.number] = permit

    def renew(self) -> None:
        """The configuration is another: so may be the keys."""
        for permit in self.open.values():
            permit.grant = self._grant(permit.backend)

    def noted(self) -> list[PermitUsed]:
        """Return what the scheduler has not been told of the permits that are open."""
        return [one.used(decide=False) for one in self.open.values() if one.noted]

    def reported(self, permit: Permit) -> PermitUsed:
        """Return what a permit has to tell at once."""
        if not len(permit):
            self._ending.pop(permit.number, None)
        return permit.used(decide=True)

    def abort(self, effect: Abort) -> None:
        """End every exchange of a backend."""
        for permit in [*self.open.values(), *self._ending.values()]:
            if permit.backend == effect.backend:
                permit.cut(LauncherError(effect.code, effect.message))
