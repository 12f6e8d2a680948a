"""Counters and histograms as plain numbers, so that counting is adding.

`metrics` renders them when somebody scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from launcher.core.types import StopReason
from launcher.telemetry.metrics_table import BUCKETS


class Histogram:
    """How many values fell between which bounds, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        """Upper bounds, each included in its bucket, in ascending order."""
        self.counts = [0] * (len(bounds) + 1)
        """Per bucket, not cumulative; the last holds what is above every bound."""
        self.sum = 0.0

    def __repr__(self) -> str:
        return f"<Histogram of {sum(self.counts)} values, {self.sum:g} in all>"

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times


class RouteNumbers:
    """What is counted of the exchanges of one route."""

    __slots__ = (
        *("by_status", "duration", "first_byte", "request_bytes", "response_bytes"),
        *("aborted", "retries", "cold", "in_flight", "last_hit"),
    )

    def __init__(self) -> None:
        self.by_status: dict[int, int] = {}
        self.duration = Histogram(BUCKETS["launcher_request_duration_seconds"])
        self.first_byte = Histogram(BUCKETS["launcher_time_to_first_byte_seconds"])
        self.request_bytes = 0
        self.response_bytes = 0
        self.aborted = 0
        self.retries = 0
        self.cold = 0
        self.in_flight = 0
        """As of the last time that somebody asked for the numbers."""
        self.last_hit = 0.0
        """When the latest of the requests that have ended came in, in seconds since 1970; 0.0:
        there was none."""


class BackendNumbers:
    """What is counted of one backend."""

    __slots__ = (
        *("queue_wait", "rejects", "starts", "start_duration", "adoptions"),
        *("stops", "stop_duration", "stop_failures"),
    )

    def __init__(self) -> None:
        self.queue_wait = Histogram(BUCKETS["launcher_queue_wait_seconds"])
        self.rejects: dict[str, int] = {}
        """By error code."""
        self.starts = dict.fromkeys(("ready", "failed", "cancelled"), 0)
        self.start_duration = Histogram(BUCKETS["launcher_start_duration_seconds"])
        self.adoptions = dict.fromkeys(("ready", "failed", "cancelled"), 0)
        self.stops = dict.fromkeys((reason.value for reason in StopReason), 0)
        self.stop_duration = Histogram(BUCKETS["launcher_stop_duration_seconds"])
        self.stop_failures = 0
