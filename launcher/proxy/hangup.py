"""Noticing a client that leaves while nobody reads what it sent.

A connection whose reading is paused, since its request's body is large and not wanted yet,
says nothing of a hang-up by itself. It has to be looked at; and since a client's FIN stands
behind all that its kernel had still to send, some of it has to be read to get there. It must
not know HTTP.
"""

from __future__ import annotations

import asyncio
import select
from typing import Final, Protocol

#: How often to look while reading is paused. Seconds.
LOOK: Final = 1.0
#: How far to read ahead of a handler that doesn't read, per connection and in all. Bytes.
#: By Linux's default (tcp_wmem) no more than 4 MiB wait in a client's kernel.
READ_AHEAD: Final = 8 * 1024 * 1024
READ_AHEAD_IN_ALL: Final = 64 * 1024 * 1024

_HUNG_UP: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Allowance:
    """What all connections of a front together may still read ahead, in bytes."""

    __slots__ = ("left",)

    def __init__(self, total: int = READ_AHEAD_IN_ALL) -> None:
        self.left = total

    def take(self) -> int:
        """READ_AHEAD if there is still so much, else 0; to be given back."""
        if self.left < READ_AHEAD:
            return 0
        self.left -= READ_AHEAD
        return READ_AHEAD

    def give_back(self, size: int) -> None:
        """What `take` gave isn't needed any more."""
        self.left += size


class Deaf(Protocol):
    """A connection that may not be reading."""

    @property
    def deaf(self) -> bool:
        """It is open, and its reading is paused: it says nothing of a hang-up."""
        ...

    @property
    def holds_body(self) -> bool:
        """It is paused for a body that its handler doesn't read."""
        ...

    @property
    def body_read(self) -> int:
        """Bytes of that body which the handler has read; -1: there is no handler."""
        ...

    @property
    def wire(self) -> asyncio.Transport | None: ...

    def read_ahead(self, size: int) -> None:
        """Read on, so many bytes more."""
        ...

    def client_left(self) -> None:
        """The client hung up."""
        ...


class Watch:
    """Looks after a connection while that is deaf, once every LOOK seconds."""

    __slots__ = ("_ahead", "_allowance", "_loop", "_read", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, allowance: Allowance) -> None:
        self._loop = loop
        self._allowance = allowance
        self._timer: asyncio.TimerHandle | None = None
        self._read = -1
        self._ahead = 0

    def begin(self, connection: Deaf) -> None:
        """It has become deaf."""
        if self._timer is None:
            # Not kept: the two would wait for the garbage collector.
            self._timer = self._loop.call_later(LOOK, self._look, connection)

    def end(self) -> None:
        """Nothing more is looked at."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def forget(self) -> None:
        """The exchange is over: what was read ahead for it is given back."""
        if self._ahead:
            self._allowance.give_back(self._ahead)
            self._ahead = 0
        self._read = -1

    def _look(self, connection: Deaf) -> None:
        self._timer = None
        if not connection.deaf or connection.wire is None:
            return
        if hung_up(connection.wire):
            connection.client_left()
            return
        read = connection.body_read
        if connection.holds_body and not self._ahead and read == self._read:
            self._ahead = self._allowance.take()
            if self._ahead:
                connection.read_ahead(self._ahead)
        self._read = read
        self.begin(connection)


def hung_up(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer closed or reset the connection; data that nobody has read doesn't hide
    it (POLLRDHUP), as it would from a read with MSG_PEEK."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return False
    look = select.poll()
    look.register(sock.fileno(), _HUNG_UP)
    return any(events & _HUNG_UP for _, events in look.poll(0))
