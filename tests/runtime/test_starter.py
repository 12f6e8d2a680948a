"""Starts, adoptions and stops: how each ends, and in which words."""

from __future__ import annotations

import asyncio
import math

import pytest

from launcher.core.events import Started, StartFailed, StopFailed
from launcher.core.types import BackendState
from launcher.drivers.base import Changed
from launcher.errors import LauncherError
from launcher.runtime import starter
from tests.runtime.house import A, House, config, opened
from tests.runtime.virtual_clock import virtual


async def refused(house: House) -> LauncherError:
    """What a request for A ends in."""
    with house.asking(A) as admission:
        with pytest.raises(LauncherError) as raised:
            await admission.granted()
    return raised.value


@virtual
async def test_one_that_dies_fails_at_once_with_all_that_is_known() -> None:
    house = House(config(A, key="s3cret"))
    script = house.driver.script(A)
    script.ready_after, script.exits_after, script.exit_code = math.inf, 3.0, 7
    script.last_words = (*(f"line {n}" for n in range(30)), "the key is s3cret")
    async with opened(house):
        began = asyncio.get_running_loop().time()
        error = await refused(house)
        assert asyncio.get_running_loop().time() - began < 3.5
        assert error.code == "backend_start_failed"
        assert "exit code 7" in error.message
        lines = (error.detail or "").splitlines()
        assert lines[0] == "exit code: 7, OOMKilled: false"
        assert lines[-1] == "the key is ***"
        assert len(lines) == 21


@virtual
async def test_out_of_memory_is_named() -> None:
    house = House()
    script = house.driver.script(A)
    script.exits_after, script.ready_after, script.oom_killed = 1.0, math.inf, True
    async with opened(house):
        error = await refused(house)
        assert "out of memory" in error.message
        assert "OOMKilled: true" in (error.detail or "")


@virtual
async def test_a_death_is_seen_without_events_too() -> None:
    house = House()
    script = house.driver.script(A)
    script.exits_after, script.ready_after = 3.0, math.inf
    script.events_take = lambda: 500.0
    async with opened(house):
        began = asyncio.get_running_loop().time()
        assert (await refused(house)).code == "backend_start_failed"
        assert asyncio.get_running_loop().time() - began < 3.0 + starter.LOOK_EVERY + 0.5


@virtual
async def test_a_death_is_seen_while_a_probe_hangs() -> None:
    house = House()
    script = house.driver.script(A)
    script.hangs, script.exits_after = True, 0.5
    async with opened(house):
        began = asyncio.get_running_loop().time()
        assert (await refused(house)).code == "backend_start_failed"
        assert asyncio.get_running_loop().time() - began < 1.0


@virtual
async def test_one_that_never_becomes_ready_times_out_and_says_what_was_seen() -> None:
    house = House(config(A, start_timeout=40.0))
    house.driver.script(A).ready_after = math.inf
    house.driver.script(A).last_words = ("bye",)
    async with opened(house):
        began = asyncio.get_running_loop().time()
        error = await refused(house)
        assert 40.0 <= asyncio.get_running_loop().time() - began < 41.0
        assert error.code == "start_timeout"
        assert "40 s" in error.message
        assert "loading" in error.message
        await house.until(lambda: house.state() is BackendState.FAILED)
        assert house.driver.running() == set()


@virtual
async def test_one_whose_health_accepts_and_hangs_times_out() -> None:
    house = House(config(A, start_timeout=40.0))
    house.driver.script(A).hangs = True
    async with opened(house):
        error = await refused(house)
        assert error.code == "start_timeout"
        assert "silent" in error.message


@virtual
async def test_a_driver_that_does_not_return_times_out() -> None:
    house = House(config(A, start_timeout=40.0))
    house.driver.script(A).start_takes = math.inf
    async with opened(house):
        error = await refused(house)
        assert error.code == "start_timeout"
        assert "did not return" in error.message


@virtual
async def test_a_wrong_key_fails_at_once() -> None:
    house = House()
    house.driver.script(A).forbidden = True
    async with opened(house):
        began = asyncio.get_running_loop().time()
        error = await refused(house)
        assert error.code == "backend_start_failed"
        assert "backend_key" in error.message
        assert asyncio.get_running_loop().time() - began < 1.0


@virtual
async def test_a_name_that_does_not_exist() -> None:
    house = House()
    house.driver.script(A).missing = True
    async with opened(house):
        error = await refused(house)
        assert error.code == "backend_missing"


@virtual
async def test_an_engine_that_goes_away_during_the_start() -> None:
    house = House()
    house.driver.script(A).start_takes = 5.0
    async with opened(house):
        asyncio.get_running_loop().call_later(2.0, house.driver.lose_engine)
        error = await refused(house)
        assert error.code == "docker_unavailable"


@virtual
async def test_an_engine_that_goes_away_while_it_warms_up_does_not_matter() -> None:
    house = House()
    house.driver.script(A).ready_after = 5.0
    async with opened(house):
        asyncio.get_running_loop().call_later(2.0, house.driver.lose_engine)
        await house.use(A)


@virtual
async def test_its_own_healthcheck_decides() -> None:
    house = House(config(A, health="docker"))
    house.driver.script(A).healthcheck = True
    house.driver.script(A).ready_after = 5.5
    async with opened(house):
        with house.asking() as admission:
            grant = await admission.granted()
            assert grant.queued == pytest.approx(5.5, abs=0.05)


@virtual
async def test_a_healthcheck_that_isnt_there_is_told_at_once() -> None:
    house = House(config(A, health="docker"))
    async with opened(house):
        error = await refused(house)
        assert "HEALTHCHECK" in error.message


@virtual
async def test_one_restarted_behind_our_back_failed() -> None:
    house = House()
    house.driver.script(A).ready_after = 10.0
    async with opened(house):

        def restart() -> None:
            house.driver.kill(A)
            house.driver.run(A)

        asyncio.get_running_loop().call_later(2.0, restart)
        error = await refused(house)
        assert "restart policy" in error.message


@virtual
async def test_probes_come_close_together_only_while_somebody_waits() -> None:
    house = House()
    house.driver.script(A).ready_after = 100.0
    async with opened(house):
        with house.asking():
            await asyncio.sleep(10)
            assert house.prober.asked >= 10 / 0.04
        before = house.prober.asked
        await asyncio.sleep(10)
        assert 20 <= house.prober.asked - before <= 22
        with house.asking():
            before = house.prober.asked
            await asyncio.sleep(0.02)
            assert house.prober.asked == before + 1, "the first at once"
            await asyncio.sleep(1)
            assert house.prober.asked - before >= 1 / 0.04


@virtual
async def test_a_driver_that_breaks_its_promise_is_a_failure_and_no_hang(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()

    async def broken(backend: object) -> None:
        raise ValueError("a bug")

    async with opened(house):
        real = house.driver.start, house.driver.stop
        house.driver.start = broken  # type: ignore[method-assign, assignment]
        error = await refused(house)
        assert error.code == "backend_start_failed"
        assert "ValueError" in error.message
        house.driver.start = real[0]  # type: ignore[method-assign]
        await asyncio.sleep(5)
        await house.use(A)
        house.driver.stop = broken  # type: ignore[method-assign]
        house.dispatcher.request_stop(A)
        await house.until(lambda: house.ledger.of(StopFailed))
        house.driver.stop = real[1]  # type: ignore[method-assign]
        await house.until(lambda: house.state() is BackendState.STOPPED)
    assert caplog.text.count("the driver failed") >= 2


@virtual
async def test_an_adoption_waits_for_readiness() -> None:
    house = House()
    house.driver.script(A).ready_after = 20.0
    house.driver.run(A)
    async with opened(house):
        with house.asking() as admission:
            grant = await admission.granted()
            assert 19.5 < grant.queued < 20.5
        assert house.driver.count("start", A) == 0
        assert len(house.ledger.of(Started)) == 1


@virtual
async def test_an_adoption_outlives_an_engine_that_is_away() -> None:
    house = House()
    house.driver.run(A)
    async with opened(house):
        await house.until(lambda: house.state() is BackendState.READY)
        house.driver.script(A).looks_take = 1.0
        house.driver.kill(A)
        house.driver.run(A)
        await house.until(lambda: house.state() is BackendState.STARTING)
        house.driver.lose_engine()
        await asyncio.sleep(5)
        house.driver.find_engine()
        await house.until(lambda: house.state() is BackendState.READY)
        assert not house.ledger.of(StartFailed)


@virtual
async def test_a_stop_has_its_own_deadline() -> None:
    house = House(config(A, stop_grace=3.0))
    house.driver.script(A).unkillable = True
    async with opened(house):
        await house.use(A)
        began = asyncio.get_running_loop().time()
        house.dispatcher.request_stop(A)
        await house.until(lambda: house.ledger.of(StopFailed))
        took = asyncio.get_running_loop().time() - began
        assert took == pytest.approx(3.0 + starter.STOP_MARGIN, abs=0.1)
        assert "18 s" in house.ledger.of(StopFailed)[0].failure.message
        house.driver.script(A).unkillable = False


@virtual
async def test_what_changed_during_an_operation_is_looked_at_after_it() -> None:
    house = House()
    house.driver.script(A).start_takes = 2.0
    async with opened(house):
        with house.asking() as admission:
            await asyncio.sleep(1)
            house.driver.tell(Changed(A))
            grant = await admission.granted()
            # Dies in the very moment in which it became ready.
            house.driver._down(house.driver._one(A), 1)
            assert grant.backend == A
        await asyncio.sleep(0.5)
        assert house.state() is BackendState.STOPPED
