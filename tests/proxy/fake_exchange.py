"""A request held in memory."""

from __future__ import annotations

import asyncio
from typing import Any

from launcher.http.errors import ClientDisconnected
from launcher.http.headers import RawHeaders, RequestHead
from launcher.http.server import Detached


def request(method: str = "GET", **fields: Any) -> RequestHead:
    """A head as the front would give it."""
    given: dict[str, Any] = {
        "path": b"/",
        "query": None,
        "version": (1, 1),
        "headers": ((b"Host", b"example.test"),),
        "host": b"example.test",
        "peer": "192.0.2.7",
        "scheme": "http",
        "content_length": None,
        "chunked": False,
        "upgrade": None,
    }
    given |= fields
    by_name: dict[bytes, tuple[bytes, ...]] = {}
    for name, value in given["headers"]:
        by_name[name.lower()] = (*by_name.get(name.lower(), ()), value)
    return RequestHead(method=method, fields=by_name, **given)


class FakeExchange:
    """Keeps what it is given. `open` is cleared while the client is slow; `left` makes it gone."""

    def __init__(self, head: RequestHead | None = None) -> None:
        self.head = head or request()
        self.received_at = 0.0
        self.body_read = 0
        self.responded = False
        self.informed: list[tuple[int, bytes, RawHeaders]] = []
        self.status = 0
        self.reason = b""
        self.headers: RawHeaders = ()
        self.pieces: list[bytes] = []
        self.finished = False
        self.aborted = False
        self.left = False
        self.open = asyncio.Event()
        self.open.set()
        self.detached: Detached | None = None

    @property
    def gone(self) -> bool:
        return self.left

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def get(self, name: bytes) -> list[bytes]:
        """The values of a response header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    async def read(self) -> bytes:
        return b""

    async def inform(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        assert not self.responded
        self.informed.append((status, reason, headers))

    async def respond(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        assert not self.responded
        self._meet()
        self.responded = True
        self.status, self.reason, self.headers = status, reason, headers

    def push(self, data: bytes) -> bool:
        assert self.responded
        assert not self.finished
        assert not self.aborted
        assert data
        self._meet()
        self.pieces.append(data)
        return self.open.is_set()

    async def drained(self) -> None:
        await self.open.wait()
        self._meet()

    async def write(self, data: bytes) -> None:
        if not self.push(data):
            await self.drained()

    async def finish(self) -> None:
        assert self.responded
        assert not self.finished
        self.finished = True
        await self.open.wait()

    def abort(self) -> None:
        self.aborted = True

    def detach(self) -> Detached:
        assert self.detached is not None
        return self.detached

    def _meet(self) -> None:
        if self.left:
            raise ClientDisconnected("the client left")
