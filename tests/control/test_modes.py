"""Modes: leases with a name, one at a time."""

from __future__ import annotations

import asyncio

import pytest

from launcher.config import ModeConfig
from launcher.control.records import LeaseRecord, LeaseState
from launcher.core.types import BackendState
from launcher.errors import LauncherError
from tests.control.house import Life, life, living
from tests.runtime.house import A, B
from tests.runtime.virtual_clock import virtual

MODES = (ModeConfig("llm", (A,), 600.0), ModeConfig("image", (B,), 60.0))


async def entered(run: Life, name: str, ttl: float | None = None) -> LeaseRecord:
    asked = run.plane.modes.set(name, ttl, waited_for=True)
    record: LeaseRecord = await run.leases.settled(asked.id)
    return record


@virtual
async def test_a_mode_is_a_lease_on_its_routes() -> None:
    async with living(life(modes=MODES)) as run:
        modes = run.plane.modes
        assert (modes.known, modes.active(), modes.leave()) == (MODES, None, None)
        lease = await entered(run, "llm")
        assert (lease.mode, lease.routes, lease.ttl) == ("llm", (A,), 600.0)
        assert modes.active() == lease
        assert run.leases.open_ones() == [lease]
        ended = modes.leave(by="ann")
        assert ended is not None
        assert (ended.id, ended.state, ended.ended_by) == (lease.id, LeaseState.RELEASED, "ann")
        assert modes.active() is None
        with pytest.raises(LauncherError, match="Known: llm, image"):
            modes.set("nobody", waited_for=True)


@virtual
async def test_another_mode_takes_its_place() -> None:
    async with living(life(modes=MODES)) as run:
        first = await entered(run, "llm")
        second = await entered(run, "image", 30.0)
        assert run.leases.remaining(second) == pytest.approx(30.0, abs=1.0)
        assert run.leases.get(first.id).state is LeaseState.RELEASED
        again = await entered(run, "image")
        assert run.leases.remaining(again) == pytest.approx(60.0, abs=1.0)
        assert run.driver.count("stop", B) == 0
        await asyncio.sleep(61)
        assert run.plane.modes.active() is None


@virtual
async def test_a_mode_that_fails_leaves_the_current_one() -> None:
    async with living(life(modes=MODES)) as run:
        first = await entered(run, "llm")
        run.driver.script(B).missing = True
        assert (await entered(run, "image")).state is LeaseState.FAILED
        assert run.plane.modes.active() == first
        await run.house.until(lambda: run.house.state(A) is BackendState.READY)


@virtual
async def test_a_second_mode_replaces_a_pending_one() -> None:
    async with living(life(modes=MODES)) as run:
        run.driver.script(B).ready_after = 50.0
        first = await entered(run, "llm")
        second = run.plane.modes.set("image", waited_for=False)
        assert run.plane.modes.pending() == second
        await asyncio.sleep(20)
        third = await entered(run, "llm")
        assert run.leases.get(second.id).state is LeaseState.RELEASED
        assert run.leases.get(first.id).ended_by == f"lease {third.id}"
        assert run.plane.modes.active() == third
        run.plane.modes.leave()
        assert run.leases.open_ones() == []
    run.house.nobody_left()


@virtual
async def test_leaving_while_another_is_pending_leaves_both() -> None:
    async with living(life(modes=MODES)) as run:
        run.driver.script(B).ready_after = 50.0
        await entered(run, "llm")
        run.plane.modes.set("image", waited_for=False)
        run.plane.modes.leave()
        assert run.leases.open_ones() == []
    run.house.nobody_left()
