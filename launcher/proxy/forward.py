"""One exchange, carried to a granted backend and back: both bodies streamed, the abort rules.

It decides nothing that the plan doesn't say. It must not know routes, tickets, or how the
client's side was parsed.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Coroutine
from typing import Any, Final

from launcher import tasks
from launcher.errors import LauncherError
from launcher.http.exchange import ClientGone, Exchange, RawHeaders
from launcher.proxy.headers import request_headers, wanted_upgrade
from launcher.proxy.plan import Carried, Plan, RequestBody, UpstreamFailed
from launcher.proxy.pool import UpstreamPool
from launcher.proxy.response import BadResponse, ResponseHead
from launcher.proxy.tunnel import Tunnel
from launcher.proxy.upstream import Disconnected, UpstreamConnection

#: Seconds without a first byte after which the plan's `on_silence` is called.
SILENCE: Final = 30.0
#: A kept body up to this many bytes goes out in one write with the head.
INLINE: Final = 256 * 1024

#: RFC 9112 §3.2: a target with any of these would be a request line of somebody's own making.
_NOT_IN_TARGET: Final = re.compile(rb"[\x00-\x20\x7f]")


class _TooSlow(Exception):
    """No first byte within the plan's `response_timeout`."""


def forward(
    exchange: Exchange,
    body: RequestBody,
    plan: Plan,
    pool: UpstreamPool,
    *,
    silence: float = SILENCE,
) -> Coroutine[Any, Any, Carried]:
    """Send the request, and its response back, as it comes.

    Sends a request again, once, where a kept-alive connection turned out dead and the retry
    rule allows it. Raises UpstreamFailed (nothing was written to the client, interim
    responses aside), LauncherError (`loop_detected`, `bad_request`, `bad_target`, or what the
    body's `read` raised), ClientGone. Cancelled, it closes the backend's connection at once.
    """
    return _Forwarding(exchange, body, plan, pool, silence).run()


def request_head(exchange: Exchange, body: RequestBody, plan: Plan, upgrade: bytes | None) -> bytes:
    """The request's head in bytes, as the backend gets it. Raises LauncherError."""
    target = plan.endpoint.base_path.encode() + plan.path
    if not target:
        target = b"/"
    if plan.query is not None:
        target = b"%b?%b" % (target, plan.query)
    if _NOT_IN_TARGET.search(target) or not target.startswith((b"/", b"*")):
        raise LauncherError("bad_target", "The request target has characters that HTTP forbids.")
    head = exchange.head
    headers = request_headers(head, plan, length=body.length, upgrade=upgrade)
    first = b"%b %b HTTP/1.1" % (head.method.encode(), target)
    return b"\r\n".join((first, *map(b": ".join, headers), b"", b""))


class _Forwarding:
    """The state of one call of `forward`."""

    __slots__ = (
        "_body",
        "_carried",
        "_client_turn",
        "_connection",
        "_exchange",
        "_head",
        "_loop",
        "_plan",
        "_pool",
        "_quiet_since",
        "_retried",
        "_sent",
        "_silence",
        "_status",
        "_taken",
        "_timer",
        "_told_at",
        "_upgrade",
        "_upload",
    )

    def __init__(
        self, exchange: Exchange, body: RequestBody, plan: Plan, pool: UpstreamPool, silence: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._exchange = exchange
        self._body = body
        self._plan = plan
        self._pool = pool
        self._silence = silence
        self._upgrade = wanted_upgrade(exchange.head)
        self._head = request_head(exchange, body, plan, self._upgrade)
        self._connection: UpstreamConnection | None = None
        self._upload: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._taken = False
        """Some of the body may have been read."""
        self._sent = False
        """Some of the request may have left, on any connection."""
        self._retried = False
        self._carried = 0
        """Bytes of the response's body."""
        self._status = 0
        """Of the final head, once the client has it."""
        self._client_turn = False
        """It is the client that is waited for: not the backend's silence."""
        self._quiet_since = 0.0
        self._told_at = 0.0

    async def run(self) -> Carried:
        try:
            return await self._carry(*await self._first_head())
        except (ClientGone, asyncio.CancelledError):
            if self._plan.on_cut is not None:
                self._plan.on_cut(self._status, self._carried)
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._connection is not None:
                self._pool.discard(self._connection)
            if self._upload is not None:
                await tasks.cancel(self._upload)

    # -- the request, up to a final head -------------------------------------------------

    async def _first_head(self) -> tuple[UpstreamConnection, ResponseHead]:
        """Send the request until a final head comes back; a second time at most."""
        # What can't be sent twice goes on a connection that can't have gone stale.
        fresh = not (self._plan.retry and (self._body.replayable or self._body.length == 0))
        while True:
            connection = await self._connect(fresh)
            try:
                return connection, await self._attempt(connection)
            except (ClientGone, LauncherError):
                raise
            except BadResponse as error:
                raise self._failed(connection, "bad_upstream", str(error)) from error
            except _TooSlow as error:
                raise self._failed(connection, "backend_unreachable", str(error)) from error
            except ConnectionError as error:
                failed = self._failed(connection, "backend_unreachable", str(error), repeat=True)
                if connection.exchanges == 1 or not failed.may_retry:
                    raise failed from error
            # A backend closes idle connections when it likes, also while a request travels.
            self._retried = self._retried or self._sent
            fresh = True
            self._let_go()
            if self._upload is not None:
                await tasks.cancel(self._upload)
                self._upload = None

    async def _connect(self, fresh: bool) -> UpstreamConnection:
        endpoint = self._plan.endpoint
        try:
            connection = None if fresh else self._pool.idle(endpoint)
            if connection is None:
                connection = await self._pool.acquire(endpoint, fresh=True)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise self._failed(
                None, "backend_unreachable", f"no connection: {why}", repeat=True
            ) from error
        self._connection = connection
        return connection

    async def _attempt(self, connection: UpstreamConnection) -> ResponseHead:
        exchange = self._exchange
        connection.begin(exchange.head.method, upgrade=self._upgrade is not None)
        self._send(connection)
        self._watch()
        head = await connection.next_head()
        while not head.final:
            self._touch()
            await exchange.inform(head.status, head.reason, head.headers)
            head = await connection.next_head()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return head

    def _send(self, connection: UpstreamConnection) -> None:
        """The head, and as much of the body as takes no waiting for the backend."""
        body, length = self._body, self._body.length
        data = self._head
        if length != 0:
            if body.replayable:
                body.rewind()
            whole = body.at_once() if length is not None and length <= INLINE else None
            if whole is None:
                connection.sending = True
            elif len(whole) != length:
                raise _wrong_length()
            else:
                data += whole
        connection.send(data)
        self._sent = True
        if connection.sending:
            self._taken = True
            self._upload = tasks.spawn(self._stream(connection), name="upload")

    async def _stream(self, connection: UpstreamConnection) -> None:
        """The task of an upload. Whatever ends it early is told to who reads the response."""
        body, length = self._body, self._body.length
        sent = 0
        try:
            while True:
                self._client_turn = True
                piece = await body.read()
                self._client_turn = False
                self._touch()
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
        except Disconnected:
            # The reader of the response learns it from the connection, and what came before.
            return
        except Exception as error:  # noqa: BLE001 - or a bug in a body would hang its response
            connection.fail(error)

    # -- the response ----------------------------------------------------------------------

    async def _carry(self, connection: UpstreamConnection, head: ResponseHead) -> Carried:
        exchange, plan = self._exchange, self._plan
        headers = head.headers
        if plan.on_first_byte is not None:
            headers += plan.on_first_byte()
        if head.upgrade is not None and head.status == 101:
            return await self._tunnel(connection, head, headers, head.upgrade)
        await exchange.respond(head.status, head.reason, headers)
        self._status = head.status
        try:
            while not await connection.relay(self._hand_on):
                await exchange.drained()
        except ClientGone:
            raise
        except (BadResponse, ConnectionError, LauncherError):
            # Cut short by the backend, or by a request's body that stopped: the client must
            # be able to tell from a whole answer.
            exchange.abort()
            return Carried(head.status, self._carried, complete=False, retried=self._retried)
        # A slow client needs the last piece, but not the backend any more.
        self._let_go()
        if self._upload is not None:
            # An early answer: the rest of the upload is of no use to anybody.
            await tasks.cancel(self._upload)
        await exchange.finish()
        return Carried(head.status, self._carried, retried=self._retried)

    def _hand_on(self, data: bytes) -> bool:
        """A piece of the response, straight from where it was read to the client."""
        self._carried += len(data)
        return self._exchange.push(data)

    async def _tunnel(
        self,
        connection: UpstreamConnection,
        head: ResponseHead,
        headers: RawHeaders,
        upgrade: bytes,
    ) -> Carried:
        exchange, plan = self._exchange, self._plan
        ours = ((b"Connection", b"Upgrade"), (b"Upgrade", upgrade))
        await exchange.respond(101, head.reason, headers + ours)
        self._status = 101
        try:
            backend, early, ended = connection.detach()
        except Disconnected:
            exchange.abort()
            return Carried(101, 0, tunnel=True, complete=False, retried=self._retried)
        client = exchange.detach()
        tunnel = Tunnel(
            client.transport, backend, idle=plan.tunnel_idle, on_silent=plan.on_tunnel_silent
        )
        try:
            done = await tunnel.run(
                from_client=client.leftover, from_backend=early, backend_ended=ended
            )
        finally:
            self._carried = tunnel.to_client
        return Carried(
            101, done.to_client, tunnel=True, complete=done.complete, retried=self._retried
        )

    # -- inside ------------------------------------------------------------------------------

    @property
    def _at_hand(self) -> bool:
        return self._body.replayable or self._body.length == 0 or not self._taken

    def _let_go(self) -> None:
        """Hand the connection back; the pool closes it if it can't carry another exchange."""
        if self._connection is not None:
            self._pool.release(self._connection)
            self._connection = None

    def _failed(
        self,
        connection: UpstreamConnection | None,
        code: str,
        message: str,
        *,
        repeat: bool = False,
    ) -> UpstreamFailed:
        """The failure of an attempt. `repeat`: of a kind that the retry rule is for."""
        answered = connection is not None and connection.received
        may_retry = (
            repeat
            and self._at_hand
            and not self._retried
            and (not self._sent or (self._plan.retry and not answered))
        )
        return UpstreamFailed(
            code, message, may_retry=may_retry, unsent=not self._sent, retried=self._retried
        )

    # -- a backend that says nothing -----------------------------------------------------------

    def _touch(self) -> None:
        self._quiet_since = self._told_at = self._loop.time()

    def _watch(self) -> None:
        plan = self._plan
        if plan.on_silence is None and plan.response_timeout is None:
            return
        self._touch()
        self._timer = self._loop.call_later(self._next_look(), self._look)

    def _next_look(self) -> float:
        plan, now = self._plan, self._loop.time()
        silence = self._told_at + self._silence - now
        if plan.response_timeout is None:
            return silence
        timeout = self._quiet_since + plan.response_timeout - now
        return timeout if plan.on_silence is None else min(silence, timeout)

    def _look(self) -> None:
        plan, now = self._plan, self._loop.time()
        if self._client_turn:
            self._touch()
        elif plan.response_timeout is not None and now - self._quiet_since >= plan.response_timeout:
            if self._connection is not None:
                self._connection.fail(_TooSlow(f"no response within {plan.response_timeout:g} s"))
            return
        elif plan.on_silence is not None and now - self._told_at >= self._silence:
            self._told_at = now
            plan.on_silence()
        self._timer = self._loop.call_later(max(self._next_look(), 0.0), self._look)


def _wrong_length() -> LauncherError:
    return LauncherError("bad_request", "The body isn't as long as its Content-Length says.")
