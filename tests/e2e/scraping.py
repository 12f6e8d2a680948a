"""What a Prometheus makes of /metrics."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.serving import Launcher


def scrape(launcher: Launcher) -> dict[str, Metric]:
    """All families, by their names."""
    text = launcher.get("/metrics")[1].decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(launcher: Launcher, name: str) -> list[tuple[dict[str, str], float]]:
    """The labels and the value of each sample of one name."""
    family = scrape(launcher)[name.removesuffix("_total").removesuffix("_count")]
    return [(one.labels, float(one.value)) for one in family.samples if one.name == name]


def value(launcher: Launcher, name: str, **labels: str) -> float:
    """One sample; 0 where there is none yet."""
    return next((found for has, found in samples(launcher, name) if has == labels), 0.0)
