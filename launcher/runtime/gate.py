"""One ticket at the gate: the Admission that callers hold.

It waits, and tells its keeper when its holder lets go. It doesn't know the scheduler.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from launcher.core.types import Ticket
from launcher.errors import LauncherError
from launcher.runtime.admission import Grant, Progress
from launcher.runtime.held import Held

log = logging.getLogger(__name__)

OnAbort = Callable[[LauncherError], None]
OnExpired = Callable[[], None]


class Keeper(Protocol):
    """Who keeps the tickets."""

    def left(self, place: Place) -> None:
        """The holder let go."""
        ...

    def silenced(self, place: Place, silent: bool) -> None:
        """The holder's tunnel fell silent, or speaks again."""
        ...

    def renewed(self, place: Place, until: float) -> None:
        """The holder's lease is to end at another time."""
        ...

    def progress_of(self, place: Place) -> Progress:
        """Where a waiting ticket stands."""
        ...


class Place:
    """One ticket, from asking to letting go."""

    __slots__ = (
        "_aborted",
        "_entered",
        "_expired",
        "_keeper",
        "_on_abort",
        "_on_expired",
        "_refused",
        "_silent",
        "_waiters",
        "asked_at",
        "broken",
        "grant",
        "left",
        "ok",
        "starting",
        "ticket",
        "waits_for",
    )

    def __init__(self, keeper: Keeper, ticket: Ticket, asked_at: float) -> None:
        self._keeper = keeper
        self.ticket = ticket
        self.asked_at = asked_at
        self.grant: Grant | None = None
        self.ok = False
        self.starting = 0.0
        self.left = False
        self.waits_for: tuple[Held, ...] = ()
        """Those at which the keeper counts it among who waits."""
        self._entered = False
        self._silent = False
        self._refused: LauncherError | None = None
        self._aborted: LauncherError | None = None
        self._on_abort: OnAbort | None = None
        self._expired = False
        self._on_expired: OnExpired | None = None
        self.broken = False
        self._waiters: list[asyncio.Future[None]] = []

    # -- for its keeper

    @property
    def refused(self) -> bool:
        """It was rejected."""
        return self._refused is not None

    def give(self, grant: Grant) -> None:
        """It is granted."""
        self.grant = grant
        self._wake()

    def refuse(self, error: LauncherError, starting: float = 0.0) -> None:
        """It is rejected, after a wait in which its backend was starting for so many seconds."""
        self._refused = error
        self.starting = starting
        self._wake()

    def abort(self, error: LauncherError) -> None:
        """The exchange is to be cut. Told once; also to a holder who comes to listen later."""
        if self._aborted is None:
            self._aborted = error
            self._tell_abort()

    def expire(self, *, broken: bool) -> None:
        """The lease has ended. Told once; also to a holder who comes to listen later."""
        self._expired, self.broken = True, broken
        self._tell_expired()

    # -- for its holder

    @property
    def on_abort(self) -> OnAbort | None:
        """See `Admission.on_abort`."""
        return self._on_abort

    @on_abort.setter
    def on_abort(self, on_abort: OnAbort | None) -> None:
        self._on_abort = on_abort
        if self._aborted is not None:
            self._tell_abort()

    @property
    def on_expired(self) -> OnExpired | None:
        """See `Admission.on_expired`."""
        return self._on_expired

    @on_expired.setter
    def on_expired(self, on_expired: OnExpired | None) -> None:
        self._on_expired = on_expired
        if self._expired:
            self._tell_expired()

    async def granted(self) -> Grant:
        """Wait for the grant. Raises LauncherError where the ticket is rejected, or was
        granted and then cut before its holder came to know."""
        while True:
            if self._refused is not None:
                raise self._refused
            if self._aborted is not None:
                raise self._aborted
            if self.grant is not None:
                return self.grant
            # A future per wait: a caller's timeout cancels its own and nobody else's.
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)

    def progress(self) -> Progress:
        """Where the ticket stands."""
        return self._keeper.progress_of(self)

    def silence(self, silent: bool) -> None:
        """See `Admission.silence`."""
        if silent != self._silent and self.grant is not None and not self.left:
            self._silent = silent
            self._keeper.silenced(self, silent)

    def renew(self, until: float) -> None:
        """See `Admission.renew`."""
        if self.grant is None or self.grant.until is None or self._expired or self.left:
            raise LookupError(f"{self!r} is no lease in force")
        self._keeper.renewed(self, until)

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError(f"{self!r} is entered twice")
        self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.left:
            raise RuntimeError(f"{self!r} is left twice")
        self.left = True
        self._on_abort = self._on_expired = None
        self._keeper.left(self)

    def __repr__(self) -> str:
        if self.left:
            state = "left"
        elif self._refused is not None:
            state = "refused"
        else:
            state = "waits" if self.grant is None else "granted"
        return f"<Place {self.ticket.id} for {', '.join(self.ticket.backends)}: {state}>"

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _tell_expired(self) -> None:
        on_expired, self._on_expired = self._on_expired, None
        if on_expired is None:
            return
        try:
            on_expired()
        except Exception:
            # A holder's fault must not keep the other effects from being carried out.
            log.exception("telling that %r has ended failed", self)

    def _tell_abort(self) -> None:
        on_abort, error = self._on_abort, self._aborted
        if on_abort is None or error is None:
            return
        self._on_abort = None
        try:
            on_abort(error)
        except Exception:
            # A holder's fault must not keep the other exchanges from being cut.
            log.exception("cutting the exchange of %r failed", self)
