"""One connection against scripted backends: flow control, ends and breaks, rescue."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from launcher import tasks
from launcher.http.chunked import ChunkedReader
from launcher.http.errors import ClientDisconnected, RemoteProtocolError, UpstreamDisconnected
from launcher.http.pool import UpstreamPool
from launcher.http.upstream import UpstreamConnection
from tests.http.raw_client import PATIENCE
from tests.http.recording import REQUEST, Recording, asked, use
from tests.proxy.awkward import Peer, Script, backend, ok, says, serves, until

BOTH_LOOPS = True


async def test_pieces_come_as_they_are_sent() -> None:
    taken = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"one", b"two", b"three"):
            await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await taken.wait()
            taken.clear()
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    pool = UpstreamPool()
    async with backend(script) as there:
        connection = await pool.acquire(there.endpoint)
        exchange = Recording(on_piece=lambda _: taken.set())
        connection.begin(exchange, "GET")
        connection.send(REQUEST)
        assert await exchange.whole() == b"onetwothree"
        assert exchange.pieces == [b"one", b"two", b"three"]
        assert exchange.head.status == 200
        assert connection.reusable
        await pool.close()


async def test_a_client_that_is_behind_slows_the_backend_down() -> None:
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

    pool = UpstreamPool()
    async with backend(script) as there:
        connection = await pool.acquire(there.endpoint)
        exchange = Recording(on_piece=lambda _: connection.pause_reading())
        connection.begin(exchange, "GET")
        connection.send(REQUEST)
        await until(lambda: bool(exchange.pieces))
        await asyncio.sleep(0.2)  # in which a connection that isn't paused would read it all
        assert sent < total // 2
        # What was under way when it was paused still comes.
        assert len(exchange.body) < 1024 * 1024
        exchange.on_piece = None
        connection.resume_reading()
        assert len(await exchange.whole()) == total
        await pool.close()


async def test_a_client_found_gone_ends_the_backends_connection() -> None:
    def leave(piece: bytes) -> None:
        raise ClientDisconnected(f"before {piece!r}")

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
        await peer.gone()

    pool = UpstreamPool()
    async with backend(script) as there:
        connection = await pool.acquire(there.endpoint)
        exchange = Recording(on_piece=leave)
        connection.begin(exchange, "GET")
        connection.send(REQUEST)
        assert str(await exchange.failed()) == "before b'one'"
        assert connection.closed
        await pool.close()


async def test_a_backend_that_reads_slowly_slows_the_sender_down() -> None:
    go_on = asyncio.Event()
    total = 32 * 1024 * 1024

    async def script(peer: Peer) -> None:
        await peer.head()
        await go_on.wait()
        await peer.reader.readexactly(total)
        await peer.send(ok())
        await peer.gone()

    sent = 0

    async def upload(connection: UpstreamConnection) -> None:
        nonlocal sent
        while sent < total:
            connection.send(bytes(65536))
            sent += 65536
            await connection.drain()

    pool = UpstreamPool()
    async with backend(script) as there:
        connection, exchange = await asked(pool, there.endpoint)
        uploading = tasks.spawn(upload(connection), name="test")
        await until(lambda: connection._drained is not None)
        await asyncio.sleep(0.2)  # in which a sender that isn't held back would be done
        assert sent < total
        go_on.set()
        await uploading
        assert await exchange.whole() == b"ok"
        await pool.close()


async def test_a_drain_ends_with_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await until(lambda: waiting)
        peer.reset()

    waiting = False
    pool = UpstreamPool()
    async with backend(script) as there:
        connection, exchange = await asked(pool, there.endpoint)
        connection.send(bytes(32 * 1024 * 1024))
        waiting = True
        with pytest.raises(UpstreamDisconnected):
            await asyncio.wait_for(connection.drain(), PATIENCE)
        with pytest.raises(UpstreamDisconnected):
            connection.send(b"more")
        assert isinstance(await exchange.failed(), UpstreamDisconnected)
        await pool.close()


@pytest.mark.parametrize(
    ("begun", "error"),
    [
        (b"", UpstreamDisconnected),
        (b"HTTP/1.1 200 OK\r\nContent-", UpstreamDisconnected),
        (b"HTTP/1.1 garbage\r\n\r\n", RemoteProtocolError),
    ],
)
async def test_no_head_comes(begun: bytes, error: type[Exception]) -> None:
    pool = UpstreamPool()
    async with backend(says(begun)) as there:
        connection, exchange = await asked(pool, there.endpoint)
        assert isinstance(await exchange.failed(), error)
        assert exchange.final is None
        assert connection.received is bool(begun)
        assert connection.closed
        await pool.close()


def breaks(response: bytes, answered: asyncio.Event) -> Script:
    """The response has to be read before the reset overtakes it."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(response)
        await answered.wait()
        peer.reset()

    return script


@pytest.mark.parametrize(
    "framing", [b"", b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n"]
)
async def test_a_reset_in_the_body_is_no_end(framing: bytes) -> None:
    pool = UpstreamPool()
    read = asyncio.Event()
    piece = b"4\r\nsome\r\n" if b"chunked" in framing else b"some"
    script = breaks(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + piece, read)
    async with backend(script) as there:
        _, exchange = await asked(pool, there.endpoint)
        exchange.on_piece = lambda _: read.set()
        error = await exchange.failed()
        assert isinstance(error, UpstreamDisconnected)
        assert "broke" in str(error)
        assert exchange.body == b"some"
        await pool.close()


async def test_a_clean_end_is_the_end_of_a_body_without_length() -> None:
    pool = UpstreamPool()
    async with backend(says(b"HTTP/1.1 200 OK\r\n\r\nall of it")) as there:
        connection, exchange = await asked(pool, there.endpoint)
        assert await exchange.whole() == b"all of it"
        assert not connection.reusable
        await pool.close()


async def test_a_half_closing_backend_has_still_answered() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(ok(b"then half-closed"))
        peer.half_close()
        await peer.gone()

    pool = UpstreamPool()
    async with backend(script) as there:
        connection, exchange = await asked(pool, there.endpoint)
        assert await exchange.whole() == b"then half-closed"
        await until(lambda: connection.closed)
        await pool.close()


async def test_what_came_before_a_failed_write_is_read() -> None:
    """The loop must not have read the response when it writes: so it is kept from reading."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 6\r\n\r\nenough")
        answered.set()
        await resetting.wait()
        peer.reset()

    answered, resetting = asyncio.Event(), asyncio.Event()
    pool = UpstreamPool()
    async with backend(script) as there:
        connection, exchange = await asked(pool, there.endpoint)
        connection.pause_reading()
        await answered.wait()
        resetting.set()
        await until(lambda: there.running == 0)
        # One write meets the reset; on uvloop its failure is told by a later turn.
        connection.send(bytes(1024))
        assert await exchange.whole() == b"enough"
        assert exchange.head.status == 413
        await until(lambda: connection.closed)
        await pool.close()


async def test_failing_it_tells_the_exchange_the_reason() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    pool = UpstreamPool()
    async with backend(script) as there:
        connection, exchange = await asked(pool, there.endpoint)
        because = ValueError("because")
        connection.fail(because)
        assert exchange.error is because
        assert connection.closed
        assert not connection.reusable
        # And it is told once.
        await until(lambda: there.running == 0)
        connection.fail(KeyError())
        assert exchange.error is because
        await pool.close()


async def test_a_connection_that_was_dropped_tells_nobody() -> None:
    pool = UpstreamPool()
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.gone()
        gone.set()

    async with backend(script) as there:
        connection, exchange = await asked(pool, there.endpoint)
        connection.drop()
        await asyncio.wait_for(gone.wait(), PATIENCE)
        assert (exchange.error, exchange.complete) == (None, False)
        await pool.close()


async def test_it_says_what_it_is_doing() -> None:
    pool = UpstreamPool()
    async with backend(serves(ok())) as there:
        connection = await pool.acquire(there.endpoint)
        where = str(there.endpoint)
        assert repr(connection) == f"<UpstreamConnection {where} idle>"
        assert await use(connection) == b"ok"
        assert repr(connection) == f"<UpstreamConnection {where} done>"
        connection.drop()
        assert repr(connection) == f"<UpstreamConnection {where} closed>"
        await pool.close()


async def test_small_writes_are_not_held_back() -> None:
    pool = UpstreamPool()
    async with backend(serves(ok())) as there:
        connection = await pool.acquire(there.endpoint)
        transport = connection._transport
        assert transport is not None
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await pool.close()


async def test_an_aborted_response_does_not_wait_for_the_garbage_collector() -> None:
    """Else a storm of clients that leave holds the memory of all their answers."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await peer.gone()

    def held() -> int:
        kinds = (UpstreamConnection, ChunkedReader, Recording)
        return sum(isinstance(one, kinds) for one in gc.get_objects())

    pool = UpstreamPool()
    gc.collect()
    gc.disable()
    try:
        async with backend(script) as there:
            before = held()
            connection, exchange = await asked(pool, there.endpoint)
            await exchange.answered()
            assert held() == before + 3
            pool.discard(connection)
            del connection, exchange
            await until(lambda: held() == before)
            await pool.close()
    finally:
        gc.enable()
