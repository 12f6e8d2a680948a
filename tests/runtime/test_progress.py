"""What a waiting client is told, at each stage of a swap."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from launcher import tasks
from launcher.core.types import BackendState, Hold
from launcher.errors import LauncherError
from tests.runtime.house import A, B, C, House, config, opened
from tests.runtime.virtual_clock import virtual


@virtual
async def test_the_stages_of_a_swap() -> None:
    house = House(config(A), config(B), config(C, needs=()))
    house.driver.script(A).stop_takes = 4.0
    house.driver.script(B).start_takes = 6.0
    async with opened(house):
        for _ in range(2):  # so that all times are known
            await house.use(A)
            await house.use(B)
        await house.use(A)
        await house.use(C)
        done = asyncio.Event()

        async def long() -> None:
            with house.asking(A) as running:
                await running.granted()
                await done.wait()

        holder = tasks.spawn(long(), name="long")
        await house.until(lambda: house.one(A).in_flight)
        with house.asking(B, max_wait=10.0) as admission:
            assert admission.progress().phase == "queued"
            # Overdue, and past the minimum residency of the one before it.
            await house.until(lambda: house.state(A) is BackendState.DRAINING)
            assert admission.progress().phase == "waiting for a to finish"
            done.set()
            await holder
            assert house.state(A) is BackendState.STOPPING
            stopping = admission.progress()
            assert stopping.phase == "stopping a for it"
            assert stopping.forecast is not None
            assert stopping.forecast.place == 1
            assert stopping.forecast.seconds == pytest.approx(10.0, abs=0.5)
            await house.until(lambda: house.state(B) is BackendState.STARTING)
            starting = admission.progress()
            assert (starting.backend, starting.phase) == (B, "starting")
            assert starting.forecast is not None
            assert starting.forecast.seconds == pytest.approx(6.0, abs=0.5)
            await admission.granted()
            assert admission.progress().forecast is None


@virtual
async def test_who_asks_for_one_that_stops_is_told_so() -> None:
    house = House()
    house.driver.script(A).stop_takes = 5.0
    async with opened(house):
        await house.use(A)
        house.dispatcher.request_stop(A)
        await asyncio.sleep(1)
        with house.asking(A) as admission:
            assert admission.progress().phase == "waiting until a has stopped"
            await admission.granted()


@virtual
async def test_of_several_the_one_that_starts_is_meant() -> None:
    house = House()
    house.driver.script(B).start_takes = 5.0
    async with opened(house):
        with house.asking(B):
            await asyncio.sleep(1)
            with house.asking(A, B) as admission:
                told = admission.progress()
                assert (told.backend, told.phase) == (B, "starting")
                assert told.forecast is not None
                assert told.forecast.place == 2
                await admission.granted()


@virtual
async def test_who_waits_for_its_turn_waits_for_no_start() -> None:
    house = House(replace(config(A), max_in_flight=1))
    async with opened(house):
        with house.asking(A) as first:
            await first.granted()
            with house.asking(A) as second:
                told = second.progress()
                assert (told.phase, told.cold) == ("queued", False)
                assert told.forecast is not None
                assert told.forecast.place == 1


@virtual
async def test_who_waits_for_the_end_of_a_lease_is_told_so() -> None:
    house = House()
    async with opened(house):
        with house.asking(A, urgent=True, hold=Hold(60.0)) as lease:
            await lease.granted()
            with house.asking(B) as admission:
                told = admission.progress()
                assert told.phase == "waiting for the lease on a to end"
                assert told.forecast is not None
                assert told.forecast.seconds >= 60.0


@virtual
async def test_who_waited_for_what_a_reload_took_away_can_still_be_looked_at() -> None:
    house = House()
    async with opened(house):
        with house.asking(A, urgent=True, hold=Hold(60.0)) as lease:
            await lease.granted()
            with house.asking(B) as admission:
                rest = {id: house.configs[id] for id in (A, C)}
                house.dispatcher.reconfigure(rest, dict.fromkeys(rest, house.driver))
                told = admission.progress()
                assert (told.backend, told.phase, told.forecast) == (B, "queued", None)
                with pytest.raises(LauncherError, match="no longer configured"):
                    await admission.granted()
