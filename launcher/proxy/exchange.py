"""One request and its response, or one tunnel, as the proxy carries it to a granted backend.

An exchange is told of everything that happens to it and does what follows at once; where it has to
wait (for a place, a connection, an upload, a second try) it runs a coroutine on the same object.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from launcher import tasks
from launcher.auth.access import Caller
from launcher.auth.browsers import OWN_HEADERS
from launcher.config import KeyConfig, RouteConfig
from launcher.core.types import BackendId
from launcher.errors import LauncherError, render
from launcher.http.endpoint import Endpoint
from launcher.http.errors import ClientDisconnected, RemoteProtocolError, UpstreamDisconnected
from launcher.http.headers import (
    NAMES_OTHERS,
    STAYS_HERE,
    Field,
    HeadMemory,
    RawHeaders,
    connection_options,
)
from launcher.http.server import Request
from launcher.http.tunnel import Tunnel
from launcher.http.upstream import ResponseHead, Sink, UpstreamConnection
from launcher.proxy.body import NO_BODY, Body
from launcher.proxy.fields import CREDENTIAL, FORWARDED, LAUNCHER, PSEUDONYM, VIA
from launcher.proxy.router import OWN, Candidate, Destination, InQuery, Target
from launcher.proxy.waiting import Heartbeat
from launcher.runtime.admission import Admission, Grant
from launcher.telemetry.record import ExchangeRecord, Outcome

if TYPE_CHECKING:
    from launcher.proxy.handler import Proxy
    from launcher.runtime.permits import Permit

log = logging.getLogger(__name__)

FAILED: Final = "The launcher failed; its log has the details."
#: nginx's number for a client that left before its answer.
CLIENT_GONE: Final = 499
#: Seconds without a first byte after which the backend is looked after, again and again.
SILENCE: Final = 30.0
#: A kept body up to this many bytes goes out in one write with the head.
INLINE: Final = 256 * 1024

#: Methods with which no body is expected (RFC 9110 §9.3.1): a backend may leave it unread, and take
#: it for the next request on its connection.
_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
#: RFC 9110 §9.2.2.
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class ResponseTimeout(Exception):
    """No first byte within the route's `response_timeout`."""


class Cut(Exception):
    """The gate ended the exchange: `error` is what the client is told."""

    def __init__(self, error: LauncherError) -> None:
        super().__init__(error.message)
        self.error = error


#: What ends an attempt without being a bug.
_EXPECTED: Final = (RemoteProtocolError, ConnectionError, LauncherError, ResponseTimeout, Cut)


class Failed:
    """An attempt from which no final response head came; nothing was written to the client."""

    __slots__ = ("code", "may_retry", "message", "unsent")

    def __init__(self, code: str, message: str, *, may_retry: bool, unsent: bool) -> None:
        self.code = code
        """`backend_unreachable` (refused, reset, closed, timed out) or `bad_upstream` (its answer
        breaks HTTP)."""
        self.message = message
        self.may_retry = may_retry
        self.unsent = unsent
        """Not one byte of the request was written."""


class Prepared:
    """What was worked out for a head that comes again and again on its connection."""

    __slots__ = ("grant", "key", "length_at", "lines", "places", "proxy", "route", "target")

    def __init__(self, proxy: Proxy, target: Target, key: KeyConfig | None) -> None:
        self.proxy = proxy
        """Of the configuration that it holds for."""
        self.target = target
        self.key = key
        self.grant: Grant | None = None
        self.route: RouteConfig | None = None
        """The backend, and the route that it serves, that the lines are for."""
        self.lines: list[bytes] = []
        """The request's head as that backend gets it."""
        self.length_at = 0
        """Which of the lines is the Content-Length."""
        self.places: list[int] = []
        """Which of the lines is which of the client's fields; 0: it doesn't travel."""

    def head(self, memory: HeadMemory, length: int) -> bytes:
        """Return the head with the client's present fields and this Content-Length."""
        lines = self.lines
        for index in memory.varying:
            place = self.places[index]
            if place:
                lines[place] = memory.fields[index].line
        lines[self.length_at] = b"Content-Length: %d" % length
        return b"\r\n".join(lines)


#: Not a failure: the attempt is made again, on a fresh connection.
AGAIN: Final = Failed("", "", may_retry=True, unsent=True)

NO_TARGET: Final = Target(OWN, "")
NO_GRANT: Final = Grant(BackendId(""), 0, Endpoint(), cold=False, queued=0.0, starting=0.0)


class Exchange:
    """One of them. `serve_again` and what is awaited are in `handler`; here is what happens
    without waiting."""

    __slots__ = (
        "_client_turn",
        "_quiet_since",
        "_recorded",
        "_retried",
        "_sent",
        "_sent_at",
        "_taken",
        "_told_at",
        "_tunnel",
        "_upload",
        "admission",
        "attempt_began",
        "awaiting_head",
        "backend",
        "body",
        "caller_",
        "candidate",
        "code",
        "cold",
        "connection",
        "destination",
        "done",
        "first_byte",
        "grant",
        "heart",
        "held",
        "key",
        "metered",
        "model_at",
        "on_cut",
        "outcome",
        "permit",
        "proxy",
        "query",
        "queued",
        "request",
        "retried",
        "route",
        "starting",
        "status",
        "stream",
        "target",
    )

    def __init__(self, proxy: Proxy, request: Request) -> None:
        self.proxy = proxy
        self.request = request
        self.target: Target = NO_TARGET
        self.destination: Destination | None = None
        self.candidate: Candidate | None = None
        """Who serves it; None before a grant."""
        self.query = request.line.query
        self.body: Body = NO_BODY
        self.model_at: InQuery | tuple[tuple[int, int], bool] | None = None
        """Where the model stands: in the query, or its span in the body, and whether as JSON."""
        self.stream: bool | None = None
        """Whether a JSON body asks for a stream; None: nobody has looked."""
        self.caller_: Caller | None = None
        self.key: KeyConfig | None = None
        """The key that opened it; None: none was needed."""
        self.metered = False
        # Of its record
        self.route = ""
        self.backend = ""
        self.status = 0
        self.code = ""
        self.outcome: Outcome = "ok"
        self.cold = False
        self.queued = 0.0
        self.starting = 0.0
        self.first_byte = -1.0
        self.retried = False
        self._recorded = False
        # Of its place
        self.permit: Permit | None = None
        self.admission: Admission | None = None
        self.held: ExitStack | None = None
        self.grant: Grant = NO_GRANT
        self.on_cut: CutBlock | None = None
        # Of the attempt under way
        self.connection: UpstreamConnection | None = None
        self.done: asyncio.Future[Failed | None] | None = None
        """Of a coroutine that waits for how the attempt ends."""
        self.attempt_began = 0.0
        self.awaiting_head = False
        self.heart: Heartbeat | None = None
        self._sent = False
        """Some of the request may have left, on any connection."""
        self._sent_at = 0.0
        self._taken = False
        """Some of the body may have been read."""
        self._retried = False
        self._client_turn = False
        """It is the client that is waited for: not the backend's silence."""
        self._quiet_since = 0.0
        self._told_at = 0.0
        self._upload: asyncio.Task[None] | None = None
        self._tunnel: Tunnel | None = None
        request.carrier = self

    def __repr__(self) -> str:
        return f"<Exchange {self.request.line.method} {self.route or '?'} {self.outcome}>"

    @property
    def caller(self) -> Caller:
        """Who asks; made when first asked for."""
        if self.caller_ is None:
            self.caller_ = Caller(self.proxy.access, self.request.head)
            self.caller_.key = self.key
        return self.caller_

    @property
    def model(self) -> str:
        """The configured model id or alias that was asked for; empty on a route's own path."""
        return "" if self.destination is None else self.destination.asked

    @property
    def answered(self) -> bool:
        """A final head went out; comments don't count."""
        heart = self.heart
        return self.request.responded if heart is None else heart.responded

    # -- the request on its way out ------------------------------------------------------------

    def settle(self, grant: Grant) -> None:
        """A backend was granted. May come again, for another, before it is sent again."""
        self.grant = grant
        self.backend = grant.backend
        destination = self.destination
        assert destination is not None
        candidate = self.candidate = destination.served_by(grant.backend)
        self.route = candidate.route.name
        if not destination.renamed:
            return
        name = destination.name_for(candidate)
        at = self.model_at
        if name is None or at is None:
            return
        if isinstance(at, InQuery):
            self.query = at.renamed(name)
        else:
            self.body.rename(at[0], name, as_json=at[1])

    def begin_attempt(self) -> None:
        """It is sent to a backend: for the first time, or once more."""
        self.attempt_began = self.proxy.now()
        self._sent = self._taken = False
        self._client_turn = False

    def try_on(self, connection: UpstreamConnection) -> Failed | None:
        """Send it on a new connection; return the failure where that is closed already."""
        try:
            self.transmit(connection)
        except UpstreamDisconnected as error:
            self._discard()
            return self.unreachable(error)
        return None

    def transmit(self, connection: UpstreamConnection) -> None:
        """Send the head, and as much of the body as takes no waiting for the backend. Raises
        UpstreamDisconnected, LauncherError."""
        request, body = self.request, self.body
        self.connection = connection
        line = request.line
        connection.begin(self, line.method, upgrade=request.upgrade is not None)
        length = body.length
        memory = request.memory
        prepared = None if memory is None or not length else memory.note
        if not isinstance(prepared, Prepared) or self.heart or self.query is not line.query:
            data = b"\r\n".join(self.outgoing_head(length))
        else:
            assert memory is not None
            assert length
            assert self.candidate is not None
            if prepared.grant is not self.grant or prepared.route is not self.candidate.route:
                self._prepare(prepared, length)
            data = prepared.head(memory, length)
        if length != 0:
            if line.method in _BODILESS:
                connection.last = True
            whole = body.at_once() if length is not None and length <= INLINE else None
            if whole is None:
                connection.sending = True
                if body.replayable:
                    body.rewind()
            elif len(whole) != length:
                raise _wrong_length()
            else:
                data += whole
        self.awaiting_head = True
        self._sent_at = self._quiet_since = self._told_at = self.proxy.now()
        connection.send(data)
        self._sent = True
        if connection.sending:
            self._taken = True
            self._upload = tasks.spawn(self._send_body(connection), name="upload")

    def _prepare(self, prepared: Prepared, length: int) -> None:
        """Work out the head for this backend, for all that come like it."""
        lines = prepared.lines = self.outgoing_head(length)
        assert self.candidate is not None
        prepared.grant, prepared.route = self.grant, self.candidate.route
        prepared.length_at = lines.index(b"Content-Length: %d" % length)
        places = prepared.places = []
        at = _FIRST_FIELD
        for field in self.request.fields:
            travels = lines[at] is field.line
            places.append(at if travels else 0)
            at += travels

    def outgoing_head(self, length: int | None) -> list[bytes]:
        """Return the lines of the request's head as the backend gets it, Host first, an empty one
        last. `length` is the body's, in bytes; None: chunked. Ours are added behind what
        Connection names, so that `Connection: X-Forwarded-For` can't delete them. Raises
        LauncherError `loop_detected`."""
        request, proxy, grant, target = self.request, self.proxy, self.grant, self.target
        candidate = self.candidate
        line, flags, fields = request.line, request.flags, request.fields
        assert candidate is not None
        route = candidate.route
        endpoint = grant.endpoint
        path = target.path
        if endpoint.base_path:
            path = endpoint.base_path.encode() + path
        if self.query is not None:
            path = b"%b?%b" % (path, self.query)
        host = request.host
        if not host or route.host_header == "backend":
            host = endpoint.authority.encode()
        drop = STAYS_HERE | FORWARDED | LAUNCHER
        key = grant.key
        asks = proxy.access.asks_users
        inject = route.auth == "inject" and (asks or key is not None)
        if inject:
            drop |= CREDENTIAL
        out = [b"%b %b HTTP/1.1" % (line.method.encode(), path), b"Host: " + host]
        if flags & (NAMES_OTHERS | VIA) or (flags & CREDENTIAL and not inject) or self.heart:
            out += self._careful_lines(fields, drop)
        else:
            out += [field.line for field in fields if not field.flags & drop]
        if length is None:
            out.append(b"Transfer-Encoding: chunked")
        elif length or request.content_length >= 0:
            out.append(b"Content-Length: %d" % length)
        if request.upgrade is not None:
            out.append(b"Connection: Upgrade")
            out.append(b"Upgrade: " + request.upgrade)
        client = request.connection
        if flags & FORWARDED and proxy.trusted.has(client.peer):
            out += self._appended_forwarded()
        else:
            out.append(proxy.forwarded_for(client.peer, client.scheme))
            if request.host:
                out.append(b"X-Forwarded-Host: " + request.host)
            if target.prefix:
                out.append(b"X-Forwarded-Prefix: " + target.prefix)
        out.append(_VIA_1_0 if line.http10 else _VIA_1_1)
        if inject and key is not None:
            out.append(proxy.authorization(key))
        if self.heart is not None:
            # What goes on behind comments has to be as plain as they are.
            out.append(b"Accept-Encoding: identity")
        out.append(b"\r\n")
        return out

    def _careful_lines(self, fields: list[Field], drop: int) -> list[bytes]:
        """The lines that travel on, where that isn't told by their flags alone."""
        unwanted = connection_options(fields)
        if sum(_times_here(field.value) for field in fields if field.flags & VIA) > 1:
            raise LauncherError(
                "loop_detected",
                "The request came through this launcher before: a backend's address leads back"
                " here.",
            )
        if not drop & CREDENTIAL:
            unwanted |= self.caller.own_keys
        if self.heart is not None:
            unwanted |= {b"accept-encoding"}
        return [
            field.line for field in fields if not field.flags & drop and field.lower not in unwanted
        ]

    def _appended_forwarded(self) -> list[bytes]:
        """X-Forwarded-* behind a proxy that is trusted: the peer and our prefix are appended; Proto
        and Host stay what the outermost proxy saw, since backends read one value (uvicorn ignores
        a list)."""
        head = self.request.head
        unwanted = connection_options(self.request.fields)

        def before(name: bytes) -> bytes:
            return b", ".join(head.fields.get(name, ())) if name not in unwanted else b""

        chain = [one for one in (before(b"x-forwarded-for"), head.peer.encode()) if one]
        if head.peer == "unix":
            chain.pop()
        lines = [b"X-Forwarded-For: " + b", ".join(chain)] if chain else []
        lines.append(
            b"X-Forwarded-Proto: " + (before(b"x-forwarded-proto") or head.scheme.encode())
        )
        if host := before(b"x-forwarded-host") or head.host:
            lines.append(b"X-Forwarded-Host: " + host)
        if prefix := before(b"x-forwarded-prefix").rstrip(b"/") + self.target.prefix:
            lines.append(b"X-Forwarded-Prefix: " + prefix)
        return lines

    async def _send_body(self, connection: UpstreamConnection) -> None:
        """The task of an upload. Whatever ends it early is told to who reads the response."""
        body, length = self.body, self.body.length
        sent = 0
        try:
            while True:
                self._client_turn = True
                piece = await body.read()
                self._client_turn = False
                self._quiet_since = self._told_at = self.proxy.now()
                if not piece:
                    break
                sent += len(piece)
                if length is None:
                    piece = b"%x\r\n%b\r\n" % (len(piece), piece)
                elif sent > length:
                    raise _wrong_length()
                connection.send(piece)
                await connection.drain()
                piece = b""  # not held while the next one is waited for
            if length is None:
                connection.send(b"0\r\n\r\n")
            elif sent != length:
                raise _wrong_length()
            connection.sending = False
        except UpstreamDisconnected:
            # The exchange learns it from the connection, and what came before.
            return
        except Exception as error:  # noqa: BLE001 - or a bug in a body would hang its response
            connection.fail(error)

    # -- the response on its way back ------------------------------------------------------------

    def on_interim(self, head: ResponseHead) -> None:
        """See `http.upstream.Exchange`."""
        self._quiet_since = self._told_at = self.proxy.now()
        if self.heart is None:
            self.request.inform(head.status, head.reason, head.headers)

    def on_head(self, head: ResponseHead) -> Sink:
        """See `http.upstream.Exchange`."""
        self.awaiting_head = False
        request = self.request
        now = self.proxy.now()
        self.first_byte = now - request.received_at
        self.body.read_up()
        status = self.status = head.status
        if status == 101:
            self._switch(head)
            return request
        connection = self.connection
        assert connection is not None
        request.source = connection
        if request.connection.writing_paused:
            connection.pause_reading()
        heart = self.heart
        if heart is not None and heart.begun:
            heart.take_head(head)
            return heart
        lines = [head.first, *head.lines, *self.timing(now - self._sent_at)]
        request.start_lines(status, lines, head.length, dated=head.dated)
        return request

    def timing(self, upstream: float) -> list[bytes]:
        """Return the lines that tell of the way the response took. Server-Timing counts in
        milliseconds (W3C Server Timing, §2); `queue` is the wait without the start's share,
        `upstream` (negative: unknown) is from sending to the first byte."""
        starting = self.starting
        queue = self.queued - starting
        if not self.queued and upstream >= 0.0:
            tenths = int(upstream * 1e4 + 0.5)
            return _NO_WAIT[tenths] if tenths < len(_NO_WAIT) else [_no_wait(tenths)]
        value = b"Server-Timing: queue;dur=%.1f, start;dur=%.1f" % (
            (queue if queue > 0.0 else 0.0) * 1e3,
            starting * 1e3,
        )
        if upstream >= 0.0:
            value += b", upstream;dur=%.1f" % (upstream * 1e3)
        return [value, b"X-Launcher-Cold-Start: 1"] if self.cold else [value]

    def on_complete(self) -> None:
        """See `http.upstream.Exchange`."""
        self._let_go()
        if self._upload is not None:
            # An early answer: the rest of the upload is of no use to anybody.
            self._upload.cancel()
            self._upload = None
        request = self.request
        request.source = None
        try:
            if self.heart is not None:
                self.heart.end()
            if not request.end():
                self.outcome = "aborted"
        except ClientDisconnected:
            self.outcome = "client_gone"
        if self.outcome == "ok" and self.status >= 500:
            self.outcome = "error"
        self._over(None)

    def on_failed(self, error: Exception) -> None:
        """See `http.upstream.Exchange`."""
        connection = self.connection
        assert connection is not None
        if isinstance(error, ClientDisconnected):
            self.client_gone()
            return
        if not isinstance(error, _EXPECTED):
            log.error("a bug while %r was carried", self, exc_info=error)
            error = LauncherError("internal_error", FAILED)
        if self.answered:
            # Cut short by the backend, or by a request's body that stopped: the client must be
            # able to tell from a whole answer.
            self._discard()
            self.outcome = "aborted"
            if isinstance(error, Cut):
                self.status = self.status or error.error.status
                self.code, self.outcome = error.error.code, "cut"
            self.request.abort()
            self._over(None)
            return
        if isinstance(error, Cut | LauncherError):
            self._discard()
            self._fail(error.error if isinstance(error, Cut) else error)
            return
        if isinstance(error, RemoteProtocolError):
            failed = self._failed("bad_upstream", str(error))
        elif isinstance(error, ConnectionError):
            failed = self._failed("backend_unreachable", str(error), repeat=True)
            # A backend closes idle connections when it likes, also while a request travels.
            if connection.exchanges > 1 and failed.may_retry:
                self._retried = self._retried or self._sent
                self._discard()
                self._connect_again()
                return
        else:
            failed = self._failed("backend_unreachable", str(error))
        self._discard()
        self._over(failed)

    def _connect_again(self) -> None:
        done = self.done
        if done is not None:
            # The coroutine that waits makes the next attempt.
            self._tell(done, AGAIN)
        else:
            self.proxy.connect(self)

    def unreachable(self, error: OSError) -> Failed:
        """Return the failure of an attempt that found no connection."""
        why = os.strerror(error.errno) if error.errno else str(error)
        return self._failed("backend_unreachable", f"no connection: {why}", repeat=True)

    def _failed(self, code: str, message: str, *, repeat: bool = False) -> Failed:
        """The failure of an attempt. `repeat`: of a kind that the retry rule is for."""
        at_hand = self.body.replayable or self.body.length == 0 or not self._taken
        answered = self.connection is not None and self.connection.received
        may_retry = (
            repeat
            and at_hand
            and not self._retried
            and (not self._sent or (self.repeatable and not answered))
        )
        if self._retried:
            self.retried = True
        return Failed(code, message, may_retry=may_retry, unsent=not self._sent)

    @property
    def repeatable(self) -> bool:
        """The method is idempotent or the path is stateless inference: it may be sent again where
        not one byte came back."""
        return self.target.stateless or self.request.line.method in _IDEMPOTENT

    def _let_go(self) -> None:
        """Hand the connection back; the pool closes it if it can't carry another exchange."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self.proxy.pool.release(connection)

    def _discard(self) -> None:
        self.awaiting_head = False
        self.request.source = None
        connection, self.connection = self.connection, None
        if connection is not None:
            self.proxy.pool.discard(connection)
        if self._upload is not None:
            self._upload.cancel()
            self._upload = None

    # -- a tunnel --------------------------------------------------------------------------------

    def _switch(self, head: ResponseHead) -> None:
        """The backend switched protocols: the coroutine that waits carries the tunnel."""
        request, connection = self.request, self.connection
        assert connection is not None
        assert head.upgrade is not None
        ours = ((b"Connection", b"Upgrade"), (b"Upgrade", head.upgrade))
        timing = tuple(
            (name, value)
            for name, _, value in (
                line.partition(b": ") for line in self.timing(self.proxy.now() - self._sent_at)
            )
        )
        request.start(101, head.reason, head.headers + timing + ours)
        assert self.done is not None
        self._tell(self.done, None)

    async def tunnel(self) -> None:
        """Carry bytes both ways until both sides are closed."""
        request, connection, candidate = self.request, self.connection, self.candidate
        assert connection is not None
        assert candidate is not None
        try:
            backend, early, ended = connection.detach()
        except UpstreamDisconnected:
            request.abort()
            self.outcome = "aborted"
            return
        client = request.detach()
        admission = self.admission
        tunnel = self._tunnel = Tunnel(
            client.transport,
            backend,
            idle=candidate.route.tunnel_idle,
            on_silent=None if admission is None else admission.silence,
        )
        self.outcome = "tunnel"
        done = await tunnel.run(
            from_client=client.leftover, from_backend=early, backend_ended=ended
        )
        if not done.complete:
            self.outcome = "aborted"

    # -- ends --------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """About a second has passed: look whether the backend says nothing for too long."""
        if not self.awaiting_head or self.candidate is None or self.connection is None:
            return
        if self._client_turn:
            self._quiet_since = self._told_at = now
            return
        timeout = self.candidate.route.response_timeout
        if timeout is not None and now - self._quiet_since >= timeout:
            self.connection.fail(ResponseTimeout(f"no response within {timeout:g} s"))
        elif now - self._told_at >= SILENCE:
            self._told_at = now
            self.proxy.gate.watch_silence(self.grant)

    def client_gone(self) -> None:
        """The client left, and nobody waits here who could be cancelled."""
        if self._recorded:
            return
        self._discard()
        self.status, self.outcome = CLIENT_GONE, "client_gone"
        if self.done is not None:
            return
        self._finish()

    def shut_down(self) -> None:
        """The launcher doesn't wait for it any longer."""
        if self._recorded or self.request.task is not None:
            return
        self._discard()
        error = LauncherError("draining", "The launcher is shutting down.")
        self.status = self.status or error.status
        self.code, self.outcome = error.code, "cut"
        self.request.abort()
        self._finish()

    def cut(self, error: LauncherError) -> None:
        """The gate ends the exchange: its backend is stopped by force, or hung."""
        if self.on_cut is not None:
            self.on_cut(error)
        elif self.connection is not None:
            self.proxy.loop.call_soon(self._cut_now, error)

    def _cut_now(self, error: LauncherError) -> None:
        if self.connection is not None and not self._recorded:
            self.connection.fail(Cut(error))

    def _fail(self, error: LauncherError) -> None:
        """It ends with an error that the client is told."""
        done, self.done = self.done, None
        if done is not None:
            if not done.done():
                done.set_exception(error)
            return
        self.refuse(error)
        self._finish()

    def _over(self, failed: Failed | None) -> None:
        """An attempt has ended: with a response, or (`failed`) without."""
        if self.done is not None:
            self._tell(self.done, failed)
        elif failed is None:
            self._finish()
        else:
            self.proxy.recover(self, failed)

    def _tell(self, done: asyncio.Future[Failed | None], failed: Failed | None) -> None:
        """Tell the coroutine that waits, unless that was cancelled in this very turn."""
        self.done = None
        if not done.done():
            done.set_result(failed)

    def refuse(self, error: LauncherError) -> None:
        """Tell the client, or cut what was begun: half an answer can't be taken back, and the
        client must be able to tell."""
        request, heart = self.request, self.heart
        if self.answered:
            self.status = self.status or error.status
            self.code, self.outcome = error.code, "cut"
            request.abort()
            return
        self.status, self.code, self.outcome = error.status, error.code, "error"
        show = self.caller.sees_details()
        status, reason, headers, body = render(error, show_detail=show)
        try:
            if heart is not None and heart.begun:
                heart.tell(status, body)
                request.end()
                return
            if self.destination is not None:
                more: RawHeaders = tuple(
                    (name, value)
                    for name, _, value in (line.partition(b": ") for line in self.timing(-1.0))
                )
            else:
                more = OWN_HEADERS
            request.start(status, reason, headers + more)
            request.push(body)
            request.end()
        except ClientDisconnected:
            self.status, self.outcome = CLIENT_GONE, "client_gone"
            request.abort()

    def _finish(self) -> None:
        """The end, where no coroutine sees to it."""
        self.account()
        if self.request.task is None:
            self.request.over()

    def close(self) -> None:
        """Let go of the backend's connection, where one is still held."""
        self.done = None
        self._discard()

    def release(self, *, ok: bool) -> None:
        """Give the place back."""
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.leave(self, self.proxy.now(), ok)
        if self.admission is not None:
            self.admission.ok = ok
        held, self.held = self.held, None
        self.admission = None
        if held is not None:
            held.close()

    def account(self) -> None:
        """It is over, however: give back what it held, and leave a record. Once more: nothing."""
        if self._recorded:
            return
        self._recorded = True
        proxy, request = self.proxy, self.request
        outcome = self.outcome
        self.release(ok=self.status < 500 and outcome in ("ok", "tunnel"))
        self.body.close()
        now = proxy.now()
        duration = now - request.received_at
        key = self.key
        if self.metered and key is not None:
            proxy.access.meter(key).leave(duration)
        sent = request.sent if self._tunnel is None else self._tunnel.to_client
        # The tuple itself: the named constructor costs as much as a quarter of this method.
        proxy.on_done(
            _record(
                ExchangeRecord,
                (
                    time.time(),
                    request.line.method,
                    self.target.shown,
                    request.connection.peer,
                    self.route,
                    self.backend,
                    self.model,
                    self.status,
                    self.code,
                    outcome,
                    self.cold,
                    self.queued,
                    self.starting,
                    self.first_byte,
                    duration,
                    request.body_read,
                    sent,
                    self.retried or self._retried,
                    "" if key is None else key.name,
                ),
            )
        )


class CutBlock:
    """A block that a callback can end from outside, with an error: `admission.on_abort = cut`.

    Told apart from the cancellation of the client's leaving by the count that `Task.cancelling`
    keeps, as `asyncio.timeout` does it.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._before = 0
        self._error: LauncherError | None = None
        self.asked: LauncherError | None = None
        """With what it was to be ended, whether or not it was left before that."""

    def __call__(self, error: LauncherError) -> None:
        """End the block; at the next turn of the loop, so that it is always waiting for
        something then."""
        self.asked = error
        asyncio.get_running_loop().call_soon(self._cancel, error)

    def _cancel(self, error: LauncherError) -> None:
        if self._task is not None and self._error is None:
            self._error = error
            self._task.cancel()

    def __enter__(self) -> CutBlock:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._before = self._task.cancelling()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        task, self._task = self._task, None
        if self._error is None or task is None:
            return
        others = task.uncancel() > self._before
        if not others and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise self._error from None


def _times_here(via: bytes) -> int:
    """How often this launcher stands in a Via value (`protocol pseudonym [comment]`)."""
    times = 0
    for hop in via.split(b","):
        words = hop.split()
        times += len(words) > 1 and words[1] == PSEUDONYM
    return times


def _wrong_length() -> LauncherError:
    return LauncherError("bad_request", "The body isn't as long as its Content-Length says.")


_record: Final[Callable[[type[ExchangeRecord], tuple[object, ...]], ExchangeRecord]] = tuple.__new__
#: Behind the request line and Host.
_FIRST_FIELD: Final = 2


def _no_wait(tenths: int) -> bytes:
    return b"Server-Timing: queue;dur=0.0, start;dur=0.0, upstream;dur=%.1f" % (tenths / 10)


#: The lines of those that waited for nothing, by tenths of a millisecond of their upstream.
_NO_WAIT: Final = tuple([_no_wait(tenths)] for tenths in range(2000))
_VIA_1_1: Final = b"Via: 1.1 " + PSEUDONYM
_VIA_1_0: Final = b"Via: 1.0 " + PSEUDONYM
