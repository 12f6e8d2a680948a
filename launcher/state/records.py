"""What outlives a restart: measured times and start counters of backends, and decisions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import orjson

from launcher.core.effects import Action, Decided
from launcher.core.types import BackendId, Estimates, Snapshot
from launcher.state.store import Cell, StateStore, StateTable
from launcher.telemetry.decisions import Decision
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
        """Return the counters after one more start, which took `duration` and was ready at the
        wall-clock time `at`."""
        return Starts(self.count + 1, self.total + duration, duration, at)


def _sound(time: object) -> float | None:
    """Return a usable time; None for whatever else stands in the file."""
    if isinstance(time, int | float) and math.isfinite(time) and time >= 0:
        return float(time)
    return None


ESTIMATES: StateTable[str, Estimates] = StateTable(
    "estimates",
    ("backend", "start", "stop", "service"),
    lambda kept: (kept.start, kept.stop, kept.service),
    lambda _, *times: Estimates(*map(_sound, times)),
)

STARTS: StateTable[str, Starts] = StateTable(
    "starts",
    ("backend", "count", "total", "last_duration", "last_started_at"),
    lambda kept: (kept.count, kept.total, kept.last_duration, kept.last_started_at),
    lambda _, *counters: Starts(*counters),
)


class Measurements:
    """Saves the measured times after each start and stop, and all of them at the end.

    `fact` is called by `FactPublisher`; `snapshot` is the dispatcher's.
    """

    def __init__(self, store: StateStore, snapshot: Callable[[], Snapshot]) -> None:
        self._store = store
        self._snapshot = snapshot

    @property
    def estimates(self) -> dict[BackendId, Estimates]:
        """The times that earlier runs measured."""
        return {BackendId(id): kept for id, kept in self._store.loaded(ESTIMATES).items()}

    @property
    def starts(self) -> dict[BackendId, Starts]:
        """The start counters of earlier runs."""
        return {BackendId(id): kept for id, kept in self._store.loaded(STARTS).items()}

    def count(self, backend: BackendId, starts: Starts) -> None:
        """Save a backend's start counters."""
        self._store.put(STARTS, backend, starts)

    def fact(self, fact: Fact) -> None:
        """Save the times of a backend that was started or stopped."""
        if isinstance(fact, (StartEnded, StopEnded)):
            found = self._snapshot().backends.get(fact.backend)
            if found is not None:
                self._store.put(ESTIMATES, fact.backend, found.estimates)

    def save_all(self) -> None:
        """Save every backend's times: service times change without a start or a stop."""
        for backend, found in self._snapshot().backends.items():
            if found.estimates != Estimates():
                self._store.put(ESTIMATES, backend, found.estimates)


def _cells(kept: Decision) -> tuple[Cell, ...]:
    return kept.at, kept.times, orjson.dumps(asdict(kept.what)).decode()


def _record(number: int, at: float, times: int, text: str) -> Decision:
    fields = orjson.loads(text)
    # Files of 0.1.0 call it `deed`.
    fields["action"] = Action(fields.pop("deed", None) or fields["action"])
    fields["pays"] = tuple(BackendId(id) for id in fields["pays"])
    return Decision(number, float(at), Decided(**fields), int(times))


DECISIONS: StateTable[int, Decision] = StateTable(
    "decisions", ("number", "at", "times", "record"), _cells, _record
)


class DecisionStore:
    """Saves the decision log: see `launcher.telemetry.decisions.Keep`."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    @property
    def kept(self) -> list[Decision]:
        """The decisions of earlier runs, the oldest first."""
        return list(self._store.loaded(DECISIONS).values())

    def keep(self, new: Decision, gone: int | None) -> None:
        """Save one that is new or has changed; delete the one that it displaces."""
        self._store.put(DECISIONS, new.number, new)
        if gone is not None:
            self._store.drop(DECISIONS, gone)
