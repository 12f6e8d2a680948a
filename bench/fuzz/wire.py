"""A loop with a clock of its own and a transport without a socket."""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any


class Finding(AssertionError):
    """An input shows something that must not be."""


class NoSockets(selectors.SelectSelector):
    """Nothing ever comes in from outside."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            raise Finding("everything waits")
        return []


class Loop(asyncio.SelectorEventLoop):
    """Time passes only when it is told to."""

    def __init__(self) -> None:
        super().__init__(NoSockets())
        self.now = 1000.0
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        return self.now


async def settle(turns: int = 8) -> None:
    """Let everything run that is due."""
    for _ in range(turns):
        await asyncio.sleep(0)


class Wire(asyncio.Transport):
    """A transport whose other side is the fuzzer. What is written is kept; what comes in waits
    while reading is paused."""

    def __init__(self, protocol: asyncio.Protocol, *, stubborn: bool = False) -> None:
        """`stubborn`: the other side is behind after each write, for one turn of the loop."""
        super().__init__({"peername": ("192.0.2.1", 1)})
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._stubborn = stubborn
        self._waiting: deque[bytes] = deque()
        self._ended = False
        self._paused = False
        self._closing = False
        self.lost = False
        self.half_closed = False
        self.written = bytearray()
        protocol.connection_made(self)

    # -- the fuzzer's side

    def deliver(self, data: bytes) -> None:
        """Bytes come in."""
        self._waiting.append(data)
        self._run()

    def end(self) -> None:
        """The other side sends nothing more."""
        self._ended = True
        self._run()

    def lose(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._close(error)

    def _run(self) -> None:
        while self._waiting and not self._paused and not self._closing:
            self._protocol.data_received(self._waiting.popleft())
        if self._ended and not self._waiting and not self._paused and not self._closing:
            self._ended = False
            if not self._protocol.eof_received():
                self.close()

    # -- the protocol's side

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        if self.half_closed:
            raise Finding("it writes behind its own end")
        self.written += data
        if self._stubborn and data:
            self._protocol.pause_writing()
            self._loop.call_soon(self._caught_up)

    def _caught_up(self) -> None:
        if not self.lost:
            self._protocol.resume_writing()

    def write_eof(self) -> None:
        self.half_closed = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._run)

    def is_reading(self) -> bool:
        return not self._paused

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._close(None)

    def abort(self) -> None:
        self._close(None)

    def _close(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._gone, error)

    def _gone(self, error: Exception | None) -> None:
        self.lost = True
        self._protocol.connection_lost(error)


def splits(data: bytes, seed: int) -> Iterator[tuple[bytes, ...]]:
    """The ways in which an input is cut into pieces: not at all, into bytes, and at random."""
    yield (data,)
    if len(data) < 2:
        return
    if len(data) <= 600:
        yield tuple(data[at : at + 1] for at in range(len(data)))
    rng = Random(seed)
    for count in (1, 3):
        places = sorted({rng.randrange(1, len(data)) for _ in range(count)})
        yield tuple(data[start:end] for start, end in pairwise([0, *places, len(data)]))
