"""One response's bytes: status line, headers as given, and the framing that HTTP requires.

It makes bytes and keeps count of them; it must not know sockets, and never adds a header
for its own sake. What it adds: `Transfer-Encoding: chunked` or `Connection: close` where
the framing needs it, and `Date` where the answer has none, which RFC 9110 §6.6.1 demands
of whoever forwards a response. Never `Server`.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from enum import Enum
from typing import Final

from launcher.http.exchange import RawHeaders

#: Of this connection, not of the answer: written by us where needed, dropped otherwise.
_OURS: Final = frozenset({b"connection", b"keep-alive", b"transfer-encoding"})

_date: tuple[int, bytes] = (-1, b"")


class Framing(Enum):
    """How the client knows where the body ends (RFC 9112 §6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Outgoing:
    """The response to one request. `keep_alive` says whether the connection survives it."""

    __slots__ = ("_head_only", "_http10", "framing", "keep_alive", "remaining", "sent")

    def __init__(self, method: str, version: tuple[int, int], *, keep_alive: bool) -> None:
        self._head_only = method == "HEAD"
        self._http10 = version < (1, 1)
        self.framing = Framing.NONE
        self.keep_alive = keep_alive
        self.remaining = 0
        """Bytes of the promised Content-Length that are still to come."""
        self.sent = 0
        """Bytes of the body taken from the caller."""

    def head(self, status: int, reason: bytes, headers: RawHeaders) -> bytes:
        """The final head. Decides the framing; raises ValueError for a Content-Length among
        `headers` that is no number or isn't the only one of its value."""
        if status == 101:
            # The connection leaves HTTP: `Connection` and `Upgrade` are the answer itself.
            self.keep_alive = False
            return _lines(status, reason, list(headers))
        lines: list[tuple[bytes, bytes]] = []
        length: int | None = None
        dated = False
        for line in headers:
            name = line[0].lower()
            if name in _OURS:
                if name == b"connection" and b"close" in line[1].lower():
                    self.keep_alive = False
                continue
            if name == b"content-length":
                number = int(line[1])
                if number < 0 or (length is not None and number != length):
                    raise ValueError("contradictory Content-Length in a response")
                if length is not None:
                    continue
                length = number
            elif name == b"date":
                dated = True
            lines.append(line)
        if not dated:
            lines.append((b"Date", http_date()))
        if self._head_only or status in (204, 304):
            self.framing = Framing.NONE
        elif length is not None:
            self.framing = Framing.LENGTH
            self.remaining = length
        elif self._http10:
            self.framing = Framing.CLOSE
            self.keep_alive = False
        else:
            self.framing = Framing.CHUNKED
            lines.append((b"Transfer-Encoding", b"chunked"))
        if not self.keep_alive:
            lines.append((b"Connection", b"close"))
        elif self._http10:
            lines.append((b"Connection", b"keep-alive"))
        return _lines(status, reason, lines)

    def piece(self, data: bytes) -> bytes:
        """The bytes to send for a piece of the body; b"" for nothing. What goes beyond the
        Content-Length is dropped, and the connection with it."""
        self.sent += len(data)
        match self.framing:
            case Framing.NONE:
                return b""
            case Framing.LENGTH:
                if len(data) > self.remaining:
                    data = data[: self.remaining]
                    self.keep_alive = False
                self.remaining -= len(data)
                return data
            case Framing.CHUNKED:
                return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            case Framing.CLOSE:
                return data

    def end(self) -> bytes | None:
        """The bytes of a clean end, or None where there can't be one: the body was shorter
        than its Content-Length."""
        if self.framing is Framing.CHUNKED:
            return b"0\r\n\r\n"
        if self.framing is Framing.LENGTH and self.remaining:
            return None
        return b""

    @property
    def ends_visibly(self) -> bool:
        """Whether the client notices if the body merely stops before its end."""
        return self.framing is Framing.CHUNKED or (
            self.framing is Framing.LENGTH and self.remaining > 0
        )


def interim(status: int, reason: bytes, headers: RawHeaders) -> bytes:
    """An interim (1xx) response, which has no body and no framing (RFC 9110 §15.2)."""
    return _lines(status, reason, list(headers))


def http_date() -> bytes:
    """Now, as a Date header has it; made anew once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True).encode())
    return _date[1]


def _lines(status: int, reason: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    # RFC 9110 §2.5: our own version, also to an HTTP/1.0 client.
    first = b"HTTP/1.1 %d %b" % (status, reason)
    return b"\r\n".join((first, *map(b": ".join, headers), b"", b""))
