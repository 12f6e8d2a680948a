"""What would come of one more ticket, if everything takes as long as it usually does and nobody
else comes: the scheduler itself, on a copy of the world, led through the time until then.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Final, Protocol

from launcher.core.backend import Backend
from launcher.core.effects import (
    Admit,
    Adopt,
    AskBusy,
    Decided,
    Effect,
    Reject,
    Replace,
    Start,
    Stop,
    WakeAt,
)
from launcher.core.events import Arrived, Busy, Event, Observed, Released, Started, Stopped, Tick
from launcher.core.state import SchedulerState
from launcher.core.types import BackendState, Ticket, TicketId

#: Events after which nobody would read on.
LONGEST: Final = 2000


@dataclass(frozen=True, slots=True)
class Step:
    """Something that would be done."""

    after: float
    """Seconds from now."""
    effect: Effect


class Player(Protocol):
    """The copy of the scheduler that plays itself."""

    def handle(self, event: Event, now: float) -> list[Effect]: ...


class DryRun:
    """One run through the time until a ticket is served. Spoils the world it is given."""

    def __init__(self, player: Player, sched: SchedulerState, now: float) -> None:
        self._player = player
        self._state = sched
        self._now = now
        self._order = itertools.count()
        self._coming: list[tuple[float, int, Event]] = []
        self._tick = sched.wake
        for backend in sched.residents.values():
            if backend.state is BackendState.STARTING:
                self._at(backend.since + backend.expected_start, self._up(backend))
            elif backend.state is BackendState.STOPPING:
                at = backend.since + backend.expected_stop
                self._at(at, Stopped(backend.id, backend.epoch))
            for ticket in backend.in_flight:
                self._ends(backend, ticket)

    def run(self, ticket: Ticket) -> list[Step]:
        """The decisions until the ticket is granted or rejected, and that as the last."""
        began = self._now
        event: Event = Arrived(ticket)
        steps: list[Step] = []
        for _ in range(LONGEST):
            for effect in self._player.handle(event, self._now):
                own = isinstance(effect, Admit | Reject) and effect.ticket == ticket.id
                if own or isinstance(effect, Decided):
                    steps.append(Step(self._now - began, effect))
                if own:
                    return steps
                self._follow(effect)
            coming = self._coming[0][0] if self._coming else math.inf
            if min(coming, self._tick) == math.inf:
                return steps
            if self._tick <= coming:
                self._now, self._tick, event = max(self._now, self._tick), math.inf, Tick()
            else:
                self._now, _, event = heapq.heappop(self._coming)
        return steps

    def _at(self, at: float, event: Event) -> None:
        heapq.heappush(self._coming, (max(at, self._now), next(self._order), event))

    def _up(self, backend: Backend) -> Started:
        return Started(backend.id, backend.epoch, backend.instance or "rehearsed")

    def _ends(self, backend: Backend, ticket: TicketId) -> None:
        self._at(self._now + (backend.estimates.service or 0.0), Released(ticket))

    def _follow(self, effect: Effect) -> None:
        match effect:
            case Start(id) | Adopt(id):
                backend = self._state.backends[id]
                self._at(self._now + backend.expected_start, self._up(backend))
            case Stop(id, epoch):
                self._at(self._now + self._state.backends[id].expected_stop, Stopped(id, epoch))
            case AskBusy(id, epoch):
                self._at(self._now, Busy(id, epoch, False))
            case Admit(ticket, id):
                self._ends(self._state.backends[id], ticket)
            case Replace(id):
                self._at(self._now, Observed(id, self._state.backends[id].epoch, running=False))
            case WakeAt(at):
                self._tick = at
            case _:
                pass
