"""What backends print, followed by people: over restarts, redacted, and never in anybody's way.

A follower that reads too slowly loses lines, and is told so; a backend never waits for it. It
must not know who follows, or how lines travel.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from launcher import tasks
from launcher.core.types import BackendId
from launcher.drivers.base import Driver
from launcher.drivers.output import Follower
from launcher.errors import LauncherError
from launcher.telemetry.facts import Fact, Loading, StopEnded

#: Lines of a start that are told to whoever followed the one before.
CAUGHT_UP = 500


class Outputs:
    """The output of every backend. `fact` listens to `launcher.telemetry.facts.FactPublisher`."""

    def __init__(
        self, driver_of: Callable[[BackendId], Driver], redact: Callable[[str], str]
    ) -> None:
        self._driver_of = driver_of
        self._redact = redact
        self._pumps: set[asyncio.Task[None]] = set()
        self._starts: Counter[BackendId] = Counter()
        self._news = asyncio.Event()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Outputs followed={len(self._pumps)}>"

    def fact(self, fact: Fact) -> None:
        """What was started runs: its output can be followed. What was stopped may be gone."""
        if isinstance(fact, Loading):
            self._starts[fact.backend] += 1
        if isinstance(fact, Loading | StopEnded):
            self.look_again()

    def look_again(self) -> None:
        """Who follows a backend that is no more is told so."""
        self._news.set()
        self._news = asyncio.Event()

    async def tail(self, backend: BackendId, lines: int) -> list[str]:
        """The last lines of its last start. Raises LauncherError where its engine is away."""
        found = await self._driver_of(backend).log_tail(backend, lines)
        return [self._redact(line) for line in found]

    async def last_line(self, backend: BackendId) -> str:
        """The last line, for who waits for it; empty where there is none to be had."""
        try:
            return "".join(await self.tail(backend, 1))
        except LauncherError:
            return ""

    async def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[list[str], None]:
        """The last lines, then what is printed, each time some: also by the starts to come,
        until it is closed."""
        follower = Follower()
        pump = tasks.spawn(self._pump(backend, lines, follower), name=f"output of {backend}")
        # Not by itself: what is cancelled before its first step never takes one.
        pump.add_done_callback(lambda _: follower.end())
        self._pumps.add(pump)
        if self._closed:
            pump.cancel()
        try:
            while batch := await follower.batch():
                yield batch
        finally:
            self._pumps.discard(pump)
            await tasks.cancel(pump)

    async def close(self) -> None:
        """Whoever follows comes to an end."""
        self._closed = True
        await tasks.cancel(*self._pumps)

    async def _pump(self, backend: BackendId, lines: int, follower: Follower) -> None:
        try:
            while True:
                starts = self._starts[backend]
                async with aclosing(self._driver_of(backend).follow(backend, lines)) as found:
                    async for line in found:
                        follower.put(self._redact(line))
                while self._starts[backend] == starts:
                    self._driver_of(backend)
                    await self._news.wait()
                follower.put(f"--- {backend} was started ---")
                lines = CAUGHT_UP
        except (LauncherError, KeyError) as error:
            text = error.message if isinstance(error, LauncherError) else "it is gone"
            follower.put(f"({backend}: {text})")
