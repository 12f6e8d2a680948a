"""`/api/status`."""

from __future__ import annotations

from dataclasses import replace

from launcher import __version__
from launcher.api.answers import timestamp
from launcher.api.stats import History
from launcher.api.status import Status
from launcher.config import LauncherConfig
from launcher.core.types import BackendState, Failure
from launcher.http.endpoint import Endpoint
from launcher.telemetry.facts import StopStuck
from tests.api.world import CODER, CONFIG, WALL, FakeControl, plane, read, request
from tests.keyring import api

FAILURE = Failure("backend_start_failed", "exit code 1", "CUDA out of memory")


def status(control: FakeControl, config: LauncherConfig = CONFIG) -> Status:
    return Status(
        config, control, plane(control, config), History(config), lambda text: text, lambda: WALL
    )


async def test_everything_at_a_glance() -> None:
    control = FakeControl()
    control.put(CODER, BackendState.READY)
    control.endpoints[CODER] = Endpoint("172.18.0.2", 8000)

    body = read(await status(control).show(request()))

    assert body["version"] == __version__
    assert body["ready"] is True
    assert body["drivers"] == {"docker@local": None}
    assert [one["backend"] for one in body["backends"]] == ["coder", "chat", "tiny"]
    coder = body["backends"][0]
    assert coder["container"] == "coder-fast"
    assert coder["routes"] == ["coder"]
    assert coder["state"] == "ready"
    assert coder["endpoint"] == "http://172.18.0.2:8000"
    assert coder["startMetrics"]["startCount"] == 0
    assert body["backends"][1]["endpoint"] is None
    assert body["routes"][1] == {
        "route": "chat",
        "backends": ["chat"],
        "models": ["chat"],
        "lastHitAt": None,
    }
    assert control.admissions == []


async def test_problems_are_those_of_readyz() -> None:
    control = FakeControl()
    control.health["docker@local"] = "gone"

    body = read(await status(control).show(request()))

    assert body["ready"] is False
    assert [problem["code"] for problem in body["problems"]] == ["docker_unavailable"]


async def test_details_are_for_everybody_where_no_keys_are_set() -> None:
    control = FakeControl()
    control.put(CODER, BackendState.FAILED, failure=FAILURE)

    body = read(await status(control).show(request()))

    assert body["backends"][0]["failure"]["detail"] == "CUDA out of memory"


async def test_details_are_for_admins_where_keys_are_set() -> None:
    control = FakeControl()
    control.put(CODER, BackendState.FAILED, failure=FAILURE)
    guarded = status(control, replace(CONFIG, keys=api("k")))

    anybody = read(await guarded.show(request()))["backends"][0]["failure"]
    admin = read(await guarded.show(request(admin=True)))["backends"][0]["failure"]

    assert anybody == {"code": "backend_start_failed", "message": "exit code 1"}
    assert admin["detail"] == "CUDA out of memory"


async def test_a_backend_on_its_way_out_of_the_configuration_is_no_error() -> None:
    control = FakeControl()
    del control.backends[CODER]

    body = read(await status(control).show(request()))

    assert [one["backend"] for one in body["backends"]] == ["chat", "tiny"]


async def test_what_operators_hold_and_what_failed_last() -> None:
    control, history = FakeControl(), History(CONFIG, wall=lambda: WALL)
    held = plane(control)
    held.drains.drain("chat")
    lease = held.leases.take(routes=("coder",), ttl=60.0, note="render")
    switch = held.switches.begin("chat")
    history.fact(StopStuck(CODER, FAILURE))
    shown = Status(CONFIG, control, held, history, lambda text: text, lambda: WALL)

    body = read(await shown.show(request()))

    assert [(one["id"], one["state"]) for one in body["leases"]] == [(lease.id, "pending")]
    assert [one["switch_id"] for one in body["switches"]] == [switch.id]
    assert (body["drained"], body["mode"], body["home"]) == (["chat"], None, None)
    assert body["stateKept"] is False
    coder, chat, _ = body["backends"]
    assert coder["lastError"]["code"] == "backend_start_failed"
    assert coder["lastError"]["at"] == "2027-01-15T08:00:00.000Z"
    assert (chat["drained"], chat["lastError"], chat["leased"]) == (True, None, False)
    await held.close()


async def test_a_reload_is_no_start() -> None:
    control = FakeControl()
    history = History(CONFIG, wall=lambda: WALL - 60.0)
    later = Status(CONFIG, control, plane(control), history, lambda text: text, wall=lambda: WALL)

    body = read(await later.show(request()))

    assert (body["startedAt"], body["serverTime"]) == (timestamp(WALL - 60.0), timestamp(WALL))
