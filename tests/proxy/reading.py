"""A response's body as a test reads it: piece by piece, or to its end."""

from __future__ import annotations

from launcher.proxy.upstream import UpstreamConnection


async def read(connection: UpstreamConnection) -> bytes:
    """What comes next, and nothing behind it; b"" at the end."""
    pieces: list[bytes] = []

    def take(piece: bytes) -> bool:
        pieces.append(piece)
        return False

    await connection.relay(take)
    return b"".join(pieces)


async def rest(connection: UpstreamConnection) -> bytes:
    """All that is still to come."""
    body = b""

    def take(piece: bytes) -> bool:
        nonlocal body
        body += piece
        return True

    assert await connection.relay(take)
    return body
