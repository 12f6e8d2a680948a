"""Every metric that is exported: the objects are made from this table, and so is the reference.

Base units, label values only from the configuration, buckets that suit the thing measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: First bytes: milliseconds from a warm backend, minutes where it had to be started.
FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)
#: Whole exchanges: up to the stream of an hour.
WHOLE = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0, 3600.0)
#: Waits in the queue: nothing at all, or a swap or several.
WAITS = (0.001, 0.01, 0.1, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
#: Starts: a small process in half a second, a large model in minutes.
STARTS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0)
#: Stops: at once, or the whole of a grace time.
STOPS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0)

#: The `route` label of the launcher's own paths, and of requests that matched no route.
OWN_ROUTE = "-"
NO_ROUTE = "?"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric as it is exported, for its making and for the reference."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "launcher_requests_total",
        "counter",
        ("route", "code"),
        "Exchanges that ended, by route and real HTTP status (499: the client left). "
        f"Route `{OWN_ROUTE}` is the launcher's own paths, `{NO_ROUTE}` what matched no route.",
    ),
    MetricSpec(
        "launcher_request_duration_seconds",
        "histogram",
        ("route",),
        "From the request's head to the end of its response, waiting included.",
        WHOLE,
    ),
    MetricSpec(
        "launcher_time_to_first_byte_seconds",
        "histogram",
        ("route",),
        "From the request's head to the first byte of the backend's response.",
        FAST,
    ),
    MetricSpec(
        "launcher_requests_in_flight",
        "gauge",
        ("route",),
        "Exchanges under way, those that wait included.",
    ),
    MetricSpec(
        "launcher_request_bytes_total", "counter", ("route",), "Bytes of request bodies read."
    ),
    MetricSpec(
        "launcher_response_bytes_total", "counter", ("route",), "Bytes of response bodies sent."
    ),
    MetricSpec(
        "launcher_aborted_total",
        "counter",
        ("route",),
        "Responses cut because the backend died in the middle of them.",
    ),
    MetricSpec(
        "launcher_retries_total", "counter", ("route",), "Requests sent to a backend once more."
    ),
    MetricSpec(
        "launcher_cold_requests_total",
        "counter",
        ("route",),
        "Exchanges that waited for a start of their backend.",
    ),
    MetricSpec(
        "launcher_queue_depth", "gauge", ("backend",), "Requests that wait for the backend."
    ),
    MetricSpec(
        "launcher_queue_wait_seconds",
        "histogram",
        ("backend",),
        "From arrival until the backend was granted, its start included.",
        WAITS,
    ),
    MetricSpec(
        "launcher_rejects_total",
        "counter",
        ("backend", "code"),
        "Waiting requests that were turned away, by error code.",
    ),
    MetricSpec(
        "launcher_backend_state",
        "gauge",
        ("backend", "state"),
        "1 for the state that the backend is in, 0 for the others.",
    ),
    MetricSpec(
        "launcher_backend_in_flight",
        "gauge",
        ("backend",),
        "Requests and tunnels that the backend serves.",
    ),
    MetricSpec(
        "launcher_backend_reachable",
        "gauge",
        ("backend",),
        "1 while the backend's driver (the Docker Engine) answers.",
    ),
    MetricSpec(
        "launcher_starts_total",
        "counter",
        ("backend", "outcome"),
        "Starts that ended: ready, failed, or cancelled. Adoptions aren't starts.",
    ),
    MetricSpec(
        "launcher_start_duration_seconds",
        "histogram",
        ("backend",),
        "From the decision to start until ready, of starts that succeeded.",
        STARTS,
    ),
    MetricSpec(
        "launcher_adoptions_total",
        "counter",
        ("backend", "outcome"),
        "Backends found running and taken over: ready, failed, or cancelled.",
    ),
    MetricSpec("launcher_stops_total", "counter", ("backend", "reason"), "Stops begun, by reason."),
    MetricSpec(
        "launcher_stop_duration_seconds",
        "histogram",
        ("backend",),
        "From the first attempt until it is confirmed that nothing runs.",
        STOPS,
    ),
    MetricSpec(
        "launcher_stop_failures_total",
        "counter",
        ("backend",),
        "Attempts to stop that did not end or could not be confirmed.",
    ),
    MetricSpec(
        "launcher_swaps_total",
        "counter",
        (),
        "Backends that became ready in a place made by stopping others.",
    ),
    MetricSpec("launcher_capacity", "gauge", ("resource",), "Units that the machine has."),
    MetricSpec(
        "launcher_used",
        "gauge",
        ("resource",),
        "Units occupied by resident backends; above the capacity where others started some.",
    ),
    MetricSpec("launcher_build_info", "gauge", ("version", "python"), "Always 1; what is running."),
)

#: The bounds of each histogram.
BUCKETS = {spec.name: spec.buckets for spec in METRICS if spec.type == "histogram"}
