"""One connection against scripted backends: flow control, ends and breaks, rescue."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from launcher import tasks
from launcher.http.endpoint import Endpoint
from launcher.http.exchange import ClientGone
from launcher.proxy.pool import UpstreamPool
from launcher.proxy.response import BadResponse, ResponseReader, Truncated
from launcher.proxy.upstream import HIGH_WATER, Disconnected, UpstreamConnection
from tests.proxy.awkward import PATIENCE, Peer, Script, backend, ok, says, serves, until
from tests.proxy.reading import read, rest

BOTH_LOOPS = True

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def asked(pool: UpstreamPool, endpoint: Endpoint) -> UpstreamConnection:
    connection = await pool.acquire(endpoint)
    connection.begin("GET")
    connection.send(REQUEST)
    return connection


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
        connection = await asked(pool, there.endpoint)
        assert (await connection.next_head()).status == 200
        for piece in (b"one", b"two", b"three"):
            assert await asyncio.wait_for(read(connection), PATIENCE) == piece
            taken.set()
        assert await read(connection) == b""
        assert connection.reusable
        await pool.close()


async def test_a_reader_that_waits_slows_the_backend_down() -> None:
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
        connection = await asked(pool, there.endpoint)
        await connection.next_head()
        reader = connection._reader
        assert reader is not None
        await until(lambda: reader.buffered > HIGH_WATER)
        await asyncio.sleep(0.2)  # in which a connection that isn't paused would read it all
        assert sent < total // 2
        assert HIGH_WATER < reader.buffered < HIGH_WATER + 512 * 1024
        received = 0
        while data := await read(connection):
            received += len(data)
        assert received == total
        await pool.close()


async def test_pieces_are_handed_on_in_the_turn_in_which_they_come() -> None:
    handed: list[bytes] = []
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
    connection = UpstreamConnection(Endpoint("127.0.0.1", 9))
    connection.begin("GET")
    connection.data_received(answer)
    relayed = asyncio.ensure_future(connection.relay(lambda piece: not handed.append(piece)))
    await asyncio.sleep(0)
    connection.data_received(b"one")
    assert handed == [b"one"]
    assert not relayed.done()
    connection.data_received(b"two")
    assert handed == [b"one", b"two"]
    assert await relayed


async def test_who_is_behind_gets_nothing_more_until_it_asks() -> None:
    handed: list[bytes] = []
    connection = UpstreamConnection(Endpoint("127.0.0.1", 9))
    connection.begin("GET")
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    relayed = asyncio.ensure_future(connection.relay(lambda piece: bool(handed.append(piece))))
    await asyncio.sleep(0)
    connection.data_received(b"one")
    connection.data_received(b"two")
    assert handed == [b"one"]
    assert not await relayed
    assert handed == [b"one"]
    connection.data_received(b"end")
    assert await connection.relay(lambda piece: bool(handed.append(piece)))
    assert handed == [b"one", b"twoend"]


async def test_whose_taker_fails_meets_that_and_the_backend_is_left() -> None:
    def take(piece: bytes) -> bool:
        raise ClientGone(f"before {piece!r}")

    pool = UpstreamPool()
    sent = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        await sent.wait()
        await peer.send(b"one")
        await peer.gone()

    async with backend(script) as there:
        connection = await asked(pool, there.endpoint)
        await connection.next_head()
        relayed = asyncio.ensure_future(connection.relay(take))
        await asyncio.sleep(0)
        sent.set()
        with pytest.raises(ClientGone, match="before b'one'"):
            await asyncio.wait_for(relayed, PATIENCE)
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
        connection = await asked(pool, there.endpoint)
        uploading = tasks.spawn(upload(connection), name="test")
        await until(lambda: connection._drained is not None)
        await asyncio.sleep(0.2)  # in which a sender that isn't held back would be done
        assert sent < total
        go_on.set()
        await uploading
        assert (await connection.next_head()).status == 200
        assert await rest(connection) == b"ok"
        await pool.close()


async def test_a_drain_ends_with_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await until(lambda: waiting)
        peer.reset()

    waiting = False
    pool = UpstreamPool()
    async with backend(script) as there:
        connection = await asked(pool, there.endpoint)
        connection.send(bytes(32 * 1024 * 1024))
        waiting = True
        with pytest.raises(Disconnected):
            await asyncio.wait_for(connection.drain(), PATIENCE)
        with pytest.raises(Disconnected):
            connection.send(b"more")
        await pool.close()


@pytest.mark.parametrize(
    ("begun", "error"),
    [
        (b"", Truncated),
        (b"HTTP/1.1 200 OK\r\nContent-", Truncated),
        (b"HTTP/1.1 garbage\r\n\r\n", BadResponse),
    ],
)
async def test_no_head_comes(begun: bytes, error: type[Exception]) -> None:
    pool = UpstreamPool()
    async with backend(says(begun)) as there:
        connection = await asked(pool, there.endpoint)
        with pytest.raises(error):
            await asyncio.wait_for(connection.next_head(), PATIENCE)
        assert connection.received is bool(begun)
        await pool.close()


def breaks(response: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(response)
        # The response has to be there before the reset overtakes it.
        await asyncio.sleep(0.1)
        peer.reset()

    return script


@pytest.mark.parametrize(
    "framing", [b"", b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n"]
)
async def test_a_reset_in_the_body_is_no_end(framing: bytes) -> None:
    pool = UpstreamPool()
    piece = b"4\r\nsome\r\n" if b"chunked" in framing else b"some"
    async with backend(breaks(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + piece)) as there:
        connection = await asked(pool, there.endpoint)
        await connection.next_head()
        assert await read(connection) == b"some"
        with pytest.raises(Disconnected, match="broke"):
            await asyncio.wait_for(read(connection), PATIENCE)
        await pool.close()


async def test_a_clean_end_is_the_end_of_a_body_without_length() -> None:
    pool = UpstreamPool()
    async with backend(says(b"HTTP/1.1 200 OK\r\n\r\nall of it")) as there:
        connection = await asked(pool, there.endpoint)
        await connection.next_head()
        assert await rest(connection) == b"all of it"
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
        connection = await asked(pool, there.endpoint)
        await connection.next_head()
        assert await rest(connection) == b"then half-closed"
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
        connection = await asked(pool, there.endpoint)
        transport = connection._transport
        assert transport is not None
        transport.pause_reading()
        await answered.wait()
        resetting.set()
        await until(lambda: there.running == 0)
        # One write meets the reset; on uvloop its failure is told by a later turn.
        connection.send(bytes(1024))
        await until(lambda: connection.closed)
        head = await asyncio.wait_for(connection.next_head(), PATIENCE)
        assert head.status == 413
        assert await rest(connection) == b"enough"
        await pool.close()


async def test_failing_it_wakes_who_waits_with_the_reason() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    pool = UpstreamPool()
    async with backend(script) as there:
        connection = await asked(pool, there.endpoint)
        asyncio.get_running_loop().call_soon(connection.fail, ValueError("because"))
        with pytest.raises(ValueError, match="because"):
            await connection.next_head()
        assert connection.closed
        assert not connection.reusable
        await pool.close()


async def test_it_says_what_it_is_doing() -> None:
    pool = UpstreamPool()
    async with backend(serves(ok())) as there:
        connection = await pool.acquire(there.endpoint)
        where = str(there.endpoint)
        assert repr(connection) == f"<UpstreamConnection {where} idle>"
        connection.begin("GET")
        assert "GET head" in repr(connection)
        connection.abort()
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
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000))
        await peer.gone()

    def held() -> int:
        return sum(isinstance(one, ResponseReader) for one in gc.get_objects())

    pool = UpstreamPool()
    gc.collect()
    gc.disable()
    try:
        async with backend(script) as there:
            before = held()
            connection = await asked(pool, there.endpoint)
            await connection.next_head()
            assert held() == before + 1
            pool.discard(connection)
            del connection
            await until(lambda: held() == before)
            await pool.close()
    finally:
        gc.enable()
