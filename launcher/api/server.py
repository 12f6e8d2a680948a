"""How the application is reached: by the data path, over socket pairs inside of the process.

The data path vouches for its clients with a header, `X-Launcher-Peer`, whose first word is a
secret of this process: it drops what clients send by that name.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
import socket
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from launcher import tasks
from launcher.api.app import Api, Head
from launcher.api.endpoint import Context
from launcher.auth.meters import Meters
from launcher.config import LauncherConfig
from launcher.telemetry.record import ExchangeRecord

PEER_HEADER: Final = "X-Launcher-Peer"

#: Bytes of a line of a head; the same as the data path takes.
_MAX_LINE: Final = 64 * 1024
_MAX_HEADERS: Final = 1024
#: Seconds that an idle connection stays open.
_KEEPALIVE: Final = 3600.0
#: Seconds in which requests that were cut have to end.
_CUT: Final = 1.0

#: What aiohttp's server logs: bugs, but not what clients send that is no HTTP.
_log: Final = logging.getLogger(f"{__name__}.aiohttp")
_log.addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
)


class ApiServer:
    """The application behind its connections."""

    def __init__(
        self,
        context: Context,
        meters: Meters,
        on_done: Callable[[ExchangeRecord], None],
    ) -> None:
        """`on_done` is told of each request when it has ended, wherever it came in."""
        self._token = secrets.token_hex(16)
        self._api = Api(context, meters, self._head, on_done)
        self._runner = web.AppRunner(
            self._api.application,
            handle_signals=False,
            access_log=None,
            # What nobody reads would be decoded, too, and be a traceback where it can't be.
            auto_decompress=False,
            handler_cancellation=True,
            logger=_log,
            keepalive_timeout=_KEEPALIVE,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
            max_headers=_MAX_HEADERS,
            shutdown_timeout=_CUT,
        )
        self._accepting = tasks.Group()

    def __repr__(self) -> str:
        return f"<ApiServer {self._api!r}>"

    async def start(self) -> None:
        """Accept what `connect` connects."""
        await self._runner.setup()

    def connect(self) -> socket.socket:
        """Return the client's end of a new connection, non-blocking. HTTP/1.1 is spoken on it,
        and each request has to carry `peer_header`."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._accepting.spawn(self._accept(theirs), name="accept a connection of the data path")
        return ours

    def peer_header(self, peer: str, scheme: str, operators: bool) -> bytes:
        """Return the value of `X-Launcher-Peer` for a client: its IP address or `unix`, `http` or
        `https`, and whether it came in at an address where operators' endpoints answer."""
        return f"{self._token} {peer} {scheme} {int(operators)}".encode("latin-1")

    def take(self, config: LauncherConfig) -> None:
        """Answer by this configuration from the next request on; streams to which a client has
        no right any more end."""
        self._api.take(config)

    def end_streams(self) -> None:
        """The launcher ends: a client that is behind with a stream isn't waited for."""
        self._api.streams.close()

    async def close(self, drain_timeout: float) -> None:
        """Give running requests so many seconds to end, then cut them and close
        all connections. The second time there is nothing to do."""
        self.end_streams()
        await self._accepting.join()
        try:
            if running := list(self._api.running):
                await asyncio.wait(running, timeout=drain_timeout)
        finally:
            # Also where a second signal ends the waiting.
            await tasks.cancel(*self._api.running)
            await self._runner.cleanup()

    async def _accept(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(self.protocol, sock)

    def protocol(self) -> asyncio.Protocol:
        """Return what speaks HTTP on one more connection."""
        server = self._runner.server
        assert server is not None, "it is started"
        return server()

    def _head(self, request: web.Request) -> Head:
        """Read a request's head; raise where it came over a socket pair without a client."""
        fields: dict[bytes, tuple[bytes, ...]] = {}
        for name, value in request.raw_headers:
            lowered = name.lower()
            fields[lowered] = (*fields.get(lowered, ()), value)
        token, *told = fields.pop(PEER_HEADER.lower().encode(), (b"",))[0].split(b" ")
        if hmac.compare_digest(token, self._token.encode()) and len(told) == 3:
            peer, scheme, operators = told[0].decode("latin-1"), told[1].decode(), told[2] == b"1"
        else:
            peername = request.get_extra_info("peername")
            peer = peername[0] if isinstance(peername, tuple) else "unix"
            scheme = "http" if request.get_extra_info("sslcontext") is None else "https"
            # Nobody vouches for what comes over a socket pair, whose ends have no names.
            operators = bool(request.get_extra_info("sockname"))
            peer = peer if operators else "?"
        return Head(
            method=request.method,
            host=fields.get(b"host", (b"",))[0],
            peer=peer,
            scheme=scheme,
            operators=operators,
            fields=fields,
        )
