"""Everything that Prometheus may scrape, rendered from plain numbers when it does.

Each metric of `metrics_table` is exported; every label value comes from the configuration.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from launcher import __version__
from launcher.config import LauncherConfig
from launcher.core.effects import Reject
from launcher.core.types import BackendId, BackendState, Snapshot
from launcher.telemetry.facts import (
    Fact,
    Granted,
    GrantedAtOnce,
    StartEnded,
    StopBegan,
    StopEnded,
    StopStuck,
)
from launcher.telemetry.metrics_table import METRICS, MetricSpec
from launcher.telemetry.numbers import BackendNumbers, Histogram, RouteNumbers

Labelled = tuple[tuple[str, ...], float | Histogram]
"""The values of a metric's labels, in the table's order, and what it stands at."""


class Metrics(Collector):
    """The registry, and the numbers of the backends. A listener to the facts.

    At each scrape `snapshot` is asked for the scheduler's state and `routes` for the numbers
    of each route, by its label.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(
        self,
        config: LauncherConfig,
        snapshot: Callable[[], Snapshot],
        routes: Callable[[], Mapping[str, RouteNumbers]] = dict,
    ) -> None:
        self._ask_snapshot = snapshot
        self._ask_routes = routes
        self._swaps = 0
        self._backends: dict[BackendId, BackendNumbers] = {}
        self.reconfigure(config)
        self._snapshot: Snapshot | None = None
        self._routes: Mapping[str, RouteNumbers] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def reconfigure(self, config: LauncherConfig) -> None:
        """Count for these backends from now on; the numbers of others are dropped."""
        known = self._backends
        self._backends = {
            id: known.get(id) or BackendNumbers()
            for id in sorted(one.id for one in config.backends)
        }

    # -- what happens ---------------------------------------------------------------------

    def granted_at_once(self, backend: BackendId, count: int) -> None:
        """Count so many requests that did not wait for their backend at all."""
        numbers = self._backends.get(backend)
        if numbers is not None:
            numbers.queue_wait.observe(0.0, count)

    def fact(self, fact: Fact) -> None:
        """Count what happened to a backend."""
        if isinstance(fact, GrantedAtOnce):
            self.granted_at_once(fact.backend, fact.count)
            return
        if not isinstance(fact, Granted | Reject | StartEnded | StopBegan | StopEnded | StopStuck):
            return
        numbers = self._backends.get(fact.backend)
        if numbers is None:
            return  # a backend that a reload has taken away
        match fact:
            case Granted():
                numbers.queue_wait.observe(fact.waited)
            case Reject():
                numbers.rejects[fact.code] = numbers.rejects.get(fact.code, 0) + 1
            case StartEnded(adopted=True):
                numbers.adoptions[fact.outcome] += 1
            case StartEnded():
                numbers.starts[fact.outcome] += 1
                if fact.outcome == "ready":
                    numbers.start_duration.observe(fact.seconds)
                    self._swaps += fact.swap
            case StopBegan():
                numbers.stops[fact.reason.value] += 1
            case StopEnded():
                numbers.stop_duration.observe(fact.seconds)
            case StopStuck():
                numbers.stop_failures += 1

    # -- what is asked --------------------------------------------------------------------

    async def render(self) -> bytes:
        """Return everything in Prometheus' text format (`content_type`).

        The scheduler and the routes are asked on the loop; the text, which takes milliseconds
        and reads /proc, is written on a thread.
        """
        self._snapshot, self._routes = self._ask_snapshot(), self._ask_routes()
        return await asyncio.to_thread(generate_latest, self.registry)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: a registry would call `collect` to learn the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield each metric of the table. Called on a thread: while the loop goes on counting,
        dictionaries are read by copies, which the interpreter makes in one step."""
        values = self._of_routes() | self._of_backends() | self._of_the_scheduler()
        values["launcher_build_info"] = [((__version__, platform.python_version()), 1)]
        for spec in METRICS:
            yield _family(spec, values[spec.name])

    def _of_routes(self) -> dict[str, Iterable[Labelled]]:
        routes = [((label,), one) for label, one in self._routes.items()]
        return {
            "launcher_requests_total": [
                ((*label, code), count) for label, one in routes for code, count in _by_code(one)
            ],
            "launcher_request_duration_seconds": [(label, one.duration) for label, one in routes],
            "launcher_time_to_first_byte_seconds": [
                (label, one.first_byte) for label, one in routes
            ],
            "launcher_requests_in_flight": [(label, one.in_flight) for label, one in routes],
            "launcher_request_bytes_total": [(label, one.request_bytes) for label, one in routes],
            "launcher_response_bytes_total": [(label, one.response_bytes) for label, one in routes],
            "launcher_aborted_total": [(label, one.aborted) for label, one in routes],
            "launcher_retries_total": [(label, one.retries) for label, one in routes],
            "launcher_cold_requests_total": [(label, one.cold) for label, one in routes],
        }

    def _of_backends(self) -> dict[str, Iterable[Labelled]]:
        backends = [((id,), one) for id, one in self._backends.items()]

        def each(numbers: Callable[[BackendNumbers], dict[str, int]]) -> list[Labelled]:
            return [
                ((*label, value), count)
                for label, one in backends
                for value, count in list(numbers(one).items())
            ]

        return {
            "launcher_queue_wait_seconds": [(label, one.queue_wait) for label, one in backends],
            "launcher_rejects_total": each(lambda one: one.rejects),
            "launcher_starts_total": each(lambda one: one.starts),
            "launcher_start_duration_seconds": [
                (label, one.start_duration) for label, one in backends
            ],
            "launcher_adoptions_total": each(lambda one: one.adoptions),
            "launcher_stops_total": each(lambda one: one.stops),
            "launcher_stop_duration_seconds": [
                (label, one.stop_duration) for label, one in backends
            ],
            "launcher_stop_failures_total": [(label, one.stop_failures) for label, one in backends],
            "launcher_swaps_total": [((), self._swaps)],
        }

    def _of_the_scheduler(self) -> dict[str, Iterable[Labelled]]:
        snapshot = self._snapshot
        backends = () if snapshot is None else tuple(snapshot.backends.values())
        capacity = () if snapshot is None else snapshot.capacity
        used = {} if snapshot is None else dict(snapshot.used)
        return {
            "launcher_queue_depth": [((one.id,), one.queued) for one in backends],
            "launcher_backend_in_flight": [((one.id,), one.in_flight) for one in backends],
            "launcher_backend_reachable": [((one.id,), float(one.reachable)) for one in backends],
            "launcher_backend_state": [
                ((one.id, state.value), float(one.state is state))
                for one in backends
                for state in BackendState
            ],
            "launcher_capacity": [((resource,), units) for resource, units in capacity],
            "launcher_used": [((resource,), used.get(resource, 0)) for resource, _ in capacity],
        }


def _by_code(numbers: RouteNumbers) -> Iterator[tuple[str, int]]:
    """Yield the exchanges of each status. A backend may answer with any three digits; what
    isn't a status by RFC 9110 §15 shares one label."""
    invalid = 0
    for status, count in list(numbers.by_status.items()):
        if 100 <= status <= 599:
            yield str(status), count
        else:
            invalid += count
    if invalid:
        yield "invalid", invalid


def _family(spec: MetricSpec, values: Iterable[Labelled]) -> Metric:
    if spec.type == "histogram":
        histograms = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
        les = _les(spec.buckets)
        for labels, value in values:
            assert isinstance(value, Histogram)
            total = value.sum
            buckets = list(zip(les, accumulate(value.counts), strict=True))
            histograms.add_metric(labels, buckets, total)
        return histograms
    family = CounterMetricFamily if spec.type == "counter" else GaugeMetricFamily
    plain = family(spec.name, spec.help, labels=spec.labels)
    for labels, value in values:
        assert not isinstance(value, Histogram)
        plain.add_metric(labels, value)
    return plain


@cache
def _les(bounds: tuple[float, ...]) -> tuple[str, ...]:
    """The bounds as the label `le` shows them."""
    return (*map(floatToGoString, bounds), "+Inf")
