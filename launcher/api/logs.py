"""`GET /api/backends/{id}/logs`: what a backend printed, and prints, as plain text."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Protocol

from launcher.api.contract import ApiRequest, ApiResponse, ApiStream
from launcher.api.control import Control, find_backend
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import Flag, Limits, shape
from launcher.core.types import BackendId

#: The most that a process' output is kept of; an engine keeps more.
MOST = 10_000
KIND = "text/plain; charset=utf-8"


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class LogsQuery:
    """Which lines are wanted."""

    tail: Annotated[int, Limits(ge=0, le=MOST)] = 200
    """So many of the last ones."""
    follow: Flag = False
    """And those that come, until the caller leaves."""


class Printed(Protocol):
    """What the endpoint needs of the outputs."""

    async def tail(self, backend: BackendId, lines: int) -> list[str]:
        """The last lines."""
        ...

    def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[list[str], None]:
        """The last lines, then what is printed."""
        ...


class Logs:
    """The endpoint. For admins only: a backend prints whatever it likes."""

    def __init__(self, control: Control, printed: Printed) -> None:
        self._control = control
        self._printed = printed

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /api/backends/{id}/logs"""
        return (
            Endpoint(
                method="GET", path="/api/backends/{id}/logs", need="admin", answer=self.show,
                tag="status", operation="get_backend_logs", produces="text/plain",
                summary="What the backend printed since its last start, redacted; with "
                "`?follow=1` also what it prints from then on, over restarts.",
                description="`?tail=` so many of the last lines (200).",
                query=LogsQuery,
                answers={200: str},
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse | ApiStream:
        """GET /api/backends/{id}/logs"""
        backend = find_backend(self._control, request.args["id"])
        wanted = request.asked(LogsQuery)
        headers = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
        if wanted.follow:
            return ApiStream(self._pieces(backend, wanted.tail), KIND, headers)
        lines = await self._printed.tail(backend, wanted.tail)
        return ApiResponse(_text(lines), 200, KIND, headers)

    async def _pieces(self, backend: BackendId, tail: int) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._printed.follow(backend, tail)) as batches:
            async for lines in batches:
                yield _text(lines)


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
