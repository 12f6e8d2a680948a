"""How the launcher's own endpoints are asked and answer: plain data, no HTTP library."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request for one of the launcher's own endpoints, read and checked."""

    method: str
    path: str
    args: Mapping[str, str]
    """From the path's pattern, percent-decoded."""
    admin: bool
    """The caller would pass as an admin: may see details."""
    query: object = None
    """Of the endpoint's `query` shape; None where it has none."""
    body: object = None
    """Of the endpoint's `body` shape; None where it has none."""
    details: bool = False
    """May see operators' details: an admin, or anybody where no keys are set."""
    last_event_id: str = ""
    """Where a client of an event stream was when it lost it."""
    key: str = ""
    """The name of the key that opened it; empty: none was needed."""
    routes: frozenset[str] | None = None
    """Names of the routes that the caller may use; None: all."""

    def asked(self, shape: type[S]) -> S:
        """The query, which is of the shape that the endpoint declares."""
        assert isinstance(self.query, shape), "the endpoint declares another query"
        return self.query

    def sent(self, shape: type[S]) -> S:
        """The body, which is of the shape that the endpoint declares."""
        assert isinstance(self.body, shape), "the endpoint declares another body"
        return self.body


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
