"""`GET /api/timeline`: the last hour of every backend, for whoever draws it."""

from __future__ import annotations

import time
from collections.abc import Callable

from launcher.api.answers import json_answer, timestamp
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.core.effects import Decided
from launcher.decisions import sentence
from launcher.timeline import REACH, Lane, Mark, Timeline


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
                tag="page", operation="get_timeline",
                summary="The last hour: how each backend stood, how many it served and kept "
                "waiting, and what was decided.",
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /api/timeline: spans of states (the last one has no `to`), samples of
        `[ms since "since", in flight, queued]` that hold until the next, and what was decided."""
        now = self._timeline.look()
        shift = self._wall() - now
        since = now - REACH
        return json_answer(
            {
                "server_time": timestamp(now + shift),
                "since": timestamp(since + shift),
                "backends": [
                    {
                        "backend": backend,
                        "states": _states(lane, since, shift),
                        "samples": [
                            [round(max(0.0, one.at - since) * 1e3), one.in_flight, one.queued]
                            for one in lane.samples
                        ],
                    }
                    for backend, lane in self._timeline.lanes.items()
                ],
                "marks": [
                    {"at": timestamp(mark.at + shift), **_told(mark)}
                    for mark in self._timeline.marks
                    if mark.at >= since
                ],
            }
        )


def _states(lane: Lane, since: float, shift: float) -> list[dict[str, str | None]]:
    ends = [turn.at for turn in lane.turns][1:]
    spans = zip(lane.turns, [*ends, None], strict=True)
    return [
        {
            "state": turn.state.value,
            "from": timestamp(max(turn.at, since) + shift),
            "to": None if end is None else timestamp(end + shift),
        }
        for turn, end in spans
        if end is None or end > since
    ]


def _told(mark: Mark) -> dict[str, object]:
    """What it was, whom it is about, for whom it was done and at whose cost."""
    what = mark.what
    if isinstance(what, Decided):
        return {
            "kind": what.deed.value,
            "backend": what.backend,
            "why": what.why,
            "wanted_by": what.wanted_by,
            "pays": list(what.pays),
            "text": sentence(what),
        }
    return {
        "kind": "failed",
        "backend": what.backend,
        "why": what.failure.code,
        "wanted_by": None,
        "pays": [],
        "text": f"{what.backend} didn't start: {what.failure.message}",
    }
