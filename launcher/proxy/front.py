"""The front: listens, and hands each request to the handler as an Exchange.

With `connection.py` the only importer of aiohttp's server. It must not know routes, keys or
backends. It counts the exchanges that run, since a shutdown waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from typing import cast

from aiohttp import StreamReader, web
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler

from launcher import tasks
from launcher.config import Listen
from launcher.errors import LauncherError, render
from launcher.http.exchange import NO_HEAD, ClientGone, Handler, RequestHead
from launcher.proxy import listening
from launcher.proxy.client import ClientExchange, Limits, answer
from launcher.proxy.connection import LINGER, Carry, ClientConnection, Request
from launcher.proxy.framing import check_head
from launcher.proxy.hangup import Allowance
from launcher.proxy.outgoing import Outgoing

log = logging.getLogger(__name__)


class _Server(web.Server):
    """aiohttp's low-level server, making our kind of connection."""

    def __init__(
        self, carry: Carry, limits: Limits, allowance: Allowance, *, operators: bool
    ) -> None:
        super().__init__(_no_handler, handler_cancellation=True)
        self._carry = carry
        self._limits = limits
        self._allowance = allowance
        self._operators = operators

    def __call__(self) -> RequestHandler:
        return ClientConnection(
            self,
            loop=self._loop,
            carry=self._carry,
            limits=self._limits,
            allowance=self._allowance,
            operators=self._operators,
        )


async def _no_handler(request: web.BaseRequest) -> web.StreamResponse:
    """What aiohttp's own loop over requests would call; our connections have another."""
    raise NotImplementedError


def make_exchange(
    message: Request, body: StreamReader, connection: ClientConnection
) -> ClientExchange:
    """The exchange for a parsed request, or for what took a request's place. A head that breaks
    a rule makes one with a `problem` instead of a head."""
    if isinstance(message, LauncherError):
        return _refused(connection, body, message, NO_HEAD)
    keep_alive = not message.should_close
    try:
        head = check_head(
            message.method,
            message.path.encode("utf-8", "surrogateescape"),
            (message.version.major, message.version.minor),
            message.raw_headers,
            peer=connection.peer,
            scheme=connection.scheme,
            max_head=connection.limits.max_head,
            operators=connection.operators,
        )
    except LauncherError as error:
        return _refused(connection, body, error, NO_HEAD._replace(method=message.method))
    if isinstance(fault := body.exception(), LauncherError):
        # What came of the body with the head is malformed already: nothing is started for it.
        return _refused(connection, body, fault, head)
    if message.chunked or (message.upgrade and body is not EMPTY_PAYLOAD):
        # aiohttp takes the last trailer for a header of the next request, which may be
        # another client's where a proxy stands in front; and it loses what follows the body
        # of a request with an Upgrade that is ignored.
        keep_alive = False
    outgoing = Outgoing(message.method, head.version, keep_alive=keep_alive)
    return ClientExchange(connection, head, body, outgoing)


def _refused(
    connection: ClientConnection,
    body: StreamReader,
    problem: LauncherError,
    head: RequestHead,
) -> ClientExchange:
    """An exchange that the handler won't see; the last one of its connection."""
    outgoing = Outgoing(head.method, head.version, keep_alive=False)
    return ClientExchange(connection, head, body, outgoing, problem)


class Front:
    """Listens for clients. Timeouts in seconds, `max_head` in bytes."""

    def __init__(
        self,
        handler: Handler,
        *,
        head_timeout: float = 30.0,
        keepalive: float = 75.0,
        body_timeout: float = 60.0,
        max_head: int = 64 * 1024,
    ) -> None:
        self.handler = handler
        """Who carries the next exchange; may be replaced at any time."""
        self._limits = Limits(head_timeout, body_timeout, keepalive, max_head)
        self._bound: tuple[listening.Bound, ...] = ()
        self._listeners: list[asyncio.Server] = []
        self._servers: tuple[_Server, ...] = ()
        self._running: set[ClientConnection] = set()
        self._closing = False

    def __repr__(self) -> str:
        where = ", ".join(map(str, self.addresses)) or "closed"
        return f"<Front {where}, {self.active} active>"

    @property
    def addresses(self) -> tuple[Listen, ...]:
        """What is bound: real ports for port 0, one entry per address of a name."""
        return tuple(one.address for one in self._bound)

    @property
    def active(self) -> int:
        """Exchanges whose handler runs, tunnels among them."""
        return len(self._running)

    @property
    def operators(self) -> tuple[Listen, ...]:
        """Those of the addresses where operators' endpoints answer."""
        return tuple(one.address for one in self._bound if one.operators)

    async def bind(self, listen: Sequence[Listen], operators: Sequence[Listen] = ()) -> None:
        """Take all addresses; clients that come wait until `open`. Where there are addresses
        for `operators`, their endpoints answer there alone. Raises ConfigError where one can't
        be had; nothing is bound then."""
        self._bound = await asyncio.to_thread(listening.bind, listen, operators)

    async def open(self, tls: ssl.SSLContext | None) -> None:
        """Accept clients at what is bound (TLS on TCP addresses only)."""
        loop = asyncio.get_running_loop()
        allowance = Allowance()
        clients, operators = self._servers = (
            _Server(self._serve, self._limits, allowance, operators=False),
            _Server(self._serve, self._limits, allowance, operators=True),
        )
        for one in self._bound:
            server = operators if one.operators else clients
            if one.address.unix_path is not None:
                opened = await loop.create_unix_server(server, sock=one.sock)
            else:
                opened = await loop.create_server(
                    server,
                    sock=one.sock,
                    ssl=tls,
                    ssl_handshake_timeout=None if tls is None else self._limits.head_timeout,
                    backlog=listening.BACKLOG,
                )
            self._listeners.append(opened)

    async def close(self, drain_timeout: float) -> None:
        """Stop accepting, close idle connections, give running exchanges `drain_timeout`
        seconds to end, then cancel their handlers and cut their connections. Once more: nothing."""
        self._closing = True
        for connection in self._running:
            if connection.exchange is not None:
                connection.exchange.outgoing.keep_alive = False
        for opened in self._listeners:
            opened.close()
        self._listeners.clear()
        bound, self._bound = self._bound, ()
        await asyncio.to_thread(_remove_all, bound)
        if not self._servers:
            return
        deadline = asyncio.get_running_loop().time() + drain_timeout
        for connection in self._connections():
            if connection.idle:
                connection.force_close()
        try:
            await self._until_gone(deadline)
        finally:
            # Also where a second signal ends the waiting: what runs ends here, and not after
            # all that it leans on.
            await tasks.cancel(*(connection.task for connection in self._running))
            for connection in self._connections():
                if connection.wire is not None:
                    connection.wire.abort()
            await self._until_gone(asyncio.get_running_loop().time() + LINGER)

    def _connections(self) -> list[ClientConnection]:
        return [
            cast(ClientConnection, one) for server in self._servers for one in server.connections
        ]

    async def _until_gone(self, deadline: float) -> None:
        """Wait until no exchange runs and no connection is open, or until the deadline."""
        loop = asyncio.get_running_loop()
        # Shutdowns are rare, and their end isn't one event: looking is simpler than hooks.
        while (self._running or self._connections()) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(min(0.01, max(0.0, deadline - loop.time())))

    async def _serve(
        self,
        message: Request,
        body: StreamReader,
        connection: ClientConnection,
    ) -> bool:
        """One request of a connection, in the connection's task, which is cancelled if the
        client leaves. Returns whether the connection can carry another."""
        connection.exchange = exchange = make_exchange(message, body, connection)
        self._running.add(connection)
        if self._closing:
            exchange.outgoing.keep_alive = False
        try:
            await self._carry(exchange)
        finally:
            self._running.discard(connection)
            connection.exchange_over()
        if not exchange.finished or exchange.gone:
            return False
        if exchange.body_rest == 0 and exchange.problem is None:
            return exchange.outgoing.keep_alive and not self._closing
        return await self._settle_body(exchange, connection)

    async def _carry(self, exchange: ClientExchange) -> None:
        """Run the handler; whatever it does, the exchange has an end the client can trust."""
        try:
            if exchange.problem is not None:
                raise exchange.problem
            await self.handler(exchange)
            if not exchange.ended:
                raise RuntimeError(f"the handler left {exchange!r} without an end")
        except asyncio.CancelledError:
            exchange.abort()
            raise
        except ClientGone:
            exchange.abort()
        except LauncherError as error:
            await self._answer(exchange, error)
        except Exception:  # a bug ends in a 500 or in a cut, never in half an answer
            log.exception("the handler failed")
            await self._answer(
                exchange,
                LauncherError("internal_error", "The launcher failed; its log has the details."),
            )
        finally:
            if exchange.detached is not None and not exchange.detached.is_closing():
                exchange.detached.close()

    async def _answer(self, exchange: ClientExchange, error: LauncherError) -> None:
        try:
            await answer(exchange, render(error, show_detail=False))
        except ClientGone:
            exchange.abort()

    async def _settle_body(self, exchange: ClientExchange, connection: ClientConnection) -> bool:
        """After an answer that came before the body's end: whether the connection can carry
        another request; where it can't, the client gets time to read the answer before the
        connection closes."""
        keep = exchange.outgoing.keep_alive and not self._closing
        if keep and await exchange.skip_body(LINGER):
            return True
        await connection.linger()
        return False


def _remove_all(bound: Sequence[listening.Bound]) -> None:
    for one in bound:
        one.remove()
