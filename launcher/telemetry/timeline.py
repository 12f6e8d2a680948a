"""The last hour as a picture wants it: who stood how, when and why that changed, who waited.

Listens to the dispatcher as an observer. Changes of state are noted when they happen; how many
wait and are served is looked at once a second at most, and only while there is traffic. Memory
is bounded whatever happens. It must not know how a picture is drawn.
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

#: How far it looks back. Seconds.
REACH: Final = 3600.0
#: Seconds between two looks at how many wait.
EVERY: Final = 1.0
#: From so many samples of a backend on, older ones are put together by so many seconds.
FINE: Final = 600
COARSE: Final = 15.0
#: At most so many changes of state are kept for each backend, and so many marks for all.
MOST: Final = 4000

Later = Callable[[float, Callable[[], object]], object]
"""Call something in so many seconds."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A backend came to stand like this."""

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
class Lane:
    """One backend's hour, the oldest first. The first turn and the first sample may be older."""

    turns: deque[Turn] = field(default_factory=lambda: deque(maxlen=MOST))
    samples: deque[Sample] = field(default_factory=deque)
    """Those of the last minutes as they were taken, older ones at most two for each `COARSE`."""
    coarse: int = 0
    """So many of them are."""

    def note(self, sample: Sample) -> None:
        """One more; where there are many fine ones, the older half of them becomes coarse."""
        self.samples.append(sample)
        if len(self.samples) - self.coarse > FINE:
            kept = list(self.samples)
            old = kept[: self.coarse]
            old += coarsened(kept[self.coarse : -FINE // 2])
            self.samples = deque([*old, *kept[-FINE // 2 :]])
            self.coarse = len(old)

    def forget(self, before: float) -> None:
        """All that had ended by then goes; what held at that moment stays."""
        _forget(self.turns, before)
        self.coarse -= min(self.coarse, _forget(self.samples, before))


class Timeline:
    """Keeps the last hour. `snapshot` is the dispatcher's; `later` is the loop's by default."""

    def __init__(self, snapshot: Callable[[], Snapshot], later: Later | None = None) -> None:
        self._snapshot = snapshot
        self._later = later or (lambda delay, do: asyncio.get_running_loop().call_later(delay, do))
        self._look_due = False
        self.lanes: dict[BackendId, Lane] = {}
        self.marks: deque[Mark] = deque(maxlen=MOST)

    def __repr__(self) -> str:
        return f"<Timeline {len(self.lanes)} lanes, {len(self.marks)} marks>"

    def observe(self, event: Event, effects: Sequence[Effect], now: float) -> None:
        """One event and what the scheduler made of it."""
        if not self._look_due:
            self._look_due = True
            self._later(EVERY, self.look)
        if isinstance(event, _TRAFFIC) and not any(map(_moves, effects)):
            return  # nearly every request
        for effect in effects:
            if isinstance(effect, Decided) and effect.action is not Action.REJECT:
                self.marks.append(Mark(now, effect))
        if isinstance(event, StartFailed):
            self.marks.append(Mark(now, event))
        self._turns(self._snapshot())

    def look(self) -> float:
        """Note how many are served and wait, where that has changed; the time of the look."""
        self._look_due = False
        snapshot = self._snapshot()
        self._turns(snapshot)
        for one in snapshot.backends.values():
            lane = self.lanes[one.id]
            samples = lane.samples
            seen = (one.in_flight, one.queued)
            last = samples[-1] if samples else None
            if seen != ((last.in_flight, last.queued) if last else (0, 0)):
                lane.note(Sample(snapshot.now, *seen))
            lane.forget(snapshot.now - REACH)
        return snapshot.now

    def _turns(self, snapshot: Snapshot) -> None:
        for gone in self.lanes.keys() - snapshot.backends.keys():
            del self.lanes[gone]
        for one in snapshot.backends.values():
            lane = self.lanes.get(one.id)
            if lane is None:
                lane = self.lanes[one.id] = Lane()
            turns = lane.turns
            if not turns or turns[-1].state is not one.state:
                turns.append(Turn(one.since if turns else snapshot.now, one.state))


#: What a request does.
_TRAFFIC: Final = (Arrived, Released, PermitUsed, Abandoned, Silenced)


def _moves(effect: Effect) -> bool:
    """Whether some backend's state may have changed with it."""
    if isinstance(effect, Decided):
        return effect.action is not Action.REJECT
    return not isinstance(effect, Admit | Reject | WakeAt)


def coarsened(samples: Sequence[Sample]) -> list[Sample]:
    """At most two for each `COARSE` seconds: the most that held in them, and what held at their
    end, where that was less."""
    found: list[Sample] = []
    for _, group in groupby(samples, key=lambda one: one.at // COARSE):
        held = list(group)
        flying, queued = max(one.in_flight for one in held), max(one.queued for one in held)
        found.append(Sample(held[0].at, flying, queued))
        last = held[-1]
        if (last.in_flight, last.queued) != (flying, queued):
            found.append(last)
    return found


def _forget(kept: deque[Turn] | deque[Sample], before: float) -> int:
    """Drop all that had ended by then but what stood at that moment; how many those were."""
    gone = 0
    while len(kept) > 1 and kept[1].at <= before:
        kept.popleft()
        gone += 1
    return gone
