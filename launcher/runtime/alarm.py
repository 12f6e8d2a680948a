"""The one timer of the scheduler: WakeAt in, Tick out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from launcher.runtime.held import Clock


class Alarm:
    """Calls `ring` at the time set last."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Ring at `at` (on the clock; `inf`: never) and at no other time."""
        self.cancel()
        if at < math.inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, at - self._clock()), self._due, at)

    def cancel(self) -> None:
        """Don't ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self, at: float) -> None:
        self._timer = None
        if self._clock() < at:
            self.set(at)  # uvloop's timers count in whole milliseconds
        else:
            self._ring()
