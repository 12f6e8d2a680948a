"""Requests carried to a backend and back, over real sockets: bodies, ends, aborts, retries.

Most are taken both ways: at once, under a permit, and by a coroutine that waits for its place,
as streamed uploads always are.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.http.errors import UpstreamDisconnected
from launcher.http.server import Limits
from launcher.http.upstream import UpstreamConnection
from launcher.proxy.body import StreamedBody
from launcher.proxy.exchange import INLINE, SILENCE, Exchange
from launcher.proxy.fields import PSEUDONYM
from launcher.runtime.admission import Grant
from launcher.runtime.permits import Permit
from tests.http.raw_client import PATIENCE, Cut, RawClient, connect
from tests.http.serving import until
from tests.proxy.awkward import Backend, Peer, Script, backend, ok, says, serves
from tests.proxy.house import CODER, House, a_config, a_route, get, house, post

BOTH_LOOPS = True

CHAT = "/coder/v1/chat/completions"


class FakePermit:
    """Room for any number."""

    backend = CODER
    room = 1000

    def __init__(self, endpoint: Endpoint) -> None:
        self.grant = Grant(CODER, 1, endpoint, False, 0.0, 0.0)
        self.entered: list[object] = []
        self.left: list[tuple[object, bool]] = []

    def enter(self, holder: object, now: float) -> None:
        self.entered.append(holder)

    def leave(self, holder: object, now: float, ok: bool) -> None:
        assert holder in self.entered
        self.left.append((holder, ok))


@pytest.fixture(params=["permit", "ticket"])
def way(request: pytest.FixtureRequest) -> str:
    """How a place is got."""
    return str(request.param)


@asynccontextmanager
async def carrying(
    way: str,
    script: Script,
    *,
    scheme: str = "http",
    route: dict[str, Any] | None = None,
    limits: Limits | None = None,
    **there: Any,
) -> AsyncIterator[tuple[House, Backend]]:
    """A launcher before a scripted backend. Nothing is left of an exchange when it ends."""
    async with backend(script, **there) as behind:
        endpoint = behind.endpoint
        if scheme != "http":
            endpoint = Endpoint(endpoint.host, endpoint.port, "https")
        async with house(a_config(a_route(**(route or {}))), endpoint) as here:
            permit = FakePermit(endpoint)
            if way == "permit":
                here.gate.permits[CODER] = cast(Permit, permit)
            if limits is not None:
                here.front._shared.limits = limits
            yield here, behind
            here.client.writer.transport.abort()
            await until(lambda: here.front.active == 0)
        assert len(permit.entered) == len(permit.left)
        assert permit.entered or here.gate.admissions
        assert here.pool.open_connections == 0


def keeps(heads: list[bytes], answer: bytes | None = None) -> Script:
    async def script(peer: Peer) -> None:
        while True:
            heads.append(await peer.head())
            await peer.send(answer or ok())

    return script


def upload(path: str, *lines: str, length: int | None = None) -> bytes:
    """The head of an upload that is streamed."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    kind = "Content-Type: application/octet-stream"
    head = [f"POST {path} HTTP/1.1", "Host: launcher.test", framing, kind, *lines, "", ""]
    return "\r\n".join(head).encode()


def tick(here: House, later: float) -> None:
    """As the sweep does it, but so many seconds later."""
    now = asyncio.get_running_loop().time() + later
    for request in list(here.front.requests):
        if request.carrier is not None:
            request.carrier.tick(now)


async def test_the_request_arrives_as_it_was_sent(way: str) -> None:
    heads: list[bytes] = []
    async with carrying(way, keeps(heads), base_path="/base") as (here, _):
        await here.client.send(
            b"DELETE /coder/%41//a/../%zz? HTTP/1.1\r\nHost: comfy.lan:8188\r\nX-Twice: 1\r\n"
            b"Expect: 100-continue\r\nx-twice:  \xe9 \r\n\r\n"
        )
        assert (await here.client.response()).body == b"ok"
        record = await here.record()
        assert bool(here.gate.admissions) is (way == "ticket")
    assert heads == [
        b"DELETE /base/%%41//a/../%%zz? HTTP/1.1\r\n"
        b"Host: comfy.lan:8188\r\nX-Twice: 1\r\nx-twice: \xe9\r\n"
        b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: comfy.lan:8188\r\nX-Forwarded-Prefix: /coder\r\n"
        b"Via: 1.1 %b\r\n\r\n" % PSEUDONYM
    ]
    assert (record.status, record.response_bytes, record.outcome) == (200, 2, "ok")


async def test_the_response_arrives_as_it_was_sent(way: str) -> None:
    answer = (
        b"HTTP/1.1 418 I'm a teapot\r\nSet-Cookie: a\r\nX-Odd: \xff\r\nset-cookie: b\r\n"
        b"Connection: X-Hop\r\nX-Hop: 1\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nzip"
    )
    async with carrying(way, serves(answer)) as (here, _):
        got = await here.ask(get("/coder/"))
        record = await here.record()
    assert (got.status, got.reason, got.body) == (418, b"I'm a teapot", b"zip")
    *kept, timing, date = got.headers
    assert kept == [
        (b"Set-Cookie", b"a"),
        (b"X-Odd", b"\xff"),
        (b"set-cookie", b"b"),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Length", b"3"),
    ]
    assert (timing[0], date[0]) == (b"Server-Timing", b"Date")
    assert 0 <= record.first_byte <= record.duration


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", [b"5"]),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", []),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", [b"5"]),
    ],
)
async def test_no_body_and_the_clients_connection_is_kept(
    way: str, method: str, answer: bytes, length: list[bytes]
) -> None:
    async with carrying(way, serves(answer)) as (here, there):
        for number in range(3):
            got = await here.ask(get("/coder/").replace(b"GET", method.encode()), method)
            assert got.all(b"content-length") == length
            await until(lambda: len(here.records) == number + 1)  # noqa: B023
        assert {record.response_bytes for record in here.records} == {0}
        # What was announced may still come: the next answer mustn't be mixed up with it.
        assert there.connections == (3 if length else 1)


@pytest.mark.parametrize("framing", ["close", "chunked"])
async def test_pieces_are_passed_on_before_the_next_one_is_sent(way: str, framing: str) -> None:
    arrived = 0

    async def script(peer: Peer) -> None:
        await peer.head()
        coding = b"Transfer-Encoding: chunked\r\n" if framing == "chunked" else b""
        await peer.send(b"HTTP/1.1 200 OK\r\n%b\r\n" % coding)
        for number in range(5):
            piece = b"data: %d\n\n" % number
            await peer.send(b"9\r\n%b\r\n" % piece if framing == "chunked" else piece)
            await until(lambda: arrived == number + 1)  # noqa: B023
        if framing == "chunked":
            await peer.send(b"0\r\n\r\n")

    async with carrying(way, script) as (here, _):
        await here.client.send(get("/coder/"))
        assert (await here.client.head()).get(b"transfer-encoding") == b"chunked"
        for number in range(5):
            assert await here.client.chunk() == b"data: %d\n\n" % number
            arrived += 1
        assert await here.client.chunk() == b""
        assert (await here.record()).response_bytes == 45


async def test_interim_responses_are_passed_on(way: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\n")
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok())
        await peer.gone()

    async with carrying(way, script) as (here, _):
        await here.client.send(get("/coder/"))
        heads = [await here.client.head() for _ in range(3)]
        assert [(one.status, one.reason, one.headers) for one in heads] == [
            (103, b"Early Hints", ((b"Link", b"</a>"),)),
            (102, b"Processing", ()),
            (100, b"Continue", ()),
        ]
        got = await here.client.response()
        assert (got.status, got.body) == (200, b"ok")


async def test_an_answer_to_an_old_client_is_framed_for_it(way: str) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with carrying(way, serves(chunked + b"0\r\n\r\n")) as (here, _):
        await here.client.send(b"GET /coder/ HTTP/1.0\r\n\r\n")
        got = await here.client.head()
        assert (got.get(b"transfer-encoding"), got.get(b"connection")) == (None, b"close")
        assert await here.client.rest() == b"abc"


# -- the request's body --------------------------------------------------------------------


async def test_a_kept_body_goes_out_with_the_head(way: str) -> None:
    arrived: list[bytes] = []

    async def script(peer: Peer) -> None:
        arrived.append(await peer.reader.read(65536))
        await peer.send(ok())
        await peer.gone()

    async with carrying(way, script) as (here, _):
        await here.ask(post(CHAT, b'{"a": 1}'))
    head, _, body = arrived[0].partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: 8\r\n" in head + b"\r\n"
    assert body == b'{"a": 1}'


@pytest.mark.parametrize("size", [200_000, INLINE, INLINE + 1, 3 * 1024 * 1024])
@pytest.mark.parametrize("pieces", [1, 7])
async def test_kept_bodies_of_any_size_arrive_whole(way: str, size: int, pieces: int) -> None:
    start = b'{"model":"coder-fast","x":"'
    data = start + b"y" * (size - len(start) - 2) + b'"}'
    arrived: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            arrived.append((await peer.request(size))[-size:])
            await peer.send(ok())

    async with carrying(way, script) as (here, there):
        for number in range(2):
            request = post("/v1/chat/completions", data)
            step = len(request) // pieces + 1
            for at in range(0, len(request), step):
                await here.client.send(request[at : at + step])
                if pieces > 1:
                    read = here.front.requests
                    await until(lambda: bool(read) or len(here.records) > number)  # noqa: B023
            assert (await here.client.response()).status == 200
            await until(lambda: len(here.records) == number + 1)  # noqa: B023
        assert there.connections == 1
    assert arrived == [data, data]


async def test_a_body_that_is_waited_for_may_come_in_any_pieces(way: str) -> None:
    """Most of it comes before it is known to be waited for: reading goes on to its end."""
    heads: list[bytes] = []
    data = b'{"model":"coder-fast","x":"' + b"y" * 240_000 + b'"}'

    async def script(peer: Peer) -> None:
        heads.append(await peer.request(len(data)))
        await peer.send(ok())
        await peer.gone()

    async with carrying(way, script) as (here, _):
        request = post("/v1/chat/completions", data)
        sent = 0
        for upto in (150_000, 200_000, 239_000, len(request)):
            await here.client.send(request[sent:upto])
            sent = upto
            if upto < len(request):
                body = upto - (len(request) - len(data))
                await until(lambda: any(one.buffered == body for one in here.front.requests))  # noqa: B023
        assert (await here.client.response()).status == 200
    assert heads[0].endswith(data)


async def test_a_stream_of_known_length_keeps_it() -> None:
    arrived: list[bytes] = []

    async def script(peer: Peer) -> None:
        arrived.append(await peer.request(10))
        await peer.send(ok())
        await peer.gone()

    async with carrying("ticket", script) as (here, _):
        await here.client.send(upload("/coder/x", length=10) + b"12345")
        await until(lambda: here.front.active == 1)
        await here.client.send(b"67890")
        assert (await here.client.response()).status == 200
    assert b"Content-Length: 10\r\n" in arrived[0]
    assert b"Transfer-Encoding" not in arrived[0]
    assert arrived[0].endswith(b"\r\n\r\n1234567890")


async def test_a_stream_of_unknown_length_is_chunked_piece_by_piece() -> None:
    arrived: list[bytes] = []

    async def script(peer: Peer) -> None:
        head = await peer.head()
        assert b"Transfer-Encoding: chunked\r\n" in head
        assert b"Content-Length" not in head
        while size := int(await peer.reader.readline(), 16):
            arrived.append((await peer.reader.readexactly(size + 2))[:-2])
        assert await peer.reader.readline() == b"\r\n"
        await peer.send(ok())
        await peer.gone()

    async with carrying("ticket", script) as (here, _):
        for number in range(2):
            await here.client.send(upload("/coder/x"))
            for piece in (b"a" * 17, b"bc"):
                before = len(arrived)
                await here.client.send(b"%x;x=y\r\n%b\r\n" % (len(piece), piece))
                await until(lambda: len(arrived) == before + 1)  # noqa: B023
            await here.client.send(b"0\r\nX-Trailer: 1\r\n\r\n")
            got = await here.client.response()
            assert (got.status, got.get(b"connection")) == (200, None)
            await until(lambda: len(here.records) == number + 1)  # noqa: B023
        assert {record.request_bytes for record in here.records} == {19}
    assert arrived == [b"a" * 17, b"bc"] * 2


async def test_the_head_leaves_before_the_first_piece_comes() -> None:
    headed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        headed.set()
        assert await peer.reader.readline() == b"3\r\n"
        await peer.reader.readuntil(b"0\r\n\r\n")
        await peer.send(ok())
        await peer.gone()

    async with carrying("ticket", script) as (here, _):
        await here.client.send(upload("/coder/x"))
        await asyncio.wait_for(headed.wait(), PATIENCE)
        await here.client.send(b"3\r\nnow\r\n0\r\n\r\n")
        assert (await here.client.response()).status == 200


async def test_both_bodies_may_travel_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await peer.reader.readline(), 16):
            piece = await peer.reader.readexactly(size + 2)
            await peer.send(b"%x\r\n%b" % (size, piece))
        await peer.reader.readline()
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with carrying("ticket", script) as (here, _):
        await here.client.send(upload("/coder/x"))
        assert (await here.client.head()).status == 200
        for number in range(4):
            await here.client.send(b"6\r\necho %d\r\n" % number)
            assert await here.client.chunk() == b"echo %d" % number
        await here.client.send(b"0\r\n\r\n")
        assert await here.client.chunk() == b""
        assert (await here.record()).response_bytes == 24
        assert here.pool.idle_connections == 1


async def test_a_backend_that_reads_slowly_slows_the_client_down() -> None:
    go_on = asyncio.Event()
    total = 64 * 1024 * 1024

    async def script(peer: Peer) -> None:
        await peer.head()
        await go_on.wait()
        await peer.reader.readexactly(total)
        await peer.send(ok())
        await peer.gone()

    async with carrying("ticket", script) as (here, _):
        await here.client.send(upload("/coder/x", length=total))
        here.client.writer.write(bytes(total))
        await until(lambda: any(one.connection.reading_paused for one in here.front.requests))
        await asyncio.sleep(0.2)  # in which nothing but backpressure holds the client
        assert here.client.writer.transport.get_write_buffer_size() > total // 2
        (request,) = here.front.requests
        assert request.buffered < 4 * 1024 * 1024
        go_on.set()
        assert (await here.client.response()).status == 200
        assert (await here.record()).request_bytes == total


async def test_an_early_answer_ends_the_upload() -> None:
    async def script(peer: Peer) -> None:
        await peer.request(4)
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        await peer.gone()

    async with carrying("ticket", script) as (here, _):
        await here.client.send(upload("/coder/x", length=1_000_000) + b"some")
        got = await here.client.response()
        assert (got.status, got.body, got.get(b"connection")) == (413, b"no!", b"close")
        record = await here.record()
        assert (record.status, record.response_bytes, record.outcome) == (413, 3, "ok")
        await until(lambda: here.pool.open_connections == 0)


async def pour(client: RawClient) -> None:
    """Send without end."""
    try:
        while True:
            await client.send(bytes(65536))
    except ConnectionError:
        return


async def test_an_early_answer_behind_which_the_backend_slams_the_door() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        # Closing with unread bytes makes the kernel send a reset.

    async with carrying("ticket", script) as (here, _):
        for number in range(10):
            async with connect(here.front.addresses[0]) as client:
                await client.send(upload("/coder/x", length=1 << 40))
                pouring = asyncio.ensure_future(pour(client))
                got = await client.response()
                assert (got.status, got.body) == (413, b"no!")
                pouring.cancel()
            await until(lambda: len(here.records) == number + 1)  # noqa: B023
        assert {record.outcome for record in here.records} == {"ok"}


async def silent(peer: Peer) -> None:
    """Takes a head, and never answers."""
    await peer.head()
    await peer.gone()


async def test_a_body_that_stalls_is_told() -> None:
    limits = Limits(body_timeout=0.2)
    async with carrying("ticket", silent, limits=limits) as (here, _):
        await here.client.send(upload("/coder/x") + b"1\r\nx\r\n")
        got = await here.client.response()
        assert (got.status, got.get(b"connection")) == (408, b"close")
        assert b"request_timeout" in got.body
        await until(lambda: here.pool.open_connections == 0)


async def test_a_body_that_is_malformed_on_its_way_is_told() -> None:
    async with carrying("ticket", silent) as (here, there):
        await here.client.send(upload("/coder/x") + b"1\r\nx\r\n")
        await until(lambda: there.running == 1)
        await here.client.send(b"zz\r\n")
        got = await here.client.response()
        assert (got.status, got.get(b"connection")) == (400, b"close")
        assert b"bad_request" in got.body
        await until(lambda: here.pool.open_connections == 0)


async def test_a_bug_in_a_body_ends_the_exchange(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def read(self: StreamedBody) -> bytes:
        raise KeyError("oops")

    monkeypatch.setattr(StreamedBody, "read", read)
    async with carrying("ticket", silent) as (here, _):
        await here.client.send(upload("/coder/x"))
        got = await here.client.response()
        assert (got.status, b"internal_error" in got.body, b"oops" in got.body) == (
            500,
            True,
            False,
        )
        await until(lambda: here.pool.open_connections == 0)
    assert "oops" in caplog.text


@pytest.mark.parametrize("pieces", [(b"123",), (b"123456",)])
async def test_a_stream_must_be_as_long_as_it_said(
    monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, ...]
) -> None:
    left = [*pieces, b""]

    async def read(self: StreamedBody) -> bytes:
        return left.pop(0)

    monkeypatch.setattr(StreamedBody, "read", read)
    async with carrying("ticket", silent) as (here, _):
        await here.client.send(upload("/coder/x", length=5) + b"12")
        got = await here.client.response()
        assert (got.status, b"Content-Length" in got.body) == (400, True)
        await until(lambda: here.pool.open_connections == 0)


async def test_a_body_that_stalls_behind_an_answer_cuts_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await peer.gone()

    limits = Limits(body_timeout=0.2)
    async with carrying("ticket", script, limits=limits) as (here, _):
        await here.client.send(upload("/coder/x"))
        assert (await here.client.head()).status == 200
        assert await here.client.chunk() == b"ab"
        with pytest.raises(Cut):
            await here.client.chunk()
        record = await here.record()
        assert (record.status, record.response_bytes) == (200, 2)
        assert record.outcome in ("aborted", "cut")
        await until(lambda: here.pool.open_connections == 0)


# -- who leaves, who is slow ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "half-close"])
@pytest.mark.parametrize("when", ["connecting", "waiting", "uploading", "streaming"])
async def test_a_client_that_leaves_ends_the_backends_connection_at_once(
    way: str, when: str, how: str
) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        if when != "connecting":
            await peer.head()
        if when == "streaming":
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\ndata")
        asked.set()
        await peer.gone()
        gone.set()

    # A handshake that nobody answers is a connection that is never made.
    scheme = "https" if when == "connecting" else "http"
    async with carrying(way, script, scheme=scheme) as (here, _):
        request = upload("/coder/x") + b"4\r\nsome\r\n" if when == "uploading" else get("/coder/x")
        await here.client.send(request)
        await asyncio.wait_for(asked.wait(), PATIENCE)
        if when == "streaming":
            await here.client.head()
            await here.client.chunk()
        if how == "reset":
            here.client.reset()
        else:
            here.client.half_close()
        await asyncio.wait_for(gone.wait(), PATIENCE)
        record = await here.record()
        assert (record.status, record.outcome) == (499, "client_gone")
        assert record.response_bytes == (4 if when == "streaming" else 0)
        assert here.pool.open_connections == 0


async def test_a_client_that_leaves_while_it_is_written_to(way: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(bytes(65536))

    async with carrying(way, script) as (here, there):
        await here.client.send(get("/coder/"))
        await here.client.head()
        await here.client.chunk()
        here.client.reset()
        assert (await here.record()).outcome == "client_gone"
        await until(lambda: there.running == 0)
        assert here.pool.open_connections == 0


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_slow_client_slows_the_backend_and_memory_stays_flat(
    way: str, framing: str
) -> None:
    sent = 0
    total = 64 * 1024 * 1024

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        if framing == "length":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = bytes(65536)
        while sent < total:
            await peer.send(piece if framing == "length" else b"10000\r\n%b\r\n" % piece)
            sent += 65536
        if framing == "chunked":
            await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with carrying(way, script) as (here, _):
        here.client.writer.transport.pause_reading()
        await here.client.send(get("/coder/"))
        await until(lambda: any(one.connection.writing_paused for one in here.front.requests))
        await asyncio.sleep(0.2)  # in which nothing but backpressure holds the backend
        assert sent < total // 2
        (request,) = here.front.requests
        assert request.connection.transport.get_write_buffer_size() < 2 * 1024 * 1024
        here.client.writer.transport.resume_reading()
        got = await here.client.response()
        assert len(got.body) == total
        assert (await here.record()).response_bytes == total


async def test_a_slow_client_that_was_given_comments_slows_the_backend_too() -> None:
    sent = 0
    total = 64 * 1024 * 1024

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while sent < total:
            await peer.send(b"data: %b\n\n" % bytes(65528))
            sent += 65536

    route = a_route(heartbeat=0.05)
    async with (
        backend(script) as there,
        house(a_config(route), there.endpoint, ready=False) as here,
    ):
        await here.client.send(post(CHAT, b'{"stream": true}'))
        await here.client.head()
        assert (await here.client.chunk()).startswith(b": ")
        here.client.writer.transport.pause_reading()
        here.gate.open()
        await until(lambda: any(one.connection.writing_paused for one in here.front.requests))
        await asyncio.sleep(0.2)  # in which nothing but backpressure holds the backend
        assert sent < total // 2
        here.client.writer.transport.resume_reading()
        got = 0
        while data := await here.client.chunk():
            got += 0 if data.startswith(b": ") else len(data)
        assert got == total


async def test_a_slow_client_doesnt_hold_a_backend_that_is_done(way: str) -> None:
    async with carrying(way, serves(ok(bytes(60_000)))) as (here, there):
        here.client.writer.transport.pause_reading()
        await here.client.send(get("/coder/") * 400)
        shared = here.front._shared
        await until(lambda: any(one.writing_paused for one in shared.connections))
        await until(lambda: here.pool.idle_connections == 1)
        # Nor a place.
        await until(lambda: here.gate.held == [])
        async with connect(here.front.addresses[0]) as other:
            await other.send(get("/coder/"))
            assert len((await other.response()).body) == 60_000
        assert there.connections == 1
        # It leaves: the connection isn't its own any more, and so not its to close.
        here.client.reset()
        await until(lambda: here.front.active == 0)
        assert here.pool.idle_connections == 1


async def test_a_silent_backend_is_told_of_again_and_again(way: str) -> None:
    answer = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await answer.wait()
        await peer.send(ok())
        await peer.gone()

    async with carrying(way, script) as (here, there):
        await here.client.send(get("/coder/"))
        await until(lambda: there.running == 1 and here.pool.open_connections == 1)
        await until(lambda: bool(_sent(here)))
        tick(here, SILENCE - 5)
        assert here.gate.watched == []
        for times in (1, 2, 3):
            tick(here, times * SILENCE + times)
            assert len(here.gate.watched) == times
        tick(here, 3 * SILENCE + 4)
        assert len(here.gate.watched) == 3
        answer.set()
        assert (await here.client.response()).status == 200


def _sent(here: House) -> list[object]:
    """The exchanges that wait for a head."""
    return [
        one.carrier for one in here.front.requests if getattr(one.carrier, "awaiting_head", False)
    ]


async def test_a_client_that_uploads_slowly_is_not_the_backends_silence() -> None:
    async with carrying("ticket", silent, route={"response_timeout": 5.0}) as (here, _):
        await here.client.send(upload("/coder/x", length=4) + b"a")
        await until(lambda: bool(_sent(here)))
        await until(lambda: any(one.body_read == 1 for one in here.front.requests))
        for times in range(1, 4):
            tick(here, times * 100.0)
        assert here.gate.watched == []
        assert here.front.active == 1
        assert here.records == []


async def test_a_response_may_have_a_deadline(way: str) -> None:
    async with carrying(way, silent, route={"response_timeout": 5.0}) as (here, there):
        await here.client.send(get("/coder/"))
        await until(lambda: bool(_sent(here)))
        tick(here, 4.0)
        assert here.front.active == 1
        tick(here, 5.5)
        got = await here.client.response()
        assert (got.status, b"no response within 5 s" in got.body) == (502, True)
        # Once more would be twice the time.
        assert there.connections == 1
        record = await here.record()
        assert (record.code, record.retried) == ("backend_unreachable", False)


async def test_the_deadline_is_for_the_first_byte_only(way: str) -> None:
    last = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        await last.wait()
        await peer.send(b" and last")

    async with carrying(way, script, route={"response_timeout": 5.0}) as (here, _):
        await here.client.send(get("/coder/"))
        await here.client.head()
        assert await here.client.chunk() == b"first"
        tick(here, 100.0)
        assert here.gate.watched == []
        last.set()
        assert await here.client.chunk() == b" and last"
        assert await here.client.chunk() == b""


# -- retries -------------------------------------------------------------------------------


def forgets(answers_first: int = 1, last_words: bytes = b"") -> Script:
    """The first connection carries so many exchanges, and closes behind the next request's
    head; others go on for ever."""

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            for _ in range(answers_first):
                await peer.head()
                await peer.send(ok(b"old"))
            await peer.head()
            if last_words:
                await peer.send(last_words)
            return
        while True:
            head = await peer.head()
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await peer.reader.readexactly(int(line.split(b":")[1]))
            await peer.send(ok(b"new"))

    return script


@pytest.mark.parametrize("request_", [get("/coder/"), post(CHAT, b"{}")], ids=["get", "chat"])
async def test_a_kept_connection_that_turns_out_dead_is_replaced(way: str, request_: bytes) -> None:
    async with carrying(way, forgets()) as (here, there):
        assert (await here.ask(get("/coder/"))).body == b"old"
        await until(lambda: here.pool.idle_connections == 1)
        assert (await here.ask(request_)).body == b"new"
        await until(lambda: len(here.records) == 2)
        assert [record.retried for record in here.records] == [False, True]
        assert there.connections == 2
        # The backend is not to blame.
        assert here.gate.suspected == []


async def test_what_was_begun_is_not_asked_again(way: str) -> None:
    async with carrying(way, forgets(last_words=b"HTTP/1.1 2")) as (here, there):
        assert (await here.ask(get("/coder/"))).body == b"old"
        await until(lambda: here.pool.idle_connections == 1)
        got = await here.ask(get("/coder/"))
        assert (got.status, there.connections) == (502, 1)
        await until(lambda: len(here.records) == 2)
        assert (here.records[1].code, here.records[1].retried) == ("backend_unreachable", False)


async def test_what_cant_be_sent_twice_goes_on_a_fresh_connection(way: str) -> None:
    async with carrying(way, forgets(answers_first=1)) as (here, there):
        assert (await here.ask(get("/coder/"))).body == b"old"
        await until(lambda: here.pool.idle_connections == 1)
        assert (await here.ask(post("/coder/prompt", b"{}"))).body == b"new"
        assert there.connections == 2
        await until(lambda: len(here.records) == 2)
        assert not here.records[1].retried


async def test_a_fresh_connection_that_breaks_is_tried_once_more(way: str) -> None:
    async with carrying(way, forgets(answers_first=0)) as (here, there):
        assert (await here.ask(get("/coder/"))).body == b"new"
        assert there.connections == 2
        assert (await here.record()).retried
        assert len(here.gate.suspected) == 1


async def closes(peer: Peer) -> None:
    """Takes a head and closes."""
    await peer.head()


async def test_once_more_is_enough(way: str) -> None:
    async with carrying(way, closes) as (here, there):
        got = await here.ask(get("/coder/"))
        assert (got.status, b"backend_unreachable" in got.body) == (502, True)
        assert there.connections == 2
        assert (await here.record()).retried


async def test_once_more_is_not_on_a_connection_that_may_be_stale(way: str) -> None:
    """Else a stale one would be replaced besides, and the request be sent three times."""
    heads: list[int] = []
    released = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.head()
            heads.append(peer.number)
            if peer.number == 0:
                await released.wait()
            if peer.number != 1 or heads.count(1) > 1:
                return
            await peer.send(ok())

    async with carrying(way, script) as (here, _):
        await here.client.send(get("/coder/"))
        await until(lambda: heads == [0])
        async with connect(here.front.addresses[0]) as other:
            await other.send(get("/coder/"))
            assert (await other.response()).body == b"ok"
        await until(lambda: here.pool.idle_connections == 1)
        released.set()
        assert (await here.client.response()).status == 502
        assert heads == [0, 1, 2]


async def test_a_request_that_its_backend_died_of_is_not_sent_again(way: str) -> None:
    async with carrying(way, closes) as (here, there):
        here.gate.on_suspect = lambda: False
        assert (await here.ask(get("/coder/"))).status == 502
        assert there.connections == 1


async def test_what_may_have_been_done_is_not_done_twice(way: str) -> None:
    async with carrying(way, closes) as (here, there):
        assert (await here.ask(post("/coder/prompt", b"{}"))).status == 502
        assert there.connections == 1


async def test_a_streamed_body_is_not_sent_twice() -> None:
    async def script(peer: Peer) -> None:
        await peer.request(2)

    async with carrying("ticket", script) as (here, there):
        await here.client.send(upload(CHAT, length=2) + b"{")
        await until(lambda: there.running == 1)
        await here.client.send(b"}")
        assert (await here.client.response()).status == 502
        assert there.connections == 1


async def test_a_connection_that_is_closed_as_soon_as_it_is_made_is_replaced(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with carrying(way, serves(ok())) as (here, _):
        acquire = here.pool.acquire
        made: list[UpstreamConnection] = []

        async def closed_at_first(endpoint: Endpoint, *, fresh: bool = False) -> UpstreamConnection:
            connection = await acquire(endpoint, fresh=fresh)
            made.append(connection)
            if len(made) == 1:
                connection.drop()
            return connection

        monkeypatch.setattr(here.pool, "acquire", closed_at_first)
        assert (await here.ask(get("/coder/"))).body == b"ok"
        assert len(made) == 2
        # Not one byte had left: so might what can't be sent twice.
        made.clear()
        assert (await here.ask(post("/coder/prompt", b""))).body == b"ok"
        assert len(made) == 2


async def test_an_answer_that_breaks_http_is_told_and_not_asked_for_again(way: str) -> None:
    async with carrying(way, says(b"HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n")) as (here, there):
        got = await here.ask(get("/coder/"))
        assert (got.status, b"bad_upstream" in got.body) == (502, True)
        assert there.connections == 1


# -- ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsomething",
    ],
)
async def test_an_answer_that_is_cut_short_is_seen_to_be(way: str, answer: bytes) -> None:
    async with carrying(way, says(answer)) as (here, _):
        await here.client.send(get("/coder/"))
        with pytest.raises(Cut) as caught:
            await here.client.response()
        assert caught.value.got in (b"some", b"")
        record = await here.record()
        assert (record.status, record.response_bytes, record.outcome) == (200, 4, "aborted")


async def test_more_than_was_promised_is_dropped_with_the_connection(way: str) -> None:
    async with carrying(way, serves(ok() + b"surplus")) as (here, there):
        for number in (1, 2):
            assert (await here.ask(get("/coder/"))).body == b"ok"
            await until(lambda: len(here.records) == number)  # noqa: B023
            assert here.pool.idle_connections == 0
        assert there.connections == 2


async def test_a_lone_answer_without_a_length_ends_with_the_connection(way: str) -> None:
    async with carrying(way, says(b"HTTP/1.0 200 OK\r\n\r\nold school")) as (here, _):
        got = await here.ask(get("/coder/"))
        assert (got.status, got.body) == (200, b"old school")
        assert got.get(b"transfer-encoding") == b"chunked"
        assert (await here.record()).response_bytes == 10
        assert here.pool.open_connections == 0


async def test_a_reset_behind_an_answer_without_a_length_is_no_end(way: str) -> None:
    read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\nold school")
        await read.wait()
        peer.reset()

    async with carrying(way, script) as (here, _):
        await here.client.send(get("/coder/"))
        await here.client.head()
        assert await here.client.chunk() == b"old school"
        read.set()
        with pytest.raises(Cut):
            await here.client.chunk()
        assert (await here.record()).outcome == "aborted"


async def test_over_a_unix_socket_host_stays_the_clients(way: str, tmp_path: Path) -> None:
    heads: list[bytes] = []
    for number, host in enumerate(("client", "backend")):
        path = str(tmp_path / str(number))
        route = {"host_header": host}
        async with carrying(way, keeps(heads), unix=path, route=route) as (here, _):
            assert (await here.ask(get("/coder/"))).status == 200
    assert b"\r\nHost: launcher.test\r\n" in heads[0]
    assert b"\r\nHost: localhost\r\n" in heads[1]


async def test_an_upgrade_with_a_body_and_a_loop_send_nothing(way: str) -> None:
    heads: list[bytes] = []
    async with carrying(way, keeps(heads)) as (here, there):
        # The second time there is a connection at hand.
        for kept in (0, 1):
            via = f"Via: 1.1 {PSEUDONYM.decode()}, 1.1 {PSEUDONYM.decode()}"
            got = await here.ask(get("/coder/", via))
            assert (got.status, b"loop_detected" in got.body) == (508, True)
            await until(lambda: here.pool.open_connections == 0)
            assert (await here.ask(get("/coder/"))).status == 200
            await until(lambda: here.pool.idle_connections == 1)
            assert len(heads) == kept + 1
        upgrade = post("/coder/", b"ab", "Connection: upgrade", "Upgrade: websocket")
        got = await here.ask(upgrade)
        assert (got.status, b"bad_request" in got.body) == (400, True)
        assert len(heads) == 2
        assert there.failures == []


async def test_a_tunnel_carries_bytes_both_ways(way: str) -> None:
    async def script(peer: Peer) -> None:
        head = await peer.head()
        assert b"\r\nUpgrade: websocket\r\n" in head
        await peer.send(
            b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: 1\r\n\r\nhello"
        )
        while data := await peer.reader.read(100):
            await peer.send(data.upper())

    async with backend(script) as there, house(a_config(), there.endpoint) as here:
        await here.client.send(get("/coder/", "Connection: Upgrade", "Upgrade: websocket") + b"a")
        head = await here.client.head()
        assert (head.status, head.get(b"upgrade"), head.get(b"x")) == (101, b"websocket", b"1")
        assert await here.client.reader.readexactly(6) == b"helloA"
        await here.client.send(b"bc")
        assert await here.client.reader.readexactly(2) == b"BC"
        here.client.half_close()
        assert await here.client.rest() == b""
        record = await here.record()
        assert (record.status, record.outcome, record.response_bytes) == (101, "tunnel", 8)
        assert here.pool.open_connections == 0


def _no_delay(here: House) -> Callable[[], bool]:
    (connection,) = here.front._shared.connections
    sock = connection.transport.get_extra_info("socket")
    return lambda: bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


async def test_small_answers_are_not_held_back(way: str) -> None:
    async with carrying(way, serves(ok())) as (here, _):
        assert (await here.ask(get("/coder/"))).status == 200
        assert _no_delay(here)()


async def test_a_cut_answer_resets_an_old_client(way: str) -> None:
    """The end of the connection would be the end of the body to it."""
    read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n")
        await read.wait()

    async with carrying(way, script) as (here, _):
        await here.client.send(b"GET /coder/ HTTP/1.0\r\n\r\n")
        await here.client.head()
        assert await here.client.reader.readexactly(4) == b"some"
        read.set()
        with pytest.raises(ConnectionResetError):
            await here.client.rest()


async def asks_and_waits(peer: Peer) -> None:
    """Takes a head, and gives one where `/stream` is asked for."""
    head = await peer.head()
    if b"/stream" in head:
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n")
    await peer.gone()


STOPPED = LauncherError("backend_stopped", "It was stopped.")


@pytest.mark.parametrize("when", ["connecting", "waiting", "streaming"])
async def test_the_gate_may_end_an_exchange(way: str, when: str) -> None:
    async def script(peer: Peer) -> None:
        await (peer.gone() if when == "connecting" else asks_and_waits(peer))

    scheme = "https" if when == "connecting" else "http"
    async with carrying(way, script, scheme=scheme) as (here, there):
        await here.client.send(get("/coder/stream" if when == "streaming" else "/coder/"))
        await until(lambda: there.running == 1)
        if when == "waiting":
            await until(lambda: bool(_sent(here)))
        elif when == "streaming":
            await here.client.head()
            assert await here.client.chunk() == b"some"
        if way == "permit":
            for request in here.front.requests:
                cast(Exchange, request.carrier).cut(STOPPED)
        else:
            here.gate.abort(STOPPED)
        if when == "streaming":
            with pytest.raises(Cut):
                await here.client.chunk()
        else:
            got = await here.client.response()
            assert (got.status, b"backend_stopped" in got.body) == (STOPPED.status, True)
        record = await here.record()
        assert record.code == "backend_stopped"
        assert record.outcome == ("cut" if when == "streaming" else "error")
        await until(lambda: here.pool.open_connections == 0 and there.running == 0)


@pytest.mark.parametrize("connects", [True, False])
async def test_the_gate_may_end_an_exchange_in_the_turn_in_which_it_connects(
    monkeypatch: pytest.MonkeyPatch, connects: bool
) -> None:
    async with carrying("permit", asks_and_waits) as (here, there):
        acquire = here.pool.acquire

        async def acquired(endpoint: Endpoint, *, fresh: bool = False) -> UpstreamConnection:
            connection = await acquire(endpoint, fresh=fresh)
            (request,) = here.front.requests
            cast(Exchange, request.carrier).cut(STOPPED)
            if not connects:
                here.pool.discard(connection)
                raise ConnectionRefusedError
            return connection

        monkeypatch.setattr(here.pool, "acquire", acquired)
        got = await here.ask(get("/coder/"))
        assert (got.status, b"backend_stopped" in got.body) == (STOPPED.status, True)
        assert (await here.record()).code == "backend_stopped"
        await until(lambda: here.pool.open_connections == 0 and there.running == 0)


async def test_the_gate_may_end_an_exchange_that_is_about_to_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with carrying("permit", asks_and_waits) as (here, there):
        connect_to = here.handler.connect

        def connect_and_cut(exchange: Exchange) -> None:
            connect_to(exchange)
            exchange.cut(STOPPED)

        monkeypatch.setattr(here.handler, "connect", connect_and_cut)
        got = await here.ask(get("/coder/"))
        assert (got.status, b"backend_stopped" in got.body) == (STOPPED.status, True)
        await until(lambda: here.pool.open_connections == 0 and there.running == 0)


@pytest.mark.parametrize("error", [UpstreamDisconnected("it closed"), STOPPED])
async def test_an_attempt_may_end_in_the_turn_in_which_its_wait_is_cancelled(
    error: Exception,
) -> None:
    async with carrying("ticket", asks_and_waits) as (here, _):
        await here.client.send(get("/coder/"))
        await until(lambda: bool(_sent(here)))
        (request,) = here.front.requests
        exchange = cast(Exchange, request.carrier)
        assert request.task is not None
        assert exchange.connection is not None
        request.task.cancel()
        exchange.connection.fail(error)
        assert (await here.record()).outcome == "cut"


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
async def test_a_body_that_a_backend_may_leave_unread_is_the_last_on_its_connection(
    way: str, method: str
) -> None:
    """It would be the connection's next request, and its answer the next client's."""
    smuggled = get("/admin")
    async with carrying(way, serves(ok())) as (here, there):
        request = post("/coder/", smuggled).replace(b"POST", method.encode())
        assert (await here.ask(request)).body == b"ok"
        assert (await here.ask(get("/coder/"))).body == b"ok"
        assert there.connections == 2
        assert here.pool.idle_connections == 1


@pytest.mark.parametrize("when", ["waiting", "streaming"])
async def test_a_shutdown_ends_what_takes_too_long(way: str, when: str) -> None:
    async with carrying(way, asks_and_waits) as (here, there):
        await here.client.send(get("/coder/stream" if when == "streaming" else "/coder/"))
        if when == "waiting":
            await until(lambda: bool(_sent(here)))
        else:
            await here.client.head()
            assert await here.client.chunk() == b"some"
        await here.front.close(0)
        assert here.front.active == 0
        record = await here.record()
        assert (record.status, record.outcome) == (200 if when == "streaming" else 503, "cut")
        assert record.code == "draining"
        with pytest.raises((Cut, ConnectionError, asyncio.IncompleteReadError)):
            await (here.client.chunk() if when == "streaming" else here.client.head())
        await until(lambda: here.pool.open_connections == 0 and there.running == 0)


async def test_a_shutdown_lets_an_answer_come_to_its_end(way: str) -> None:
    last = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst")
        await last.wait()
        await peer.send(b"last")
        await peer.gone()

    async with carrying(way, script) as (here, _):
        await here.client.send(get("/coder/"))
        head = await here.client.head()
        closing = asyncio.ensure_future(here.front.close(PATIENCE))
        await until(lambda: here.front.addresses == ())
        last.set()
        assert await here.client.body(head) == b"firstlast"
        assert await here.client.closed()
        await closing
        assert (await here.record()).outcome == "ok"


# -- pipelines through the whole proxy -------------------------------------------------------


async def test_what_comes_behind_a_body_that_is_refused_at_once_is_answered(way: str) -> None:
    """The body's last bytes and the next request in one segment."""
    async with carrying(way, serves(ok())) as (here, _):
        request = post("/v1/chat/completions", b'{"model":"unknown"}')
        await here.client.send(request[:-5])
        await until(lambda: here.front.active == 1)
        await here.client.send(request[-5:] + get("/coder/"))
        assert (await here.client.response()).status == 404
        assert (await here.client.response()).body == b"ok"


async def test_a_body_that_began_behind_another_request_comes_in_whole(way: str) -> None:
    """Reading was paused for what came behind; the body needs it again."""
    answer = asyncio.Event()
    data = b'{"model":"coder-fast","x":"' + b"y" * 200_000 + b'"}'

    async def script(peer: Peer) -> None:
        while True:
            head = await peer.head()
            if head.startswith(b"POST"):
                await peer.reader.readexactly(len(data))
            else:
                await answer.wait()
            await peer.send(ok())

    async with carrying(way, script) as (here, _):
        await here.client.send(get("/coder/"))
        await until(lambda: here.front.active == 1)
        request = post("/v1/chat/completions", data)
        await here.client.send(request[:100_000])
        shared = here.front._shared
        # Nor is there an allowance to read ahead, which would have it read on in a second.
        shared.read_ahead = 0
        await until(lambda: any(one.reading_paused for one in shared.connections))
        await until(lambda: any(len(one._input) == 100_000 for one in shared.connections))
        answer.set()
        assert (await here.client.response()).body == b"ok"
        await here.client.send(request[100_000:])
        assert (await here.client.response()).body == b"ok"


async def test_a_client_that_leaves_within_a_body_that_is_waited_for_costs_nothing() -> None:
    async with backend(silent) as there, house(a_config(), there.endpoint) as here:
        await here.client.send(post("/v1/chat/completions", b'{"model":"coder-fast"}')[:-5])
        await until(lambda: here.front.active == 1)
        here.client.reset()
        record = await here.record()
        assert (record.status, record.outcome) == (499, "client_gone")
        await until(lambda: here.front.active == 0)
        assert (here.gate.admissions, there.connections) == ([], 0)


async def test_a_body_that_is_waited_for_and_stalls_is_told() -> None:
    async with backend(silent) as there, house(a_config(), there.endpoint) as here:
        here.front._shared.limits = Limits(body_timeout=0.1, keepalive=0.2)
        await here.client.send(post("/v1/chat/completions", b'{"model":"coder-fast"}')[:-5])
        got = await here.client.response()
        assert (got.status, got.get(b"connection")) == (408, b"close")
        assert (await here.record()).code == "request_timeout"
        assert (here.gate.admissions, there.connections) == ([], 0)


def a_mix(chance: random.Random, count: int) -> tuple[bytes, list[tuple[str, int, bytes]]]:
    """Requests of many kinds behind each other, and for each its method, the status and the body
    that it has to be answered with."""
    parts: list[bytes] = []
    expected: list[tuple[str, int, bytes]] = []
    for number in range(count):
        kind = chance.randrange(8)
        filler = b"z" * chance.choice([0, 1, 50, 5000, 90_000])
        path = f"/coder/{number}"
        if kind == 0:
            parts.append(get(path))
            expected.append(("GET", 200, b"/%d " % number))
        elif kind == 1:
            parts.append(get(path).replace(b"GET", b"HEAD"))
            expected.append(("HEAD", 200, b""))
        elif kind == 2:
            parts.append(get("/nowhere"))
            expected.append(("GET", 404, b""))
        elif kind in (3, 4):
            model = b"coder-fast" if kind == 3 else b"unknown"
            body = b'{"model":"%b","n":%d,"x":"%b"}' % (model, number, filler)
            parts.append(post("/v1/chat/completions", body))
            found = b"/v1/chat/completions " + hashlib.md5(body).hexdigest().encode()
            expected.append(("POST", 200, found) if kind == 3 else ("POST", 404, b""))
        elif kind == 5:
            parts.append(post(path, filler, kind="application/octet-stream"))
            found = hashlib.md5(filler).hexdigest().encode() if filler else b""
            expected.append(("POST", 200, b"/%d %b" % (number, found)))
        else:
            pieces = [filler[:7], filler[7:]] if kind == 6 else [filler]
            chunks = b"".join(b"%X\r\n%b\r\n" % (len(one), one) for one in pieces if one)
            parts.append(upload(path) + chunks + b"0\r\n\r\n")
            found = hashlib.md5(filler).hexdigest().encode() if filler else b""
            expected.append(("POST", 200, b"/%d %b" % (number, found)))
    return b"".join(parts), expected


async def digests(peer: Peer) -> None:
    """Answers with the path and a digest of the body, in one of three framings."""
    number = peer.number
    while True:
        head = await peer.head()
        method, path, _ = head.split(b" ", 2)
        lines = head.lower().split(b"\r\n")
        body = b""
        for line in lines:
            if line.startswith(b"content-length:"):
                body = await peer.reader.readexactly(int(line.split(b":")[1]))
        if b"transfer-encoding: chunked" in lines:
            body = b"".join(await peer.chunked())
        said = b"%b %b" % (path, hashlib.md5(body).hexdigest().encode() if body else b"")
        number += 1
        if method == b"HEAD":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said))
        elif number % 3 == 0:
            await peer.send(ok(said))
        elif number % 3 == 1:
            chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(said), said)
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + said)
            return


@pytest.mark.parametrize("seed", range(2))
async def test_any_mix_of_requests_is_answered_in_order(way: str, seed: int) -> None:
    chance = random.Random(seed)
    data, expected = a_mix(chance, 100)

    async def answers(client: RawClient) -> None:
        for method, status, body in expected:
            got = await client.response(method)
            assert (got.status, got.get(b"connection")) == (status, None)
            if status == 200:
                assert got.body == body

    async with carrying(way, digests) as (here, _):
        answering = asyncio.ensure_future(answers(here.client))
        at = 0
        while at < len(data) and not answering.done():
            size = chance.choice([1, 7, 100, 1000, 20_000, 100_000, 400_000])
            await here.client.send(data[at : at + size])
            at += size
            if chance.random() < 0.5:
                await asyncio.sleep(0)
        await asyncio.wait_for(answering, PATIENCE)
        await until(lambda: len(here.records) == len(expected))
        assert [record.status for record in here.records] == [one[1] for one in expected]
