"""Paths of older switchers, over the real control plane."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.legacy import Aliased, Legacy, OldModeSwitch, OldStop, OldSwitch
from launcher.api.status import StatusAnswer
from launcher.config import RESERVED, ModeConfig
from launcher.errors import LauncherError
from tests.api.world import read, request
from tests.control.house import Life, life, living
from tests.runtime.house import A, B
from tests.runtime.virtual_clock import virtual

MODES = (ModeConfig("llm", ("a",), 600.0), ModeConfig("image", ("b",), 600.0))


def modal() -> Life:
    return life(modes=MODES, home="a")


async def ours(request: ApiRequest) -> ApiResponse:
    return ApiResponse(request.path.encode(), 203)


def legacy(run: Life) -> Legacy:
    def status(request: ApiRequest) -> StatusAnswer:
        return cast(StatusAnswer, {"version": "1"})

    return Legacy(run.config, run.house.dispatcher, run.plane, Aliased(*[ours] * 4, status))


def to(model: str, **more: Any) -> ApiRequest:
    return request("POST", body=OldSwitch(model=model, **more))


def changed(mode: str, **more: Any) -> ApiRequest:
    return request("POST", body=OldModeSwitch(mode=mode, **more))


async def refused(answer: Any) -> tuple[int, str]:
    with pytest.raises(LauncherError) as caught:
        await answer
    return caught.value.status, caught.value.code


@virtual
async def test_no_route_can_stand_in_their_way() -> None:
    async with living(life()) as run:
        paths = [one.path for one in legacy(run).endpoints()]
        assert len(paths) == 9
        assert {path.split("/")[1] for path in paths} <= RESERVED


@virtual
async def test_what_is_answered_as_it_is() -> None:
    async with living(life()) as run:
        old = legacy(run)
        for answer, path in [
            (old.health, "/health"),
            (old.ready, "/healthz/ready"),
            (old.models, "/models"),
            (old.mode, "/mode"),
        ]:
            told = await answer(request(path=path))
            assert (told.status, told.body) == (203, path.encode())


@virtual
async def test_a_switch_that_is_waited_for() -> None:
    async with living(life()) as run:
        await run.up(A)
        answer = await legacy(run).switch(to("b"))

        assert answer.status == 200
        assert read(answer) == {
            "status": "success",
            "switch_id": 1,
            "to_model": "b",
            "state_text": "The switch succeeded.",
            "poll_endpoint": "/api/switches/1",
        }
        assert ("switches", 1) in run.store.synced


@virtual
async def test_a_switch_that_is_not_waited_for_and_one_more_to_the_same() -> None:
    async with living(life()) as run:
        run.driver.script(B).ready_after = 50.0
        first = await legacy(run).switch(to("b", wait_for_ready=False))
        again = await legacy(run).switch(to("b", wait_for_ready=False))
        other = await legacy(run).switch(to("a", wait_for_ready=False))

        assert [one.status for one in (first, again, other)] == [202, 202, 202]
        told = [(read(one)["status"], read(one)["switch_id"]) for one in (first, again, other)]
        assert told == [("accepted", 1), ("in_progress", 1), ("accepted", 2)]
        assert await refused(legacy(run).switch(to("a"))) == (409, "switch_in_progress")


@virtual
async def test_who_leaves_does_not_end_the_switch() -> None:
    async with living(life()) as run:
        run.driver.script(B).ready_after = 50.0
        asking = asyncio.ensure_future(legacy(run).switch(to("b")))
        await asyncio.sleep(10)
        asking.cancel()
        assert (await run.switches.over(1)).state.value == "succeeded"


@virtual
async def test_models_and_containers_that_are_not_there() -> None:
    async with living(life()) as run:
        run.driver.script(B).missing = True
        assert await refused(legacy(run).switch(to("codr"))) == (400, "unknown_model")
        for wait in (True, False):
            switch = legacy(run).switch(to("b", wait_for_ready=wait))
            assert await refused(switch) == (412, "backend_missing")
        assert run.switches.all() == []
        run.driver.script(A).exits_after = 1.0
        run.driver.script(A).ready_after = 5.0
        assert await refused(legacy(run).switch(to("a"))) == (503, "backend_start_failed")


@virtual
async def test_the_newest_switch_stands_in_the_status() -> None:
    async with living(life()) as run:
        old = legacy(run)
        assert read(await old.status(request())) == {"version": "1", "switch": {"status": "idle"}}

        run.driver.script(B).ready_after = 50.0
        await old.switch(to("b", wait_for_ready=False))
        await asyncio.sleep(10)
        block = read(await old.status(request()))["switch"]
        assert (block["status"], block["switch_id"], block["finished_at"]) == ("running", 1, None)
        await run.switches.over(1)
        block = read(await old.status(request()))["switch"]
        assert (block["status"], block["to_model"], block["error"]) == ("success", "b", None)


@virtual
async def test_a_mode_is_changed_and_released() -> None:
    async with living(modal()) as run:
        old = legacy(run)
        answer = await old.mode_switch(changed("image", ttl_minutes=5))
        assert (answer.status, read(answer)["status"]) == (200, "success")
        assert read(answer)["to_model"] == "b"
        held = run.plane.modes.active()
        assert (held.mode, held.ttl) == ("image", 300.0)
        assert read(answer)["poll_endpoint"] == f"/api/leases/{held.id}"

        assert read(await old.mode_release(request())) == {"status": "success", "mode": None}
        assert run.plane.modes.active() is None


@virtual
async def test_a_mode_that_is_not_waited_for() -> None:
    async with living(modal()) as run:
        run.driver.script(B).ready_after = 50.0
        first = await legacy(run).mode_switch(changed("image", wait_for_ready=False))
        again = await legacy(run).mode_switch(changed("image", wait_for_ready=False))
        assert [read(one)["status"] for one in (first, again)] == ["accepted", "in_progress"]
        assert await refused(legacy(run).mode_switch(changed("llm"))) == (409, "switch_in_progress")
        assert await refused(legacy(run).switch(to("a"))) == (409, "switch_in_progress")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"mode": "imgae"}, "unknown_mode"),
        ({"mode": "image", "ttl_minutes": 100_000}, "invalid_request"),
        ({"mode": "llm", "ttl_minutes": 5}, "invalid_request"),
        ({"mode": "image", "model": "a"}, "invalid_request"),
        ({"mode": "image", "model": "nobody"}, "unknown_model"),
    ],
)
@virtual
async def test_modes_that_are_asked_for_wrongly(body: dict[str, Any], code: str) -> None:
    async with living(modal()) as run:
        assert await refused(legacy(run).mode_switch(changed(**body))) == (400, code)
        assert run.plane.modes.pending() is None


@virtual
async def test_a_mode_that_fails_to_start() -> None:
    async with living(modal()) as run:
        run.driver.script(B).missing = True
        for wait in (True, False):
            change = legacy(run).mode_switch(changed("image", wait_for_ready=wait))
            assert await refused(change) == (412, "backend_missing")


@virtual
async def test_what_is_wrong_is_said_before_what_is_in_the_way() -> None:
    async with living(modal()) as run:
        run.driver.script(B).ready_after = 50.0
        await legacy(run).switch(to("b", wait_for_ready=False))
        wrong = legacy(run).mode_switch(changed("image", ttl_minutes=100_000.0))
        assert await refused(wrong) == (400, "invalid_request")
        assert await refused(legacy(run).mode_switch(changed("image"))) == (
            409,
            "switch_in_progress",
        )


@virtual
async def test_a_lease_in_the_way_is_told_at_once() -> None:
    async with living(modal()) as run:
        lease = run.leases.take(routes=("a",), ttl=600.0)
        await run.leases.settled(lease.id)
        for wait in (True, False):
            with pytest.raises(LauncherError) as told:
                await legacy(run).switch(to("b", wait_for_ready=wait))
            assert told.value.code == "leased"
            assert told.value.retry_after == pytest.approx(600, abs=2)
            change = legacy(run).mode_switch(changed("image", wait_for_ready=wait))
            assert await refused(change) == (409, "leased")


@virtual
async def test_stopping() -> None:
    async with living(life()) as run:
        await run.up(A)
        assert read(await legacy(run).stop(request(body=OldStop(model="b")))) == {
            "status": "success",
            "stopped": [],
        }
        assert read(await legacy(run).stop(request(body=OldStop())))["stopped"] == ["a"]
