"""A run of the scheduler through a random world, and its quiet end.

Everything that may happen does: cancellations, failures, late and repeated outcomes, deaths,
strangers, an engine that goes away, operators. The stage checks the invariants after every
event; the end checks that everybody was answered and everything came to rest.
"""

from __future__ import annotations

import copy
import math
from random import Random

from launcher.core import events as ev
from launcher.core.effects import Adopt, PermitOpened, Start, Stop, WakeAt
from launcher.core.types import BackendId, BackendSpec, Hold, OnLease, Priority, Wake, needs
from tests.core.stage import Broken, Make, Stage, spec

NAMES = ("a", "b", "c", "d")


class Chance:
    """One random run."""

    def __init__(
        self,
        make: Make,
        rng: Random,
        *,
        settled: bool = False,
        operators: bool = True,
        crowded: bool = False,
        calm: bool = False,
    ) -> None:
        """`settled`: see to it after each event that a Tick would change nothing. `operators`:
        there are some, who switch, lease, reserve, drain and configure. `crowded`: many wait for
        few places, stops take their time, and little else goes wrong. `calm`: mostly requests come
        and go, for backends that are up."""
        self.rng = rng
        self.settled = settled
        self.operators = operators
        self.crowded = crowded
        self.calm = calm
        self.gpu, self.ram = rng.choice((3, 6) if calm else (1, 2, 3)), rng.choice((0, 0, 2))
        least = len(NAMES) if crowded else 1
        specs = [self._spec(name) for name in NAMES[: rng.randint(least, len(NAMES))]]
        self.stage = Stage(make, specs, gpu=self.gpu, ram=self.ram, seen=False)
        self.names = [str(one.id) for one in specs]
        self.reserved = 0
        self.past: list[ev.Event] = []
        self.away = False
        for name in self.names:
            if rng.random() < 0.2:
                self.stage.somebody_starts(name)
        rng.shuffle(self.names)

    def _spec(self, name: str) -> BackendSpec:
        rng = self.rng
        return spec(
            name,
            gpu=rng.randint(int(self.crowded), min(self.gpu, 3)),
            ram=rng.randint(0, self.ram),
            idle_timeout=rng.choice((20.0, 120.0)),
            start_timeout=rng.choice((30.0, 100.0)),
            max_queue=rng.choice((2, 50)),
            prewarm=rng.choice((None, None, rng.randint(0, 3))),
            asks_busy=rng.random() < 0.3,
            start_guess=rng.choice((1.0, 20.0)),
            max_in_flight=rng.choice((None, None, 1, 2)),
            linger=rng.choice((0.0, 10.0, math.inf)),
        )

    def run(self, steps: int) -> None:
        """Some steps of chance, then peace."""
        moves = (
            [self._arrive] * 8
            + [self._release] * 6
            + [self._finish] * 8
            + [self._wait] * 6
            + [self._look] * 4
            + [self._abandon, self._silence, self._stranger, self._death, self._repeat]
            + [self._busy, self._operator, self._hang, self._engine]
        )
        if self.crowded:
            moves = [self._arrive] * 8 + [self._release] * 8 + [self._finish] * 4 + [self._wait] * 2
            moves += [self._look, self._abandon, self._silence, self._busy, self._repeat]
        if self.operators:
            moves += [self._order, self._lease, self._lease, self._unlease, self._renew]
            moves += [self._drain, self._configure, self._reserve]
        if self.calm:
            moves = (
                list(dict.fromkeys(moves))
                + [self._use] * 60
                + [self._release] * 55
                + [self._finish] * 10
            )
            moves += [self._wait] * 10 + [self._look] * 3
        for _ in range(steps):
            self.rng.choice(moves)()
            if self.settled:
                self._nothing_left_to_do()
        self._peace()

    # -- moves

    def _arrive(self) -> None:
        s, rng = self.stage, self.rng
        backends = rng.sample(self.names, rng.choice((1, 1, 1, min(2, len(self.names)))))
        s.arrive(
            *backends,
            max_wait=rng.choice((1.0, 10.0, 60.0)),
            priority=rng.choice(list(Priority)),
            ages=rng.choice((30.0, 1800.0)),
            wake=rng.choice((Wake.ALWAYS, Wake.ALWAYS, Wake.ALWAYS, *Wake)),
            deadline=rng.choice((math.inf, s.now + 15, s.now + 200)),
            quiet=rng.random() < 0.1,
            operator=rng.random() < 0.1,
            on_lease=rng.choice(list(OnLease)),
        )

    def _use(self) -> None:
        """One more request for something that is up, if anything is."""
        states = self.stage.states()
        up = [name for name in self.names if states.get(BackendId(name)) == "ready"]
        if up:
            self.stage.arrive(self.rng.choice(up))
        else:
            for move in (self._look, self._arrive, self._finish):
                move()

    def _order(self) -> None:
        self.stage.order(self.rng.choice(self.names))

    def _lease(self) -> None:
        rng, now = self.rng, self.stage.now
        until = rng.choice((None, None, None, now - 1.0, now + 50.0))
        hold = Hold(rng.choice((5.0, 60.0, 400.0, math.inf)), until)
        backends = rng.sample(self.names, rng.choice((1, 1, 1, min(2, len(self.names)))))
        self.stage.lease(*backends, hold=hold, urgent=rng.random() < 0.8)

    def _unlease(self) -> None:
        if self.stage.leases:
            self.stage.unlease(self.rng.choice(sorted(self.stage.leases)))

    def _renew(self) -> None:
        s = self.stage
        if s.leases:
            ticket = self.rng.choice(sorted(s.leases))
            s.renew(ticket, s.now + self.rng.choice((-1.0, 3.0, 100.0, math.inf)))

    def _drain(self) -> None:
        some = self.rng.sample(self.names, self.rng.randint(0, len(self.names)))
        self.stage.drain(*some, on=self.rng.random() < 0.4)

    def _reserve(self) -> None:
        """A lease on nothing: a backend that is there for as long as the lease."""
        s, rng = self.stage, self.rng
        here = [name for name in self.names if name.startswith("r")]
        if here:
            self.names.remove(here[0])
            s.configure(removed=(BackendId(here[0]),))
            return
        self.reserved += 1
        name = f"r{self.reserved}"
        one = spec(name, gpu=rng.randint(0, self.gpu), idle_timeout=0.0)
        s.configure(added=(one,))
        s.observe(name)
        self.names.append(name)
        s.lease(name, ttl=rng.choice((60.0, math.inf)))

    def _configure(self) -> None:
        """A reload: something is changed, replaced, taken away, or put back."""
        s, rng = self.stage, self.rng
        known = {str(id) for id in s.specs}
        here = [name for name in self.names if name in NAMES]
        gone = [name for name in NAMES if name not in self.names and rng.random() < 0.9]
        what = rng.choice(("changed", "replaced", "removed", "added", "added", "capacity"))
        if what == "added" and gone:
            name = rng.choice(gone)
            if name in known and rng.random() < 0.5:
                s.configure(replaced=(self._spec(name),))
            else:
                s.configure(added=(self._spec(name),))
            self.names.append(name)
        elif what == "removed" and len(here) > 1:
            name = rng.choice(here)
            self.names.remove(name)
            s.configure(removed=(BackendId(name),))
        elif what == "capacity":
            self.gpu = rng.choice((1, 2, 3))
            s.configure(capacity=needs(gpu=self.gpu, ram=self.ram))
        elif what in ("changed", "replaced"):
            s.configure(**{what: (self._spec(rng.choice(self.names)),)})
        if rng.random() < 0.5 and not self.away:
            for name in sorted(s.to_inspect & set(s.specs) - set(s.operations)):
                s.observe(name)

    def _release(self) -> None:
        if self.stage.flying:
            self.stage.release(self.rng.choice(sorted(self.stage.flying)), self.rng.random() < 0.8)

    def _abandon(self) -> None:
        if self.stage.queued:
            self.stage.abandon(self.rng.choice(sorted(self.stage.queued)))

    def _silence(self) -> None:
        if tunnels := sorted(self.stage.flying.keys() - self.stage.permitted()):
            ticket = self.rng.choice(tunnels)
            self.stage.silence(ticket, self.rng.random() < 0.7)

    def _finish(self) -> None:
        s = self.stage
        if not s.operations:
            return
        name = self.rng.choice(sorted(s.operations))
        operation = s.operations[name]
        fails = self.rng.random() < (0.9 if self.away else 0.2)
        if isinstance(operation, Stop):
            self.past.append(ev.Stopped(name, operation.epoch))
            s.stop_fails(name) if fails else s.stopped(name)
            return
        self.past.append(ev.Started(name, operation.epoch, "late"))
        if isinstance(operation, Adopt) and name not in s.running:
            fails = True
        if fails:
            s.start_fails(name, self.rng.choice(("backend_start_failed", "start_timeout")))
        else:
            s.started(name)

    def _wait(self) -> None:
        self.stage.pass_time(self.rng.choice((0.1, 1.0, 5.0, 30.0, 150.0)))

    def _look(self) -> None:
        """A look, if nothing of ours is under way; sometimes one that comes too late."""
        s = self.stage
        name = self.rng.choice(self.names)
        if self.away or name in s.operations:
            return
        id = BackendId(name)
        instance = s.running.get(id)
        late = ev.Observed(id, s.scheduler.epoch(id), instance is not None, instance)
        if self.rng.random() < 0.2:
            self._arrive()
        if name in s.operations or s.running.get(id) != instance:
            self.past.append(late)
        else:
            s.feed(late)

    def _stranger(self) -> None:
        name = self.rng.choice(self.names)
        if name not in self.stage.operations:
            self.stage.somebody_starts(name)

    def _death(self) -> None:
        name = self.rng.choice(self.names)
        if name not in self.stage.operations:
            self.stage.dies(name)

    def _repeat(self) -> None:
        """An outcome of long ago turns up (again)."""
        if self.past:
            event = self.rng.choice(self.past)
            assert isinstance(event, ev.Started | ev.Stopped | ev.Observed)
            here = event.backend in self.stage.specs
            if not here or event.epoch != self.stage.scheduler.epoch(event.backend):
                self.stage.feed(event)

    def _busy(self) -> None:
        if self.stage.asked:
            name = self.rng.choice(sorted(self.stage.asked))
            self.stage.answer_busy(name, self.rng.random() < 0.5)

    def _operator(self) -> None:
        name = BackendId(self.rng.choice(self.names))
        self.stage.feed(ev.StopRequested(name, self.rng.random() < 0.3))

    def _hang(self) -> None:
        self.stage.hung(self.rng.choice(self.names))

    def _engine(self) -> None:
        self.away = not self.away
        self.stage.feed(ev.Reachable(tuple(map(BackendId, self.names)), not self.away))

    def _nothing_left_to_do(self) -> None:
        """Whatever an event makes possible is done with it: nobody waits for other news."""
        stage = self.stage
        if stage.wake <= stage.now:
            return
        effects = copy.deepcopy(stage.scheduler).handle(ev.Tick(), stage.now)
        if any(not isinstance(effect, WakeAt | PermitOpened) for effect in effects):
            raise Broken(f"after {stage.last}, a Tick brings {effects}")

    # -- the end

    def _peace(self) -> None:
        """No more arrivals, nothing fails: within a bounded time everybody is answered and
        nothing is left resident (invariants 3, 5 and 6)."""
        s = self.stage
        if self.away:
            self._engine()
        s.drain(on=False)
        self._rest(leased=True)
        for ticket in sorted(s.leases):
            s.unlease(ticket)
        self._rest(leased=False)
        if set(s.ended) != set(range(1, s.next_ticket + 1)):
            raise Broken("a ticket has no end")

    def _rest(self, *, leased: bool) -> None:
        """Until everybody was answered, and nothing runs but what is leased: that does."""
        s = self.stage
        for _ in range(400):
            for name in [*s.specs]:
                if name not in s.operations and name in s.specs:
                    s.observe(name)
            for name, operation in sorted(s.operations.items()):
                if s.operations.get(name) is not operation:
                    continue
                if isinstance(operation, Start | Adopt):
                    alive = isinstance(operation, Start) or name in s.running
                    s.started(name) if alive else s.start_fails(name)
                else:
                    s.stopped(name)
            for name in sorted(s.asked):
                s.answer_busy(name, False)
            for ticket in sorted(s.flying):
                s.release(ticket)
            s.pass_time(5.0)
            kept = {on for on, _ in s.leases.values()}
            if not leased and kept:
                raise Broken(f"{kept} are still leased")
            resting = {s.states()[name] for name in s.states() if name not in kept}
            # What a reload made too much for all of them can't all be up.
            up = all(s.states()[name] == "ready" or not s.fits(name, kept) for name in kept)
            patient = [
                ticket
                for ticket in s.queued.values()
                if not all(s.behind_a_lease(id) for id in ticket.backends if id in s.specs)
            ]
            left = patient or s.flying or s.operations or set(s.running) - kept
            if not left and up and resting <= {"stopped", "failed"}:
                return
        raise Broken(f"no peace: {s.scheduler.snapshot(s.now)}")
