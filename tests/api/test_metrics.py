"""`GET /metrics`."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from launcher.api.metrics import Exposition
from launcher.telemetry.metrics import Metrics
from tests.api.world import CONFIG, FakeControl, request


async def test_it_is_prometheus_text() -> None:
    answer = await Exposition(Metrics(CONFIG, FakeControl().snapshot)).show(request())

    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(answer.body.decode())}
    assert "launcher_backend_state" in names
