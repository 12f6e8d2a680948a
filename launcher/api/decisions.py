"""What was decided, and what would be: `/api/decisions`, `/api/routes/{name}/plan`,
`/api/timeline`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal

from aiohttp import web
from typing_extensions import TypedDict

from launcher.api.answers import (
    Decision,
    Predicted,
    decision,
    json_answer,
    milliseconds,
    predicted,
    timestamp,
)
from launcher.api.endpoint import Context, EndpointTable, Request
from launcher.api.shapes import Limits, shape
from launcher.config import LauncherConfig
from launcher.control.base import find_route
from launcher.core.effects import Admit, Decided, Reject
from launcher.core.types import BackendId, BackendState, Forecast
from launcher.errors import LauncherError
from launcher.runtime.admission import ask_for
from launcher.telemetry.decisions import MAX_DECISIONS, sentence
from launcher.telemetry.timeline import RETENTION, BackendTimeline, Mark

ENDPOINTS = EndpointTable()

# -- the log of decisions


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionsQuery:
    """Which decisions are wanted."""

    limit: Annotated[int, Limits(ge=1)] = 100
    """At most so many."""
    backend: str | None = None
    """Only those that name this backend."""


@shape
class Kept(Decision):
    """A decision of the log."""

    number: int
    """They are counted up, over restarts as well."""
    at: str
    times: int
    """How often it was taken in a row."""


@shape
class DecisionList(TypedDict):
    """The newest decisions first."""

    server_time: str
    decisions: list[Kept]


@ENDPOINTS.add(
    "GET", "/api/decisions", need="observe", tag="status", query=DecisionsQuery,
    answers={200: DecisionList},
)  # fmt: skip
async def list_decisions(context: Context, request: Request) -> web.Response:
    """Every start, stop, drain and rejection with its reason and its cost, the newest first.

    1,000 are kept. `?limit=` (100), `?backend=` those that name it.
    """
    query = request.query_as(DecisionsQuery)
    newest = context.decisions.newest(_configured(context.config, query.backend))
    return json_answer(
        DecisionList(
            server_time=timestamp(context.wall()),
            decisions=[
                {
                    "number": one.number,
                    "at": timestamp(one.at),
                    "times": one.times,
                    **decision(one.what),
                }
                for one in islice(newest, min(query.limit, MAX_DECISIONS))
            ],
        )
    )


def _configured(config: LauncherConfig, backend: str | None) -> BackendId | None:
    """Rechange the backend of that name. Raise `unknown_backend`."""
    names = [one.id for one in config.backends]
    if backend is None or backend in names:
        return None if backend is None else BackendId(backend)
    known = ", ".join(names) or "none"
    raise LauncherError(
        "unknown_backend", f"No backend of that name. Known: {known}.", param="backend"
    )


# -- what a request would bring about


@shape
class Rejection(TypedDict):
    """With which error the request would end."""

    code: str
    message: str
    retry_after_ms: int | None


@shape
class PlannedDecision(Decision):
    """What would be decided, and when."""

    after_ms: int


@shape
class Plan(TypedDict):
    """What a request for the route would bring about."""

    route: str
    outcome: Literal["served", "waits", "rejected"]
    backend: str
    predicted_wait: Predicted | None
    """Null: it wouldn't wait, or nobody can tell how long."""
    rejection: Rejection | None
    decisions: list[PlannedDecision]


@ENDPOINTS.add("GET", "/api/routes/{name}/plan", need="observe", tag="status", answers={200: Plan})
async def plan_route(context: Context, request: Request) -> web.Response:
    """What would happen if a request for the route came now: decisions and the predicted wait.
    Does nothing."""
    route = find_route(context.config, request.args["name"])
    steps = context.control.plan(ask_for(context.config, route))
    last = steps[-1] if steps else None
    answer: Plan = {
        "route": route.name,
        "outcome": "waits",
        "backend": route.backends[0],
        "predicted_wait": None,
        "rejection": None,
        "decisions": [
            {"after_ms": milliseconds(step.after), **decision(step.effect)}
            for step in steps
            if isinstance(step.effect, Decided)
        ],
    }
    match last.effect if last is not None else None:
        case Reject(backend=backend, code=code, message=message, retry_after=after):
            answer["outcome"], answer["backend"] = "rejected", backend
            answer["rejection"] = Rejection(
                code=code, message=message, retry_after_ms=milliseconds(after)
            )
        case Admit(backend=backend) if last is not None and last.after > 0:
            expected = context.control.forecasts().get(backend) or Forecast(1, last.after, 0.0)
            answer["backend"], answer["predicted_wait"] = backend, predicted(expected)
        case Admit(backend=backend):
            answer["outcome"], answer["backend"] = "served", backend
        case _:
            pass
    return json_answer(answer)


# -- the last hour


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
    """The action of a decision (`start`, `stop`, `drain`, …), or `failed`."""
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


@ENDPOINTS.add("GET", "/api/timeline", need="observe", tag="status", answers={200: TimelineAnswer})
async def get_timeline(context: Context, request: Request) -> web.Response:
    """The last hour: how each backend stood, how many it served and kept waiting, and what was
    decided."""
    now = context.timeline.sample()
    shift = context.wall() - now
    since = now - RETENTION
    return json_answer(
        TimelineAnswer(
            server_time=timestamp(now + shift),
            since=timestamp(since + shift),
            backends=[
                BackendLane(
                    backend=backend,
                    states=_states(kept, since, shift),
                    samples=[
                        (round(max(0.0, one.at - since) * 1e3), one.in_flight, one.queued)
                        for one in kept.samples
                    ],
                )
                for backend, kept in context.timeline.backends.items()
            ],
            marks=[
                _told(mark, timestamp(mark.at + shift))
                for mark in context.timeline.marks
                if mark.at >= since
            ],
        )
    )


def _states(kept: BackendTimeline, since: float, shift: float) -> list[StateSpan]:
    ends = [change.at for change in kept.changes][1:]
    spans = zip(kept.changes, [*ends, None], strict=True)
    return [
        {
            "state": change.state,
            "from": timestamp(max(change.at, since) + shift),
            "to": None if end is None else timestamp(end + shift),
        }
        for change, end in spans
        if end is None or end > since
    ]


def _told(mark: Mark, at: str) -> TimelineMark:
    """Return a mark as plain data: what was decided, or which start failed."""
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
