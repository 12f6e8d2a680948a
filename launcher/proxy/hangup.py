"""Noticing a client that leaves while nobody reads what it sent.

A connection whose reading is paused, since its request's body is large and not wanted yet,
says nothing of a hang-up by itself. It has to be looked at; and since a client's FIN stands
behind all that its kernel had still to send, some of it has to be read to get there. It must
not know HTTP.
"""

from __future__ import annotations

import asyncio
import select
from typing import Final

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


def hung_up(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer closed or reset the connection; data that nobody has read doesn't hide
    it (POLLRDHUP), as it would from a read with MSG_PEEK."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return False
    look = select.poll()
    look.register(sock.fileno(), _HUNG_UP)
    return any(events & _HUNG_UP for _, events in look.poll(0))
