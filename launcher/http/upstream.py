"""A connection to a backend, one exchange after the other.

It writes what it is given, and hands the response's head to the exchange and its body to the
client's side (the sink) in the turn of the loop in which they came. Heads are read by llhttp, one
parser for each; bodies are counted or walked here.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from typing import Final, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from launcher.http.chunked import ChunkedReader, ChunkError, whole_chunks
from launcher.http.endpoint import Endpoint
from launcher.http.errors import ClientDisconnected, RemoteProtocolError, UpstreamDisconnected
from launcher.http.headers import (
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    DATE,
    HOP_BY_HOP,
    KEEP_ALIVE,
    LONGEST_LENGTH,
    PLAIN,
    TRANSFER_ENCODING,
    UPGRADE,
    Field,
    FieldTable,
    HeadMemory,
    RawHeaders,
    connection_options,
)
from launcher.http.server import BY_CLOSE, BY_LENGTH, CHUNKED, NO_BODY

#: Bytes of heads, interim ones included, that a backend may send before its final one ends.
MAX_HEAD: Final = 256 * 1024
#: Bytes behind a 101 that wait for the tunnel before nothing more is read.
HIGH_WATER: Final = 64 * 1024
#: At most this much is read from a connection whose writing side broke (see `_rescue`).
_RESCUED: Final = 256 * 1024
_BLOCK: Final = 64 * 1024

#: RFC 9112 §4; a reason is optional, and has no control characters but HTAB.
_STATUS_LINE: Final = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?"
)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")

_fields = FieldTable()
"""Header lines of responses by their bytes."""


class ResponseHead:
    """An interim or final head."""

    __slots__ = (
        "dated",
        "first",
        "framing",
        "keep_alive",
        "length",
        "lines",
        "reason",
        "status",
        "upgrade",
    )

    def __init__(self, first: bytes, status: int, reason: bytes) -> None:
        self.first = first
        """The status line as it goes on, in our own version (RFC 9110 §2.5)."""
        self.status = status
        self.reason = reason
        self.lines: list[bytes] = []
        """The header lines that travel on, in their order; Content-Length included."""
        self.length = -1
        """The Content-Length; -1: there is none."""
        self.framing = NO_BODY
        """How the backend frames the body."""
        self.dated = False
        self.keep_alive = False
        self.upgrade: bytes | None = None
        """What the backend switches to, on a 101."""

    def with_fields(self, memory: HeadMemory) -> ResponseHead:
        """Return the same head with the fields that `memory` saw last."""
        head = ResponseHead(self.first, self.status, self.reason)
        lines = head.lines = self.lines.copy()
        for index in memory.varying:
            lines[index] = memory.fields[index].line
        head.length = memory.length
        head.framing = self.framing
        head.dated = self.dated
        head.keep_alive = self.keep_alive
        return head

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status}>"

    @property
    def headers(self) -> RawHeaders:
        """The lines as names and values."""
        found = []
        for line in self.lines:
            name, _, value = line.partition(b": ")
            found.append((name, value))
        return tuple(found)

    def value_of(self, name: bytes) -> bytes:
        """Return the first value of a header (`name` in lower case with its colon and space),
        or b""."""
        for line in self.lines:
            if line[: len(name)].lower() == name:
                return line[len(name) :]
        return b""


class Sink(Protocol):
    """Where a response's body goes."""

    framing: int

    def push(self, data: bytes) -> bool:
        """Take a piece; False where the client is behind."""
        ...

    def push_chunks(self, data: bytes, payload: int) -> None:
        """Take whole chunks as they are, where `framing` is CHUNKED."""
        ...

    def flush(self) -> None:
        """Nothing more comes for now."""
        ...


class Exchange(Protocol):
    """Who sent the request, and is told of its response."""

    def on_interim(self, head: ResponseHead) -> None:
        """An interim (1xx) head."""
        ...

    def on_head(self, head: ResponseHead) -> Sink:
        """The final head; return where its body goes."""
        ...

    def on_complete(self) -> None:
        """The response is whole."""
        ...

    def on_failed(self, error: Exception) -> None:
        """It isn't, and won't be: RemoteProtocolError, ConnectionError, or what was given to
        `fail`."""
        ...


_IDLE, _HEAD, _BODY, _DONE, _SWITCHED = range(5)
_STATES: Final = ("idle", "head", "body", "done", "switched")


class UpstreamConnection(asyncio.Protocol):
    """An open connection. `begin` before each exchange."""

    __slots__ = (
        "_chunks",
        "_drained",
        "_ended",
        "_exchange",
        "_framing",
        "_head_bytes",
        "_head_whole",
        "_input",
        "_keep_alive",
        "_left",
        "_loop",
        "_memory",
        "_method",
        "_on_lost",
        "_paused",
        "_raw",
        "_reading_paused",
        "_sink",
        "_state",
        "_surplus",
        "_transport",
        "_upgrade",
        "endpoint",
        "exchanges",
        "idle_since",
        "last",
        "received",
        "sending",
    )

    def __init__(
        self, endpoint: Endpoint, on_lost: Callable[[UpstreamConnection], None] | None = None
    ) -> None:
        self.endpoint = endpoint
        self.exchanges = 0
        """How many were begun on it."""
        self.idle_since = 0.0
        self.received = False
        """A byte of the current response has come."""
        self.sending = False
        """Set by the sender while a part of the request is still to be sent."""
        self.last = False
        """Set by the sender where no other exchange may follow."""
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._sink: Sink | None = None
        self._state = _IDLE
        self._method = ""
        self._memory: HeadMemory | None = None
        self._upgrade = False
        self._input = b""
        """Of a head that isn't whole, or behind a 101."""
        self._head_bytes = 0
        self._head_whole = False
        self._framing = NO_BODY
        self._left = 0
        self._chunks: ChunkedReader | None = None
        self._raw = False
        """Whole chunks can go on as they are."""
        self._keep_alive = False
        self._surplus = False
        """More came than the response: the connection is not to be trusted any more."""
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self._reading_paused = False
        self._ended = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else _STATES[self._state]
        return f"<UpstreamConnection {self.endpoint} {state}>"

    # -- for the pool ----------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Nothing can be sent on it."""
        return self._transport is None or self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """The exchange ended so that another may follow: both sides whole, nothing more."""
        transport = self._transport
        return (
            self._state == _DONE
            and self._keep_alive
            and not self._surplus
            and not self.sending
            and not self.last
            and not self._ended
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    def rest(self, now: float) -> None:
        """No exchange runs; what comes now closes it."""
        self._exchange = None
        self._sink = None
        self._state = _IDLE
        self.idle_since = now
        if self._reading_paused:
            self.resume_reading()

    def drop(self) -> None:
        """Close at once; what wasn't sent is dropped, and nobody is told."""
        self._exchange = None
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    # -- an exchange -----------------------------------------------------------------------

    def begin(self, exchange: Exchange, method: str, *, upgrade: bool = False) -> None:
        """Expect the response to a request that is sent next."""
        self.exchanges += 1
        self.received = False
        self._exchange = exchange
        self._method = method
        self._upgrade = upgrade
        self._state = _HEAD
        self._head_bytes = 0
        self._surplus = False

    def send(self, data: bytes) -> None:
        """Write without waiting. Raises UpstreamDisconnected where nothing of it can leave."""
        if self._transport is None or self._transport.is_closing():
            raise UpstreamDisconnected("it closed the connection")
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the backend has taken enough of what was sent. One task at a time."""
        if self._paused and not self.closed:
            self._drained = self._loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None
        if self.closed:
            raise UpstreamDisconnected("it closed the connection")

    def fail(self, error: Exception) -> None:
        """End the exchange from this side: it is told `error`."""
        exchange, self._exchange = self._exchange, None
        if self._transport is not None:
            self._transport.abort()
        if exchange is not None:
            exchange.on_failed(error)

    def detach(self) -> tuple[asyncio.Transport, bytes, bool]:
        """After a 101: return the transport, what came behind the head, and whether the backend
        has ended its side already. The caller sets another protocol before it awaits anything.
        Raises UpstreamDisconnected where the backend is gone."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise UpstreamDisconnected("it closed the connection")
        leftover, self._input = self._input, b""
        if self._reading_paused:
            self.resume_reading()
        return transport, leftover, self._ended

    # -- called by the loop ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected (with TLS: the handshake is done)."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of the response; without an exchange they belong to nothing."""
        exchange = self._exchange
        if exchange is None:
            self._abort()
            return
        state = self._state
        self.received = True
        try:
            if state == _BODY:
                if self._raw and (payload := whole_chunks(data)):
                    self._sink.push_chunks(data, payload)  # type: ignore[union-attr]
                    return
                self._take_body(data)
            elif state == _HEAD:
                self._take_head(data)
            elif state == _SWITCHED:
                self._input += data
                if len(self._input) > HIGH_WATER:
                    self.pause_reading()
            else:
                self._surplus = True
        except (RemoteProtocolError, ClientDisconnected) as error:
            self.fail(error)

    def eof_received(self) -> bool:
        """The backend closed its side. Unless HTTP is over (101), so does the transport then."""
        self._ended = True
        if self._state == _SWITCHED:
            return self._transport is not None and self._transport.can_write_eof()
        exchange = self._exchange
        if exchange is not None:
            if self._state == _BODY and self._framing == BY_CLOSE:
                self._complete()
            elif self._state in (_HEAD, _BODY):
                self.fail(
                    UpstreamDisconnected("it closed the connection in the middle of its response")
                )
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by either side; `exc` where it ended badly. A body that ends with the
        connection is whole only where a clean end came before (`eof_received`)."""
        error: Exception | None = None
        if self._exchange is not None and self._state in (_HEAD, _BODY):
            if isinstance(exc, OSError):
                error = self._rescue()
            if error is None:
                error = UpstreamDisconnected(
                    "it closed the connection" if exc is None else f"it broke the connection: {exc}"
                )
        self._transport = None
        self._paused = False
        self._input = b""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._on_lost is not None:
            self._on_lost(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None and error is not None and self._state != _DONE:
            exchange.on_failed(error)

    def pause_writing(self) -> None:
        """The backend is behind."""
        self._paused = True

    def resume_writing(self) -> None:
        """The backend has caught up."""
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def pause_reading(self) -> None:
        """The client is behind: the backend is slowed down."""
        if not self._reading_paused and not self.closed and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """The client has caught up."""
        self._reading_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- the head ----------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        """llhttp has read a whole head."""
        self._head_whole = True

    def _take_head(self, data: bytes) -> None:
        """Take heads out of what has come, up to the final one. Raises RemoteProtocolError."""
        while data:
            if self._input:
                data = self._input + data
                self._input = b""
            elif data[0] in b"\r\n":
                # Line ends before a status line are ignored, as those before a request line.
                data = data.lstrip(b"\r\n")
                continue
            memory = None if self._method == "HEAD" else self._memory
            size = 0 if memory is None else memory.find(data)
            known = size > 0
            if not known:
                end = data.find(b"\r\n\r\n")
                size = len(data) if end < 0 else end + 4
            if self._head_bytes + size > MAX_HEAD:
                raise RemoteProtocolError(
                    f"the head of its response is larger than {MAX_HEAD} bytes"
                )
            if not known:
                if end < 0:
                    # Nothing that could still become a head is waited for in vain.
                    self._check_head(data)
                    self._input = data
                    return
                lines = data[:end].split(b"\r\n")
                known = memory is not None and memory.match(lines)
            self._head_bytes += size
            if known:
                assert memory is not None
                if memory.unread:
                    self._check_head(data[:size])
                head = memory.parsed
                if memory.varying:
                    head = memory.parsed = head.with_fields(memory)
            else:
                self._head_whole = False
                self._check_head(data if size == len(data) else data[:size])
                if not self._head_whole:
                    raise RemoteProtocolError("its response can't be parsed")
                head = self._parsed(lines)
            data = data[size:]
            exchange = self._exchange
            assert exchange is not None
            if head.status < 200 and head.status != 101:
                exchange.on_interim(head)
                if self._exchange is None:
                    return
                continue
            self._final(exchange, head, data)
            return

    def _check_head(self, head: bytes) -> None:
        try:
            HttpResponseParser(self).feed_data(head)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            if _CONTROL.search(head):
                raise RemoteProtocolError("it sent control characters in its headers") from None
            raise RemoteProtocolError(f"its response can't be parsed: {error}") from None

    def _parsed(self, lines: list[bytes]) -> ResponseHead:
        """Read a head's lines and decide how its body is framed (RFC 9112 §6.3). Raises
        RemoteProtocolError."""
        match = _STATUS_LINE.fullmatch(lines[0])
        if match is None:
            raise RemoteProtocolError("its response can't be parsed: no status line of HTTP/1")
        minor, digits, reason = match.groups()
        http10 = minor == b"0"
        status = int(digits)
        reason = reason or b""
        head = ResponseHead(b"HTTP/1.1 %b %b" % (digits, reason), status, reason)
        out = head.lines
        kept = _fields.kept
        special: list[Field] = []
        fields: list[Field] = []
        for raw in lines[1:]:
            field = kept.get(raw) or _fields.read(raw)
            if field is None:
                raise RemoteProtocolError("its response can't be parsed: no header line")
            fields.append(field)
            kind = field.kind
            if kind in (PLAIN, CONTENT_TYPE):
                out.append(field.line)
            elif kind == CONTENT_LENGTH:
                digits = field.value
                if head.length >= 0 or len(digits) > LONGEST_LENGTH or not digits.isdigit():
                    raise RemoteProtocolError("its Content-Length isn't one decimal number")
                head.length = int(digits)
                out.append(field.line)
            elif kind == DATE:
                head.dated = True
                out.append(field.line)
            elif kind in (HOP_BY_HOP, KEEP_ALIVE):
                if kind == KEEP_ALIVE:
                    special.append(field)
            elif kind in (CONNECTION, TRANSFER_ENCODING, UPGRADE):
                special.append(field)
            else:
                out.append(field.line)
        if status == 101 or status in (204, 304) or self._method == "HEAD":
            head.framing = NO_BODY
        elif head.length >= 0:
            head.framing = BY_LENGTH
        else:
            head.framing = BY_CLOSE
        head.keep_alive = not http10 and head.framing != BY_CLOSE
        if special:
            self._read_special(head, special, http10)
        if head.framing == NO_BODY and (
            head.length > 0 or any(field.kind == TRANSFER_ENCODING for field in special)
        ):
            # A backend that sends the body nevertheless would have it read as the next response.
            head.keep_alive = False
        if status == 101:
            if not self._upgrade or head.upgrade is None:
                raise RemoteProtocolError("it switched to a protocol that nobody asked for")
        elif status < 200:
            if head.length >= 0:
                raise RemoteProtocolError("it gave an interim response a body")
            if http10 or b"close" in connection_options(fields):
                raise RemoteProtocolError("it ended the connection with an interim response")
        # Of these alone it doesn't depend on the request what they mean.
        usual = status == 200 and self._method != "HEAD" and not special
        all_travel = len(out) == len(fields)
        self._memory = (
            HeadMemory(lines, fields, head.length, head) if usual and all_travel else None
        )
        return head

    def _read_special(self, head: ResponseHead, fields: list[Field], http10: bool) -> None:
        codings = [field.value for field in fields if field.kind == TRANSFER_ENCODING]
        if codings:
            if http10 or len(codings) > 1 or codings[0].lower() != b"chunked":
                raise RemoteProtocolError("it used a transfer coding other than `chunked`")
            if head.length >= 0:
                raise RemoteProtocolError("it sent Content-Length and Transfer-Encoding")
            if head.status < 200 and head.status != 101:
                raise RemoteProtocolError("it gave an interim response a body")
            if head.framing == BY_CLOSE:
                head.framing = CHUNKED
        upgrades = [field.value for field in fields if field.kind == UPGRADE]
        if upgrades:
            head.upgrade = b", ".join(upgrades)
        options = connection_options(fields)
        if head.framing != BY_CLOSE:
            kept = any(field.kind == KEEP_ALIVE for field in fields) or b"keep-alive" in options
            head.keep_alive = b"close" not in options and (kept or not http10)
        # Content-Length frames the body here and now, whatever Connection says of it.
        named = options - {b"content-length", b"close", b"keep-alive", b"upgrade"}
        if named:
            head.lines = [
                line for line in head.lines if line.partition(b":")[0].lower() not in named
            ]

    def _final(self, exchange: Exchange, head: ResponseHead, rest: bytes) -> None:
        self._keep_alive = head.keep_alive
        framing = self._framing = head.framing
        if head.status == 101:
            self._state = _SWITCHED
            self._input = rest
            exchange.on_head(head)
            return
        sink = self._sink = exchange.on_head(head)
        if self._exchange is None:
            return
        if framing == NO_BODY or (framing == BY_LENGTH and not head.length):
            self._surplus = bool(rest)
            self._complete()
            return
        self._state = _BODY
        self._left = head.length
        if framing == CHUNKED:
            self._chunks = ChunkedReader()
            self._raw = sink.framing == CHUNKED
        if rest:
            self._take_body(rest)
        if self._exchange is exchange and self._state == _BODY:
            sink.flush()

    # -- the body ------------------------------------------------------------------------------

    def _take_body(self, data: bytes) -> None:
        """Hand on a piece of the body. Raises RemoteProtocolError."""
        sink = self._sink
        assert sink is not None
        framing = self._framing
        if framing == BY_LENGTH:
            left = self._left - len(data)
            if left < 0:
                self._surplus = True
                data = data[:left]
                left = 0
            self._left = left
            sink.push(data)
            if not left:
                self._complete()
        elif framing == CHUNKED:
            chunks = self._chunks
            assert chunks is not None
            pieces: list[bytes] = []
            fault = ""
            end = len(data)
            try:
                end = chunks.feed(data, pieces)
            except ChunkError as error:
                fault = str(error)
            if pieces:
                sink.push(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            if fault:
                raise RemoteProtocolError(f"its response can't be parsed: {fault}")
            if chunks.done:
                self._surplus = end < len(data)
                self._complete()
            else:
                self._raw = sink.framing == CHUNKED and chunks.between_chunks
        else:
            sink.push(data)

    def _complete(self) -> None:
        self._state = _DONE
        self._raw = False
        self._chunks = None
        exchange = self._exchange
        if exchange is not None:
            exchange.on_complete()

    # -- inside --------------------------------------------------------------------------------

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _rescue(self) -> Exception | None:
        """Read what the kernel still holds of the response; return the fault found in it.

        A backend that refuses an upload answers and closes; a write then fails, and the loop
        drops the connection unread, although Linux keeps what had come before the reset. The
        socket is closed only after `connection_lost`.
        """
        transport = self._transport
        if transport is None or transport.get_extra_info("ssl_object"):
            return None
        sock = transport.get_extra_info("socket")
        taken = 0
        while (
            sock is not None
            and sock.fileno() >= 0
            and taken < _RESCUED
            and self._exchange is not None
            and self._state in (_HEAD, _BODY)
        ):
            try:
                data = os.read(sock.fileno(), _BLOCK)
            except OSError:
                # Nothing there (would block), or the reset itself.
                break
            if not data:
                break
            taken += len(data)
            self.received = True
            try:
                if self._state == _HEAD:
                    self._take_head(data)
                else:
                    self._take_body(data)
            except (RemoteProtocolError, ClientDisconnected) as error:
                return error
        return None
