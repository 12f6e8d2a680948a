"""GET /api/events: what a follower gets, and what becomes of one that was away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from launcher.api import live
from launcher.api.contract import ApiRequest, ApiStream
from launcher.api.live import EventsQuery, Live
from launcher.core.events import Hung, StartFailed, Tick
from launcher.core.types import BackendId, Failure
from launcher.errors import LauncherError
from launcher.telemetry.journal import Journal
from tests.api.world import CHAT, CODER, FakeControl


class Follower:
    """Reads a stream, one message at a time."""

    def __init__(self, stream: ApiStream) -> None:
        self.stream = stream
        self._rest = b""

    async def block(self) -> str:
        """The next message, whatever it is. Raises StopAsyncIteration at the end."""
        async with asyncio.timeout(30):
            while b"\n\n" not in self._rest:
                self._rest += await anext(self.stream.pieces)
        block, _, self._rest = self._rest.partition(b"\n\n")
        return block.decode()

    async def message(self) -> dict[str, Any]:
        """The next one that says something."""
        while True:
            found: dict[str, Any] = {}
            for line in (await self.block()).splitlines():
                name, _, value = line.partition(": ")
                found[name] = orjson.loads(value) if name == "data" else value
            if "data" in found:
                return found


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
async def follow(journal: Journal) -> AsyncIterator[Any]:
    followers: list[Follower] = []

    async def make(last: str = "", *, details: bool = False, **query: Any) -> Follower:
        request = ApiRequest(
            "GET",
            "/api/events",
            {},
            False,
            query=EventsQuery(**query),
            details=details,
            last_event_id=last,
        )
        one = Follower(await Live(FakeControl(), journal, lambda: 1e9).follow(request))
        followers.append(one)
        return one

    yield make
    for one in followers:
        await one.stream.pieces.aclose()


def tell(journal: Journal, *names: str) -> None:
    for name in names:
        journal.observe(Hung(BackendId(name), 1), [], 100.0)


async def test_a_follower_is_told_where_it_is_and_then_what_happens(
    journal: Journal, follow: Any
) -> None:
    tell(journal, CHAT)
    one = await follow()
    assert (one.stream.content_type, await one.block()) == ("text/event-stream", "retry: 2000")
    assert await one.block() == f"id: {journal.run}-1"

    tell(journal, CODER)

    message = await one.message()
    assert message["id"] == f"{journal.run}-2"
    assert message["data"]["at"] == "2001-09-09T01:46:40.000Z"
    assert message["data"]["event"] == {"type": "hung", "backend": "coder", "epoch": 1}


async def test_who_was_away_goes_on_where_it_was(journal: Journal, follow: Any) -> None:
    tell(journal, *"abcde")
    one = await follow(f"{journal.run}-3")

    told = [await one.message() for _ in range(2)]

    assert [message["data"]["event"]["backend"] for message in told] == ["d", "e"]
    assert "event" not in told[0]


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ("00000000-3", "restarted"),
        ("{run}-1", "gap"),
        ("{run}-99", "gap"),
        ("{run}-", "gap"),
        ("{run}-²", "gap"),
        ("{run}-99999999999999999999999", "gap"),
        ("nonsense", "restarted"),
    ],
)
async def test_who_cannot_go_on_is_told_to_begin_anew(last: str, reason: str) -> None:
    journal = Journal(most=2)
    tell(journal, *"abcde")
    request = ApiRequest(
        "GET", "", {}, False, query=EventsQuery(), last_event_id=last.format(run=journal.run)
    )
    one = Follower(await Live(FakeControl(), journal, lambda: 1e9).follow(request))

    message = await one.message()
    assert (message["event"], message["data"]) == ("reset", {"reason": reason})
    assert message["id"] == f"{journal.run}-5"
    tell(journal, "f")
    assert (await one.message())["data"]["event"]["backend"] == "f"
    await one.stream.pieces.aclose()


async def test_one_backend_alone(journal: Journal, follow: Any) -> None:
    one = await follow(backend="chat")
    tell(journal, CODER, CHAT, CODER)
    journal.close()

    assert (await one.message())["data"]["event"]["backend"] == "chat"
    with pytest.raises(StopAsyncIteration):
        await one.message()


async def test_a_backend_that_is_not_there_is_told_at_once(follow: Any) -> None:
    with pytest.raises(LauncherError, match="Known: coder, chat, tiny") as caught:
        await follow(backend="codr")
    assert caught.value.code == "unknown_backend"


async def test_details_are_for_those_who_may_see_them(journal: Journal, follow: Any) -> None:
    some, all_of_it = await follow(), await follow(details=True)
    await some.block()
    await all_of_it.block()
    died = Failure("backend_start_failed", "It exited.", "its last lines")
    journal.observe(StartFailed(CHAT, 1, died), [], 100.0)

    assert "detail" not in (await some.message())["data"]["event"]["failure"]
    assert (await all_of_it.message())["data"]["event"]["failure"]["detail"] == "its last lines"


async def test_many_at_once_come_all_and_in_order(journal: Journal, follow: Any) -> None:
    one = await follow()
    await one.block()
    count = 5 * live.AT_ONCE + 7
    for number in range(count):
        journal.observe(Tick(), [], float(number))

    told = [await one.message() for _ in range(count)]

    ids = [f"{journal.run}-{number}" for number in range(1, count + 1)]
    assert [message["id"] for message in told] == ids


async def test_silence_is_broken_by_comments(
    journal: Journal, follow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT", 0.01)
    one = await follow()
    await one.block()
    await one.block()
    assert await one.block() == ":"


async def test_who_reads_too_slowly_to_keep_up_is_dropped() -> None:
    journal = Journal(most=5)
    request = ApiRequest("GET", "/api/events", {}, False, query=EventsQuery())
    one = Follower(await Live(FakeControl(), journal, lambda: 1e9).follow(request))
    await one.block()
    tell(journal, *"abcdefg")

    with pytest.raises(StopAsyncIteration):
        await one.message()


async def test_the_end_of_the_launcher_ends_it(journal: Journal, follow: Any) -> None:
    one = await follow()
    await one.block()
    journal.close()

    with pytest.raises(StopAsyncIteration):
        await one.message()
