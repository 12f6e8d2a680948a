"""The client of a case: raw bytes out, responses in, and how the connection ended."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Literal

from bench.differential.backend import Record
from bench.differential.cases import TOKEN, Case

Framing = Literal["none", "length", "chunked", "close"]


@dataclass
class Response:
    """One response as the client received it."""

    line: bytes
    headers: list[bytes]
    framing: Framing = "none"
    body: bytearray = field(default_factory=bytearray)
    trailers: list[bytes] = field(default_factory=list)
    state: Literal["reading", "whole", "cut", "malformed"] = "reading"

    @property
    def status(self) -> int:
        """Its status, 0 where it has none."""
        found = re.match(rb"HTTP/1\.\d (\d{3})", self.line)
        return int(found[1]) if found else 0

    @property
    def final(self) -> bool:
        return self.status >= 200 or self.status in (0, 101)

    def named(self, name: bytes) -> list[bytes]:
        """The values of a header, in lower case."""
        return [
            line.partition(b":")[2].strip().lower()
            for line in self.headers
            if line.partition(b":")[0].lower() == name
        ]

    @property
    def code(self) -> bytes:
        """The code of an error of the launcher's own; b"" for everything else."""
        found = re.fullmatch(rb'\{"error":\{"message":.*"code":"(\w+)".*\}', self.body)
        return found[1] if found else b""

    @property
    def closes(self) -> bool:
        """Whether it says that the connection ends with it."""
        options = b",".join(self.named(b"connection"))
        if b"close" in options or self.framing == "close":
            return True
        return self.line.startswith(b"HTTP/1.0") and b"keep-alive" not in options


class Reading:
    """The responses in a stream of bytes, by a strict reading."""

    def __init__(self, methods: Sequence[str]) -> None:
        self.methods = methods
        self.responses: list[Response] = []
        self.finals = 0
        self.behind = bytearray()
        """What came behind a 101, or can't be read."""
        self._pending = bytearray()
        self._current: Response | None = None
        self._left = 0
        self._phase: Literal["head", "length", "size", "data", "end", "trailer", "close", "raw"] = (
            "head"
        )

    def feed(self, data: bytes) -> None:
        self._pending += data
        while self._step():
            pass

    def _step(self) -> bool:
        """One step forward; False where more bytes are needed."""
        pending = self._pending
        if self._phase == "raw":
            self.behind += pending
            pending.clear()
            return False
        if self._phase == "head":
            if not pending:
                return False
            end = pending.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(pending[:end])
            del pending[: end + 4]
            self._begin(head)
            return True
        one = self._current
        assert one is not None
        if self._phase == "close":
            one.body += pending
            pending.clear()
            return False
        if self._phase in ("length", "data"):
            if not pending:
                return False
            taken = pending[: self._left]
            one.body += taken
            del pending[: len(taken)]
            self._left -= len(taken)
            if self._left:
                return False
            if self._phase == "length":
                self._done()
            else:
                self._phase = "end"
            return True
        end = pending.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(pending[:end])
        del pending[: end + 2]
        if self._phase == "end":
            if line:
                self._broken()
            else:
                self._phase = "size"
        elif self._phase == "size":
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
                self._broken()
            else:
                self._left = int(line, 16)
                self._phase = "data" if self._left else "trailer"
        elif line:
            one.trailers.append(line)
        else:
            self._done()
        return True

    def _begin(self, head: bytes) -> None:
        line, *headers = head.split(b"\r\n")
        one = self._current = Response(line, headers)
        self.responses.append(one)
        method = self.methods[self.finals] if self.finals < len(self.methods) else "GET"
        codings, lengths = one.named(b"transfer-encoding"), one.named(b"content-length")
        if one.status == 0:
            self._broken()
        elif one.status == 101:
            self._done()
            self._phase = "raw"
        elif one.status < 200:
            one.state, self._current = "whole", None
        elif method == "HEAD" or one.status in (204, 304):
            self._done()
        elif codings:
            if codings != [b"chunked"] or lengths:
                self._broken()
            else:
                one.framing, self._phase = "chunked", "size"
        elif lengths:
            if len(lengths) > 1 or not re.fullmatch(rb"\d+", lengths[0]):
                self._broken()
                return
            one.framing, self._phase, self._left = "length", "length", int(lengths[0])
            if not self._left:
                self._done()
        else:
            one.framing, self._phase = "close", "close"

    def _done(self) -> None:
        assert self._current is not None
        self._current.state, self._current = "whole", None
        self.finals += 1
        self._phase = "head"

    def _broken(self) -> None:
        assert self._current is not None
        self._current.state = "malformed"
        self.finals += 1
        self._phase = "raw"

    def end(self, how: str) -> None:
        """The connection ended."""
        self.behind += self._pending
        self._pending.clear()
        one = self._current
        if one is None:
            return
        if self._phase == "close" and how == "closed":
            self._done()
        elif one.state == "reading":
            one.state = "cut"


class Connection(asyncio.Protocol):
    """Of the client, to a launcher."""

    def __init__(self, methods: Sequence[str], changed: Callable[[], None]) -> None:
        self.reading = Reading(methods)
        self.end: Literal["", "closed", "reset"] = ""
        self.changed = changed
        self.transport: asyncio.Transport
        self.raw = bytearray()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if len(self.raw) < 4096:
            self.raw += data[:4096]
        self.reading.feed(data)
        self.changed()

    def eof_received(self) -> bool:
        self._ended("closed")
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._ended("closed" if error is None else "reset")
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _ended(self, how: Literal["closed", "reset"]) -> None:
        if not self.end:
            self.end = how
            self.reading.end(how)
            self.changed()

    async def write(self, data: bytes) -> None:
        """Send, as fast as it is taken."""
        if not self.end and not self.transport.is_closing():
            self.transport.write(data)
            await self._writable.wait()


@dataclass
class Seen:
    """What became of a case at one launcher."""

    responses: list[Response]
    arrived: Record
    end: str
    """`kept`, `closed`, `reset`, or `silent` where nothing came any more."""
    behind: bytes
    raw: bytes
    probe: bool = False
    """A further request on the same connection was answered."""


async def run(case: Case, host: str, port: int, record: Record, token: bytes, quiet: float) -> Seen:
    """Carry a case out. `quiet` is how many seconds of silence mean that nothing comes."""
    loop = asyncio.get_running_loop()
    last = loop.time()
    moved = asyncio.Event()

    def changed() -> None:
        nonlocal last
        last = loop.time()
        moved.set()

    record.changed = changed

    async def until(condition: Callable[[], object], limit: float = quiet) -> bool:
        """Wait until it holds or nothing happens for so long."""
        while not condition():
            left = last + limit - loop.time()
            if left <= 0:
                return False
            moved.clear()
            try:
                async with asyncio.timeout(left):
                    await moved.wait()
            except TimeoutError:
                pass
        return True

    _, one = await loop.create_connection(lambda: Connection(case.methods, changed), host, port)
    reading = one.reading
    sock = one.transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number, send in enumerate(case.sends):
        if send.gate == "continue":
            await until(lambda: reading.responses or one.end)
        elif send.gate == "response":
            await until(partial(_answered, one, number))
        elif send.gate == "settled":
            await until(lambda: one.end)
        if one.end or _closing(reading):
            break
        data = send.data.replace(TOKEN, token)
        edges = [0, *send.cuts, len(data)]
        for start, end in pairwise(edges):
            await one.write(data[start:end])
            if end < len(data):
                await asyncio.sleep(0.0005)
        changed()
    seen = Seen(reading.responses, record, "", b"", b"")
    if case.ending != "probe":
        await _leave(case, one, until)
    else:
        expected = len(case.methods)
        await until(lambda: _answered(one, expected) or _closing(reading))
        if not one.end and reading.finals and not _closing(reading):
            count = len(record.arrived)
            await one.write(b"GET /r/t%b.9/probe HTTP/1.1\r\nHost: a\r\n\r\n" % token)
            changed()
            await until(lambda: one.end or _probed(record, count, reading, expected))
            seen.probe = any(b"/probe" in a.head.split(b"\r\n")[0] for a in record.arrived)
        if not one.end and not reading.finals:
            one.transport.write_eof()
            changed()
        if not one.end and (not reading.finals or _closing(reading)):
            await until(lambda: one.end, max(quiet, 2.0))
    seen.end = one.end or ("kept" if seen.probe else "silent")
    if not one.transport.is_closing():
        one.transport.abort()
    changed()
    await until(lambda: not record.busy, max(quiet, 3.0))
    reading.end(one.end)
    seen.behind, seen.raw = bytes(reading.behind), bytes(one.raw)
    return seen


def _answered(one: Connection, wanted: int) -> bool:
    return bool(one.end) or one.reading.finals >= wanted


def _closing(reading: Reading) -> bool:
    """Whether the last response that came ends the connection."""
    if not reading.responses:
        return False
    one = reading.responses[-1]
    return one.final and one.closes and one.state != "reading"


def _probed(record: Record, before: int, reading: Reading, expected: int) -> bool:
    probes = sum(b"/probe" in one.head.split(b"\r\n", 1)[0] for one in record.arrived[before:])
    return probes > 0 and reading.finals > expected


Until = Callable[[Callable[[], object], float], Awaitable[bool]]


async def _leave(case: Case, one: Connection, until: Until) -> None:
    """Leave once everything that is going to happen has happened."""
    if case.tunnel:
        await until(lambda: one.end or len(one.reading.behind) >= case.tunnel, 1.0)
    else:
        await until(lambda: one.end, 0.15)
    if one.end:
        return
    if case.ending == "half-close":
        one.transport.write_eof()
        await until(lambda: one.end, 3.0)
        return
    if case.ending == "reset":
        sock = one.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.transport.abort()
    else:
        one.transport.close()
    one.end = "closed"
    one.reading.end("closed")
