"""`GET /api/timeline`: the last hour of every backend, for whoever draws it."""

from __future__ import annotations

import time
from collections.abc import Callable

from typing_extensions import TypedDict

from launcher.api.answers import json_answer, timestamp
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import shape
from launcher.core.effects import Decided
from launcher.core.types import BackendState
from launcher.telemetry.decisions import sentence
from launcher.telemetry.timeline import REACH, Lane, Mark, Timeline

_From = TypedDict("_From", {"from": str})


@shape
class StateSpan(_From):
    """For how long a backend was in a state: `from` and `to`."""

    state: BackendState
    to: str | None
    """null: it still is."""


@shape
class BackendLane(TypedDict):
    """A backend's last hour."""

    backend: str
    states: list[StateSpan]
    samples: list[tuple[int, int, int]]
    """Milliseconds since `since`, in flight, queued: it holds until the next."""


@shape
class TimelineMark(TypedDict):
    """What was decided, or failed, at a moment."""

    at: str
    kind: str
    """The deed of a decision (`start`, `stop`, `drain`, …), or `failed`."""
    backend: str
    why: str
    wanted_by: str | None
    """The backend for whose sake it was done."""
    pays: list[str]
    """The backends that have to go for it."""
    text: str


@shape
class TimelineAnswer(TypedDict):
    """The last hour."""

    server_time: str
    since: str
    """Where it begins."""
    backends: list[BackendLane]
    marks: list[TimelineMark]


class Timelines:
    """The endpoint."""

    def __init__(self, timeline: Timeline, wall: Callable[[], float] = time.time) -> None:
        self._timeline = timeline
        self._wall = wall

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /api/timeline"""
        return (
            Endpoint(
                method="GET", path="/api/timeline", need="observe", answer=self.show,
                tag="status", operation="get_timeline",
                summary="The last hour: how each backend stood, how many it served and kept "
                "waiting, and what was decided.",
                answers={200: TimelineAnswer},
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /api/timeline: spans of states (the last one has no `to`), samples of
        `[ms since "since", in flight, queued]` that hold until the next, and what was decided."""
        now = self._timeline.look()
        shift = self._wall() - now
        since = now - REACH
        return json_answer(
            TimelineAnswer(
                server_time=timestamp(now + shift),
                since=timestamp(since + shift),
                backends=[
                    BackendLane(
                        backend=backend,
                        states=_states(lane, since, shift),
                        samples=[
                            (round(max(0.0, one.at - since) * 1e3), one.in_flight, one.queued)
                            for one in lane.samples
                        ],
                    )
                    for backend, lane in self._timeline.lanes.items()
                ],
                marks=[
                    _told(mark, timestamp(mark.at + shift))
                    for mark in self._timeline.marks
                    if mark.at >= since
                ],
            )
        )


def _states(lane: Lane, since: float, shift: float) -> list[StateSpan]:
    ends = [turn.at for turn in lane.turns][1:]
    spans = zip(lane.turns, [*ends, None], strict=True)
    return [
        {
            "state": turn.state,
            "from": timestamp(max(turn.at, since) + shift),
            "to": None if end is None else timestamp(end + shift),
        }
        for turn, end in spans
        if end is None or end > since
    ]


def _told(mark: Mark, at: str) -> TimelineMark:
    """What it was, whom it is about, for whom it was done and at whose cost."""
    what = mark.what
    if isinstance(what, Decided):
        return {
            "at": at,
            "kind": what.action.value,
            "backend": what.backend,
            "why": what.why,
            "wanted_by": what.wanted_by,
            "pays": list(what.pays),
            "text": sentence(what),
        }
    return {
        "at": at,
        "kind": "failed",
        "backend": what.backend,
        "why": what.failure.code,
        "wanted_by": None,
        "pays": [],
        "text": f"{what.backend} didn't start: {what.failure.message}",
    }
