"""Reading the engine's events, whatever the pieces and the breaks."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from launcher.drivers.engine import EventStream, parse
from launcher.errors import LauncherError


class Content:
    """Gives these pieces, then what `end` says."""

    def __init__(self, *pieces: bytes, end: Exception | None = None, hang: bool = False) -> None:
        self.pieces = list(pieces)
        self.end = end
        self.hang = hang

    async def readany(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self.hang:
            await asyncio.Event().wait()
        if self.end:
            raise self.end
        return b""


def away(reason: str) -> LauncherError:
    return LauncherError("docker_unavailable", reason)


async def dead() -> None:
    raise away("no answer to a ping")


def stream(content: Content, ping: object = dead) -> EventStream:
    return EventStream(content, ping=ping, away=away, heartbeat=0.01)  # type: ignore[arg-type]


EVENT = {
    "Type": "container",
    "Action": "health_status: healthy",
    "Actor": {
        "ID": "abc",
        "Attributes": {
            "name": "new",
            "oldName": "/old",
            "com.docker.compose.service": "coder",
        },
    },
}


def test_an_event() -> None:
    event = parse(EVENT)
    assert event.id == "abc"
    assert event.action == "health_status"
    assert event.names == {"new", "old"}
    assert event.service == "coder"


def test_a_sparse_event() -> None:
    event = parse({"Actor": {"Attributes": None}})
    assert event.names == frozenset()
    assert event.service is None


async def test_lines_come_in_any_pieces() -> None:
    data = (json.dumps(EVENT) + "\n").encode() * 3
    pieces = [data[i : i + 7] for i in range(0, len(data), 7)]
    events = stream(Content(*pieces))
    for _ in range(3):
        assert (await events.next()).id == "abc"
    with pytest.raises(LauncherError, match="ended"):
        await events.next()


async def test_a_broken_stream_is_an_error() -> None:
    with pytest.raises(LauncherError, match="broke"):
        await stream(Content(end=aiohttp.ClientPayloadError("cut"))).next()


async def test_what_is_no_event_is_an_error() -> None:
    with pytest.raises(LauncherError, match="something else"):
        await stream(Content(b"<html>\n")).next()


async def test_silence_is_broken_by_a_ping() -> None:
    pings = 0
    content = Content(hang=True)

    async def ping() -> None:
        nonlocal pings
        pings += 1
        if pings == 3:
            content.pieces.append((json.dumps(EVENT) + "\n").encode())

    assert (await stream(content, ping).next()).id == "abc"
    assert pings >= 3


async def test_an_engine_that_does_not_answer_a_ping_is_away() -> None:
    with pytest.raises(LauncherError, match="no answer to a ping"):
        await stream(Content(hang=True)).next()
