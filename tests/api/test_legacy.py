"""Paths of older switchers, over the real control plane."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from launcher import tasks
from launcher.api import legacy
from launcher.config import RESERVED, ModeConfig
from tests.api.world import Answer, Asking, asking, of_life
from tests.control.house import Life, life, living
from tests.runtime.house import A, B
from tests.runtime.virtual_clock import virtual

MODES = (ModeConfig("llm", ("a",), 600.0), ModeConfig("image", ("b",), 600.0))


def modal() -> Life:
    return life(modes=MODES, home="a")


async def switch(here: Asking, model: str, **more: object) -> Answer:
    return await here.post("/switch", {"model": model, **more})


async def mode_switch(here: Asking, mode: str, **more: object) -> Answer:
    return await here.post("/mode/switch", {"mode": mode, **more})


async def refused(asking: Any) -> tuple[int, str | None]:
    answer: Answer = await asking
    return answer.status, answer.code


def test_no_route_can_stand_in_their_way() -> None:
    paths = [one.path for one in legacy.ENDPOINTS]
    assert len(paths) == 9
    assert {path.split("/")[1] for path in paths} <= RESERVED


@virtual
async def test_what_is_answered_as_it_is() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        for old, new in [
            ("/health", "/healthz"),
            ("/healthz/ready", "/readyz"),
            ("/models", "/v1/models"),
            ("/mode", "/api/mode"),
        ]:
            told, meant = await here.get(old), await here.get(new)
            assert (told.status, told.body) == (meant.status, meant.body)


@virtual
async def test_a_switch_that_is_waited_for() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        await run.up(A)
        answer = await switch(here, "b")

        assert answer.status == 200
        assert answer.json == {
            "status": "success",
            "switch_id": 1,
            "to_model": "b",
            "state_text": "The switch succeeded.",
            "poll_endpoint": "/api/switches/1",
        }
        assert ("switches", 1) in run.store.synced


@virtual
async def test_a_switch_that_is_not_waited_for_and_one_more_to_the_same() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        run.driver.script(B).ready_after = 50.0
        first = await switch(here, "b", wait_for_ready=False)
        again = await switch(here, "b", wait_for_ready=False)
        other = await switch(here, "a", wait_for_ready=False)

        assert [one.status for one in (first, again, other)] == [202, 202, 202]
        told = [(one.json["status"], one.json["switch_id"]) for one in (first, again, other)]
        assert told == [("accepted", 1), ("in_progress", 1), ("accepted", 2)]
        assert await refused(switch(here, "a")) == (409, "switch_in_progress")


@virtual
async def test_who_leaves_does_not_end_the_switch() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        run.driver.script(B).ready_after = 50.0
        call = tasks.spawn(switch(here, "b"), name="switch")
        await asyncio.sleep(10)
        call.cancel()
        assert (await run.switches.over(1)).state.value == "succeeded"


@virtual
async def test_models_and_containers_that_are_not_there() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        run.driver.script(B).missing = True
        assert await refused(switch(here, "codr")) == (400, "unknown_model")
        for wait in (True, False):
            call = switch(here, "b", wait_for_ready=wait)
            assert await refused(call) == (412, "backend_missing")
        assert run.switches.all() == []
        run.driver.script(A).exits_after = 1.0
        run.driver.script(A).ready_after = 5.0
        assert await refused(switch(here, "a")) == (503, "backend_start_failed")


@virtual
async def test_the_newest_switch_stands_in_the_status() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        assert (await here.get("/status")).json["switch"] == {"status": "idle"}

        run.driver.script(B).ready_after = 50.0
        await switch(here, "b", wait_for_ready=False)
        await asyncio.sleep(10)
        block = (await here.get("/status")).json["switch"]
        assert (block["status"], block["switch_id"], block["finished_at"]) == ("running", 1, None)
        await run.switches.over(1)
        block = (await here.get("/status")).json["switch"]
        assert (block["status"], block["to_model"], block["error"]) == ("success", "b", None)


@virtual
async def test_a_mode_is_changed_and_released() -> None:
    async with living(modal()) as run, asking(of_life(run)) as here:
        answer = await mode_switch(here, "image", ttl_minutes=5)
        assert (answer.status, answer.json["status"]) == (200, "success")
        assert answer.json["to_model"] == "b"
        held = run.plane.modes.active()
        assert (held.mode, held.ttl) == ("image", 300.0)
        assert answer.json["poll_endpoint"] == f"/api/leases/{held.id}"

        assert (await here.post("/mode/release")).json == {"status": "success", "mode": None}
        assert run.plane.modes.active() is None


@virtual
async def test_a_mode_that_is_not_waited_for() -> None:
    async with living(modal()) as run, asking(of_life(run)) as here:
        run.driver.script(B).ready_after = 50.0
        first = await mode_switch(here, "image", wait_for_ready=False)
        again = await mode_switch(here, "image", wait_for_ready=False)
        assert [one.json["status"] for one in (first, again)] == ["accepted", "in_progress"]
        assert await refused(mode_switch(here, "llm")) == (409, "switch_in_progress")
        assert await refused(switch(here, "a")) == (409, "switch_in_progress")


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
    async with living(modal()) as run, asking(of_life(run)) as here:
        assert await refused(mode_switch(here, **body)) == (400, code)
        assert run.plane.modes.pending() is None


@virtual
async def test_a_mode_that_fails_to_start() -> None:
    async with living(modal()) as run, asking(of_life(run)) as here:
        run.driver.script(B).missing = True
        for wait in (True, False):
            change = mode_switch(here, "image", wait_for_ready=wait)
            assert await refused(change) == (412, "backend_missing")


@virtual
async def test_what_is_wrong_is_said_before_what_is_in_the_way() -> None:
    async with living(modal()) as run, asking(of_life(run)) as here:
        run.driver.script(B).ready_after = 50.0
        await switch(here, "b", wait_for_ready=False)
        wrong = mode_switch(here, "image", ttl_minutes=100_000.0)
        assert await refused(wrong) == (400, "invalid_request")
        assert await refused(mode_switch(here, "image")) == (
            409,
            "switch_in_progress",
        )


@virtual
async def test_a_lease_in_the_way_is_told_at_once() -> None:
    async with living(modal()) as run, asking(of_life(run)) as here:
        lease = run.leases.take(routes=("a",), ttl=600.0)
        await run.leases.settled(lease.id)
        for wait in (True, False):
            answer = await switch(here, "b", wait_for_ready=wait)
            assert answer.code == "leased"
            assert int(answer.headers["retry-after"]) == pytest.approx(600, abs=2)
            change = mode_switch(here, "image", wait_for_ready=wait)
            assert await refused(change) == (409, "leased")


@virtual
async def test_stopping() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        await run.up(A)
        assert (await here.post("/stop", {"model": "b"})).json == {
            "status": "success",
            "stopped": [],
        }
        assert (await here.post("/stop")).json["stopped"] == ["a"]
