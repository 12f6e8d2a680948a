"""The contract between the handler, which decides, and `forward`, which carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from launcher.http.endpoint import Endpoint
from launcher.http.exchange import RawHeaders


class RequestBody(Protocol):
    """The body on its way to the backend: the client's own stream, or a kept copy."""

    @property
    def length(self) -> int | None:
        """Bytes, where known before it is read; None: chunked."""
        ...

    @property
    def replayable(self) -> bool:
        """At hand from its beginning, as often as needed."""
        ...

    def rewind(self) -> None:
        """Begin anew; only where replayable."""
        ...

    def at_once(self) -> bytes | None:
        """All of it, where it is at hand in memory; else it is for `read`."""
        ...

    async def read(self) -> bytes:
        """The next piece, b"" at the end."""
        ...


class Plan(NamedTuple):
    """Everything about one forwarding that was decided before it begins."""

    endpoint: Endpoint
    path: bytes
    """Raw path for the backend, without the route's prefix and the endpoint's base path."""
    query: bytes | None
    prefix: bytes
    """What was cut off the path, for X-Forwarded-Prefix; b"" for none."""
    host_backend: bool
    """Send the backend's own Host (`host_header = "backend"`) instead of the client's."""
    drop_headers: frozenset[bytes]
    """Lower-case names that must not travel (credentials)."""
    set_headers: RawHeaders
    """Added after everything else (the injected key)."""
    trusted_peer: bool
    """The peer is a trusted proxy: its X-Forwarded-* are appended to, else replaced."""
    retry: bool
    """The method is idempotent or the path is stateless inference: may be sent again where
    not one byte came back."""
    response_timeout: float | None = None
    """Seconds until the response's first byte; None: no limit."""
    tunnel_idle: float = 300.0
    on_first_byte: Callable[[], RawHeaders] | None = None
    """Called when the final head came in from the backend; returns what is added to it
    (Server-Timing, X-Launcher-Cold-Start)."""
    on_silence: Callable[[], None] | None = None
    """Called when 30 s passed without a first byte."""
    on_tunnel_silent: Callable[[bool], None] | None = None
    """Called when a tunnel falls silent (< 1 KiB per tunnel_idle) or speaks again."""
    on_cut: Callable[[int, int], None] | None = None
    """Called where the client left, or the forwarding is cancelled, before the end, with the
    status that the client had been told by then (0: none), and the bytes of the response's
    body (or of the tunnel) that had come for it."""


class Carried(NamedTuple):
    """How a forwarding ended that got as far as a final response head."""

    status: int
    response_bytes: int
    tunnel: bool = False
    complete: bool = True
    """False: the backend died mid-body and the client's connection was aborted."""
    retried: bool = False


class UpstreamFailed(Exception):
    """No final response head came. Nothing was written to the client.

    `code` is `backend_unreachable` (refused, reset, closed, timed out) or `bad_upstream`
    (its answer breaks HTTP). `may_retry` applies the retry rule; `unsent`: not one byte of
    the request was written.
    """

    def __init__(
        self, code: str, message: str, *, may_retry: bool, unsent: bool, retried: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.may_retry = may_retry
        self.unsent = unsent
        self.retried = retried
