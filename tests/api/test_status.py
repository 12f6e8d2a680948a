"""`/routes`, `/stats`, `/api/status` and `/api/queue`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from launcher import __version__
from launcher.api.answers import timestamp
from launcher.api.endpoint import Context
from launcher.api.history import History
from launcher.api.status import mask
from launcher.config import AliasConfig
from launcher.core.types import BackendState, Failure, Forecast
from launcher.http.endpoint import Endpoint
from launcher.telemetry.facts import StartEnded, StopStuck
from tests.api.world import (
    CODER,
    CONFIG,
    TINY,
    WALL,
    FakeControl,
    a_context,
    asking,
    of_life,
    plane,
)
from tests.control.house import life, living
from tests.runtime.house import A, B
from tests.runtime.virtual_clock import virtual

FAILURE = Failure("backend_start_failed", "exit code 1", "CUDA out of memory")


async def got(path: str, context: Context) -> Any:
    async with asking(context) as here:
        return (await here.get(path)).json


class TestRoutes:
    async def test_the_table_as_configured(self) -> None:
        body = await got("/routes", a_context())

        coder, chat, tiny = body["routes"]
        assert coder == {
            "route": "coder",
            "container": "coder-fast",
            "port": 8000,
            "health": "/health",
            "auth": "inject",
            "models": ["coder-fast", "Qwen/Qwen2.5-Coder"],
            "prefixes": ["/coder"],
            "hosts": [],
            "priority": "normal",
            "wake": "always",
            "backends": ["coder"],
            "needs": {"gpu": 1},
            "max_in_flight": None,
            "idle_timeout_seconds": 1800.0,
            "public": False,
        }
        assert (chat["health"], chat["auth"]) == ("docker", "passthrough")
        assert tiny["needs"] == {}
        assert tiny["idle_timeout_seconds"] is None
        assert tiny["port"] is None
        assert tiny["public"] is True

    async def test_aliases_stand_beside_the_routes(self) -> None:
        config = replace(CONFIG, aliases=(AliasConfig("any", ("chat", "coder-fast")),))
        body = await got("/routes", a_context(config=config))

        assert body["aliases"] == [{"alias": "any", "models": ["chat", "coder-fast"]}]

    async def test_a_command_shows_no_secrets(self) -> None:
        context = a_context(redact=lambda text: text.replace("tiny.gguf", "***"))

        tiny = (await got("/routes", context))["routes"][2]
        assert tiny["command"] == ["llama-server", "--api-key", "***", "-m", "***"]
        assert tiny["container"] is None, "who reads the table finds the key in every row"

    def test_values_of_options_named_like_secrets_are_hidden(self) -> None:
        command = (
            "env",
            "HF_TOKEN=hf_1",
            "vllm",
            "--api-key=sk",
            "--password",
            "pw",
            "--port",
            "1",
        )

        assert mask(command) == [
            *("env", "HF_TOKEN=***", "vllm", "--api-key=***", "--password", "***", "--port", "1")
        ]
        assert mask(("tool", "--token", "--keys", "x")) == ["tool", "--token", "***", "x"]
        assert mask(("monkey", "turkey")) == ["monkey", "turkey"]


class TestStats:
    async def test_the_numbers_for_dashboards(self) -> None:
        control = FakeControl()
        history = History(CONFIG, last_hits=lambda: {"coder": WALL}, wall=lambda: WALL)
        control.put(CODER, BackendState.READY, in_flight=2, idle_stop_at=130.0)
        control.put(TINY, BackendState.STARTING)
        for seconds in (10.0, 30.0):
            history.fact(StartEnded(CODER, 1, False, False, "ready", seconds, None))
        control.predicted[TINY] = Forecast(3, 40.26, 12.0)

        body = await got("/stats", a_context(control, history=history))

        assert body["server_time"] == "2027-01-15T08:00:00.000Z"
        assert body["running_containers"] == ["coder-fast", "tiny"]
        assert body["last_hits"] == {
            "coder": "2027-01-15T08:00:00.000Z",
            "chat": None,
            "tiny": None,
        }
        assert body["start_metrics"]["coder"] == {
            "average_duration_ms": 20_000,
            "last_duration_ms": 30_000,
            "last_started_at": "2027-01-15T08:00:00.000Z",
            "start_count": 2,
        }
        assert body["start_metrics"]["chat"]["start_count"] == 0
        assert body["capacity"] == {"gpu": 1}
        assert body["backends"]["coder"]["in_flight"] == 2
        assert body["backends"]["coder"]["predicted_wait"] is None
        assert body["backends"]["tiny"]["predicted_wait"] == {
            "place": 3,
            "wait_ms": 40_260,
            "spread_ms": 12_000,
        }
        assert body["backends"]["coder"]["idle_stop_at"] == "2027-01-15T08:00:30.000Z"
        assert control.admissions == []


class TestStatus:
    async def test_everything_at_a_glance(self) -> None:
        control = FakeControl()
        control.put(CODER, BackendState.READY)
        control.endpoints[CODER] = Endpoint("172.18.0.2", 8000)

        body = await got("/api/status", a_context(control))

        assert body["version"] == __version__
        assert body["ready"] is True
        assert body["drivers"] == {"docker@local": None}
        assert [one["backend"] for one in body["backends"]] == ["coder", "chat", "tiny"]
        coder = body["backends"][0]
        assert coder["container"] == "coder-fast"
        assert coder["routes"] == ["coder"]
        assert coder["state"] == "ready"
        assert coder["endpoint"] == "http://172.18.0.2:8000"
        assert coder["start_metrics"]["start_count"] == 0
        assert body["backends"][1]["endpoint"] is None
        assert body["routes"][1] == {
            "route": "chat",
            "backends": ["chat"],
            "models": ["chat"],
            "last_hit_at": None,
        }
        assert control.admissions == []

    async def test_problems_are_those_of_readyz(self) -> None:
        control = FakeControl()
        control.health["docker@local"] = "gone"

        body = await got("/api/status", a_context(control))

        assert body["ready"] is False
        assert [problem["code"] for problem in body["problems"]] == ["docker_unavailable"]

    async def test_details_are_for_everybody_where_no_keys_are_set(self) -> None:
        control = FakeControl()
        control.put(CODER, BackendState.FAILED, failure=FAILURE)

        body = await got("/api/status", a_context(control))

        assert body["backends"][0]["failure"]["detail"] == "CUDA out of memory"

    async def test_a_backend_on_its_way_out_of_the_configuration_is_no_error(self) -> None:
        control = FakeControl()
        del control.backends[CODER]

        body = await got("/api/status", a_context(control))

        assert [one["backend"] for one in body["backends"]] == ["chat", "tiny"]

    async def test_what_operators_hold_and_what_failed_last(self) -> None:
        control, history = FakeControl(), History(CONFIG, wall=lambda: WALL)
        held = plane(control)
        held.drains.drain("chat")
        lease = held.leases.take(routes=("coder",), ttl=60.0, note="render")
        switch = held.switches.begin("chat")
        history.fact(StopStuck(CODER, FAILURE))
        body = await got("/api/status", a_context(control, plane=held, history=history))

        assert [(one["id"], one["state"]) for one in body["leases"]] == [(lease.id, "pending")]
        assert [one["switch_id"] for one in body["switches"]] == [switch.id]
        assert (body["drained"], body["mode"], body["home"]) == (["chat"], None, None)
        assert body["state_kept"] is False
        coder, chat, _ = body["backends"]
        assert coder["last_error"]["code"] == "backend_start_failed"
        assert coder["last_error"]["at"] == "2027-01-15T08:00:00.000Z"
        assert (chat["drained"], chat["last_error"], chat["leased"]) == (True, None, False)
        await held.close()

    async def test_a_reload_is_no_start(self) -> None:
        control = FakeControl()
        history = History(CONFIG, wall=lambda: WALL - 60.0)

        body = await got("/api/status", a_context(control, history=history))

        assert (body["started_at"], body["server_time"]) == (
            timestamp(WALL - 60.0),
            timestamp(WALL),
        )


@virtual
async def test_who_waits_and_for_how_long_yet() -> None:
    async with living(life()) as run, asking(of_life(run)) as here:
        assert (await here.get("/api/queue")).json["waiting"] == []
        run.driver.script(B).ready_after = 50.0
        with run.house.asking(B) as first:
            await asyncio.sleep(10)
            run.leases.take(routes=(B,), ttl=60.0)
            with run.house.asking(A):
                await asyncio.sleep(1)
                told = (await here.get("/api/queue")).json
                assert told["queued"] == 3
                assert [(one["backend"], one["queued"]) for one in told["backends"]] == [
                    ("a", 1),
                    ("b", 2),
                ]
                waiting = told["waiting"]
                assert [one["kind"] for one in waiting] == ["request", "lease", "request"]
                assert (waiting[0]["backends"], waiting[0]["phase"]) == (["b"], "starting")
                assert waiting[0]["waited_ms"] == pytest.approx(11_000, abs=50)
                assert waiting[0]["predicted"]["wait_ms"] > 0
                assert waiting[0]["priority"] == "normal"
                few = (await here.get("/api/queue?limit=1")).json
                assert (await here.get(f"/api/queue?limit={10**30}")).json["waiting"]
                assert [one["ticket"] for one in few["waiting"]] == [first.ticket.id]
