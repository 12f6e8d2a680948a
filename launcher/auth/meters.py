"""How much of its key's limits somebody has used: requests under way, and those of the last
minute. It must not know what a key opens. Outlives the configuration, so that a reload gives
nobody a minute anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

from launcher.config import KeyConfig
from launcher.errors import LauncherError

#: Seconds of `requests_per_minute`.
MINUTE: Final = 60.0

#: The weight of the latest request in how long a key's requests take.
_LATEST: Final = 0.2


class Meter:
    """One key's. Times in seconds on the loop's clock. Its memory is bounded by the key's own
    `requests_per_minute`: when the last so many came, so that the limit holds in any minute."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._came: deque[float] = deque()
        self._takes = 1.0

    def __repr__(self) -> str:
        return f"<Meter {self.in_flight} in flight, {len(self._came)} in the last minute>"

    def enter(self, key: KeyConfig, now: float) -> None:
        """One more request. Raises `rate_limited` or `too_many_in_flight`; it doesn't count
        then."""
        came, most = self._came, key.requests_per_minute
        while came and now - came[0] >= MINUTE:
            came.popleft()
        if most is None:
            came.clear()
        elif len(came) >= most:
            raise LauncherError(
                "rate_limited",
                f"The key {key.name} is good for {most} requests a minute; send it again later.",
                # The one that has to leave the minute first; not the oldest where the limit
                # has been lowered meanwhile.
                retry_after=came[len(came) - most] + MINUTE - now,
            )
        if key.max_in_flight is not None and self.in_flight >= key.max_in_flight:
            raise LauncherError(
                "too_many_in_flight",
                f"The key {key.name} is good for {key.max_in_flight} requests at a time; send it"
                " again when one of them has ended.",
                retry_after=self._takes / self.in_flight,
            )
        if most is not None:
            came.append(now)
        self.in_flight += 1

    def leave(self, took: float) -> None:
        """A request that entered is over; it took so many seconds."""
        self.in_flight -= 1
        self._takes += _LATEST * (took - self._takes)


class Meters:
    """All keys' meters, by name."""

    def __init__(self) -> None:
        self._meters: dict[str, Meter] = {}

    def of(self, name: str) -> Meter:
        """A key's meter; whoever has held it goes on to."""
        return self._meters.setdefault(name, Meter())

    def keep(self, names: Collection[str]) -> None:
        """Only these keys are there now; what others still have under way is counted on."""
        gone = [n for n, one in self._meters.items() if n not in names and not one.in_flight]
        for name in gone:
            del self._meters[name]
