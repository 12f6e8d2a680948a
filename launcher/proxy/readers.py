"""Answers of the launcher's own that go on for as long as somebody reads them.

Whether a reader may is asked again with each configuration: a key that is taken away reads no
further. Who takes nothing of what comes isn't waited for: not for long, and at a shutdown hardly
at all. It must not know what is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Final, NamedTuple

from launcher.auth.access import Need
from launcher.http.errors import ClientDisconnected
from launcher.http.headers import RawHeaders, RequestHead
from launcher.http.server import Request

#: Seconds that a reader may take nothing.
STALLED: Final = 60.0
#: The same when the launcher ends.
PARTING: Final = 1.0


class Right(NamedTuple):
    """By what somebody reads."""

    head: RequestHead
    need: Need
    details: bool
    """Operators' details are among it."""


class Readers:
    """All who read such an answer, under whichever configuration they came."""

    def __init__(self) -> None:
        self._reading: set[_Reader] = set()
        self._patience = STALLED
        self._may: Callable[[Right], bool] = lambda _: True

    def __repr__(self) -> str:
        return f"<Readers {len(self._reading)} reading>"

    async def send(
        self,
        exchange: Request,
        headers: RawHeaders,
        pieces: AsyncGenerator[bytes, None],
        right: Right,
    ) -> int:
        """Answer 200 and send the pieces to their end, or until the right to them is; the bytes
        sent. The pieces are closed in any case.

        Raises ClientDisconnected, also for a client that is there and takes nothing: what it
        follows must not be kept for it for ever.
        """
        sent = 0
        reader = _Reader(right)
        self._reading.add(reader)
        try:
            async with aclosing(pieces):
                await exchange.respond(200, b"OK", headers)
                try:
                    async with reader.whole:
                        # It may have come under an earlier configuration.
                        if exchange.head.method != "HEAD" and self._may(right):
                            async for piece in pieces:
                                await self._taken(reader, exchange.write(piece))
                                sent += len(piece)
                except TimeoutError:
                    if not reader.whole.expired():
                        raise
            await self._taken(reader, exchange.finish())
        finally:
            self._reading.discard(reader)
        return sent

    def recheck(self, may: Callable[[Right], bool]) -> None:
        """There is another configuration: whoever has no right by it reads no further."""
        self._may = may
        for reader in self._reading:
            if not may(reader.right):
                reader.end()

    def close(self) -> None:
        """What they read ends now; who is behind has a moment to take it."""
        self._patience = PARTING
        for reader in self._reading:
            reader.hurry(PARTING)

    async def _taken(self, reader: _Reader, writing: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._patience) as reader.behind:
                await writing
        except TimeoutError:
            raise ClientDisconnected("the client took nothing for too long") from None


class _Reader:
    """One of them."""

    def __init__(self, right: Right) -> None:
        self.right = right
        self.whole = asyncio.timeout(None)
        """Around everything that it reads; ends it from outside."""
        self.behind = asyncio.timeout(None)
        """Around the latest piece that it is to take."""

    def end(self) -> None:
        """It reads no further."""
        _shorten(self.whole, 0.0)

    def hurry(self, seconds: float) -> None:
        """It has so long to take what it was sent."""
        _shorten(self.behind, seconds)


def _shorten(timeout: asyncio.Timeout, seconds: float) -> None:
    """Nothing for one that hasn't begun, or is over."""
    with suppress(RuntimeError):
        timeout.reschedule(asyncio.get_running_loop().time() + seconds)
