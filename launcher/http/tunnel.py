"""Raw bytes both ways, after a 101: backpressure, half-closes, resets, and silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from launcher.http.server import reset_connection

#: A tunnel that carries fewer bytes than this in `idle` seconds has fallen silent: pings and
#: status lines of a page left open, not work.
LOUD: Final = 1024


@dataclass(frozen=True, slots=True)
class Tunnelled:
    """How a tunnel ended. Bytes by where they went."""

    to_client: int
    to_backend: int
    complete: bool
    """False: the backend broke the connection."""


class _Side(asyncio.Protocol):
    """One end: what comes here is written to the other."""

    __slots__ = ("_tunnel", "broken", "carried", "ended", "lost", "other", "transport")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self.other = self
        self.carried = 0
        """Bytes that came from this end."""
        self.ended = False
        """Nothing more will come from this end."""
        self.lost = False
        self.broken = False

    def data_received(self, data: bytes) -> None:
        if self.other.transport.is_closing():
            return
        self.carried += len(data)
        self.other.transport.write(data)
        self._tunnel.heard(len(data))

    def eof_received(self) -> bool:
        """This end sends no more. Returns whether to go on writing to it."""
        self.ended = True
        other = self.other
        if other.transport.is_closing():
            return False
        if other.ended or not other.transport.can_write_eof():
            # Both are done, or the other end (on TLS) can't be told in any other way.
            other.transport.close()
            return False
        other.transport.write_eof()
        # On TLS the answer makes no difference, but asyncio warns of True.
        return self.transport.can_write_eof()

    def pause_writing(self) -> None:
        # An end that is done must not be read again: it would end a second time.
        if not self.other.ended:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.ended:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.broken = exc is not None
        if not self.other.lost:
            if self.broken:
                reset_connection(self.other.transport)
            else:
                self.other.transport.close()
        self._tunnel.side_lost()


class Tunnel:
    """Carries bytes between two transports until both are closed.

    `idle` is in seconds; `on_silent` is called with True when fewer than LOUD bytes were
    carried, both ways together, for that long, and with False once LOUD are carried again.
    Less than that is a ping and doesn't count: else each would hold the backend for another
    `idle` seconds.
    """

    def __init__(
        self,
        client: asyncio.Transport,
        backend: asyncio.Transport,
        *,
        idle: float,
        on_silent: Callable[[bool], None] | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = _Side(self, client)
        self._backend = _Side(self, backend)
        self._client.other, self._backend.other = self._backend, self._client
        self._idle = idle
        self._on_silent = on_silent
        self._silent = False
        self._heard = 0
        """Bytes since `_since`; begins anew at each LOUD of them."""
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        # From here on what the connections tell is told to us.
        client.set_protocol(self._client)
        backend.set_protocol(self._backend)

    def __repr__(self) -> str:
        state = "over" if self._over.done() else "silent" if self._silent else "open"
        return f"<Tunnel {state}, {self._backend.carried} out, {self._client.carried} in>"

    @property
    def to_client(self) -> int:
        """Bytes that came for the client so far."""
        return self._backend.carried

    async def run(
        self, *, from_client: bytes, from_backend: bytes, backend_ended: bool = False
    ) -> Tunnelled:
        """Pass on what had arrived behind the heads, then all that comes. Cancelled, or left
        by an error, it closes both connections at once."""
        if self._on_silent is not None:
            self._timer = self._loop.call_later(self._idle, self._look)
        try:
            if from_client:
                self._client.data_received(from_client)
            if from_backend:
                self._backend.data_received(from_backend)
            if backend_ended:
                self._backend.eof_received()
            await self._over
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for side in (self._client, self._backend):
                if not side.lost:
                    side.transport.abort()
        return Tunnelled(
            to_client=self._backend.carried,
            to_backend=self._client.carried,
            complete=not self._backend.broken,
        )

    # -- called by the sides -------------------------------------------------------------

    def heard(self, size: int) -> None:
        """Bytes were carried."""
        self._heard += size
        if self._heard >= LOUD:
            self._heard = 0
            self._since = self._loop.time()
            if self._silent:
                self._turn(silent=False)

    def side_lost(self) -> None:
        """A connection is closed."""
        if self._client.lost and self._backend.lost and not self._over.done():
            self._over.set_result(None)

    def _look(self) -> None:
        quiet_for = self._loop.time() - self._since
        if quiet_for >= self._idle:
            self._heard = 0
            self._since = self._loop.time()
            quiet_for = 0.0
            if not self._silent:
                self._turn(silent=True)
        self._timer = self._loop.call_later(self._idle - quiet_for, self._look)

    def _turn(self, *, silent: bool) -> None:
        self._silent = silent
        if self._on_silent is not None:
            self._on_silent(silent)
