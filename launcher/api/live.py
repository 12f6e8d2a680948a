"""`GET /api/events`: every event of the scheduler and what it made of it, as they happen (SSE).

Each message has an id that a client gives back as `Last-Event-ID` to go on where it was. A
client that can't go on there, since the launcher was restarted or the place is no longer kept,
is told so by an event `reset`: what it knows has to be asked for anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import orjson

from launcher.api.contract import ApiRequest, ApiStream
from launcher.api.control import Control, find_backend
from launcher.api.endpoint import Endpoint
from launcher.api.event_view import Concerns, describe
from launcher.api.shapes import shape
from launcher.telemetry.journal import Entry, Journal

#: Seconds between two signs of life.
HEARTBEAT: Final = 15.0
#: Seconds that events are collected for, so that a burst goes out in few pieces.
PACE: Final = 0.05
#: So many are written without giving others a turn.
AT_ONCE: Final = 100
#: What a client is told to wait before it comes back. Milliseconds.
RETRY: Final = 2000


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class EventsQuery:
    """Which events are wanted."""

    backend: str | None = None
    """Those that concern this backend."""


class Live:
    """The endpoint."""

    def __init__(
        self, control: Control, journal: Journal, wall: Callable[[], float] = time.time
    ) -> None:
        self._control = control
        self._journal = journal
        self._wall = wall

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /api/events"""
        return (
            Endpoint(
                method="GET", path="/api/events", need="observe", answer=self.follow,
                tag="page", operation="follow_events", produces="text/event-stream",
                summary="Every event of the scheduler and what it made of it, as they happen "
                "(server-sent events).",
                description="Goes on behind `Last-Event-ID`; where it can't, an event `reset` says "
                "so. `?backend=` what concerns that one.",
                query=EventsQuery,
            ),
        )  # fmt: skip

    async def follow(self, request: ApiRequest) -> ApiStream:
        """GET /api/events. Failures' details are for admins, or for all where no keys are set."""
        name = request.asked(EventsQuery).backend
        concerns = None if name is None else Concerns(find_backend(self._control, name))
        at, lost = self._begin(request.last_event_id)
        pieces = self._pieces(at, lost, concerns, request.details)
        return ApiStream(pieces, "text/event-stream", (("Cache-Control", "no-store"),))

    async def _pieces(
        self, at: int, lost: str | None, concerns: Concerns | None, details: bool
    ) -> AsyncGenerator[bytes, None]:
        journal = self._journal
        if concerns is not None:
            # Whose a ticket is, was told when it arrived.
            for entry in journal.entries()[: at - journal.last or None]:
                concerns.learn(entry)
        yield b"retry: %d\n\n" % RETRY + self._reset(at, lost)
        while True:
            entries = journal.after(at, AT_ONCE)
            if entries is None:
                return  # it reads too slowly; where it is, is told when it comes back
            if not entries:
                if journal.closed:
                    return
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        await journal.wait_after(at)
                except TimeoutError:
                    yield b":\n\n"
                continue
            wanted = self._wanted(entries, at, concerns)
            at += len(entries)
            shift = self._wall() - self._control.snapshot().now
            if written := b"".join(self._written(*one, shift, details) for one in wanted):
                yield written
            await asyncio.sleep(0 if len(entries) == AT_ONCE else PACE)

    def _begin(self, last: str | None) -> tuple[int, str | None]:
        """The number to go on behind, and why that isn't where the client was."""
        journal = self._journal
        if not last:
            return journal.last, None
        run, _, number = last.partition("-")
        if run != journal.run:
            return journal.last, "restarted"
        at = int(number) if number.isascii() and number.isdigit() and len(number) < 16 else -1
        if journal.after(at, 0) is None:
            return journal.last, "gap"
        return at, None

    def _reset(self, at: int, lost: str | None) -> bytes:
        """Where the client is now; an id without data is none to act on (HTML, 9.2.6)."""
        told = f"id: {self._journal.run}-{at}\n"
        if lost is not None:
            told += f'event: reset\ndata: {{"reason":"{lost}"}}\n'
        return told.encode() + b"\n"

    @staticmethod
    def _wanted(
        entries: list[Entry], at: int, concerns: Concerns | None
    ) -> Iterable[tuple[int, Entry]]:
        numbered = enumerate(entries, at + 1)
        return numbered if concerns is None else [one for one in numbered if concerns.learn(one[1])]

    def _written(self, number: int, entry: Entry, shift: float, details: bool) -> bytes:
        told = orjson.dumps(describe(entry, shift, details=details))
        return b"id: %b-%d\ndata: %b\n\n" % (self._journal.run.encode(), number, told)
