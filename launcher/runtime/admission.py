"""Admission: ask, wait, hold, let go.

    with dispatcher.admit(Ask(backends=("coder",))) as admission:
        grant = admission.grant or await admission.granted()
        ...                     # the exchange; admission.ok = True if it was a good one

Leaving the block releases the ticket, or abandons it if it was still queued, whatever happened
inside: acquire and release belong to the dispatcher, not to its caller. Nothing here knows the
scheduler: tickets go in, and what its effects mean to their holders comes out.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from launcher.config import LauncherConfig, RouteConfig, Secret
from launcher.core import effects
from launcher.core.effects import Abort, Expired, Reject
from launcher.core.events import Abandoned, Released
from launcher.core.types import (
    BackendId,
    BackendSnapshot,
    BackendState,
    Forecast,
    Hold,
    OnLease,
    Priority,
    Snapshot,
    Ticket,
    TicketId,
    Wake,
    patience,
)
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime.handle import BackendHandle

if TYPE_CHECKING:
    from launcher.runtime.permits import Permit


class Ask(NamedTuple):
    """What a caller asks for. Durations in seconds."""

    backends: tuple[BackendId, ...]
    max_wait: float = 60.0
    queue_timeout: float = math.inf
    quiet: bool = False
    operator: bool = False
    priority: Priority = Priority.NORMAL
    ages: float = 1800.0
    wake: Wake = Wake.ALWAYS
    urgent: bool = False
    """An operator's order: see `core.types.Ticket`."""
    hold: Hold | None = None
    """It is a lease."""
    on_lease: OnLease = OnLease.WAIT


class Grant(NamedTuple):
    """The right to use a ready backend, and where it answers."""

    backend: BackendId
    epoch: int
    endpoint: Endpoint
    cold: bool
    """It waited for a start."""
    queued: float
    """Seconds between asking and being granted, the start's included."""
    starting: float
    """Of those, seconds that the backend was starting."""
    key: Secret | None = None
    """What the backend asks for, by the configuration that it runs under."""
    until: float | None = None
    """Of a lease: when it ends, on the dispatcher's clock; `inf`: never by itself. One that was
    continued may have been granted before its backend is up: its `endpoint` is empty then."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a waiting client can be told."""

    backend: BackendId
    phase: str
    """`queued`, `starting`, `stopping X for it`, … in words for a person."""
    waited: float
    forecast: Forecast | None
    """Its place and how long it will still wait, where anybody can tell."""
    cold: bool = True
    """It waits for a start, and not only for its turn."""


class Admission(Protocol):
    """One ticket, from asking to letting go."""

    grant: Grant | None
    ok: bool
    """Set to True when the exchange was a good one: resets the backend's back-off."""
    starting: float
    """Where the ticket was rejected: seconds of its wait that the backend was starting."""
    on_abort: Callable[[LauncherError], None] | None
    """Called (once, synchronously) when the exchange is to be cut: the backend is stopped
    by force, or hung. Must lead to the block being left soon."""

    on_expired: Callable[[], None] | None
    """Of a lease: called (once, synchronously) when it has ended. Its ticket is gone then; to
    leave the block is still right."""
    broken: bool
    """Of a lease that has ended: before its time, since its backend was stopped by force or is
    no longer configured."""

    async def granted(self) -> Grant:
        """Wait for the grant. Raises LauncherError where the ticket is rejected."""
        ...

    def progress(self) -> Progress:
        """Where the ticket stands."""
        ...

    def silence(self, silent: bool) -> None:
        """The tunnel fell silent, or speaks again: a silent one doesn't hold its backend."""
        ...

    def renew(self, until: float) -> None:
        """A granted lease ends at another time, on the dispatcher's clock (`inf`: never): later,
        sooner, or at once. Raises LookupError for one that isn't granted, or has ended."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Admitter(Protocol):
    """What the proxy needs of the dispatcher."""

    @property
    def permits(self) -> Mapping[BackendId, Permit]:
        """Those that are open: see `runtime.permits`."""
        ...

    def admit(self, ask: Ask) -> Admission:
        """Answers at once; costs no task and no future where the backend is ready."""
        ...

    async def suspect(self, grant: Grant) -> bool:
        """A backend believed ready refused, reset, or gave no first byte for 30 s. Looks at it
        now (inspection, then one probe) and says whether it is alive; if it died, the
        scheduler knows when this returns. Concurrent calls for one backend share one look.

        Raises `docker_unavailable` where nobody answers and its engine is away as well."""
        ...

    def watch_silence(self, grant: Grant) -> None:
        """No first byte for 30 s: begin the liveness probes of this backend (at most one
        round at a time): three failures, 10 s apart, feed Hung."""
        ...


#: The ticket of somebody who only asks what would happen. Those that arrive count from 1.
PLANNED = TicketId(0)


def ask_for(
    config: LauncherConfig,
    route: RouteConfig,
    *,
    backends: tuple[BackendId, ...] | None = None,
    priority: Priority | None = None,
    wake: Wake | None = None,
) -> Ask:
    """What a request that waits as the route says asks for. `backends` where others may serve
    it, too; `priority` and `wake` where it has its own."""
    priority = route.priority if priority is None else priority
    max_wait, ages = patience(priority, route.max_wait, config.batch_max_wait)
    # What may be kept waiting for so long has its own time on top of that.
    longer = config.batch_max_wait if priority is Priority.BATCH else 0.0
    return Ask(
        backends=route.backends if backends is None else backends,
        max_wait=max_wait,
        queue_timeout=route.queue_timeout + longer,
        priority=priority,
        ages=ages,
        wake=route.wake if wake is None else wake,
        on_lease=route.on_lease,
    )


def ticket_of(ask: Ask, id: TicketId, now: float) -> Ticket:
    """The ticket of one who asks `now`."""
    return Ticket(
        id=id,
        backends=ask.backends,
        max_wait=ask.max_wait,
        deadline=now + ask.queue_timeout,
        quiet=ask.quiet,
        operator=ask.operator,
        priority=ask.priority,
        ages=ask.ages,
        wake=ask.wake,
        urgent=ask.urgent,
        hold=ask.hold,
        on_lease=ask.on_lease,
    )


_GOING = (BackendState.DRAINING, BackendState.STOPPING)


def progress(
    snapshot: Snapshot,
    backends: Sequence[BackendId],
    asked_at: float,
    forecast: Forecast | None,
) -> Progress:
    """Where a ticket for one of `backends` stands that waits since `asked_at`; `forecast` is
    the scheduler's for it.

    Which of several backends it is bound to is the scheduler's secret: of those, one that is
    starting is taken to be it, else the first.
    """
    ours = [snapshot.backends[id] for id in backends if id in snapshot.backends]
    if not ours:  # a reload has just taken them away, and their holder is about to hear of it
        return Progress(backends[0], "queued", snapshot.now - asked_at, None)
    target = next((one for one in ours if one.state is BackendState.STARTING), ours[0])
    if forecast is not None and not math.isfinite(forecast.seconds):
        forecast = None
    return Progress(
        target.id,
        _stage(snapshot, target),
        snapshot.now - asked_at,
        forecast,
        cold=target.state is not BackendState.READY,
    )


def _stage(snapshot: Snapshot, target: BackendSnapshot) -> str:
    if target.state is BackendState.STARTING:
        return "starting"
    if target.state in _GOING:
        return f"waiting until {target.id} has stopped"
    if target.blocked_by and target.state is not BackendState.READY:
        return f"waiting for the lease on {', '.join(target.blocked_by)} to end"
    wanted = {name for name, _ in target.needs}
    in_the_way = [
        one
        for one in snapshot.backends.values()
        if one.state in _GOING and wanted & {name for name, _ in one.needs}
    ]
    if target.state is BackendState.READY or not in_the_way:
        return "queued"
    names = ", ".join(one.id for one in in_the_way)
    if any(one.state is BackendState.DRAINING for one in in_the_way):
        return f"waiting for {names} to finish"
    return f"stopping {names} for it"


log = logging.getLogger(__name__)

OnAbort = Callable[[LauncherError], None]
OnExpired = Callable[[], None]


class TicketOwner(Protocol):
    """Who keeps the tickets."""

    def left(self, admission: TicketAdmission) -> None:
        """The holder let go."""
        ...

    def silenced(self, admission: TicketAdmission, silent: bool) -> None:
        """The holder's tunnel fell silent, or speaks again."""
        ...

    def renewed(self, admission: TicketAdmission, until: float) -> None:
        """The holder's lease is to end at another time."""
        ...

    def progress_of(self, admission: TicketAdmission) -> Progress:
        """Where a waiting ticket stands."""
        ...


class TicketAdmission:
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

    def __init__(self, keeper: TicketOwner, ticket: Ticket, asked_at: float) -> None:
        self._keeper = keeper
        self.ticket = ticket
        self.asked_at = asked_at
        self.grant: Grant | None = None
        self.ok = False
        self.starting = 0.0
        self.left = False
        self.waits_for: tuple[BackendHandle, ...] = ()
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
        return f"<TicketAdmission {self.ticket.id} for {', '.join(self.ticket.backends)}: {state}>"

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


class Admissions:
    """Those who wait, and those who were granted."""

    def __init__(
        self,
        handles: Mapping[BackendId, BackendHandle],
        retry_after: Callable[[Reject], float | None],
        epoch: Callable[[BackendId], int],
    ) -> None:
        """`retry_after`: seconds after which one who is rejected may come again, where known."""
        self._handles = handles
        self._retry_after = retry_after
        self._epoch = epoch
        self._ids = itertools.count(1)
        self._admissions: dict[TicketId, TicketAdmission] = {}

    def __len__(self) -> int:
        return len(self._admissions)

    def enter(self, ask: Ask, keeper: TicketOwner, now: float) -> TicketAdmission:
        """A new ticket. One that names only backends that aren't configured any more is refused
        already."""
        for id in ask.backends:
            if id not in self._handles:
                return self._enter_rest(ask, keeper, now)
        ticket = ticket_of(ask, TicketId(next(self._ids)), now)
        admission = self._admissions[ticket.id] = TicketAdmission(keeper, ticket, now)
        return admission

    def _enter_rest(self, ask: Ask, keeper: TicketOwner, now: float) -> TicketAdmission:
        """It was resolved by a configuration that is no longer."""
        rest = tuple(id for id in ask.backends if id in self._handles)
        if rest:
            return self.enter(ask._replace(backends=rest), keeper, now)
        admission = TicketAdmission(keeper, ticket_of(ask, TicketId(next(self._ids)), now), now)
        names = ", ".join(ask.backends)
        admission.refuse(LauncherError("backend_stopped", f"{names} is no longer configured."))
        return admission

    def waiting(self, most: int) -> list[TicketAdmission]:
        """The first so many that wait, in the order of their arrival."""
        return list(
            itertools.islice((one for one in self._admissions.values() if one.waits_for), most)
        )

    def waits(self, admission: TicketAdmission) -> None:
        """If it was neither granted nor refused, it waits: until it is, or leaves."""
        if admission.grant is not None or admission.refused:
            return
        admission.waits_for = tuple(self._handles[id] for id in admission.ticket.backends)
        for handle in admission.waits_for:
            handle.wait_begins()

    def left(self, admission: TicketAdmission) -> Abandoned | Released | None:
        """Its holder let go: what is to be fed, if anything."""
        self._wait_ends(admission)
        if self._admissions.pop(admission.ticket.id, None) is None:
            return None  # it was rejected, or its lease has ended
        if admission.grant is not None:
            return Released(admission.ticket.id, admission.ok)
        return Abandoned(admission.ticket.id)

    def has(self, ticket: TicketId) -> bool:
        """Whether it is still here."""
        return ticket in self._admissions

    # -- effects

    def grant(self, effect: effects.Admit, now: float) -> None:
        """It may use its backend."""
        admission, handle = self._admissions[effect.ticket], self._handles[effect.backend]
        began = max(admission.asked_at, handle.start_began)
        self._wait_ends(admission)
        admission.give(
            self.granted(handle.id, until=effect.until)._replace(
                cold=effect.cold,
                queued=now - admission.asked_at,
                starting=now - began if effect.cold else 0.0,
            )
        )

    def granted(self, id: BackendId, *, until: float | None = None) -> Grant:
        """What somebody is granted who asks for a backend now and does not wait."""
        handle = self._handles[id]
        assert handle.endpoint is not None or until is not None, f"{id} has no endpoint"
        return Grant(
            backend=id,
            epoch=self._epoch(id),
            endpoint=handle.endpoint or Endpoint(),
            cold=False,
            queued=0.0,
            starting=0.0,
            key=handle.config.backend_key,
            until=until,
        )

    def reject(self, effect: Reject, now: float) -> None:
        """It ends."""
        admission = self._admissions.pop(effect.ticket)
        self._wait_ends(admission)
        admission.refuse(
            LauncherError(
                effect.code,
                effect.message,
                retry_after=self._retry_after(effect),
                detail=effect.detail,
            ),
            starting=self._handles[effect.backend].started_within(admission.asked_at, now),
        )

    def abort(self, effect: Abort) -> None:
        """Every exchange of a backend is to be cut. A lease is none."""
        for admission in list(self._admissions.values()):
            grant = admission.grant
            if grant is not None and grant.backend == effect.backend and grant.until is None:
                admission.abort(LauncherError(effect.code, effect.message))

    def expire(self, effect: Expired) -> None:
        """A lease has ended."""
        self._admissions.pop(effect.ticket).expire(broken=effect.broken)

    def _wait_ends(self, admission: TicketAdmission) -> None:
        for handle in admission.waits_for:
            handle.wait_ends()
        admission.waits_for = ()
