"""Permits as the data path uses them: when they are there, who takes them back, who is cut."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from launcher.config import Secret
from launcher.core.effects import Stop
from launcher.core.events import Arrived, PermitUsed
from launcher.core.types import BackendId, BackendSnapshot, BackendState, Hold
from launcher.errors import LauncherError
from launcher.runtime import permits
from launcher.runtime.dispatcher import FOLD_WITHIN
from launcher.runtime.permits import Permit
from tests.runtime.house import A, B, C, House, config, opened
from tests.runtime.virtual_clock import virtual


class Exchange:
    """Uses a backend under a permit. `leaves`: at once when it is cut."""

    def __init__(self, permit: Permit, *, leaves: bool = True) -> None:
        self.permit = permit
        self.leaves = leaves
        self.errors: list[LauncherError] = []
        permit.enter(self, now())

    def cut(self, error: LauncherError) -> None:
        self.errors.append(error)
        if self.leaves:
            self.leave(ok=False)

    def leave(self, *, ok: bool = True) -> None:
        self.permit.leave(self, now(), ok)


def now() -> float:
    return asyncio.get_running_loop().time()


def permit_for(house: House, backend: BackendId = A) -> Permit:
    return house.dispatcher.permits[backend]


def arrivals(house: House) -> int:
    return len(house.ledger.of(Arrived))


@virtual
async def test_a_permit_carries_what_a_request_would_be_granted() -> None:
    house = House(config(A, key="secret"))
    async with opened(house):
        assert A not in house.dispatcher.permits
        with house.asking() as ticket:
            grant = await ticket.granted()
            permit = permit_for(house)
            assert permit.grant == grant._replace(cold=False, queued=0.0, starting=0.0)
            assert permit.backend == A
            assert permit.room > 1000


@virtual
async def test_what_uses_a_permit_is_in_flight_and_no_event() -> None:
    house = House()
    async with opened(house):
        await house.use()
        events = len(house.ledger.events)
        first, second = Exchange(permit_for(house)), Exchange(permit_for(house))
        assert len(house.ledger.events) == events
        assert house.one().in_flight == 2
        first.leave()
        assert house.one().in_flight == 1
        second.leave()
        assert house.one().in_flight == 0
        assert house.one().last_used == now()
        house.nobody_left()


@virtual
async def test_uses_count_as_served_at_once_for_those_who_observe() -> None:
    house = House()
    async with opened(house):
        await house.use()
        for _ in range(3):
            Exchange(permit_for(house)).leave()
        await asyncio.sleep(FOLD_WITHIN)
        assert sum(used.entered for used in house.ledger.of(PermitUsed)) == 3


@virtual
async def test_who_leaves_is_heard_of_before_long() -> None:
    house = House()
    async with opened(house):
        await house.use()
        stays, leaves = Exchange(permit_for(house)), Exchange(permit_for(house))
        await asyncio.sleep(2 * FOLD_WITHIN)
        leaves.leave()
        left = now()
        await asyncio.sleep(FOLD_WITHIN)
        assert house.ledger.of(PermitUsed)[-1].log == ((left, 2, True),)
        stays.leave()


@virtual
async def test_the_scheduler_hears_within_a_second_or_when_much_was_noted() -> None:
    house = House()
    async with opened(house):
        await house.use()
        stays = Exchange(permit_for(house))
        before = len(house.ledger.of(PermitUsed))
        for _ in range(permits.LONGEST):
            Exchange(permit_for(house)).leave()
        told = house.ledger.of(PermitUsed)[before:]
        assert sum(len(used.log) for used in told) >= permits.LONGEST
        stays.leave()


@virtual
async def test_a_lone_client_is_heard_of_once_and_not_for_each_request() -> None:
    house = House(config(A, idle_timeout=600.0))
    async with opened(house):
        await house.use()
        for _ in range(100):
            Exchange(permit_for(house)).leave()
        assert len(house.ledger.of(PermitUsed)) <= 1


@virtual
async def test_a_backend_used_under_permits_is_stopped_when_it_was_idle_for_long() -> None:
    house = House(config(A, idle_timeout=60.0))
    async with opened(house):
        await house.use()
        for _ in range(10):
            exchange = Exchange(permit_for(house))
            await asyncio.sleep(50)
            exchange.leave()
            await asyncio.sleep(50)
        assert house.driver.count("stop", A) == 0
        last = now() - 50
        await house.until(lambda: house.state() is BackendState.STOPPED)
        assert now() - last == pytest.approx(60.0, abs=1.0)
        assert A not in house.dispatcher.permits


@virtual
async def test_taken_back_when_somebody_waits_for_the_place() -> None:
    house = House()
    async with opened(house):
        await house.use()
        permit = permit_for(house)
        exchange = Exchange(permit)
        with house.asking(B) as waiting:
            assert A not in house.dispatcher.permits
            assert permit.room == 0
            with pytest.raises(RuntimeError):
                Exchange(permit)
            assert waiting.grant is None
            await asyncio.sleep(1)
            assert house.state() is BackendState.READY
            exchange.leave()
            assert (await waiting.granted()).backend == B
            assert permit_for(house, B).room
        house.nobody_left()


@virtual
async def test_kept_while_somebody_waits_for_another_place() -> None:
    house = House(config(A, needs=()), config(B))
    house.driver.script(B).start_takes = 10.0
    async with opened(house):
        await house.use()
        permit = permit_for(house)
        with house.asking(B) as waiting:
            assert permit_for(house) is permit
            await waiting.granted()
        house.nobody_left()


@virtual
async def test_published_anew_when_nobody_waits_any_more() -> None:
    house = House()
    async with opened(house):
        await house.use()
        exchange = Exchange(permit_for(house))
        with house.asking(B):
            assert A not in house.dispatcher.permits
        again = permit_for(house)
        assert again is not exchange.permit
        other = Exchange(again)
        assert house.one().in_flight == 2
        exchange.leave()
        other.leave()
        house.nobody_left()


@virtual
async def test_full_until_one_leaves() -> None:
    house = House(replace(config(A), max_in_flight=2))
    async with opened(house):
        await house.use()
        permit = permit_for(house)
        one, other = Exchange(permit), Exchange(permit)
        assert permit.room == 0
        with pytest.raises(RuntimeError):
            Exchange(permit)
        one.leave()
        assert permit.room == 1
        with house.asking() as ticket:
            assert ticket.grant is not None
            assert permit.room == 0
        assert permit.room == 1
        other.leave()
        assert permit.room == 2
        house.nobody_left()


@virtual
async def test_who_waits_for_a_full_backend_is_served_when_one_leaves() -> None:
    house = House(replace(config(A), max_in_flight=1))
    async with opened(house):
        await house.use()
        exchange = Exchange(permit_for(house))
        with house.asking() as ticket:
            assert ticket.grant is None
            assert A not in house.dispatcher.permits
            exchange.leave()
            assert ticket.grant is not None
        assert permit_for(house).room == 1
        house.nobody_left()


@virtual
async def test_taken_back_when_an_operator_drains_it() -> None:
    house = House()
    async with opened(house):
        await house.use()
        exchange = Exchange(permit_for(house))
        house.dispatcher.drain([A], on=True)
        assert A not in house.dispatcher.permits
        exchange.leave()
        house.dispatcher.drain(None, on=False)
        assert permit_for(house).room
        house.nobody_left()


@virtual
async def test_a_stop_by_an_operator_waits_for_those_who_use_it() -> None:
    house = House()
    async with opened(house):
        await house.use()
        exchange = Exchange(permit_for(house))
        house.dispatcher.request_stop(A)
        assert A not in house.dispatcher.permits
        await asyncio.sleep(100)
        assert house.state() is BackendState.DRAINING
        assert not exchange.errors
        exchange.leave()
        await house.until(lambda: house.state() is BackendState.STOPPED)
        house.nobody_left()


@virtual
async def test_a_stop_by_force_cuts_those_who_use_it() -> None:
    house = House()
    async with opened(house):
        await house.use()
        exchanges = [Exchange(permit_for(house), leaves=n > 0) for n in range(3)]
        with house.asking() as ticket:
            house.dispatcher.request_stop(A, force=True)
            assert [[one.code for one in e.errors] for e in exchanges] == [["backend_stopped"]] * 3
            assert ticket.grant is not None
            assert not house.ledger.of(Stop)
        house.dispatcher.request_stop(A, force=True)
        assert all(len(e.errors) == 1 for e in exchanges), "each is told once"
        exchanges[0].leave(ok=False)
        await house.until(lambda: house.state() is BackendState.STOPPED)
        house.nobody_left()


@virtual
async def test_one_who_cannot_be_cut_keeps_no_other_from_it() -> None:
    class Broken(Exchange):
        def cut(self, error: LauncherError) -> None:
            super().cut(error)
            raise ValueError

    house = House()
    async with opened(house):
        await house.use()
        exchanges = [Broken(permit_for(house)), Exchange(permit_for(house))]
        house.dispatcher.request_stop(A, force=True)
        assert all(len(one.errors) == 1 for one in exchanges)
        await house.until(lambda: house.state() is BackendState.STOPPED)
        house.nobody_left()


@virtual
async def test_hung_cuts_those_who_use_it() -> None:
    house = House()
    async with opened(house):
        await house.use()
        permit = permit_for(house)
        exchange = Exchange(permit)
        house.driver.script(A).hangs = True
        house.dispatcher.watch_silence(permit.grant)
        await house.until(lambda: exchange.errors)
        assert A not in house.dispatcher.permits
        house.driver.script(A).hangs = False
        await house.use()
        assert house.driver.count("start", A) == 2
        assert permit_for(house) is not permit
        house.nobody_left()


@virtual
async def test_taken_back_at_death_and_what_ran_holds_nothing_of_the_next_run() -> None:
    house = House()
    async with opened(house):
        await house.use()
        exchange = Exchange(permit_for(house))
        house.driver.kill(A)
        assert not await house.dispatcher.suspect(exchange.permit.grant)
        assert A not in house.dispatcher.permits
        await house.use()
        assert house.driver.count("start", A) == 2
        assert seen(house) == (1, 1)
        again = Exchange(permit_for(house))
        assert seen(house) == (2, 1)
        exchange.leave(ok=False)
        assert seen(house) == (1, 0)
        again.leave()
        house.nobody_left()


def seen(house: House) -> tuple[int, int]:
    one: BackendSnapshot = house.one()
    return one.in_flight, one.silent


@virtual
async def test_a_reload_gives_the_new_key_and_the_new_bound() -> None:
    before = replace(config(A, key="old"), max_in_flight=3)
    house = House(before)
    async with opened(house):
        await house.use()
        exchange = Exchange(permit_for(house))
        after = replace(before, backend_key=Secret("new"), max_in_flight=2)
        house.dispatcher.reconfigure({A: after}, {A: house.driver})
        assert permit_for(house).grant.key == Secret("new")
        assert permit_for(house).room == 1
        house.dispatcher.reconfigure({}, {})
        assert A not in house.dispatcher.permits
        assert house.state() is BackendState.DRAINING
        exchange.leave()
        await house.until(lambda: A not in house.dispatcher.snapshot().backends)


@virtual
async def test_a_bound_below_those_in_flight_takes_it_back_until_there_is_room() -> None:
    before = replace(config(A), max_in_flight=3)
    house = House(before)
    async with opened(house):
        await house.use()
        exchanges = [Exchange(permit_for(house)) for _ in range(3)]
        house.dispatcher.reconfigure({A: replace(before, max_in_flight=1)}, {A: house.driver})
        assert A not in house.dispatcher.permits
        for exchange in exchanges:
            exchange.leave()
        assert permit_for(house).room == 1
        house.nobody_left()


@virtual
async def test_a_lease_beside_permits_takes_nothing_back() -> None:
    house = House()
    async with opened(house):
        await house.use()
        permit = permit_for(house)
        with house.asking(hold=Hold(60.0), urgent=True) as lease:
            assert lease.grant is not None
            assert permit_for(house) is permit
            Exchange(permit).leave()
        house.nobody_left()


@virtual
async def test_taken_back_at_shutdown_and_those_who_use_it_may_still_leave() -> None:
    house = House()
    async with opened(house):
        await house.use()
        permit = permit_for(house)
        exchange = Exchange(permit)
    assert not house.dispatcher.permits
    assert permit.room == 0
    exchange.leave()
    house.nobody_left()


@virtual
async def test_an_unpaired_use_is_loud() -> None:
    house = House()
    async with opened(house):
        await house.use()
        permit = permit_for(house)
        exchange = Exchange(permit)
        with pytest.raises(RuntimeError):
            permit.enter(exchange, now())
        exchange.leave()
        with pytest.raises(KeyError):
            exchange.leave()
        assert house.one().in_flight == 0
        house.nobody_left()


@virtual
async def test_who_leaves_and_comes_while_others_are_cut_is_counted() -> None:
    """A connection whose exchange is cut may go on with another, somewhere else, at once."""

    class Pipelined(Exchange):
        def cut(self, error: LauncherError) -> None:
            super().cut(error)
            self.next = Exchange(permit_for(house, C))

    house = House(config(A, needs=()), config(C, needs=()))
    async with opened(house):
        await house.use(A)
        await house.use(C)
        exchange = Pipelined(permit_for(house, A))
        house.dispatcher.request_stop(A, force=True)
        assert house.one(C).in_flight == 1
        exchange.next.leave()
        await house.until(lambda: house.state(A) is BackendState.STOPPED)
        house.nobody_left()
