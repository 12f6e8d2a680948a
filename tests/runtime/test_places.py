"""Leases, drains, reservations and reloads at the gate: the real scheduler, the fake driver."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from launcher.core.effects import Expired, Forget, Replace
from launcher.core.types import BackendId, BackendState, Hold
from launcher.drivers.base import ContainerSpec
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from tests.fake_driver import FakeDriver
from tests.runtime.house import A, B, C, House, config, opened
from tests.runtime.virtual_clock import virtual

READY, STOPPED = BackendState.READY, BackendState.STOPPED
R = BackendId("reserved-1")
GPU = (("gpu", 1),)


def now() -> float:
    return asyncio.get_running_loop().time()


def lease(house: House, backend: BackendId = A, ttl: float = 100.0, **more: object):
    """A ticket that is a lease, as an operator asks for it."""
    hold = Hold(ttl, **more)  # type: ignore[arg-type]
    return house.asking(backend, urgent=True, hold=hold)


@virtual
async def test_a_lease_runs_from_its_grant_and_is_told_its_end_once() -> None:
    house = House()
    house.driver.script(A).start_takes = 5.0
    told: list[float] = []
    async with opened(house):
        with lease(house) as admission:
            grant = await admission.granted()
            assert grant.until == pytest.approx(now() + 100.0)
            admission.on_expired = lambda: told.append(now())
            assert house.one().leased
            await house.until(lambda: told, within=200)
            assert told == [pytest.approx(grant.until)]
            assert not admission.broken
            assert not house.one().leased
        house.nobody_left()
        assert len(told) == 1


@virtual
async def test_who_listens_late_is_told_too() -> None:
    house = House()
    async with opened(house):
        with lease(house, ttl=1.0) as admission:
            await admission.granted()
            await asyncio.sleep(5)
            told: list[bool] = []
            admission.on_expired = lambda: told.append(True)
            assert told == [True]
        house.nobody_left()


@virtual
async def test_a_lease_let_go_is_released_and_not_expired() -> None:
    house = House()
    async with opened(house):
        with lease(house) as admission:
            await admission.granted()
        assert not house.one().leased
        await asyncio.sleep(200)
        assert house.ledger.of(Expired) == []
        house.nobody_left()


@virtual
async def test_a_lease_is_renewed_longer_shorter_and_past() -> None:
    house = House()
    async with opened(house):
        with lease(house) as admission:
            began = (await admission.granted()).until
            assert began is not None
            admission.renew(now() + 500.0)
            await asyncio.sleep(400)
            assert house.one().leased_until == pytest.approx(began + 400.0)
            admission.renew(math.inf)
            assert house.one().leased_until == math.inf
            admission.renew(now() + 10.0)
            await asyncio.sleep(9)
            assert house.one().leased
            admission.renew(now() - 1.0)
            assert not house.one().leased
            with pytest.raises(LookupError):
                admission.renew(now() + 10.0)
        house.nobody_left()


@virtual
async def test_only_a_lease_in_force_can_be_renewed() -> None:
    house = House()
    house.driver.script(A).start_takes = 5.0
    async with opened(house):
        with lease(house) as admission:
            with pytest.raises(LookupError):
                admission.renew(1.0)
            await admission.granted()
        with pytest.raises(LookupError):
            admission.renew(1.0)
        with house.asking(A) as ordinary:
            await ordinary.granted()
            with pytest.raises(LookupError):
                ordinary.renew(1.0)
        house.nobody_left()


@virtual
async def test_a_renewal_that_comes_too_late_in_the_same_tick_is_no_fault() -> None:
    """Asked for while its end is being carried out: it has its turn afterwards."""
    house = House()
    async with opened(house):
        with lease(house, ttl=10.0) as one, lease(house, ttl=10.0) as other:
            await one.granted()
            await other.granted()
            one.on_expired = lambda: other.renew(now() + 50.0)
            await asyncio.sleep(11)
            assert not house.one().leased
        house.nobody_left()


@virtual
async def test_others_wait_for_the_end_of_a_lease_or_are_told() -> None:
    from launcher.core.types import OnLease

    house = House()
    async with opened(house):
        with lease(house, A) as handle:
            until = (await handle.granted()).until
            with house.asking(B, max_wait=1.0) as waiting:
                with house.asking(B, on_lease=OnLease.REJECT) as impatient:
                    with pytest.raises(LauncherError) as told:
                        await impatient.granted()
                assert (told.value.code, told.value.status) == ("leased", 409)
                assert told.value.retry_after == pytest.approx(100.0, abs=1.0)
                await waiting.granted()
                assert until is not None
                assert now() >= until
                assert house.state(A) is STOPPED
        house.nobody_left()


@virtual
async def test_a_forced_stop_breaks_a_lease_and_a_soft_one_waits_for_its_end() -> None:
    house = House()
    async with opened(house):
        with lease(house) as admission:
            await admission.granted()
            house.dispatcher.request_stop(A)
            await house.use(A)
            assert house.state() is READY, "it serves on for as long as it is leased"
            await house.until(lambda: house.state() is STOPPED, within=200)
            assert not admission.broken
        with lease(house) as admission:
            await admission.granted()
            house.dispatcher.request_stop(A, force=True)
            assert admission.broken
            await house.until(lambda: house.state() is STOPPED)
        house.nobody_left()


@virtual
async def test_a_leased_backend_that_dies_is_started_again() -> None:
    house = House()
    async with opened(house):
        with lease(house, ttl=math.inf) as admission:
            await admission.granted()
            house.driver.kill(A)
            await house.until(lambda: house.state() is not READY)
            await house.until(lambda: house.state() is READY)
            assert house.ledger.starts(A) == 2
            assert house.one().leased
        house.nobody_left()


@virtual
async def test_a_lease_of_an_earlier_run_is_in_force_before_anything_is_up() -> None:
    house = House()
    house.driver.script(A).start_takes = 5.0
    house.driver.run(B)
    async with opened(house):
        with lease(house, A, ttl=0.0, until=now() + 60.0) as admission:
            assert admission.grant is not None
            assert (admission.grant.until, admission.grant.endpoint) == (now() + 60.0, Endpoint())
            with lease(house, B) as other, pytest.raises(LauncherError, match="leased"):
                await other.granted()
            await house.until(lambda: house.state(A) is READY)
            assert house.driver.running() == {A}
        house.nobody_left()


@virtual
async def test_a_lease_that_ended_while_the_launcher_was_away_ends_at_once() -> None:
    house = House()
    async with opened(house):
        with lease(house, A, ttl=0.0, until=now() - 60.0) as admission:
            await admission.granted()
            told: list[bool] = []
            admission.on_expired = lambda: told.append(True)
            assert told == [True]
        house.nobody_left()
        assert house.ledger.starts(A) == 0


@virtual
async def test_a_drain_refuses_what_comes_and_serves_what_is_there() -> None:
    house = House()
    house.driver.script(A).start_takes = 5.0
    async with opened(house):
        with house.asking(A) as there:
            house.dispatcher.drain(None, True)
            for ask in ({}, {"urgent": True}, {"urgent": True, "hold": Hold(5.0)}):
                with house.asking(A, **ask) as admission, pytest.raises(LauncherError) as told:
                    await admission.granted()
                assert told.value.code == "draining"
                assert told.value.retry_after
            await there.granted()
        assert all(one.drained for one in house.dispatcher.snapshot().backends.values())
        house.dispatcher.drain([A], False)
        await house.use(A)
        house.nobody_left()


# -- reservations


@virtual
async def test_a_reservation_drains_stops_confirms_and_only_then_is_granted() -> None:
    house = House()
    house.driver.script(A).stop_takes = 3.0
    async with opened(house):
        stream = house.ask(A).__enter__()
        await stream.granted()
        house.dispatcher.reserve(R, GPU)
        with lease(house, R) as admission:
            await asyncio.sleep(2)
            assert admission.grant is None
            assert house.driver.running() == {A}
            stream.__exit__(None, None, None)
            await admission.granted()
            assert house.driver.running() == set()
            assert dict(house.dispatcher.snapshot().used) == {"gpu": 1}
            with house.asking(A, max_wait=0.0) as waiting:
                await asyncio.sleep(50)
                assert waiting.grant is None
        house.dispatcher.unreserve(R)
        await house.until(lambda: R not in house.dispatcher.snapshot().backends)
        assert house.ledger.of(Forget) == [Forget(R)]
        await house.use(A)
        house.nobody_left()


@virtual
async def test_a_reservation_of_an_earlier_run_is_there_from_the_beginning() -> None:
    house = House()
    async with opened(house):
        house.dispatcher.reserve(R, GPU, held=True)
        with lease(house, R, ttl=0.0, until=now() + 60.0) as admission:
            assert admission.grant is not None
            await house.until(lambda: house.state(R) is READY)
            with house.asking(A, queue_timeout=10.0) as waiting, pytest.raises(LauncherError):
                await waiting.granted()
            assert house.driver.running() == set()
            ended: list[bool] = []
            admission.on_expired = lambda: ended.append(admission.broken)
            house.dispatcher.unreserve(R)
            assert ended == [True]
        await house.use(A)
        assert R not in house.dispatcher.snapshot().backends
        house.nobody_left()


# -- reloads


def reload(house: House, *configs: object, **more: object):
    made = {one.id: one for one in configs}  # type: ignore[attr-defined]
    drivers = more.pop("drivers", {})
    driver_of = {id: drivers.get(id, house.driver) for id in made}  # type: ignore[attr-defined]
    return house.dispatcher.reconfigure(made, driver_of, **more)  # type: ignore[arg-type]


@virtual
async def test_what_stays_the_same_serves_on() -> None:
    house = House()
    async with opened(house):
        with house.asking(A) as stream:
            await stream.granted()
            reload(house, config(A, idle_timeout=5.0), config(B), config(C))
            await house.use(A)
        await house.until(lambda: house.state() is STOPPED, within=60)
        assert house.ledger.starts(A) == 1
        house.nobody_left()


@virtual
async def test_a_new_backend_is_looked_at_and_serves() -> None:
    house = House(config(A))
    house.driver.run(B)
    async with opened(house):
        reload(house, config(A), config(B))
        await house.until(lambda: house.state(B) is READY)
        await house.use(B)
        assert house.ledger.starts(B) == 0
        house.nobody_left()


@virtual
async def test_a_backend_of_a_driver_that_is_new_too() -> None:
    house = House(config(A))
    other = FakeDriver("other")
    house.prober._drivers = (house.driver, other)
    async with opened(house):
        reload(house, config(A), config(B), drivers={B: other})
        await house.use(B)
        assert set(house.dispatcher.driver_health()) == {"fake", "other"}
        reload(house, config(A))
        await house.until(lambda: B not in house.dispatcher.snapshot().backends)
        assert set(house.dispatcher.driver_health()) == {"fake"}
        house.nobody_left()


@virtual
async def test_a_removed_backend_serves_what_runs_and_tells_who_waits() -> None:
    house = House()
    async with opened(house):
        with house.asking(A) as stream:
            await stream.granted()
            with house.asking(B, max_wait=1000.0) as waiting:
                reload(house, config(A), config(C))
                with pytest.raises(LauncherError, match="no longer configured"):
                    await waiting.granted()
            reload(house, config(C))
            with house.asking(A) as late, pytest.raises(LauncherError, match="no longer"):
                await late.granted()
            await asyncio.sleep(100)
            assert house.driver.running() == {A}
        await house.until(lambda: A not in house.dispatcher.snapshot().backends)
        assert house.driver.running() == set()
        with house.asking(A) as gone, pytest.raises(LauncherError, match="no longer"):
            await gone.granted()
        with house.asking(A, C) as rest:
            assert (await rest.granted()).backend == C
        house.nobody_left()


@virtual
async def test_what_comes_back_while_it_drains_is_not_restarted() -> None:
    house = House()
    async with opened(house):
        with house.asking(A) as stream:
            await stream.granted()
            reload(house, config(B), config(C))
            reload(house, config(A), config(B), config(C))
            assert house.state() is READY
            await house.use(A)
        assert house.ledger.starts(A) == 1
        assert house.driver.count("stop", A) == 0
        house.nobody_left()


@virtual
async def test_a_replaced_backend_serves_what_runs_then_who_waits_by_the_new_one() -> None:
    house = House()
    other = FakeDriver("other")
    house.prober._drivers = (house.driver, other)
    new = replace(config(A), driver=ContainerSpec("new", 9000))
    async with opened(house):
        stream = house.ask(A).__enter__()
        old = await stream.granted()
        reload(house, new, config(B), config(C), drivers={A: other})
        with house.asking(A) as waiting:
            await asyncio.sleep(10)
            assert waiting.grant is None
            assert house.driver.running() == {A}
            stream.__exit__(None, None, None)
            fresh = await waiting.granted()
            assert fresh.epoch > old.epoch
            assert (house.driver.running(), other.running()) == (set(), {A})
        assert house.ledger.of(Replace) == [Replace(A)]
        house.nobody_left()


@virtual
async def test_a_replacement_of_what_does_not_run_takes_effect_at_once() -> None:
    house = House()
    new = replace(config(A), driver=ContainerSpec("new", 9000))
    async with opened(house):
        reload(house, new, config(B), config(C))
        assert house.dispatcher._handles[A].config is new
        await house.use(A)
        assert house.driver.count("stop", A) == 0
        house.nobody_left()


@virtual
async def test_a_lease_outlives_the_replacement_of_its_backend() -> None:
    house = House()
    new = replace(config(A), driver=ContainerSpec("new", 9000))
    async with opened(house):
        with lease(house, ttl=math.inf) as admission:
            await admission.granted()
            reload(house, new, config(B), config(C))
            await house.until(lambda: house.ledger.starts(A) == 2 and house.state() is READY)
            assert house.one().leased
        house.nobody_left()


@virtual
async def test_a_smaller_capacity_sheds_what_is_idle() -> None:
    house = House(*(config(id, needs=GPU) for id in (A, B)), capacity=(("gpu", 2),))
    async with opened(house):
        await house.use(A)
        await house.use(B)
        assert house.driver.running() == {A, B}
        reload(house, *house.configs.values(), capacity=GPU)
        await house.until(lambda: len(house.driver.running()) == 1)
        assert house.dispatcher.snapshot().capacity == GPU
        house.nobody_left()
