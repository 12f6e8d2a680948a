"""The recording backend: raw bytes in, scripted bytes out."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from bench.differential.cases import PLAIN, Answer, Case

#: Seconds after which the backend no longer waits for the launcher.
PATIENCE = 20.0
_NAME = re.compile(rb"t([0-9a-f]{8})\.(\d+)")
HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Arrived:
    """One request as the backend received it."""

    index: int
    head: bytes
    framing: Literal["none", "length", "chunked"] = "none"
    body: bytearray = field(default_factory=bytearray)
    trailers: list[bytes] = field(default_factory=list)
    behind: bytearray = field(default_factory=bytearray)
    """What came through a tunnel."""
    state: Literal["reading", "whole", "cut", "malformed"] = "reading"
    busy: bool = True
    """The backend still does something with it."""
    early: bool = False
    """Answered before its body was there."""


class Record:
    """What the backend saw of one case, and how it answers there."""

    def __init__(self, case: Case, changed: Callable[[], None]) -> None:
        self.case = case
        self.arrived: list[Arrived] = []
        self.changed = changed

    def add(self, index: int, head: bytes) -> tuple[Arrived, Answer]:
        """Take a request down; what to do with it."""
        attempt = sum(one.index == index for one in self.arrived)
        one = Arrived(index, head)
        self.arrived.append(one)
        answer = self.case.answer(index, attempt)
        if b"/probe" in head.split(b"\r\n", 1)[0]:
            answer = PROBE
        return one, answer

    @property
    def busy(self) -> bool:
        """Whether something is still going on."""
        return any(one.busy for one in self.arrived)


PROBE = Answer("probe", PLAIN.steps)


class Malformed(Exception):
    """The launcher sent what is no request."""


class Backend:
    """One launcher's backend."""

    def __init__(self) -> None:
        self.records: dict[bytes, Record] = {}
        self.strangers: list[bytes] = []
        """Heads that belong to no case."""
        self.over: set[bytes] = set()
        """Names of cases that have ended: what comes for them now came late."""
        self.late = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the launcher's."""
        try:
            while await self._serve(reader, writer):
                pass
        except (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                self.strangers.append(error.partial)
            return False
        line = head.split(b"\r\n", 1)[0]
        found = _NAME.search(line) or _NAME.search(head)
        record = self.records.get(found[1]) if found else None
        if found is None or record is None:
            if found is not None and found[1] in self.over:
                self.late += 1
                return False
            if line != b"GET /health HTTP/1.1":
                self.strangers.append(head)
            writer.write(HEALTHY)
            return True
        arrived, answer = record.add(int(found[2]), head)
        record.changed()
        try:
            return await self._answer(reader, writer, record, arrived, answer)
        finally:
            arrived.busy = False
            if arrived.state == "reading":
                arrived.state = "cut"
            record.changed()

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        record: Record,
        arrived: Arrived,
        answer: Answer,
    ) -> bool:
        body = asyncio.ensure_future(read_body(reader, arrived, record.changed))
        try:
            if answer.moment == "body":
                await body
            else:
                arrived.early = True
            if arrived.state in ("reading", "whole"):
                for step in answer.steps:
                    writer.write(step.data)
                    await writer.drain()
                    if step.pause:
                        await asyncio.sleep(step.pause)
                    record.changed()
            if answer.end == "keep":
                async with asyncio.timeout(PATIENCE):
                    await body
                return arrived.state == "whole"
            if answer.end == "reset":
                reset(writer)
                return False
            if answer.end == "close":
                writer.write_eof()
                arrived.busy = False
            if not body.done():
                async with asyncio.timeout(PATIENCE):
                    await body
            arrived.busy = answer.end == "tunnel"
            record.changed()
            async with asyncio.timeout(PATIENCE):
                while data := await reader.read(65536):
                    arrived.behind += data
                    if answer.end == "tunnel":
                        writer.write(data)
                        await writer.drain()
                    record.changed()
        except (TimeoutError, OSError):
            pass
        finally:
            if not body.done():
                body.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, EOFError):
                await body
        return False


async def read_body(
    reader: asyncio.StreamReader, arrived: Arrived, changed: Callable[[], None]
) -> None:
    """Read what the head announces, by a strict reading of the head."""
    try:
        framing, length = framed(arrived.head)
        arrived.framing = framing
        if framing == "chunked":
            await _read_chunks(reader, arrived, changed)
        while len(arrived.body) < length:
            data = await reader.read(min(65536, length - len(arrived.body)))
            if not data:
                raise EOFError
            arrived.body += data
            changed()
        arrived.state = "whole"
    except Malformed:
        arrived.state = "malformed"
    except (EOFError, OSError):
        arrived.state = "cut"
    changed()


def framed(head: bytes) -> tuple[Literal["none", "length", "chunked"], int]:
    """How the body is framed and how long it is. Raises Malformed for any doubt."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for line in head.split(b"\r\n")[1:-2]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            lengths.append(value.strip())
        elif name.lower() == b"transfer-encoding":
            codings.append(value.strip().lower())
    if codings:
        if lengths or codings != [b"chunked"]:
            raise Malformed
        return "chunked", 0
    if not lengths:
        return "none", 0
    if len(lengths) > 1 or not re.fullmatch(rb"\d+", lengths[0]):
        raise Malformed
    return "length", int(lengths[0])


async def _read_chunks(
    reader: asyncio.StreamReader, arrived: Arrived, changed: Callable[[], None]
) -> None:
    while True:
        line = await reader.readuntil(b"\r\n")
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}\r\n", line):
            raise Malformed
        size = int(line, 16)
        if size == 0:
            break
        left = size
        while left:
            data = await reader.read(min(65536, left))
            if not data:
                raise EOFError
            arrived.body += data
            left -= len(data)
            changed()
        if await reader.readexactly(2) != b"\r\n":
            raise Malformed
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        arrived.trailers.append(line)


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection by a reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
