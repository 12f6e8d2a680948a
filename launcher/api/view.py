"""States and decisions as plain data, the same for every endpoint that shows them."""

from __future__ import annotations

import math

from launcher.api.answers import milliseconds, timestamp
from launcher.core.effects import Decided
from launcher.core.types import BackendSnapshot, Failure, Forecast
from launcher.decisions import sentence


def describe(
    one: BackendSnapshot, now: float, wall: float, forecast: Forecast | None
) -> dict[str, object]:
    """A backend at one moment, and what one more request for it would wait.

    `now` is the snapshot's time on the core's clock, `wall` the same moment in seconds since
    1970. Nothing in it is for operators only.
    """

    def at(moment: float | None) -> str | None:
        if moment is None or not math.isfinite(moment):
            return None
        return timestamp(wall + moment - now)

    return {
        "state": one.state.value,
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
        "retryAt": at(one.retry_at),
        "failure": failure(one.failure),
        "stopFailure": failure(one.stop_failure),
        "expectedStartMs": milliseconds(one.estimates.start),
        "expectedStopMs": milliseconds(one.estimates.stop),
        "expectedServiceMs": milliseconds(one.estimates.service),
    }


def predicted(forecast: Forecast | None) -> dict[str, int | None] | None:
    """A predicted wait: two times out of three it ends within the spread. None: there is none,
    or nobody can tell."""
    if forecast is None:
        return None
    return {
        "place": forecast.place,
        "waitMs": milliseconds(forecast.seconds),
        "spreadMs": milliseconds(forecast.spread),
    }


def decision(what: Decided) -> dict[str, object]:
    """A decision, with everything it knows, and as a sentence."""
    return {
        "deed": what.deed.value,
        "backend": what.backend,
        "why": what.why,
        "wantedBy": what.wanted_by,
        "pays": list(what.pays),
        "costMs": milliseconds(what.cost),
        "waiting": what.waiting,
        "waitedMs": milliseconds(what.waited),
        "text": sentence(what),
    }


def failure(what: Failure | None, *, detail: bool = False) -> dict[str, str | None] | None:
    """Why something failed; `detail` (log lines, exit codes) is for operators."""
    if what is None:
        return None
    told: dict[str, str | None] = {"code": what.code, "message": what.message}
    if detail:
        told["detail"] = what.detail
    return told
