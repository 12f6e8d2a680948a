"""What Prometheus is told. A registry of its own; every label value comes from the configuration.

The objects are built from the table in `metrics_table.py`.
Counters and histograms are fed by facts and exchanges; gauges of the scheduler's state are
read from a snapshot when somebody scrapes. Nothing here starts a backend or decides anything.
"""

from __future__ import annotations

import asyncio
import platform
from collections import Counter as Counted
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from launcher import __version__
from launcher.config import LauncherConfig
from launcher.core.effects import Reject
from launcher.core.types import BackendId, BackendState, Snapshot, StopReason
from launcher.telemetry.facts import (
    Fact,
    Granted,
    GrantedAtOnce,
    StartEnded,
    StopBegan,
    StopEnded,
    StopStuck,
)
from launcher.telemetry.metrics_table import METRICS, NO_ROUTE, OWN_ROUTE, MetricSpec
from launcher.telemetry.record import ExchangeRecord

M = TypeVar("M", Counter, Gauge, Histogram)

_SPECS = {spec.name: spec for spec in METRICS}


class _Route:
    """The children of one route's labels, bound once."""

    def __init__(self, metrics: Metrics, route: str) -> None:
        self.route = route
        self._requests = metrics.counter("launcher_requests_total")
        self._by_code: dict[int, Counter] = {}
        self.duration = metrics.histogram("launcher_request_duration_seconds").labels(route)
        self.first_byte = metrics.histogram("launcher_time_to_first_byte_seconds").labels(route)
        self.in_flight = metrics.gauge("launcher_requests_in_flight").labels(route)
        self.request_bytes = metrics.counter("launcher_request_bytes_total").labels(route)
        self.response_bytes = metrics.counter("launcher_response_bytes_total").labels(route)
        self.aborted = metrics.counter("launcher_aborted_total").labels(route)
        self.retries = metrics.counter("launcher_retries_total").labels(route)
        self.cold = metrics.counter("launcher_cold_requests_total").labels(route)

    def requests(self, status: int) -> Counter:
        """The counter of one status. A backend may answer with any three digits; what isn't
        a status by RFC 9110 §15 shares one label."""
        found = self._by_code.get(status)
        if found is None:
            code = str(status) if 100 <= status <= 599 else "invalid"
            found = self._by_code[status] = self._requests.labels(self.route, code)
        return found


class _Backend:
    """The children of one backend's labels, bound once."""

    def __init__(self, metrics: Metrics, backend: str) -> None:
        self.queue_wait = metrics.histogram("launcher_queue_wait_seconds").labels(backend)
        self.start_duration = metrics.histogram("launcher_start_duration_seconds").labels(backend)
        self.stop_duration = metrics.histogram("launcher_stop_duration_seconds").labels(backend)
        self.stop_failures = metrics.counter("launcher_stop_failures_total").labels(backend)
        starts = metrics.counter("launcher_starts_total")
        adoptions = metrics.counter("launcher_adoptions_total")
        stops = metrics.counter("launcher_stops_total")
        outcomes = ("ready", "failed", "cancelled")
        self.starts = {outcome: starts.labels(backend, outcome) for outcome in outcomes}
        self.adoptions = {outcome: adoptions.labels(backend, outcome) for outcome in outcomes}
        self.stops = {reason: stops.labels(backend, reason.value) for reason in StopReason}


class _AtScrape(Collector):
    """Gauges read from the scheduler's snapshot, which is taken before they are asked for."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        snapshot = self.snapshot
        if snapshot is None:
            return
        depth = _family("launcher_queue_depth")
        in_flight = _family("launcher_backend_in_flight")
        reachable = _family("launcher_backend_reachable")
        state = _family("launcher_backend_state")
        for backend in snapshot.backends.values():
            depth.add_metric([backend.id], backend.queued)
            in_flight.add_metric([backend.id], backend.in_flight)
            reachable.add_metric([backend.id], float(backend.reachable))
            for each in BackendState:
                state.add_metric([backend.id, each.value], float(backend.state is each))
        capacity = _family("launcher_capacity")
        used = _family("launcher_used")
        occupied = dict(snapshot.used)
        for resource, units in snapshot.capacity:
            capacity.add_metric([resource], units)
            used.add_metric([resource], occupied.get(resource, 0))
        yield from (depth, in_flight, reachable, state, capacity, used)


def _family(name: str) -> GaugeMetricFamily:
    spec = _SPECS[name]
    return GaugeMetricFamily(name, spec.help, labels=spec.labels)


_SCRAPED = frozenset(
    {
        "launcher_queue_depth",
        "launcher_backend_in_flight",
        "launcher_backend_reachable",
        "launcher_backend_state",
        "launcher_capacity",
        "launcher_used",
    }
)


class Metrics:
    """The registry and its recorder.

    `fact` listens to `Narrator`; `exchange_started` and `exchange_ended` to the
    proxy's handler. `snapshot` is asked at each scrape.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, config: LauncherConfig, snapshot: Callable[[], Snapshot]) -> None:
        # Without this every counter and histogram brings a `_created` series along.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._snapshot = snapshot
        self._made: dict[str, Counter | Gauge | Histogram] = {}
        for spec in METRICS:
            if spec.name not in _SCRAPED:
                self._made[spec.name] = self._make(spec)
        self._at_scrape = _AtScrape()
        self.registry.register(self._at_scrape)
        ProcessCollector(registry=self.registry)
        self.gauge("launcher_build_info").labels(__version__, platform.python_version()).set(1)
        self._swaps = self.counter("launcher_swaps_total")
        self._rejects = self.counter("launcher_rejects_total")
        self._rejected: dict[tuple[BackendId, str], Counter] = {}
        self._routes = {OWN_ROUTE: _Route(self, OWN_ROUTE), "": _Route(self, NO_ROUTE)}
        self._backends: dict[BackendId, _Backend] = {}
        self.reconfigure(config)
        self._flying: dict[int, _Route] = {}

    def reconfigure(self, config: LauncherConfig) -> None:
        """Count for these routes and backends from now on; those of others are dropped."""
        routes = {route.name for route in config.routes}
        for name in self._routes.keys() - routes - {OWN_ROUTE, ""}:
            del self._routes[name]
            self._drop("route", name)
        for name in sorted(routes - self._routes.keys()):
            self._routes[name] = _Route(self, name)
        backends = {one.id for one in config.backends}
        for backend in self._backends.keys() - backends:
            del self._backends[backend]
            self._rejected = {key: one for key, one in self._rejected.items() if key[0] != backend}
            self._drop("backend", backend)
        for backend in sorted(backends - self._backends.keys()):
            self._backends[backend] = _Backend(self, backend)

    def _drop(self, label: str, value: str) -> None:
        for spec in METRICS:
            if label in spec.labels and spec.name in self._made:
                self._made[spec.name].remove_by_labels({label: value})

    def _make(self, spec: MetricSpec) -> Counter | Gauge | Histogram:
        if spec.type == "counter":
            return Counter(spec.name, spec.help, spec.labels, registry=self.registry)
        if spec.type == "gauge":
            return Gauge(spec.name, spec.help, spec.labels, registry=self.registry)
        return Histogram(
            spec.name, spec.help, spec.labels, registry=self.registry, buckets=spec.buckets
        )

    def counter(self, name: str) -> Counter:
        """A counter of the table by name; KeyError or TypeError for anything else."""
        return _of(Counter, self._made[name])

    def gauge(self, name: str) -> Gauge:
        """A gauge of the table by name; KeyError or TypeError for anything else."""
        return _of(Gauge, self._made[name])

    def histogram(self, name: str) -> Histogram:
        """A histogram of the table by name; KeyError or TypeError for anything else."""
        return _of(Histogram, self._made[name])

    # -- what happens ---------------------------------------------------------------------

    def exchange_started(self, record: ExchangeRecord) -> None:
        """An exchange whose route is known begins."""
        route = self._routes.get(record.route)
        if route is not None:
            self._flying[id(record)] = route

    def exchange_ended(self, record: ExchangeRecord) -> None:
        """An exchange is over."""
        self._flying.pop(id(record), None)
        route = self._routes.get(record.route)
        if route is None:
            return  # a route that a reload has taken away
        route.requests(record.status).inc()
        route.duration.observe(record.duration)
        if record.first_byte is not None:
            route.first_byte.observe(record.first_byte)
        if record.request_bytes:
            route.request_bytes.inc(record.request_bytes)
        if record.response_bytes:
            route.response_bytes.inc(record.response_bytes)
        if record.outcome == "aborted":
            route.aborted.inc()
        if record.retried:
            route.retries.inc()
        if record.cold:
            route.cold.inc()

    def fact(self, fact: Fact) -> None:
        """Something happened to a backend."""
        match fact:
            case Granted():
                if (children := self._backends.get(fact.backend)) is not None:
                    children.queue_wait.observe(fact.waited)
            case GrantedAtOnce():
                if (children := self._backends.get(fact.backend)) is not None:
                    for _ in range(fact.count):
                        children.queue_wait.observe(0.0)
            case Reject() if fact.backend in self._backends:
                key = (fact.backend, fact.code)
                if (counter := self._rejected.get(key)) is None:
                    counter = self._rejected[key] = self._rejects.labels(*key)
                counter.inc()
            case StartEnded():
                self._start_ended(fact)
            case StopBegan():
                if (children := self._backends.get(fact.backend)) is not None:
                    children.stops[fact.reason].inc()
            case StopEnded():
                if (children := self._backends.get(fact.backend)) is not None:
                    children.stop_duration.observe(fact.seconds)
            case StopStuck():
                if (children := self._backends.get(fact.backend)) is not None:
                    children.stop_failures.inc()
            case _:
                pass

    def _start_ended(self, fact: StartEnded) -> None:
        children = self._backends.get(fact.backend)
        if children is None:
            return
        if fact.adopted:
            children.adoptions[fact.outcome].inc()
            return
        children.starts[fact.outcome].inc()
        if fact.outcome == "ready":
            children.start_duration.observe(fact.seconds)
            if fact.swap:
                self._swaps.inc()

    # -- what is asked --------------------------------------------------------------------

    async def render(self) -> bytes:
        """Everything in Prometheus' text format (`content_type`).

        The snapshot is taken on the loop; the text, which takes milliseconds and reads
        /proc, is written on a thread.
        """
        self._at_scrape.snapshot = self._snapshot()
        flying = Counted(self._flying.values())
        for route in self._routes.values():
            route.in_flight.set(flying[route])
        return await asyncio.to_thread(generate_latest, self.registry)


def _of(kind: type[M], made: Counter | Gauge | Histogram) -> M:
    if not isinstance(made, kind):
        raise TypeError(f"{made!r} is not a {kind.__name__}")
    return made
