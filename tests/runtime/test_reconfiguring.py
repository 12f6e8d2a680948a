"""The dispatcher takes another configuration while requests wait and run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from launcher.config import BackendConfig, Secret
from launcher.core.effects import Start
from launcher.core.types import BackendId, BackendState, Needs
from launcher.drivers.base import ContainerSpec, Driver
from launcher.errors import LauncherError
from tests.fake_driver import FakeDriver
from tests.runtime.house import A, B, C, House, config, opened
from tests.runtime.virtual_clock import virtual

READY, STOPPED = BackendState.READY, BackendState.STOPPED


def now(
    house: House,
    *configs: BackendConfig,
    drivers: Mapping[BackendId, Driver] | None = None,
    capacity: Needs = (("gpu", 1),),
) -> None:
    """These are configured from now on."""
    by_id = {one.id: one for one in configs}
    driver_of = dict.fromkeys(by_id, house.driver) | dict(drivers or {})
    house.dispatcher.reconfigure(by_id, driver_of, capacity=capacity)


def other(backend: BackendId) -> BackendConfig:
    """Another container under the same id."""
    return replace(config(backend), driver=ContainerSpec("other", 8000))


def known(house: House) -> set[BackendId]:
    return set(house.dispatcher.snapshot().backends)


@virtual
async def test_what_is_unchanged_serves_on_and_what_is_new_is_started() -> None:
    house = House(config(A, needs=()))
    async with opened(house):
        with house.ask(A) as stream:
            await stream.granted()
            now(house, config(A, needs=()), config(B, needs=()))
            assert house.state(A) is READY
            await house.use(B)
            await house.use(A)
            assert not stream.refused
        assert house.driver.count("start", A) == house.driver.count("start", B) == 1
        house.nobody_left()


@virtual
async def test_what_is_removed_serves_its_stream_to_the_end_and_tells_its_queue() -> None:
    house = House(replace(config(A, needs=()), max_in_flight=1), config(B, needs=()))
    async with opened(house):
        with house.ask(A) as stream, house.ask(A) as queued:
            await stream.granted()
            now(house, config(B, needs=()))
            with pytest.raises(LauncherError, match="a is no longer configured") as caught:
                await queued.granted()
            assert caught.value.code == "backend_stopped"
            with house.ask(A) as late, pytest.raises(LauncherError, match="no longer configured"):
                await late.granted()
            await asyncio.sleep(100.0)
            assert house.state(A) is BackendState.DRAINING
            assert house.driver.count("stop", A) == 0
            stream.ok = True
        await house.until(lambda: known(house) == {B})
        assert house.driver.count("stop", A) == 1
        assert house.dispatcher._handles.keys() == {B}
        assert house.dispatcher.leaving() == {}
        house.nobody_left()


@virtual
async def test_what_never_ran_is_gone_at_once() -> None:
    house = House(config(A), config(B))
    async with opened(house):
        now(house, config(B))
        assert known(house) == {B}
        assert house.driver.count("stop", A) == 0


@virtual
async def test_a_start_under_way_is_called_off_where_its_backend_is_removed() -> None:
    house = House(config(A), config(B))
    house.driver.script(A).ready_after = 100.0
    async with opened(house):
        with house.ask(A) as admission:
            await house.until(lambda: house.state(A) is BackendState.STARTING)
            now(house, config(B))
            with pytest.raises(LauncherError, match="no longer configured"):
                await admission.granted()
        await house.use(B)
        await house.until(lambda: known(house) == {B})
        house.nobody_left()


@virtual
async def test_requests_wait_while_what_they_want_is_replaced() -> None:
    house = House(config(A, key="old"))
    house.driver.script(A).stop_takes = 3.0
    async with opened(house):
        with house.ask(A) as stream:
            await stream.granted()
            now(house, replace(other(A), backend_key=config(A, key="new").backend_key))
            waiting = house.ask(A)
            await asyncio.sleep(50.0)
            assert (waiting.grant, waiting.refused) == (None, False)
            assert house.driver.count("stop", A) == 0
            assert house.dispatcher.leaving() == {A: config(A).driver}
        with waiting:
            grant = await waiting.granted()
            assert grant.key == Secret("new")
            assert grant.cold
            assert house.dispatcher.leaving() == {}
        assert (house.driver.count("start", A), house.driver.count("stop", A)) == (2, 1)
        house.nobody_left()


@virtual
async def test_what_is_replaced_while_it_is_down_is_the_new_one_at_once() -> None:
    house = House(config(A))
    async with opened(house):
        now(house, other(A))
        assert house.dispatcher.leaving() == {}
        await house.use(A)
        assert house.driver.count("stop", A) == 0
        house.nobody_left()


@virtual
async def test_those_who_wait_for_a_start_wait_for_the_other_instead() -> None:
    house = House(config(A))
    house.driver.script(A).ready_after = 30.0
    async with opened(house):
        with house.ask(A) as admission:
            await house.until(lambda: house.state(A) is BackendState.STARTING)
            now(house, other(A))
            await admission.granted()
        assert house.driver.count("start", A) == 2
        house.nobody_left()


@virtual
async def test_replaced_once_more_before_the_first_has_gone() -> None:
    house = House(config(A))
    async with opened(house):
        third = replace(config(A), driver=ContainerSpec("third", 8000))
        with house.ask(A) as stream:
            await stream.granted()
            now(house, other(A))
            now(house, third)
        with house.ask(A) as admission:
            await admission.granted()
        assert house.dispatcher._handles[A].config == third
        assert house.driver.count("start", A) == 2
        house.nobody_left()


@virtual
async def test_removed_and_put_back_while_a_stream_runs() -> None:
    house = House(config(A))
    async with opened(house):
        with house.ask(A) as stream:
            await stream.granted()
            now(house)
            now(house, config(A))
            later = house.ask(A)
            stream.ok = True
        with later:
            await later.granted()
        assert house.dispatcher.leaving() == {}
        assert house.driver.count("start", A) == 1, "it went on"
        house.nobody_left()


@virtual
async def test_another_kind_of_driver_is_opened_and_listed() -> None:
    house = House(config(A, needs=()))
    second = FakeDriver("second@local")
    house.prober._drivers += (second,)
    async with opened(house):
        now(house, config(A, needs=()), config(B, needs=()), drivers={B: second})
        assert house.dispatcher.driver_health()["second@local"] is not None
        await house.use(B)
        assert second.count("start", B) == 1
        assert house.dispatcher.driver_health() == {house.driver.name: None, second.name: None}
        now(house, config(A, needs=()))
        await house.until(lambda: known(house) == {A})
        assert house.dispatcher.driver_health() == {house.driver.name: None}, "nobody needs it"
        house.nobody_left()


@virtual
async def test_what_is_added_at_a_driver_that_is_away_is_refused_as_the_others_are() -> None:
    house = House(config(A, needs=()))
    async with opened(house):
        house.driver.lose_engine()
        await house.until(lambda: not house.one(A).reachable)
        now(house, config(A, needs=()), config(B, needs=()))
        await asyncio.sleep(1.0)
        with house.ask(B) as admission, pytest.raises(LauncherError) as caught:
            await admission.granted()
        assert caught.value.code == "docker_unavailable"
        house.driver.find_engine()
        await house.until(lambda: house.one(B).reachable)
        await house.use(B)
        house.nobody_left()


@virtual
async def test_what_runs_already_is_adopted_when_it_is_configured() -> None:
    house = House(config(A, needs=()))
    async with opened(house):
        house.driver.run(B)
        now(house, config(A, needs=()), config(B, needs=()))
        await house.use(B)
        assert not [e for e in house.ledger.effects if isinstance(e, Start) and e.backend == B]
        house.nobody_left()


@virtual
async def test_more_room_is_used_and_less_is_kept_to() -> None:
    one: Needs = (("gpu", 1),)
    configs = [config(id, needs=one) for id in (A, B, C)]
    house = House(*configs)
    async with opened(house):
        await house.use(A)
        now(house, *configs, capacity=(("gpu", 2),))
        await house.use(B)
        assert house.state(A) is house.state(B) is READY
        with house.ask(A) as stream:
            await stream.granted()
            now(house, *configs, capacity=one)
            await house.until(lambda: house.state(B) is STOPPED)
            assert house.state(A) is READY
        assert house.driver.count("stop", A) == 0
        house.nobody_left()


@virtual
async def test_a_thousand_configurations_leave_nothing_behind() -> None:
    house = House(config(A, needs=()))
    async with opened(house):
        await house.use(A)
        for n in range(1000):
            now(house, config(A, needs=(), idle_timeout=600.0 + n), config(BackendId(f"b{n}")))
            if n % 100 == 0:
                await house.use(BackendId(f"b{n}"))
        now(house, config(A, needs=()))
        await house.until(lambda: known(house) == {A})
        assert house.driver.count("start", A) == 1
        assert house.driver.count("stop", A) == 0
        assert house.dispatcher._handles.keys() == {A}
        await house.until(lambda: len(house.dispatcher._tasks) == 1, within=10.0)
        house.nobody_left()
