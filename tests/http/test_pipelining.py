"""Many requests at once on a connection: none is lost, and others have their turn."""

from __future__ import annotations

import asyncio
import random

import pytest

from launcher.errors import LauncherError
from launcher.http.listener import Server
from launcher.http.server import READ_AHEAD, READ_AHEAD_IN_ALL, SMALL_PIECE, Limits, Request
from tests.http.raw_client import RawClient, connect
from tests.http.recording import Asked
from tests.http.serving import LOCAL, Seen, say_ok, serving, until

BOTH_LOOPS = True
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MANY = 3700


class Counting:
    """Answers /healthz and refuses everything else, without a task."""

    def __init__(self) -> None:
        self.refused = 0

    def __call__(self, request: Request) -> None:
        if request.line.path == b"/healthz":
            request.start(200, b"OK", ((b"Content-Length", b"2"),))
            request.push(b"ok")
            request.end()
            request.over()
            return
        self.refused += 1
        request.fail(LauncherError("unknown_route", "No."))
        request.over()


async def test_a_connection_gives_way_to_others_between_pipelined_requests() -> None:
    counting = Counting()
    there = Server(counting)
    await there.bind([LOCAL])
    await there.open(None)
    try:
        (address,) = there.addresses
        async with connect(address) as greedy, connect(address) as other:
            await other.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            await other.response()
            # It fetches its answers later than the other one does.
            greedy.writer.write(GET * MANY)
            await until(lambda: counting.refused > 0)
            before = counting.refused
            await other.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await other.response()).status == 200
            assert before < counting.refused < MANY
            for _ in range(MANY):
                assert (await greedy.response()).status == 404
        assert counting.refused == MANY
    finally:
        await there.close(0)


async def test_a_client_that_only_asks_is_not_answered_without_end() -> None:
    """What it doesn't fetch would pile up here."""
    counting = Counting()
    there = Server(counting)
    await there.bind([LOCAL])
    await there.open(None)
    try:
        async with connect(there.addresses[0]) as client:
            client.writer.transport.pause_reading()
            client.writer.write(GET * 50_000)
            await until(lambda: _behind(there))
            stopped_at = counting.refused
            assert stopped_at < 50_000
            for _ in range(50):
                await asyncio.sleep(0)
            assert counting.refused == stopped_at
            client.writer.transport.resume_reading()
            for _ in range(50_000):
                assert (await client.response()).status == 404
    finally:
        await there.close(0)


def _behind(there: Server) -> bool:
    return any(one.writing_paused for one in there._shared.connections)


async def test_bytes_of_a_body_never_become_fields() -> None:
    """Three segments: the second ends within a head, the third begins with its empty line."""
    seen = Seen()
    inner = b"X-Injected: 1\r\nGET /c HTTP/1.1\r\nHost: evil\r\nX-More: 2345\r\n\r\n"
    assert len(inner) == 60
    async with serving(seen) as (_, address), connect(address) as client:
        await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        await until(lambda: len(seen.heads) == 1)
        await client.send(b"hiPOST /b HTTP/1.1\r\nHost: b\r\nContent-Length: 60\r\n")
        assert (await client.response()).status == 200
        await client.send(b"\r\n" + inner)
        assert (await client.response()).status == 200
        await client.send(GET)
        assert (await client.response()).status == 200
    assert [head.path for head in seen.heads] == [b"/a", b"/b", b"/"]
    assert [name for name, _ in seen.heads[1].headers] == [b"Host", b"Content-Length"]
    assert seen.bodies == [b"hi", inner, b""]


@pytest.mark.parametrize("split", range(1, 5))
async def test_line_ends_between_head_and_body_are_the_bodys(split: int) -> None:
    """A body that begins with line ends, split from its head at each of them."""
    seen = Seen()
    head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n"
    whole = head + b"\r\n\r\nab" + b"\r\n" + GET
    at = len(head) - 4 + 2 * split
    async with serving(seen) as (_, address), connect(address) as client:
        await client.send(whole[:at])
        await asyncio.sleep(0)
        await client.send(whole[at:])
        assert (await client.response()).status == 200
        assert (await client.response()).status == 200
    assert seen.bodies == [b"\r\n\r\nab", b""]


def pipeline(count: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Valid requests of all framings, and the path and body of each."""
    parts: list[bytes] = []
    expected: list[tuple[bytes, bytes]] = []
    bodies = [b"\r\n", b"GET /no HTTP/1.1\r\nHost: no\r\n\r\n", b"0\r\n\r\n", b"\r\nX: y\r\n\r\n"]
    for number in range(count):
        path = b"/%d" % number
        body = bodies[number // 4 % 4]
        kind = number % 4
        if kind == 0:
            parts.append(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            body = b""
        elif kind == 1:
            head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
            parts.append(head % (path, len(body)) + body)
        elif kind == 2:
            head = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            chunk = b"%x;a=b\r\n%b\r\n" % (len(body), body)
            parts.append(head % path + chunk * 2 + b"0\r\nX-Trailer: 1\r\n\r\n")
            body *= 2
        else:
            # An empty line too many, as old clients send.
            parts.append(b"\r\nPUT %b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % path)
            body = b""
        expected.append((path, body))
    return b"".join(parts), expected


async def answered(client: RawClient, count: int) -> None:
    for _ in range(count):
        assert (await client.response()).status == 200


@pytest.mark.parametrize("seed", range(3))
async def test_a_valid_pipeline_split_anywhere_is_answered_whole(seed: int) -> None:
    count = 3800
    data, expected = pipeline(count)
    chance = random.Random(seed)
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        answers = asyncio.ensure_future(answered(client, count))
        at = 0
        while at < len(data):
            size = chance.choice([1, 2, 3, 17, 1000, 10_000, 70_000])
            await client.send(data[at : at + size])
            at += size
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        await answers
    assert [head.path for head in seen.heads] == [path for path, _ in expected]
    assert seen.bodies == [body for _, body in expected]
    assert {name for head in seen.heads for name, _ in head.headers} == {
        b"Host",
        b"Content-Length",
        b"Transfer-Encoding",
    }


async def test_a_short_pipeline_may_be_split_at_every_byte() -> None:
    data, expected = pipeline(8)
    for at in range(1, len(data)):
        seen = Seen()
        async with serving(seen) as (_, address), connect(address) as client:
            await client.send(data[:at])
            await asyncio.sleep(0)
            await client.send(data[at:])
            await answered(client, len(expected))
        assert seen.bodies == [body for _, body in expected]


async def test_a_chunked_upload_keeps_its_connection() -> None:
    seen = Seen()
    async with serving(seen) as (front, address), connect(address) as client:
        for number in range(5):
            await client.send(
                b"POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % number
            )
            await until(lambda: len(seen.heads) == number + 1)  # noqa: B023
            await client.send(b"3\r\nabc\r\n")
            await client.send(b"2\r\nde\r\n0\r\n\r\n")
            answer = await client.response()
            assert (answer.status, answer.get(b"connection")) == (200, None)
        assert len(front._shared.connections) == 1
    assert seen.bodies == [b"abcde"] * 5


async def test_a_chunked_upload_that_nobody_reads_ends_its_connection() -> None:
    """How much is still to come isn't known."""
    async with serving(say_ok) as (_, address), connect(address) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = await client.response()
        assert (answer.status, answer.get(b"connection")) == (200, b"close")
        await client.send(b"3\r\nabc\r\n0\r\n\r\n" + GET)
        client.half_close()
        assert await client.closed()


async def wait_for_ever(request: Request) -> None:
    await asyncio.Event().wait()


LONG = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n"


async def test_reading_ahead_has_an_allowance_for_all_together() -> None:
    most = READ_AHEAD_IN_ALL // READ_AHEAD
    clients: list[RawClient] = []

    async with serving(wait_for_ever, keepalive=0.1) as (front, address):
        shared = front._shared
        async with asyncio.TaskGroup() as group:
            over = asyncio.Event()

            async def one() -> None:
                async with connect(address) as client:
                    await client.send(LONG + bytes(600_000))
                    clients.append(client)
                    await over.wait()

            for number in range(most + 2):
                group.create_task(one())
                await until(lambda: len(clients) == number + 1)  # noqa: B023
            await until(lambda: shared.read_ahead == 0)
            assert sum(bool(each._ahead) for each in shared.connections) == most
            # What one gives back goes to another.
            ahead = next(each for each in shared.connections if each._ahead)
            ahead.transport.abort()
            await until(lambda: ahead not in shared.connections)
            await until(lambda: shared.read_ahead == 0)
            assert sum(bool(each._ahead) for each in shared.connections) == most
            over.set()
        await until(lambda: not shared.connections)
        assert shared.read_ahead == READ_AHEAD_IN_ALL


async def test_a_body_that_comes_byte_by_byte_is_no_list_of_bytes() -> None:
    asked = Asked(b"POST", b"1.1", b"Content-Length: 200000")
    body = random.Random(1).randbytes(200_000)
    for at in range(0, len(body), 2):
        asked.connection.data_received(body[at : at + 2])
    reads = []
    while piece := await asked.request.read():
        reads.append(piece)
    assert b"".join(reads) == body
    assert len(reads) <= 200_000 // SMALL_PIECE + 1


async def test_a_chunk_that_began_behind_a_long_head_comes_in_whole() -> None:
    """Reading was paused for the head; of the body nothing but a size has come."""
    seen = Seen()
    answer = asyncio.Event()

    async def first_waits(request: Request) -> None:
        if request.line.method == "GET":
            await answer.wait()
        await seen(request)

    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: %b\r\n\r\n"
    head %= b"x" * (Limits().max_head - len(head) + 2)
    async with serving(first_waits) as (there, address), connect(address) as client:
        await client.send(GET)
        await until(lambda: there.active == 1)
        await client.send(head + b"5\r\n")
        (connection,) = there._shared.connections
        await until(lambda: connection.reading_paused)
        answer.set()
        assert (await client.response()).status == 200
        await until(lambda: there.active == 1)
        await client.send(b"hello\r\n0\r\n\r\n")
        assert (await client.response()).status == 200
    assert seen.bodies == [b"", b"hello"]
