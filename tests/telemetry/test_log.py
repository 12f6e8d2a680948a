"""The log as it reaches its descriptor: one line each, redacted, escaped, never in the way."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import pty
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

import pytest

from launcher.config import Secret
from launcher.config.redact import Redactor
from launcher.core.effects import Abort, Action, Decided, PrewarmSkipped, Reject
from launcher.core.events import Closed, Hung, Reachable, StopRequested
from launcher.core.types import BackendId, Failure, StopReason, TicketId
from launcher.telemetry import log as logs
from launcher.telemetry.facts import (
    Fact,
    Granted,
    StartBegan,
    StartEnded,
    StopBegan,
    StopEnded,
    StopStuck,
)
from launcher.telemetry.log import (
    REMEMBERED,
    JsonFormat,
    LogFormat,
    Writer,
    configured,
    log_exchanges,
    log_fact,
)
from tests.log_reading import lines, written
from tests.records import a_record

A = BackendId("a")
FAILURE = Failure("backend_start_failed", "exit code 1", "Traceback:\n  out of memory")

log = logging.getLogger("launcher.test_log")


# -- decisions ----------------------------------------------------------------------------


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
    assert (drain["decision"], drain["reason"], drain["wanted_by"]) == ("drain", "overdue", "b")
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
    record = a_record(path="/a/health", route="a", status=503, code="not_resident")

    def speak() -> None:
        log_fact(refused)
        log_exchanges([record])

    assert lines(speak) == []
    decision, exchange = lines(speak, level="debug")
    assert (decision["level"], decision["code"]) == ("debug", "not_resident")
    assert (exchange["level"], exchange["status"]) == ("debug", 503)


# -- exchanges ----------------------------------------------------------------------------


def test_an_exchange_in_json() -> None:
    record = a_record(
        at=1_700_000_000.0426,
        method="POST",
        path="/coder/v1/chat",
        peer="10.0.0.1",
        route="coder",
        backend="coder",
        model="coder-fast",
        first_byte=0.0123456,
        duration=14.0,
        request_bytes=3,
        response_bytes=77,
        key="alice",
    )

    (line,) = lines(lambda: log_exchanges([record]))

    assert line == {
        "time": "2023-11-14T22:13:20.042+00:00",
        "level": "info",
        "logger": "launcher.exchanges",
        "message": "exchange",
        "method": "POST",
        "path": "/coder/v1/chat",
        "peer": "10.0.0.1",
        "route": "coder",
        "backend": "coder",
        "model": "coder-fast",
        "outcome": "ok",
        "status": 200,
        "duration": 14.0,
        "first_byte": 0.012346,
        "request_bytes": 3,
        "response_bytes": 77,
        "key": "alice",
    }


def test_an_exchange_that_waited_and_failed_in_json() -> None:
    record = a_record(
        status=504,
        code="start_timeout",
        outcome="error",
        cold=True,
        queued=12.5,
        starting=12.0,
        retried=True,
        duration=13.0,
    )

    (line,) = lines(lambda: log_exchanges([record]))

    assert (line["level"], line["code"], line["status"]) == ("warning", "start_timeout", 504)
    assert (line["cold"], line["queued"], line["starting"]) == (True, 12.5, 12.0)
    assert line["retried"] is True
    assert not {"first_byte", "key", "route", "backend", "model"} & line.keys()


def test_each_line_has_what_is_its_own() -> None:
    """The beginnings of lines are remembered; no exchange gets another's."""
    records = [
        a_record(path=f"/{n % 3}", status=200 + n % 2, key=("", "alice", "bob")[n % 3], at=60.0 * n)
        for n in range(12)
    ]
    found = lines(lambda: [log_exchanges([one, one]) for one in records])
    shown = [(one["path"], one["status"], one.get("key", ""), one["time"][14:16]) for one in found]
    expected = [(one.path, one.status, one.key, f"{int(one.at / 60):02d}") for one in records]
    assert shown == [one for one in expected for _ in range(2)]


def test_beginnings_of_lines_are_remembered_within_bounds() -> None:
    form = JsonFormat(Redactor())
    for n in range(3 * REMEMBERED):
        form.exchanges([a_record(path=f"/{n}")], logging.INFO)
        assert len(form._heads) <= REMEMBERED
    form = JsonFormat(Redactor())
    form.exchanges([a_record(path="/" + "x" * 5000)], logging.INFO)
    assert not form._heads


def test_an_exchange_for_people() -> None:
    record = a_record(
        path="/coder/v1/models",
        backend="coder",
        status=504,
        code="start_timeout",
        outcome="client_gone",
        cold=True,
        queued=38.2,
        duration=40.0,
        retried=True,
        key="alice",
    )

    text = written(lambda: log_exchanges([record]), log_format="human")

    assert text[8:] == (
        ".042 WARNING GET /coder/v1/models → 504 in 40 s  "
        "(coder, alice, start_timeout, cold, waited 38 s, sent twice, client gone)\n"
    )


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_the_level_holds_for_exchanges_too(log_format: LogFormat) -> None:
    records = [a_record(status=200), a_record(status=502), a_record(status=200)]

    text = written(lambda: log_exchanges(records), log_format=log_format, level="warning")

    assert text.count("\n") == 1
    assert "502" in text


def test_without_a_log_nothing_is_logged() -> None:
    log_exchanges([a_record()])
    assert lines(lambda: None) == []


# -- any line -----------------------------------------------------------------------------


def test_a_line_of_json_per_record() -> None:
    (line,) = lines(lambda: log.info("hello %s", "there", extra={"fields": {"backend": "a"}}))

    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "launcher.test_log",
        "message": "hello there",
        "backend": "a",
    }


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_secrets_are_taken_out_everywhere(log_format: LogFormat) -> None:
    redactor = Redactor([Secret("sk-1")])
    of_a_secret = a_record(path="/sk-1", key="sk-1")

    def speak() -> None:
        log.info("key %s", "sk-1", extra={"fields": {"detail": "uses sk-1", "all": ["sk-1"]}})
        log_exchanges([a_record(path="/sk-2"), of_a_secret, a_record(path="/other")])
        redactor.learn([Secret("sk-2")])
        log_exchanges([a_record(path="/sk-2"), of_a_secret])
        try:
            raise ValueError("bad sk-1")
        except ValueError:
            log.exception("failed with sk-1")

    text = written(speak, log_format=log_format, redactor=redactor)

    assert "sk-1" not in text
    assert text.count("sk-2") == 1, "before it was a secret"
    assert text.count("***") >= 8
    assert "/other" in text
    assert "ValueError: bad ***" in text


def test_secrets_are_found_however_deep() -> None:
    fields = {"all": ["a", ("sk-1", 2)], "count": 1}

    (line,) = lines(
        lambda: log.info("m", extra={"fields": fields}), redactor=Redactor([Secret("sk-1")])
    )

    assert (line["all"], line["count"]) == (["a", ["***", 2]], 1)


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_nothing_a_client_sent_acts_on_a_terminal(log_format: LogFormat) -> None:
    record = a_record(method="G\x1bT", path="/a\r\nfake line\x1b[2J\x9b", status=400)

    text = written(lambda: log_exchanges([record]), log_format=log_format)

    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "/a\\" in text


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_bytes_that_are_no_text_are_written_somehow(log_format: LogFormat) -> None:
    text = written(lambda: log.warning("file %s", "\udcff"), log_format=log_format)

    assert "udcff" in text
    assert text.count("\n") == 1


def test_a_line_that_cannot_be_made_does_not_end_the_log() -> None:
    class Awkward:
        def __str__(self) -> str:
            raise RuntimeError("no")

    def speak() -> None:
        log.info("first", extra={"fields": {"odd": Awkward()}})
        log.info("second")

    assert [line["message"] for line in lines(speak)] == [
        "a line of launcher.test_log could not be made",
        "second",
    ]


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


# -- how lines are written ----------------------------------------------------------------


def test_everything_is_written_in_its_order_by_the_end_of_the_block() -> None:
    def speak() -> None:
        for number in range(5000):
            if number % 3:
                log_exchanges([a_record(path=f"/{number}")])
            else:
                log.info("/%d", number)

    found = [line.get("path", line["message"]) for line in lines(speak)]
    assert found == [f"/{number}" for number in range(5000)]


def test_lines_that_wait_together_are_written_together() -> None:
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, ours:
        writer = Writer(ours.fileno(), str.encode)
        for _ in range(3):
            writer.put(b"one\ntwo\n", 2)
        writer.start()
        writer.finish(30)
        assert theirs.recv(65536) == b"one\ntwo\n" * 3


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
    with configured(log_format="json", fd=writer) as log_to:
        for number in range(40):
            log.info("line %d", number)
        log_exchanges([a_record()] * 11)  # there is room for ten
        for number in range(40, 200):
            log.info("line %d", number)  # the test would never end if this waited
        data = await asyncio.to_thread(drained, reader, b"reader is too slow")
        await asyncio.to_thread(until, lambda: log_to.waiting == 0)
        log.info("the last")
    data += os.read(reader, 65536)
    found = [json.loads(line)["message"] for line in data.splitlines()]
    dropped = [one for one in found if "were dropped" in one]
    assert [one for one in found if one not in dropped] == [
        *(f"line {number}" for number in range(50)),
        "the last",
    ]
    assert sum(int(one.split()[0]) for one in dropped) == 161


def until(true: Callable[[], bool]) -> None:
    moment = threading.Event()
    while not true():
        moment.wait(0.001)


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


def test_a_disk_that_was_full_gets_the_log_again_and_how_much_is_missing() -> None:
    """The descriptor fails with ENOSPC, until something that has room takes its place."""
    fd = os.open("/dev/full", os.O_WRONLY)
    with tempfile.TemporaryFile() as disk:
        with configured(log_format="json", fd=fd) as writer:
            for number in (1, 2, 3):
                log.info("lost")
                until(lambda expected=number: writer.dropped == expected)  # type: ignore[misc]
            os.dup2(disk.fileno(), fd)
            log.info("there is room")
        os.close(fd)
        disk.seek(0)
        found = [json.loads(line)["message"] for line in disk]
    assert found == [
        "there is room",
        "3 log lines were dropped: No space left on device",
    ]


def test_half_a_line_is_ended_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    out: list[bytes] = []
    fail = True

    def write(fd: int, data: memoryview) -> int:
        nonlocal fail
        if out and fail:
            fail = False
            raise OSError(28, "No space left on device")
        out.append(bytes(data[:6]) if fail else bytes(data))
        return len(out[-1])

    monkeypatch.setattr(logs.os, "write", write)
    writer = Writer(-1, lambda text: f"{text}\n".encode())
    writer.start()
    writer.put(b"one\ntwo\nthree\n", 3)
    until(lambda: writer.dropped == 2)
    writer.put(b"four\n", 1)
    writer.finish(30)
    assert b"".join(out) == (b"one\ntw\nfour\n2 log lines were dropped: No space left on device\n")


def test_a_reader_that_left_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with configured(log_format="json", fd=writer):
            for _ in range(100):
                log.info("to nobody")
    finally:
        os.close(writer)


def test_a_process_whose_reader_left_ends_well() -> None:
    script = (
        "import logging, os\n"
        "from launcher.telemetry.log import configured\n"
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
