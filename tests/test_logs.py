"""The log as it reaches its descriptor: one line each, redacted, escaped, never in the way."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from launcher import logs
from launcher.core.effects import Abort, Decided, Deed, PrewarmSkipped, Reject
from launcher.core.events import Closed, Hung, Reachable, StopRequested
from launcher.core.types import BackendId, Failure, StopReason, TicketId
from launcher.facts import Fact, Granted, StartBegan, StartEnded, StopBegan, StopEnded, StopStuck
from launcher.logs import LogFormat, LogLevel, configured, log_exchange, log_fact
from launcher.proxy.record import ExchangeRecord

A = BackendId("a")
FAILURE = Failure("backend_start_failed", "exit code 1", "Traceback:\n  out of memory")

log = logging.getLogger("launcher.test_logs")


def written(
    speak: Callable[[], None],
    log_format: LogFormat = "json",
    level: LogLevel = "info",
    redact: logs.Redact | None = None,
) -> str:
    """All that is logged while `speak` runs."""
    reader, writer = os.pipe()
    pieces: list[bytes] = []

    def drain() -> None:
        while piece := os.read(reader, 65536):
            pieces.append(piece)

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        with configured(log_format=log_format, level=level, redact=redact, fd=writer):
            speak()
    finally:
        os.close(writer)
        thread.join(30)
        os.close(reader)
    return b"".join(pieces).decode()


def lines(speak: Callable[[], None], **options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(speak, **options).splitlines()]


def test_a_line_of_json_per_record() -> None:
    (line,) = lines(lambda: log.info("hello %s", "there", extra={"fields": {"backend": "a"}}))

    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "launcher.test_logs",
        "message": "hello there",
        "backend": "a",
    }


def test_an_exchange_in_json() -> None:
    record = ExchangeRecord(
        *("POST", "/coder/v1/chat", "10.0.0.1", "coder", "coder", "coder-fast", 200),
        cold=True,
        queued=12.5,
        starting=12.0,
        first_byte=12.6,
        duration=14.0,
        response_bytes=77,
    )

    (line,) = lines(lambda: log_exchange(record))

    del line["time"]
    assert line == {
        "level": "info",
        "logger": "launcher.exchanges",
        "message": "exchange",
        "method": "POST",
        "path": "/coder/v1/chat",
        "peer": "10.0.0.1",
        "status": 200,
        "outcome": "ok",
        "duration": 14.0,
        "requestBytes": 0,
        "responseBytes": 77,
        "route": "coder",
        "backend": "coder",
        "model": "coder-fast",
        "cold": True,
        "queued": 12.5,
        "starting": 12.0,
        "firstByte": 12.6,
    }


def test_an_exchange_for_people() -> None:
    record = ExchangeRecord(
        *("GET", "/coder/v1/models", "::1", "coder", "coder"),
        status=504,
        code="start_timeout",
        outcome="client_gone",
        cold=True,
        queued=38.2,
        duration=40.0,
        retried=True,
    )

    text = written(lambda: log_exchange(record), log_format="human")

    assert text[12:] == (
        " WARNING GET /coder/v1/models → 504 in 40 s  "
        "(coder, start_timeout, cold, waited 38 s, sent twice, client gone)\n"
    )


FACTS: list[tuple[Fact, str, str]] = [
    (Decided(Deed.START, A, "found running"), "info", "starts a: it was found running"),
    (StartEnded(A, 1, False, False, "ready", 38.2), "info", "a is ready after 38 s"),
    (StartEnded(A, 1, False, False, "cancelled", 3.0), "info", "the start of a was called off"),
    (
        StartEnded(A, 1, False, False, "failed", 0.25, FAILURE),
        "error",
        "a failed to start after 250 ms: exit code 1",
    ),
    (Decided(Deed.STOP, A, "idle"), "info", "stops a: it was idle"),
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
        log_fact(Decided(Deed.STOP, A, "hung"))
        log_fact(StopBegan(A, StopReason.HUNG))
        log_fact(StartEnded(A, 1, False, False, "failed", 1.0, FAILURE))

    stop, failed = lines(speak)

    assert (stop["decision"], stop["reason"]) == ("stop", "hung")
    assert (failed["code"], failed["seconds"]) == ("backend_start_failed", 1.0)
    assert failed["detail"] == "Traceback:\n  out of memory"


def test_a_decision_is_one_line_with_all_it_knows() -> None:
    b = BackendId("b")

    def speak() -> None:
        log_fact(Decided(Deed.DRAIN, A, "overdue", b, cost=41.23456, waiting=3, waited=61.5))
        log_fact(Decided(Deed.START, b, "wanted", pays=(A,), cost=25.0, waiting=1))
        log_fact(StartBegan(b, 1, False, True))
        log_fact(Decided(Deed.REJECT, A, "queue_full"))
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


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_secrets_are_taken_out_everywhere(log_format: LogFormat) -> None:
    def speak() -> None:
        log.info("key %s", "sk-1", extra={"fields": {"detail": "uses sk-1", "all": ["sk-1"]}})
        log_exchange(ExchangeRecord("GET", "/coder/sk-1", "::1", status=200))
        try:
            raise ValueError("bad sk-1")
        except ValueError:
            log.exception("failed with sk-1")

    text = written(speak, log_format=log_format, redact=lambda text: text.replace("sk-1", "***"))

    assert "sk-1" not in text
    assert text.count("***") >= 4
    assert "ValueError: bad ***" in text


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_nothing_a_client_sent_acts_on_a_terminal(log_format: LogFormat) -> None:
    record = ExchangeRecord("G\x1bT", "/a\r\nfake line\x1b[2J\x9b", "::1", status=400)

    text = written(lambda: log_exchange(record), log_format=log_format)

    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "/a\\" in text


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_bytes_that_are_no_text_are_written_somehow(log_format: LogFormat) -> None:
    text = written(lambda: log.warning("file %s", "\udcff"), log_format=log_format)

    assert "udcff" in text
    assert text.count("\n") == 1


def test_a_line_that_cannot_be_formatted_does_not_end_the_log() -> None:
    class Awkward:
        def __str__(self) -> str:
            raise RuntimeError("no")

    def speak() -> None:
        log.info("first", extra={"fields": {"odd": Awkward()}})
        log.info("second")

    text = written(speak)

    assert "could not be formatted" in text
    assert json.loads(text.splitlines()[-1])["message"] == "second"


def test_everything_is_written_by_the_end_of_the_block() -> None:
    def speak() -> None:
        for number in range(5000):
            log.info("%d", number)

    assert [int(line["message"]) for line in lines(speak)] == list(range(5000))


def test_a_reader_that_left_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with configured(log_format="json", fd=writer):
            for _ in range(100):
                log.info("to nobody")
    finally:
        os.close(writer)


@pytest.fixture
def stuck() -> Iterator[tuple[int, int]]:
    """A pipe that is full, and nobody reads."""
    reader, writer = os.pipe()
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    fcntl.fcntl(writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        pass
    fcntl.fcntl(writer, fcntl.F_SETFL, flags)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def drained(reader: int, until: bytes) -> bytes:
    data = b""
    while until not in data:
        data += os.read(reader, 65536)
    return data.lstrip(b"x")


async def test_a_reader_that_is_stuck_costs_lines_not_time(
    stuck: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 50)
    reader, writer = stuck
    with configured(log_format="json", fd=writer):
        for number in range(200):
            log.info("line %d", number)  # the test would never end if this waited
        first = await asyncio.to_thread(drained, reader, b'"line 40"')
        assert b'"line 0"' in first
        await asyncio.to_thread(waiting_for_room)
        log.info("the last")
    rest = drained(reader, b'"the last"')
    assert b"log lines were dropped" in rest
    assert b'"line 199"' not in first + rest


def waiting_for_room() -> None:
    handler = logging.getLogger().handlers[-1]
    assert isinstance(handler, logs.QueueingHandler)
    while handler.waiting.qsize():
        time.sleep(0.001)


def test_the_end_does_not_wait_for_a_stuck_reader(
    stuck: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FLUSH_TIMEOUT", 0.05)
    reader, writer = stuck

    with configured(log_format="json", fd=writer):
        log.info("late")

    # Let the writing thread go before its descriptor is closed.
    assert b'"late"' in drained(reader, b'"late"')


def test_a_terminal_that_somebody_made_non_blocking(stuck: tuple[int, int]) -> None:
    reader, writer = stuck
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    fcntl.fcntl(writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append(drained(reader, b'"in the end"')))
    with configured(log_format="json", fd=writer):
        log.info("in the end")
        thread.start()
    thread.join(30)
    assert b'"in the end"' in read[0]


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


def test_a_process_whose_reader_left_ends_well() -> None:
    script = (
        "import logging, os\n"
        "from launcher.logs import configured\n"
        "with configured(log_format='json'):\n"
        "    os.read(0, 1)\n"
        "    logging.getLogger('launcher').info('to nobody')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stderr.close()
    process.stdin.write(b"x")
    process.stdin.close()

    assert process.wait(60) == 0
