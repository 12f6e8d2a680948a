"""What a client's connection makes of any bytes, however they are cut into pieces."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from bench.fuzz.wire import Finding, Loop, Wire, settle, splits
from launcher.http.server import ClientConnection, Limits, Request, Shared

#: Flags in the first byte of an input.
STUBBORN: Final = 1
"""The client is behind after each write."""
HASTY: Final = 2
"""The answer is given before the body is read."""
LEAVES: Final = 4
"""The client half-closes at the end."""
NARROW: Final = 8
"""Bodies are slowed down after a few bytes that nobody has read."""

LIMITS: Final = Limits(head_timeout=30.0, body_timeout=60.0, keepalive=75.0, max_head=4096)
_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|([\w.~-]|%[0-9A-Fa-f]{2})+)(:[0-9]{0,5})?")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass
class Message:
    """A request as somebody understood it."""

    method: bytes = b""
    target: bytes = b""
    version: str = ""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    upgrade: bytes | None = None

    @property
    def meaning(self) -> tuple[object, ...]:
        """What has to be equal."""
        return (self.method, self.target, self.version, tuple(self.headers), self.body)

    def values(self, name: bytes) -> list[bytes]:
        """Of the headers of this name."""
        return [value for key, value in self.headers if key.lower() == name]


class Reference:
    """llhttp in strict mode, fed the whole stream."""

    def __init__(self, data: bytes) -> None:
        self.messages: list[Message] = []
        self.error = ""
        self._in_head = True
        self._current = Message()
        while data:
            self._parser = HttpRequestParser(self)
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                continue
            except HttpParserError as error:
                self.error = repr(error)
            break

    def on_message_begin(self) -> None:
        self._current = Message()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._current.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._current.headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._current.method = self._parser.get_method()
        self._current.version = self._parser.get_http_version()

    def on_body(self, data: bytes) -> None:
        self._current.body += data

    def on_message_complete(self) -> None:
        self.messages.append(self._current)


@dataclass
class Outcome:
    """What a connection made of a stream."""

    whole: list[Message]
    """Requests whose body was read to its end."""
    begun: int
    """Requests that somebody was given."""
    statuses: list[bytes]
    ended: bool
    """The connection said that it ends."""

    @property
    def meaning(self) -> tuple[object, ...]:
        """What may not depend on how the stream was cut. With which words something is refused
        may: what is known of it then differs."""
        statuses = [status if status < b"400" else b"refused" for status in self.statuses]
        return ([one.meaning for one in self.whole], statuses, self.ended)


async def observed(pieces: tuple[bytes, ...], flags: int, loop: Loop) -> Outcome:
    """Feed a connection and answer every request. Raises Finding."""
    whole: list[Message] = []
    begun: list[Request] = []

    async def answer(request: Request) -> None:
        line = request.line
        found = Message(
            line.method.encode(),
            line.target,
            f"{line.version[0]}.{line.version[1]}",
            [(one.name, one.value) for one in request.fields],
            upgrade=request.upgrade,
        )
        if flags & HASTY:
            await request.respond(200, b"OK", ((b"Content-Length", b"2"),))
            await request.write(b"ok")
            await request.finish()
            whole.append(found)
            return
        while data := await request.read():
            found.body += data
        whole.append(found)
        await request.respond(200, b"OK", ())
        await request.write(b"ok")
        await request.finish()

    def on_request(request: Request) -> None:
        begun.append(request)
        if flags & NARROW:
            request.high_water = 16
        request.carry(answer(request))

    shared = Shared(on_request, LIMITS)
    connection = ClientConnection(shared)
    wire = Wire(connection, stubborn=bool(flags & STUBBORN))
    for piece in pieces:
        wire.deliver(piece)
        await settle(2)
    # As long as answers come, there may be more of them.
    size = -1
    while size != len(wire.written):
        size = len(wire.written)
        await settle(40)
    ended = wire.is_closing() or wire.half_closed
    statuses = _statuses(bytes(wire.written), whole)
    if flags & LEAVES:
        wire.end()
        await settle(40)
    for _ in range(4):
        if wire.lost:
            break
        loop.now += 80.0
        connection.sweep(loop.now)
        await settle(40)
    if not wire.lost:
        raise Finding(f"it hangs: {connection!r}, {connection.request!r}")
    if shared.connections or shared.requests:
        raise Finding(f"it leaves something behind: {shared.connections}, {shared.requests}")
    if loop.errors:
        raise Finding(f"an exception: {loop.errors}")
    return Outcome(whole, len(begun), statuses, ended)


def _statuses(written: bytes, whole: list[Message]) -> list[bytes]:
    """Of the final responses, in order. What was written is ours, and so is well-formed."""
    found: list[bytes] = []
    for head in re.findall(rb"HTTP/1\.1 (\d{3}) ", written):
        if head != b"100":
            found.append(head)
    return found


def check_message(one: Message) -> None:
    """Raise Finding for a request that the table of docs and RFC 9112 forbid."""
    lengths, codings = one.values(b"content-length"), one.values(b"transfer-encoding")
    if one.version not in ("1.0", "1.1"):
        raise Finding(f"accepted HTTP/{one.version}")
    if lengths and codings:
        raise Finding("accepted Content-Length and Transfer-Encoding")
    if codings and (one.version == "1.0" or [c.lower() for c in codings] != [b"chunked"]):
        raise Finding(f"accepted Transfer-Encoding {codings} on HTTP/{one.version}")
    if len(lengths) > 1 or not all(re.fullmatch(rb"[0-9]+", length) for length in lengths):
        raise Finding(f"accepted Content-Length {lengths}")
    hosts = one.values(b"host")
    if len(hosts) > 1 or (not hosts and one.version == "1.1"):
        raise Finding(f"accepted Hosts {hosts}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise Finding(f"accepted Host {hosts[0]!r}")
    for name, value in one.headers:
        if not _TOKEN.fullmatch(name) or _CONTROL.search(value):
            raise Finding(f"accepted header {name!r}: {value!r}")
    if not re.fullmatch(rb"(/|(?i:https?)://)[\x21-\x7e]*", one.target) or b"#" in one.target:
        raise Finding(f"accepted target {one.target!r}")
    path = one.target.partition(b"?")[0]
    if b"\\" in path or b"%00" in path:
        raise Finding(f"accepted path {path!r}")
    if one.upgrade is not None and (codings or any(int(length) for length in lengths)):
        raise Finding("accepted an Upgrade with a body")


def check(loop: Loop, data: bytes) -> None:
    """One input: flags, a number to split by, then the bytes. Raises Finding."""
    if len(data) < 3:
        return
    flags, seed, stream = data[0], data[1], data[2:]
    asyncio.set_event_loop(loop)
    loop.errors.clear()
    reference = Reference(stream)
    first: Outcome | None = None
    for pieces in splits(stream, seed):
        seen = loop.run_until_complete(observed(pieces, flags, loop))
        if len(seen.whole) > len(reference.messages) and not flags & HASTY:
            raise Finding(
                f"accepted a request that llhttp doesn't: {reference.error},"
                f" {seen.whole[len(reference.messages)]}"
            )
        for one, other in zip(seen.whole, reference.messages, strict=False):
            check_message(one)
            if flags & HASTY:
                # Its body wasn't read.
                other = Message(other.method, other.target, other.version, other.headers)
            if one.meaning != other.meaning:
                raise Finding(f"llhttp reads {other}, accepted was {one}")
        if flags & HASTY:
            # How much of a body is there when its answer ends decides what becomes of it.
            continue
        if first is None:
            first = seen
        elif seen.meaning != first.meaning:
            raise Finding(f"by how it is cut: {first.meaning} or {seen.meaning} ({pieces})")
