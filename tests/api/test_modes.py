"""`/api/mode`."""

from __future__ import annotations

import asyncio

import pytest

from launcher.api.modes import ModeApi, ModeBody
from launcher.config import ModeConfig
from launcher.core.types import BackendState
from launcher.errors import LauncherError
from tests.api.world import read, request
from tests.control.house import Life, life, living
from tests.runtime.house import A, B
from tests.runtime.virtual_clock import virtual

MODES = (ModeConfig("llm", (A,), 600.0), ModeConfig("image", (B,), 60.0))


def api(run: Life) -> ModeApi:
    return ModeApi(run.plane.modes, run.plane.leases)


@virtual
async def test_from_one_to_another_and_out() -> None:
    async with living(life(modes=MODES)) as run:
        told = read(await api(run).show(request()))
        assert (told["mode"], told["lease"], told["routes"]) == (None, None, [])
        assert told["modes"][1] == {"mode": "image", "routes": ["b"], "ttl_seconds": 60.0}
        answer = await api(run).enter(request(body=ModeBody(mode="llm")))
        told = read(answer)
        assert (answer.status, told["mode"], told["routes"]) == (200, "llm", ["a"])
        assert told["remaining_seconds"] == pytest.approx(600, abs=1)
        told = read(await api(run).enter(request(body=ModeBody(mode="image", ttl="30s"))))
        assert (told["mode"], told["lease"]["id"]) == ("image", 2)
        assert told["remaining_seconds"] == pytest.approx(30, abs=1)
        assert read(await api(run).leave(request()))["mode"] is None
        assert run.leases.open_ones() == []


@virtual
async def test_who_does_not_wait_is_told_what_is_coming() -> None:
    async with living(life(modes=MODES)) as run:
        await api(run).enter(request(body=ModeBody(mode="llm")))
        run.driver.script(B).ready_after = 20.0
        answer = await api(run).enter(request(body=ModeBody(mode="image", wait=False)))
        told = read(answer)
        assert (answer.status, told["mode"], told["pending"]["mode"]) == (202, "llm", "image")
        await asyncio.sleep(30)
        assert read(await api(run).show(request()))["mode"] == "image"


@virtual
async def test_one_that_fails_says_that_the_old_one_goes_on() -> None:
    async with living(life(modes=MODES)) as run:
        run.driver.script(B).missing = True
        with pytest.raises(LauncherError) as alone:
            await api(run).enter(request(body=ModeBody(mode="image")))
        assert alone.value.code == "backend_missing"
        await api(run).enter(request(body=ModeBody(mode="llm")))
        answer = await api(run).enter(request(body=ModeBody(mode="image")))
        told = read(answer)
        assert (answer.status, told["error"]["code"]) == (503, "backend_missing")
        assert told["error"]["message"].endswith("The mode llm goes on.")
        assert told["mode"]["mode"] == "llm"
        assert run.house.state(A) is BackendState.READY
        # When the old one ends has nothing to do with when to try again.
        run.driver.script(B).missing = False
        run.driver.script(B).exits_after = 0.5
        run.driver.script(B).ready_after = 60.0
        answer = await api(run).enter(request(body=ModeBody(mode="image")))
        assert (answer.status, read(answer)["error"]["code"]) == (503, "backend_start_failed")
        assert int(dict(answer.headers)["Retry-After"]) < 60


@virtual
async def test_one_that_is_asked_for_wrongly_gives_up_nothing() -> None:
    async with living(life(modes=MODES)) as run:
        run.driver.script(A).ready_after = 20.0
        await api(run).enter(request(body=ModeBody(mode="llm", wait=False)))
        with pytest.raises(LauncherError) as told:
            await api(run).enter(request(body=ModeBody(mode="image", ttl="9h")))
        assert told.value.code == "invalid_request"
        await asyncio.sleep(30)
        assert read(await api(run).show(request()))["mode"] == "llm"


@virtual
async def test_one_that_there_is_not() -> None:
    async with living(life(modes=MODES)) as run:
        with pytest.raises(LauncherError, match="Known: llm, image") as told:
            await api(run).enter(request(body=ModeBody(mode="x")))
        assert told.value.status == 404
