"""The launcher's own endpoints, which are asked like a backend that is always up, over socket pairs
inside of the process."""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Literal, Protocol

from launcher import tasks
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.http.errors import ClientDisconnected, UpstreamDisconnected
from launcher.http.headers import STAYS_HERE, RawHeaders
from launcher.http.pool import IDLE
from launcher.http.server import Request
from launcher.http.upstream import ResponseHead, Sink, UpstreamConnection

_ENDPOINT: Final = Endpoint(unix_path="the launcher itself")
_PEER: Final = b"x-launcher-peer"


class OwnPaths(Protocol):
    """Which paths are the launcher's own."""

    def find(self, path: bytes) -> Literal["everywhere", "operators"] | None:
        """Return where it is: at every address, or at operators' alone. None: it isn't."""
        ...


class OwnServer(Protocol):
    """Who answers them."""

    def connect(self) -> socket.socket:
        """Return the client's end of a new connection."""
        ...

    def peer_header(self, peer: str, scheme: str, operators: bool) -> bytes:
        """Return the value of `X-Launcher-Peer`, which vouches for a client."""
        ...


class Own:
    """The launcher's own endpoints."""

    def __init__(self, paths: OwnPaths, server: OwnServer) -> None:
        self._paths = paths
        self._server = server
        self._idle: list[UpstreamConnection] = []

    def has(self, request: Request) -> bool:
        """Return whether the path is one of them, at the address it came in by."""
        where = self._paths.find(request.line.path)
        return where == "everywhere" or (where == "operators" and request.connection.operators)

    async def answer(self, request: Request) -> None:
        """Send a request there, and its response to the client. Raises ClientDisconnected."""
        connection = await self._connect()
        relay = _Relay(request, connection)
        try:
            connection.begin(relay, request.line.method)
            connection.send(self._head(request))
            if request.chunked or request.content_length > 0:
                connection.sending = True
                if not request.expects_continue:
                    relay.upload()
            await relay.done
        except BaseException:  # cancelled, too: a response is left on it half read
            connection.drop()
            raise
        finally:
            await tasks.cancel(relay.uploading)
        if connection.reusable:
            connection.rest(asyncio.get_running_loop().time())
            self._idle.append(connection)
        else:
            connection.drop()

    async def _connect(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since > oldest and not connection.closed:
                return connection
            connection.drop()
        sock = self._server.connect()
        _, made = await loop.create_connection(
            lambda: UpstreamConnection(_ENDPOINT, self._lost), sock=sock
        )
        return made

    def _lost(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def _head(self, request: Request) -> bytes:
        client = request.connection
        line = request.line
        target = line.path if line.query is None else b"%b?%b" % (line.path, line.query)
        vouched = self._server.peer_header(client.peer, client.scheme, client.operators)
        lines = [
            b"%b %b HTTP/1.1" % (line.method.encode(), target),
            b"Host: " + request.host,
            *(
                field.line
                for field in request.fields
                if not field.flags & STAYS_HERE and field.lower != _PEER
            ),
            b"X-Launcher-Peer: " + vouched,
        ]
        if request.expects_continue:
            lines.append(b"Expect: 100-continue")
        if request.upgrade is not None:
            lines.append(b"Upgrade: " + request.upgrade)
        if request.chunked:
            lines.append(b"Transfer-Encoding: chunked")
        elif request.content_length >= 0:
            lines.append(b"Content-Length: %d" % request.content_length)
        return b"\r\n".join([*lines, b"", b""])


class _Relay:
    """Hands a response on to the client."""

    def __init__(self, request: Request, connection: UpstreamConnection) -> None:
        self._request = request
        self._connection = connection
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.uploading: asyncio.Task[None] | None = None

    def upload(self) -> None:
        """Begin to read and send the body."""
        self.uploading = tasks.spawn(_send_body(self._request, self._connection), name="upload")

    def on_interim(self, head: ResponseHead) -> None:
        """It is the 100 Continue: the client gets one when its body is read."""
        if self.uploading is None and self._connection.sending:
            self.upload()

    def on_head(self, head: ResponseHead) -> Sink:
        """Send the head on; the body follows it."""
        lines = [head.first, *head.lines]
        self._request.start_lines(head.status, lines, head.length, dated=head.dated)
        self._request.source = self._connection
        if self._request.connection.writing_paused:
            self._connection.pause_reading()
        return self._request

    def on_complete(self) -> None:
        """End the client's response."""
        self._request.source = None
        try:
            self._request.end()
        except ClientDisconnected as error:
            self._settle(error)
        else:
            self._settle(None)

    def on_failed(self, error: Exception) -> None:
        """The response isn't whole: the client must be able to tell."""
        self._request.source = None
        self._settle(error)

    def _settle(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


async def _send_body(request: Request, connection: UpstreamConnection) -> None:
    try:
        while piece := await request.read():
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if request.chunked else piece)
            await connection.drain()
        if request.chunked:
            connection.send(b"0\r\n\r\n")
        connection.sending = False
    except (UpstreamDisconnected, ClientDisconnected):
        return  # whoever waits for the response learns of it
    except LauncherError as error:
        connection.fail(error)


async def send(
    request: Request, status: int, reason: bytes, headers: RawHeaders, body: bytes
) -> None:
    """Send a whole answer; its headers say the body's length, which HEAD is told and not sent."""
    await request.respond(status, reason, headers)
    if request.head.method != "HEAD" and body:
        await request.write(body)
    await request.finish()
