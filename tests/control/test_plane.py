"""All of it together."""

from __future__ import annotations

import asyncio

import pytest

from launcher.config import ModeConfig
from launcher.control.records import LeaseState, SwitchState
from launcher.core.types import BackendState
from tests.control.house import after, life, living, world
from tests.runtime.house import A, B, C
from tests.runtime.virtual_clock import virtual


@virtual
async def test_everything_goes_on_at_once_after_a_kill() -> None:
    """A drain, a lease, home's debt and a switch: each as it was, and none in another's way."""
    two = (("gpu", 2),)
    async with living(life(capacity=two, needs=(("gpu", 1),), home=A)) as run:
        run.plane.drains.drain(C)
        lease = await run.leases.settled(run.leases.take(routes=(A,), ttl=1000.0).id)
        run.driver.script(B).ready_after = 50.0
        switch = run.switches.begin(B)
        await run.house.until(lambda: run.house.state(B) is BackendState.STARTING)
        await run.leases.durable()
        run.kill()
    async with living(after(run)) as again:
        assert again.plane.kept
        assert again.plane.drains.routes == (C,)
        done = await again.switches.over(switch.id)
        assert done.state is SwitchState.SUCCEEDED
        assert again.leases.get(lease.id).state is LeaseState.ACTIVE
        assert not again.plane.home.pending
    again.house.nobody_left()


@virtual
async def test_a_lease_that_ends_during_a_switch_does_not_matter_to_it() -> None:
    two = (("gpu", 2),)
    async with living(life(capacity=two, needs=(("gpu", 1),), home=C)) as run:
        lease = await run.leases.settled(run.leases.take(routes=(A,), ttl=20.0).id)
        run.driver.script(B).ready_after = 50.0
        done = await run.switched(B)
        assert done.state is SwitchState.SUCCEEDED
        assert run.leases.get(lease.id).state is LeaseState.EXPIRED
        await run.house.until(lambda: run.house.state(C) is BackendState.READY)
        assert run.house.state(B) is BackendState.READY
    run.house.nobody_left()


@virtual
async def test_a_new_configuration_reaches_every_part() -> None:
    async with living(life(home=A)) as run:
        run.plane.reconfigure(world(B, C, home=B, modes=(ModeConfig("m", (C,), 5.0),)))
        assert run.plane.home.route == B
        assert [one.name for one in run.plane.modes.known] == ["m"]
        for act in (run.switches.begin, run.plane.drains.drain):
            with pytest.raises(Exception, match="Known: b, c"):
                act(A)
        with pytest.raises(Exception, match="Known: b, c"):
            run.leases.take(routes=(A,), ttl=5.0)


@virtual
async def test_two_switches_and_a_lease_at_once_are_all_told_what_became_of_them() -> None:
    async with living(life()) as run:
        await run.up(A)
        for id in (B, C):
            run.driver.script(id).ready_after = 20.0
        first = run.switches.begin(B)
        await asyncio.sleep(1)
        lease = run.leases.take(routes=(C,), ttl=60.0)
        second = run.switches.begin(A)
        ended = await run.switches.over(first.id), await run.switches.over(second.id)
        assert ended[0].state is SwitchState.SUCCEEDED
        assert (await run.leases.settled(lease.id)).state is LeaseState.ACTIVE
        assert ended[1].error is not None
        assert ended[1].error.code == "leased"
    run.house.nobody_left()
