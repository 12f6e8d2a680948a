"""`GET /api/routes/{name}/plan`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.api.plan import Plans
from launcher.core.dry_run import Step
from launcher.core.effects import Action, Admit, Decided, Reject
from launcher.core.types import Forecast, Priority, Wake
from launcher.errors import LauncherError
from launcher.runtime.admission import PLANNED
from tests.api.world import CHAT, CODER, CONFIG, TINY, FakeControl, read, request


async def shown(control: FakeControl, route: str = "coder") -> Any:
    first, *others = CONFIG.routes
    coder = replace(first, backends=(CODER, TINY), priority=Priority.BATCH, wake=Wake.IF_IDLE)
    config = replace(CONFIG, routes=(coder, *others), batch_max_wait=900.0)
    return read(await Plans(config, control).show(request(name=route)))


async def test_who_is_served_at_once() -> None:
    control = FakeControl()
    control.steps = [Step(0.0, Admit(PLANNED, TINY, False))]

    assert await shown(control) == {
        "route": "coder",
        "outcome": "served",
        "backend": "tiny",
        "predictedWait": None,
        "rejection": None,
        "decisions": [],
    }
    (ask,) = control.planned
    assert (ask.backends, ask.priority, ask.wake) == ((CODER, TINY), Priority.BATCH, Wake.IF_IDLE)
    assert (ask.max_wait, ask.operator) == (900.0, False)
    assert control.admissions == []


async def test_who_waits_is_told_what_for_and_how_long() -> None:
    control = FakeControl()
    control.predicted = {CODER: Forecast(1, 9.0, 1.0), TINY: Forecast(3, 40.0, 12.0)}
    control.steps = [
        Step(0.0, Decided(Action.STOP, CHAT, "evicted", TINY, cost=41.0, waiting=1)),
        Step(4.0, Decided(Action.START, TINY, "wanted", pays=(CHAT,), waiting=1)),
        Step(34.0, Admit(PLANNED, TINY, True)),
    ]

    body = await shown(control)

    assert (body["outcome"], body["backend"]) == ("waits", "tiny")
    assert body["predictedWait"] == {"place": 3, "waitMs": 40_000, "spreadMs": 12_000}
    assert [(one["afterMs"], one["costMs"]) for one in body["decisions"]] == [
        (0, 41_000),
        (4000, None),
    ]
    assert body["decisions"][0]["text"].startswith("stops chat: tiny waits for its place")


async def test_without_a_forecast_the_steps_tell_how_long() -> None:
    control = FakeControl()
    control.steps = [Step(34.0, Admit(PLANNED, CODER, True))]

    body = await shown(control)

    assert (body["outcome"], body["backend"]) == ("waits", "coder")
    assert body["predictedWait"] == {"place": 1, "waitMs": 34_000, "spreadMs": 0}


async def test_nobody_can_tell_what_comes_of_it() -> None:
    control = FakeControl()

    body = await shown(control)

    assert (body["outcome"], body["backend"]) == ("waits", "coder")
    assert (body["predictedWait"], body["decisions"]) == (None, [])


async def test_who_would_be_rejected() -> None:
    control = FakeControl()
    control.steps = [
        Step(0.0, Decided(Action.REJECT, CHAT, "not_resident")),
        Step(0.0, Reject(PLANNED, CHAT, "not_resident", "chat is stopped.", retry_after=7.0)),
    ]

    body = await shown(control, "chat")

    assert (body["outcome"], body["backend"], body["predictedWait"]) == ("rejected", "chat", None)
    assert body["rejection"] == {
        "code": "not_resident",
        "message": "chat is stopped.",
        "retryAfterMs": 7000,
    }


async def test_an_unknown_route_names_those_known() -> None:
    with pytest.raises(LauncherError, match="coder, chat, tiny") as caught:
        await shown(FakeControl(), "codr")
    assert caught.value.code == "unknown_route"
