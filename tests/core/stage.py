"""A stage for the scheduler: the world around it, kept by hand or by chance.

It plays the dispatcher and the drivers: remembers what was asked for, answers when told to,
and after every event checks the core's invariants. It never decides anything itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from launcher.core import events as ev
from launcher.core.effects import (
    Abort,
    Adopt,
    AskBusy,
    Effect,
    Grant,
    Inspect,
    Reject,
    Start,
    Stop,
    WakeAt,
)
from launcher.core.types import (
    BackendId,
    BackendSpec,
    BackendState,
    Failure,
    Needs,
    Placement,
    Snapshot,
    Ticket,
    TicketId,
    needs,
)


class SchedulerLike(Protocol):
    """What the stage needs of a scheduler, so that broken copies can stand on it too."""

    def handle(self, event: ev.Event, now: float) -> list[Effect]: ...
    def snapshot(self, now: float) -> Snapshot: ...
    def epoch(self, backend: BackendId) -> int: ...
    def state(self, backend: BackendId) -> BackendState: ...


Make = Callable[[Needs], SchedulerLike]


def spec(name: str, *, gpu: int = 1, ram: int = 0, **rest: object) -> BackendSpec:
    """A backend that needs some of `gpu` and `ram`; it doesn't linger unless told to."""
    rest.setdefault("linger", 0.0)
    placement = Placement(needs(gpu=gpu, ram=ram))
    return BackendSpec(BackendId(name), (placement,), **rest)  # type: ignore[arg-type]


class Broken(AssertionError):
    """An invariant of the core does not hold."""


class Stage:
    """A scheduler and its surroundings at a virtual time."""

    def __init__(
        self,
        make: Make,
        specs: Sequence[BackendSpec],
        *,
        gpu: int = 1,
        ram: int = 0,
        seen: bool = True,
    ) -> None:
        self.now = 0.0
        self.scheduler = make(needs(gpu=gpu, ram=ram))
        self.capacity = {"gpu": gpu, "ram": ram}
        self.specs = {one.id: one for one in specs}
        self.running: dict[BackendId, str] = {}
        self.operations: dict[BackendId, Start | Adopt | Stop] = {}
        self.asked: dict[BackendId, AskBusy] = {}
        self.to_inspect: set[BackendId] = set()
        self.cut: dict[BackendId, float] = {}
        self.queued: dict[TicketId, Ticket] = {}
        self.flying: dict[TicketId, BackendId] = {}
        self.silent: set[TicketId] = set()
        self.stale: set[TicketId] = set()
        """In flight on something that died since."""
        self.spoke: set[BackendId] = set()
        """Where a silent tunnel ever spoke again."""
        self.ended: dict[TicketId, str] = {}
        self.granted: list[tuple[TicketId, BackendId, bool]] = []
        self.rejected: dict[TicketId, Reject] = {}
        self.starts: list[BackendId] = []
        self.stops: list[tuple[BackendId, str]] = []
        self.wake = math.inf
        self.next_ticket = 0
        self.instances = 0
        self.last: list[Effect] = []
        self.feed(ev.SpecsChanged(added=tuple(specs)))
        if seen:
            for one in specs:
                self.observe(one.id)

    # -- feeding

    def feed(self, event: ev.Event) -> list[Effect]:
        """Feed one event, note the effects, check the invariants."""
        up = {id for id, b in self.states().items() if b in ("ready", "draining")}
        effects = self.last = self.scheduler.handle(event, self.now)
        lost = up - {id for id, b in self.states().items() if b in ("ready", "draining")}
        if isinstance(event, ev.Stopped) or (
            isinstance(event, ev.Observed) and event.backend in lost
        ):
            self.stale.update(t for t, b in self.flying.items() if b == event.backend)
        for effect in effects:
            self._note(effect)
        self._check()
        return effects

    def states(self) -> dict[BackendId, str]:
        """Where every backend stands."""
        return {id: b.state.value for id, b in self.scheduler.snapshot(self.now).backends.items()}

    def _note(self, effect: Effect) -> None:
        match effect:
            case Start(backend):
                if isinstance(self.operations.get(backend), Start | Adopt):
                    raise Broken(f"two starts of {backend} under way")
                self._check_room(backend)
                self.operations[backend] = effect
                self.starts.append(backend)
            case Adopt(backend):
                self.operations[backend] = effect
            case Stop(backend, _, reason):
                self._check_stop(backend)
                self.operations[backend] = effect
                self.stops.append((backend, reason.value))
            case Grant(ticket, backend, cold):
                if ticket not in self.queued:
                    raise Broken(f"{ticket} granted, which doesn't wait")
                quiet = self.queued.pop(ticket).quiet
                if quiet:
                    self.silent.add(ticket)
                self.flying[ticket] = backend
                self.granted.append((ticket, backend, cold))
            case Reject(ticket):
                if ticket not in self.queued:
                    raise Broken(f"{ticket} rejected, which doesn't wait")
                del self.queued[ticket]
                self.ended[ticket] = effect.code
                self.rejected[ticket] = effect
            case AskBusy(backend):
                self.asked[backend] = effect
            case Abort(backend):
                self.cut[backend] = self.now
            case Inspect(backend):
                self.to_inspect.add(backend)
            case WakeAt(at):
                self.wake = at
            case _:
                pass

    # -- invariants

    def _check_room(self, starting: BackendId) -> None:
        """1: no Start takes the needs of all residents above the capacity."""
        shot = self.scheduler.snapshot(self.now)
        resident = {"starting", "ready", "draining", "stopping"}
        wanted = dict(shot.backends[starting].needs)
        for name in wanted:
            total = sum(
                dict(b.needs).get(name, 0)
                for b in shot.backends.values()
                # Not seen yet, it may be running; somebody's start that nobody told the core
                # of can't be known.
                if b.state.value in resident or (not b.known and b.id in self.running)
            )
            if total > self.capacity[name]:
                raise Broken(f"{starting} was started over the capacity ({name}: {total})")

    def _check_stop(self, backend: BackendId) -> None:
        """2: no Stop with tickets in flight, unless those were cut and had their time, or what
        they were granted died before."""
        held = [t for t, b in self.flying.items() if b == backend and t not in self.stale]
        if held and not (backend in self.cut and self.now >= self.cut[backend] + 4.9):
            raise Broken(f"{backend} is stopped under {held}")

    def _check(self) -> None:
        """3: every ticket stands in one place, and the core's books agree."""
        shot = self.scheduler.snapshot(self.now)
        queued = sum(b.queued for b in shot.backends.values())
        if queued != len(self.queued):
            raise Broken(f"the core counts {queued} waiting tickets, there are {len(self.queued)}")
        for id, b in shot.backends.items():
            flying = sum(1 for x in self.flying.values() if x == id)
            if b.in_flight != flying:
                raise Broken(f"{id}: {b.in_flight} in flight by the core, {flying} by count")
            most = self.specs[id].max_in_flight if id in self.specs else None
            holding = b.in_flight - b.silent
            if most is not None and holding > most and not self.overfull(id):
                raise Broken(f"{id} serves {holding}, {most} are allowed")
            if b.queued and b.state is BackendState.READY and (most is None or holding < most):
                raise Broken(f"{id} is ready, has room, and {b.queued} wait for it")

    def overfull(self, backend: BackendId) -> bool:
        """A silent tunnel that speaks again may make it one too many."""
        return backend in self.spoke

    # -- the world's moves

    def arrive(self, *backends: str, **rest: object) -> TicketId:
        """A new ticket."""
        self.next_ticket += 1
        id = TicketId(self.next_ticket)
        ticket = Ticket(id, tuple(BackendId(b) for b in backends), **rest)  # type: ignore[arg-type]
        self.queued[id] = ticket
        self.feed(ev.Arrived(ticket))
        return id

    def release(self, ticket: TicketId, ok: bool = True) -> None:
        """A granted ticket is done."""
        del self.flying[ticket]
        self.silent.discard(ticket)
        self.ended[ticket] = "released"
        self.feed(ev.Released(ticket, ok))

    def abandon(self, ticket: TicketId) -> None:
        """A waiting ticket leaves."""
        del self.queued[ticket]
        self.ended[ticket] = "abandoned"
        self.feed(ev.Abandoned(ticket))

    def silence(self, ticket: TicketId, silent: bool = True) -> None:
        """A tunnel falls silent or speaks again."""
        (self.silent.add if silent else self.silent.discard)(ticket)
        if not silent:
            self.spoke.add(self.flying[ticket])
        self.feed(ev.Silenced(ticket, silent))

    def started(self, backend: str) -> None:
        """The Start or Adopt under way comes to an end: ready."""
        id = BackendId(backend)
        operation = self.operations.pop(id)
        assert isinstance(operation, Start | Adopt)
        if isinstance(operation, Start) or id not in self.running:
            self.instances += 1
            self.running[id] = f"i{self.instances}"
        self.feed(ev.Started(id, operation.epoch, self.running[id]))

    def start_fails(self, backend: str, code: str = "backend_start_failed") -> None:
        """The Start or Adopt under way fails."""
        id = BackendId(backend)
        operation = self.operations.pop(id)
        assert isinstance(operation, Start | Adopt)
        self.feed(ev.StartFailed(id, operation.epoch, Failure(code, "exit code 1")))

    def stopped(self, backend: str) -> None:
        """The Stop under way is confirmed."""
        id = BackendId(backend)
        operation = self.operations.pop(id)
        assert isinstance(operation, Stop)
        self.running.pop(id, None)
        self.cut.pop(id, None)
        self.feed(ev.Stopped(id, operation.epoch))

    def stop_fails(self, backend: str) -> None:
        """The Stop under way does not end."""
        id = BackendId(backend)
        operation = self.operations.pop(id)
        assert isinstance(operation, Stop)
        failure = Failure("backend_stop_failed", "it ignores SIGKILL")
        self.feed(ev.StopFailed(id, operation.epoch, failure))

    def answer_busy(self, backend: str, busy: bool) -> None:
        """The busy URL answers."""
        id = BackendId(backend)
        self.feed(ev.Busy(id, self.asked.pop(id).epoch, busy))

    def observe(self, backend: str, *, age: float = 0.0) -> None:
        """A look at what really runs, as it is now."""
        id = BackendId(backend)
        self.to_inspect.discard(id)
        instance = self.running.get(id)
        epoch = self.scheduler.epoch(id)
        self.feed(ev.Observed(id, epoch, instance is not None, instance, age))

    def somebody_starts(self, backend: str) -> None:
        """Not by our doing; nobody has told the core yet."""
        self.instances += 1
        self.running[BackendId(backend)] = f"i{self.instances}"

    def dies(self, backend: str) -> None:
        """Not by our doing; nobody has told the core yet."""
        self.running.pop(BackendId(backend), None)

    def hung(self, backend: str) -> None:
        """Its liveness probes failed."""
        id = BackendId(backend)
        self.feed(ev.Hung(id, self.scheduler.epoch(id)))

    def pass_time(self, seconds: float) -> None:
        """Let time go by, with a Tick wherever one was asked for."""
        until = self.now + seconds
        for _ in range(1000):
            if self.wake > until:
                break
            self.now = max(self.now, self.wake)
            self.wake = math.inf
            self.feed(ev.Tick())
        else:
            raise Broken("the scheduler asks to be woken over and over")
        self.now = until

    # -- looking

    def state(self, backend: str) -> str:
        return self.scheduler.state(BackendId(backend)).value

    def code(self, ticket: TicketId) -> str | None:
        """How a ticket ended: an error code, `released`, `abandoned`; None: it hasn't."""
        return self.ended.get(ticket)

    def up(self, backend: str) -> None:
        """Bring a stopped backend up, with nothing in flight."""
        ticket = self.arrive(backend)
        self.started(backend)
        self.release(ticket)
