"""What the runtime remembers of one backend, and what its parts need of the dispatcher.

Nothing here decides: whether a backend is up is the scheduler's to say. This is only what
the carrying out needs: the endpoint that answered, the tasks under way, who waits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from launcher.config import BackendConfig
from launcher.core.events import Event
from launcher.core.types import BackendId, BackendState
from launcher.drivers.base import Driver
from launcher.http.endpoint import Endpoint

T = TypeVar("T")

Clock = Callable[[], float]
"""Seconds on the clock that the scheduler's times are on."""


@dataclass(slots=True, eq=False)
class BackendHandle:
    """One backend as the shell holds it."""

    id: BackendId
    config: BackendConfig
    driver: Driver
    next: tuple[BackendConfig, Driver] | None = None
    """What it will be once what runs has ended."""
    removed: bool = False
    """It is no longer configured, and what runs of it is to end."""
    endpoint: Endpoint | None = None
    """The candidate that answered when it last became ready."""
    instance: str | None = None
    """What became ready then."""
    ready_epoch: int = -1
    """The epoch of the Start or Adopt that made it ready. A grant of an earlier epoch was
    for something that is gone."""
    start_began: float = 0.0
    start_ended: float = 0.0
    """Infinite while the start that began then is under way."""
    operations: set[asyncio.Task[None]] = field(default_factory=set)
    """Start, Adopt and Stop tasks that have not come to their outcome. Mostly one; a Stop
    waits for the one it cancels."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """The engine said something about it while an operation is under way."""
    look_again: bool = False
    """A look is owed: when the one under way, or the operation under way, has ended."""
    looking: asyncio.Task[None] | None = None
    looks_begun: int = 0
    look_fed: int = 0
    """Serial of the latest-begun look that was fed; older ones know less and are dropped."""
    waiting: int = 0
    awaited: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while `waiting` isn't 0: probes are then close together."""
    suspicion: asyncio.Task[bool | None] | None = None
    silence: asyncio.Task[None] | None = None
    asking: asyncio.Task[None] | None = None
    busy_unanswered: int = 0

    def let_go(self) -> None:
        """Nothing of it is left to be looked at."""
        for task in (self.looking, self.suspicion, self.silence, self.asking, *self.operations):
            if task is not None:
                task.cancel()

    def start_begins(self, now: float) -> None:
        """A Start or an Adopt is under way."""
        self.start_began, self.start_ended = now, math.inf

    def started_within(self, since: float, now: float) -> float:
        """For how many seconds of that time the latest start was under way."""
        return max(0.0, min(now, self.start_ended) - max(since, self.start_began))

    def wait_begins(self) -> None:
        """One more ticket waits that may be served here."""
        self.waiting += 1
        self.awaited.set()

    def wait_ends(self) -> None:
        """One ticket less waits."""
        self.waiting -= 1
        if not self.waiting:
            self.awaited.clear()


class Shell(Protocol):
    """What the other parts of the runtime need of the dispatcher."""

    def feed(self, event: Event) -> None: ...

    def epoch(self, backend: BackendId) -> int: ...

    def state(self, backend: BackendId) -> BackendState: ...

    def spawn(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """A task that ends with the dispatcher at the latest."""
        ...
