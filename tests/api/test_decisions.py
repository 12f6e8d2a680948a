"""`GET /api/decisions`."""

from __future__ import annotations

import pytest

from launcher.api.decisions import Decisions, DecisionsQuery
from launcher.core.effects import Action, Decided
from launcher.errors import LauncherError
from launcher.telemetry.decisions import DecisionLog
from tests.api.world import CHAT, CODER, CONFIG, TINY, read, request

WALL = 1_800_000_000.0


@pytest.fixture
def decisions() -> Decisions:
    log = DecisionLog(wall=lambda: WALL)
    log.fact(Decided(Action.STOP, CHAT, "evicted", CODER, cost=41.0, waiting=3, waited=61.0))
    log.fact(Decided(Action.START, TINY, "prewarm"))
    return Decisions(CONFIG, log, lambda: WALL)


async def test_everything_that_is_known(decisions: Decisions) -> None:
    body = read(await decisions.show(request(query=DecisionsQuery())))

    assert body["serverTime"] == "2027-01-15T08:00:00.000Z"
    assert [one["number"] for one in body["decisions"]] == [2, 1]
    assert body["decisions"][1] == {
        "number": 1,
        "times": 1,
        "at": "2027-01-15T08:00:00.000Z",
        "deed": "stop",
        "backend": "chat",
        "why": "evicted",
        "wantedBy": "coder",
        "pays": [],
        "costMs": 41_000,
        "waiting": 3,
        "waitedMs": 61_000,
        "text": "stops chat: coder waits for its place (3 requests, the oldest for 61 s); "
        "expected to cost 41 s",
    }


async def test_fewer_of_them(decisions: Decisions) -> None:
    newest = read(await decisions.show(request(query=DecisionsQuery(limit=1))))["decisions"]
    of_coder = read(
        await decisions.show(request(query=DecisionsQuery(backend="coder", limit=9999)))
    )["decisions"]

    assert [one["number"] for one in newest] == [2]
    assert [one["number"] for one in of_coder] == [1]


async def test_a_backend_that_is_not_there(decisions: Decisions) -> None:
    with pytest.raises(LauncherError, match="Known: coder, chat, tiny") as caught:
        await decisions.show(request(query=DecisionsQuery(backend="codr")))
    assert caught.value.code == "unknown_backend"
