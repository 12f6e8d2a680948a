"""The scheduler's last events with what it made of each, for whoever wants to follow them live.

Listens to the dispatcher as an observer. With nobody following, an event costs one append: how
it is written, and for whom, is decided when it is read. It must not know who reads.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from launcher.core.effects import Effect
from launcher.core.events import Event, PermitUsed

#: How many are kept.
MOST: Final = 10_000


class Entry(NamedTuple):
    """One event and what came of it."""

    event: Event
    effects: Sequence[Effect]
    now: float
    """On the core's clock."""


class Journal:
    """The last `most` entries, numbered from 1 since the launcher came up."""

    def __init__(self, most: int = MOST) -> None:
        self._kept: deque[Entry] = deque(maxlen=most)
        self._waiting: list[asyncio.Future[None]] = []
        self.run: Final = secrets.token_hex(4)
        """Differs between any two runs: a number is good within its own."""
        self.last = 0
        """The newest entry's number."""
        self.closed = False

    def __repr__(self) -> str:
        return f"<Journal {self.run} at {self.last}, {len(self._waiting)} waiting>"

    def observe(self, event: Event, effects: Sequence[Effect], now: float) -> None:
        """Keep it, and wake who waits. What permitted requests do, who come by the thousands, is
        kept only where something came of it."""
        if isinstance(event, PermitUsed) and not effects:
            return
        self._kept.append(Entry(event, effects, now))
        self.last += 1
        if self._waiting:
            self._wake()

    def after(self, number: int, most: int = MOST) -> list[Entry] | None:
        """The entries that follow that one, the oldest first, at most so many. None where the
        next one isn't kept any more, or the number isn't of this run."""
        behind = self.last - number
        kept = self._kept
        if not 0 <= behind <= len(kept):
            return None
        first = len(kept) - behind
        return [kept[at] for at in range(first, min(first + most, len(kept)))]

    def everything(self) -> list[Entry]:
        """All that is kept."""
        return list(self._kept)

    async def news(self, number: int) -> None:
        """Return when there is an entry after that one, or none will come any more."""
        while self.last <= number and not self.closed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            finally:
                if not waiter.done() or waiter.cancelled():
                    self._waiting.remove(waiter)

    def close(self) -> None:
        """Whoever follows is to end."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
