"""Operators at random, over kills: whatever they do, nothing runs beside what doesn't fit, and
what the records say is so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from launcher.config import ModeConfig
from launcher.control.records import LeaseState
from launcher.core.types import BackendId
from launcher.errors import LauncherError
from tests.control.house import Life, MemoryStore, after, living, world
from tests.runtime.house import A, B, C
from tests.runtime.virtual_clock import virtual

ALL = (A, B, C)
MODES = (ModeConfig("m", (A,), 50.0), ModeConfig("n", (B,), 500.0))


#: What an operator may be told at once.
REFUSALS = frozenset({"leased", "stale_lease", "lease_pending", "unknown_lease"})


class Operators:
    """Somebody who does one thing after the other, without waiting for what comes of it."""

    def __init__(self, run: Life, dice: random.Random) -> None:
        self.run, self.dice = run, dice
        self.asked: list[int] = []

    def act(self) -> None:
        acts: list[Callable[[], object]] = [
            self.switch, self.switch, self.lease, self.lease, self.reserve, self.mode, self.leave,
            self.renew, self.release, self.drain, self.resume, self.stop, self.die, self.break_it,
        ]  # fmt: skip
        try:
            self.dice.choice(acts)()
        except LauncherError as error:
            if error.code not in REFUSALS:
                raise

    def one(self) -> BackendId:
        return self.dice.choice(ALL)

    def switch(self) -> None:
        begun = self.run.switches.begin(self.one(), force=self.dice.random() < 0.4)
        self.asked.append(begun.id)

    def lease(self) -> None:
        ttl = self.dice.choice([None, 5.0, 30.0, 200.0])
        self.run.leases.take(routes=(self.one(),), ttl=ttl, waited_for=self.dice.random() < 0.3)

    def reserve(self) -> None:
        self.run.leases.take(needs=(("gpu", 1),), ttl=self.dice.choice([5.0, 30.0]))

    def mode(self) -> None:
        self.run.plane.modes.set(self.dice.choice("mn"), waited_for=self.dice.random() < 0.3)

    def leave(self) -> None:
        self.run.plane.modes.leave()

    def renew(self) -> None:
        self.run.leases.renew(self.number(), self.dice.choice([None, 1.0, 100.0]))

    def release(self) -> None:
        self.run.leases.release(self.number())

    def number(self) -> int:
        known = self.run.leases._records.all()
        return self.dice.choice(known).id if known else 1

    def drain(self) -> None:
        self.run.plane.drains.drain(self.dice.choice([None, *ALL]))

    def resume(self) -> None:
        self.run.plane.drains.resume(self.dice.choice([None, None, *ALL]))

    def stop(self) -> None:
        self.run.house.dispatcher.request_stop(self.one(), force=self.dice.random() < 0.5)

    def die(self) -> None:
        self.run.driver.kill(self.one())

    def break_it(self) -> None:
        script = self.run.driver.script(self.one())
        script.exits_after = self.dice.choice([None, None, 2.0])


def scripted(run: Life, dice: random.Random) -> None:
    for id in ALL:
        script = run.driver.script(id)
        script.start_takes = dice.choice([0.0, 3.0])
        script.ready_after = dice.choice([0.0, 10.0, 40.0])
        script.stop_takes = dice.choice([0.0, 5.0])


async def request(run: Life, id: BackendId, takes: float) -> None:
    try:
        with run.house.asking(id, queue_timeout=300.0) as place:
            await place.granted()
            await asyncio.sleep(takes)
    except LauncherError:
        pass


def told_the_truth(run: Life) -> None:
    """What the records say is what the gate does."""
    backends = run.house.dispatcher.snapshot().backends
    lent = {live.record.id for live in run.leases._live.values() if live.lent}
    leased: set[str] = set()
    for record in run.leases.open_ones():
        if record.state is LeaseState.ACTIVE and record.id not in lent:
            held = run.leases.backends_of(record)
            assert all(backends[id].leased for id in held), record
            leased.update(held)
        elif record.id not in lent:
            # Several tickets may be granted before the last is.
            leased.update(run.leases.backends_of(record))
    assert {id for id, one in backends.items() if one.leased} <= leased
    reserved = {f"reserved-{one.id}" for one in run.leases.open_ones() if one.needs}
    shown = {id for id in backends if id.startswith("reserved-")}
    assert reserved <= shown
    drained = {id for id, one in backends.items() if one.drained and id in ALL}
    assert drained == set(run.plane.drains.routes)


def never_two_at_once(run: Life) -> None:
    up: set[BackendId] = set()
    for note in run.driver.record:
        if note.what == "up":
            up.add(note.backend)
        elif note.what == "down":
            up.discard(note.backend)
        assert len(up) <= 1, run.driver.record


@pytest.mark.parametrize("seed", [*range(25), 356])
def test_whatever_operators_do(seed: int) -> None:
    @virtual
    async def run_it() -> None:
        dice = random.Random(seed)
        config = world(home=dice.choice([None, A]), modes=MODES)
        current = Life(config, MemoryStore())
        switches: list[int] = []
        for _ in range(3):
            scripted(current, dice)
            tasks: list[asyncio.Task[None]] = []
            async with living(current) as run:
                operators = Operators(run, dice)
                for _ in range(dice.randrange(1, 15)):
                    if dice.random() < 0.7:
                        operators.act()
                    else:
                        wait = request(run, operators.one(), dice.choice([0.0, 20.0]))
                        tasks.append(asyncio.create_task(wait))
                    if dice.random() < 0.5:
                        await run.leases.durable()
                    if dice.random() < 0.6:
                        await asyncio.sleep(dice.choice([0.1, 1.0, 7.0, 60.0]))
                        told_the_truth(run)
                switches += operators.asked
                if dice.random() < 0.6:
                    run.kill()
            await asyncio.gather(*tasks)
            never_two_at_once(run)
            current = after(run)
        async with living(current) as last:
            last.plane.drains.resume(None)
            for id in ALL:
                last.driver.script(id).exits_after = None
            for one in last.leases.open_ones():
                if one.ttl is None:
                    last.leases.release(one.id)
            await last.house.until(lambda: not last.switches.open_ones(), within=5_000)
            await last.house.until(lambda: not last.leases.open_ones(), within=10_000)
            await last.house.until(lambda: not last.plane.home.pending, within=10_000)
            told_the_truth(last)
            assert [one.id for one in last.switches.all()] == sorted(
                {one.id for one in last.switches.all()}
            )
        never_two_at_once(last)
        last.house.nobody_left()

    run_it()
