"""The writing thread: everything is written in its order, and nobody waits for a reader."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from launcher.telemetry import log_writer, logs
from launcher.telemetry.log_lines import Lines, as_json
from launcher.telemetry.log_writer import AT_ONCE, Writer
from launcher.telemetry.logs import configured, log_exchange
from launcher.telemetry.record import ExchangeRecord
from tests.log_reading import lines, written

log = logging.getLogger("launcher.test_log_writer")


def test_a_line_that_cannot_be_made_does_not_end_the_log() -> None:
    class Awkward:
        def __str__(self) -> str:
            raise RuntimeError("no")

    def speak() -> None:
        log.info("first", extra={"fields": {"odd": Awkward()}})
        log.info("second")

    text = written(speak)

    assert "could not be made" in text
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
    monkeypatch.setattr(log_writer, "MAX_WAITING", 50)
    reader, writer = stuck
    with configured(log_format="json", fd=writer) as log_to:
        log.info("line 0")
        await asyncio.to_thread(waiting_for_room, log_to)  # the thread has it, and is stuck
        for number in range(1, 200):
            log.info("line %d", number)  # the test would never end if this waited
        first = await asyncio.to_thread(drained, reader, b'"line 40"')
        assert b'"line 0"' in first
        await asyncio.to_thread(waiting_for_room, log_to)
        log.info("the last")
    rest = drained(reader, b'"the last"')
    assert b"log lines were dropped" in rest
    assert b'"line 199"' not in first + rest


def waiting_for_room(writer: Writer) -> None:
    while writer.waiting:
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


def test_a_process_whose_reader_left_ends_well() -> None:
    script = (
        "import logging, os\n"
        "from launcher.telemetry.logs import configured\n"
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


def test_exchanges_and_other_lines_keep_their_order() -> None:
    def speak() -> None:
        for number in range(2000):
            if number % 3:
                log_exchange(ExchangeRecord("GET", f"/{number}", "::1", status=200))
            else:
                log.info("/%d", number)

    found = [line.get("path", line["message"]) for line in lines(speak)]
    assert found == [f"/{number}" for number in range(2000)]


def test_lines_that_wait_together_are_written_together() -> None:
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, ours:
        writer = Writer(ours.fileno(), Lines(as_json))
        record = logging.makeLogRecord({"msg": "hello", "levelname": "INFO"})
        for _ in range(AT_ONCE + 1):
            writer.put(record)
        writer.start()
        writer.finish(30)
        assert [theirs.recv(65536).count(b"\n") for _ in range(2)] == [AT_ONCE, 1]
