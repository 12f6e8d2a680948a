"""Facts: what the scheduler's events and effects mean to an operator.

Metrics, the log, the start history and the kept state all want to know the same things (how
long a start took, why something was stopped), and none of them may decide anything. So they
are derived once, here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from launcher.core.effects import (
    Abort,
    Admit,
    Adopt,
    Decided,
    Effect,
    PrewarmSkipped,
    Reject,
    Start,
    Stop,
)
from launcher.core.events import (
    Abandoned,
    Arrived,
    Closed,
    Event,
    Hung,
    Launched,
    Observed,
    PermitUsed,
    Reachable,
    Released,
    Started,
    StartFailed,
    StopFailed,
    Stopped,
    StopRequested,
)
from launcher.core.types import BackendId, Failure, StopReason, TicketId

StartOutcome = Literal["ready", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Granted:
    """A ticket got its backend after `waited` seconds."""

    backend: BackendId
    waited: float
    cold: bool


@dataclass(frozen=True, slots=True)
class GrantedAtOnce:
    """So many requests got their backend without asking, by its permit."""

    backend: BackendId
    count: int


@dataclass(frozen=True, slots=True)
class StartBegan:
    """A backend is being started, or (`adopted`) was found running and is being probed."""

    backend: BackendId
    epoch: int
    adopted: bool
    swap: bool
    """Others were evicted to make room for it."""


@dataclass(frozen=True, slots=True)
class Loading:
    """What is being started runs, and isn't ready yet."""

    backend: BackendId
    epoch: int


@dataclass(frozen=True, slots=True)
class StartEnded:
    """A start came to an end after `seconds`; `failure` where the outcome is `failed`."""

    backend: BackendId
    epoch: int
    adopted: bool
    swap: bool
    outcome: StartOutcome
    seconds: float
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class StopBegan:
    """A backend is being stopped; published once, however often the stop has to be repeated."""

    backend: BackendId
    reason: StopReason


@dataclass(frozen=True, slots=True)
class StopEnded:
    """It is confirmed, `seconds` after the first attempt, that nothing runs."""

    backend: BackendId
    reason: StopReason
    seconds: float


@dataclass(frozen=True, slots=True)
class StopStuck:
    """An attempt to stop it failed; another follows."""

    backend: BackendId
    failure: Failure


Fact = (
    Granted
    | GrantedAtOnce
    | StartBegan
    | Loading
    | StartEnded
    | StopBegan
    | StopEnded
    | StopStuck
    | Decided
    | Reject
    | Abort
    | PrewarmSkipped
    | Hung
    | Reachable
    | StopRequested
    | Closed
)

Subscriber = Callable[[Fact], None]


class FactPublisher:
    """Derives the facts from each event of the scheduler and its effects, and calls its
    subscribers with them.

    `observe` is called synchronously for every event, so it does no work that an ordinary
    request would notice: a granted request costs one fact, and only the subscribers `of_grants`
    are called with it.
    """

    def __init__(self, *subscribers: Subscriber, of_grants: Sequence[Subscriber] = ()) -> None:
        self._subscribers = subscribers
        self._of_grants = of_grants
        self._arrivals: dict[TicketId, float] = {}
        self._starts: dict[BackendId, tuple[StartBegan, float]] = {}
        self._stops: dict[BackendId, tuple[StopBegan, int, float]] = {}
        self._unreachable: frozenset[BackendId] = frozenset()
        self._evicted: set[BackendId] = set()
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"<FactPublisher waiting={len(self._arrivals)} starting={sorted(self._starts)} "
            f"stopping={sorted(self._stops)}>"
        )

    def observe(self, event: Event, effects: Sequence[Effect], now: float) -> None:
        """Take in an event and its effects. `now` in seconds on the core's clock."""
        if not effects and isinstance(event, Released):
            return  # the end of nearly every request, and no fact
        match event:
            case Arrived(ticket=ticket):
                self._arrivals[ticket.id] = now
            case PermitUsed():
                if entered := event.entered:
                    at_once = GrantedAtOnce(event.backend, entered)
                    for listener in self._of_grants:
                        listener(at_once)
            case Abandoned(ticket=gone):
                self._arrivals.pop(gone, None)
            case Launched():
                begun = self._starts.get(event.backend)
                if begun is not None and begun[0].epoch == event.epoch:
                    self._publish(Loading(event.backend, event.epoch))
            case Started() | StartFailed():
                self._start_ended(event, now)
            case Stopped():
                self._stopped(event, now)
            case Observed(running=False):
                # Nobody is looked at while a stop is under way: the stop had failed.
                self._stopped(event, now)
            case StopFailed():
                self._publish(StopStuck(event.backend, event.failure))
            case Reachable():
                self._reachable(event)
            case Closed() if self._closed:
                pass
            case Closed():
                self._closed = True
                self._publish(event)
            case Hung() | StopRequested():
                self._publish(event)
            case _:
                pass
        for effect in effects:
            self._effect(effect, now)

    def _effect(self, effect: Effect, now: float) -> None:
        match effect:
            case Admit():
                arrived = self._arrivals.pop(effect.ticket, now)
                granted = Granted(effect.backend, now - arrived, effect.cold)
                for subscriber in self._of_grants:
                    subscriber(granted)
            case Reject():
                self._arrivals.pop(effect.ticket, None)
                self._publish(effect)
            case Start() | Adopt():
                self._start_began(effect, now)
            case Stop():
                self._stop_began(effect, now)
            case Decided() | Abort() | PrewarmSkipped():
                self._publish(effect)
            case _:
                pass

    def _start_began(self, effect: Start | Adopt, now: float) -> None:
        adopted = isinstance(effect, Adopt)
        swap = not adopted and bool(self._evicted - {effect.backend})
        if not adopted:
            self._evicted.clear()
        fact = StartBegan(effect.backend, effect.epoch, adopted, swap)
        self._starts[effect.backend] = (fact, now)
        self._publish(fact)

    def _start_ended(self, event: Started | StartFailed, now: float) -> None:
        begun = self._starts.get(event.backend)
        if begun is None or begun[0].epoch != event.epoch:
            return  # an outcome that came too late: the scheduler ignores it as well
        failure = event.failure if isinstance(event, StartFailed) else None
        self._end_start(event.backend, "ready" if failure is None else "failed", now, failure)

    def _end_start(
        self, backend: BackendId, outcome: StartOutcome, now: float, failure: Failure | None = None
    ) -> None:
        began, at = self._starts.pop(backend)
        self._publish(
            StartEnded(backend, began.epoch, began.adopted, began.swap, outcome, now - at, failure)
        )

    def _stop_began(self, effect: Stop, now: float) -> None:
        if effect.backend in self._starts:
            self._end_start(effect.backend, "cancelled", now)
        under_way = self._stops.get(effect.backend)
        if under_way is not None:
            self._stops[effect.backend] = (under_way[0], effect.epoch, under_way[2])
            return
        fact = StopBegan(effect.backend, effect.reason)
        self._stops[effect.backend] = (fact, effect.epoch, now)
        if effect.reason is StopReason.EVICTED:
            self._evicted.add(effect.backend)
        self._publish(fact)

    def _stopped(self, event: Stopped | Observed, now: float) -> None:
        under_way = self._stops.get(event.backend)
        if under_way is None or under_way[1] != event.epoch:
            return
        del self._stops[event.backend]
        self._publish(StopEnded(event.backend, under_way[0].reason, now - under_way[2]))

    def _reachable(self, event: Reachable) -> None:
        """Publish only changes; that a driver answers at boot is none."""
        changed = frozenset(event.backends) & self._unreachable
        if not event.reachable:
            changed = frozenset(event.backends) - self._unreachable
            self._unreachable |= changed
        else:
            self._unreachable -= changed
        if changed:
            self._publish(event)

    def _publish(self, fact: Fact) -> None:
        for subscriber in self._subscribers:
            subscriber(fact)
