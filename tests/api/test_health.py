"""`/healthz` and `/readyz`."""

from __future__ import annotations

from launcher.api.health import Health
from launcher.core.types import BackendState, Failure
from tests.api.world import CHAT, CODER, FakeControl, read, request


async def test_the_launcher_is_up_whatever_is_wrong() -> None:
    control = FakeControl()
    control.health["docker@local"] = "connection refused"

    answer = await Health(control).alive(request())

    assert answer.status == 200
    assert read(answer) == {"status": "ok"}


async def test_ready_when_nothing_is_wrong() -> None:
    answer = await Health(FakeControl()).ready(request())

    assert answer.status == 200
    assert read(answer) == {"status": "ready", "problems": []}


async def test_a_driver_that_is_away_is_named_with_its_reason() -> None:
    control = FakeControl()
    control.health["docker@local"] = "The engine refused the connection."

    answer = await Health(control).ready(request())

    assert answer.status == 503
    assert ("Retry-After", "5") in answer.headers
    body = read(answer)
    (problem,) = body["problems"]
    assert problem["driver"] == "docker@local"
    said = "docker@local: The engine refused the connection. Backends that run are served on"
    assert problem["message"].startswith(said)
    assert body["error"]["code"] == "docker_unavailable"
    assert body["error"]["message"] == problem["message"]


async def test_a_stop_that_does_not_end_is_named() -> None:
    control = FakeControl()
    failure = Failure("backend_stop_failed", "it ignores SIGKILL")
    control.put(CODER, BackendState.STOPPING, stop_failure=failure)

    body = read(await Health(control).ready(request()))

    assert [problem["backend"] for problem in body["problems"]] == ["coder"]
    assert "it ignores SIGKILL" in body["error"]["message"]


async def test_every_reason_is_told_at_once() -> None:
    control = FakeControl()
    control.closed = True
    control.health["docker@local"] = "timeout"
    control.put(CHAT, BackendState.STOPPING, stop_failure=Failure("backend_stop_failed", "stuck"))

    body = read(await Health(control).ready(request()))

    codes = [problem["code"] for problem in body["problems"]]
    assert codes == ["draining", "docker_unavailable", "backend_stop_failed"]


async def test_not_ready_before_everything_was_looked_at() -> None:
    control = FakeControl()
    control.put(CODER, known=False)

    answer = await Health(control).ready(request())

    assert answer.status == 503
    assert "coder" in read(answer)["error"]["message"]


async def test_a_backend_that_fails_to_start_is_its_own_trouble() -> None:
    control = FakeControl()
    failure = Failure("backend_start_failed", "exit code 1")
    control.put(CODER, BackendState.FAILED, failure=failure)

    assert (await Health(control).ready(request())).status == 200
