"""The fake driver keeps a driver's promises, and does what its script says."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

import pytest

from launcher import tasks
from launcher.core.types import BackendId
from launcher.drivers.base import (
    Changed,
    Connected,
    ContainerSpec,
    Disconnected,
    Driver,
    DriverEvent,
)
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from tests.drivers.contract import (
    EXIT_CODE,
    EXITS,
    LAST_WORDS,
    MISSING,
    SERVES,
    STUBBORN,
    DriverContract,
    Harness,
)
from tests.fake_driver import FakeDriver, Note
from tests.runtime.virtual_clock import virtual

A = BackendId("a")
B = BackendId("b")


class FakeHarness:
    def __init__(self) -> None:
        self.fake = FakeDriver("fake@test")
        self.driver: Driver = self.fake
        exits = self.fake.script(EXITS)
        exits.exits_after, exits.exit_code, exits.last_words = 0.0, EXIT_CODE, (LAST_WORDS,)
        stubborn = self.fake.script(STUBBORN)
        stubborn.stop_takes, stubborn.last_words = math.inf, ("SIGTERM ignored",)
        for serves in (self.fake.script(SERVES), stubborn):
            serves.first_words = ("listening on its port",)
        self.fake.script(MISSING).missing = True

    async def kill(self, backend: BackendId) -> None:
        self.fake.kill(backend)

    async def answers(self, endpoint: Endpoint) -> bool:
        return self.fake.answer(endpoint) == "ready"


class TestFake(DriverContract):
    @pytest.fixture
    async def harness(self) -> AsyncIterator[Harness]:
        harness = FakeHarness()
        graces = {SERVES: 10.0, EXITS: 10.0, STUBBORN: 1.0, MISSING: 10.0}
        harness.driver.configure(
            {id: ContainerSpec(str(id), 80, stop_grace=grace) for id, grace in graces.items()}
        )
        await harness.driver.open()
        yield harness
        await harness.driver.close()


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[tuple[FakeDriver, list[DriverEvent]]]:
    driver = FakeDriver()
    driver.configure({A: ContainerSpec("a", 1, stop_grace=5.0), B: ContainerSpec("b", 1)})
    await driver.open()
    seen: list[DriverEvent] = []

    async def follow() -> None:
        async for event in driver.watch():
            seen.append(event)

    watch = tasks.spawn(follow(), name="watch")
    await asyncio.sleep(0.001)
    yield driver, seen
    await driver.close()
    await watch


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_delays_are_kept() -> None:
    async with opened() as (driver, _):
        script = driver.script(A)
        script.start_takes, script.ready_after, script.stop_takes = 2.0, 3.0, 4.0
        began = now()
        await driver.start(A)
        assert now() - began == pytest.approx(2.0)
        (place,) = await driver.endpoints(A)
        assert driver.answer(place) == "loading"
        await asyncio.sleep(3)
        assert driver.answer(place) == "ready"
        await driver.stop(A)
        assert now() - began == pytest.approx(9.0)
        assert driver.answer(place) == "refused"
        assert (await driver.inspect(A)).exit_code == 0
        assert [note.what for note in driver.record] == ["start", "up", "stop", "down"]
        assert driver.record[1] == Note(began + 2.0, "up", A)


@virtual
async def test_who_takes_longer_than_its_grace_is_killed() -> None:
    async with opened() as (driver, _):
        driver.script(A).stop_takes = math.inf
        await driver.start(A)
        began = now()
        await driver.stop(A)
        assert now() - began == pytest.approx(5.0)
        assert (await driver.inspect(A)).exit_code == 137


@virtual
async def test_the_unkillable_keeps_the_call_and_goes_on() -> None:
    async with opened() as (driver, _):
        driver.script(A).unkillable = True
        await driver.start(A)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await driver.stop(A)
        assert driver.running() == {A}


@virtual
async def test_a_cancelled_stop_has_sent_its_signal() -> None:
    async with opened() as (driver, _):
        driver.script(A).stop_takes = 3.0
        await driver.start(A)
        stop = tasks.spawn(driver.stop(A), name="stop")
        await asyncio.sleep(1)
        await tasks.cancel(stop)
        assert driver.running() == {A}
        await asyncio.sleep(2)
        assert driver.running() == set()


@virtual
async def test_scripted_errors() -> None:
    async with opened() as (driver, _):
        driver.script(A).start_error = LauncherError("backend_start_failed", "no")
        driver.script(A).stop_error = LauncherError("backend_stop_failed", "no")
        with pytest.raises(LauncherError, match="no"):
            await driver.start(A)
        driver.run(A)
        with pytest.raises(LauncherError, match="no"):
            await driver.stop(A)
        assert driver.running() == {A}


@virtual
async def test_late_events_come_in_another_order() -> None:
    async with opened() as (driver, seen):
        delays = iter((5.0, 1.0))
        driver.script(A).events_take = lambda: next(delays)
        driver.script(B).events_take = lambda: 3.0
        driver.run(A)  # told after 5 s
        driver.run(B)  # after 3 s
        driver.kill(A)  # after 1 s
        await asyncio.sleep(2)
        assert seen == [Connected(), Changed(A)]
        await asyncio.sleep(2)
        assert seen[2:] == [Changed(B)]
        await asyncio.sleep(2)
        assert seen[3:] == [Changed(A)]


@virtual
async def test_a_slow_look_tells_what_was() -> None:
    async with opened() as (driver, _):
        driver.script(A).looks_take = 2.0
        look = tasks.spawn(driver.inspect(A), name="look")
        await asyncio.sleep(1)
        driver.run(A)
        assert not (await look).running
        assert (await driver.list())[A].running


@virtual
async def test_an_engine_that_is_away() -> None:
    async with opened() as (driver, seen):
        await driver.start(A)
        driver.lose_engine("gone")
        for call in (
            driver.list(),
            driver.inspect(A),
            driver.start(B),
            driver.stop(A),
            driver.endpoints(A),
            driver.log_tail(A),
        ):
            with pytest.raises(LauncherError) as raised:
                await call
            assert raised.value.code == "docker_unavailable"
        driver.kill(A)  # nobody is told
        driver.find_engine()
        await asyncio.sleep(0.001)
        assert seen == [Connected(), Changed(A), Disconnected("gone"), Connected()]
        assert not (await driver.inspect(A)).running


@virtual
async def test_a_healthcheck_is_told_when_it_turns() -> None:
    async with opened() as (driver, seen):
        driver.script(A).healthcheck = True
        driver.script(A).ready_after = 4.0
        await driver.start(A)
        assert (await driver.inspect(A)).health == "starting"
        told = len(seen)
        await asyncio.sleep(5)
        assert seen[told:] in ([Changed(A)], [Changed(A), Changed(A)])
        assert (await driver.inspect(A)).health == "healthy"


@virtual
async def test_out_of_turn_events_and_the_repr() -> None:
    async with opened() as (driver, seen):
        driver.tell(Changed(B))
        driver.run(A)
        driver.run(A)
        assert driver.count("up", A) == 1
        assert repr(driver) == "<FakeDriver fake running=['a']>"
        await asyncio.sleep(0.001)
        assert seen[1] == Changed(B)


@virtual
async def test_hanging_and_forbidden_answers() -> None:
    async with opened() as (driver, _):
        driver.script(A).endpoints = (Endpoint("h", 1),)
        assert await driver.endpoints(A) == ()
        driver.run(A)
        assert await driver.endpoints(A) == (Endpoint("h", 1),)
        driver.script(A).forbidden = True
        assert driver.answer(Endpoint("h", 1)) == "forbidden"
        driver.script(A).hangs = True
        assert driver.answer(Endpoint("h", 1)) == "silent"
