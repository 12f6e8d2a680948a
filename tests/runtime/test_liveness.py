"""Backends believed ready that refuse or keep silent."""

from __future__ import annotations

import asyncio

import pytest

from launcher import tasks
from launcher.core.events import Hung
from launcher.core.types import BackendState
from launcher.errors import LauncherError
from launcher.runtime import liveness
from launcher.runtime.admission import Grant
from tests.runtime.house import A, House, opened
from tests.runtime.virtual_clock import virtual


async def grant_of(house: House) -> Grant:
    with house.asking(A) as admission:
        return await admission.granted()


@virtual
async def test_one_that_answers_is_alive() -> None:
    house = House()
    async with opened(house):
        grant = await grant_of(house)
        assert await house.dispatcher.suspect(grant) is True
        assert house.state() is BackendState.READY


@virtual
async def test_a_death_is_known_when_it_returns() -> None:
    house = House()
    house.driver.script(A).events_take = lambda: 100.0
    async with opened(house):
        grant = await grant_of(house)
        house.driver.kill(A)
        assert house.state() is BackendState.READY
        began = asyncio.get_running_loop().time()
        assert await house.dispatcher.suspect(grant) is False
        assert asyncio.get_running_loop().time() == began, "the retry is not kept waiting"
        assert house.state() is BackendState.STOPPED
        with house.asking() as admission:
            assert (await admission.granted()).endpoint != grant.endpoint


@virtual
async def test_an_engine_that_lags_behind_a_death_is_asked_again() -> None:
    """The sockets close some milliseconds before the engine says that it ended."""
    house = House()
    house.driver.script(A).looks_take = 0.2
    house.driver.script(A).events_take = lambda: 100.0
    async with opened(house):
        grant = await grant_of(house)
        look = tasks.spawn(house.dispatcher.suspect(grant), name="look")
        await asyncio.sleep(0.1)  # it has seen it running, and will say so
        house.driver.kill(A)
        assert await look is False
        assert house.state() is BackendState.STOPPED


@virtual
async def test_concurrent_calls_share_one_look() -> None:
    house = House()
    async with opened(house):
        grant = await grant_of(house)
        house.driver.script(A).looks_take = 1.0
        before = house.prober.asked
        calls = [tasks.spawn(house.dispatcher.suspect(grant), name="look") for _ in range(20)]
        await asyncio.sleep(0.5)
        await tasks.cancel(calls.pop(0))
        assert await asyncio.gather(*calls) == [True] * 19
        assert house.prober.asked == before + 1


@virtual
async def test_a_grant_of_what_is_gone_is_not_alive() -> None:
    house = House()
    async with opened(house):
        old = await grant_of(house)
        house.driver.kill(A)
        await asyncio.sleep(0.5)
        await house.use(A)
        assert await house.dispatcher.suspect(old) is False
        assert house.state() is BackendState.READY
        house.dispatcher.watch_silence(old)
        assert house.dispatcher._handles[A].silence is None


@virtual
async def test_one_that_runs_without_listening_is_restarted_by_its_probes() -> None:
    house = House()
    async with opened(house):
        grant = await grant_of(house)
        house.driver.script(A).endpoints = ()
        assert await house.dispatcher.suspect(grant) is True
        assert house.state() is BackendState.READY
        house.driver.script(A).endpoints = None
        await asyncio.sleep(25)
        assert not house.ledger.of(Hung)


@virtual
async def test_while_the_engine_is_away_only_the_probe_tells() -> None:
    house = House()
    async with opened(house):
        grant = await grant_of(house)
        house.driver.lose_engine("connection refused")
        assert await house.dispatcher.suspect(grant) is True
        house.driver.kill(A)
        with pytest.raises(LauncherError, match="a takes no connections") as told:
            await house.dispatcher.suspect(grant)
        assert told.value.code == "docker_unavailable"
        assert "connection refused" in told.value.message
        assert house.state() is BackendState.READY, "nobody can say that its place is free"


@virtual
async def test_three_silent_probes_make_it_hung_and_it_is_started_anew() -> None:
    house = House()
    async with opened(house):
        with house.asking() as admission:
            grant = await admission.granted()
            house.driver.script(A).hangs = True
            cut = asyncio.Event()
            admission.on_abort = lambda error: cut.set()
            began = asyncio.get_running_loop().time()
            for _ in range(5):
                house.dispatcher.watch_silence(grant)
            await cut.wait()
            took = asyncio.get_running_loop().time() - began
            assert took == pytest.approx(2 * liveness.BETWEEN + 3 * 2.0, abs=0.1)
        house.driver.script(A).hangs = False
        await house.use(A)
        assert house.driver.count("start", A) == 2
        assert len(house.ledger.of(Hung)) == 1


@virtual
async def test_one_good_probe_ends_the_round() -> None:
    house = House()
    async with opened(house):
        with house.asking() as admission:
            grant = await admission.granted()
            house.driver.script(A).hangs = True
            house.dispatcher.watch_silence(grant)
            await asyncio.sleep(15)
            house.driver.script(A).hangs = False
            await asyncio.sleep(60)
            assert not house.ledger.of(Hung)
            house.driver.script(A).hangs = True
            house.dispatcher.watch_silence(grant)
            await house.until(lambda: house.ledger.of(Hung))
        house.driver.script(A).hangs = False


@virtual
async def test_one_that_ends_during_the_round_is_not_hung() -> None:
    house = House()
    async with opened(house):
        with house.asking() as admission:
            grant = await admission.granted()
            house.driver.script(A).hangs = True
            house.dispatcher.watch_silence(grant)
            await asyncio.sleep(5)
            house.driver.kill(A)
        house.driver.script(A).hangs = False
        await house.use(A)
        await asyncio.sleep(60)
        assert not house.ledger.of(Hung)
