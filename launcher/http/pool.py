"""Connections to backends: opened where needed, kept for a few seconds.

Which idle connection to give is decided in one synchronous pass. One that dies while it is idle
says so by itself.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final

from launcher.http.endpoint import Endpoint
from launcher.http.errors import ConnectTimeout, UpstreamDisconnected
from launcher.http.upstream import UpstreamConnection

#: Seconds. uvicorn and cpp-httplib close idle connections after 5.
IDLE: Final = 4.0
#: Seconds for name look-up, TCP and TLS together.
CONNECT_TIMEOUT: Final = 5.0


class _Shelf:
    """The idle connections to one backend, from one start of it to its stop."""

    __slots__ = ("forgotten", "idle")

    def __init__(self) -> None:
        self.idle: deque[UpstreamConnection] = deque()
        self.forgotten = False
        """The backend was stopped."""


class UpstreamPool:
    """All connections to backends. Durations in seconds; `tls` replaces the default trust."""

    def __init__(
        self,
        *,
        idle: float = IDLE,
        connect_timeout: float = CONNECT_TIMEOUT,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._keep_for = idle
        self._loop = asyncio.get_running_loop()
        self._connect_timeout = connect_timeout
        self._tls = tls
        self._shelves: dict[Endpoint, _Shelf] = {}
        self._last: tuple[Endpoint, _Shelf] | None = None
        """The one asked for last: an endpoint's hash is dear, and they come in runs."""
        self._open: dict[UpstreamConnection, _Shelf] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self.openers: dict[Endpoint, Callable[[], socket.socket]] = {}
        """Endpoints within this process, and what makes a connected socket to each."""

    def __repr__(self) -> str:
        return f"<UpstreamPool {self.open_connections} open, {self.idle_connections} idle>"

    @property
    def open_connections(self) -> int:
        """Connections that are open, in use or idle; tunnels included."""
        return len(self._open)

    @property
    def idle_connections(self) -> int:
        """Connections that are kept for the next exchange."""
        return sum(len(shelf.idle) for shelf in self._shelves.values())

    async def acquire(self, endpoint: Endpoint, *, fresh: bool = False) -> UpstreamConnection:
        """A connection, for the caller alone until `release` or `discard`.

        `fresh`: one that was never used, so that it can't have been closed meanwhile by a
        backend that keeps them for a shorter time than we do; it takes an idle one's place.
        Raises OSError (TimeoutError included) where the backend can't be reached.
        """
        connection = None if fresh else self.idle(endpoint)
        if connection is not None:
            return connection
        shelf = self._shelves.get(endpoint)
        if shelf is None:
            shelf = self._shelves[endpoint] = _Shelf()
            self._last = (endpoint, shelf)
        if shelf.idle:
            self.discard(shelf.idle.popleft())
        return await self._connect(endpoint, shelf)

    def idle(self, endpoint: Endpoint) -> UpstreamConnection | None:
        """A kept connection, for the caller alone as with `acquire`; None where there is none."""
        last = self._last
        if last is not None and last[0] is endpoint:
            shelf = last[1]
        else:
            found = self._shelves.get(endpoint)
            if found is None:
                return None
            shelf = found
            self._last = (endpoint, shelf)
        oldest = self._loop.time() - self._keep_for
        while shelf.idle:
            # The one used last: the others may grow old.
            connection = shelf.idle.pop()
            if connection.idle_since > oldest and not connection.closed:
                return connection
            self.discard(connection)
        return None

    def release(self, connection: UpstreamConnection) -> None:
        """The exchange is over: keep the connection if it can carry another, else close it."""
        shelf = self._open.get(connection)
        if shelf is None or not connection.reusable or self._keep_for <= 0 or shelf.forgotten:
            self.discard(connection)
            return
        loop = self._loop
        connection.rest(loop.time())
        shelf.idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._keep_for, self._sweep)

    def discard(self, connection: UpstreamConnection) -> None:
        """Close it at once."""
        self._open.pop(connection, None)
        connection.drop()

    def forget(self, endpoint: Endpoint) -> None:
        """The backend was stopped: idle connections close, those in use will when released."""
        shelf = self._shelves.pop(endpoint, None)
        self._last = None
        if shelf is not None:
            shelf.forgotten = True
            for connection in list(shelf.idle):
                self.discard(connection)

    async def close(self) -> None:
        """Close every connection, those in use too; who waits on one is told nothing."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._shelves.clear()
        self._last = None
        for connection in list(self._open):
            self.discard(connection)
        # Sockets are closed in the loop's next turn.
        await asyncio.sleep(0)

    def _lost(self, connection: UpstreamConnection) -> None:
        shelf = self._open.pop(connection, None)
        if shelf is not None and connection in shelf.idle:
            shelf.idle.remove(connection)

    def _sweep(self) -> None:
        """Close what was idle for too long; come again when the next one will be."""
        self._sweeper = None
        loop = self._loop
        now = loop.time()
        next_at: float | None = None
        for shelf in list(self._shelves.values()):
            while shelf.idle and now - shelf.idle[0].idle_since >= self._keep_for:
                self.discard(shelf.idle.popleft())
            if shelf.idle:
                at = shelf.idle[0].idle_since + self._keep_for
                next_at = at if next_at is None else min(next_at, at)
        if next_at is not None:
            self._sweeper = loop.call_at(next_at, self._sweep)

    async def _connect(self, endpoint: Endpoint, shelf: _Shelf) -> UpstreamConnection:
        if self._closed:
            raise UpstreamDisconnected("the launcher closes its connections")
        connection = UpstreamConnection(endpoint, self._lost)
        loop = self._loop
        tls = self._trust() if endpoint.scheme == "https" else None
        name = (endpoint.server_name or endpoint.host or "localhost") if tls else None
        try:
            async with asyncio.timeout(self._connect_timeout):
                if (opener := self.openers.get(endpoint)) is not None:
                    await loop.create_connection(lambda: connection, sock=opener())
                elif endpoint.unix_path is not None:
                    await loop.create_unix_connection(
                        lambda: connection, endpoint.unix_path, ssl=tls, server_hostname=name
                    )
                else:
                    await loop.create_connection(
                        lambda: connection,
                        endpoint.host,
                        endpoint.port,
                        ssl=tls,
                        server_hostname=name,
                    )
        except TimeoutError:
            connection.drop()
            raise ConnectTimeout(f"no connection within {self._connect_timeout:g} s") from None
        except BaseException:
            # Cancelled in the very turn in which it was made, nobody else would close it.
            connection.drop()
            raise
        if not connection.closed:
            self._open[connection] = shelf
            if self._closed:
                self.discard(connection)
        return connection

    def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            # Reads the system's certificates, so only where a backend speaks TLS.
            self._tls = ssl.create_default_context()
        return self._tls
