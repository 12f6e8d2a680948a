"""`/api/decisions`, `/api/routes/{name}/plan` and `/api/timeline`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.core.dry_run import Step
from launcher.core.effects import Action, Admit, Decided, Reject
from launcher.core.events import StartFailed, Tick
from launcher.core.types import BackendState, Failure, Forecast, Priority, Wake
from launcher.runtime.admission import PLANNED
from launcher.telemetry.decisions import DecisionLog
from launcher.telemetry.timeline import RETENTION, Timeline
from tests.api.world import (
    CHAT,
    CODER,
    CONFIG,
    TINY,
    WALL,
    Answer,
    FakeControl,
    a_context,
    asking,
)


class TestDecisions:
    @pytest.fixture
    def decisions(self) -> DecisionLog:
        log = DecisionLog(wall=lambda: WALL)
        log.fact(Decided(Action.STOP, CHAT, "evicted", CODER, cost=41.0, waiting=3, waited=61.0))
        log.fact(Decided(Action.START, TINY, "prewarm"))
        return log

    async def got(self, decisions: DecisionLog, query: str = "") -> Answer:
        async with asking(a_context(decisions=decisions)) as here:
            return await here.get(f"/api/decisions{query}")

    async def test_everything_that_is_known(self, decisions: DecisionLog) -> None:
        body = (await self.got(decisions, "")).json

        assert body["server_time"] == "2027-01-15T08:00:00.000Z"
        assert [one["number"] for one in body["decisions"]] == [2, 1]
        assert body["decisions"][1] == {
            "number": 1,
            "times": 1,
            "at": "2027-01-15T08:00:00.000Z",
            "action": "stop",
            "backend": "chat",
            "why": "evicted",
            "wanted_by": "coder",
            "pays": [],
            "cost_ms": 41_000,
            "waiting": 3,
            "waited_ms": 61_000,
            "text": "stops chat: coder waits for its place (3 requests, the oldest for 61 s); "
            "expected to cost 41 s",
        }

    async def test_fewer_of_them(self, decisions: DecisionLog) -> None:
        newest = (await self.got(decisions, "?limit=1")).json["decisions"]
        of_coder = (await self.got(decisions, "?backend=coder&limit=9999")).json["decisions"]

        assert [one["number"] for one in newest] == [2]
        assert [one["number"] for one in of_coder] == [1]

    async def test_a_backend_that_is_not_there(self, decisions: DecisionLog) -> None:
        answer = await self.got(decisions, "?backend=codr")

        assert (answer.status, answer.code) == (404, "unknown_backend")
        assert "Known: coder, chat, tiny" in answer.json["error"]["message"]


class TestPlan:
    async def got(self, control: FakeControl, route: str = "coder") -> Any:
        first, *others = CONFIG.routes
        coder = replace(first, backends=(CODER, TINY), priority=Priority.BATCH, wake=Wake.IF_IDLE)
        config = replace(CONFIG, routes=(coder, *others), batch_max_wait=900.0)
        async with asking(a_context(control, config)) as here:
            return (await here.get(f"/api/routes/{route}/plan")).json

    async def test_who_is_served_at_once(self) -> None:
        control = FakeControl()
        control.steps = [Step(0.0, Admit(PLANNED, TINY, False))]

        assert await self.got(control) == {
            "route": "coder",
            "outcome": "served",
            "backend": "tiny",
            "predicted_wait": None,
            "rejection": None,
            "decisions": [],
        }
        (ask,) = control.planned
        assert (ask.backends, ask.priority, ask.wake) == (
            (CODER, TINY),
            Priority.BATCH,
            Wake.IF_IDLE,
        )
        assert (ask.max_wait, ask.operator) == (900.0, False)
        assert control.admissions == []

    async def test_who_waits_is_told_what_for_and_how_long(self) -> None:
        control = FakeControl()
        control.predicted = {CODER: Forecast(1, 9.0, 1.0), TINY: Forecast(3, 40.0, 12.0)}
        control.steps = [
            Step(0.0, Decided(Action.STOP, CHAT, "evicted", TINY, cost=41.0, waiting=1)),
            Step(4.0, Decided(Action.START, TINY, "wanted", pays=(CHAT,), waiting=1)),
            Step(34.0, Admit(PLANNED, TINY, True)),
        ]

        body = await self.got(control)

        assert (body["outcome"], body["backend"]) == ("waits", "tiny")
        assert body["predicted_wait"] == {"place": 3, "wait_ms": 40_000, "spread_ms": 12_000}
        assert [(one["after_ms"], one["cost_ms"]) for one in body["decisions"]] == [
            (0, 41_000),
            (4000, None),
        ]
        assert body["decisions"][0]["text"].startswith("stops chat: tiny waits for its place")

    async def test_without_a_forecast_the_steps_tell_how_long(self) -> None:
        control = FakeControl()
        control.steps = [Step(34.0, Admit(PLANNED, CODER, True))]

        body = await self.got(control)

        assert (body["outcome"], body["backend"]) == ("waits", "coder")
        assert body["predicted_wait"] == {"place": 1, "wait_ms": 34_000, "spread_ms": 0}

    async def test_nobody_can_tell_what_comes_of_it(self) -> None:
        control = FakeControl()

        body = await self.got(control)

        assert (body["outcome"], body["backend"]) == ("waits", "coder")
        assert (body["predicted_wait"], body["decisions"]) == (None, [])

    async def test_who_would_be_rejected(self) -> None:
        control = FakeControl()
        control.steps = [
            Step(0.0, Decided(Action.REJECT, CHAT, "not_resident")),
            Step(0.0, Reject(PLANNED, CHAT, "not_resident", "chat is stopped.", retry_after=7.0)),
        ]

        body = await self.got(control, "chat")

        assert (body["outcome"], body["backend"], body["predicted_wait"]) == (
            "rejected",
            "chat",
            None,
        )
        assert body["rejection"] == {
            "code": "not_resident",
            "message": "chat is stopped.",
            "retry_after_ms": 7000,
        }

    async def test_an_unknown_route_names_those_known(self) -> None:
        error = (await self.got(FakeControl(), "codr"))["error"]
        assert error["code"] == "unknown_route"
        assert "coder, chat, tiny" in error["message"]


class TestTimeline:
    async def got(self, control: FakeControl, timeline: Timeline) -> Answer:
        context = a_context(control, timeline=timeline, wall=lambda: 1_000_000_000.0)
        async with asking(context) as here:
            return await here.get("/api/timeline")

    async def test_spans_samples_and_marks(self) -> None:
        control = FakeControl()
        timeline = Timeline(control.snapshot, lambda delay, do: None)
        timeline.observe(Tick(), [], control.now)
        control.now = 110.0
        control.put(CHAT, BackendState.STARTING, since=109.5, queued=2)
        for_it = Decided(Action.STOP, CODER, "evicted", wanted_by=CHAT, waiting=2)
        timeline.observe(Tick(), [for_it], 109.5)
        control.now = 120.0
        control.put(CHAT, BackendState.FAILED, since=120.0, queued=0)
        died = Failure("backend_start_failed", "It exited.", detail="sk-secret in its log")
        timeline.observe(StartFailed(CHAT, 1, died), [], 120.0)
        control.now = 130.0

        answer = await self.got(control, timeline)

        told = answer.json
        assert told["server_time"] == "2001-09-09T01:46:40.000Z"
        assert told["since"] == "2001-09-09T00:46:40.000Z"
        chat = next(one for one in told["backends"] if one["backend"] == "chat")
        assert chat["states"] == [
            {
                "state": "stopped",
                "from": "2001-09-09T01:46:10.000Z",
                "to": "2001-09-09T01:46:19.500Z",
            },
            {
                "state": "starting",
                "from": "2001-09-09T01:46:19.500Z",
                "to": "2001-09-09T01:46:30.000Z",
            },
            {"state": "failed", "from": "2001-09-09T01:46:30.000Z", "to": None},
        ]
        assert chat["samples"] == []
        assert [(one["kind"], one["backend"], one["wanted_by"]) for one in told["marks"]] == [
            ("stop", "coder", "chat"),
            ("failed", "chat", None),
        ]
        assert told["marks"][1]["text"] == "chat didn't start: It exited."
        assert b"sk-secret" not in answer.body

    async def test_what_began_before_the_hour_is_cut_at_its_beginning(self) -> None:
        control = FakeControl()
        timeline = Timeline(control.snapshot, lambda delay, do: None)
        timeline.observe(Tick(), [], control.now)
        control.now = 102.0
        control.put(CHAT, queued=3)
        timeline.sample()
        control.now = 200.0 + RETENTION

        told = (await self.got(control, timeline)).json

        chat = next(one for one in told["backends"] if one["backend"] == "chat")
        assert chat["states"] == [{"state": "stopped", "from": told["since"], "to": None}]
        assert chat["samples"] == [[0, 0, 3]]
