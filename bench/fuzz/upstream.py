"""What a connection to a backend makes of any bytes, however they are cut into pieces."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from bench.fuzz.wire import Finding, Loop, Wire, settle, splits
from launcher.http.endpoint import Endpoint
from launcher.http.server import BY_LENGTH, CHUNKED
from launcher.http.upstream import ResponseHead, UpstreamConnection

#: Flags in the first byte of an input.
HEAD: Final = 1
"""The request was a HEAD."""
UPGRADE: Final = 2
"""The request asked for an Upgrade."""
BREAKS: Final = 4
"""The connection breaks at the end; else it ends cleanly."""
RAW: Final = 8
"""The client's side is chunked, too."""
STAYS: Final = 16
"""The connection stays open at the end."""

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOP_BY_HOP: Final = (b"connection:", b"keep-alive:", b"te:", b"trailer:", b"transfer-encoding:")


class Sink:
    """Where the body goes."""

    def __init__(self, framing: int) -> None:
        self.framing = framing
        self.body = bytearray()

    def push(self, data: bytes) -> bool:
        self.body += data
        return True

    def push_chunks(self, data: bytes, payload: int) -> None:
        if self.framing != CHUNKED:
            raise Finding("chunks for a sink that isn't chunked")
        taken = 0
        while data:
            size, _, rest = data.partition(b"\r\n")
            length = int(size, 16)
            if not length or rest[length : length + 2] != b"\r\n":
                raise Finding(f"these aren't whole chunks: {data!r}")
            self.body += rest[:length]
            taken += length
            data = rest[length + 2 :]
        if taken != payload:
            raise Finding(f"{taken} bytes of payload, not {payload}")

    def flush(self) -> None:
        """Nothing waits here."""


class Exchange:
    """Takes down what it is told."""

    def __init__(self, framing: int) -> None:
        self.interims: list[int] = []
        self.head: ResponseHead | None = None
        self.sink = Sink(framing)
        self.ends: list[str] = []

    def on_interim(self, head: ResponseHead) -> None:
        self._open()
        if self.head is not None:
            raise Finding("an interim head behind the final one")
        check_head(head)
        self.interims.append(head.status)

    def on_head(self, head: ResponseHead) -> Sink:
        self._open()
        if self.head is not None:
            raise Finding("a second final head")
        check_head(head)
        self.head = head
        return self.sink

    def on_complete(self) -> None:
        self._open()
        if self.head is None:
            raise Finding("complete without a head")
        self.ends.append("complete")

    def on_failed(self, error: Exception) -> None:
        self._open()
        self.ends.append("failed")

    def _open(self) -> None:
        if self.ends:
            raise Finding(f"told of something behind its end: {self.ends}")


def check_head(head: ResponseHead) -> None:
    """Raise Finding for a head that must not travel on."""
    if not 100 <= head.status <= 999:
        raise Finding(f"status {head.status}")
    lengths = 0
    for line in (head.first, *head.lines):
        lower = line.lower()
        if _CONTROL.search(line):
            raise Finding(f"a control character in {line!r}")
        if lower.startswith(_HOP_BY_HOP) or lower.startswith(b"proxy-"):
            raise Finding(f"hop by hop: {line!r}")
        lengths += lower.startswith(b"content-length:")
    if lengths > 1 or (head.framing == CHUNKED and lengths):
        raise Finding(f"ambiguous framing: {head.lines}")
    if head.framing == BY_LENGTH and head.length < 0:
        raise Finding("by a length that isn't there")


class Reference:
    """llhttp in strict mode, fed the whole response. It can't be told of a HEAD."""

    def __init__(self, data: bytes, *, ends: bool) -> None:
        self.status = 0
        self.body = b""
        self.complete = False
        self.error = ""
        self._interim = False
        self._parser = HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            self.error = repr(error)
        if ends and not self.complete and not self.error and self.status:
            # httptools can't be told of the end; a body without a length ends with it.
            self.complete = self._by_close

    _by_close = False

    def on_message_begin(self) -> None:
        if not self.complete:
            self._framed = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        if not self.complete:
            self.status = self._parser.get_status_code()
            self._by_close = not self._framed and self.status >= 200

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.body += data

    def on_message_complete(self) -> None:
        if self.status >= 200 or self.status == 101:
            self.complete = True


async def observed(pieces: tuple[bytes, ...], flags: int, loop: Loop) -> tuple[object, ...]:
    """Feed a connection. Raises Finding."""
    exchange = Exchange(CHUNKED if flags & RAW else BY_LENGTH)
    connection = UpstreamConnection(Endpoint("192.0.2.2", 80))
    wire = Wire(connection)
    connection.begin(exchange, "HEAD" if flags & HEAD else "GET", upgrade=bool(flags & UPGRADE))
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    for piece in pieces:
        wire.deliver(piece)
        await settle(2)
    switched = exchange.head is not None and exchange.head.status == 101
    reusable = connection.reusable
    behind = b""
    if switched and not flags & UPGRADE:
        raise Finding("switched without being asked")
    if switched and not exchange.ends:
        _, behind, _ = connection.detach()
    if not flags & STAYS:
        if flags & BREAKS:
            wire.lose(ConnectionResetError())
        else:
            wire.end()
        await settle(4)
        if not switched and len(exchange.ends) != 1:
            raise Finding(f"ended {exchange.ends}")
    wire.close()
    await settle(4)
    if loop.errors:
        raise Finding(f"an exception: {loop.errors}")
    if not switched and len(exchange.ends) != 1:
        raise Finding(f"ended {exchange.ends} after its connection")
    head = exchange.head
    found = None if head is None else (head.first, tuple(head.lines), head.framing)
    return (exchange.interims, found, bytes(exchange.sink.body), exchange.ends, reusable, behind)


def check(loop: Loop, data: bytes) -> None:
    """One input: flags, a number to split by, then the bytes. Raises Finding."""
    if len(data) < 3:
        return
    flags, seed, stream = data[0], data[1], data[2:]
    asyncio.set_event_loop(loop)
    loop.errors.clear()
    first: tuple[object, ...] | None = None
    for pieces in splits(stream, seed):
        seen = loop.run_until_complete(observed(pieces, flags, loop))
        if first is None:
            first = seen
            _compare(seen, stream, flags)
        elif seen != first:
            raise Finding(f"by how it is cut: {first} or {seen} ({pieces})")


def _compare(seen: tuple[object, ...], stream: bytes, flags: int) -> None:
    """What was taken as whole has to be whole to llhttp, too."""
    _, head, body, ends, reusable, _ = seen
    if ends != ["complete"] or flags & HEAD:
        return
    reference = Reference(stream, ends=not flags & (BREAKS | STAYS))
    if not reference.complete:
        raise Finding(f"complete, but not to llhttp: {reference.error}, {head}")
    if reference.body != body:
        raise Finding(f"llhttp reads the body {reference.body!r}, taken was {body!r}")
    if reusable and reference.error:
        raise Finding(f"reusable behind what llhttp refuses: {reference.error}")
