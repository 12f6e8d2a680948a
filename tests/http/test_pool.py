"""The pool against real servers: reuse, staleness, forgetting, TLS, and nothing left open."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from launcher import tasks
from launcher.http.endpoint import Endpoint
from launcher.http.errors import ConnectTimeout, UpstreamDisconnected
from launcher.http.pool import UpstreamPool
from tests.http.recording import asked, use
from tests.proxy.awkward import Peer, backend, free_port, ok, serves, until

BOTH_LOOPS = True


async def test_a_connection_is_used_again() -> None:
    pool = UpstreamPool()
    async with backend(serves(ok())) as there:
        first = await pool.acquire(there.endpoint)
        assert (pool.open_connections, pool.idle_connections) == (1, 0)
        assert await use(first) == b"ok"
        pool.release(first)
        assert (pool.open_connections, pool.idle_connections) == (1, 1)
        assert await pool.acquire(there.endpoint) is first
        assert pool.idle_connections == 0
        assert await use(first) == b"ok"
        assert (there.connections, first.exchanges) == (1, 2)
        pool.release(first)
        await pool.close()
    assert repr(pool) == "<UpstreamPool 0 open, 0 idle>"


async def test_the_one_used_last_is_given_first_and_endpoints_dont_mix() -> None:
    pool = UpstreamPool()
    async with backend(serves(ok())) as one, backend(serves(ok())) as two:
        connections = [await pool.acquire(one.endpoint) for _ in range(3)]
        for connection in connections:
            await use(connection)
            pool.release(connection)
        assert pool.idle_connections == 3
        other = await pool.acquire(two.endpoint)
        assert other not in connections
        assert await pool.acquire(one.endpoint) is connections[-1]
        await pool.close()


async def test_a_fresh_one_takes_an_idle_ones_place() -> None:
    pool = UpstreamPool()
    async with backend(serves(ok())) as there:
        old = await pool.acquire(there.endpoint)
        await use(old)
        pool.release(old)
        new = await pool.acquire(there.endpoint, fresh=True)
        assert new is not old
        assert new.exchanges == 0
        assert old.closed
        assert (pool.open_connections, pool.idle_connections) == (1, 0)
        await pool.close()


async def test_idle_ones_close_when_their_time_is_over() -> None:
    pool = UpstreamPool(idle=0.05)
    async with backend(serves(ok())) as there:
        pair = [await pool.acquire(there.endpoint) for _ in range(2)]
        for connection in pair:
            await use(connection)
            pool.release(connection)
        await until(lambda: pool.open_connections == 0)
        assert all(connection.closed for connection in pair)
        await until(lambda: there.running == 0)
        # And again after the first sweep found nothing more to do.
        again = await pool.acquire(there.endpoint)
        await use(again)
        pool.release(again)
        await until(lambda: pool.open_connections == 0)
        await pool.close()


async def test_one_that_the_backend_closed_is_never_given() -> None:
    closing = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())
        if peer.number == 0:
            await closing.wait()
        else:
            await peer.gone()

    pool = UpstreamPool()
    async with backend(script) as there:
        first = await pool.acquire(there.endpoint)
        await use(first)
        pool.release(first)
        closing.set()
        await until(lambda: there.running == 0)
        second = await pool.acquire(there.endpoint)
        assert second is not first
        assert await use(second) == b"ok"
        await pool.close()


async def test_bytes_that_nobody_asked_for_close_an_idle_one() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())
        await peer.send(ok(b"for whom?"))
        await peer.gone()

    pool = UpstreamPool()
    async with backend(script) as there:
        first = await pool.acquire(there.endpoint)
        await use(first)
        pool.release(first)
        await until(lambda: pool.open_connections == 0)
        await pool.close()


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"ok", b"Connection: close"),
        ok() + b"surplus",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_those_that_cant_carry_another_exchange_are_closed(answer: bytes) -> None:
    pool = UpstreamPool()
    async with backend(serves(answer)) as there:
        connection = await pool.acquire(there.endpoint)
        assert await use(connection) == b"ok"
        pool.release(connection)
        assert (pool.open_connections, pool.idle_connections) == (0, 0)
        assert connection.closed
        await pool.close()


async def test_one_released_in_the_middle_is_closed() -> None:
    pool = UpstreamPool()
    async with backend(serves(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")) as there:
        connection, exchange = await asked(pool, there.endpoint)
        await exchange.answered()
        pool.release(connection)
        assert pool.open_connections == 0
        assert connection.closed
        await pool.close()


async def test_one_whose_request_was_not_sent_to_its_end_is_closed() -> None:
    pool = UpstreamPool()
    async with backend(serves(ok())) as there:
        connection, exchange = await asked(pool, there.endpoint)
        connection.sending = True
        assert await exchange.whole() == b"ok"
        pool.release(connection)
        assert pool.open_connections == 0
        await pool.close()


async def test_a_stopped_backend_keeps_no_connection() -> None:
    pool = UpstreamPool()
    async with backend(serves(ok())) as there:
        idle, busy = [await pool.acquire(there.endpoint) for _ in range(2)]
        await use(idle)
        pool.release(idle)
        pool.forget(there.endpoint)
        assert idle.closed
        assert (pool.open_connections, pool.idle_connections) == (1, 0)
        # Started again under the same address: what is in use is still of the old one.
        new = await pool.acquire(there.endpoint)
        await use(new)
        pool.release(new)
        await use(busy)
        pool.release(busy)
        assert busy.closed
        assert (pool.open_connections, pool.idle_connections) == (1, 1)
        pool.forget(Endpoint("127.0.0.1", 1))
        await pool.close()


async def test_once_closed_it_gives_and_holds_nothing() -> None:
    pool = UpstreamPool()
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.gone()
        gone.set()

    async with backend(script) as there:
        connection, exchange = await asked(pool, there.endpoint)
        await pool.close()
        assert connection.closed
        assert pool.open_connections == 0
        await gone.wait()
        # Who waited on it was told to stop by whoever closes the pool.
        assert (exchange.error, exchange.complete) == (None, False)
        with pytest.raises(UpstreamDisconnected):
            await pool.acquire(there.endpoint)


async def test_nobody_there() -> None:
    pool = UpstreamPool()
    with pytest.raises(ConnectionRefusedError):
        await pool.acquire(Endpoint("127.0.0.1", free_port()))
    assert pool.open_connections == 0
    await pool.close()


async def test_a_handshake_that_never_ends_has_a_deadline() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    pool = UpstreamPool(connect_timeout=0.1)
    async with backend(script) as there:
        silent = Endpoint(there.endpoint.host, there.endpoint.port, "https")
        with pytest.raises(ConnectTimeout, match=r"0\.1 s"):
            await pool.acquire(silent)
        assert pool.open_connections == 0
    await pool.close()


async def test_cancelled_at_any_moment_of_connecting_nothing_stays_open() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    pool = UpstreamPool()
    async with backend(script) as there:
        for turns in range(12):
            connecting = tasks.spawn(pool.acquire(there.endpoint), name="test")
            for _ in range(turns):
                await asyncio.sleep(0)
            if connecting.done():
                pool.discard(connecting.result())
            await tasks.cancel(connecting)
            if not connecting.cancelled():
                pool.discard(connecting.result())
        await until(lambda: pool.open_connections == 0 and there.running == 0)
    await pool.close()


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    pool = UpstreamPool()
    async with backend(serves(ok(b"unix")), unix=str(tmp_path / "s")) as there:
        connection = await pool.acquire(there.endpoint)
        assert await use(connection) == b"unix"
        pool.release(connection)
        assert await pool.acquire(there.endpoint) is connection
        await pool.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of `model.test`, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    made = subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=model.test -addext subjectAltName=DNS:model.test -keyout - -out -".split(),
        check=True,
        capture_output=True,
    )
    path.write_bytes(made.stdout)
    return path


async def test_tls_verifies_the_name_it_is_told(certificate: Path) -> None:
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    pool = UpstreamPool(tls=trusting)
    async with backend(serves(ok(b"secret")), tls=serving, server_name="model.test") as there:
        connection = await pool.acquire(there.endpoint)
        assert await use(connection) == b"secret"
        pool.release(connection)
        assert await pool.acquire(there.endpoint) is connection
        assert await use(connection) == b"secret"
        pool.discard(connection)
        nameless = Endpoint(there.endpoint.host, there.endpoint.port, "https")
        with pytest.raises(ssl.SSLCertVerificationError):
            await pool.acquire(nameless)
        assert pool.open_connections == 0
        await pool.close()
        stranger = UpstreamPool()
        with pytest.raises(ssl.SSLCertVerificationError):
            await stranger.acquire(there.endpoint)
        await stranger.close()


async def test_an_endpoint_within_the_process_is_reached_by_a_socket_pair() -> None:
    ours, theirs = socket.socketpair()
    pool = UpstreamPool()
    here = Endpoint(unix_path="within")
    pool.openers[here] = lambda: ours

    async def answer() -> None:
        reader, writer = await asyncio.open_connection(sock=theirs)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"from within"))
        await reader.read()
        writer.close()

    answering = tasks.spawn(answer(), name="test")
    connection = await pool.acquire(here)
    assert await use(connection) == b"from within"
    pool.release(connection)
    assert await pool.acquire(here) is connection
    await pool.close()
    await answering
