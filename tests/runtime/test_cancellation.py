"""Waiters that leave: before their grant, after it, in the same tick, while cut. In every
interleaving each ticket ends once, and none is left behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from launcher import tasks
from launcher.core.events import Abandoned, Released
from launcher.core.types import BackendId, BackendState
from launcher.errors import LauncherError
from tests.runtime.house import ALL, A, B, House, config, opened
from tests.runtime.virtual_clock import virtual


async def exchange(house: House, backend: BackendId, lasts: float = 0.0) -> str:
    """What the proxy's handler does, in short; says how it ended."""
    try:
        with house.ask(backend) as admission:
            cut = asyncio.Event()
            admission.on_abort = lambda error: cut.set()
            await admission.granted()
            if lasts:
                try:
                    async with asyncio.timeout(lasts):
                        await cut.wait()
                        return "cut"
                except TimeoutError:
                    pass
            admission.ok = True
            return "ok"
    except LauncherError as error:
        return error.code


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@virtual
async def test_one_who_leaves_the_queue_abandons() -> None:
    house = House()
    house.driver.script(A).start_takes = 5.0
    async with opened(house):
        waiter = tasks.spawn(exchange(house, A), name="waiter")
        await asyncio.sleep(1)
        await tasks.cancel(waiter)
        house.nobody_left()
        assert len(house.ledger.of(Abandoned)) == 1
        # The start is the backend's, not its first client's: it goes on.
        await house.until(lambda: house.state() is BackendState.READY)
        assert house.driver.count("up", A) == 1


@virtual
async def test_one_who_leaves_after_the_grant_releases() -> None:
    house = House()
    async with opened(house):
        waiter = tasks.spawn(exchange(house, A, lasts=100.0), name="waiter")
        await house.until(lambda: house.one().in_flight)
        await tasks.cancel(waiter)
        house.nobody_left()
        assert len(house.ledger.of(Released)) == 1


@virtual
async def test_one_cancelled_in_the_tick_of_its_grant_releases() -> None:
    """Granted, its future set, and cancelled before it wakes: the core counts it already."""
    house = House()
    house.driver.script(A).start_takes = 5.0
    async with opened(house):
        waiter = tasks.spawn(exchange(house, A), name="waiter")
        await asyncio.sleep(1)
        real = house.dispatcher._admissions.grant

        def grant_and_cancel(effect: object, now: float) -> None:
            real(effect, now)  # type: ignore[arg-type]
            waiter.cancel()

        house.dispatcher._admissions.grant = grant_and_cancel  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await waiter
        house.nobody_left()
        assert len(house.ledger.of(Released)) == 1
        assert not house.ledger.of(Abandoned)


@virtual
async def test_nothing_is_swapped_for_one_who_left_before_it_began() -> None:
    house = House()
    async with opened(house):
        await house.use(A)
        with house.asking(A):
            waiter = tasks.spawn(exchange(house, B), name="waiter")
            await asyncio.sleep(1)
            await tasks.cancel(waiter)
        await asyncio.sleep(5)
        assert house.driver.running() == {A}
        assert house.driver.count("start", B) == 0
        house.nobody_left()


@virtual
async def test_a_waiters_own_timeout_keeps_its_place() -> None:
    """A heartbeat waits in slices; each slice's end is no departure."""
    house = House()
    house.driver.script(A).start_takes = 25.0
    async with opened(house):
        with house.asking() as admission:
            slices = 0
            while True:
                try:
                    async with asyncio.timeout(10):
                        grant = await admission.granted()
                    break
                except TimeoutError:
                    slices += 1
            assert slices == 2
            assert grant.queued == pytest.approx(25, abs=0.1)
        house.nobody_left()


@virtual
async def test_two_may_wait_on_one_ticket() -> None:
    house = House()
    house.driver.script(A).start_takes = 5.0
    async with opened(house):
        with house.asking() as admission:
            first = tasks.spawn(admission.granted(), name="first")
            second = tasks.spawn(admission.granted(), name="second")
            await asyncio.sleep(1)
            await tasks.cancel(first)
            assert (await second).backend == A
        house.nobody_left()


@virtual
async def test_one_who_is_cut_before_it_woke_is_told_at_once() -> None:
    house = House()
    house.driver.script(A).start_takes = 5.0
    async with opened(house):
        waiter = tasks.spawn(exchange(house, A, lasts=100.0), name="waiter")
        await asyncio.sleep(1)
        real = house.dispatcher._admissions.grant

        def grant_and_stop(effect: object, now: float) -> None:
            real(effect, now)  # type: ignore[arg-type]
            house.dispatcher.request_stop(A, force=True)

        house.dispatcher._admissions.grant = grant_and_stop  # type: ignore[method-assign]
        assert await waiter in ("cut", "backend_stopped")
        await house.until(lambda: house.state() is BackendState.STOPPED)
        house.nobody_left()


@virtual
async def test_leaving_twice_is_loud() -> None:
    house = House()
    async with opened(house):
        admission = house.ask()
        with admission:
            with pytest.raises(RuntimeError, match="entered twice"), admission:
                pass
        with pytest.raises(RuntimeError, match="left twice"):
            admission.__exit__(None, None, None)
        house.nobody_left()


def cold(house: House) -> None:
    house.driver.script(A).start_takes = 0.002
    house.driver.script(A).ready_after = 0.002


def at_once(house: House) -> None:
    pass


def dying(house: House) -> None:
    house.driver.script(A).exits_after = 0.0


def failing(house: House) -> None:
    house.driver.script(A).start_error = LauncherError("backend_start_failed", "no")


@pytest.mark.parametrize("world", [cold, at_once, dying, failing], ids=lambda w: w.__name__)
@pytest.mark.parametrize("forced", [False, True], ids=["", "stopped by force"])
def test_at_every_turn_of_the_loop(world: Callable[[House], None], forced: bool) -> None:
    """Leave after n turns of the loop, for every n until there is nothing left to leave."""

    @virtual
    async def leave_after(count: int) -> None:
        house = House()
        world(house)
        async with opened(house):
            waiters = [tasks.spawn(exchange(house, A), name=f"waiter {n}") for n in range(3)]
            await turns(count)
            for waiter in waiters[:2]:
                waiter.cancel()
            if forced:
                house.dispatcher.request_stop(A, force=True)
            await asyncio.wait(waiters)
            house.nobody_left()
            await asyncio.sleep(30)
            house.nobody_left()
            assert house.state() in (
                BackendState.READY,
                BackendState.STOPPED,
                BackendState.FAILED,
            )
            assert (A in house.driver.running()) == (house.state() is BackendState.READY)

    for count in range(40):
        leave_after(count)


@pytest.mark.parametrize("seed", range(40))
def test_a_random_crowd(seed: int) -> None:
    """Everybody comes and goes as they like, backends die, strangers meddle, operators stop."""
    chance = random.Random(seed)

    @virtual
    async def crowd() -> None:
        house = House(*(config(id, idle_timeout=20.0, stop_grace=2.0) for id in ALL))
        for id in ALL:
            script = house.driver.script(id)
            script.start_takes = chance.choice((0.0, 0.5, 2.0))
            script.ready_after = chance.choice((0.0, 1.0, 5.0))
            script.stop_takes = chance.choice((0.0, 1.0, 5.0))
            script.looks_take = chance.choice((0.0, 0.3))
            script.events_take = lambda: chance.choice((0.0, 0.0, 0.5, 3.0))

        async def client() -> str:
            await asyncio.sleep(chance.uniform(0, 60))
            return await exchange(house, chance.choice(ALL), chance.choice((0.0, 0.0, 3.0)))

        async def leaver() -> None:
            one = tasks.spawn(client(), name="leaver")
            await asyncio.sleep(chance.uniform(0, 70))
            await tasks.cancel(one)

        async def trouble() -> None:
            for _ in range(12):
                await asyncio.sleep(chance.uniform(0, 8))
                id = chance.choice(ALL)
                match chance.randrange(5):
                    case 0:
                        house.driver.kill(id)
                    case 1:
                        house.driver.run(id)
                    case 2:
                        house.dispatcher.request_stop(id, force=chance.random() < 0.5)
                    case 3:
                        house.driver.lose_engine()
                        await asyncio.sleep(chance.uniform(0, 3))
                        house.driver.find_engine()
                    case _:
                        pass

        async with opened(house):
            clients = [tasks.spawn(client(), name="client") for _ in range(30)]
            others = [tasks.spawn(leaver(), name="leaver") for _ in range(30)]
            others.append(tasks.spawn(trouble(), name="trouble"))
            await asyncio.wait({*clients, *others})
            house.nobody_left()
            assert any(one.result() == "ok" for one in clients)
            # Left alone, all of it comes to rest: nothing runs, and the picture is right.
            await house.until(
                lambda: (
                    not house.driver.running()
                    and all(
                        house.state(id) in (BackendState.STOPPED, BackendState.FAILED) for id in ALL
                    )
                )
            )
            house.nobody_left()

    crowd()
