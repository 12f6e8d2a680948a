"""The parts that answers share."""

from __future__ import annotations

from dataclasses import replace

from launcher.api.answers import describe, failure, json_answer, milliseconds, timestamp
from launcher.core.types import BackendState, Estimates, Failure
from tests.api.world import CODER, backend


def test_an_answer_is_json_that_no_cache_keeps() -> None:
    answer = json_answer({"a": 1}, 202, {"Retry-After": "5"})

    assert (answer.status, answer.body) == (202, b'{"a":1}\n')
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Retry-After"] == "5"


def test_times_are_utc_with_milliseconds() -> None:
    assert timestamp(1_800_000_000.25) == "2027-01-15T08:00:00.250Z"
    assert timestamp(None) is None


def test_durations_are_whole_milliseconds() -> None:
    assert milliseconds(1.2346) == 1235
    assert milliseconds(None) is None


def test_moments_of_the_core_become_times_of_day() -> None:
    one = replace(
        backend(CODER, BackendState.READY),
        since=90.0,
        last_used=99.5,
        idle_stop_at=160.0,
        estimates=Estimates(start=38.0),
        in_flight=2,
        queued=1,
        oldest_wait=0.25,
    )

    shown = describe(one, now=100.0, wall=1_800_000_000.0, forecast=None)

    assert shown["since"] == "2027-01-15T07:59:50.000Z"
    assert shown["last_used_at"] == "2027-01-15T07:59:59.500Z"
    assert shown["idle_stop_at"] == "2027-01-15T08:01:00.000Z"
    assert shown["retry_at"] is None
    assert (shown["in_flight"], shown["queued"], shown["oldest_wait_ms"]) == (2, 1, 250)
    assert (shown["expected_start_ms"], shown["expected_stop_ms"]) == (38_000, None)


def test_a_stop_that_never_comes_has_no_time() -> None:
    one = replace(backend(CODER, BackendState.READY), idle_stop_at=float("inf"))

    assert describe(one, now=100.0, wall=0.0, forecast=None)["idle_stop_at"] is None


def test_details_are_shown_where_they_may_be() -> None:
    what = Failure("backend_start_failed", "exit code 1", "Traceback …")

    assert failure(what) == {"code": "backend_start_failed", "message": "exit code 1"}
    shown = failure(what, detail=True)
    assert shown is not None
    assert shown["detail"] == "Traceback …"
    assert failure(None) is None
