"""A client's connection and the request that is under way on it.

`ClientConnection` is fed by the loop and hands out one `Request` after another; a `Request` takes
its body in and its response out. Both are read in the order in which bytes arrive. Nothing here
needs a task, a future or a coroutine; whoever has to wait runs a coroutine of its own (`carry`)
and uses the methods of `Request` that are awaited.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final, Protocol, cast

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from launcher import tasks
from launcher.errors import LauncherError, render
from launcher.http.chunked import ChunkedReader, ChunkError, TrailersTooLarge
from launcher.http.errors import ClientDisconnected
from launcher.http.headers import (
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    KEEP_ALIVE,
    LONGEST_LENGTH,
    TRANSFER_ENCODING,
    Field,
    FieldTable,
    HeadMemory,
    RawHeaders,
    RequestHead,
    RequestLine,
    RequestLineTable,
    body_framing,
    broken_rules,
    by_name,
    check_host,
    connection_options,
    too_large,
    wanted_protocol,
    wrong_version,
)

log = logging.getLogger(__name__)

#: How long a client may go on sending after a response that ends its connection, or take to
#: fetch the last of one that was cut. Seconds.
LINGER: Final = 5.0
#: The largest piece that `Request.read` returns, in bytes.
PIECE: Final = 256 * 1024
#: Pieces up to this many bytes are joined with what comes behind them.
SMALL_PIECE: Final = 16 * 1024
#: An unread rest of a body up to this many bytes is taken in so that the connection can be kept.
SMALL_REST: Final = 64 * 1024
#: Bytes of a body that wait for who reads it before the client is slowed down.
HIGH_WATER: Final = 256 * 1024
#: Bytes behind a request that is under way before nothing more is read.
READ_BEHIND: Final = 64 * 1024
#: Header lines of a request, at most.
MOST_FIELDS: Final = 128
#: Seconds between two sweeps over all connections, at most.
SWEEP: Final = 1.0
#: How far to read ahead of a handler that doesn't read, per connection and in all, so that a
#: client's hang-up is seen. By Linux's default (tcp_wmem) no more than 4 MiB wait in its kernel.
READ_AHEAD: Final = 8 * 1024 * 1024
READ_AHEAD_IN_ALL: Final = 64 * 1024 * 1024

#: How the client knows where the body ends (RFC 9112 §6.3).
NO_BODY, BY_LENGTH, CHUNKED, BY_CLOSE = range(4)

#: Of this connection, not of the answer: written by us where needed, dropped otherwise.
_OURS: Final = frozenset({b"connection", b"keep-alive", b"transfer-encoding"})

_HUNG_UP: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask of us. Seconds and bytes."""

    head_timeout: float = 30.0
    body_timeout: float = 60.0
    keepalive: float = 75.0
    max_head: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Detached:
    """A client's connection taken out of HTTP, for a tunnel. Its reading is on: `set_protocol`
    has to be called before anything is awaited."""

    transport: asyncio.Transport
    leftover: bytes
    """What had arrived behind the head."""


class Source(Protocol):
    """Whoever a response comes from."""

    def pause_reading(self) -> None:
        """The client is behind."""
        ...

    def resume_reading(self) -> None:
        """The client has caught up."""
        ...


class Carrier(Protocol):
    """Who carries a request without a task of its own."""

    def client_gone(self) -> None:
        """The client left."""
        ...

    def tick(self, now: float) -> None:
        """About a second has passed."""
        ...

    def shut_down(self) -> None:
        """It isn't waited for any longer."""
        ...


class Shared:
    """What the connections of one server share."""

    def __init__(
        self,
        on_request: Callable[[Request], None],
        limits: Limits,
        fields: FieldTable | None = None,
    ) -> None:
        self.on_request = on_request
        """Who takes the next request; may be replaced at any time."""
        self.limits = limits
        self.fields = fields or FieldTable()
        self.lines = RequestLineTable()
        self.connections: set[ClientConnection] = set()
        self.requests: set[Request] = set()
        """Those under way, tunnels among them."""
        self.read_ahead = READ_AHEAD_IN_ALL
        """Bytes that may still be read ahead."""
        self.closing = False


class ClientConnection(asyncio.Protocol):
    """One connection, its requests one after the other."""

    __slots__ = (
        "_ahead",
        "_checked_host",
        "_drained",
        "_fed",
        "_head_whole",
        "_input",
        "_loop",
        "_memory",
        "_parser",
        "_seen_read",
        "_shared",
        "_since",
        "_unsent",
        "closed",
        "deaf",
        "lingering",
        "operators",
        "peer",
        "reading_paused",
        "request",
        "scheme",
        "transport",
        "writing_paused",
    )

    def __init__(self, shared: Shared, *, operators: bool = True) -> None:
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self.operators = operators
        """It came in at an address where operators' endpoints answer."""
        self.transport: asyncio.Transport = _NO_TRANSPORT
        self.peer = ""
        """The client's IP address, or `unix`."""
        self.scheme = "http"
        self.request: Request | None = None
        """The one that is under way, or whose body's rest is still coming in."""
        self.closed = True
        self.writing_paused = False
        self.reading_paused = False
        self.deaf = False
        """What still comes is dropped."""
        self.lingering = 0.0
        """When the connection is cut, while the client gets time to read the last answer."""
        self._input = b""
        """What has come and isn't part of a request yet."""
        self._parser: HttpRequestParser | None = None
        """Of a head that comes in pieces; it has seen `_fed` bytes of `_input`."""
        self._fed = 0
        self._head_whole = False
        self._since = 0.0
        """When the connection became idle, its head began to come in, or something of an unread
        answer went out last."""
        self._unsent = 0
        """Bytes that the client had still to take when that was looked at last."""
        self._checked_host = b" "
        self._memory: HeadMemory | None = None
        self._drained: asyncio.Future[None] | None = None
        self._ahead = 0
        """Bytes taken of what may be read ahead."""
        self._seen_read = -1

    def __repr__(self) -> str:
        state = "closed" if self.closed else "idle" if self.request is None else "busy"
        return f"<ClientConnection {self.peer} {state}>"

    # -- the connection's life -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected (on TLS: the handshake is done)."""
        self.transport = cast(asyncio.Transport, transport)
        self.closed = False
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else "unix"
        self._since = self._loop.time()
        self._shared.connections.add(self)
        if self._shared.closing:
            self.transport.close()

    def eof_received(self) -> None:
        """The client won't send any more: it has left, if an answer is still under way."""
        self.client_left()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone, whoever ended it."""
        self.closed = True
        self._shared.connections.discard(self)
        self._input = b""
        self._parser = None
        self._give_back()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        request, self.request = self.request, None
        if request is not None:
            request.connection_lost()

    def client_left(self) -> None:
        """It hung up: what is under way for it ends."""
        request = self.request
        if request is not None and not request.ended:
            request.gone = True
            # Not close(): that waits for a client which no longer reads.
            self.transport.abort()

    @property
    def idle(self) -> bool:
        """No request is here that would still be answered."""
        return self.request is None and not self._input and not self.lingering

    # -- what comes in ---------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """A request, a part of one, or several."""
        if self.deaf:
            return
        request = self.request
        if request is None:
            if self.writing_paused:
                # Answers without a body would pile up behind a client that only asks.
                self._hold(data)
                return
            if self._input:
                data = self._input + data
            self._read_head(data)
            return
        if not request.body_complete:
            data = request.feed(data)
        if data and not self.deaf:
            self._hold(data)
            if self.request is None and not self.writing_paused:
                # The end of its body was the end of the request, too.
                self._loop.call_soon(self._next)
        if request.skipping and request.body_complete:
            self._settled(request)

    def _hold(self, data: bytes) -> None:
        """Keep what belongs to the next request, or to the tunnel, until its turn comes."""
        self._input += data
        if len(self._input) > READ_BEHIND:
            self.pause_reading()

    def _read_head(self, data: bytes) -> None:
        """Take the next request out of what has come; `data` begins with its request line."""
        shared = self._shared
        limits = shared.limits
        fed = self._fed
        memory = self._memory
        if memory is not None and not fed:
            size = memory.find(data)
            if 0 < size <= limits.max_head and self._again(memory, data, size):
                return
        if not fed and data[0] in b"\r\n":
            # RFC 9112 §2.2: empty lines before a request line are ignored.
            data = data.lstrip(b"\r\n")
            if not data:
                return
        end = data.find(b"\r\n\r\n", fed - 3 if fed > 3 else 0)
        whole = end >= 0
        size = end + 4 if whole else len(data)
        if whole and not fed and memory is not None and size <= limits.max_head:
            lines = data[:end].split(b"\r\n")
            if memory.match(lines) and self._again(memory, data, size):
                return
        if size > limits.max_head:
            self._refuse(too_large(limits.max_head), data)
            return
        self._head_whole = False
        try:
            if fed or not whole:
                if self._parser is None:
                    self._parser = HttpRequestParser(self)
                    self._since = self._loop.time()
                self._parser.feed_data(data[fed:size])
            else:
                HttpRequestParser(self).feed_data(data if size == len(data) else data[:size])
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            self._refuse(_problem_of(error, data), data)
            return
        if not whole:
            if self._head_whole:
                # llhttp took another end for the end of the head.
                self._refuse(broken_rules(), data)
                return
            if data.count(b"\n") > MOST_FIELDS + 1:
                self._refuse(too_large(limits.max_head), data)
                return
            self._input = data
            self._fed = size
            return
        self._input = b""
        self._fed = 0
        self._parser = None
        try:
            if not self._head_whole:
                raise broken_rules()
            request = self._parsed(data[:size])
        except LauncherError as error:
            self._refuse(error, data)
            return
        self._begin(request, data, size)

    def _again(self, memory: HeadMemory, data: bytes, size: int) -> bool:
        """Take a request whose head `memory` knows; return False if llhttp can't read it."""
        if memory.unread and not self._reads(data, size):
            return False
        self._input = b""
        line, flags, host = memory.parsed
        request = Request(self, line, memory.fields, flags, host, memory.length)
        request.memory = memory
        self._begin(request, data, size)
        return True

    def _begin(self, request: Request, data: bytes, size: int) -> None:
        """Hand out a request, with what has come of its body behind `size` bytes of head."""
        shared = self._shared
        self.request = request
        shared.requests.add(request)
        if size < len(data):
            rest = data[size:]
            if not request.body_complete:
                rest = request.feed(rest)
                if request.body_error is not None:
                    # Nothing is started for a body that is malformed already.
                    self.request = None
                    shared.requests.discard(request)
                    self._refuse(request.body_error, data)
                    return
            if rest:
                self._hold(rest)
        if shared.closing:
            request.keep_alive = False
        shared.on_request(request)

    def _reads(self, data: bytes, size: int) -> bool:
        """Whether llhttp reads the first `size` bytes as one whole head."""
        self._head_whole = False
        try:
            HttpRequestParser(self).feed_data(data if size == len(data) else data[:size])
        except HttpParserError:
            self._memory = None
            return False
        return self._head_whole

    def on_headers_complete(self) -> None:
        """llhttp has read a whole head."""
        self._head_whole = True

    def _parsed(self, head: bytes) -> Request:
        """The request of a head, its empty line included. Raises LauncherError."""
        shared = self._shared
        lines = head[:-4].split(b"\r\n")
        first = lines[0]
        line = shared.lines.kept.get(first) or shared.lines.read(first)
        if len(lines) > MOST_FIELDS + 1:
            raise too_large(shared.limits.max_head)
        kept = shared.fields.kept
        fields: list[Field] = []
        flags = 0
        hosts = 0
        host = b""
        length = -1
        typed = special = False
        for raw in lines[1:]:
            field = kept.get(raw) or shared.fields.read(raw)
            if field is None:
                raise broken_rules("Invalid header line")
            fields.append(field)
            flags |= field.flags
            kind = field.kind
            if kind:
                if kind == HOST:
                    hosts += 1
                    host = field.value
                elif kind == CONTENT_LENGTH:
                    digits = field.value
                    if length >= 0 or len(digits) > LONGEST_LENGTH or not digits.isdigit():
                        raise LauncherError(
                            "bad_request", "Content-Length must be one decimal number."
                        )
                    length = int(digits)
                elif kind <= EXPECT:
                    special = True
                elif kind == CONTENT_TYPE:
                    if typed:
                        # We read the body by one of them, a backend might by the other.
                        raise LauncherError("bad_request", "Content-Type must be sent only once.")
                    typed = True
        if hosts != 1:
            if hosts or not line.http10:
                raise LauncherError("bad_request", "Exactly one Host header is needed.")
        elif host != self._checked_host:
            self._checked_host = check_host(host)
        if line.authority is not None:
            # RFC 9112 §3.2.2: an absolute-form target wins over Host.
            host = line.authority
        request = Request(self, line, fields, flags, host, length)
        if special or line.http10:
            self._memory = None
            _read_special(request)
        else:
            self._memory = HeadMemory(lines, fields, length, (line, flags, host))
            request.memory = self._memory
        return request

    def _refuse(self, error: LauncherError, head: bytes) -> None:
        """Nothing can be read from this client any more: `error` is the last answer."""
        self.deaf = True
        self._input = b""
        self._parser = None
        self._fed = 0
        self.transport.write(_refusal(error, head_only=head.startswith(b"HEAD ")))
        self._linger()

    # -- after a response ------------------------------------------------------------------

    def request_over(self, request: Request) -> None:
        """Nobody carries it any longer; go on with the next one, where there can be one."""
        self._shared.requests.discard(request)
        self._give_back()
        if self.request is not request:
            return
        if not request.finished or self.closed:
            self.request = None
            return
        keep = request.keep_alive and not self._shared.closing
        if not request.body_complete:
            rest = request.body_rest
            if keep and rest is not None and rest <= SMALL_REST and request.body_error is None:
                # What is still to come of it is in the way of the next request.
                request.skip_body()
                self._since = self._loop.time()
                self.resume_reading()
                return
        elif keep:
            self._settled(request)
            return
        self.request = None
        self.deaf = True
        self._input = b""
        done = request.body_complete and request.body_error is None
        if (done or request.framing == BY_CLOSE) and not self.transport.can_write_eof():
            # TLS has no other way to tell the client of the end.
            self.transport.close()
        else:
            self._linger()

    def _settled(self, request: Request) -> None:
        """The connection can carry another request."""
        self.request = None
        self._since = self._loop.time()
        if self._input and not self.writing_paused:
            # Others have their turn between two pipelined requests.
            self._loop.call_soon(self._next)
        elif self.reading_paused:
            self.resume_reading()

    def _next(self) -> None:
        """The request that came behind the last one."""
        if self.closed or self.deaf or self.request is not None or not self._input:
            return
        data, self._input = self._input, b""
        if len(data) <= READ_BEHIND:
            self.resume_reading()
        self._read_head(data)

    def _linger(self) -> None:
        """Let the client read the answer: wait for it to close (RFC 9112 §9.6), at most LINGER
        seconds in which it takes nothing. Closing while it still sends makes the kernel reset the
        connection and drop what the client hasn't read."""
        if self.closed or self.transport.is_closing():
            return
        self.lingering = self._loop.time() + LINGER
        self._unsent = self.transport.get_write_buffer_size()
        self.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    # -- flow control and deadlines ----------------------------------------------------------

    def pause_writing(self) -> None:
        """The client is behind by more than the transport's high-water mark (64 KiB)."""
        self.writing_paused = True
        request = self.request
        if request is not None and request.source is not None:
            request.source.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writing_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        request = self.request
        if request is None:
            if self._input and not self.deaf:
                self._loop.call_soon(self._next)
        elif request.source is not None:
            request.source.resume_reading()

    async def drained(self) -> None:
        """Wait while the client is behind. Raises ClientDisconnected."""
        while self.writing_paused and not self.closed:
            if self._drained is None or self._drained.done():
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)
        if self.closed:
            raise ClientDisconnected("the client left")

    def pause_reading(self) -> None:
        """Read nothing more for now."""
        if not self.reading_paused and not self.closed:
            self.reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self.reading_paused and not self.closed and not self.transport.is_closing():
            self.reading_paused = False
            self.transport.resume_reading()

    def sweep(self, now: float) -> None:
        """End what has taken too long; look for a hang-up where nothing is read."""
        if self.closed:
            return
        limits = self._shared.limits
        if self.lingering:
            if now >= self.lingering:
                unsent = self.transport.get_write_buffer_size()
                if unsent >= self._unsent:
                    self.transport.abort()
                    return
                self._unsent = unsent
                self.lingering = now + LINGER
            return
        request = self.request
        if request is None:
            if self._fed:
                if now - self._since >= limits.head_timeout:
                    message = f"The request's head didn't come within {limits.head_timeout:g} s."
                    self._refuse(LauncherError("request_timeout", message), b"")
            elif unsent := self.transport.get_write_buffer_size():
                # Its last answer goes out slowly, or not at all: then nobody waits for it.
                if unsent != self._unsent:
                    self._unsent = unsent
                    self._since = now
                elif now - self._since >= limits.keepalive:
                    self.transport.abort()
            elif not self._input and (
                self._shared.closing or now - self._since >= limits.keepalive
            ):
                self.transport.close()
            return
        if request.skipping:
            if now - self._since >= LINGER:
                self.request = None
                self.deaf = True
                self._linger()
            return
        if self.reading_paused:
            self._look_for_hangup(request)
        if request.on_body is not None and now - request.fed_at >= limits.body_timeout:
            request.body_stalled(limits.body_timeout)
        elif request.carrier is not None:
            request.carrier.tick(now)

    def _look_for_hangup(self, request: Request) -> None:
        """A connection that isn't read says nothing of a hang-up by itself; and since a client's
        FIN stands behind all that its kernel had still to send, some of it has to be read."""
        if hung_up(self.transport):
            self.client_left()
            return
        read = request.body_read
        stalled = not request.body_complete and not self._ahead and read == self._seen_read
        if stalled and self._shared.read_ahead >= READ_AHEAD:
            self._shared.read_ahead -= READ_AHEAD
            self._ahead = READ_AHEAD
            request.high_water = READ_AHEAD
            self.resume_reading()
        self._seen_read = read

    def _give_back(self) -> None:
        if self._ahead:
            self._shared.read_ahead += self._ahead
            self._ahead = 0
        self._seen_read = -1

    # -- ends ----------------------------------------------------------------------------------

    def cut(self, *, reset: bool) -> None:
        """End the connection. With `reset` at once, and so that even HTTP/1.0 clients, for whom
        the end of the connection is the end of the body, see an error. Else the missing end of
        the body says it, and what was written may still arrive."""
        self.deaf = True
        if reset:
            reset_connection(self.transport)
        else:
            self.transport.close()
            self._loop.call_later(LINGER, self.transport.abort)

    def take_over(self) -> Detached:
        """Take the transport out of HTTP: this connection never touches it again."""
        leftover, self._input = self._input, b""
        self.resume_reading()
        self._shared.connections.discard(self)
        self._give_back()
        self.request = None
        self.closed = self.deaf = True
        return Detached(self.transport, leftover)


class Request:
    """One request of a client and its response."""

    __slots__ = (
        "_chunks",
        "_continue_due",
        "_head",
        "_pending",
        "_pieces",
        "_waiter",
        "aborted",
        "body_complete",
        "body_error",
        "body_read",
        "buffered",
        "carrier",
        "chunked",
        "connection",
        "content_length",
        "detached",
        "fed_at",
        "fields",
        "finished",
        "flags",
        "framing",
        "gone",
        "high_water",
        "host",
        "keep_alive",
        "left",
        "line",
        "memory",
        "on_body",
        "received_at",
        "remaining",
        "responded",
        "sent",
        "skipping",
        "source",
        "task",
        "upgrade",
    )

    def __init__(
        self,
        connection: ClientConnection,
        line: RequestLine,
        fields: list[Field],
        flags: int,
        host: bytes,
        length: int,
    ) -> None:
        self.connection = connection
        self.line = line
        self.fields = fields
        self.flags = flags
        """All fields' flags."""
        self.host = host
        self.content_length = length
        """-1: none was sent."""
        self.chunked = False
        self.upgrade: bytes | None = None
        """What the client wants to switch to."""
        self.keep_alive = True
        """The connection survives the response."""
        self.received_at = connection._loop.time()
        """When the head was complete, on the loop's clock."""
        self._head: RequestHead | None = None
        self.memory: HeadMemory | None = None
        """Where the head is one that may come again."""
        # The body
        self.body_complete = length <= 0
        """All of it has come, taken or not."""
        self.body_error: LauncherError | None = None
        self.body_read = 0
        """Bytes of the body that were taken."""
        self.left = length if length > 0 else 0
        """Bytes of the Content-Length that are still to come."""
        self.buffered = 0
        """Bytes that have come and weren't taken."""
        self.high_water = HIGH_WATER
        self.skipping = False
        self._pieces: list[bytes] | None = None
        self._chunks: ChunkedReader | None = None
        self._continue_due = False
        self._waiter: asyncio.Future[None] | None = None
        self.on_body: Callable[[], None] | None = None
        """Called once when the body is complete, or `body_error` says why it won't be."""
        self.fed_at = 0.0
        """When some of the body came last; watched while `on_body` is set."""
        # The response
        self.responded = False
        """A final response head was given."""
        self.framing = NO_BODY
        self.remaining = 0
        """Bytes of the promised Content-Length that are still to be sent."""
        self.sent = 0
        """Bytes of the response's body so far."""
        self._pending = b""
        """A head that goes out with the first piece of the body."""
        self.finished = False
        self.aborted = False
        self.detached: asyncio.Transport | None = None
        self.gone = False
        """The client left."""
        # Who carries it
        self.task: asyncio.Task[None] | None = None
        self.carrier: Carrier | None = None
        self.source: Source | None = None

    def __repr__(self) -> str:
        state = (
            "detached"
            if self.detached
            else "aborted"
            if self.aborted
            else "finished"
            if self.finished
            else "responding"
            if self.responded
            else "received"
        )
        return f"<Request {self.line.method} {state}{' gone' if self.gone else ''}>"

    @property
    def head(self) -> RequestHead:
        """The head for who asks it many things; made when first asked for."""
        if self._head is None:
            line, connection, fields = self.line, self.connection, self.fields
            if self.content_length >= 0:
                # Those of a remembered head may have another length.
                length = b"%d" % self.content_length
                fields = [
                    Field(field.name, field.lower, length, field.kind, field.flags)
                    if field.kind == CONTENT_LENGTH and int(field.value) != self.content_length
                    else field
                    for field in fields
                ]
            self._head = RequestHead(
                method=line.method,
                path=line.path,
                query=line.query,
                version=line.version,
                headers=tuple((field.name, field.value) for field in fields),
                fields=by_name(fields),
                host=self.host,
                peer=connection.peer,
                scheme=connection.scheme,
                content_length=None if self.content_length < 0 else self.content_length,
                chunked=self.chunked,
                upgrade=self.upgrade,
                operators=connection.operators,
            )
        return self._head

    @property
    def ended(self) -> bool:
        """Nothing more can be written to the client in HTTP."""
        return self.finished or self.aborted or self.detached is not None

    @property
    def expects_continue(self) -> bool:
        """The client holds its body back until it is told to go on, and wasn't yet."""
        return self._continue_due

    # -- who carries it ------------------------------------------------------------------------

    def carry(self, work: Coroutine[Any, Any, None], name: str = "exchange") -> None:
        """Run a coroutine that brings it to its end, or as far as its `carrier` goes on by itself.
        It is cancelled when the client leaves.
        Whatever it does, the exchange has an end that the client can trust: a LauncherError that
        escapes is rendered (without its detail), a bug is `internal_error`; behind a response
        head both abort."""
        self.task = tasks.spawn(self._carried(work), name=name)

    async def _carried(self, work: Coroutine[Any, Any, None]) -> None:
        handed_on = False
        try:
            await work
            if not self.ended:
                if self.carrier is None:
                    raise RuntimeError(f"the handler left {self!r} without an end")
                handed_on = True
        except asyncio.CancelledError:
            self.abort()
            if not self.gone:
                raise
        except ClientDisconnected:
            self.abort()
        except LauncherError as error:
            self.fail(error)
        except Exception:  # a bug ends in a 500 or in a cut, never in half an answer
            log.exception("the handler failed")
            self.fail(LauncherError("internal_error", _FAILED))
        finally:
            self.task = None
            if self.detached is not None and not self.detached.is_closing():
                self.detached.close()
            if not handed_on:
                self.over()

    def fail(self, error: LauncherError) -> None:
        """Answer with an error, without its detail; abort where an answer has begun."""
        if self.responded or self.ended:
            self.abort()
            return
        status, reason, headers, body = render(error, show_detail=False)
        try:
            self.start(status, reason, headers)
            self.push(body)
            self.end()
        except ClientDisconnected:
            self.abort()

    def over(self) -> None:
        """Nobody carries it any longer: the connection goes on."""
        self.carrier = self.source = None
        self.connection.request_over(self)

    def connection_lost(self) -> None:
        """The connection is gone, whoever ended it. Ends who carries it, unless there is nothing
        left to send: then that one may put its things in order."""
        self.gone = True
        self._pending = b""
        if not self.body_complete:
            self._pieces = None
            self.buffered = 0
        self.on_body = None
        self._wake()
        if self.task is not None:
            if not self.ended:
                # Not before it has begun: a coroutine that never ran puts nothing in order.
                self.connection._loop.call_soon(self.task.cancel)
        elif self.carrier is not None:
            if not self.ended:
                self.carrier.client_gone()
        else:
            self.connection.request_over(self)

    # -- the request's body ----------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """Take in more of the body; return what came behind its end."""
        rest = b""
        if self._chunks is not None:
            found: list[bytes] = []
            try:
                end = self._chunks.feed(data, found)
            except ChunkError as error:
                self.body_error = (
                    too_large(self.connection._shared.limits.max_head)
                    if isinstance(error, TrailersTooLarge)
                    else broken_rules(str(error))
                )
                self.connection.deaf = True
                self._wake()
                return b""
            self.body_complete = self._chunks.done
            if self.body_complete:
                rest = data[end:]
            if not found:
                if self.body_complete:
                    self._wake()
                return rest
            data = found[0] if len(found) == 1 else b"".join(found)
        else:
            left = self.left - len(data)
            if left < 0:
                data, rest = data[:left], data[left:]
                left = 0
            self.left = left
            if not left:
                self.body_complete = True
        self._continue_due = False
        if self.skipping:
            return rest
        pieces = self._pieces
        if pieces is None:
            self._pieces = [data]
        elif pieces and len(pieces[-1]) < SMALL_PIECE:
            # Else a client that sends byte by byte would fill a list with them.
            pieces[-1] += data
        else:
            pieces.append(data)
        self.buffered += len(data)
        if self.buffered > self.high_water and not self.body_complete:
            self.connection.pause_reading()
        if self._waiter is not None or self.on_body is not None:
            self._wake()
        return rest

    def take(self) -> bytes:
        """Return all of the body that has come and wasn't taken; nothing is waited for."""
        pieces = self._pieces
        if not pieces:
            return b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = None
        self.buffered = 0
        self.body_read += len(data)
        return data

    async def read(self) -> bytes:
        """Return the next piece of the body, at most PIECE bytes, b"" at its end (trailers are
        dropped). Sends the 100 Continue that the client waits for first.

        Raises ClientDisconnected, and LauncherError `request_timeout` or `bad_request` for a
        stalled or malformed body."""
        if self.gone:
            raise ClientDisconnected("the client left")
        while not self._pieces:
            if self.body_complete:
                return b""
            if self.body_error is not None:
                self.keep_alive = False
                raise self.body_error
            if self._continue_due and not self.responded:
                # RFC 9110 §10.1.1: the client waits for it, and now its body is wanted.
                self._continue_due = False
                self._send(_interim(100, b"Continue", ()))
            await self._wait_for_body()
        data = self._pieces.pop(0)
        if len(data) > PIECE:
            self._pieces.insert(0, data[PIECE:])
            data = data[:PIECE]
        self.buffered -= len(data)
        self.body_read += len(data)
        connection = self.connection
        if connection.reading_paused and self.buffered <= HIGH_WATER // 2:
            connection.resume_reading()
        return data

    async def _wait_for_body(self) -> None:
        timeout = self.connection._shared.limits.body_timeout
        # What came behind the request before it may have paused that.
        self.connection.resume_reading()
        waiter = self._waiter = self.connection._loop.create_future()
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            self.body_stalled(timeout)
            assert self.body_error is not None
            raise self.body_error from None
        finally:
            self._waiter = None
        if self.gone:
            raise ClientDisconnected("the client left")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self.on_body is not None:
            if self.body_complete or self.body_error is not None:
                on_body, self.on_body = self.on_body, None
                on_body()
            else:
                self.fed_at = self.connection._loop.time()

    def when_complete(self, on_body: Callable[[], None]) -> None:
        """Call when all of the body has come, or can't come; the client's 100 Continue isn't sent.
        For bodies that may wait in memory: reading goes on until they are whole."""
        self.high_water = self.buffered + self.left
        self.connection.resume_reading()
        self.fed_at = self.received_at
        self.on_body = on_body

    def body_stalled(self, timeout: float) -> None:
        """Nothing more of the body came for so many seconds."""
        self.keep_alive = False
        self.body_error = LauncherError(
            "request_timeout",
            f"Nothing more of the request's body came for {timeout:g} s; send it again.",
        )
        self._wake()

    @property
    def body_rest(self) -> int | None:
        """Bytes of the body that have not arrived; None: unknown, or not worth waiting for since
        the client still waits for its 100 Continue."""
        if self.body_complete:
            return 0
        if self._chunks is not None or self._continue_due:
            return None
        return self.left

    def skip_body(self) -> None:
        """Drop what is still to come of the body."""
        self.skipping = True
        self._pieces = None

    # -- the response ------------------------------------------------------------------------------

    def inform(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        """Send an interim (1xx) response; HTTP/1.0 clients don't know any (RFC 9110 §15.2)."""
        if self.responded or self.line.http10:
            return
        if status == 100:
            self._continue_due = False
        self._send(_interim(status, reason, headers))

    async def respond(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        """Give the final head. It goes out together with the first piece of the body if that
        comes at once, else at the end of this turn of the loop."""
        self.start(status, reason, headers)
        self.connection._loop.call_soon(self.flush)

    def start(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        """See `respond`; it stays with us until the first piece, the end, or `flush`. Raises
        ValueError for a Content-Length that is no number or isn't the only one of its value."""
        first = b"HTTP/1.1 %d %b" % (status, reason)
        if status == 101:
            # The connection leaves HTTP: `Connection` and `Upgrade` are the answer itself.
            self._may_start()
            self.keep_alive = False
            self._pending = b"\r\n".join((first, *map(b": ".join, headers), b"", b""))
            return
        lines = [first]
        length = -1
        dated = False
        for line in headers:
            name = line[0].lower()
            if name in _OURS:
                if name == b"connection" and b"close" in line[1].lower():
                    self.keep_alive = False
                continue
            if name == b"content-length":
                number = int(line[1])
                if number < 0 or (length >= 0 and number != length):
                    raise ValueError("contradictory Content-Length in a response")
                if length >= 0:
                    continue
                length = number
            elif name == b"date":
                dated = True
            lines.append(b"%b: %b" % line)
        self.start_lines(status, lines, length, dated=dated)

    def start_lines(self, status: int, lines: list[bytes], length: int, *, dated: bool) -> None:
        """Give the final head as lines, the status line first, without any that frame the body
        but its Content-Length (`length`, or -1). What is added: `Transfer-Encoding: chunked` or
        `Connection` where the framing needs it, and `Date` where the answer has none, which
        RFC 9110 §6.6.1 demands of whoever forwards a response."""
        self._may_start()
        if not dated:
            lines.append(b"Date: " + http_date())
        if not self.body_complete:
            rest = self.body_rest
            if rest is None or rest > SMALL_REST:
                # What the client still sends would be in the way of its next request.
                self.keep_alive = False
        line = self.line
        if status in (204, 304) or line.method == "HEAD":
            self.framing = NO_BODY
        elif length >= 0:
            self.framing = BY_LENGTH
            self.remaining = length
        elif line.http10:
            self.framing = BY_CLOSE
            self.keep_alive = False
        else:
            self.framing = CHUNKED
            lines.append(b"Transfer-Encoding: chunked")
        if not self.keep_alive:
            lines.append(b"Connection: close")
        elif line.http10:
            lines.append(b"Connection: keep-alive")
        lines.append(b"\r\n")
        self._pending = b"\r\n".join(lines)

    def _may_start(self) -> None:
        if self.responded or self.ended:
            raise RuntimeError(f"a second final response: {self!r}")
        if self.gone:
            raise ClientDisconnected("the client left")
        self.responded = True

    def push(self, data: bytes) -> bool:
        """Send a piece of the body. Return False where the client is behind."""
        if not self.responded or self.finished:
            raise RuntimeError(f"a piece of a body outside a response: {self!r}")
        size = len(data)
        framing = self.framing
        if framing == CHUNKED:
            if size:
                data = b"%x\r\n%b\r\n" % (size, data)
        elif framing == BY_LENGTH:
            if size > self.remaining:
                # What goes beyond the Content-Length is dropped, and the connection with it.
                size = self.remaining
                data = data[:size]
                self.keep_alive = False
            self.remaining -= size
        elif framing == NO_BODY:
            data = b""
            size = 0
        self.sent += size
        self._send(data)
        return not self.connection.writing_paused

    def push_chunks(self, data: bytes, payload: int) -> None:
        """Send whole chunks as they came; only where the framing is CHUNKED."""
        self.sent += payload
        self._send(data)

    async def drained(self) -> None:
        """Wait while the client is behind. Raises ClientDisconnected."""
        if self.connection.writing_paused:
            await self.connection.drained()
            if self.gone:
                raise ClientDisconnected("the client left")

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; wait while the client is behind."""
        if not self.push(data):
            await self.drained()

    async def finish(self) -> None:
        """End the response cleanly; a body shorter than its Content-Length aborts."""
        self.end()
        if not self.aborted and self.detached is None:
            # Answers without a body would else pile up behind a client that only asks.
            await self.drained()

    def end(self) -> bool:
        """See `finish`; nothing is waited for. Return whether the end is a clean one."""
        if self.ended:
            return self.finished
        if not self.responded:
            raise RuntimeError("finished before a final response")
        if self.framing == BY_LENGTH and self.remaining:
            self.abort()
            return False
        if self.framing == CHUNKED:
            self._send(b"0\r\n\r\n")
        elif self._pending or self.gone:
            self._send(b"")
        self.finished = True
        return True

    def abort(self) -> None:
        """End the connection so that the client can tell: no final chunk, a reset."""
        if self.ended:
            if self.detached is not None:
                self.detached.abort()
            return
        self.aborted = True
        self.flush()
        visible = self.framing == CHUNKED or (self.framing == BY_LENGTH and self.remaining > 0)
        if not self.connection.closed:
            self.connection.cut(reset=not (self.responded and visible))

    def detach(self) -> Detached:
        """Take the connection out of HTTP, after a 101 was given; its reading is on. Call
        `set_protocol` on its transport before anything is awaited."""
        if self.gone or self.connection.closed:
            raise ClientDisconnected("the client left")
        self.flush()
        taken = self.connection.take_over()
        self.detached = taken.transport
        return taken

    def flush(self) -> None:
        """Send a head that still waits for the body's first piece."""
        if self._pending:
            data, self._pending = self._pending, b""
            if not self.gone and not self.connection.closed:
                self.connection.transport.write(data)

    def _send(self, data: bytes) -> None:
        if self.gone or self.connection.closed:
            raise ClientDisconnected("the client left")
        if self.aborted:
            raise ClientDisconnected("the connection was aborted")
        if self._pending:
            data = self._pending + data
            self._pending = b""
        if data:
            self.connection.transport.write(data)


_FAILED: Final = "The launcher failed; its log has the details."


def _read_special(request: Request) -> None:
    """What the rarer fields mean: framing, Connection, Upgrade, Expect. Raises LauncherError."""
    line, fields = request.line, request.fields
    codings = [field.value for field in fields if field.kind == TRANSFER_ENCODING]
    if codings:
        lengths = [field.value for field in fields if field.kind == CONTENT_LENGTH]
        _, request.chunked = body_framing(line.http10, lengths, codings)
        request._chunks = ChunkedReader()
        request.body_complete = False
    options = connection_options(fields)
    if line.http10:
        kept = any(field.kind == KEEP_ALIVE for field in fields)
        request.keep_alive = (kept or b"keep-alive" in options) and b"close" not in options
    elif b"close" in options:
        request.keep_alive = False
    # HTTP/1.0 knows no Upgrade (RFC 9110 §7.8).
    upgrade = None if line.http10 or b"upgrade" not in options else wanted_protocol(fields)
    if upgrade is not None and not request.body_complete:
        raise LauncherError(
            "bad_request", "A request that asks for an Upgrade must not have a body."
        )
    request.upgrade = upgrade
    if not request.body_complete and not line.http10:
        # HTTP/1.0 can't ask for that; other expectations are ignored (RFC 9110 §10.1.1).
        expects = [field.value for field in fields if field.kind == EXPECT]
        request._continue_due = bool(expects) and expects[0].lower() == b"100-continue"


def _problem_of(error: HttpParserError, head: bytes) -> LauncherError:
    """Why llhttp refused a head, in our words and without the client's bytes."""
    if isinstance(error, HttpParserInvalidURLError):
        return LauncherError(
            "bad_target",
            "The request target isn't one that HTTP allows; percent-encode what isn't printable"
            " ASCII.",
        )
    if not isinstance(error, HttpParserInvalidMethodError):
        line = head.lstrip(b"\r\n").partition(b"\r\n")[0]
        if (other := wrong_version(line)) is not None:
            return other
    return broken_rules(str(error).rstrip(":."))


def _refusal(error: LauncherError, *, head_only: bool) -> bytes:
    """The bytes of an error that ends its connection."""
    status, reason, headers, body = render(error, show_detail=False)
    lines = [b"HTTP/1.1 %d %b" % (status, reason), *map(b": ".join, headers)]
    lines += [b"Date: " + http_date(), b"Connection: close", b""]
    return b"\r\n".join([*lines, b"" if head_only else body])


def _interim(status: int, reason: bytes, headers: RawHeaders) -> bytes:
    """An interim response, which has no body and no framing (RFC 9110 §15.2)."""
    first = b"HTTP/1.1 %d %b" % (status, reason)
    return b"\r\n".join((first, *map(b": ".join, headers), b"", b""))


_date: tuple[int, bytes] = (-1, b"")


def http_date() -> bytes:
    """Now, as a Date header has it; made anew once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True).encode())
    return _date[1]


def hung_up(transport: asyncio.BaseTransport) -> bool:
    """Return whether the peer closed or reset the connection; data that nobody has read doesn't
    hide it (POLLRDHUP), as it would from a read with MSG_PEEK."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return False
    look = select.poll()
    look.register(sock.fileno(), _HUNG_UP)
    return any(events & _HUNG_UP for _, events in look.poll(0))


def reset_connection(transport: asyncio.Transport) -> None:
    """Close so that the other side sees a reset and not an end."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing() and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


_NO_TRANSPORT: Final = asyncio.Transport()
