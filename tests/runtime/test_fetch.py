"""One GET against servers that answer well, badly, or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.http.endpoint import Endpoint
from launcher.runtime.fetch import FetchFailed, Reply, fetch
from tests.runtime.awkward import awkward, body, nobody
from tests.runtime.waiting import eventually

GENEROUS = 30.0
SHORT = 0.2


async def failure(endpoint: Endpoint, timeout: float = GENEROUS) -> FetchFailed:
    with pytest.raises(FetchFailed) as raised:
        await fetch(endpoint, "/health", timeout=timeout)
    return raised.value


async def test_the_request_is_plain_and_closes() -> None:
    async with awkward() as server:
        endpoint = replace(server.endpoint, base_path="/base")
        reply = await fetch(endpoint, "/h?x=1", headers=(("X-A", "b"),), timeout=GENEROUS)
        assert reply == Reply(200)
        assert server.headers[0] == b"GET /base/h?x=1 HTTP/1.1"
        assert f"Host: {endpoint.authority}".encode() in server.headers
        assert b"Connection: close" in server.headers
        assert b"X-A: b" in server.headers


async def test_a_socket_file(tmp_path: Path) -> None:
    async with awkward(unix=str(tmp_path / "s")) as server:
        assert (await fetch(server.endpoint, "/", timeout=GENEROUS)).status == 200
    assert (await failure(Endpoint(unix_path=str(tmp_path / "none")))).stage == "refused"


@pytest.mark.parametrize(
    "says",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=["length", "chunked", "until close", "after an interim answer"],
)
async def test_bodies(says: bytes) -> None:
    async with awkward(says) as server:
        whole = await fetch(server.endpoint, "/", timeout=GENEROUS, limit=100)
        assert whole == Reply(200, b"hello")
        cut = await fetch(server.endpoint, "/", timeout=GENEROUS, limit=3)
        assert cut == Reply(200, b"hel", truncated=True)


async def test_no_redirect_is_followed() -> None:
    async with awkward(
        b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
    ) as server:
        assert (await fetch(server.endpoint, "/", timeout=GENEROUS)).status == 302
        assert len(server.asked) == 1


async def test_the_status_is_enough_where_no_body_is_wanted() -> None:
    async with awkward(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") as server:
        server.closes = False  # and the body never comes
        assert (await fetch(server.endpoint, "/", timeout=GENEROUS)).status == 200


async def test_refused() -> None:
    error = await failure(await nobody())
    assert error.stage == "refused"
    assert "refused" in error.seen


async def test_a_name_that_is_unknown() -> None:
    error = await failure(Endpoint("no-such-name.invalid", 80))
    assert error.stage == "refused"
    assert "no-such-name.invalid" in error.seen


async def test_taken_and_closed() -> None:
    async with awkward(b"") as server:
        assert (await failure(server.endpoint)).stage == "closed"
        server.says = b"HTTP/1.1 20"
        assert (await failure(server.endpoint)).stage == "closed"


async def test_taken_and_silent() -> None:
    async with awkward(b"") as server:
        server.closes = False
        error = await failure(server.endpoint, SHORT)
        assert error.stage == "silent"
        assert "0.2 s" in error.seen


async def test_not_http() -> None:
    async with awkward(b"220 smtp.example ready\r\n") as server:
        assert (await failure(server.endpoint)).stage == "malformed"
        server.reads = False
        assert (await failure(replace(server.endpoint, scheme="https"))).stage == "malformed"


async def test_a_cancelled_one_leaves_no_connection() -> None:
    async with awkward(b"") as server:
        server.closes = False
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT):
                await fetch(server.endpoint, "/", timeout=GENEROUS)
        await eventually(lambda: not server.open)
        assert server.open == 0


async def test_header_text_that_is_not_ascii_is_sent_as_bytes() -> None:
    async with awkward(body(b"ok")) as server:
        await fetch(server.endpoint, "/", headers=(("X-A", "ü"),), timeout=GENEROUS)
        assert "X-A: ü".encode() in server.headers
