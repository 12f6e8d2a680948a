"""Clients that leave, and connections that leave HTTP, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from launcher.http.endpoint import Listen
from launcher.http.listener import Server
from launcher.http.server import ClientConnection, Detached, Limits, Request, Shared
from tests.http.raw_client import PATIENCE, RawClient, connect
from tests.http.recording import Wire
from tests.http.serving import LOCAL, Seen, Watched, carrying, say_ok, serving, until

BOTH_LOOPS = True
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n"


async def wait_for_ever(exchange: Request) -> None:
    await asyncio.Event().wait()


async def respond_and_wait(exchange: Request) -> None:
    await exchange.respond(200, b"OK", ())
    await exchange.write(b"part")
    await asyncio.Event().wait()


async def read_on(exchange: Request) -> None:
    while await exchange.read():
        pass


async def write_on(exchange: Request) -> None:
    await exchange.respond(200, b"OK", ())
    while True:
        await exchange.write(b"x" * 65536)


def leave(client: RawClient, how: str) -> None:
    match how:
        case "reset":
            client.reset()
        case "half-close":
            client.half_close()
        case _:
            client.writer.transport.abort()


HOW = pytest.mark.parametrize("how", ["reset", "close", "half-close"])


@HOW
@pytest.mark.parametrize("handler", [wait_for_ever, respond_and_wait, read_on, write_on])
@pytest.mark.parametrize("where", ["tcp", "unix"])
async def test_a_client_that_leaves_cancels_the_handler(
    handler: object, how: str, where: str, tmp_path: Path
) -> None:
    watched = Watched(handler)  # type: ignore[arg-type]
    at = LOCAL if where == "tcp" else Listen(unix_path=str(tmp_path / "s"))
    async with serving(watched, at=at) as (front, address), connect(address) as client:
        if handler is write_on:
            client.writer.transport.pause_reading()
        await client.send(UPLOAD[:60] + b"x" * 100 if handler is read_on else GET)
        if handler is read_on:
            await client.send(UPLOAD)
        await watched.entered.wait()
        if handler is respond_and_wait:
            await client.head()
            await client.chunk()
        leave(client, how)
        assert isinstance(await watched.ended(), asyncio.CancelledError | ConnectionError)
        await until(lambda: front.active == 0)


@HOW
async def test_a_client_that_leaves_behind_a_large_unread_body_is_noticed(how: str) -> None:
    watched = Watched(wait_for_ever)
    async with serving(watched) as (_, address), connect(address) as client:
        client.writer.write(UPLOAD)
        client.writer.write(b"x" * 600_000)
        await client.writer.drain()
        await watched.entered.wait()
        await asyncio.sleep(0.2)
        leave(client, how)
        assert isinstance(await watched.ended(), asyncio.CancelledError)


async def test_a_client_that_dies_with_its_kernels_buffers_full_is_noticed() -> None:
    watched = Watched(wait_for_ever)
    async with serving(watched) as (_, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(UPLOAD)
        with suppress(TimeoutError):
            while True:
                writer.write(b"x" * 65536)
                await asyncio.wait_for(writer.drain(), 0.2)
        # As the kernel does for a killed process: what it holds is still sent, then FIN.
        writer.transport.abort()
        assert isinstance(await watched.ended(), asyncio.CancelledError)
        assert reader.at_eof() or reader.exception() is None


async def test_a_client_that_leaves_after_its_answer_cancels_nothing() -> None:
    async def tidy(exchange: Request) -> None:
        await say_ok(exchange)
        await go_on.wait()

    go_on = asyncio.Event()
    watched = Watched(tidy)
    async with serving(watched) as (front, address), connect(address) as client:
        await client.send(GET)
        await client.response()
        client.reset()
        await asyncio.sleep(0.1)
        assert not watched.left.is_set()
        go_on.set()
        assert await watched.ended() is None
        await until(lambda: front.active == 0)


@pytest.mark.parametrize("how", ["it leaves", "it half-closed before"])
async def test_a_client_that_leaves_before_the_handler_begins(how: str) -> None:
    over = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    taken: list[Request] = []

    def take(request: Request) -> None:
        taken.append(request)
        request.carry(wait())

    shared = Shared(take, Limits())
    wire = Wire()
    connection = ClientConnection(shared)
    connection.connection_made(wire)
    connection.data_received(GET)
    connection.connection_lost(None if how == "it leaves" else OSError())
    await asyncio.wait_for(over.wait(), PATIENCE)
    await until(lambda: not shared.requests)
    assert taken[0].aborted


async def test_a_shutdown_before_the_handler_begins() -> None:
    begun = asyncio.Event()

    async def wait(request: Request) -> None:
        begun.set()
        await asyncio.Event().wait()

    front = Server(carrying(wait))
    connection = ClientConnection(front._shared)
    connection.connection_made(Wire())
    closing = asyncio.ensure_future(front.close(PATIENCE))
    await until(lambda: front._shared.closing)
    asyncio.get_running_loop().call_soon(connection.data_received, GET)
    closing.cancel()  # a second signal, in the same turn
    await until(begun.is_set)
    connection.connection_lost(None)
    with suppress(asyncio.CancelledError):
        await closing
    assert begun.is_set()
    assert not front._shared.requests


async def test_many_clients_leave_and_nothing_stays() -> None:
    async with serving(respond_and_wait) as (front, address):

        async def one(n: int) -> None:
            async with connect(address) as client:
                await client.send(GET)
                if n % 2:
                    await client.head()
                leave(client, ("reset", "close", "half-close")[n % 3])

        await asyncio.gather(*(one(n) for n in range(150)))
        await until(lambda: front.active == 0)


# -- tunnels -----------------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    """The far end of a tunnel: echoes, answers the end of input with `bye` and its own end."""

    def __init__(self, taken: Detached) -> None:
        self.transport = taken.transport
        self.lost = asyncio.get_running_loop().create_future()
        self.data_received(taken.leftover)

    def data_received(self, data: bytes) -> None:
        if data:
            self.transport.write(data.upper())

    def eof_received(self) -> bool:
        self.transport.write(b"bye")
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


SWITCH = ((b"Connection", b"Upgrade"), (b"upgrade", b"x"))


async def tunnel(exchange: Request) -> None:
    await asyncio.sleep(0.05)
    await exchange.respond(101, b"Switching Protocols", SWITCH)
    taken = exchange.detach()
    echo = Echo(taken)
    taken.transport.set_protocol(echo)
    await echo.lost


def upgrade(protocol: bytes) -> bytes:
    return (
        b"GET /t HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
        b"Upgrade: %b\r\n\r\n" % protocol
    )


@pytest.mark.parametrize("protocol", [b"websocket", b"anything/2"])
@pytest.mark.parametrize("before", [b"", GET])
async def test_a_tunnel_carries_what_came_early_and_a_half_close(
    protocol: bytes, before: bytes
) -> None:
    async def either(exchange: Request) -> None:
        await (say_ok(exchange) if exchange.head.upgrade is None else tunnel(exchange))

    watched = Watched(either)
    async with serving(watched) as (front, address), connect(address) as client:
        await client.send(before + upgrade(protocol) + b"early\r\n\r\n")
        if before:
            assert (await client.response()).status == 200
        head = await client.head()
        assert (head.status, head.headers) == (101, SWITCH)
        await client.send(b"late")
        assert await client.reader.readexactly(13) == b"EARLY\r\n\r\nLATE"
        assert front.active == 1
        client.half_close()
        assert await client.rest() == b"bye"
        await until(lambda: front.active == 0)
        assert watched.outcome is None


async def test_much_that_came_early_is_carried_too() -> None:
    async with serving(tunnel) as (_, address), connect(address) as client:
        await client.send(upgrade(b"x"))
        client.writer.write(b"e" * 3_000_000)
        assert (await client.head()).status == 101
        got = await asyncio.wait_for(client.reader.readexactly(3_000_000), PATIENCE)
        assert got == b"E" * 3_000_000


@pytest.mark.parametrize("protocol", [b"websocket", b"anything", b"h2c"])
async def test_a_declined_upgrade_stays_in_http(protocol: bytes) -> None:
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12"
        await client.send(upgrade(protocol) + post)
        assert (await client.response()).status == 200
        await client.send(b"345")
        assert (await client.response()).status == 200
        await client.send(upgrade(protocol) + GET)
        for _ in range(2):
            assert (await client.response()).status == 200
    assert seen.bodies == [b"", b"12345", b"", b""]
    assert seen.heads[0].upgrade == (None if protocol == b"h2c" else protocol)


async def test_an_ignored_upgrade_may_have_a_body() -> None:
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nContent-Length: 2\r\n\r\nhi"
        )
        answer = await client.response()
        assert (answer.status, answer.get(b"connection")) == (200, None)
    assert seen.bodies == [b"hi"]


async def test_an_upgrade_behind_the_rest_of_a_body_is_the_next_request() -> None:
    async def either(exchange: Request) -> None:
        entered.set()
        await (seen(exchange) if exchange.upgrade is None else tunnel(exchange))

    entered, seen = asyncio.Event(), Seen()
    async with serving(either) as (_, address), connect(address) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n12")
        await entered.wait()
        await client.send(b"34" + upgrade(b"anything") + b"early")
        assert (await client.response()).status == 200
        assert (await client.head()).status == 101
        assert await client.reader.readexactly(5) == b"EARLY"
    assert seen.bodies == [b"1234"]


async def test_a_shutdown_cuts_a_tunnel() -> None:
    watched = Watched(tunnel)
    async with serving(watched) as (front, address), connect(address) as client:
        await client.send(upgrade(b"x"))
        await client.head()
        await front.close(0)
        assert isinstance(await watched.ended(), asyncio.CancelledError)
        with suppress(ConnectionError):
            assert await client.rest() == b""


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for the server, and for a client that trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {key} -out {cert}".split(),
        check=True,
        capture_output=True,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    client = ssl.create_default_context(cafile=str(cert))
    return server, client


async def test_tls(certificate: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    seen = Seen()
    server, trusting = certificate
    async with serving(seen, tls=server) as (_, address):
        async with connect(address, tls=trusting) as client:
            for _ in range(2):
                await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
                assert (await client.response()).body == b"ok"
    assert seen.heads[0].scheme == "https"
    assert seen.bodies == [b"hi", b"hi"]


async def test_tls_shows_an_abort_and_a_client_that_leaves(
    certificate: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, trusting = certificate
    watched = Watched(respond_and_wait)
    async with serving(watched, tls=server) as (_, address):
        async with connect(address, tls=trusting) as client:
            await client.send(GET)
            await client.head()
            client.writer.transport.close()
            assert isinstance(await watched.ended(), asyncio.CancelledError)


async def test_a_tunnel_over_tls(certificate: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, trusting = certificate
    async with serving(tunnel, tls=server) as (front, address):
        async with connect(address, tls=trusting) as client:
            await client.send(upgrade(b"websocket") + b"early")
            assert (await client.head()).status == 101
            await client.send(b"late")
            assert await client.reader.readexactly(9) == b"EARLYLATE"
            client.writer.transport.close()
            await until(lambda: front.active == 0)


@HOW
async def test_an_unread_body_does_not_wait_for_the_garbage_collector(how: str) -> None:
    """Else a storm of clients that leave holds the memory of all their uploads."""
    entered = asyncio.Event()

    async def handler(exchange: Request) -> None:
        entered.set()
        await asyncio.Event().wait()

    def held() -> int:
        return sum(type(one) is Request for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        async with serving(handler) as (_, address), connect(address) as client:
            before = held()
            await client.send(UPLOAD + bytes(50_000))
            await entered.wait()
            assert held() == before + 1
            leave(client, how)
            await until(lambda: held() == before)
    finally:
        gc.enable()
