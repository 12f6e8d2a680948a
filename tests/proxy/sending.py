"""A request whose body comes piece by piece."""

from __future__ import annotations

from typing import cast

from launcher.http.server import Request


class Sending:
    """What a body asks of a request: a client that sends these pieces; an exception is raised in
    its turn."""

    def __init__(self, *pieces: bytes | Exception, length: int | None = None) -> None:
        self.chunked = length is None
        self.content_length = -1 if length is None else length
        self.left_to_send = list(pieces)
        self.reads = 0
        self.body_read = 0

    @property
    def request(self) -> Request:
        """As one of the http package's."""
        return cast(Request, self)

    async def read(self) -> bytes:
        self.reads += 1
        if not self.left_to_send:
            return b""
        piece = self.left_to_send.pop(0)
        if isinstance(piece, Exception):
            raise piece
        self.body_read += len(piece)
        return piece


def sending(*pieces: bytes | Exception, length: int | None = None) -> Request:
    """A request whose client sends these pieces."""
    return Sending(*pieces, length=length).request
