"""The table of metrics keeps Prometheus' customs."""

from __future__ import annotations

import re

import pytest

from launcher.telemetry.metrics_table import METRICS, MetricSpec


def test_names_are_unique() -> None:
    assert len({spec.name for spec in METRICS}) == len(METRICS)


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_a_metric_keeps_the_customs(spec: MetricSpec) -> None:
    assert re.fullmatch(r"launcher_[a-z_]+", spec.name)
    assert (spec.type == "counter") == spec.name.endswith("_total")
    assert (spec.type == "histogram") == bool(spec.buckets)
    assert spec.type != "histogram" or spec.name.endswith("_seconds")
    assert list(spec.buckets) == sorted(set(spec.buckets))
    assert spec.help.endswith(".")
    assert set(spec.labels) <= {
        *("route", "code", "backend", "state", "outcome", "reason"),
        *("resource", "version", "python"),
    }


def test_what_was_promised_is_there() -> None:
    promised = {
        "requests_total": ("route", "code"),
        "request_duration_seconds": ("route",),
        "time_to_first_byte_seconds": ("route",),
        "requests_in_flight": ("route",),
        "queue_depth": ("backend",),
        "queue_wait_seconds": ("backend",),
        "backend_state": ("backend", "state"),
        "starts_total": ("backend", "outcome"),
        "start_duration_seconds": ("backend",),
        "stops_total": ("backend", "reason"),
        "swaps_total": (),
        "capacity": ("resource",),
        "used": ("resource",),
        "build_info": ("version", "python"),
    }
    labels = {spec.name.removeprefix("launcher_"): spec.labels for spec in METRICS}

    assert {name: labels.get(name) for name in promised} == promised
