"""Answers as JSON, and the parts that several of them share: times, states, decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NotRequired, overload

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from launcher import printable
from launcher.api.shapes import shape
from launcher.core.effects import Action, Decided
from launcher.core.types import BackendSnapshot, BackendState, Failure, Forecast
from launcher.errors import LauncherError, error_body, retry_after
from launcher.telemetry.decisions import sentence


def json_answer(
    data: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return plain data as an answer. It is about this moment, so no cache may keep it."""
    return web.Response(
        body=orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE),
        status=status,
        headers={
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            **(headers or {}),
        },
    )


def error_answer(error: LauncherError, beside: Mapping[str, object]) -> web.Response:
    """Return an error in its envelope, for operators, with more beside it: what was asked for
    failed, and there is something to say about it all the same."""
    body = orjson.loads(error_body(error, show_detail=True))
    headers = {name.decode(): value.decode() for name, value in retry_after(error)}
    return json_answer(body | beside, error.status, headers)


@overload
def timestamp(at: float) -> str: ...
@overload
def timestamp(at: float | None) -> str | None: ...
def timestamp(at: float | None) -> str | None:
    """Return a wall-clock time (seconds since 1970) as RFC 3339 in UTC; None stays None."""
    return None if at is None else printable.timestamp(at)


@overload
def milliseconds(seconds: float) -> int: ...
@overload
def milliseconds(seconds: float | None) -> int | None: ...
def milliseconds(seconds: float | None) -> int | None:
    """Return seconds as whole milliseconds; None stays None."""
    return None if seconds is None else round(seconds * 1000)


@shape
class Predicted(TypedDict):
    """A predicted wait: two times out of three it ends within the spread."""

    place: int
    """In the queue, from 1."""
    wait_ms: int
    spread_ms: int


@shape
class Failed(TypedDict):
    """Why something failed."""

    code: str
    """A code of the reference's table of errors."""
    message: str
    detail: NotRequired[str | None]
    """Log lines, an exit code: for operators only."""


@shape
class Described(TypedDict):
    """A backend at one moment. Times are RFC 3339 in UTC."""

    state: BackendState
    since: str | None
    in_flight: int
    """Requests that it serves."""
    silent: int
    """Of these, tunnels that carry next to nothing and don't keep it."""
    queued: int
    oldest_wait_ms: int | None
    predicted_wait: Predicted | None
    """What one more request would wait; null: nothing, or nobody can tell."""
    busy: bool
    """It works on something that no request holds."""
    reachable: bool
    """Its engine answers."""
    needs: dict[str, int]
    last_used_at: str | None
    idle_stop_at: str | None
    """When it is stopped if nobody asks."""
    leased: bool
    leased_until: str | None
    """When the last of its leases ends; null: there is none, or one is a pin."""
    drained: bool
    """New requests are refused."""
    retry_at: str | None
    """Before then a failed start isn't repeated for a request."""
    failure: Failed | None
    stop_failure: Failed | None
    expected_start_ms: int | None
    expected_stop_ms: int | None
    expected_service_ms: int | None


@shape
class Decision(TypedDict):
    """A decision of the scheduler, with everything it knows, and as a sentence."""

    action: Action
    backend: str
    why: str
    wanted_by: str | None
    """The backend for whose sake it was done."""
    pays: list[str]
    """The backends that have to go for it."""
    cost_ms: int | None
    waiting: int
    """Requests that wait for it."""
    waited_ms: int | None
    text: str


def describe(one: BackendSnapshot, now: float, wall: float, forecast: Forecast | None) -> Described:
    """Return a backend at one moment, and what one more request for it would wait.

    `now` is the snapshot's time on the core's clock, `wall` the same moment in seconds since
    1970. Nothing in it is for operators only.
    """

    def at(moment: float | None) -> str | None:
        if moment is None or not math.isfinite(moment):
            return None
        return timestamp(wall + moment - now)

    return {
        "state": one.state,
        "since": at(one.since),
        "in_flight": one.in_flight,
        "silent": one.silent,
        "queued": one.queued,
        "oldest_wait_ms": milliseconds(one.oldest_wait),
        "predicted_wait": predicted(forecast),
        "busy": one.busy,
        "reachable": one.reachable,
        "needs": dict(one.needs),
        "last_used_at": at(one.last_used),
        "idle_stop_at": at(one.idle_stop_at),
        "leased": one.leased,
        "leased_until": at(one.leased_until),
        "drained": one.drained,
        "retry_at": at(one.retry_at),
        "failure": failure(one.failure),
        "stop_failure": failure(one.stop_failure),
        "expected_start_ms": milliseconds(one.estimates.start),
        "expected_stop_ms": milliseconds(one.estimates.stop),
        "expected_service_ms": milliseconds(one.estimates.service),
    }


def predicted(forecast: Forecast | None) -> Predicted | None:
    """Return a predicted wait; None where there is none, or nobody can tell how long."""
    if forecast is None:
        return None
    return {
        "place": forecast.place,
        "wait_ms": milliseconds(forecast.seconds),
        "spread_ms": milliseconds(forecast.spread),
    }


def decision(what: Decided) -> Decision:
    """Return a decision with everything it knows, and as a sentence."""
    return {
        "action": what.action,
        "backend": what.backend,
        "why": what.why,
        "wanted_by": what.wanted_by,
        "pays": list(what.pays),
        "cost_ms": milliseconds(what.cost),
        "waiting": what.waiting,
        "waited_ms": milliseconds(what.waited),
        "text": sentence(what),
    }


@overload
def failure(what: Failure, *, detail: bool = False) -> Failed: ...
@overload
def failure(what: Failure | None, *, detail: bool = False) -> Failed | None: ...
def failure(what: Failure | None, *, detail: bool = False) -> Failed | None:
    """Return why something failed; `detail` (log lines, exit codes) is for operators."""
    if what is None:
        return None
    told = Failed(code=what.code, message=what.message)
    if detail:
        told["detail"] = what.detail
    return told
