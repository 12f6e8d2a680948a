"""The last hour of every backend: its changes of state, why they came, how many it served.

An observer of the dispatcher. Changes of state are noted when they happen; how many requests
wait and are served is sampled once a second at most, and only while there is traffic. Memory is
bounded whatever happens.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from launcher.core.effects import Action, Admit, Decided, Effect, Reject, WakeAt
from launcher.core.events import (
    Abandoned,
    Arrived,
    Event,
    PermitUsed,
    Released,
    Silenced,
    StartFailed,
)
from launcher.core.types import BackendId, BackendState, Snapshot

#: Seconds that are kept.
RETENTION: Final = 3600.0
#: Seconds between two samples.
SAMPLE_INTERVAL: Final = 1.0
#: Where a backend has more samples than this, older ones are merged by so many seconds.
FINE_SAMPLES: Final = 600
COARSE_INTERVAL: Final = 15.0
#: At most so many changes of state are kept for each backend, and so many marks for all.
MAX_CHANGES: Final = 4000

Later = Callable[[float, Callable[[], object]], object]
"""Call something in so many seconds."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A backend entered a state."""

    at: float
    """On the core's clock, as all times here."""
    state: BackendState


@dataclass(frozen=True, slots=True)
class Sample:
    """How many it served and how many waited for it, from then on."""

    at: float
    in_flight: int
    queued: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that the scheduler decided, or a start that failed."""

    at: float
    what: Decided | StartFailed


@dataclass(slots=True)
class BackendTimeline:
    """One backend's last hour, the oldest first. The first change and the first sample may be
    older."""

    changes: deque[StateChange] = field(default_factory=lambda: deque(maxlen=MAX_CHANGES))
    samples: deque[Sample] = field(default_factory=deque)
    """The latest as they were taken, older ones at most two for each `COARSE_INTERVAL`."""
    coarse: int = 0
    """How many of the samples have been merged."""

    def note(self, sample: Sample) -> None:
        """Add a sample; where there are many fine ones, merge the older half of them."""
        self.samples.append(sample)
        if len(self.samples) - self.coarse > FINE_SAMPLES:
            kept = list(self.samples)
            old = kept[: self.coarse]
            old += coarsened(kept[self.coarse : -FINE_SAMPLES // 2])
            self.samples = deque([*old, *kept[-FINE_SAMPLES // 2 :]])
            self.coarse = len(old)

    def forget(self, before: float) -> None:
        """Drop all that had ended by then; what held at that moment stays."""
        _forget(self.changes, before)
        self.coarse -= min(self.coarse, _forget(self.samples, before))


class Timeline:
    """Keeps the last hour. `snapshot` is the dispatcher's; `later` is the loop's by default."""

    def __init__(self, snapshot: Callable[[], Snapshot], later: Later | None = None) -> None:
        self._snapshot = snapshot
        self._later = later or (lambda delay, do: asyncio.get_running_loop().call_later(delay, do))
        self._sample_due = False
        self.backends: dict[BackendId, BackendTimeline] = {}
        self.marks: deque[Mark] = deque(maxlen=MAX_CHANGES)

    def __repr__(self) -> str:
        return f"<Timeline {len(self.backends)} backends, {len(self.marks)} marks>"

    def observe(self, event: Event, effects: Sequence[Effect], now: float) -> None:
        """Take in an event and its effects."""
        if not self._sample_due:
            self._sample_due = True
            self._later(SAMPLE_INTERVAL, self.sample)
        if isinstance(event, _TRAFFIC) and not any(map(_may_change_state, effects)):
            return  # nearly every request
        for effect in effects:
            if isinstance(effect, Decided) and effect.action is not Action.REJECT:
                self.marks.append(Mark(now, effect))
        if isinstance(event, StartFailed):
            self.marks.append(Mark(now, event))
        self._note_changes(self._snapshot())

    def sample(self) -> float:
        """Note how many are served and wait, where that has changed; return the time of it."""
        self._sample_due = False
        snapshot = self._snapshot()
        self._note_changes(snapshot)
        for one in snapshot.backends.values():
            kept = self.backends[one.id]
            samples = kept.samples
            seen = (one.in_flight, one.queued)
            last = samples[-1] if samples else None
            if seen != ((last.in_flight, last.queued) if last else (0, 0)):
                kept.note(Sample(snapshot.now, *seen))
            kept.forget(snapshot.now - RETENTION)
        return snapshot.now

    def _note_changes(self, snapshot: Snapshot) -> None:
        for gone in self.backends.keys() - snapshot.backends.keys():
            del self.backends[gone]
        for one in snapshot.backends.values():
            kept = self.backends.get(one.id)
            if kept is None:
                kept = self.backends[one.id] = BackendTimeline()
            changes = kept.changes
            if not changes or changes[-1].state is not one.state:
                changes.append(StateChange(one.since if changes else snapshot.now, one.state))


#: The events of ordinary requests.
_TRAFFIC: Final = (Arrived, Released, PermitUsed, Abandoned, Silenced)


def _may_change_state(effect: Effect) -> bool:
    """Return whether some backend's state may have changed with it."""
    if isinstance(effect, Decided):
        return effect.action is not Action.REJECT
    return not isinstance(effect, Admit | Reject | WakeAt)


def coarsened(samples: Sequence[Sample]) -> list[Sample]:
    """Return at most two for each `COARSE_INTERVAL` seconds: the most that held in them, and
    what held at their end, where that was less."""
    found: list[Sample] = []
    for _, group in groupby(samples, key=lambda one: one.at // COARSE_INTERVAL):
        held = list(group)
        flying, queued = max(one.in_flight for one in held), max(one.queued for one in held)
        found.append(Sample(held[0].at, flying, queued))
        last = held[-1]
        if (last.in_flight, last.queued) != (flying, queued):
            found.append(last)
    return found


def _forget(kept: deque[StateChange] | deque[Sample], before: float) -> int:
    """Drop all that had ended by then but what held at that moment; return how many."""
    gone = 0
    while len(kept) > 1 and kept[1].at <= before:
        kept.popleft()
        gone += 1
    return gone
