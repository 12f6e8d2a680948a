"""The scheduler's last events with the effects of each, for subscribers that follow them live.

An observer of the dispatcher. Where nobody follows, an event costs one append; it is rendered
when it is read.
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
MAX_ENTRIES: Final = 10_000


class Entry(NamedTuple):
    """One event and its effects."""

    event: Event
    effects: Sequence[Effect]
    now: float
    """On the core's clock."""


class Journal:
    """The last `most` entries, numbered from 1 since the launcher came up."""

    def __init__(self, most: int = MAX_ENTRIES) -> None:
        self._entries: deque[Entry] = deque(maxlen=most)
        self._waiters: list[asyncio.Future[None]] = []
        self.run: Final = secrets.token_hex(4)
        """Differs between any two runs: a number is good within its own."""
        self.last = 0
        """The newest entry's number."""
        self.closed = False

    def __repr__(self) -> str:
        return f"<Journal {self.run} at {self.last}, {len(self._waiters)} waiting>"

    def observe(self, event: Event, effects: Sequence[Effect], now: float) -> None:
        """Keep an event with its effects, and wake those who wait for one. What permitted requests
        do, which come by the thousands, is kept only where something came of it."""
        if isinstance(event, PermitUsed) and not effects:
            return
        self._entries.append(Entry(event, effects, now))
        self.last += 1
        if self._waiters:
            self._wake()

    def after(self, number: int, most: int = MAX_ENTRIES) -> list[Entry] | None:
        """Return at most `most` entries that follow that number, the oldest first. None where
        the next one isn't kept any more, or the number isn't of this run."""
        behind = self.last - number
        kept = self._entries
        if not 0 <= behind <= len(kept):
            return None
        first = len(kept) - behind
        return [kept[at] for at in range(first, min(first + most, len(kept)))]

    def entries(self) -> list[Entry]:
        """Return all that are kept, the oldest first."""
        return list(self._entries)

    async def wait_after(self, number: int) -> None:
        """Return when there is an entry after that one, or none will come any more."""
        while self.last <= number and not self.closed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if not waiter.done() or waiter.cancelled():
                    self._waiters.remove(waiter)

    def close(self) -> None:
        """Wake all who wait: no entry will come any more."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiters = self._waiters, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
