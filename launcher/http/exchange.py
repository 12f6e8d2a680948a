"""One request and its response as the proxy carries it, whoever parsed it.

`front.py` and `connection.py` make Exchanges of aiohttp's requests (`client.py` is what they
make); nothing else here knows aiohttp's server. The task that runs the handler is cancelled
when the client leaves (a half-close counts).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

RawHeaders = tuple[tuple[bytes, bytes], ...]
"""Names and values as received or to be sent: order, case and duplicates kept."""

Fields = Mapping[bytes, tuple[bytes, ...]]
"""The values of each header in their order, by its name in lower case."""


class ClientGone(ConnectionError):
    """The client left while its request was read or its response was written."""


class RequestHead(NamedTuple):
    """A request's head after the front has checked it (framing, version, Host).

    A tuple, as all that is made once for each request and never changed: a frozen dataclass
    of so many fields takes more than twice as long to make.
    """

    method: str
    path: bytes
    """Raw bytes of the origin-form target up to `?`."""
    query: bytes | None
    """Raw bytes behind the `?`; b"" for a bare `?`, None without one."""
    version: tuple[int, int]
    headers: RawHeaders
    fields: Fields
    """The same by name: a request's headers are asked for a dozen times on its way."""
    host: bytes
    """Of the one Host header, or of an absolute-form target, which wins; b"" on HTTP/1.0."""
    peer: str
    """The peer's IP address, or `unix`."""
    scheme: str
    """`http` or `https`, as this connection has it."""
    content_length: int | None
    chunked: bool
    upgrade: bytes | None
    """The Upgrade header's value where `Connection: upgrade` goes with it."""
    raw_target: bytes = b""
    operators: bool = True
    """It came in at an address where operators' endpoints answer."""

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header (`name` in lower case), or None."""
        values = self.fields.get(name)
        return None if values is None else values[0]

    @property
    def has_body(self) -> bool:
        """Whether a body was announced."""
        return self.chunked or bool(self.content_length)


NO_HEAD: Final = RequestHead(
    method="?",
    path=b"",
    query=None,
    version=(1, 1),
    headers=(),
    fields={},
    host=b"",
    peer="",
    scheme="http",
    content_length=None,
    chunked=False,
    upgrade=None,
)
"""Stands where a request's head was refused; no handler sees it."""


@dataclass(frozen=True, slots=True)
class Detached:
    """A client connection taken out of HTTP, for a tunnel. Its reading is on: `set_protocol`
    has to be called before anything is awaited."""

    transport: asyncio.Transport
    leftover: bytes
    """What had arrived behind the head."""


class Exchange(Protocol):
    """One exchange. Methods that meet a departed client raise ClientGone."""

    @property
    def head(self) -> RequestHead: ...

    @property
    def received_at(self) -> float:
        """When the head was complete, on the loop's clock."""
        ...

    @property
    def responded(self) -> bool:
        """A final response head has been written."""
        ...

    @property
    def gone(self) -> bool:
        """The client left."""
        ...

    @property
    def body_read(self) -> int:
        """Bytes of the request's body read so far."""
        ...

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end (trailers are dropped). Sends the
        100 Continue that the client waits for first. Raises LauncherError
        (`request_timeout`, `bad_request`) for a stalled or malformed body."""
        ...

    async def inform(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        """An interim (1xx) response; dropped for HTTP/1.0 clients."""
        ...

    async def respond(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        """The final head. The body is framed by the Content-Length among `headers`, else
        chunked for HTTP/1.1, else by the close; none for HEAD, 1xx, 204 and 304."""
        ...

    def push(self, data: bytes) -> bool:
        """A piece of the body, sent at once. False where the client is behind: wait for
        `drained` before the next one."""
        ...

    async def drained(self) -> None:
        """Wait while the client is behind."""
        ...

    async def write(self, data: bytes) -> None:
        """A piece of the body, sent at once; waits while the client is behind."""
        ...

    async def finish(self) -> None:
        """The clean end of the response. A body shorter than its Content-Length aborts."""
        ...

    def abort(self) -> None:
        """End the connection so that the client can tell: no final chunk, a reset."""
        ...

    def detach(self) -> Detached:
        """Take the connection out of HTTP, after a 101 was written with `respond`."""
        ...


Handler = Callable[[Exchange], Awaitable[None]]
"""Carries one exchange to its end; raises only CancelledError, ClientGone or a bug.

The front renders a LauncherError that escapes (without its detail), and answers a bug with
`internal_error`; behind a response head both abort."""
