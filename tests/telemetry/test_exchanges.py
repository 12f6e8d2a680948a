"""Ended exchanges are counted and logged in batches, and whoever asks doesn't see that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from launcher.config import RouteConfig
from launcher.core.types import BackendId
from launcher.telemetry import exchanges
from launcher.telemetry.exchanges import BATCH, Exchanges
from launcher.telemetry.record import ExchangeRecord
from tests.api.world import CONFIG
from tests.records import a_record

WALL = 1_800_000_000.0


Logged = asyncio.Queue[Sequence[ExchangeRecord]]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    """The batches that reached the log."""
    batches: Logged = asyncio.Queue()
    monkeypatch.setattr(exchanges, "log_exchanges", batches.put_nowait)
    return batches


async def test_what_has_ended_is_logged_together_a_moment_later(logged: Logged) -> None:
    ended = Exchanges(CONFIG)
    first = [a_record(path=f"/{number}") for number in range(3)]
    for record in first:
        ended.add(record)
    assert logged.empty()
    async with asyncio.timeout(30):
        assert await logged.get() == first
        ended.add(later := a_record(path="/later"))
        assert await logged.get() == [later]


async def test_a_long_list_does_not_wait(logged: Logged) -> None:
    ended = Exchanges(CONFIG)
    for _ in range(2 * BATCH + 1):
        ended.add(a_record())
    assert [len(logged.get_nowait()) for _ in range(logged.qsize())] == [BATCH, BATCH]
    ended.flush()
    assert len(logged.get_nowait()) == 1


async def test_who_asks_for_numbers_gets_those_of_all_that_has_ended() -> None:
    ended = Exchanges(CONFIG, lambda: {"chat": 2, "-": 1, "made-up": 1})
    ended.add(a_record(route="coder", status=200, duration=0.2, first_byte=0.02, response_bytes=7))
    ended.add(a_record(route="coder", status=200, duration=90.0, cold=True, retried=True))
    ended.add(a_record(route="coder", status=502, outcome="aborted", request_bytes=3))
    ended.add(a_record(route="-"))
    ended.add(a_record(route="", status=404))
    ended.add(a_record(route="made-up"))

    routes = ended.by_route()

    assert routes.keys() == {"-", "?", "coder", "chat", "tiny"}
    coder = routes["coder"]
    assert coder.by_status == {200: 2, 502: 1}
    assert (sum(coder.duration.counts), coder.duration.sum) == (3, pytest.approx(90.2))
    assert (sum(coder.first_byte.counts), coder.first_byte.sum) == (1, 0.02)
    assert (coder.request_bytes, coder.response_bytes) == (3, 7)
    assert (coder.aborted, coder.retries, coder.cold) == (1, 1, 1)
    assert (routes["-"].by_status, routes["?"].by_status) == ({200: 1}, {404: 1})
    assert {name: one.in_flight for name, one in routes.items() if one.in_flight} == {
        "chat": 2,
        "-": 1,
    }


async def test_the_last_hit_is_when_the_latest_request_came_in() -> None:
    in_flight: dict[str, int] = {"chat": 1, "tiny": 0}
    ended = Exchanges(CONFIG, lambda: in_flight, lambda: WALL)
    ended.add(a_record(route="coder", at=WALL - 5.0, duration=1.0))
    ended.add(a_record(route="coder", at=WALL - 1.0, duration=60.0))
    ended.add(a_record(route="chat", at=WALL - 7.0, duration=0.5))

    assert ended.last_hits() == {"coder": WALL - 6.0, "chat": WALL}
    in_flight.clear()
    assert ended.last_hits() == {"coder": WALL - 6.0, "chat": WALL - 7.5}


async def test_a_reload_keeps_the_numbers_of_the_routes_that_stay() -> None:
    ended = Exchanges(CONFIG)
    ended.add(a_record(route="coder"))
    ended.add(a_record(route="chat"))
    new = RouteConfig("new", (BackendId("new"),), ("/new",))

    ended.reconfigure(replace(CONFIG, routes=(*CONFIG.routes[1:], new)))

    ended.add(a_record(route="coder"))
    ended.add(a_record(route="chat"))
    routes = ended.by_route()
    assert routes.keys() == {"-", "?", "chat", "tiny", "new"}
    assert (routes["chat"].by_status, routes["new"].by_status) == ({200: 2}, {})
    ended.reconfigure(CONFIG)
    assert ended.by_route()["coder"].by_status == {}, "what comes back begins anew"
