"""An exchange whose client sends a body, piece by piece."""

from __future__ import annotations

from tests.proxy.fake_exchange import FakeExchange, request


class Sending(FakeExchange):
    """A client that sends these pieces; an exception is raised in its turn."""

    def __init__(self, *pieces: bytes | Exception, length: int | None = None) -> None:
        super().__init__(
            request("POST", content_length=length, chunked=length is None),
        )
        self.left_to_send = list(pieces)
        self.reads = 0

    async def read(self) -> bytes:
        self.reads += 1
        if not self.left_to_send:
            return b""
        piece = self.left_to_send.pop(0)
        if isinstance(piece, Exception):
            raise piece
        self.body_read += len(piece)
        return piece
