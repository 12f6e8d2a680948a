"""How the launcher's own endpoints are asked and answer: plain data, no HTTP library."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Need = Literal["open", "observe", "admin"]
"""`open`: anybody; `observe`: an api key (or admin key) where any are set; `admin`: one of
`admin_keys`, or, where none is set, a caller on loopback whose request carries no
X-Forwarded-*, Origin or Sec-Fetch-Site."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request for one of the launcher's own endpoints, its body (at most 1 MiB) read."""

    method: str
    path: str
    args: dict[str, str]
    """From the path's pattern (percent-decoded) and the query; the path's win."""
    body: bytes
    admin: bool
    """The caller would pass as an admin: may see details."""
    details: bool = False
    """May see operators' details: an admin, or anybody where no keys are set."""
    last_event_id: str = ""
    """Where a client of an event stream was when it lost it."""


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """An answer, whole. Errors are raised as LauncherError instead."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ApiStream:
    """An answer of 200 that goes on: sent piece by piece, no faster than the client takes it.

    `pieces` is closed when the client leaves, and ends by itself at the latest when its
    endpoint is closed: a shutdown waits for it.
    """

    pieces: AsyncGenerator[bytes, None]
    """None of them empty."""
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


Answer = Callable[[ApiRequest], Awaitable[ApiResponse | ApiStream]]


@dataclass(frozen=True, slots=True)
class Found:
    """An endpoint for a method and path."""

    need: Need
    answer: Answer
    args: dict[str, str]


class OwnEndpoints(Protocol):
    """What the proxy's handler asks before it looks for a route."""

    def find(self, method: str, path: str) -> Found | None:
        """The endpoint, None where the path isn't one of ours. Raises LauncherError
        (`method_not_allowed`) where it is, but not for this method. HEAD is found as GET."""
        ...
