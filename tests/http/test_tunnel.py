"""Tunnels between real sockets: bytes, half-closes, resets, backpressure, silence."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

import pytest

from launcher import tasks
from launcher.http.tunnel import LOUD, Tunnel, Tunnelled
from tests.proxy.awkward import PATIENCE, until

BOTH_LOOPS = True

End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def pair() -> tuple[End, asyncio.Transport]:
    """A TCP connection: the far end as streams, the near end as a transport."""
    loop = asyncio.get_running_loop()
    near: asyncio.Future[asyncio.Transport] = loop.create_future()

    class Waiting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            # uvloop's transports are no subclasses of asyncio's.
            near.set_result(cast(asyncio.Transport, transport))

    server = await loop.create_server(Waiting, "127.0.0.1", 0)
    far = await asyncio.open_connection(*server.sockets[0].getsockname())
    transport = await near
    server.close()
    return far, transport


class Rig:
    """A running tunnel, and both people at its ends."""

    def __init__(self) -> None:
        self.heard: list[bool] = []
        self.ends: list[asyncio.StreamWriter] = []

    async def dig(
        self,
        *,
        idle: float = 300.0,
        from_client: bytes = b"",
        from_backend: bytes = b"",
        backend_ended: bool = False,
    ) -> Rig:
        (self.cr, self.cw), client = await pair()
        (self.br, self.bw), backend = await pair()
        self.ends = [self.cw, self.bw]
        self.near = [client, backend]
        self.tunnel = Tunnel(client, backend, idle=idle, on_silent=self.heard.append)
        self.task = tasks.spawn(
            self.tunnel.run(
                from_client=from_client, from_backend=from_backend, backend_ended=backend_ended
            ),
            name="test",
        )
        await asyncio.sleep(0)  # it has begun
        return self

    async def done(self) -> Tunnelled:
        return await asyncio.wait_for(asyncio.shield(self.task), PATIENCE)

    async def fill_in(self) -> None:
        """Close whatever is left."""
        await tasks.cancel(self.task)
        for end in self.ends:
            end.close()
        await until(lambda: all(one.is_closing() for one in self.near))
        await asyncio.sleep(0)


async def everything(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), PATIENCE)


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


async def test_bytes_go_both_ways_those_that_came_early_first() -> None:
    rig = await Rig().dig(from_client=b"early ", from_backend=b"greeting ")
    rig.cw.write(b"late")
    rig.bw.write(b"hello")
    assert await rig.br.readexactly(10) == b"early late"
    assert await rig.cr.readexactly(14) == b"greeting hello"
    assert repr(rig.tunnel) == "<Tunnel open, 14 out, 10 in>"
    rig.cw.close()
    assert await everything(rig.br) == b""
    rig.bw.close()
    assert await rig.done() == Tunnelled(to_client=14, to_backend=10, complete=True)
    await rig.fill_in()


@pytest.mark.parametrize("first", ["client", "backend"])
async def test_a_half_close_is_kept(first: str) -> None:
    rig = await Rig().dig()
    ends = [(rig.cr, rig.cw), (rig.br, rig.bw)]
    (reader, writer), (other_reader, other_writer) = ends if first == "client" else ends[::-1]
    writer.write(b"question")
    writer.write_eof()
    assert await everything(other_reader) == b"question"
    other_writer.write(b"answer, after the question's end")
    await other_writer.drain()
    assert await reader.readexactly(6) == b"answer"
    assert not rig.task.done()
    other_writer.write_eof()
    assert await everything(reader) == b", after the question's end"
    assert (await rig.done()).complete
    await rig.fill_in()


async def test_a_half_close_outlives_backpressure() -> None:
    """Pausing and resuming must not read an end that is done a second time."""
    rig = await Rig().dig()
    rig.cw.write_eof()
    assert await everything(rig.br) == b""
    size = 24 * 1024 * 1024
    rig.bw.write(bytes(size))
    await until(lambda: rig.near[0].get_write_buffer_size() > 64 * 1024)
    assert len(await rig.cr.readexactly(size)) == size
    rig.bw.write(b"end")
    rig.bw.write_eof()
    assert await everything(rig.cr) == b"end"
    assert (await rig.done()).to_client == size + 3
    await rig.fill_in()


async def test_a_backend_that_had_ended_before_is_told() -> None:
    rig = await Rig().dig(from_backend=b"bye", backend_ended=True)
    assert await everything(rig.cr) == b"bye"
    rig.cw.write(b"still here")
    assert await rig.br.readexactly(10) == b"still here"
    rig.cw.close()
    assert (await rig.done()).complete
    await rig.fill_in()


async def test_a_reset_stays_a_reset() -> None:
    rig = await Rig().dig()
    rig.bw.write(b"x")
    await rig.cr.readexactly(1)
    reset(rig.bw)
    with pytest.raises(ConnectionResetError):
        await everything(rig.cr)
    assert not (await rig.done()).complete
    await rig.fill_in()


async def test_a_client_that_breaks_away_is_no_fault_of_the_backend() -> None:
    rig = await Rig().dig()
    reset(rig.cw)
    with pytest.raises(ConnectionResetError):
        await everything(rig.br)
    assert (await rig.done()).complete
    await rig.fill_in()


@pytest.mark.parametrize("slow", ["client", "backend"])
async def test_a_slow_end_slows_the_other(slow: str) -> None:
    rig = await Rig().dig()
    reader, writer, near = (
        (rig.cr, rig.bw, rig.near[0]) if slow == "client" else (rig.br, rig.cw, rig.near[1])
    )
    size = 48 * 1024 * 1024
    writer.write(bytes(size))
    await until(lambda: near.get_write_buffer_size() > 64 * 1024)
    await asyncio.sleep(0.2)  # in which a tunnel that doesn't hold back would swallow it all
    assert near.get_write_buffer_size() < 1024 * 1024
    assert writer.transport.get_write_buffer_size() > size // 4
    assert len(await asyncio.wait_for(reader.readexactly(size), PATIENCE)) == size
    await rig.fill_in()


async def test_cancelled_it_closes_both_at_once() -> None:
    rig = await Rig().dig()
    await tasks.cancel(rig.task)
    assert all(transport.is_closing() for transport in rig.near)
    assert await everything(rig.cr) == b""
    assert await everything(rig.br) == b""
    await rig.fill_in()


async def told(rig: Rig, what: Callable[[list[bool]], bool]) -> None:
    await until(lambda: what(rig.heard))


async def test_it_falls_silent_and_speaks_again() -> None:
    rig = await Rig().dig(idle=0.1)
    await told(rig, lambda heard: heard == [True])
    # A ping now and then is not enough, however many there are.
    for _ in range(8):
        rig.bw.write(bytes(LOUD // 8))
        await rig.cr.readexactly(LOUD // 8)
        await asyncio.sleep(0.11)
    assert rig.heard == [True]
    assert "silent" in repr(rig.tunnel)
    rig.cw.write(bytes(LOUD))
    await rig.br.readexactly(LOUD)
    await told(rig, lambda heard: heard[:2] == [True, False])
    await told(rig, lambda heard: heard[:3] == [True, False, True])
    await rig.fill_in()


async def test_both_directions_count_together() -> None:
    rig = await Rig().dig(idle=60)
    for _ in range(2):
        rig.tunnel._turn(silent=True)
        rig.cw.write(bytes(LOUD // 2))
        await rig.br.readexactly(LOUD // 2)
        assert rig.heard[-1] is True
        rig.bw.write(bytes(LOUD // 2))
        await rig.cr.readexactly(LOUD // 2)
        await told(rig, lambda heard: heard[-1] is False)
    await rig.fill_in()
