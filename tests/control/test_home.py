"""Home becomes resident again when the last lease has ended."""

from __future__ import annotations

import asyncio

from launcher.core.types import BackendState
from launcher.errors import LauncherError
from tests.control.house import Life, after, life, living, world
from tests.runtime.house import A, B, C
from tests.runtime.virtual_clock import virtual


async def leased(run: Life, route: str, ttl: float = 60.0) -> int:
    asked = run.leases.take(routes=(route,), ttl=ttl)
    await run.leases.settled(asked.id)
    return int(asked.id)


@virtual
async def test_home_is_up_again_when_the_last_lease_ends() -> None:
    async with living(life(home=A)) as run:
        await leased(run, B, 60.0)
        await asyncio.sleep(61)
        await run.house.until(lambda: run.house.state(A) is BackendState.READY)
        assert not run.plane.home.pending
        await leased(run, B)
        id = await leased(run, B)
        run.leases.release(id)
        assert not run.plane.home.pending, "one lease is left"
        for one in run.leases.open_ones():
            run.leases.release(one.id)
        await run.house.until(lambda: run.house.state(A) is BackendState.READY)
    run.house.nobody_left()


@virtual
async def test_without_a_home_route_nothing_is_pending() -> None:
    async with living(life()) as run:
        run.leases.release(await leased(run, B))
        assert not run.plane.home.pending


@virtual
async def test_the_home_route_never_drains_a_busy_backend() -> None:
    async with living(life(home=A)) as run:
        id = await leased(run, B)
        with run.house.asking(B) as stream:
            await stream.granted()
            run.leases.release(id)
            await asyncio.sleep(500)
            assert run.house.state(B) is BackendState.READY
            assert run.plane.home.pending
        await run.house.until(lambda: run.house.state(A) is BackendState.READY)


@virtual
async def test_a_lease_that_fails_makes_the_home_route_pending() -> None:
    async with living(life(home=A)) as run:
        await run.up(A)
        run.driver.script(B).exits_after = 1.0
        run.driver.script(B).ready_after = 5.0
        await leased(run, B)
        await run.house.until(lambda: run.house.state(A) is BackendState.READY)
        assert run.driver.count("start", A) == 2


@virtual
async def test_a_switch_cancels_a_pending_home_route() -> None:
    async with living(life(home=A)) as run:
        await leased(run, B)
        await run.switched(C, force=True)
        assert not run.plane.home.pending
        run.leases.release(await leased(run, B))
        assert run.plane.home.pending
        await run.switched(C)
        assert not run.plane.home.pending
        await asyncio.sleep(10)
        assert run.house.state(C) is BackendState.READY


@virtual
async def test_a_pending_home_route_outlives_a_restart() -> None:
    async with living(life(home=A)) as run:
        id = await leased(run, B)
        with run.house.asking(B) as stream:
            await stream.granted()
            run.leases.release(id)
            await run.leases.durable()
            run.kill()
    async with living(after(run)) as again:
        await again.house.until(lambda: again.house.state(A) is BackendState.READY)
        await again.leases.durable()
    async with living(after(again, config=world(home=B))) as third:
        assert not third.plane.home.pending


@virtual
async def test_a_pending_home_route_is_dropped_when_it_is_no_longer_configured() -> None:
    async with living(life(home=A)) as run:
        id = await leased(run, B)
        run.leases.release(id)
        run.plane.reconfigure(world(home=C))
        assert (run.plane.home.pending, run.plane.home.route) == (False, C)
        run.leases.release(await leased(run, B))
        await run.leases.durable()
        run.kill()
    async with living(after(run, config=world())) as again:
        assert not again.plane.home.pending


@virtual
async def test_a_home_route_that_fails_to_start_is_logged_and_given_up() -> None:
    async with living(life(home=A)) as run:
        run.driver.script(A).start_error = LauncherError("backend_start_failed", "No memory.")
        run.leases.release(await leased(run, B))
        await asyncio.sleep(100)
        assert not run.plane.home.pending
        assert run.plane.home.error is not None
        assert "No memory." in run.plane.home.error.message
        assert run.driver.count("start", A) == 1


@virtual
async def test_the_home_route_stays_pending_while_the_engine_is_away() -> None:
    async with living(life(home=A)) as run:
        id = await leased(run, B)
        run.driver.lose_engine()
        run.leases.release(id)
        await asyncio.sleep(60)
        assert run.plane.home.pending
        run.driver.find_engine()
        await run.house.until(lambda: run.house.state(A) is BackendState.READY)
        assert not run.plane.home.pending
