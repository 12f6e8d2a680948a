"""`/api/switch` and `/api/switches`."""

from __future__ import annotations

import asyncio

import pytest

from launcher.api.switch import SwitchApi, SwitchBody
from launcher.core.types import BackendState
from launcher.errors import LauncherError
from tests.api.world import read, request
from tests.control.house import Life, life, living
from tests.runtime.house import A, B
from tests.runtime.virtual_clock import virtual


def api(run: Life) -> SwitchApi:
    return SwitchApi(run.config, run.plane.switches)


def asked(**body: object) -> SwitchBody:
    return SwitchBody(**body)  # type: ignore[arg-type]


@virtual
async def test_who_waits_is_answered_when_it_is_done() -> None:
    async with living(life()) as run:
        await run.up(A)
        run.driver.script(B).ready_after = 20.0
        answer = await api(run).begin(request(body=asked(route="b")))
        assert answer.status == 200
        told = read(answer)
        assert (told["state"], told["from"], told["to"], told["to_backend"]) == (
            "succeeded",
            ["a"],
            "b",
            "b",
        )
        assert [step["name"] for step in told["steps"]] == [
            "stop a",
            "start b",
            "wait until b is healthy",
        ]
        assert (told["state_text"], told["poll"]) == ("succeeded", "/api/switches/1")
        assert told["finished_at"].startswith("2027-")
        assert told["duration_ms"] == pytest.approx(20_000, abs=1000)
        # Before it was told, it was on the disk.
        assert ("switches", 1) in run.store.synced


@virtual
async def test_who_does_not_wait_polls() -> None:
    async with living(life()) as run:
        await run.up(A)
        run.driver.script(B).ready_after = 50.0
        answer = await api(run).begin(request(body=asked(route="b", wait=False)))
        assert answer.status == 202
        first = read(answer)
        assert (first["switch_id"], first["state"]) == (1, "running")
        assert ("switches", 1) in run.store.synced
        await asyncio.sleep(20)
        now = read(await api(run).one(request(id="1")))
        assert now["state_text"] == "is under way: wait until b is healthy"
        assert now["steps"][-1]["ok"] is None
        assert now["duration_ms"] == pytest.approx(20_000, abs=500)
        assert now["predicted_ms"] > 0
        await run.switches.over(1)
        (listed,) = read(await api(run).list(request()))["switches"]
        assert listed["state"] == "succeeded"


@virtual
async def test_a_switch_that_failed_is_the_starts_own_error_with_the_switch_beside_it() -> None:
    async with living(life()) as run:
        await run.up(A)
        run.driver.script(B).exits_after = 1.0
        run.driver.script(B).ready_after = 5.0
        answer = await api(run).begin(request(body=asked(route="b")))
        assert answer.status == 503
        told = read(answer)
        assert told["error"]["code"] == "backend_start_failed"
        assert told["error"]["type"] == "server_error"
        assert told["switch"]["state"] == "rolled_back"
        assert "Retry-After" in dict(answer.headers)
        assert run.house.state(A) is BackendState.READY
        assert "detail" not in read(await api(run).one(request(id="1")))["error"]
        assert "detail" in read(await api(run).one(request(id="1", admin=True)))["error"]


@virtual
async def test_a_switch_that_is_over_at_once_is_told_as_one_to_who_does_not_wait() -> None:
    async with living(life()) as run:
        await run.up(A)
        run.driver.script(B).exits_after = 0.01
        run.driver.script(B).ready_after = 5.0
        answer = await api(run).begin(request(body=asked(route="b", wait=False)))
        told = read(answer)
        assert (answer.status, told["switch_id"], told["state"]) == (202, 1, "rolled_back")
        assert told["error"]["code"] == "backend_start_failed"


@virtual
async def test_a_lease_in_the_way_is_a_409_at_once_and_force_breaks_it() -> None:
    async with living(life()) as run:
        lease = run.leases.take(routes=(A,), ttl=600.0, note="render")
        await run.leases.settled(lease.id)
        for wait in (True, False):
            answer = await api(run).begin(request(body=asked(route="b", wait=wait)))
            assert answer.status == 409
            told = read(answer)
            assert (told["error"]["code"], told["switch"]["state"]) == ("leased", "failed")
            assert "Lease 1 (a, render, until" in told["error"]["message"]
            assert dict(answer.headers)["Retry-After"] == "600"
        answer = await api(run).begin(request(body=asked(route="b", force=True)))
        assert (answer.status, read(answer)["broken_leases"]) == (200, [1])


@virtual
async def test_a_caller_who_leaves_does_not_end_the_switch() -> None:
    async with living(life()) as run:
        await run.up(A)
        run.driver.script(B).ready_after = 20.0
        call = asyncio.create_task(api(run).begin(request(body=asked(route="b"))))
        await run.house.until(lambda: run.house.state(B) is BackendState.STARTING)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await run.house.until(lambda: run.switches.get(1).over)
        assert run.house.state(B) is BackendState.READY


@virtual
async def test_a_number_that_no_switch_has() -> None:
    async with living(life()) as run:
        for id in ("7", "x"):
            with pytest.raises(LauncherError) as told:
                await api(run).one(request(id=id))
            assert told.value.code == "unknown_switch"
