"""Looking for a hang-up past unread data, on real sockets. The whole way is in
test_connection.py."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from launcher.http.server import hung_up

BOTH_LOOPS = True


@pytest.mark.parametrize("how", ["nothing", "half-close", "close", "reset"])
async def test_a_hang_up_shows_behind_unread_data(how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
        asyncio.Protocol, accepted
    )
    transport.pause_reading()
    client.sendall(b"unread")
    assert not hung_up(transport)
    match how:
        case "half-close":
            client.shutdown(socket.SHUT_WR)
        case "close":
            client.close()
        case "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        case _:
            pass
    assert hung_up(transport) is (how != "nothing")
    client.close()
    transport.abort()
    await asyncio.sleep(0)
