"""The tickets that are at the gate, and what the scheduler's effects mean to their holders.

It keeps count of who waits for which backend; it feeds nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from launcher.core.effects import Abort, Expired, Grant, Reject
from launcher.core.events import Abandoned, Released
from launcher.core.types import BackendId, TicketId
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime import admission
from launcher.runtime.admission import Ask
from launcher.runtime.asking import ticket_of
from launcher.runtime.foresight import Foresight
from launcher.runtime.gate import Keeper, Place
from launcher.runtime.held import Held


class Places:
    """Those who wait, and those who were granted."""

    def __init__(
        self,
        held: Mapping[BackendId, Held],
        foresight: Foresight,
        epoch: Callable[[BackendId], int],
    ) -> None:
        self._held = held
        self._foresight = foresight
        self._epoch = epoch
        self._ids = itertools.count(1)
        self._places: dict[TicketId, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def enter(self, ask: Ask, keeper: Keeper, now: float) -> Place:
        """A new ticket. One that names only backends that aren't configured any more is refused
        already."""
        for id in ask.backends:
            if id not in self._held:
                return self._enter_rest(ask, keeper, now)
        ticket = ticket_of(ask, TicketId(next(self._ids)), now)
        place = self._places[ticket.id] = Place(keeper, ticket, now)
        return place

    def _enter_rest(self, ask: Ask, keeper: Keeper, now: float) -> Place:
        """It was resolved by a configuration that is no longer."""
        rest = tuple(id for id in ask.backends if id in self._held)
        if rest:
            return self.enter(ask._replace(backends=rest), keeper, now)
        place = Place(keeper, ticket_of(ask, TicketId(next(self._ids)), now), now)
        names = ", ".join(ask.backends)
        place.refuse(LauncherError("backend_stopped", f"{names} is no longer configured."))
        return place

    def waiting(self, most: int) -> list[Place]:
        """The first so many that wait, in the order of their arrival."""
        return list(itertools.islice((one for one in self._places.values() if one.waits_for), most))

    def waits(self, place: Place) -> None:
        """If it was neither granted nor refused, it waits: until it is, or leaves."""
        if place.grant is not None or place.refused:
            return
        place.waits_for = tuple(self._held[id] for id in place.ticket.backends)
        for held in place.waits_for:
            held.wait_begins()

    def left(self, place: Place) -> Abandoned | Released | None:
        """Its holder let go: what is to be fed, if anything."""
        self._wait_ends(place)
        if self._places.pop(place.ticket.id, None) is None:
            return None  # it was rejected, or its lease has ended
        if place.grant is not None:
            return Released(place.ticket.id, place.ok)
        return Abandoned(place.ticket.id)

    def has(self, ticket: TicketId) -> bool:
        """Whether it is still here."""
        return ticket in self._places

    # -- effects

    def grant(self, effect: Grant, now: float) -> None:
        """It may use its backend."""
        place, held = self._places[effect.ticket], self._held[effect.backend]
        began = max(place.asked_at, held.start_began)
        self._wait_ends(place)
        place.give(
            self.granted(held.id, until=effect.until)._replace(
                cold=effect.cold,
                queued=now - place.asked_at,
                starting=now - began if effect.cold else 0.0,
            )
        )

    def granted(self, id: BackendId, *, until: float | None = None) -> admission.Grant:
        """What somebody is granted who asks for a backend now and does not wait."""
        held = self._held[id]
        assert held.endpoint is not None or until is not None, f"{id} has no endpoint"
        return admission.Grant(
            backend=id,
            epoch=self._epoch(id),
            endpoint=held.endpoint or Endpoint(),
            cold=False,
            queued=0.0,
            starting=0.0,
            key=held.config.backend_key,
            until=until,
        )

    def reject(self, effect: Reject, now: float) -> None:
        """It ends."""
        place = self._places.pop(effect.ticket)
        self._wait_ends(place)
        place.refuse(
            LauncherError(
                effect.code,
                effect.message,
                retry_after=self._foresight.retry_after(effect),
                detail=effect.detail,
            ),
            starting=self._held[effect.backend].started_within(place.asked_at, now),
        )

    def abort(self, effect: Abort) -> None:
        """Every exchange of a backend is to be cut. A lease is none."""
        for place in list(self._places.values()):
            grant = place.grant
            if grant is not None and grant.backend == effect.backend and grant.until is None:
                place.abort(LauncherError(effect.code, effect.message))

    def expire(self, effect: Expired) -> None:
        """A lease has ended."""
        self._places.pop(effect.ticket).expire(broken=effect.broken)

    def _wait_ends(self, place: Place) -> None:
        for held in place.waits_for:
            held.wait_ends()
        place.waits_for = ()
