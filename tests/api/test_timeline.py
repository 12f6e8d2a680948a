"""GET /api/timeline: the hour as data."""

from __future__ import annotations

from launcher.api.timeline import Timelines
from launcher.core.effects import Action, Decided
from launcher.core.events import StartFailed, Tick
from launcher.core.types import BackendState, Failure
from launcher.telemetry.timeline import REACH, Timeline
from tests.api.world import CHAT, CODER, FakeControl, read, request

WALL = 1_000_000_000.0


async def test_spans_samples_and_marks() -> None:
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

    answer = await Timelines(timeline, lambda: WALL).show(request())

    told = read(answer)
    assert told["server_time"] == "2001-09-09T01:46:40.000Z"
    assert told["since"] == "2001-09-09T00:46:40.000Z"
    chat = next(one for one in told["backends"] if one["backend"] == "chat")
    assert chat["states"] == [
        {"state": "stopped", "from": "2001-09-09T01:46:10.000Z", "to": "2001-09-09T01:46:19.500Z"},
        {"state": "starting", "from": "2001-09-09T01:46:19.500Z", "to": "2001-09-09T01:46:30.000Z"},
        {"state": "failed", "from": "2001-09-09T01:46:30.000Z", "to": None},
    ]
    assert chat["samples"] == []
    assert [(one["kind"], one["backend"], one["wanted_by"]) for one in told["marks"]] == [
        ("stop", "coder", "chat"),
        ("failed", "chat", None),
    ]
    assert told["marks"][1]["text"] == "chat didn't start: It exited."
    assert b"sk-secret" not in answer.body


async def test_what_began_before_the_hour_is_cut_at_its_beginning() -> None:
    control = FakeControl()
    timeline = Timeline(control.snapshot, lambda delay, do: None)
    timeline.observe(Tick(), [], control.now)
    control.now = 102.0
    control.put(CHAT, queued=3)
    timeline.look()
    control.now = 200.0 + REACH

    told = read(await Timelines(timeline, lambda: WALL).show(request()))

    chat = next(one for one in told["backends"] if one["backend"] == "chat")
    assert chat["states"] == [{"state": "stopped", "from": told["since"], "to": None}]
    assert chat["samples"] == [[0, 0, 3]]
