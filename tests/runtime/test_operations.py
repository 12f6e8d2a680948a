"""Operations and their outcomes: one at a time per backend, late ones ignored."""

from __future__ import annotations

import asyncio

from launcher.core.events import Launched, Started, StopFailed, Stopped
from launcher.core.types import BackendId, BackendState
from launcher.drivers.base import Observation
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime.starter import Ready
from tests.runtime.house import A, B, House, config, opened
from tests.runtime.virtual_clock import virtual


@virtual
async def test_outcomes_carry_the_epoch_of_what_they_answer() -> None:
    house = House()
    async with opened(house):
        await house.use(A)
        await house.use(B)
        started = house.ledger.of(Started)
        assert [s.backend for s in started] == [A, B]
        assert started[0].epoch < house.one(A).epoch
        assert [s.backend for s in house.ledger.of(Stopped)] == [A]
        assert house.dispatcher._handles[A].operations == set()


@virtual
async def test_that_it_runs_is_told_before_it_is_ready() -> None:
    house = House()
    house.driver.script(A).start_takes = 5.0
    house.driver.script(A).ready_after = 5.0
    async with opened(house):
        with house.asking() as admission:
            await house.until(lambda: house.ledger.of(Launched))
            assert house.state() is BackendState.STARTING
            await admission.granted()
        (launched,), (started,) = house.ledger.of(Launched), house.ledger.of(Started)
        assert (launched.backend, launched.epoch) == (A, started.epoch)


@virtual
async def test_a_stop_waits_for_the_start_that_it_cancels() -> None:
    """A driver that takes its time to give up a start: the stop comes after it."""
    house = House()
    order: list[str] = []
    real = house.driver.stop

    async def start(backend: BackendId) -> Observation:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(3)
            order.append("start given up")
        raise AssertionError

    async def stop(backend: BackendId) -> None:
        order.append("stop")
        await real(backend)

    async with opened(house):
        house.driver.start = start  # type: ignore[method-assign]
        house.driver.stop = stop  # type: ignore[method-assign]
        with house.asking():
            await asyncio.sleep(1)
            house.dispatcher.request_stop(A)
            await asyncio.sleep(1)
            assert house.state() is BackendState.STOPPING
        await house.until(lambda: house.state() is BackendState.STOPPED)
        assert order == ["start given up", "stop"]


@virtual
async def test_a_start_that_is_not_given_up_fails_the_stop_until_it_is() -> None:
    house = House(config(A, stop_grace=1.0))
    release = asyncio.Event()

    async def start(backend: BackendId) -> Observation:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                if release.is_set():
                    raise
        raise LauncherError("backend_start_failed", "at last")

    async with opened(house):
        house.driver.start = start  # type: ignore[method-assign]
        with house.asking():
            await asyncio.sleep(1)
            house.dispatcher.request_stop(A)
        await house.until(lambda: house.ledger.of(StopFailed))
        assert house.driver.count("stop", A) == 0
        assert house.state() is BackendState.STOPPING
        release.set()
        await house.until(lambda: house.state() is BackendState.STOPPED)


@virtual
async def test_readiness_that_comes_too_late_leaves_no_endpoint() -> None:
    house = House()
    house.driver.script(A).start_takes = 5.0
    async with opened(house):
        with house.asking():
            await asyncio.sleep(1)
            handle = house.dispatcher._handles[A]
            operations = house.dispatcher._operations
            operations._became_ready(handle, house.one().epoch - 1, Ready(Endpoint("x", 1), "x"))
            assert handle.endpoint is None
        await house.until(lambda: house.state() is BackendState.READY)
        assert handle.endpoint is not None
