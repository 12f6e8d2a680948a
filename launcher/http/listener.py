"""Sockets that clients connect to: bound, served, and shut down in order."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from launcher import tasks
from launcher.errors import ConfigError
from launcher.http.endpoint import Listen
from launcher.http.headers import FieldTable
from launcher.http.server import (
    LINGER,
    SWEEP,
    ClientConnection,
    Limits,
    Request,
    Shared,
)

log = logging.getLogger(__name__)

BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Bound:
    """A listening socket, and the address it really has."""

    sock: socket.socket
    address: Listen
    inode: int | None = None
    """Of a Unix socket's path: what is removed later has to be ours."""
    operators: bool = True
    """Operators' endpoints answer there."""

    def remove(self) -> None:
        """Close it, and take a Unix socket's path away unless somebody replaced it."""
        self.sock.close()
        path = self.address.unix_path
        if path is None:
            return
        try:
            if os.stat(path).st_ino == self.inode:
                os.unlink(path)
        except FileNotFoundError:
            pass


def bind(addresses: Sequence[Listen], operators: Sequence[Listen] = ()) -> tuple[Bound, ...]:
    """Listening, non-blocking sockets for all addresses, or none of them: raises ConfigError
    with a line for each address that can't be had. Operators' addresses come last; where there
    are none, all are theirs too."""
    bound: list[Bound] = []
    problems: list[str] = []
    wanted = [(address, not operators) for address in addresses]
    for address, for_operators in [*wanted, *((address, True) for address in operators)]:
        try:
            if address.unix_path is not None:
                found = [_bind_unix(address.unix_path)]
            else:
                found = _bind_tcp(address)
        except OSError as error:
            problems.append(f"can't listen on {address}: {_reason(error)}")
        else:
            bound += [replace(one, operators=for_operators) for one in found]
    if problems:
        for one in bound:
            one.remove()
        raise ConfigError(problems)
    return tuple(bound)


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "it is in use; stop what listens there, or choose another address"
    if error.errno == errno.EACCES:
        return "permission denied; ports below 1024 need root, a path needs write access"
    return error.strerror or str(error)


def _bind_tcp(address: Listen) -> list[Bound]:
    infos = socket.getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound: list[Bound] = []
    missing: OSError | None = None
    try:
        for family, kind, proto, _, where in dict.fromkeys(infos):
            try:
                sock = socket.socket(family, kind, proto)
            except OSError as error:
                missing = error  # a kernel without IPv6 still resolves names to it
                continue
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(where)
                sock.listen(BACKLOG)
                sock.setblocking(False)
            except OSError as error:
                sock.close()
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                missing = error
                continue
            host, port = sock.getsockname()[:2]
            bound.append(Bound(sock, Listen(host, port)))
    except OSError:
        for one in bound:
            one.remove()
        raise
    if not bound:
        raise missing or OSError(errno.EADDRNOTAVAIL, "the name has no address")
    return bound


def _bind_unix(path: str) -> Bound:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return Bound(sock, Listen(unix_path=path), os.stat(path).st_ino)
    except OSError:
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    """Take away the path of a socket that nobody listens on, as a crash leaves it."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file of that name that isn't a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # alive, and its backlog is full
    raise OSError(errno.EADDRINUSE, "in use")


class Server:
    """Listens for clients, and hands each request to `on_request`."""

    def __init__(
        self,
        on_request: Callable[[Request], None],
        limits: Limits | None = None,
        fields: FieldTable | None = None,
    ) -> None:
        self._shared = Shared(on_request, limits or Limits(), fields)
        self._bound: tuple[Bound, ...] = ()
        self._listeners: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        where = ", ".join(map(str, self.addresses)) or "closed"
        return f"<Server {where}, {self.active} active>"

    @property
    def addresses(self) -> tuple[Listen, ...]:
        """What is bound: real ports for port 0, one entry per address of a name."""
        return tuple(one.address for one in self._bound)

    @property
    def operators(self) -> tuple[Listen, ...]:
        """Those of the addresses where operators' endpoints answer."""
        return tuple(one.address for one in self._bound if one.operators)

    @property
    def on_request(self) -> Callable[[Request], None]:
        """Who takes the next request; may be replaced at any time."""
        return self._shared.on_request

    @on_request.setter
    def on_request(self, on_request: Callable[[Request], None]) -> None:
        self._shared.on_request = on_request

    @property
    def requests(self) -> set[Request]:
        """Those under way, tunnels among them."""
        return self._shared.requests

    @property
    def active(self) -> int:
        """How many requests are under way."""
        return len(self._shared.requests)

    async def bind(self, listen: Sequence[Listen], operators: Sequence[Listen] = ()) -> None:
        """Take all addresses; clients that come wait until `open`. Where there are addresses
        for `operators`, their endpoints answer there alone. Raises ConfigError where one can't
        be had; nothing is bound then."""
        self._bound = await asyncio.to_thread(bind, listen, operators)

    async def open(self, tls: ssl.SSLContext | None) -> None:
        """Accept clients at what is bound (TLS on TCP addresses only)."""
        loop = asyncio.get_running_loop()
        shared = self._shared

        def for_clients() -> ClientConnection:
            return ClientConnection(shared, operators=False)

        def for_operators() -> ClientConnection:
            return ClientConnection(shared, operators=True)

        for one in self._bound:
            factory = for_operators if one.operators else for_clients
            if one.address.unix_path is not None:
                opened = await loop.create_unix_server(factory, sock=one.sock)
            else:
                opened = await loop.create_server(
                    factory,
                    sock=one.sock,
                    ssl=tls,
                    ssl_handshake_timeout=None if tls is None else shared.limits.head_timeout,
                    backlog=BACKLOG,
                )
            self._listeners.append(opened)
        self._sweep()

    async def close(self, drain_timeout: float) -> None:
        """Stop accepting, close idle connections, give running exchanges `drain_timeout`
        seconds to end, then cancel them and cut their connections. Once more: nothing."""
        shared = self._shared
        shared.closing = True
        for request in shared.requests:
            request.keep_alive = False
        for opened in self._listeners:
            opened.close()
        self._listeners.clear()
        bound, self._bound = self._bound, ()
        await asyncio.to_thread(_remove_all, bound)
        deadline = asyncio.get_running_loop().time() + drain_timeout
        for connection in list(shared.connections):
            if connection.idle:
                if connection.transport.get_write_buffer_size():
                    connection.transport.close()
                else:
                    connection.transport.abort()
        try:
            await self._until_gone(deadline)
        finally:
            # Also where a second signal ends the waiting: what runs ends here, and not after
            # all that it leans on.
            for request in list(shared.requests):
                if request.carrier is not None:
                    request.carrier.shut_down()
            running = [one.task for one in shared.requests if one.task is not None]
            # Not before they have begun: a coroutine that never ran puts nothing in order.
            await asyncio.sleep(0)
            await tasks.cancel(*running)
            for connection in list(shared.connections):
                connection.transport.abort()
            await self._until_gone(asyncio.get_running_loop().time() + LINGER)
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None

    async def _until_gone(self, deadline: float) -> None:
        """Wait until no exchange runs and no connection is open, or until the deadline."""
        loop, shared = asyncio.get_running_loop(), self._shared
        # Shutdowns are rare, and their end isn't one event: looking is simpler than hooks.
        while (shared.requests or shared.connections) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(min(0.01, max(0.0, deadline - loop.time())))

    def _sweep(self) -> None:
        """One look at all connections a second, in the place of a timer for each deadline."""
        loop, shared = asyncio.get_running_loop(), self._shared
        now = loop.time()
        limits = shared.limits
        shortest = min(limits.head_timeout, limits.keepalive)
        self._sweeper = loop.call_later(min(SWEEP, shortest / 2), self._sweep)
        for connection in list(shared.connections):
            try:
                connection.sweep(now)
            except Exception:  # a bug in one exchange is no other's misfortune
                log.exception("a bug while %r was looked after", connection)
                connection.transport.abort()


def _remove_all(bound: Sequence[Bound]) -> None:
    for one in bound:
        one.remove()
