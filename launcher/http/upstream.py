"""One connection to a backend: an asyncio.Protocol that carries one exchange after the other.

It writes what it is given and hands out heads and pieces as they come, both with
backpressure. It must not know routes, plans or clients; the pool says when it is reused.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

from launcher.http.endpoint import Endpoint
from launcher.proxy.response import BadResponse, ResponseHead, ResponseReader

#: Bytes of a body held for a client that is slower than the backend, before it is slowed down.
HIGH_WATER: Final = 64 * 1024
#: At most this much is read from a connection whose writing side broke (see `_rescue`).
_RESCUED: Final = 256 * 1024


class Disconnected(ConnectionError):
    """The connection to the backend is gone."""


class UpstreamConnection(asyncio.Protocol):
    """An open connection. `begin` before each exchange; one task reads, one may write."""

    __slots__ = (
        "_drained",
        "_ended",
        "_error",
        "_loop",
        "_on_lost",
        "_paused",
        "_poll",
        "_reader",
        "_reading_paused",
        "_take",
        "_transport",
        "_waiter",
        "endpoint",
        "exchanges",
        "idle_since",
        "received",
        "sending",
    )

    def __init__(
        self, endpoint: Endpoint, on_lost: Callable[[UpstreamConnection], None] | None = None
    ) -> None:
        self.endpoint = endpoint
        self.exchanges = 0
        """How many were begun on it."""
        self.idle_since = 0.0
        self.received = False
        """A byte of the current response has come."""
        self.sending = False
        """Set by the sender while a part of the request is still to be sent."""
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None
        """Who gets the response's pieces as they come."""
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self._reading_paused = False
        self._ended = False
        self._poll: select.poll | None = None

    def __repr__(self) -> str:
        state = "closed" if self.closed else repr(self._reader) if self._reader else "idle"
        return f"<UpstreamConnection {self.endpoint} {state}>"

    # -- for the pool --------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Nothing can be sent on it."""
        return self._transport is None or self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """The exchange ended so that another may follow: both sides whole, nothing more."""
        reader = self._reader
        return (
            reader is not None
            and reader.complete
            and reader.keep_alive
            and not reader.surplus
            and not reader.buffered
            and not self.sending
            and self._error is None
            and self._transport is not None
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()
        )

    def rest(self, now: float) -> None:
        """No exchange runs; what comes now closes it."""
        self._reader = None
        self.idle_since = now
        if self._reading_paused:
            self._resume()

    def stale(self) -> bool:
        """Whether an idle connection turns out to be dead, also where the loop has not read the
        end yet: the kernel is asked."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(
                transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP
            )
        return bool(self._poll.poll(0))

    def abort(self) -> None:
        """Close at once; what wasn't sent is dropped. Who waits meets Disconnected."""
        if self._transport is not None:
            self._transport.abort()

    def drop(self) -> None:
        """Close at once; nobody will ask any more what went wrong."""
        # An error that was raised holds the frames it went through, and those hold us: together
        # they would wait for the garbage collector, with all that an upload had buffered.
        self._error = None
        self.abort()

    # -- an exchange ---------------------------------------------------------------------

    def begin(self, method: str, *, upgrade: bool = False) -> None:
        """Expect the response to a request that is sent next."""
        self.exchanges += 1
        self.received = False
        self._reader = ResponseReader(method, upgrade=upgrade)

    def send(self, data: bytes) -> None:
        """Write without waiting. Raises Disconnected where nothing of it can leave."""
        if self._error is not None:
            raise self._error
        if self._transport is None or self._transport.is_closing():
            raise Disconnected("it closed the connection")
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the backend has taken enough of what was sent. One task at a time."""
        if self._paused and not self.closed:
            self._drained = self._loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None
        if self._error is not None:
            raise self._error

    async def next_head(self) -> ResponseHead:
        """The next interim or final head. Raises BadResponse, ConnectionError, or what was
        given to `fail`."""
        reader = self._reader
        assert reader is not None
        while not reader.heads:
            if self._error is not None:
                raise self._error
            await self._wait()
        return reader.heads.pop(0)

    async def relay(self, take: Callable[[bytes], bool]) -> bool:
        """Hand on the body's pieces as they come, in the very turn of the loop. True: all of
        it was taken. False: `take` said so, since whoever it writes to is behind; what comes
        is held until the next call. Raises as `next_head` does, after what came before the
        fault, and what `take` raises."""
        reader = self._reader
        assert reader is not None
        behind = False
        while not behind:
            if reader.pieces:
                behind = not take(reader.take())
                if self._reading_paused:
                    self._resume()
            if reader.complete:
                return True
            if self._error is not None:
                raise self._error
            if not behind:
                self._take = take
                try:
                    await self._wait()
                finally:
                    behind = self._take is None
                    self._take = None
        return reader.complete and not reader.pieces

    def fail(self, error: Exception) -> None:
        """End the exchange from this side: whoever waits meets `error`."""
        if self._error is None:
            self._error = error
        self._wake()
        self.abort()

    def detach(self) -> tuple[asyncio.Transport, bytes, bool]:
        """After a 101: the transport, what came behind the head, and whether the backend has
        ended its side already. The caller sets another protocol before it awaits anything.
        Raises Disconnected where the backend is gone."""
        reader, transport = self._reader, self._transport
        if reader is None or transport is None or transport.is_closing():
            raise Disconnected("it closed the connection")
        leftover, reader.leftover = reader.leftover, b""
        if self._reading_paused:
            self._resume()
        return transport, leftover, self._ended

    # -- called by the loop --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected (with TLS: the handshake is done)."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of the response; without an exchange they belong to nothing."""
        reader = self._reader
        if reader is None:
            self.abort()
            return
        if self._error is not None:
            return
        self.received = True
        try:
            reader.feed(data)
        except BadResponse as error:
            self._error = error
            self.abort()
        if self._take is not None and reader.pieces:
            try:
                more = self._take(reader.take())
            except Exception as error:  # noqa: BLE001 - met by who waits in `relay`
                self.fail(error)
                return
            if not more:
                self._take = None
            elif not reader.complete and self._error is None:
                return
        if (
            reader.buffered > HIGH_WATER or len(reader.leftover) > HIGH_WATER
        ) and not self._reading_paused:
            self._reading_paused = True
            if self._transport is not None:
                self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The backend closed its side. Unless HTTP is over (101), so does the transport then."""
        reader = self._reader
        self._ended = True
        if reader is not None and reader.switched:
            return self._transport is not None and self._transport.can_write_eof()
        if reader is not None and self._error is None:
            try:
                reader.end()
            except ConnectionError as error:
                self._error = error
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by either side; `exc` where it ended badly. A body that ends with the
        connection is whole only where a clean end came before (`eof_received`)."""
        reader = self._reader
        if reader is not None and not reader.complete and self._error is None:
            self._error = self._rescue() if isinstance(exc, OSError) else None
            if self._error is None and not reader.complete:
                self._error = Disconnected(
                    "it closed the connection" if exc is None else f"it broke the connection: {exc}"
                )
        if reader is not None:
            reader.close()
        self._transport = None
        self._paused = False
        self._wake()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._on_lost is not None:
            self._on_lost(self)

    def pause_writing(self) -> None:
        """The backend is behind."""
        self._paused = True

    def resume_writing(self) -> None:
        """The backend has caught up."""
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # -- inside --------------------------------------------------------------------------

    def _resume(self) -> None:
        self._reading_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _rescue(self) -> BadResponse | None:
        """Read what the kernel still holds of the response; the fault that was found in it.

        A backend that refuses an upload answers and closes; a write then fails, and the loop
        drops the connection unread, although Linux keeps what had come before the reset. The
        socket is closed only after `connection_lost`.
        """
        reader, transport = self._reader, self._transport
        if reader is None or transport is None or transport.get_extra_info("ssl_object"):
            return None
        sock = transport.get_extra_info("socket")
        taken = 0
        while sock is not None and sock.fileno() >= 0 and taken < _RESCUED and not reader.complete:
            try:
                data = os.read(sock.fileno(), HIGH_WATER)
            except OSError:
                # Nothing there (would block), or the reset itself.
                break
            if not data:
                break
            taken += len(data)
            self.received = True
            try:
                reader.feed(data)
            except BadResponse as error:
                return error
        return None


def reset(transport: asyncio.Transport) -> None:
    """Close so that the other side sees a reset and not an end."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing() and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
