"""A stage for the scheduler: the world around it, kept by hand or by chance.

It plays the dispatcher and the drivers: remembers what was asked for, answers when told to,
and after every event checks the core's invariants. It never decides anything itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Protocol

from launcher.core import events as ev
from launcher.core.effects import (
    Abort,
    Action,
    Admit,
    Adopt,
    AskBusy,
    Decided,
    Effect,
    Expired,
    Forget,
    Inspect,
    Reject,
    Replace,
    Start,
    Stop,
    WakeAt,
)
from launcher.core.types import (
    RESIDENT,
    BackendId,
    BackendSpec,
    BackendState,
    Failure,
    Hold,
    Needs,
    OnLease,
    Placement,
    Snapshot,
    Ticket,
    TicketId,
    Wake,
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
        self.leases: dict[TicketId, tuple[BackendId, float]] = {}
        """In force: on what, and until when."""
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
        self.ending: set[BackendId] = set()
        """Leased when an operator had it stopped already."""
        self.shrunk: set[BackendId] = set()
        """Whose bound was another when it was reached."""
        self.claims: list[BackendId] = []
        """Others were told to stop for them, and but for those who leave there is room."""
        self.reshaped = False
        """What backends need, or what there is, was changed."""
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
        self._check_claims(effects)
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
                self.ending.discard(backend)
                self.operations[backend] = effect
                self.starts.append(backend)
            case Adopt(backend):
                self.operations[backend] = effect
            case Stop(backend, _, reason):
                self._check_stop(backend, reason.value)
                self.operations[backend] = effect
                self.stops.append((backend, reason.value))
            case Admit(ticket, backend, cold):
                if ticket not in self.queued:
                    raise Broken(f"{ticket} granted, which doesn't wait")
                asked = self.queued.pop(ticket)
                if asked.quiet:
                    self.silent.add(ticket)
                if asked.hold is None:
                    self.flying[ticket] = backend
                else:
                    assert effect.until is not None
                    if self.state(backend) in ("draining", "stopping"):
                        self.ending.add(backend)
                    self.leases[ticket] = (backend, effect.until)
                self.granted.append((ticket, backend, cold))
            case Reject(ticket):
                if ticket not in self.queued:
                    raise Broken(f"{ticket} rejected, which doesn't wait")
                del self.queued[ticket]
                self.ended[ticket] = effect.code
                self.rejected[ticket] = effect
            case Expired(ticket, backend, broken):
                on, until = self.leases.pop(ticket)
                if on != backend or (until > self.now and not broken):
                    raise Broken(f"{ticket} expires on {backend}, which was until {until} on {on}")
                self.ended[ticket] = "broken" if broken else "expired"
            case Replace(backend):
                if backend in self.operations:
                    raise Broken(f"{backend} is replaced under an operation")
                self.running.pop(backend, None)
                self.to_inspect.add(backend)
            case Forget(backend):
                if backend in self.operations or backend in self.flying.values():
                    raise Broken(f"{backend} is forgotten, and something of it is left")
                self.specs.pop(backend)
                self.running.pop(backend, None)
                self.to_inspect.discard(backend)
                self.asked.pop(backend, None)
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

    def _check_stop(self, backend: BackendId, reason: str) -> None:
        """2: no Stop with tickets in flight, unless those were cut and had their time, or what
        they were granted died before. What is leased is only restarted, or stopped by force."""
        leased = any(on == backend for on, _ in self.leases.values())
        if (
            leased
            and backend not in self.ending
            and reason in ("idle", "evicted", "surplus", "operator", "removed")
        ):
            raise Broken(f"{backend} is stopped ({reason}) although it is leased")
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
            ends = [until for on, until in self.leases.values() if on == id]
            if (b.leased, b.leased_until) != (bool(ends), max(ends, default=None)):
                raise Broken(f"{id}: leased {b.leased} until {b.leased_until}, by count {ends}")
            flying = sum(1 for x in self.flying.values() if x == id)
            if b.in_flight != flying:
                raise Broken(f"{id}: {b.in_flight} in flight by the core, {flying} by count")
            most = self.specs[id].max_in_flight if id in self.specs else None
            holding = b.in_flight - b.silent
            if most is not None and holding > most and not self.overfull(id):
                raise Broken(f"{id} serves {holding}, {most} are allowed")
            if b.queued and b.state is BackendState.READY and (most is None or holding < most):
                raise Broken(f"{id} is ready, has room, and {b.queued} wait for it")
        self._check_leases(shot)

    def _check_leases(self, shot: Snapshot) -> None:
        """What is leased can be resident together; who isn't to wait for a lease doesn't; none
        lasts beyond its end."""
        leased = {on for on, _ in self.leases.values()}
        if not self.reshaped and not all(self.fits(name, leased) for name in leased):
            raise Broken(f"{sorted(leased)} are leased, and don't fit together")
        for ticket in self.queued.values():
            if len(ticket.backends) == 1:
                state = shot.backends[ticket.backends[0]].state
                up = state in (BackendState.READY, BackendState.STARTING)
                impatient = ticket.urgent or ticket.hold or ticket.on_lease is OnLease.REJECT
                if impatient and not up and self.behind_a_lease(ticket.backends[0]):
                    raise Broken(f"{ticket} waits for the end of a lease")
        late = [ticket for ticket, (_, until) in self.leases.items() if until < self.now]
        if late and not shot.closed:
            raise Broken(f"{late} should have ended")

    def _check_claims(self, effects: Iterable[Effect]) -> None:
        """A stop for somebody is followed by its start: nobody takes the place that was made for
        it but an order, a lease or a stranger, for as long as it waits."""
        shot = self.scheduler.snapshot(self.now)
        resident = {id for id, b in shot.backends.items() if b.state in RESIDENT or not b.known}
        ordered = {id for t in self.queued.values() if t.urgent or t.hold for id in t.backends}
        ordered |= {on for on, _ in self.leases.values()}
        ordered &= set(self.specs)  # a ticket may outlive one of those that it could be served by
        staying = ordered | {
            id
            for id in resident
            if (b := shot.backends[id]).state is not BackendState.STOPPING or b.stop_failure
        }
        started = {e.backend for e in effects if isinstance(e, Start)} - ordered
        waiting = {t.backends[0] for t in self.queued.values() if _waits_for_one(t)}
        told = [e.wanted_by for e in effects if isinstance(e, Decided) and e.action is Action.STOP]
        before, self.claims = self.claims, []
        for id in dict.fromkeys([*before, *(one for one in told if one is not None)]):
            if id not in waiting - resident - ordered or self.behind_a_lease(id):
                continue
            beside = staying.union(self.claims)
            if self.fits(id, beside):
                self.claims.append(id)
            elif id in before and self.fits(id, beside - started):
                raise Broken(f"{started} took the place that was made for {id}")
        for id in self.claims:
            if id in before and self.fits(id, resident | ordered):
                raise Broken(f"{id} isn't started in the place that was made for it")

    def fits(self, name: BackendId, beside: Iterable[BackendId]) -> bool:
        """Whether there is room for one and some others at a time, as far as it has a say."""
        return all(
            self.capacity[what]
            >= sum(dict(self.specs[id].placements[0].needs).get(what, 0) for id in {name, *beside})
            for what, _ in self.specs[name].placements[0].needs
        )

    def behind_a_lease(self, name: BackendId) -> bool:
        """Whether nothing but leases of others leaves it no place."""
        leased = {on for on, _ in self.leases.values()}
        return name not in leased and self.fits(name, ()) and not self.fits(name, leased)

    def overfull(self, backend: BackendId) -> bool:
        """A silent tunnel that speaks again, or a reload, may make it one too many."""
        return backend in self.spoke or backend in self.shrunk

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

    def order(self, backend: str, **rest: object) -> TicketId:
        """An operator's ticket: a switch."""
        return self.arrive(backend, urgent=True, operator=True, **rest)

    def lease(self, *backends: str, ttl: float = 100.0, **rest: object) -> TicketId:
        """An operator's ticket that is a lease."""
        rest.setdefault("hold", Hold(ttl))
        rest.setdefault("urgent", True)
        return self.arrive(*backends, **rest)

    def unlease(self, ticket: TicketId) -> None:
        """A lease is let go."""
        del self.leases[ticket]
        self.ended[ticket] = "released"
        self.feed(ev.Released(ticket))

    def renew(self, ticket: TicketId, until: float) -> None:
        """A lease ends at another time."""
        on, _ = self.leases[ticket]
        self.leases[ticket] = (on, until)
        self.feed(ev.Renewed(ticket, until))

    def configure(self, **what: object) -> None:
        """Another configuration."""
        event = ev.SpecsChanged(**what)  # type: ignore[arg-type]
        for one in (*event.added, *event.changed, *event.replaced):
            self.specs[one.id] = one
            self.shrunk.add(one.id)
        self.reshaped = self.reshaped or bool(event.changed or event.replaced or event.capacity)
        if event.capacity is not None:
            self.capacity = dict.fromkeys(self.capacity, 0) | dict(event.capacity)
        self.feed(event)

    def drain(self, *backends: str, on: bool = True) -> None:
        """New tickets are refused; of all where none is named."""
        self.feed(ev.Drained(tuple(map(BackendId, backends)) or None, on))

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

    def permitted(self) -> Set[TicketId]:
        """Those in flight under a permit, where the scheduler's are used."""
        return frozenset()

    def state(self, backend: str) -> str:
        return self.scheduler.state(BackendId(backend)).value

    def code(self, ticket: TicketId) -> str | None:
        """How a ticket ended: an error code, `released`, `abandoned`; None: it hasn't."""
        return self.ended.get(ticket)

    def look_where_asked(self) -> None:
        """Every look that was asked for is taken."""
        for id in sorted(self.to_inspect):
            self.observe(id)

    def up(self, backend: str) -> None:
        """Bring a stopped backend up, with nothing in flight."""
        ticket = self.arrive(backend)
        self.started(backend)
        self.release(ticket)


def _waits_for_one(ticket: Ticket) -> bool:
    """Whether others may be made to go for it, and for the sake of one backend only."""
    return len(ticket.backends) == 1 and ticket.wake is Wake.ALWAYS
