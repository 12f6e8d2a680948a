"""What was measured of backends, and kept: times, and how often they were started."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from launcher.core.types import BackendId, Estimates, Snapshot
from launcher.state.store import StateStore
from launcher.state.tables import Table
from launcher.telemetry.facts import Fact, StartEnded, StopEnded


@dataclass(frozen=True, slots=True)
class Starts:
    """How often a backend was started, and how long that took. Times in seconds."""

    count: int = 0
    total: float = 0.0
    last_duration: float | None = None
    last_started_at: float | None = None
    """Wall-clock time (seconds since 1970) at which the last start became ready."""

    @property
    def average(self) -> float | None:
        """Mean duration of all starts, None before the first."""
        return self.total / self.count if self.count else None

    def plus(self, duration: float, at: float) -> Starts:
        """One more start, which took `duration` and was ready at the wall-clock time `at`."""
        return Starts(self.count + 1, self.total + duration, duration, at)


def _sound(time: object) -> float | None:
    """A time that can be reckoned with; None for whatever else stands in the file."""
    if isinstance(time, int | float) and math.isfinite(time) and time >= 0:
        return float(time)
    return None


ESTIMATES: Table[str, Estimates] = Table(
    "estimates",
    ("backend", "start", "stop", "service"),
    lambda kept: (kept.start, kept.stop, kept.service),
    lambda _, *times: Estimates(*map(_sound, times)),
)

STARTS: Table[str, Starts] = Table(
    "starts",
    ("backend", "count", "total", "last_duration", "last_started_at"),
    lambda kept: (kept.count, kept.total, kept.last_duration, kept.last_started_at),
    lambda _, *counters: Starts(*counters),
)


class Keeper:
    """Saves the measured times after each start and stop, and all of them at the end.

    `fact` listens to `launcher.telemetry.facts.FactPublisher`; `snapshot` is the dispatcher's.
    """

    def __init__(self, store: StateStore, snapshot: Callable[[], Snapshot]) -> None:
        self._store = store
        self._snapshot = snapshot

    @property
    def estimates(self) -> dict[BackendId, Estimates]:
        """What earlier runs measured."""
        return {BackendId(id): kept for id, kept in self._store.loaded(ESTIMATES).items()}

    @property
    def starts(self) -> dict[BackendId, Starts]:
        """What earlier runs counted."""
        return {BackendId(id): kept for id, kept in self._store.loaded(STARTS).items()}

    def count(self, backend: BackendId, starts: Starts) -> None:
        """Keep a backend's start counters."""
        self._store.put(STARTS, backend, starts)

    def fact(self, fact: Fact) -> None:
        """Something happened to a backend."""
        if isinstance(fact, (StartEnded, StopEnded)):
            found = self._snapshot().backends.get(fact.backend)
            if found is not None:
                self._store.put(ESTIMATES, fact.backend, found.estimates)

    def save_all(self) -> None:
        """Save every backend's times: service times change without a start or a stop."""
        for backend, found in self._snapshot().backends.items():
            if found.estimates != Estimates():
                self._store.put(ESTIMATES, backend, found.estimates)
