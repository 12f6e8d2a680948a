"""States and decisions as plain data, the same for every endpoint that shows them."""

from __future__ import annotations

import math
from typing import NotRequired

from typing_extensions import TypedDict

from launcher.api.answers import milliseconds, timestamp
from launcher.api.shapes import shape
from launcher.core.effects import Action, Decided
from launcher.core.types import BackendSnapshot, BackendState, Failure, Forecast
from launcher.telemetry.decisions import sentence


@shape
class Predicted(TypedDict):
    """A predicted wait: two times out of three it ends within the spread."""

    place: int
    """In the queue, from 1."""
    waitMs: int
    spreadMs: int


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
    inFlight: int
    """Requests that it serves."""
    silent: int
    """Of these, tunnels that carry next to nothing and don't keep it."""
    queued: int
    oldestWaitMs: int | None
    predictedWait: Predicted | None
    """What one more request would wait; null: nothing, or nobody can tell."""
    busy: bool
    """It works on something that no request holds."""
    reachable: bool
    """Its engine answers."""
    needs: dict[str, int]
    lastUsedAt: str | None
    idleStopAt: str | None
    """When it is stopped if nobody asks."""
    leased: bool
    leasedUntil: str | None
    """When the last of its leases ends; null: there is none, or one is a pin."""
    drained: bool
    """New requests are refused."""
    retryAt: str | None
    """Before then a failed start isn't repeated for a request."""
    failure: Failed | None
    stopFailure: Failed | None
    expectedStartMs: int | None
    expectedStopMs: int | None
    expectedServiceMs: int | None


@shape
class Decision(TypedDict):
    """A decision of the scheduler, with everything it knows, and as a sentence."""

    deed: Action
    backend: str
    why: str
    wantedBy: str | None
    """The backend for whose sake it was done."""
    pays: list[str]
    """The backends that have to go for it."""
    costMs: int | None
    waiting: int
    """Requests that wait for it."""
    waitedMs: int | None
    text: str


def describe(one: BackendSnapshot, now: float, wall: float, forecast: Forecast | None) -> Described:
    """A backend at one moment, and what one more request for it would wait.

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
        "inFlight": one.in_flight,
        "silent": one.silent,
        "queued": one.queued,
        "oldestWaitMs": milliseconds(one.oldest_wait),
        "predictedWait": predicted(forecast),
        "busy": one.busy,
        "reachable": one.reachable,
        "needs": dict(one.needs),
        "lastUsedAt": at(one.last_used),
        "idleStopAt": at(one.idle_stop_at),
        "leased": one.leased,
        "leasedUntil": at(one.leased_until),
        "drained": one.drained,
        "retryAt": at(one.retry_at),
        "failure": failure(one.failure),
        "stopFailure": failure(one.stop_failure),
        "expectedStartMs": milliseconds(one.estimates.start),
        "expectedStopMs": milliseconds(one.estimates.stop),
        "expectedServiceMs": milliseconds(one.estimates.service),
    }


def predicted(forecast: Forecast | None) -> Predicted | None:
    """A predicted wait: two times out of three it ends within the spread. None: there is none,
    or nobody can tell."""
    if forecast is None:
        return None
    return {
        "place": forecast.place,
        "waitMs": milliseconds(forecast.seconds),
        "spreadMs": milliseconds(forecast.spread),
    }


def decision(what: Decided) -> Decision:
    """A decision, with everything it knows, and as a sentence."""
    return {
        "deed": what.action,
        "backend": what.backend,
        "why": what.why,
        "wantedBy": what.wanted_by,
        "pays": list(what.pays),
        "costMs": milliseconds(what.cost),
        "waiting": what.waiting,
        "waitedMs": milliseconds(what.waited),
        "text": sentence(what),
    }


def failure(what: Failure | None, *, detail: bool = False) -> Failed | None:
    """Why something failed; `detail` (log lines, exit codes) is for operators."""
    if what is None:
        return None
    told = Failed(code=what.code, message=what.message)
    if detail:
        told["detail"] = what.detail
    return told
