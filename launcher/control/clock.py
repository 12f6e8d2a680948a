"""Two clocks: the core's, which never jumps, and the wall's, which outlives a restart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clocks:
    """The same moment on both. Seconds."""

    now: Callable[[], float]
    """On the clock that the scheduler's times are on."""
    wall: Callable[[], float]
    """Since 1970."""

    def wall_at(self, at: float) -> float | None:
        """A time of the core's on the wall; None for `inf`, which never comes."""
        return None if at == math.inf else self.wall() + at - self.now()

    def core_at(self, at: float | None) -> float:
        """A time on the wall on the core's clock; `inf` for None."""
        return math.inf if at is None else self.now() + at - self.wall()
