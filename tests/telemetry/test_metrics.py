"""What a scrape shows of what happened."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from launcher import __version__
from launcher.config import BackendConfig
from launcher.core.effects import Reject
from launcher.core.types import BackendId, BackendState, Failure, StopReason, TicketId
from launcher.drivers.base import ContainerSpec
from launcher.telemetry.facts import (
    Fact,
    Granted,
    StartBegan,
    StartEnded,
    StartOutcome,
    StopBegan,
    StopEnded,
    StopStuck,
)
from launcher.telemetry.metrics import Metrics
from launcher.telemetry.metrics_table import METRICS
from launcher.telemetry.numbers import RouteNumbers
from tests.api.world import CHAT, CODER, CONFIG, FakeControl

FAILURE = Failure("backend_start_failed", "exit code 1")

#: In which label values are looked up.
ORDER = (
    *("route", "backend", "resource", "code", "state", "outcome", "reason"),
    *("version", "python", "le"),
)


class Scraped:
    """Metrics, and their text as a parser reads it."""

    def __init__(self) -> None:
        self.control = FakeControl()
        self.routes = {name: RouteNumbers() for name in ("-", "?", "coder", "chat")}
        self.metrics = Metrics(CONFIG, self.control.snapshot, lambda: self.routes)

    def samples(self) -> dict[tuple[str, ...], float]:
        """Name and label values (in the order of ORDER) to value."""
        text = asyncio.run(self.metrics.render()).decode()
        return {
            (sample.name, *(sample.labels[name] for name in ORDER if name in sample.labels)): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def ended(
    backend: BackendId, outcome: StartOutcome, *, adopted: bool = False, swap: bool = False
) -> StartEnded:
    failure = FAILURE if outcome == "failed" else None
    return StartEnded(backend, 1, adopted, swap, outcome, 42.0, failure)


def test_every_metric_of_the_table_is_exported_with_its_type_and_labels(scraped: Scraped) -> None:
    scraped.routes["coder"].by_status[200] = 1
    scraped.metrics.fact(Reject(TicketId(1), CODER, "queue_full", "too many"))
    text = asyncio.run(scraped.metrics.render()).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}

    for spec in METRICS:
        family = families[spec.name.removesuffix("_total")]
        assert family.type == spec.type
        assert family.documentation == spec.help
        assert family.samples, spec.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(spec.labels)
    assert not [name for name in families if name.endswith("_created")]


def test_the_numbers_of_a_route_are_shown(scraped: Scraped) -> None:
    coder = scraped.routes["coder"]
    coder.by_status |= {200: 2, 502: 1, 0: 1, 600: 2}
    for duration in (0.2, 0.25, 90.0, 4000.0):
        coder.duration.observe(duration)
    coder.first_byte.observe(0.02)
    coder.request_bytes, coder.response_bytes = 3, 7
    coder.aborted, coder.retries, coder.cold, coder.in_flight = 4, 5, 6, 8
    scraped.routes["?"].by_status[404] = 1

    samples = scraped.samples()
    of_coder = {key[0]: value for key, value in samples.items() if key[1:] == ("coder",)}
    assert samples["launcher_requests_total", "coder", "200"] == 2
    assert samples["launcher_requests_total", "coder", "502"] == 1
    assert samples["launcher_requests_total", "coder", "invalid"] == 3
    assert samples["launcher_requests_total", "?", "404"] == 1
    buckets = [
        samples["launcher_request_duration_seconds_bucket", "coder", le]
        for le in ("0.1", "0.25", "60.0", "180.0", "3600.0", "+Inf")
    ]
    assert buckets == [0, 2, 2, 3, 3, 4]
    assert of_coder["launcher_request_duration_seconds_count"] == 4
    assert of_coder["launcher_request_duration_seconds_sum"] == pytest.approx(4090.45)
    assert of_coder["launcher_time_to_first_byte_seconds_count"] == 1
    assert of_coder["launcher_request_bytes_total"] == 3
    assert of_coder["launcher_response_bytes_total"] == 7
    assert of_coder["launcher_aborted_total"] == 4
    assert of_coder["launcher_retries_total"] == 5
    assert of_coder["launcher_cold_requests_total"] == 6
    assert of_coder["launcher_requests_in_flight"] == 8


def test_backends_that_are_not_configured_have_no_series(scraped: Scraped) -> None:
    facts: list[Fact] = [
        Granted(BackendId("made-up"), 1.0, False),
        ended(BackendId("made-up"), "ready"),
        StopBegan(BackendId("made-up"), StopReason.IDLE),
        StopEnded(BackendId("made-up"), StopReason.IDLE, 1.0),
        StopStuck(BackendId("made-up"), FAILURE),
        Reject(TicketId(1), BackendId("made-up"), "queue_full", "too many"),
    ]
    for fact in facts:
        scraped.metrics.fact(fact)
    scraped.metrics.granted_at_once(BackendId("made-up"), 1)

    assert not [key for key in scraped.samples() if "made-up" in key]


def test_starts_adoptions_and_swaps(scraped: Scraped) -> None:
    scraped.metrics.fact(StartBegan(CODER, 1, False, False))
    scraped.metrics.fact(ended(CODER, "ready"))
    scraped.metrics.fact(ended(CODER, "ready", swap=True))
    scraped.metrics.fact(ended(CODER, "failed", swap=True))
    scraped.metrics.fact(ended(CODER, "cancelled"))
    scraped.metrics.fact(ended(CHAT, "ready", adopted=True))

    samples = scraped.samples()
    assert samples["launcher_starts_total", "coder", "ready"] == 2
    assert samples["launcher_starts_total", "coder", "failed"] == 1
    assert samples["launcher_starts_total", "coder", "cancelled"] == 1
    assert samples["launcher_starts_total", "chat", "ready"] == 0
    assert samples["launcher_adoptions_total", "chat", "ready"] == 1
    assert samples["launcher_start_duration_seconds_count", "coder"] == 2
    assert samples["launcher_start_duration_seconds_sum", "coder"] == 84.0
    assert samples["launcher_swaps_total",] == 1


def test_stops_waits_and_rejects(scraped: Scraped) -> None:
    scraped.metrics.fact(StopBegan(CODER, StopReason.EVICTED))
    scraped.metrics.fact(StopStuck(CODER, FAILURE))
    scraped.metrics.fact(StopEnded(CODER, StopReason.EVICTED, 3.0))
    scraped.metrics.fact(Granted(CODER, 0.5, True))
    scraped.metrics.granted_at_once(CODER, 40)
    for _ in range(2):
        scraped.metrics.fact(Reject(TicketId(1), CODER, "queue_full", "too many"))

    samples = scraped.samples()
    assert samples["launcher_stops_total", "coder", "evicted"] == 1
    assert samples["launcher_stops_total", "coder", "idle"] == 0
    assert samples["launcher_stop_failures_total", "coder"] == 1
    assert samples["launcher_stop_duration_seconds_sum", "coder"] == 3.0
    assert samples["launcher_queue_wait_seconds_bucket", "coder", "0.001"] == 40
    assert samples["launcher_queue_wait_seconds_bucket", "coder", "0.1"] == 40
    assert samples["launcher_queue_wait_seconds_bucket", "coder", "1.0"] == 41
    assert samples["launcher_queue_wait_seconds_sum", "coder"] == 0.5
    assert samples["launcher_rejects_total", "coder", "queue_full"] == 2


def test_states_are_read_at_the_scrape(scraped: Scraped) -> None:
    scraped.control.put(CODER, BackendState.READY, in_flight=3, queued=2, reachable=False)

    samples = scraped.samples()
    assert samples["launcher_backend_state", "coder", "ready"] == 1
    assert samples["launcher_backend_state", "coder", "stopped"] == 0
    assert samples["launcher_backend_state", "chat", "stopped"] == 1
    assert samples["launcher_backend_in_flight", "coder"] == 3
    assert samples["launcher_queue_depth", "coder"] == 2
    assert samples["launcher_backend_reachable", "coder"] == 0
    assert samples["launcher_capacity", "gpu"] == 1
    assert samples["launcher_used", "gpu"] == 0
    assert scraped.control.admissions == []

    scraped.control.put(CODER, BackendState.STOPPED)
    assert scraped.samples()["launcher_backend_state", "coder", "ready"] == 0


def test_the_process_and_the_build_are_known(scraped: Scraped) -> None:
    samples = scraped.samples()

    assert samples["process_resident_memory_bytes",] > 1_000_000
    assert [key for key in samples if key[:2] == ("launcher_build_info", __version__)]


def test_two_launchers_in_one_process_do_not_mix(scraped: Scraped) -> None:
    Scraped().metrics.fact(ended(CODER, "ready"))

    assert scraped.samples()["launcher_starts_total", "coder", "ready"] == 0


def test_a_reload_drops_the_series_of_backends_that_are_gone(scraped: Scraped) -> None:
    scraped.metrics.fact(Reject(TicketId(1), CODER, "queue_full", ""))
    scraped.metrics.fact(ended(CHAT, "ready"))
    backend = BackendConfig(BackendId("new"), ContainerSpec("new", 8000))
    del scraped.routes["coder"]

    scraped.metrics.reconfigure(replace(CONFIG, backends=(*CONFIG.backends[1:], backend)))

    scraped.metrics.fact(Reject(TicketId(1), CODER, "queue_full", ""))
    samples = scraped.samples()
    assert samples["launcher_starts_total", "chat", "ready"] == 1, "it counts on"
    assert samples["launcher_starts_total", "new", "ready"] == 0
    of_gauges = {"launcher_queue_depth", "launcher_backend_state", "launcher_backend_in_flight"}
    of_gauges |= {"launcher_backend_reachable"}
    assert {key[0] for key in samples if "coder" in key} <= of_gauges, "the scheduler knows it yet"
    scraped.metrics.reconfigure(CONFIG)
    assert ("launcher_rejects_total", "coder", "queue_full") not in scraped.samples()


def test_numbers_may_change_while_they_are_shown(scraped: Scraped) -> None:
    coder = scraped.routes["coder"]
    coder.by_status[200] = 1
    families = scraped.metrics.collect()
    scraped.samples()
    next(families)
    coder.by_status[404] = 1
    scraped.metrics.fact(Reject(TicketId(1), CODER, "queue_full", ""))

    assert len(list(families)) == len(METRICS) - 1
