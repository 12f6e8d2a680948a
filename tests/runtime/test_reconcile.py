"""The picture of what runs: at boot, after engine events, after a broken stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from launcher.core.effects import Adopt, Start
from launcher.core.events import Observed, Reachable, Started
from launcher.core.types import BackendState
from launcher.drivers.base import Changed, Connected, DriverEvent
from launcher.errors import LauncherError
from tests.runtime.house import A, B, C, House, config, opened
from tests.runtime.virtual_clock import virtual


@virtual
async def test_everything_is_looked_at_before_anything_starts() -> None:
    house = House()
    house.driver.script(A).looks_take = 4.0
    await house.dispatcher.open()
    with house.asking(A) as admission:
        await asyncio.sleep(3)
        assert house.driver.count("start", A) == 0
        assert house.dispatcher.driver_health()["fake"] is not None
        await admission.granted()
    assert house.dispatcher.driver_health() == {"fake": None}
    assert {o.backend for o in house.ledger.of(Observed)} == set(house.configs)
    await house.dispatcher.close(stop_backends=False)


@virtual
async def test_what_runs_at_boot_is_adopted_and_not_started() -> None:
    house = House()
    house.driver.run(A)
    await asyncio.sleep(50)
    async with opened(house):
        await house.use(A)
        assert house.driver.count("start", A) == 0
        assert [adopt.backend for adopt in house.ledger.of(Adopt)] == [A]
        assert not house.ledger.of(Start)


@virtual
async def test_a_death_is_known_and_the_next_request_starts_it_again() -> None:
    house = House()
    async with opened(house):
        await house.use(A)
        house.driver.kill(A)
        await asyncio.sleep(0.5)
        assert house.state(A) is BackendState.STOPPED
        await house.use(A)
        assert house.driver.count("start", A) == 2


@virtual
async def test_strangers_are_known_within_a_second() -> None:
    house = House(config(A), config(B, needs=()))
    async with opened(house):
        house.driver.run(B)
        await asyncio.sleep(0.9)
        assert house.state(B) is BackendState.READY
        house.driver.kill(B, exit_code=0)
        await asyncio.sleep(0.9)
        assert house.state(B) is BackendState.STOPPED


@virtual
async def test_one_restarted_by_a_stranger_is_probed_anew() -> None:
    house = House()
    async with opened(house):
        await house.use(A)
        old = house.dispatcher.endpoint(A)
        house.driver.kill(A)
        house.driver.run(A)
        await asyncio.sleep(0.5)
        await house.use(A)
        assert house.driver.count("start", A) == 1
        assert house.dispatcher.endpoint(A) != old


@virtual
async def test_an_event_that_nothing_lies_behind_changes_nothing() -> None:
    house = House()
    async with opened(house):
        await house.use(A)
        house.driver.tell(Changed(A))
        house.driver.tell(Changed(B))
        await asyncio.sleep(1)
        assert house.state(A) is BackendState.READY
        assert house.state(B) is BackendState.STOPPED


@virtual
async def test_events_that_come_after_the_next_start_change_nothing() -> None:
    """Docker's `stop` event arrives after the reply to the stop, and after the next start."""
    house = House(config(A), config(B))
    for id in (A, B):
        house.driver.script(id).events_take = lambda: 3.0
    async with opened(house):
        for _ in range(5):
            await house.use(A)
            await house.use(B)
        await asyncio.sleep(10)
        assert house.driver.running() == {B}
        assert house.driver.count("start", A) == house.driver.count("start", B) == 5
        assert not house.ledger.of(Adopt)


@virtual
async def test_a_look_that_began_before_an_operation_is_not_believed() -> None:
    house = House()
    house.driver.script(A).looks_take = 2.0
    async with opened(house):
        house.driver.tell(Changed(A))  # the look sees nothing running, and says so later
        await asyncio.sleep(0)
        await house.use(A)
        await asyncio.sleep(5)
        assert house.state(A) is BackendState.READY
        assert house.driver.count("start", A) == 1


@virtual
async def test_what_is_under_way_is_looked_at_only_when_it_has_ended() -> None:
    house = House()
    house.driver.script(A).start_takes = 5.0
    async with opened(house):
        with house.asking(A) as admission:
            await asyncio.sleep(1)
            told = len(house.ledger.events)
            house.driver.tell(Connected())  # lists everything
            house.driver.tell(Changed(A))
            await asyncio.sleep(1)
            assert [e.backend for e in house.ledger.events[told:] if isinstance(e, Observed)] == [
                B,
                C,
            ]
            await admission.granted()
            await asyncio.sleep(0.1)
        kinds = [e for e in house.ledger.events if isinstance(e, Started | Observed)]
        after = kinds[[isinstance(e, Started) for e in kinds].index(True) + 1 :]
        assert [e.backend for e in after] == [A]


@virtual
async def test_many_events_make_few_looks() -> None:
    house = House()
    house.driver.script(A).looks_take = 1.0
    async with opened(house):
        before = len(house.ledger.of(Observed))
        for _ in range(50):
            house.driver.tell(Changed(A))
        await asyncio.sleep(0.5)
        for _ in range(50):
            house.driver.tell(Changed(A))
        await asyncio.sleep(10)
        assert len(house.ledger.of(Observed)) - before == 2


@virtual
async def test_of_two_looks_the_one_that_began_last_is_believed() -> None:
    house = House()
    async with opened(house):
        await house.use(A)
        handle = house.dispatcher._handles[A]
        handle.look_fed = handle.looks_begun + 5
        house.driver.kill(A)
        await asyncio.sleep(0.1)
        assert house.state(A) is BackendState.READY
        handle.look_fed = 0
        house.driver.tell(Changed(A))
        await asyncio.sleep(0.1)
        assert house.state(A) is BackendState.STOPPED


@virtual
async def test_while_the_engine_is_away_the_ready_are_served() -> None:
    house = House()
    async with opened(house):
        await house.use(A)
        house.driver.lose_engine("connection refused")
        await asyncio.sleep(0.1)
        assert "connection refused" in (house.dispatcher.driver_health()["fake"] or "")
        await house.use(A)
        with house.asking(B) as admission:
            with pytest.raises(LauncherError) as raised:
                await admission.granted()
            assert raised.value.code == "docker_unavailable"
            assert "connection refused" in raised.value.message
        house.driver.kill(A)
        house.driver.find_engine()
        await asyncio.sleep(0.5)
        assert house.state(A) is BackendState.STOPPED
        assert house.dispatcher.driver_health() == {"fake": None}
        await house.use(B)


@virtual
async def test_an_engine_that_is_away_at_boot_delays_nobody_but_its_own() -> None:
    house = House()
    house.driver.lose_engine()
    await house.dispatcher.open()
    await asyncio.sleep(1)
    assert house.dispatcher.driver_health()["fake"] is not None
    house.driver.find_engine()
    await asyncio.sleep(0.1)
    await house.use(A)
    assert [r.reachable for r in house.ledger.of(Reachable)] == [False, True]
    await house.dispatcher.close(stop_backends=False)


@virtual
async def test_a_listing_that_fails_is_tried_again() -> None:
    house = House()
    real, failures = house.driver.list, 3

    async def flaky() -> object:
        nonlocal failures
        if failures:
            failures -= 1
            raise LauncherError("docker_unavailable", "timed out")
        return await real()

    house.driver.list = flaky  # type: ignore[method-assign, assignment]
    async with opened(house):
        await house.use(A)
    assert [r.reachable for r in house.ledger.of(Reachable)] == [False, True]


@virtual
async def test_a_look_that_fails_is_tried_again() -> None:
    house = House()
    async with opened(house):
        await house.use(A)
        house.driver._away = "hiccup"  # without a word on the event stream
        house.driver._changed(house.driver._one(A))
        house.dispatcher._reconciler.look(house.dispatcher._handles[A])
        await asyncio.sleep(0.1)
        house.driver._one(A).running = False
        await asyncio.sleep(3)
        assert house.state(A) is BackendState.READY
        house.driver._away = None
        await asyncio.sleep(1)
        assert house.state(A) is BackendState.STOPPED


@virtual
async def test_a_watch_that_breaks_is_begun_anew(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    real, broken = house.driver.watch, 2

    async def watch() -> AsyncIterator[DriverEvent]:
        nonlocal broken
        async for event in real():
            yield event
            if broken:
                broken -= 1
                if broken:
                    raise ValueError("a bug")
                return

    house.driver.watch = watch  # type: ignore[method-assign]
    async with opened(house):
        await house.until(lambda: not broken)
        await asyncio.sleep(2)
        house.driver.run(A)
        await asyncio.sleep(0.5)
        assert house.state(A) is BackendState.READY
    assert "watching fake failed" in caplog.text


@virtual
async def test_a_driver_that_does_not_open_is_opened_later() -> None:
    house = House()
    tries = 0

    async def open_() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise LauncherError("docker_unavailable", "not yet")

    house.driver.open = open_  # type: ignore[method-assign]
    async with opened(house):
        await house.use(A)
    assert tries == 3


@virtual
async def test_a_backend_that_is_removed_is_seen_as_gone() -> None:
    house = House()
    async with opened(house):
        await house.use(A)
        house.driver.kill(A)
        house.driver.script(A).missing = True
        await asyncio.sleep(0.5)
        assert house.state(A) is BackendState.STOPPED
        with house.asking() as admission, pytest.raises(LauncherError) as raised:
            await admission.granted()
        assert raised.value.code == "backend_missing"


@virtual
async def test_what_is_not_there_is_told_without_starting_it() -> None:
    house = House()
    async with opened(house):
        missing = house.dispatcher.missing
        house.driver.script(A).missing = True
        told = await missing(A)
        assert told is not None
        assert (told.code, "create it first" in told.message) == ("backend_missing", True)
        assert await missing(B) is None
        house.driver.lose_engine()
        # Nobody can tell.
        assert await missing(A) is None
        assert house.driver.count("start", A) == 0
