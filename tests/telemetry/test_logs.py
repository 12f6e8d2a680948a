"""The log as it reaches its descriptor: one line each, redacted, escaped, never in the way."""

from __future__ import annotations

import logging
import os
import pty

import pytest

from launcher.core.effects import Abort, Action, Decided, PrewarmSkipped, Reject
from launcher.core.events import Closed, Hung, Reachable, StopRequested
from launcher.core.types import BackendId, Failure, StopReason, TicketId
from launcher.telemetry.facts import (
    Fact,
    Granted,
    StartBegan,
    StartEnded,
    StopBegan,
    StopEnded,
    StopStuck,
)
from launcher.telemetry.logs import configured, log_exchange, log_fact
from launcher.telemetry.record import ExchangeRecord
from tests.log_reading import lines, written

A = BackendId("a")
FAILURE = Failure("backend_start_failed", "exit code 1", "Traceback:\n  out of memory")

log = logging.getLogger("launcher.test_logs")


def test_a_line_of_json_per_record() -> None:
    (line,) = lines(lambda: log.info("hello %s", "there", extra={"fields": {"backend": "a"}}))

    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "launcher.test_logs",
        "message": "hello there",
        "backend": "a",
    }


FACTS: list[tuple[Fact, str, str]] = [
    (Decided(Action.START, A, "found running"), "info", "starts a: it was found running"),
    (StartEnded(A, 1, False, False, "ready", 38.2), "info", "a is ready after 38 s"),
    (StartEnded(A, 1, False, False, "cancelled", 3.0), "info", "the start of a was called off"),
    (
        StartEnded(A, 1, False, False, "failed", 0.25, FAILURE),
        "error",
        "a failed to start after 250 ms: exit code 1",
    ),
    (Decided(Action.STOP, A, "idle"), "info", "stops a: it was idle"),
    (StopEnded(A, StopReason.IDLE, 1.23), "info", "a stopped after 1.2 s"),
    (StopStuck(A, FAILURE), "error", "a does not stop: exit code 1"),
    (Reject(TicketId(1), A, "queue_full", "too many"), "warning", "rejected a request for a"),
    (Abort(A, "backend_stopped", "by force"), "warning", "cutting the exchanges of a: by force"),
    (PrewarmSkipped(A), "warning", "a is not prewarmed"),
    (Hung(A, 1), "warning", "a hangs"),
    (StopRequested(A, True), "info", "an operator wants a stopped, at once"),
    (Reachable((A,), False, FAILURE), "warning", "a driver is away"),
    (Reachable((A,), True), "info", "the driver answers again"),
    (Closed(), "info", "shutting down"),
]


@pytest.mark.parametrize(("fact", "level", "start"), FACTS, ids=lambda one: type(one).__name__)
def test_a_line_per_decision(fact: Fact, level: str, start: str) -> None:
    (line,) = lines(lambda: log_fact(fact))

    assert line["level"] == level
    assert line["message"].startswith(start)
    assert line["logger"] == "launcher.decisions"
    assert isinstance(fact, (Closed, Reachable)) or line["backend"] == "a"


def test_a_stop_has_its_reason_and_a_failure_its_code_and_detail() -> None:
    def speak() -> None:
        log_fact(Decided(Action.STOP, A, "hung"))
        log_fact(StopBegan(A, StopReason.HUNG))
        log_fact(StartEnded(A, 1, False, False, "failed", 1.0, FAILURE))

    stop, failed = lines(speak)

    assert (stop["decision"], stop["reason"]) == ("stop", "hung")
    assert (failed["code"], failed["seconds"]) == ("backend_start_failed", 1.0)
    assert failed["detail"] == "Traceback:\n  out of memory"


def test_a_decision_is_one_line_with_all_it_knows() -> None:
    b = BackendId("b")

    def speak() -> None:
        log_fact(Decided(Action.DRAIN, A, "overdue", b, cost=41.23456, waiting=3, waited=61.5))
        log_fact(Decided(Action.START, b, "wanted", pays=(A,), cost=25.0, waiting=1))
        log_fact(StartBegan(b, 1, False, True))
        log_fact(Decided(Action.REJECT, A, "queue_full"))
        log_fact(Reject(TicketId(1), A, "queue_full", "too many"))

    drain, start, reject = lines(speak)

    assert drain["message"] == (
        "drains a: b waits too long for its place (3 requests, the oldest for 62 s); "
        "expected to cost 41 s"
    )
    assert (drain["decision"], drain["reason"], drain["wantedBy"]) == ("drain", "overdue", "b")
    assert (drain["cost"], drain["waiting"], drain["waited"]) == (41.235, 3, 61.5)
    assert (start["decision"], start["pays"]) == ("start", ["a"])
    assert (reject["decision"], reject["code"]) == ("reject", "queue_full")


def test_details_are_indented_for_people() -> None:
    failed = StartEnded(A, 1, False, False, "failed", 1.0, FAILURE)

    text = written(lambda: log_fact(failed), log_format="human")

    assert text.splitlines()[1:] == ["    Traceback:", "      out of memory"]


def test_grants_are_for_debugging() -> None:
    granted = Granted(A, 0.5, True)

    assert lines(lambda: log_fact(granted)) == []
    (line,) = lines(lambda: log_fact(granted), level="debug")
    assert line["message"] == "granted a after 500 ms"


def test_a_health_check_of_what_is_not_up_is_for_debugging() -> None:
    refused = Reject(TicketId(1), A, "not_resident", "a is stopped")
    record = ExchangeRecord("GET", "/a/health", "::1", "a", status=503, code="not_resident")

    def speak() -> None:
        log_fact(refused)
        log_exchange(record)

    assert lines(speak) == []
    decision, exchange = lines(speak, level="debug")
    assert (decision["level"], decision["code"]) == ("debug", "not_resident")
    assert (exchange["level"], exchange["status"]) == ("debug", 503)


def test_the_level_holds_for_exchanges_too() -> None:
    fine = ExchangeRecord("GET", "/", "::1", status=200)
    failed = ExchangeRecord("GET", "/", "::1", status=502)

    def speak() -> None:
        log_exchange(fine)
        log_exchange(failed)

    (line,) = lines(speak, level="warning")
    assert line["status"] == 502


def test_other_peoples_loggers_speak_from_warning_on() -> None:
    other = logging.getLogger("somebody.else")

    def speak() -> None:
        other.info("chatter")
        other.warning("news")

    assert [line["message"] for line in lines(speak, level="debug")] == ["news"]


def test_auto_is_human_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    try:
        with configured(fd=theirs):
            log.warning("careful")
        text = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)

    assert "\x1b[33mWARNING\x1b[0m careful" in text


def test_auto_is_json_elsewhere() -> None:
    assert lines(lambda: log.info("hello"), log_format="auto")[0]["message"] == "hello"


def test_logging_is_as_before_afterwards() -> None:
    root, own = logging.getLogger(), logging.getLogger("launcher")
    before = (root.level, own.level, list(root.handlers))

    written(lambda: log.info("hello"), level="debug")

    assert (root.level, own.level, list(root.handlers)) == before
