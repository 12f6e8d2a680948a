"""Exchanges that have ended: counted and logged in batches, off the path of any request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from launcher.config import LauncherConfig
from launcher.telemetry.log import log_exchanges
from launcher.telemetry.metrics_table import NO_ROUTE, OWN_ROUTE
from launcher.telemetry.numbers import RouteNumbers
from launcher.telemetry.record import ExchangeRecord

#: Seconds after which an ended exchange is counted and logged, at the latest.
INTERVAL: Final = 0.1
#: So many that have ended are worked up at once, so that nobody waits long for the loop.
BATCH: Final = 128


class Exchanges:
    """The numbers of each route, and the access log, from the exchanges that have ended.

    `in_flight` returns how many exchanges of each route are under way (`-`: those of the
    launcher's own paths); it is asked only when somebody wants to know.
    """

    def __init__(
        self,
        config: LauncherConfig,
        in_flight: Callable[[], Mapping[str, int]] = dict,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._in_flight = in_flight
        self._wall = wall
        self._ended: list[ExchangeRecord] = []
        self._timer: asyncio.TimerHandle | None = None
        self._routes: dict[str, RouteNumbers] = {OWN_ROUTE: RouteNumbers(), "": RouteNumbers()}
        self.reconfigure(config)

    def __repr__(self) -> str:
        return f"<Exchanges of {len(self._routes)} routes, {len(self._ended)} to be counted>"

    def reconfigure(self, config: LauncherConfig) -> None:
        """Count for these routes from now on; the numbers of others are dropped."""
        self.flush()
        names = [OWN_ROUTE, "", *(route.name for route in config.routes)]
        self._routes = {name: self._routes.get(name) or RouteNumbers() for name in names}

    def add(self, record: ExchangeRecord) -> None:
        """Note an exchange that has ended. Called on the loop."""
        self._ended.append(record)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self.flush)
        elif len(self._ended) >= BATCH:
            self._work_up()

    def flush(self) -> None:
        """Count and log what has ended so far."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ended:
            self._work_up()

    def by_route(self) -> dict[str, RouteNumbers]:
        """Return the numbers of each route, by the `route` label of the metrics."""
        self.flush()
        in_flight = self._in_flight()
        for name, numbers in self._routes.items():
            numbers.in_flight = in_flight.get(name, 0)
        return {name or NO_ROUTE: numbers for name, numbers in self._routes.items()}

    def last_hits(self) -> dict[str, float]:
        """Return when the latest request of each route came in, in seconds since 1970; now,
        where one is under way. Routes that had none are left out."""
        found = {name: one.last_hit for name, one in self.by_route().items() if one.last_hit}
        now = self._wall()
        return found | {name: now for name, count in self._in_flight().items() if count}

    def _work_up(self) -> None:
        batch, self._ended = self._ended, []
        self._count(batch)
        log_exchanges(batch)

    def _count(self, batch: Sequence[ExchangeRecord]) -> None:
        for one in batch:
            # Taken apart in one step, which is quicker than ten look-ups of a field.
            (at, _, _, _, route, _, _, status, _, outcome, cold,
             _, _, first_byte, duration, received, sent, retried, _) = one  # fmt: skip
            numbers = self._routes.get(route)
            if numbers is None:
                continue  # a route that a reload has taken away
            by_status = numbers.by_status
            by_status[status] = by_status.get(status, 0) + 1
            numbers.duration.observe(duration)
            if first_byte >= 0.0:
                numbers.first_byte.observe(first_byte)
            numbers.request_bytes += received
            numbers.response_bytes += sent
            if at - duration > numbers.last_hit:
                numbers.last_hit = at - duration
            if outcome == "aborted":
                numbers.aborted += 1
            if retried:
                numbers.retries += 1
            if cold:
                numbers.cold += 1
