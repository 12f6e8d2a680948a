"""Where lines of the log wait for the thread that makes and writes them.

Whoever says something is never kept waiting by a terminal or a pipe: a reader that is stuck
costs lines, not requests; one that is gone costs nothing at all. What a line looks like is
`log_lines`' business.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Final

from launcher.telemetry.log_lines import Said

#: Lines waiting for a slow reader; those beyond it are counted and dropped.
MAX_WAITING = 10_000
#: Lines made at one go: the loop waits for the interpreter meanwhile.
AT_ONCE: Final = 32
#: Seconds after a write in which the next lines gather, so that many requests don't wake the
#: thread for each of theirs.
GATHERING: Final = 0.01


class Writer:
    """A thread that writes to a descriptor, unbuffered: a broken pipe leaves nothing to fail
    at exit. `line` makes the text of what was said, on that thread."""

    def __init__(self, fd: int, line: Callable[[Said], str]) -> None:
        self._fd = fd
        self._line = line
        self._gone = False
        self._ending = False
        self._dropped = 0
        self._waiting: queue.SimpleQueue[Said | None] = queue.SimpleQueue()
        # A daemon: nobody waits for a stuck reader for ever.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __repr__(self) -> str:
        return f"<Writer to {self._fd}: {self.waiting} waiting, {self._dropped} dropped>"

    @property
    def waiting(self) -> int:
        """How many lines wait to be made."""
        return self._waiting.qsize()

    def put(self, said: Said) -> None:
        """A line more; returns at once."""
        if self._waiting.qsize() >= MAX_WAITING:
            self._dropped += 1
            return
        if self._dropped:
            lost, self._dropped = self._dropped, 0
            text = f"{lost} log lines were dropped: nobody reads them fast enough"
            self._waiting.put(
                logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
            )
        self._waiting.put(said)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def finish(self, timeout: float) -> None:
        """Write what waits, but give up after `timeout` seconds."""
        self._waiting.put(None)
        self._thread.join(timeout)

    # -- on the thread

    def _run(self) -> None:
        while not self._ending:
            said = self._next()
            if not self._gone:
                self._write(b"".join(map(self._made, said)))
            if len(said) < AT_ONCE:
                time.sleep(GATHERING)

    def _next(self) -> list[Said]:
        """What waits, so many at most; waits for the first."""
        found: list[Said] = []
        try:
            one = self._waiting.get()
            while one is not None:
                found.append(one)
                if len(found) == AT_ONCE:
                    return found
                one = self._waiting.get_nowait()
        except queue.Empty:
            return found
        self._ending = True
        return found

    def _made(self, said: Said) -> bytes:
        try:
            return self._line(said).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001 - a line that can't be made must not end the thread
            return b"a line of the log could not be made\n"

    def _write(self, data: bytes) -> None:
        try:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    # Somebody who shares the terminal made it non-blocking.
                    select.select([], [self._fd], [])
        except OSError:
            self._gone = True


class QueueingHandler(logging.Handler):
    """Hands what the loggers are told to the writer."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Only what may change or hold on to frames is made text here."""
        record.msg = record.getMessage()
        record.args = None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        self._writer.put(record)
