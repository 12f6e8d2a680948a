"""A client's connection: aiohttp's RequestHandler, with the habits that a proxy needs.

aiohttp parses, limits what waits, and keeps the connection alive between requests. Ours are
the loop over the requests (aiohttp's makes a task and a writer for each), noticing a client
that leaves (a half-close too, and behind a large body that nobody reads), a limit and a
deadline for the head as a whole, tunnels of any protocol, a lingering close. It must not know
handlers or routes. It leans on private parts of aiohttp 3.14; a test with a real socket
stands behind each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, cast

from aiohttp import StreamReader, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from launcher.errors import LauncherError
from launcher.http.exchange import Detached
from launcher.proxy.client import ClientExchange, Limits
from launcher.proxy.hangup import Allowance, Watch
from launcher.proxy.head_end import HeadEnd
from launcher.proxy.problem import problem_of
from launcher.proxy.upstream import reset as reset_connection

#: How long a client may go on sending after a response that ends its connection, or take to
#: fetch the last of one that was cut. Seconds.
LINGER: Final = 5.0

log = logging.getLogger(__name__)

Request = RawRequestMessage | LauncherError
"""As aiohttp parsed it, or what is wrong with one that couldn't be read."""
Carry = Callable[[Request, StreamReader, "ClientConnection"], Awaitable[bool]]
"""Carries one to its end; returns whether the connection can carry another."""


class ClientConnection(RequestHandler):
    """One connection, its requests one after the other."""

    __slots__ = (
        "_body",
        "_broken",
        "_carry",
        "_cut_timer",
        "_head",
        "_head_timer",
        "_lingering",
        "_watch",
        "exchange",
        "limits",
        "operators",
        "peer",
        "scheme",
        "task",
        "wire",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        carry: Carry,
        limits: Limits,
        allowance: Allowance,
        operators: bool,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=limits.keepalive,
            access_log=None,  # type: ignore[arg-type]  # None turns it off
            auto_decompress=False,
            lingering_time=0,
            max_line_size=limits.max_head,
            max_field_size=limits.max_head,
            read_bufsize=128 * 1024,
        )
        self._carry = carry
        self.limits = limits
        self.operators = operators
        """It came in at an address where operators' endpoints answer."""
        self.wire: asyncio.Transport | None = None
        """The transport, also when aiohttp has let go of it."""
        self.peer = ""
        """The client's IP address, or `unix`."""
        self.scheme = "http"
        self.exchange: ClientExchange | None = None
        """The one that is under way."""
        self.task: asyncio.Task[object] | None = None
        """What carries the requests, one after the other."""
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the request parsed last."""
        self._broken = False
        """Where the next request begins can't be known: what comes is dropped."""
        self._head = HeadEnd(limits.max_head)
        """Of what comes."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._watch = Watch(loop, allowance)
        self._cut_timer: asyncio.TimerHandle | None = None
        self._lingering: asyncio.Future[None] | None = None

    # -- the connection's life ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected (on TLS: the handshake is done)."""
        self.wire = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else "unix"

    def eof_received(self) -> None:
        """The client won't send any more: it has left, if an answer is still under way."""
        if self._lingering is not None and not self._lingering.done():
            self._lingering.set_result(None)
        self.client_left()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone, whoever ended it. Cancels the handler, unless there is
        nothing left for it to send: then it may put its things in order."""
        for timer in (self._head_timer, self._cut_timer):
            if timer is not None:
                timer.cancel()
        self._watch.end()
        if self._lingering is not None and not self._lingering.done():
            self._lingering.set_result(None)
        exchange = self.exchange
        if exchange is not None:
            exchange.lost()
            if exchange.ended:
                self._task_handler = None
        super().connection_lost(exc)
        self._body = EMPTY_PAYLOAD  # what it holds would wait for the garbage collector

    def client_left(self) -> None:
        """It hung up: what is under way for it ends."""
        exchange = self.exchange
        if exchange is not None and not exchange.ended:
            exchange.gone = True
            # Not close(): that waits for a client which no longer reads.
            self._wire.abort()

    @property
    def idle(self) -> bool:
        """No request is here that would still be answered."""
        return self.exchange is None and not self._messages

    @property
    def _wire(self) -> asyncio.Transport:
        assert self.wire is not None
        return self.wire

    # -- what comes in -----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Give the parser what came, cut behind each head.

        So a head's size is known before it is complete, the bytes behind an Upgrade are kept
        (aiohttp does that for WebSockets alone), and an error behind a whole request doesn't
        swallow that request.
        """
        if self._broken or self._lingering is not None:
            return
        while data and self._between_requests():
            if not self._head.seen:
                # RFC 9112 §2.2: empty lines before a request line are ignored.
                data = data.lstrip(b"\r\n")
                if not data:
                    return
            try:
                cut = self._head.find(data)
            except LauncherError as error:
                self._break(error)
                return
            if cut is None:
                self._feed(data, whole_head=False)
                if self._head_timer is None and not self._broken:
                    self._head_timer = self._loop.call_later(
                        self.limits.head_timeout, self._head_is_late
                    )
                return
            self._head_complete()
            self._feed(data[:cut], whole_head=True)
            if self._broken:
                return
            data = data[cut:]
            if not data:
                return
        self._feed(data, whole_head=False)

    def _between_requests(self) -> bool:
        return self._body.is_eof() and not self._upgraded and not self._buffer_paused

    def _feed(self, data: bytes, *, whole_head: bool) -> None:
        count = self._request_count
        try:
            super().data_received(data)
        except (IndexError, ValueError):
            # aiohttp makes a URL of the target, and yarl trips over some: `http://[::1]:1@/`.
            self._break(LauncherError("bad_target", "The request target isn't a valid one."))
            return
        if self._request_count == count:
            return
        message, body = self._messages[-1]
        if isinstance(message, _ErrInfo):
            self._broken = True
            self._head_complete()
            self._fail_body(problem_of(message.exc))
            return
        self._body = body
        if message.upgrade and not self._upgraded:
            if whole_head and body.is_eof():
                # aiohttp does this for WebSockets; other protocols have leftovers too.
                self._upgraded = True
            elif not whole_head:
                # What came behind it in the same segment was dropped by aiohttp.
                self._messages.pop()
                self._break(
                    LauncherError("bad_request", "Ask for an Upgrade on a connection of its own.")
                )

    def _head_complete(self) -> None:
        self._head.forget()
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._break(
            LauncherError(
                "request_timeout",
                f"The request's head didn't come within {self.limits.head_timeout:g} s.",
            )
        )

    def _break(self, error: LauncherError) -> None:
        """Nothing can be read from this client any more: `error` is the last answer, after
        those that are under way."""
        self._broken = True
        self._head_complete()
        self._fail_body(error)
        self._request_count += 1
        info = _ErrInfo(status=error.status, exc=error, message=error.message)
        self._messages.append((info, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Asked for by a body's reader after every piece: seldom is there anything to do."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _fail_body(self, error: LauncherError) -> None:
        """aiohttp tells nobody who waits for a body that it turned out malformed."""
        if not self._body.is_eof():
            self._body.set_exception(error)

    def _process_keepalive(self) -> None:
        # A head that is coming in has a deadline of its own.
        if self._head.seen:
            self._keepalive_handle = None
            return
        super()._process_keepalive()

    # -- a client that leaves while nobody reads (`hangup.Deaf`) ---------------------------

    def _pause_transport_reading(self) -> None:
        super()._pause_transport_reading()
        self._watch.begin(self)

    @property
    def deaf(self) -> bool:
        """Open, and not reading."""
        return not self._wire.is_closing() and (self._reading_paused or self._buffer_paused)

    @property
    def holds_body(self) -> bool:
        """A body is here that nobody reads."""
        return self._reading_paused

    @property
    def body_read(self) -> int:
        """Bytes that the handler has read of it; -1: there is no handler."""
        return -1 if self.exchange is None else self.exchange.body_read

    def read_ahead(self, size: int) -> None:
        """Read so many bytes more of it than anybody wants."""
        self._body.set_read_chunk_size(size // 2)
        self.resume_reading()

    # -- exchanges -----------------------------------------------------------------------

    def exchange_over(self) -> None:
        """The handler is done with the exchange; what it leaned on is free again."""
        self.exchange = None
        self._watch.forget()

    async def start(self) -> None:
        """Carry the requests in the order in which they came, until the connection ends."""
        self.task = asyncio.current_task()
        try:
            while not self._force_close:
                if not self._messages:
                    self._waiter = self._loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                message, body = self._take_request()
                if not await self._carry(message, body, self):
                    break
                self._stay_in_http()
                self._next_keepalive_close_time = at = self._loop.time() + self.limits.keepalive
                if self._keepalive_handle is None:
                    self._keepalive_handle = self._loop.call_at(at, self._process_keepalive)
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception:  # a bug is this client's misfortune, and nobody else's
            log.exception("a connection failed")
        finally:
            self.task = None
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    def _take_request(self) -> tuple[Request, StreamReader]:
        message, body = self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        return problem_of(message.exc) if isinstance(message, _ErrInfo) else message, body

    def _stay_in_http(self) -> None:
        """After the response to a request for an Upgrade that stayed in HTTP: what came behind
        it is the next request after all."""
        if self._upgraded and not self._messages and self._parser is not None:
            self._parser.set_upgraded(False)
            self._upgraded = False
            tail, self._message_tail = self._message_tail, b""
            if self._buffer_paused:
                self._resume_reading_for_buffer()
            if tail:
                self.data_received(tail)

    # -- what an exchange asks of its connection (`client.Link`) ---------------------------

    async def drained(self) -> None:
        """Wait until the client took enough of what was written."""
        await self._drain_helper()

    def cut(self, *, reset: bool) -> None:
        """End the connection. With `reset` at once, and so that even HTTP/1.0 clients, for whom
        the end of the connection is the end of the body, see an error. Else the missing end of
        the body says it, and what was written may still arrive."""
        if reset:
            reset_connection(self._wire)
        else:
            self._wire.close()
            self._cut_timer = self._loop.call_later(LINGER, self._wire.abort)

    def take_over(self) -> Detached:
        """Take the transport out of HTTP: aiohttp forgets it and never touches it again."""
        wire = self._wire
        leftover, self._message_tail = self._message_tail, b""
        if self._buffer_paused or self._reading_paused:
            self._resume_transport_reading()
        for timer in (self._head_timer, self._keepalive_handle):
            if timer is not None:
                timer.cancel()
        self._watch.end()
        assert self._manager is not None
        self._manager.connection_lost(self)
        self._manager = None
        self._parser = None
        self._force_close = True
        self.transport = None
        return Detached(wire, leftover)

    async def linger(self) -> None:
        """Wait for the client to close (RFC 9112 §9.6), at most LINGER seconds. Closing while it
        still sends makes the kernel reset the connection, and the answer may never be read."""
        wire = self._wire
        if wire.is_closing():
            return
        self._lingering = self._loop.create_future()
        self._reading_paused = self._buffer_paused = False
        self._resume_transport_reading()
        if wire.can_write_eof():
            wire.write_eof()
        await asyncio.wait((self._lingering,), timeout=LINGER)
