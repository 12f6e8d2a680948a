"""Answers that go on for as long as somebody reads them.

Whether a client may read is asked again with each configuration: a key that is taken away ends
its streams. A client that takes nothing of what comes is dropped after a while, and at a
shutdown almost at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Final, NamedTuple

from aiohttp import web

from launcher.api.endpoint import Stream
from launcher.auth.access import Need
from launcher.auth.head import Head

#: Seconds that a reader may take nothing.
STALLED: Final = 60.0
#: The same when the launcher ends.
CLOSING: Final = 1.0


class Right(NamedTuple):
    """What a client was allowed to read when it came."""

    head: Head
    need: Need
    details: bool
    """Operators' details are among it."""


class Streams:
    """All streams that are being read, under whichever configuration they began."""

    def __init__(self) -> None:
        self._readers: set[_Reader] = set()
        self._stalled = STALLED
        self._may: Callable[[Right], bool] = lambda _: True

    def __repr__(self) -> str:
        return f"<Streams {len(self._readers)} read>"

    async def send(
        self, request: web.Request, response: web.StreamResponse, stream: Stream, right: Right
    ) -> int:
        """Send the pieces to their end, or until the right to them ends; return the bytes sent.
        The pieces are closed in any case.

        Raise ConnectionError for a client that left, or is there and takes nothing: what it
        follows must not be kept for it for ever.
        """
        sent = 0
        reader = _Reader(right)
        self._readers.add(reader)
        try:
            async with aclosing(stream.pieces) as pieces:
                await response.prepare(request)
                try:
                    async with reader.whole:
                        # It may have come under an earlier configuration.
                        if request.method != "HEAD" and self._may(right):
                            async for piece in pieces:
                                await self._taken(reader, response.write(piece))
                                sent += len(piece)
                except TimeoutError:
                    if not reader.whole.expired():
                        raise
            await self._taken(reader, response.write_eof())
        finally:
            self._readers.discard(reader)
        return sent

    def recheck(self, may: Callable[[Right], bool]) -> None:
        """End the streams of those who have no right to them under another configuration."""
        self._may = may
        for reader in self._readers:
            if not may(reader.right):
                reader.end()

    def close(self) -> None:
        """What is read ends now; a client that is behind has a moment to take the rest."""
        self._stalled = CLOSING
        for reader in self._readers:
            reader.hurry(CLOSING)

    async def _taken(self, reader: _Reader, writing: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._stalled) as reader.piece:
                await writing
        except TimeoutError:
            raise ConnectionError("the client took nothing for too long") from None


class _Reader:
    """One client of a stream."""

    def __init__(self, right: Right) -> None:
        self.right = right
        self.whole = asyncio.timeout(None)
        """Around everything that it reads; ends it from outside."""
        self.piece = asyncio.timeout(None)
        """Around the latest piece that it has to take."""

    def end(self) -> None:
        """Let it read no further."""
        _shorten(self.whole, 0.0)

    def hurry(self, seconds: float) -> None:
        """Give it so long to take what it was sent."""
        _shorten(self.piece, seconds)


def _shorten(timeout: asyncio.Timeout, seconds: float) -> None:
    # A timeout that hasn't begun, or is over, can't be rescheduled.
    with suppress(RuntimeError):
        timeout.reschedule(asyncio.get_running_loop().time() + seconds)
