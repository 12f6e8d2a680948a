"""`/api/leases`."""

from __future__ import annotations

import asyncio

import pytest

from launcher.api.leases import LeaseApi, LeaseBody, RenewBody, seconds_of
from launcher.core.types import BackendState
from launcher.errors import LauncherError
from tests.api.world import read, request
from tests.control.house import Life, life, living
from tests.runtime.house import A, B
from tests.runtime.virtual_clock import virtual


def api(run: Life) -> LeaseApi:
    return LeaseApi(run.config, run.plane.leases)


def wish(**body: object) -> LeaseBody:
    return LeaseBody(**body)  # type: ignore[arg-type]


@virtual
async def test_from_the_taking_to_the_release() -> None:
    async with living(life()) as run:
        run.driver.script(A).ready_after = 20.0
        answer = await api(run).take(request(body=wish(route="a", ttl="45m", note="render")))
        assert answer.status == 201
        told = read(answer)
        assert (told["id"], told["state"], told["route"], told["backends"]) == (
            1,
            "active",
            "a",
            ["a"],
        )
        assert told["remaining_seconds"] == pytest.approx(2700, abs=1)
        assert told["expires_at"].startswith("2027-01-15T")
        assert ("leases", 1) in run.store.synced
        renewed = await api(run).renew(request("PUT", id="1", body=RenewBody(ttl=60)))
        assert read(renewed)["remaining_seconds"] == pytest.approx(60, abs=1)
        assert read(await api(run).list(request()))["leases"][0]["note"] == "render"
        assert read(await api(run).release(request("DELETE", id="1")))["state"] == "released"
        assert read(await api(run).one(request(id="1")))["state_text"] == "released"
        assert read(await api(run).list(request())) == {"leases": []}
        with pytest.raises(LauncherError) as stale:
            await api(run).renew(request("PUT", id="1", body=RenewBody()))
        assert stale.value.code == "stale_lease"
        assert read(await api(run).release(request("DELETE", id="1")))["state"] == "released"


@virtual
async def test_who_does_not_wait_asks_again() -> None:
    async with living(life()) as run:
        run.driver.script(A).ready_after = 20.0
        answer = await api(run).take(request(body=wish(route="a", wait=False)))
        assert (answer.status, read(answer)["state"]) == (202, "pending")
        assert ("leases", 1) in run.store.synced
        await asyncio.sleep(30)
        told = read(await api(run).one(request(id="1")))
        assert (told["state"], told["pin"]) == ("active", False)
        assert told["remaining_seconds"] == pytest.approx(5400 - 10, abs=2)


@virtual
async def test_who_leaves_before_the_grant_gives_it_up() -> None:
    async with living(life()) as run:
        run.driver.script(A).ready_after = 20.0
        call = asyncio.create_task(api(run).take(request(body=wish(route="a"))))
        await run.house.until(lambda: run.house.state(A) is BackendState.STARTING)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        told = read(await api(run).one(request(id="1")))
        assert told["state_text"] == "released by its asker, who left"
        await run.house.until(lambda: run.house.state(A) is BackendState.READY)
    run.house.nobody_left()


@virtual
async def test_one_that_somebody_else_holds() -> None:
    async with living(life()) as run:
        await api(run).take(request(body=wish(route="a", ttl=60, note="ann's")))
        for wait in (True, False):
            with pytest.raises(LauncherError) as told:
                await api(run).take(request(body=wish(route="b", ttl=60, wait=wait)))
            assert (told.value.code, told.value.status) == ("leased", 409)
            assert "Lease 1 (a, ann's, until" in told.value.message
            assert told.value.retry_after == pytest.approx(60, abs=1)


@virtual
async def test_a_place_that_is_held_nobody_knows_how_long_is_asked_for_again() -> None:
    async with living(life()) as run:
        await api(run).take(request(body=wish(route="a", pin=True)))
        with pytest.raises(LauncherError) as told:
            await api(run).take(request(body=wish(route="b")))
        assert (told.value.code, told.value.retry_after) == ("leased", 60.0)


@virtual
async def test_a_pin_and_a_place_for_work_outside() -> None:
    async with living(life()) as run:
        told = read(await api(run).take(request(body=wish(route="a", pin=True))))
        assert (told["pin"], told["expires_at"], told["remaining_seconds"]) == (True, None, None)
        await api(run).release(request("DELETE", id="1"))
        told = read(await api(run).take(request(body=wish(needs={"gpu": "1"}, ttl=60))))
        assert (told["route"], told["needs"], told["backends"]) == (
            None,
            {"gpu": 1},
            ["reserved-2"],
        )
        assert run.driver.running() == set()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "Name a `route`"),
        ({"route": "a", "needs": {"gpu": 1}}, "`needs` goes without"),
        ({"route": "a", "ttl": 60, "pin": True}, "A pin has no `ttl`"),
        ({"route": "a", "ttl": "2h"}, r"at most 5400 s \(`max_lease`\)"),
        ({"route": "a", "ttl": "soon"}, "`ttl`: expected a duration"),
        ({"needs": {"gpu": 2}}, "the capacity is gpu = 1"),
        ({"needs": {"gpu": "many"}}, "`needs`: gpu: expected"),
        ({"needs": {}}, "Say what is needed"),
        ({"route": "nobody"}, "Known: a, b, c"),
    ],
)
def test_what_cannot_be(body: dict[str, object], words: str) -> None:
    @virtual
    async def run_it() -> None:
        async with living(life()) as run:
            with pytest.raises(LauncherError, match=words) as told:
                await api(run).take(request(body=wish(**body)))
            assert told.value.status in (400, 404)
            assert run.leases.open_ones() == []

    run_it()


@virtual
async def test_a_start_that_fails() -> None:
    async with living(life()) as run:
        run.driver.script(B).missing = True
        with pytest.raises(LauncherError) as told:
            await api(run).take(request(body=wish(route="b")))
        assert told.value.code == "backend_missing"
        # Nothing was asked for, so nobody had to make room.
        assert run.leases.open_ones() == []


@virtual
async def test_a_number_that_no_lease_has() -> None:
    async with living(life()) as run:
        for id in ("7", "x"):
            for act in (api(run).one, api(run).release):
                with pytest.raises(LauncherError) as told:
                    await act(request(id=id))
                assert told.value.code == "unknown_lease"


def test_durations() -> None:
    assert (seconds_of(5), seconds_of("1h30m"), seconds_of("90")) == (5, 5400, 90)
