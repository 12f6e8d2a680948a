"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from launcher.core.types import BackendState, Failure
from tests.api.world import CHAT, CODER, Answer, FakeControl, a_context, asking


async def got(path: str, control: FakeControl) -> Answer:
    async with asking(a_context(control)) as here:
        return await here.get(path)


async def test_the_launcher_is_up_whatever_is_wrong() -> None:
    control = FakeControl()
    control.health["docker@local"] = "connection refused"

    answer = await got("/healthz", control)

    assert answer.status == 200
    assert answer.json == {"status": "ok"}


async def test_ready_when_nothing_is_wrong() -> None:
    answer = await got("/readyz", FakeControl())

    assert answer.status == 200
    assert answer.json == {"status": "ready", "problems": []}


async def test_a_driver_that_is_away_is_named_with_its_reason() -> None:
    control = FakeControl()
    control.health["docker@local"] = "The engine refused the connection."

    answer = await got("/readyz", control)

    assert answer.status == 503
    assert answer.headers["retry-after"] == "5"
    body = answer.json
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

    body = (await got("/readyz", control)).json

    assert [problem["backend"] for problem in body["problems"]] == ["coder"]
    assert "it ignores SIGKILL" in body["error"]["message"]


async def test_every_reason_is_told_at_once() -> None:
    control = FakeControl()
    control.closed = True
    control.health["docker@local"] = "timeout"
    control.put(CHAT, BackendState.STOPPING, stop_failure=Failure("backend_stop_failed", "stuck"))

    body = (await got("/readyz", control)).json

    codes = [problem["code"] for problem in body["problems"]]
    assert codes == ["draining", "docker_unavailable", "backend_stop_failed"]


async def test_not_ready_before_everything_was_looked_at() -> None:
    control = FakeControl()
    control.put(CODER, known=False)

    answer = await got("/readyz", control)

    assert answer.status == 503
    assert "coder" in answer.json["error"]["message"]


async def test_a_backend_that_fails_to_start_is_its_own_trouble() -> None:
    control = FakeControl()
    failure = Failure("backend_start_failed", "exit code 1")
    control.put(CODER, BackendState.FAILED, failure=failure)

    assert (await got("/readyz", control)).status == 200


async def test_metrics_are_prometheus_text() -> None:
    answer = await got("/metrics", FakeControl())

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(answer.body.decode())}
    assert "launcher_backend_state" in names
