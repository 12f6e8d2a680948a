"""`/api/leases` and `/api/mode`."""

from __future__ import annotations

import asyncio

import pytest

from launcher import tasks
from launcher.api.leases import seconds_of
from launcher.config import ModeConfig
from launcher.core.types import BackendState
from tests.api.world import Answer, Asking, asking, of_life
from tests.control.house import life, living
from tests.runtime.house import A, B
from tests.runtime.virtual_clock import virtual

MODES = (ModeConfig("llm", (A,), 600.0), ModeConfig("image", (B,), 60.0))


async def take(here: Asking, **body: object) -> Answer:
    return await here.post("/api/leases", body)


async def release(here: Asking, id: str) -> Answer:
    return await here.ask("DELETE", f"/api/leases/{id}")


@virtual
async def test_from_the_taking_to_the_release() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        run.driver.script(A).ready_after = 20.0
        answer = await take(here, route="a", ttl="45m", note="render")
        assert answer.status == 201
        told = answer.json
        assert (told["id"], told["state"], told["route"], told["backends"]) == (
            1,
            "active",
            "a",
            ["a"],
        )
        assert told["remaining_seconds"] == pytest.approx(2700, abs=1)
        assert told["expires_at"].startswith("2027-01-15T")
        assert ("leases", 1) in run.store.synced
        renewed = await here.ask("PUT", "/api/leases/1", {"ttl": 60})
        assert renewed.json["remaining_seconds"] == pytest.approx(60, abs=1)
        assert (await here.get("/api/leases")).json["leases"][0]["note"] == "render"
        assert (await release(here, "1")).json["state"] == "released"
        assert (await here.get("/api/leases/1")).json["state_text"] == "released"
        assert (await here.get("/api/leases")).json == {"leases": []}
        assert (await here.ask("PUT", "/api/leases/1", {})).code == "stale_lease"
        assert (await release(here, "1")).json["state"] == "released"


@virtual
async def test_who_does_not_wait_asks_again() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        run.driver.script(A).ready_after = 20.0
        answer = await take(here, route="a", wait=False)
        assert (answer.status, answer.json["state"]) == (202, "pending")
        assert ("leases", 1) in run.store.synced
        await asyncio.sleep(30)
        told = (await here.get("/api/leases/1")).json
        assert (told["state"], told["pin"]) == ("active", False)
        assert told["remaining_seconds"] == pytest.approx(5400 - 10, abs=2)


@virtual
async def test_who_leaves_before_the_grant_gives_it_up() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        run.driver.script(A).ready_after = 20.0
        call = tasks.spawn(take(here, route="a"), name="take")
        await run.house.until(lambda: run.house.state(A) is BackendState.STARTING)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        told = (await here.get("/api/leases/1")).json
        assert told["state_text"] == "released by its asker, who left"
        await run.house.until(lambda: run.house.state(A) is BackendState.READY)
    run.house.nobody_left()


@virtual
async def test_one_that_somebody_else_holds() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        await take(here, route="a", ttl=60, note="ann's")
        for wait in (True, False):
            answer = await take(here, route="b", ttl=60, wait=wait)
            assert (answer.status, answer.code) == (409, "leased")
            assert "Lease 1 (a, ann's, until" in answer.json["error"]["message"]
            assert int(answer.headers["retry-after"]) == pytest.approx(60, abs=1)


@virtual
async def test_a_place_that_is_held_nobody_knows_how_long_is_asked_for_again() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        await take(here, route="a", pin=True)
        answer = await take(here, route="b")
        assert (answer.code, answer.headers["retry-after"]) == ("leased", "60")


@virtual
async def test_a_pin_and_a_place_for_work_outside() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        told = (await take(here, route="a", pin=True)).json
        assert (told["pin"], told["expires_at"], told["remaining_seconds"]) == (True, None, None)
        await release(here, "1")
        told = (await take(here, needs={"gpu": "1"}, ttl=60)).json
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
        ({"route": "a", "ttl": "2h"}, "at most 5400 s (`max_lease`)"),
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
        async with living(life()) as run, asking(of_life(run)) as here:
            answer = await take(here, **body)
            assert answer.status in (400, 404)
            assert words in answer.json["error"]["message"]
            assert run.leases.open_ones() == []

    run_it()


@virtual
async def test_a_start_that_fails() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        run.driver.script(B).missing = True
        assert (await take(here, route="b")).code == "backend_missing"
        # Nothing was asked for, so nobody had to make room.
        assert run.leases.open_ones() == []


@virtual
async def test_a_number_that_no_lease_has() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        for id in ("7", "x"):
            assert (await here.get(f"/api/leases/{id}")).code == "unknown_lease"
            assert (await release(here, id)).code == "unknown_lease"


def test_durations() -> None:
    assert (seconds_of(5), seconds_of("1h30m"), seconds_of("90")) == (5, 5400, 90)


# -- modes


async def enter(here: Asking, **body: object) -> Answer:
    return await here.post("/api/mode", body)


@virtual
async def test_from_one_to_another_and_out() -> None:
    async with living(life(modes=MODES)) as run, asking(of_life(run)) as here:
        told = (await here.get("/api/mode")).json
        assert (told["mode"], told["lease"], told["routes"]) == (None, None, [])
        assert told["modes"][1] == {"mode": "image", "routes": ["b"], "ttl_seconds": 60.0}
        answer = await enter(here, mode="llm")
        told = answer.json
        assert (answer.status, told["mode"], told["routes"]) == (200, "llm", ["a"])
        assert told["remaining_seconds"] == pytest.approx(600, abs=1)
        told = (await enter(here, mode="image", ttl="30s")).json
        assert (told["mode"], told["lease"]["id"]) == ("image", 2)
        assert told["remaining_seconds"] == pytest.approx(30, abs=1)
        assert (await here.ask("DELETE", "/api/mode")).json["mode"] is None
        assert run.leases.open_ones() == []


@virtual
async def test_who_does_not_wait_is_told_what_is_coming() -> None:
    async with living(life(modes=MODES)) as run, asking(of_life(run)) as here:
        await enter(here, mode="llm")
        run.driver.script(B).ready_after = 20.0
        answer = await enter(here, mode="image", wait=False)
        told = answer.json
        assert (answer.status, told["mode"], told["pending"]["mode"]) == (202, "llm", "image")
        await asyncio.sleep(30)
        assert (await here.get("/api/mode")).json["mode"] == "image"


@virtual
async def test_one_that_fails_says_that_the_old_one_goes_on() -> None:
    async with living(life(modes=MODES)) as run, asking(of_life(run)) as here:
        run.driver.script(B).missing = True
        assert (await enter(here, mode="image")).code == "backend_missing"
        await enter(here, mode="llm")
        answer = await enter(here, mode="image")
        told = answer.json
        assert (answer.status, told["error"]["code"]) == (503, "backend_missing")
        assert told["error"]["message"].endswith("The mode llm goes on.")
        assert told["mode"]["mode"] == "llm"
        assert run.house.state(A) is BackendState.READY
        # When the old one ends has nothing to do with when to try again.
        run.driver.script(B).missing = False
        run.driver.script(B).exits_after = 0.5
        run.driver.script(B).ready_after = 60.0
        answer = await enter(here, mode="image")
        assert (answer.status, answer.json["error"]["code"]) == (503, "backend_start_failed")
        assert int(answer.headers["retry-after"]) < 60


@virtual
async def test_one_that_is_asked_for_wrongly_gives_up_nothing() -> None:
    async with living(life(modes=MODES)) as run, asking(of_life(run)) as here:
        run.driver.script(A).ready_after = 20.0
        await enter(here, mode="llm", wait=False)
        assert (await enter(here, mode="image", ttl="9h")).code == "invalid_request"
        await asyncio.sleep(30)
        assert (await here.get("/api/mode")).json["mode"] == "llm"


@virtual
async def test_one_that_there_is_not() -> None:
    async with living(life(modes=MODES)) as run, asking(of_life(run)) as here:
        answer = await enter(here, mode="x")
        assert (answer.status, answer.code) == (404, "unknown_mode")
        assert "Known: llm, image" in answer.json["error"]["message"]
