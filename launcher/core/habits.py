"""What a backend's traffic has been like, and what follows for how long it should stay.

Pure arithmetic over a few remembered times; nothing here decides.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

#: Gaps remembered: two dozen, so that a change of habit shows within an hour.
REMEMBERED: Final = 24
#: Fewer gaps than this say nothing.
FEWEST: Final = 4
#: Seconds to linger while nothing is known.
UNKNOWN: Final = 1.0
#: A gap as long as one seen before is expected to end within this much more.
SLACK: Final = 1.1
#: Weight of the newest measurement in exponentially weighted times.
WEIGHT: Final = 0.3


def weigh(old: float | None, new: float) -> float:
    """The weighted mean with one more measurement."""
    return new if old is None else old + WEIGHT * (new - old)


class Habits:
    """Gaps between falling idle and the next arrival, and how often somebody asks. Seconds."""

    __slots__ = ("_busy_at", "_every", "_gaps", "_idle_at", "_last", "_run")

    def __init__(self) -> None:
        self._busy_at: float | None = None
        self._run: float | None = None
        self._gaps: deque[float] = deque(maxlen=REMEMBERED)
        self._idle_at: float | None = None
        self._last: float | None = None
        self._every: float | None = None

    def __repr__(self) -> str:
        return f"<Habits {len(self._gaps)} gaps, every {self._every}>"

    @property
    def idle_at(self) -> float | None:
        """Since when nobody uses it or waits for it; None: it is in use, or never was."""
        return self._idle_at

    @property
    def every(self) -> float | None:
        """Weighted mean of the seconds between two arrivals; None until there were two."""
        return self._every

    def arrived(self, now: float) -> None:
        """Somebody asks for it, whether it is up or not."""
        if self._idle_at is not None:
            self._gaps.append(now - self._idle_at)
            self._idle_at = None
        if self._last is not None:
            self._every = weigh(self._every, now - self._last)
        self._last = now

    def began(self, now: float) -> None:
        """The first one uses it."""
        self._busy_at = now

    def fell_idle(self, now: float) -> None:
        """The last one who used it or waited for it is gone."""
        self._idle_at = now
        if self._busy_at is not None:
            self._run = weigh(self._run, now - self._busy_at)
            self._busy_at = None

    def stays(self, linger: float) -> float:
        """Seconds until, once in use, it has been idle for longer than `linger`: a geometric
        number of runs, each followed by a gap. `inf` where no gap was ever so long."""
        run = self._run or 0.0
        if len(self._gaps) < FEWEST:
            return run + linger
        short = [gap for gap in self._gaps if gap <= linger]
        left = len(self._gaps) - len(short)
        return math.inf if not left else run + linger + (len(short) * run + sum(short)) / left

    def linger(self, waiting: int, cost: float) -> float:
        """Seconds that it pays to stay idle while `waiting` tickets wait for the place and a
        swap costs `cost` seconds.

        Of 0 and the gaps seen, the length L with the least
        `waiting * mean(min(gap, L)) + cost * share of gaps longer than L`: what those who wait
        lose by it, and what the next one who comes would lose without it.
        """
        count = len(self._gaps)
        if count < FEWEST:
            return UNKNOWN
        best, least = 0.0, cost * count
        below = 0.0
        """The sum of the gaps up to here."""
        for seen, gap in enumerate(sorted(self._gaps), 1):
            below += gap
            longer = count - seen
            price = waiting * (below + longer * gap) + cost * longer
            if price < least:
                best, least = gap, price
        return best * SLACK

    def wanted(self, within: float, now: float) -> float:
        """The chance that somebody asks for it within so many seconds, by a Poisson process
        of the rate seen lately; who hasn't asked for long asks less often."""
        if self._last is None:
            return 0.0
        every = max(self._every or 0.0, now - self._last)
        return 1.0 if every <= 0.0 else -math.expm1(-within / every)
