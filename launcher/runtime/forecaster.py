"""What would come of one more request, for whoever isn't in a queue: operators' pages, and
clients who are sent away. Asks the scheduler, and does nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from launcher.core.dry_run import Step
from launcher.core.effects import Reject
from launcher.core.forecast import Forecasts
from launcher.core.scheduler import Scheduler
from launcher.core.types import BackendId, Forecast, TicketId
from launcher.runtime.admission import PLANNED, Ask, ticket_of
from launcher.runtime.handle import Clock

#: Seconds for which a look is good: a full queue rejects as fast as clients come, and each
#: look goes over all who wait.
GOOD_FOR: Final = 0.5

#: Seconds after which it is worth asking again for something that others may have woken.
SOMEBODY: Final = 60.0

#: Rejections after which waiting helps; the others know their own time, or none.
_COME_BACK: Final = frozenset({"queue_full", "queue_timeout", "not_resident", "leased"})


class Forecaster:
    """Asks what would be, the dearer questions not too often."""

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._forecasts: Forecasts | None = None
        self._at = -math.inf

    def of(self, ticket: TicketId) -> Forecast | None:
        """How long a queued ticket will probably still wait; None where nobody can tell."""
        return _told(self._look().of_ticket(ticket))

    def all(self) -> Mapping[BackendId, Forecast]:
        """By backend. Absent: served at once, or nobody can tell."""
        found = self._look().of_new()
        return {id: one for id, one in found.items() if _told(one) is not None}

    def _look(self) -> Forecasts:
        now = self._clock()
        if self._forecasts is None or now - self._at >= GOOD_FOR:
            self._forecasts, self._at = self._scheduler.forecasts(now), now
        return self._forecasts

    def plan(self, ask: Ask) -> list[Step]:
        """What the arrival of a ticket (`PLANNED`) would bring about."""
        now = self._clock()
        steps = self._scheduler.plan(ticket_of(ask, PLANNED, now), now)
        last = steps[-1] if steps else None
        if last is not None and isinstance(last.effect, Reject):
            effect = replace(last.effect, retry_after=self.retry_after(last.effect))
            steps[-1] = replace(last, effect=effect)
        return steps

    def retry_after(self, rejected: Reject) -> float | None:
        """When to come back, in seconds, where that is known."""
        if rejected.retry_after is not None or rejected.code not in _COME_BACK:
            return rejected.retry_after
        if rejected.code == "leased":
            return SOMEBODY  # a pin, which may be let go at any moment
        if rejected.code == "not_resident" and (free := self._free_in(rejected.backend)):
            return free
        forecast = self.all().get(rejected.backend)
        return None if forecast is None else forecast.seconds

    def _free_in(self, backend: BackendId) -> float | None:
        """Seconds until the first of those in its place is stopped for being idle, or its lease
        ends, which is what somebody has to wait for who may not make them go; `SOMEBODY` at
        most."""
        now = self._clock()
        shot = self._scheduler.snapshot(now)
        names = {name for name, _ in shot.backends[backend].needs}
        times = [
            ends
            for other in shot.backends.values()
            for ends in (other.idle_stop_at, other.leased_until)
            if other.id != backend
            and ends is not None
            and not names.isdisjoint(name for name, _ in other.needs)
        ]
        return min(min(times) - now, SOMEBODY) if times else None


def _told(forecast: Forecast | None) -> Forecast | None:
    return forecast if forecast is not None and math.isfinite(forecast.seconds) else None
