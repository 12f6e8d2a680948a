"""The launcher's own endpoints, which are asked over a socket pair; and errors.

It must not know routes or backends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final, Literal, Protocol

from launcher import tasks
from launcher.errors import LauncherError, render
from launcher.http.exchange import ClientGone, Exchange, RawHeaders

_OWN_HOP: Final = frozenset(
    b"connection transfer-encoding keep-alive expect x-launcher-peer upgrade".split()
)


class OwnPaths(Protocol):
    """Which paths are the launcher's own."""

    def find(self, path: bytes) -> Literal["everywhere", "operators"] | None: ...


class OwnServer(Protocol):
    """Who answers them."""

    def connect(self) -> socket.socket: ...

    def peer_header(self, peer: str, scheme: str, operators: bool) -> bytes: ...


class Own:
    """The launcher's own endpoints."""

    def __init__(self, paths: OwnPaths, server: OwnServer) -> None:
        self._paths = paths
        self._server = server

    def find(self, exchange: Exchange) -> bool:
        """Whether the path is one of them, at the address it came in by."""
        where = self._paths.find(exchange.head.path)
        return where == "everywhere" or (where == "operators" and exchange.head.operators)

    async def answer(self, exchange: Exchange) -> None:
        """Ask, and send on what is answered."""
        head = exchange.head
        reader, writer = await asyncio.open_connection(sock=self._server.connect())
        pump: asyncio.Task[None] | None = None
        try:
            vouched = self._server.peer_header(head.peer, head.scheme, head.operators)
            lines = [
                b"%b %b HTTP/1.1" % (head.method.encode(), _target(exchange)),
                *(b"%b: %b" % one for one in head.headers if one[0].lower() not in _OWN_HOP),
                b"X-Launcher-Peer: " + vouched,
            ]
            if not head.host:
                lines.append(b"Host:")
            if head.chunked:
                lines.append(b"Transfer-Encoding: chunked")
            writer.write(b"\r\n".join([*lines, b"", b""]))
            if head.has_body:
                pump = tasks.spawn(_pump(exchange, writer), name="body of an own request")
            await _answer(exchange, reader)
        finally:
            await tasks.cancel(pump)
            writer.close()


def _target(exchange: Exchange) -> bytes:
    query = exchange.head.query
    return exchange.head.path + (b"" if query is None else b"?" + query)


async def _pump(exchange: Exchange, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, LauncherError):
        while piece := await exchange.read():
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if exchange.head.chunked else piece)
            await writer.drain()
        if exchange.head.chunked:
            writer.write(b"0\r\n\r\n")


async def _answer(exchange: Exchange, reader: asyncio.StreamReader) -> None:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    _, status, reason = first.split(b" ", 2)
    pairs = [line.split(b": ", 1) for line in lines if line]
    fields = {name.lower(): value for name, value in pairs}
    headers = tuple((n, v) for n, v in pairs if n.lower() not in _OWN_HOP)
    await exchange.respond(int(status), reason, headers)
    try:
        if exchange.head.method == "HEAD":
            pass
        elif fields.get(b"transfer-encoding") == b"chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await exchange.write((await reader.readexactly(size + 2))[:-2])
        elif length := int(fields.get(b"content-length", b"0")):
            await exchange.write(await reader.readexactly(length))
    except asyncio.IncompleteReadError:
        raise ClientGone("cut") from None
    await exchange.finish()


async def send_error(
    exchange: Exchange, error: LauncherError, *, show_detail: bool, more: RawHeaders = ()
) -> None:
    """Answer with an error in the OpenAI envelope."""
    status, reason, headers, body = render(error, show_detail=show_detail)
    await send(exchange, status, reason, headers + more, body)


async def send(
    exchange: Exchange, status: int, reason: bytes, headers: RawHeaders, body: bytes
) -> None:
    """A whole answer; its headers say the body's length, which HEAD is told and not sent."""
    await exchange.respond(status, reason, headers)
    if exchange.head.method != "HEAD" and body:
        await exchange.write(body)
    await exchange.finish()
