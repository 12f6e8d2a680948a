"""What operators do: start, stop, switch, drain, reload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from launcher import tasks
from launcher.api.control import AT_ONCE, route_of, settle
from launcher.api.health import problems
from launcher.config import AliasConfig
from launcher.config.difference import Difference, Names
from launcher.config.reload import Reloaded
from launcher.core.types import BackendId, BackendState, Failure, Priority, Wake
from launcher.errors import ConfigError, LauncherError
from tests.api.world import (
    CODER,
    CONFIG,
    Answer,
    Asking,
    FakeControl,
    FakeReloads,
    a_context,
    asking,
    of_life,
    until,
)
from tests.control.house import life, living
from tests.runtime.house import A, B
from tests.runtime.virtual_clock import virtual

START, STOP = "/api/routes/coder/start", "/api/routes/coder/stop"


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
async def here(control: FakeControl) -> AsyncIterator[Asking]:
    async with asking(a_context(control)) as asked:
        yield asked


class TestStart:
    async def test_answers_at_once_and_holds_a_ticket_until_it_is_granted(
        self, here: Asking, control: FakeControl
    ) -> None:
        control.on_admit = lambda _: control.put(CODER, BackendState.STARTING)

        answer = await here.post(START)

        assert answer.status == 202
        assert answer.json == {
            "route": "coder",
            "state": "starting",
            "backends": [{"backend": "coder", "state": "starting"}],
        }
        (admission,) = control.admissions
        assert admission.ask.operator
        assert (admission.ask.priority, admission.ask.wake) == (Priority.NORMAL, Wake.ALWAYS)
        assert admission.ask.backends == (CODER,)
        assert admission.ask.queue_timeout == 1800.0
        assert not admission.left
        admission.settle()
        await until(lambda: admission.left)

    async def test_what_is_ready_already_is_told_at_once(
        self, here: Asking, control: FakeControl
    ) -> None:
        control.put(CODER, BackendState.READY)
        control.on_admit = lambda admission: admission.settle(cold=False)

        answer = await here.post(START)

        assert answer.status == 200
        told = answer.json
        assert (told["state"], told["cold_start"], told["waited_ms"]) == ("ready", False, 0)
        assert control.admissions[0].left

    @pytest.mark.parametrize("query", ["", "?wait=1"])
    async def test_a_rejection_at_once_is_told(
        self, here: Asking, control: FakeControl, query: str
    ) -> None:
        error = LauncherError("backend_missing", "no such container", detail="log")
        control.on_admit = lambda admission: admission.settle(error)

        answer = await here.post(START + query)

        assert (answer.status, answer.code) == (503, "backend_missing")
        assert answer.json["error"]["detail"] == "log"
        assert control.admissions[0].left

    async def test_waiting_answers_when_it_is_ready(
        self, here: Asking, control: FakeControl
    ) -> None:
        waiting = tasks.spawn(here.post(f"{START}?wait=1"), name="start")
        await until(lambda: control.admissions)
        await asyncio.sleep(0)
        assert not waiting.done()

        control.put(CODER, BackendState.READY)
        control.admissions[0].settle()
        answer = await waiting

        assert (answer.status, answer.json["backend"]) == (200, "coder")
        assert answer.json["waited_ms"] == 12_500
        assert control.admissions[0].left

    async def test_an_operator_who_leaves_gives_up_the_place(
        self, here: Asking, control: FakeControl
    ) -> None:
        async with here.sent("POST", f"{START}?wait=1"):
            await until(lambda: control.admissions)

        await until(lambda: control.admissions[0].left)

    async def test_the_end_of_the_launcher_gives_up_the_starts_it_holds(
        self, here: Asking, control: FakeControl
    ) -> None:
        await here.post(START)
        here.server.take(CONFIG)

        await here.context.starts.cancel()

        assert control.admissions[0].left

    async def test_an_unknown_route_names_those_known(
        self, here: Asking, control: FakeControl
    ) -> None:
        answer = await here.post("/api/routes/nope/start")

        assert answer.code == "unknown_route"
        assert "coder, chat, tiny" in answer.json["error"]["message"]
        assert control.admissions == []


class TestStop:
    async def test_answers_at_once(self, here: Asking, control: FakeControl) -> None:
        control.put(CODER, BackendState.READY, in_flight=1)
        control.on_stop = lambda backend: control.put(backend, BackendState.DRAINING)

        answer = await here.post(STOP)

        assert (answer.status, answer.json["state"]) == (202, "draining")
        assert control.stops == [(CODER, False)]

    async def test_what_does_not_run_is_left_alone(
        self, here: Asking, control: FakeControl
    ) -> None:
        answer = await here.post(STOP)

        assert (answer.status, answer.json["state"]) == (200, "stopped")
        assert control.stops == []

    async def test_force_is_passed_on(self, here: Asking, control: FakeControl) -> None:
        control.put(CODER, BackendState.READY)

        await here.post(f"{STOP}?force=1")

        assert control.stops == [(CODER, True)]

    async def test_what_a_reload_takes_away_meanwhile_is_stopped(
        self, here: Asking, control: FakeControl
    ) -> None:
        control.put(CODER, BackendState.READY)
        control.on_stop = lambda backend: control.put(backend, BackendState.STOPPING)
        waiting = tasks.spawn(here.post(f"{STOP}?wait=1"), name="stop")
        await until(lambda: control.stops)

        del control.backends[CODER]

        answer = await waiting
        assert (answer.status, answer.json["state"]) == (200, "stopped")
        late = await here.post(STOP)
        assert (late.status, late.json["backends"]) == (200, [])

    async def test_waiting_answers_when_nothing_runs(
        self, here: Asking, control: FakeControl
    ) -> None:
        control.put(CODER, BackendState.READY)
        control.on_stop = lambda backend: control.put(backend, BackendState.STOPPING)
        waiting = tasks.spawn(here.post(f"{STOP}?wait=1"), name="stop")
        await until(lambda: control.stops)
        await asyncio.sleep(0)
        assert not waiting.done()

        control.put(CODER, BackendState.STOPPED)

        assert (await waiting).json["state"] == "stopped"

    async def test_waiting_ends_where_it_is_started_anew_between_two_looks(
        self, here: Asking, control: FakeControl
    ) -> None:
        control.put(CODER, BackendState.READY, instance="one")

        def stop(backend: BackendId) -> None:
            control.put(backend, BackendState.STOPPED, instance=None)
            control.put(backend, BackendState.STARTING)

        control.on_stop = stop

        assert (await here.post(f"{STOP}?wait=1")).json["state"] == "starting"

    async def test_waiting_ends_where_another_instance_is_ready_by_now(
        self, here: Asking, control: FakeControl
    ) -> None:
        control.put(CODER, BackendState.READY, instance="one")
        control.on_stop = lambda backend: control.put(backend, BackendState.READY, instance="two")

        assert (await here.post(f"{STOP}?wait=1")).status == 200

    async def test_a_stop_that_does_not_end_is_an_error(
        self, here: Asking, control: FakeControl
    ) -> None:
        control.put(CODER, BackendState.READY)
        stuck = Failure("backend_stop_failed", "still there after SIGKILL", "pid 7")
        control.on_stop = lambda backend: control.put(
            backend, BackendState.STOPPING, stop_failure=stuck
        )

        answer = await here.post(f"{STOP}?wait=1")

        assert answer.code == "backend_stop_failed"
        assert "still there after SIGKILL" in answer.json["error"]["message"]
        assert answer.json["error"]["detail"] == "pid 7"


# -- switching


async def switch(here: Asking, **body: object) -> Answer:
    return await here.post("/api/switch", body)


@virtual
async def test_who_waits_is_answered_when_it_is_done() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        await run.up(A)
        run.driver.script(B).ready_after = 20.0
        answer = await switch(here, route="b")
        assert answer.status == 200
        told = answer.json
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
    async with living(life()) as run, asking(of_life(run)) as here:
        await run.up(A)
        run.driver.script(B).ready_after = 50.0
        answer = await switch(here, route="b", wait=False)
        assert answer.status == 202
        first = answer.json
        assert (first["switch_id"], first["state"]) == (1, "running")
        assert ("switches", 1) in run.store.synced
        await asyncio.sleep(20)
        now = (await here.get("/api/switches/1")).json
        assert now["state_text"] == "is under way: wait until b is healthy"
        assert now["steps"][-1]["ok"] is None
        assert now["duration_ms"] == pytest.approx(20_000, abs=500)
        assert now["predicted_ms"] > 0
        await run.switches.over(1)
        (listed,) = (await here.get("/api/switches")).json["switches"]
        assert listed["state"] == "succeeded"


@virtual
async def test_a_switch_that_failed_is_the_starts_own_error_with_the_switch_beside_it() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        await run.up(A)
        run.driver.script(B).exits_after = 1.0
        run.driver.script(B).ready_after = 5.0
        answer = await switch(here, route="b")
        assert answer.status == 503
        told = answer.json
        assert told["error"]["code"] == "backend_start_failed"
        assert told["error"]["type"] == "server_error"
        assert told["switch"]["state"] == "rolled_back"
        assert "retry-after" in answer.headers
        assert run.house.state(A) is BackendState.READY
        assert "detail" in (await here.get("/api/switches/1")).json["error"]
        here.peer = "192.0.2.7"
        assert "detail" not in (await here.get("/api/switches/1")).json["error"]


@virtual
async def test_a_switch_that_is_over_at_once_is_told_as_one_to_who_does_not_wait() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        await run.up(A)
        run.driver.script(B).exits_after = 0.01
        run.driver.script(B).ready_after = 5.0
        answer = await switch(here, route="b", wait=False)
        told = answer.json
        assert (answer.status, told["switch_id"], told["state"]) == (202, 1, "rolled_back")
        assert told["error"]["code"] == "backend_start_failed"


@virtual
async def test_a_lease_in_the_way_is_a_409_at_once_and_force_breaks_it() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        lease = run.leases.take(routes=(A,), ttl=600.0, note="render")
        await run.leases.settled(lease.id)
        for wait in (True, False):
            answer = await switch(here, route="b", wait=wait)
            assert answer.status == 409
            told = answer.json
            assert (told["error"]["code"], told["switch"]["state"]) == ("leased", "failed")
            assert "Lease 1 (a, render, until" in told["error"]["message"]
            assert answer.headers["retry-after"] == "600"
        answer = await switch(here, route="b", force=True)
        assert (answer.status, answer.json["broken_leases"]) == (200, [1])


@virtual
async def test_a_caller_who_leaves_does_not_end_the_switch() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        await run.up(A)
        run.driver.script(B).ready_after = 20.0
        call = tasks.spawn(switch(here, route="b"), name="switch")
        await run.house.until(lambda: run.house.state(B) is BackendState.STARTING)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await run.house.until(lambda: run.switches.get(1).over)
        assert run.house.state(B) is BackendState.READY


@virtual
async def test_a_number_that_no_switch_has() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        for id in ("7", "x"):
            assert (await here.get(f"/api/switches/{id}")).code == "unknown_switch"


def test_a_route_by_its_name_or_by_what_it_serves() -> None:
    assert route_of(CONFIG, "coder", None) == "coder"
    assert route_of(CONFIG, None, "Qwen/Qwen2.5-Coder") == "coder"
    aliases = (AliasConfig("best", ("chat", "coder-fast")),)
    assert route_of(replace(CONFIG, aliases=aliases), None, "best") == "chat"


@pytest.mark.parametrize(
    ("route", "model", "code"),
    [
        (None, None, "invalid_request"),
        ("coder", "chat", "invalid_request"),
        ("nobody", None, "unknown_route"),
        (None, "nothing", "unknown_model"),
    ],
)
def test_what_names_nothing(route: str | None, model: str | None, code: str) -> None:
    with pytest.raises(LauncherError) as told:
        route_of(CONFIG, route, model)
    assert told.value.code == code


@virtual
async def test_who_waits_for_an_outcome_waits_to_its_end() -> None:
    began = asyncio.get_running_loop().time()
    await settle(asyncio.sleep(1000), wait=True)
    assert asyncio.get_running_loop().time() - began == pytest.approx(1000)


@virtual
async def test_who_does_not_is_told_what_is_decided_at_once() -> None:
    began = asyncio.get_running_loop().time()
    await settle(asyncio.sleep(1000), wait=False)
    assert asyncio.get_running_loop().time() - began == pytest.approx(AT_ONCE)

    async def refused() -> None:
        raise LauncherError("leased", "Somebody holds it.")

    with pytest.raises(LauncherError):
        await settle(refused(), wait=False)


# -- draining


@virtual
async def test_one_route_is_drained_and_everything() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        with run.house.asking(A) as stream:
            await stream.granted()
            told = (await here.post("/api/drain", {"route": "a"})).json
            assert told == {
                "all": False,
                "routes": ["a"],
                "backends": [{"backend": "a", "state": "ready", "in_flight": 1, "queued": 0}],
            }
            assert ("drains", "a") in run.store.synced
        control = run.house.dispatcher
        assert problems(control, control.snapshot()) == []
        told = (await here.post("/api/drain", {})).json
        assert (told["all"], told["routes"]) == (True, ["a", "b", "c"])
        (problem,) = problems(control, control.snapshot())
        assert problem["code"] == "draining"
        told = (await here.post("/api/resume", {})).json
        assert told == {"all": False, "routes": [], "backends": []}
        assert not [key for table, key in run.store.synced if table == "drains"]


# -- reloading


async def reloaded(reloads: FakeReloads) -> Answer:
    async with asking(a_context(reloader=reloads)) as here:
        return await here.post("/api/reload")


async def test_what_changed_is_told_by_name() -> None:
    difference = Difference(
        routes=Names(added=("a",), changed={"b": ("models",)}),
        backends=Names(removed=("c",)),
        replaced=("d",),
        settings=("capacity",),
        needs_restart=("listen",),
    )
    reloads = FakeReloads(Reloaded(difference, ("it may surprise",), 0.0124))
    answer = await reloaded(reloads)
    assert answer.status == 200
    assert answer.json == {
        "changed": True,
        "routes": {"added": ["a"], "removed": [], "changed": {"b": ["models"]}},
        "backends": {"added": [], "removed": ["c"], "changed": {}, "replaced": ["d"]},
        "settings": ["capacity"],
        "needs_restart": ["listen"],
        "warnings": ["it may surprise"],
        "duration_ms": 12,
    }
    assert reloads.asked_by == ["POST /api/reload"]


async def test_nothing_new() -> None:
    assert (await reloaded(FakeReloads())).json["changed"] is False


async def test_what_is_wrong_is_told_whole() -> None:
    problems = ["routes.toml:1: one", "routes.toml:2: two"]
    answer = await reloaded(FakeReloads(ConfigError(problems)))
    assert (answer.status, answer.code) == (422, "bad_configuration")
    error = answer.json["error"]
    assert error["message"].startswith("The configuration has 2 problems; nothing was changed.")
    assert error["detail"] == "routes.toml:1: one\nroutes.toml:2: two"
