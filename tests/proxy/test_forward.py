"""One exchange carried: requests as they leave, responses as they arrive, interim ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from launcher import tasks
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.http.exchange import ClientGone, RawHeaders
from launcher.proxy.forward import INLINE, forward
from launcher.proxy.headers import PSEUDONYM
from launcher.proxy.plan import Carried, UpstreamFailed
from launcher.proxy.pool import UpstreamPool
from tests.proxy.awkward import PATIENCE, Peer, Script, backend, ok, says, serves, until
from tests.proxy.fake_exchange import FakeExchange, Kept, Streamed, a_plan, request

BOTH_LOOPS = True


@pytest.fixture
async def pool() -> AsyncIterator[UpstreamPool]:
    pool = UpstreamPool()
    yield pool
    await pool.close()


def keeps(heads: list[bytes], answer: bytes | None = None) -> Script:
    async def script(peer: Peer) -> None:
        while True:
            heads.append(await peer.head())
            await peer.send(answer or ok())

    return script


async def test_the_request_arrives_as_it_was_sent(pool: UpstreamPool) -> None:
    heads: list[bytes] = []
    async with backend(keeps(heads), base_path="/base") as there:
        head = request(
            "DELETE",
            headers=(
                (b"Host", b"comfy.lan:8188"),
                (b"X-Twice", b"1"),
                (b"Expect", b"100-continue"),
                (b"x-twice", b"\xe9"),
            ),
            host=b"comfy.lan:8188",
        )
        exchange = FakeExchange(head)
        plan = a_plan(there.endpoint, path=b"/%41//a/../%zz\xff", query=b"", prefix=b"/r")
        carried = await forward(exchange, Kept(), plan, pool)
    assert carried == Carried(200, 2)
    assert heads == [
        b"DELETE /base/%%41//a/../%%zz\xff? HTTP/1.1\r\n"
        b"Host: comfy.lan:8188\r\nX-Twice: 1\r\nx-twice: \xe9\r\n"
        b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: comfy.lan:8188\r\nX-Forwarded-Prefix: /r\r\n"
        b"Via: 1.1 %b\r\n\r\n" % PSEUDONYM
    ]


async def test_the_response_arrives_as_it_was_sent(pool: UpstreamPool) -> None:
    first_byte: list[bool] = []
    answer = (
        b"HTTP/1.1 418 I'm a teapot\r\nSet-Cookie: a\r\nX-Odd: \xff\r\nset-cookie: b\r\n"
        b"Connection: X-Hop\r\nX-Hop: 1\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nzip"
    )
    async with backend(serves(answer)) as there:
        exchange = FakeExchange()

        def on_first_byte() -> RawHeaders:
            first_byte.append(exchange.responded)
            return ((b"Server-Timing", b"queue;dur=1"),)

        plan = a_plan(there.endpoint, on_first_byte=on_first_byte)
        assert await forward(exchange, Kept(), plan, pool) == Carried(418, 3)
    assert (exchange.status, exchange.reason, exchange.body) == (418, b"I'm a teapot", b"zip")
    assert exchange.headers == (
        (b"Set-Cookie", b"a"),
        (b"X-Odd", b"\xff"),
        (b"set-cookie", b"b"),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Length", b"3"),
        (b"Server-Timing", b"queue;dur=1"),
    )
    assert exchange.finished
    assert first_byte == [False]


@pytest.mark.parametrize("path", [b"", b"/x y", b"/x\r\nEvil: 1", b"/\x00", b"http://x/"])
async def test_targets_that_would_not_be_one(pool: UpstreamPool, path: bytes) -> None:
    heads: list[bytes] = []
    async with backend(keeps(heads)) as there:
        plan = a_plan(there.endpoint, path=path)
        if not path:
            await forward(FakeExchange(), Kept(), plan, pool)
            assert heads[0].startswith(b"GET / HTTP/1.1\r\n")
            return
        with pytest.raises(LauncherError) as caught:
            await forward(FakeExchange(), Kept(), plan, pool)
        assert caught.value.code == "bad_target"
    assert heads == []


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", [b"5"]),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", []),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", [b"5"]),
    ],
)
async def test_no_body_and_the_connection_is_kept(
    pool: UpstreamPool, method: str, answer: bytes, length: list[bytes]
) -> None:
    async with backend(serves(answer)) as there:
        for _ in range(3):
            exchange = FakeExchange(request(method))
            carried = await forward(exchange, Kept(), a_plan(there.endpoint), pool)
            assert carried.response_bytes == 0
            assert exchange.get(b"content-length") == length
            assert exchange.finished
        assert there.connections == 1


async def test_pieces_are_passed_on_before_the_next_one_is_sent(pool: UpstreamPool) -> None:
    exchange = FakeExchange()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(5):
            await peer.send(b"data: %d\n\n" % number)
            await until(lambda: len(exchange.pieces) == number + 1)  # noqa: B023

    async with backend(script) as there:
        carried = await forward(exchange, Kept(), a_plan(there.endpoint), pool)
    assert exchange.pieces == [b"data: %d\n\n" % number for number in range(5)]
    assert carried == Carried(200, 45)
    assert exchange.finished


async def test_interim_responses_are_passed_on(pool: UpstreamPool) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\n")
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok())
        await peer.gone()

    async with backend(script) as there:
        exchange = FakeExchange()
        await forward(exchange, Kept(), a_plan(there.endpoint), pool)
        await pool.close()
    assert exchange.informed == [
        (103, b"Early Hints", ((b"Link", b"</a>"),)),
        (102, b"Processing", ()),
        (100, b"Continue", ()),
    ]
    assert (exchange.status, exchange.body) == (200, b"ok")


# -- the request's body --------------------------------------------------------------------


async def test_a_kept_body_goes_out_with_the_head(pool: UpstreamPool) -> None:
    arrived: list[bytes] = []

    async def script(peer: Peer) -> None:
        arrived.append(await peer.reader.read(65536))
        await peer.send(ok())
        await peer.gone()

    async with backend(script) as there:
        await forward(
            FakeExchange(request("POST")), Kept(b'{"a": 1}'), a_plan(there.endpoint), pool
        )
        await pool.close()
    head, _, body = arrived[0].partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: 8\r\n" in head + b"\r\n"
    assert body == b'{"a": 1}'


@pytest.mark.parametrize("size", [INLINE, INLINE + 1, 3 * 1024 * 1024])
async def test_kept_bodies_of_any_size_arrive_whole(pool: UpstreamPool, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    arrived: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            arrived.append((await peer.request(size))[-size:])
            await peer.send(ok())

    async with backend(script) as there:
        for _ in range(2):
            exchange = FakeExchange(request("POST"))
            await forward(exchange, Kept(data), a_plan(there.endpoint), pool)
            assert exchange.finished
        assert there.connections == 1
    assert arrived == [data, data]


async def test_a_stream_of_known_length_keeps_it(pool: UpstreamPool) -> None:
    arrived: list[bytes] = []

    async def script(peer: Peer) -> None:
        arrived.append(await peer.request(10))
        await peer.send(ok())
        await peer.gone()

    async with backend(script) as there:
        body = Streamed(b"12345", b"67890", b"", length=10)
        exchange = FakeExchange(request("PUT", content_length=10))
        await forward(exchange, body, a_plan(there.endpoint), pool)
        await pool.close()
    assert b"Content-Length: 10\r\n" in arrived[0]
    assert b"Transfer-Encoding" not in arrived[0]
    assert arrived[0].endswith(b"\r\n\r\n1234567890")


async def test_a_stream_of_unknown_length_is_chunked_piece_by_piece(pool: UpstreamPool) -> None:
    arrived: list[list[bytes]] = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            head = await peer.head()
            assert b"Transfer-Encoding: chunked\r\n" in head
            assert b"Content-Length" not in head
            arrived.append(await peer.chunked())
            await peer.send(ok())
        await peer.gone()

    async with backend(script) as there:
        for _ in range(2):
            body = Streamed(b"a" * 17, b"bc", b"")
            plan = a_plan(there.endpoint)
            await forward(FakeExchange(request("POST", chunked=True)), body, plan, pool)
            # A stream takes a fresh connection; this one shows that it is left in order.
        await pool.close()
    assert arrived == [[b"a" * 17, b"bc"]] * 2


async def test_the_head_leaves_before_the_first_piece_comes(pool: UpstreamPool) -> None:
    body = Streamed()

    async def script(peer: Peer) -> None:
        await peer.head()
        body.queue.put_nowait(b"now")
        assert await peer.reader.readline() == b"3\r\n"
        body.queue.put_nowait(b"")
        await peer.reader.readuntil(b"0\r\n\r\n")
        await peer.send(ok())
        await peer.gone()

    async with backend(script) as there:
        exchange = FakeExchange(request("POST", chunked=True))
        await asyncio.wait_for(forward(exchange, body, a_plan(there.endpoint), pool), PATIENCE)
        assert exchange.finished
        await pool.close()


async def test_both_bodies_may_travel_at_once(pool: UpstreamPool) -> None:
    body = Streamed()
    exchange = FakeExchange(request("POST", chunked=True))

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await peer.reader.readline(), 16):
            piece = await peer.reader.readexactly(size + 2)
            await peer.send(b"%x\r\n%b" % (size, piece))
        await peer.reader.readline()
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with backend(script) as there:
        carrying = tasks.spawn(forward(exchange, body, a_plan(there.endpoint), pool), name="test")
        for number in range(4):
            body.queue.put_nowait(b"echo %d" % number)
            await until(lambda: len(exchange.pieces) == number + 1)  # noqa: B023
        body.queue.put_nowait(b"")
        assert await carrying == Carried(200, 24)
        assert pool.idle_connections == 1
        await pool.close()


async def test_an_early_answer_ends_the_upload(pool: UpstreamPool) -> None:
    body = Streamed(b"some", length=1_000_000)

    async def script(peer: Peer) -> None:
        await peer.request(4)
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        await peer.gone()

    async with backend(script) as there:
        exchange = FakeExchange(request("POST", content_length=1_000_000))
        carried = await asyncio.wait_for(
            forward(exchange, body, a_plan(there.endpoint), pool), PATIENCE
        )
        assert carried == Carried(413, 3)
        assert (exchange.status, exchange.body, exchange.finished) == (413, b"no!", True)
        assert pool.open_connections == 0


async def test_an_early_answer_behind_which_the_backend_slams_the_door(
    pool: UpstreamPool,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        # Closing with unread bytes makes the kernel send a reset.

    async def pour() -> None:
        while True:
            body.queue.put_nowait(bytes(65536))
            await asyncio.sleep(0)
            if body.queue.qsize() > 20:
                await asyncio.sleep(0.001)

    async with backend(script) as there:
        for _ in range(10):
            body = Streamed(length=1 << 40)
            pouring = tasks.spawn(pour(), name="test")
            exchange = FakeExchange(request("POST", content_length=1 << 40))
            carried = await forward(exchange, body, a_plan(there.endpoint), pool)
            await tasks.cancel(pouring)
            assert carried == Carried(413, 3)
            assert exchange.finished


@pytest.mark.parametrize(
    "error", [ClientGone("left"), LauncherError("request_timeout", "stalled"), KeyError("bug")]
)
async def test_a_body_that_fails_ends_the_exchange(pool: UpstreamPool, error: Exception) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    async with backend(script) as there:
        body = Streamed(b"x")
        body.queue.put_nowait(error)
        exchange = FakeExchange(request("POST", chunked=True))
        with pytest.raises(type(error)):
            await asyncio.wait_for(forward(exchange, body, a_plan(there.endpoint), pool), PATIENCE)
        assert not exchange.responded
        assert pool.open_connections == 0


async def test_a_body_that_stalls_behind_an_answer_cuts_it(pool: UpstreamPool) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await peer.gone()

    async with backend(script) as there:
        body = Streamed()
        exchange = FakeExchange(request("POST", chunked=True))
        carrying = tasks.spawn(forward(exchange, body, a_plan(there.endpoint), pool), name="test")
        await until(lambda: exchange.pieces == [b"ab"])
        body.queue.put_nowait(LauncherError("request_timeout", "stalled"))
        assert await carrying == Carried(200, 2, complete=False)
        assert exchange.aborted
        assert not exchange.finished


@pytest.mark.parametrize("pieces", [(b"123", b""), (b"123456", b"")])
async def test_a_stream_must_be_as_long_as_it_said(
    pool: UpstreamPool, pieces: tuple[bytes, ...]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with backend(script) as there:
        exchange = FakeExchange(request("POST", content_length=5))
        with pytest.raises(LauncherError) as caught:
            await forward(exchange, Streamed(*pieces, length=5), a_plan(there.endpoint), pool)
        assert caught.value.code == "bad_request"


# -- who leaves, who is slow ---------------------------------------------------------------


@pytest.mark.parametrize("when", ["connecting", "waiting", "uploading", "streaming"])
async def test_cancelled_it_closes_the_backends_connection_at_once(
    pool: UpstreamPool, when: str
) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        if when == "streaming":
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\ndata")
        asked.set()
        await peer.gone()
        gone.set()

    async with backend(script) as there:
        uploads = when == "uploading"
        exchange = FakeExchange(request("POST", chunked=uploads))
        body = Streamed(b"some") if uploads else Kept()
        carrying = tasks.spawn(forward(exchange, body, a_plan(there.endpoint), pool), name="test")
        if when == "connecting":
            await asyncio.sleep(0)
        else:
            await asked.wait()
        if when == "streaming":
            await until(lambda: bool(exchange.pieces))
        carrying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await carrying
        assert pool.open_connections == 0
        if when != "connecting":
            await asyncio.wait_for(gone.wait(), PATIENCE)


async def test_a_client_found_gone_while_writing(pool: UpstreamPool) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(bytes(65536))

    async with backend(script) as there:
        exchange = FakeExchange()
        carrying = tasks.spawn(forward(exchange, Kept(), a_plan(there.endpoint), pool), name="test")
        await until(lambda: bool(exchange.pieces))
        exchange.left = True
        with pytest.raises(ClientGone):
            await carrying
        assert pool.open_connections == 0


async def test_a_slow_client_slows_the_backend_and_memory_stays_flat(pool: UpstreamPool) -> None:
    sent = 0
    total = 64 * 1024 * 1024

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent < total:
            await peer.send(bytes(65536))
            sent += 65536
        await peer.gone()

    async with backend(script) as there:
        exchange = FakeExchange()
        exchange.open.clear()
        carrying = tasks.spawn(forward(exchange, Kept(), a_plan(there.endpoint), pool), name="test")
        await until(lambda: bool(exchange.pieces))
        await asyncio.sleep(0.2)  # in which nothing but backpressure holds the backend
        assert len(exchange.pieces) == 1
        assert sent < total // 2
        exchange.open.set()
        assert await carrying == Carried(200, total)
        await pool.close()


async def test_a_slow_client_doesnt_hold_a_backend_that_is_done(pool: UpstreamPool) -> None:
    async with backend(serves(ok(b"short"))) as there:
        exchange = FakeExchange()
        exchange.open.clear()
        carrying = tasks.spawn(forward(exchange, Kept(), a_plan(there.endpoint), pool), name="test")
        await until(lambda: exchange.pieces == [b"short"])
        assert pool.idle_connections == 1
        again = await forward(FakeExchange(), Kept(), a_plan(there.endpoint), pool)
        assert again == Carried(200, 5)
        assert there.connections == 1
        carrying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await carrying
        # The connection isn't its own any more, and so not its to close.
        assert pool.idle_connections == 1


async def test_a_silent_backend_is_told_of_again_and_again(pool: UpstreamPool) -> None:
    silent = asyncio.Event()
    calls = 0

    def on_silence() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            silent.set()

    async def script(peer: Peer) -> None:
        await peer.head()
        await silent.wait()
        await peer.send(ok())
        await peer.gone()

    async with backend(script) as there:
        plan = a_plan(there.endpoint, on_silence=on_silence)
        exchange = FakeExchange()
        assert (await forward(exchange, Kept(), plan, pool, silence=0.02)).status == 200
        assert calls >= 3
        await pool.close()


async def test_a_client_that_uploads_slowly_is_not_the_backends_silence(
    pool: UpstreamPool,
) -> None:
    silences: list[None] = []
    body = Streamed(length=4)

    async def script(peer: Peer) -> None:
        await peer.request(4)
        await peer.send(ok())
        await peer.gone()

    async with backend(script) as there:
        plan = a_plan(
            there.endpoint, on_silence=lambda: silences.append(None), response_timeout=0.05
        )
        exchange = FakeExchange(request("POST", content_length=4))
        carrying = tasks.spawn(forward(exchange, body, plan, pool, silence=0.02), name="test")
        await asyncio.sleep(0.2)
        assert not carrying.done()
        assert silences == []
        carrying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await carrying


async def test_a_response_may_have_a_deadline(pool: UpstreamPool) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    async with backend(script) as there:
        plan = a_plan(there.endpoint, response_timeout=0.05)
        with pytest.raises(UpstreamFailed, match=r"0\.05 s") as caught:
            await asyncio.wait_for(forward(FakeExchange(), Kept(), plan, pool), PATIENCE)
        assert (caught.value.code, caught.value.may_retry) == ("backend_unreachable", False)
        assert pool.open_connections == 0


async def test_the_deadline_is_for_the_first_byte_only(pool: UpstreamPool) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        await asyncio.sleep(2.5)  # longer than the timeout, which is for the first byte alone
        await peer.send(b" and last")

    async with backend(script) as there:
        plan = a_plan(there.endpoint, response_timeout=2.0)
        exchange = FakeExchange()
        await forward(exchange, Kept(), plan, pool)
        assert exchange.body == b"first and last"


async def test_over_a_unix_socket_host_stays_the_clients(
    pool: UpstreamPool, tmp_path: Path
) -> None:
    heads: list[bytes] = []
    async with backend(keeps(heads), unix=str(tmp_path / "s")) as there:
        await forward(FakeExchange(), Kept(), a_plan(there.endpoint), pool)
        await forward(FakeExchange(), Kept(), a_plan(there.endpoint, host_backend=True), pool)
    assert b"\r\nHost: example.test\r\n" in heads[0]
    assert b"\r\nHost: localhost\r\n" in heads[1]


async def test_an_upgrade_with_a_body_and_a_loop_send_nothing(pool: UpstreamPool) -> None:
    nowhere = a_plan(Endpoint("127.0.0.1", 1))
    upgrading = request("POST", upgrade=b"websocket", content_length=2)
    with pytest.raises(LauncherError) as caught:
        await forward(FakeExchange(upgrading), Kept(b"ab"), nowhere, pool)
    assert caught.value.code == "bad_request"
    looping = request(headers=((b"Via", b"1.1 %b, 1.1 %b" % (PSEUDONYM, PSEUDONYM)),))
    with pytest.raises(LauncherError) as caught:
        await forward(FakeExchange(looping), Kept(), nowhere, pool)
    assert caught.value.code == "loop_detected"


async def test_a_lone_answer_without_a_length_ends_with_the_connection(pool: UpstreamPool) -> None:
    async with backend(says(b"HTTP/1.0 200 OK\r\n\r\nold school")) as there:
        exchange = FakeExchange()
        assert await forward(exchange, Kept(), a_plan(there.endpoint), pool) == Carried(200, 10)
        assert exchange.finished
        assert pool.open_connections == 0
