"""What a scrape shows of what happened."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from launcher import __version__
from launcher.config import BackendConfig, RouteConfig
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
from launcher.telemetry.record import ExchangeRecord
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
        self.metrics = Metrics(CONFIG, self.control.snapshot)

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

    def exchange(self, **fields: object) -> None:
        """A whole exchange."""
        record = ExchangeRecord("GET", "/", "127.0.0.1")
        for name, value in fields.items():
            setattr(record, name, value)
        self.metrics.exchange_started(record)
        self.metrics.exchange_ended(record)


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def ended(
    backend: BackendId, outcome: StartOutcome, *, adopted: bool = False, swap: bool = False
) -> StartEnded:
    failure = FAILURE if outcome == "failed" else None
    return StartEnded(backend, 1, adopted, swap, outcome, 42.0, failure)


def test_every_metric_of_the_table_is_exported_with_its_type_and_labels(scraped: Scraped) -> None:
    scraped.exchange(route="coder", status=200, first_byte=0.01)
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


def test_exchanges_are_counted_by_route_and_status(scraped: Scraped) -> None:
    scraped.exchange(route="coder", status=200, duration=0.2, first_byte=0.02, response_bytes=7)
    scraped.exchange(route="coder", status=200, duration=90.0, cold=True, retried=True)
    scraped.exchange(route="coder", status=502, outcome="aborted", request_bytes=3)
    scraped.exchange(route="-", status=200)
    scraped.exchange(route="", status=404)

    samples = scraped.samples()
    assert samples["launcher_requests_total", "coder", "200"] == 2
    assert samples["launcher_requests_total", "coder", "502"] == 1
    assert samples["launcher_requests_total", "-", "200"] == 1
    assert samples["launcher_requests_total", "?", "404"] == 1
    assert samples["launcher_request_duration_seconds_count", "coder"] == 3
    assert samples["launcher_request_duration_seconds_sum", "coder"] == pytest.approx(90.2)
    assert samples["launcher_request_duration_seconds_bucket", "coder", "0.25"] == 2
    assert samples["launcher_time_to_first_byte_seconds_count", "coder"] == 1
    assert samples["launcher_request_bytes_total", "coder"] == 3
    assert samples["launcher_response_bytes_total", "coder"] == 7
    assert samples["launcher_aborted_total", "coder"] == 1
    assert samples["launcher_retries_total", "coder"] == 1
    assert samples["launcher_cold_requests_total", "coder"] == 1
    assert samples["launcher_requests_in_flight", "coder"] == 0


def test_what_is_under_way_is_in_flight(scraped: Scraped) -> None:
    first = ExchangeRecord("GET", "/", "127.0.0.1", route="coder")
    second = ExchangeRecord("GET", "/", "127.0.0.1", route="coder")
    scraped.metrics.exchange_started(first)
    scraped.metrics.exchange_started(second)
    assert scraped.samples()["launcher_requests_in_flight", "coder"] == 2

    scraped.metrics.exchange_ended(second)
    assert scraped.samples()["launcher_requests_in_flight", "coder"] == 1


def test_an_end_without_a_beginning_does_not_count_below_zero(scraped: Scraped) -> None:
    scraped.metrics.exchange_ended(ExchangeRecord("GET", "/", "127.0.0.1", "coder", status=400))

    samples = scraped.samples()
    assert samples["launcher_requests_in_flight", "coder"] == 0
    assert samples["launcher_requests_total", "coder", "400"] == 1


def test_labels_come_from_the_configuration_alone(scraped: Scraped) -> None:
    scraped.exchange(route="made-up", status=200)
    for status in (0, 600, 999):
        scraped.exchange(route="coder", status=status)
    facts: list[Fact] = [
        Granted(BackendId("made-up"), 1.0, False),
        ended(BackendId("made-up"), "ready"),
        StopBegan(BackendId("made-up"), StopReason.IDLE),
        StopEnded(BackendId("made-up"), StopReason.IDLE, 1.0),
        StopStuck(BackendId("made-up"), FAILURE),
    ]
    for fact in facts:
        scraped.metrics.fact(fact)

    samples = scraped.samples()
    assert not [key for key in samples if "made-up" in key]
    assert samples["launcher_requests_total", "coder", "invalid"] == 3


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
    for _ in range(2):
        scraped.metrics.fact(Reject(TicketId(1), CODER, "queue_full", "too many"))

    samples = scraped.samples()
    assert samples["launcher_stops_total", "coder", "evicted"] == 1
    assert samples["launcher_stops_total", "coder", "idle"] == 0
    assert samples["launcher_stop_failures_total", "coder"] == 1
    assert samples["launcher_stop_duration_seconds_sum", "coder"] == 3.0
    assert samples["launcher_queue_wait_seconds_bucket", "coder", "0.1"] == 0
    assert samples["launcher_queue_wait_seconds_bucket", "coder", "1.0"] == 1
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
    other = Scraped()
    other.exchange(route="coder", status=200)

    assert ("launcher_requests_total", "coder", "200") not in scraped.samples()


def test_a_look_up_of_the_wrong_kind_is_an_error(scraped: Scraped) -> None:
    with pytest.raises(TypeError):
        scraped.metrics.gauge("launcher_requests_total")


def test_another_configuration(scraped: Scraped) -> None:
    scraped.exchange(route="coder", status=200)
    scraped.metrics.fact(Reject(TicketId(1), CODER, "queue_full", ""))
    scraped.exchange(route="chat", status=200)
    new = RouteConfig("new", (BackendId("new"),), ("/new",))
    backend = BackendConfig(BackendId("new"), ContainerSpec("new", 8000))
    after = replace(
        CONFIG, routes=(*CONFIG.routes[1:], new), backends=(*CONFIG.backends[1:], backend)
    )

    scraped.metrics.reconfigure(after)

    scraped.exchange(route="coder", status=200)
    scraped.metrics.fact(Reject(TicketId(1), CODER, "queue_full", ""))
    scraped.exchange(route="new", status=200)
    samples = scraped.samples()
    assert samples["launcher_requests_total", "chat", "200"] == 1, "it counts on"
    assert samples["launcher_requests_total", "new", "200"] == 1
    assert samples["launcher_starts_total", "new", "ready"] == 0
    of_gauges = {"launcher_queue_depth", "launcher_backend_state", "launcher_backend_in_flight"}
    of_gauges |= {"launcher_backend_reachable"}
    assert {key[0] for key in samples if "coder" in key} <= of_gauges, "the scheduler knows it yet"


def test_a_route_that_is_taken_away_while_it_is_used(scraped: Scraped) -> None:
    record = ExchangeRecord("GET", "/coder/x", "127.0.0.1", route="coder")
    scraped.metrics.exchange_started(record)
    scraped.metrics.reconfigure(replace(CONFIG, routes=()))
    scraped.metrics.exchange_ended(record)
    scraped.metrics.reconfigure(CONFIG)
    assert scraped.samples()["launcher_requests_in_flight", "coder"] == 0
    assert not scraped.metrics._flying


def test_a_thousand_configurations_leave_no_series(scraped: Scraped) -> None:
    before = scraped.samples().keys()
    for n in range(1000):
        route = RouteConfig(f"r{n}", (CODER,), (f"/r{n}",))
        scraped.metrics.reconfigure(replace(CONFIG, routes=(*CONFIG.routes, route)))
    scraped.metrics.reconfigure(CONFIG)
    assert scraped.samples().keys() == before
