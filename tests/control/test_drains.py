"""Drains: refused at the gate until somebody resumes, over restarts as well."""

from __future__ import annotations

import pytest

from launcher.errors import LauncherError
from tests.control.house import Life, after, life, living, world
from tests.runtime.house import A, B, C
from tests.runtime.virtual_clock import virtual


def drained(run: Life) -> list[str]:
    shot = run.house.dispatcher.snapshot().backends
    return [id for id, one in shot.items() if one.drained]


@virtual
async def test_new_requests_are_refused_until_it_is_resumed() -> None:
    async with living(life()) as run:
        with run.house.asking(A) as stream:
            await stream.granted()
            run.plane.drains.drain(A)
            assert (run.plane.drains.routes, drained(run)) == ((A,), [A])
            with run.house.asking(A) as refused:
                with pytest.raises(LauncherError) as told:
                    await refused.granted()
            assert told.value.code == "draining"
            assert not stream.left
        run.plane.drains.resume(A)
        assert (run.plane.drains.routes, drained(run)) == ((), [])
        await run.up(A)
        with pytest.raises(LauncherError, match="Known: a, b, c"):
            run.plane.drains.drain("nobody")


@virtual
async def test_everything_but_one() -> None:
    async with living(life()) as run:
        run.plane.drains.drain(None)
        assert run.plane.drains.all
        assert (run.plane.drains.routes, drained(run)) == ((A, B, C), [A, B, C])
        run.plane.drains.resume(B)
        assert not run.plane.drains.all
        assert (run.plane.drains.routes, drained(run)) == ((A, C), [A, C])
        run.plane.drains.resume(None)
        assert drained(run) == []


@virtual
async def test_a_drain_outlives_a_restart_and_a_resume_as_well() -> None:
    async with living(life()) as run:
        run.plane.drains.drain(A)
        run.plane.drains.drain(C)
        await run.plane.drains.durable()
        run.kill()
    async with living(after(run)) as again:
        assert drained(again) == [A, C]
        again.plane.drains.resume(C)
        await again.plane.drains.durable()
        again.kill()
    async with living(after(again, config=world(A, B))) as third:
        assert drained(third) == [A]
        third.plane.drains.resume(None)
        third.plane.reconfigure(world(A))
    async with living(after(third)) as fourth:
        assert drained(fourth) == []
        assert repr(fourth.plane.drains) == "<Drains none>"
