"""Where a request's head ends, in however many pieces it comes; what is wrong with it by then.

So a head's size is known before it is whole, and what stands behind it is another's. It must
not know connections or parsers: it is given bytes.
"""

from __future__ import annotations

import re
from typing import Final

from launcher.proxy.framing import too_large
from launcher.proxy.problem import wrong_version

_END: Final = b"\r\n\r\n"
#: llhttp reads the requests of these protocols too, and calls RTSP/1.0 version 1.0.
_OTHER_PROTOCOL: Final = re.compile(rb" (?!HTTP/)[A-Z]+/[0-9.]*\r?\Z")
#: More bytes than the version at the end of a request line has.
_TAIL: Final = 32


class HeadEnd:
    """Finds the ends of a connection's heads, one after the other; `limit` is in bytes."""

    __slots__ = ("_edge", "_limit", "_line_over", "_tail", "seen")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.seen = 0
        """Bytes of a head whose end hasn't come; 0 between requests."""
        self._edge = b""
        """The last three of them, since its end may come in two parts."""
        self._tail = b""
        """Of its request line."""
        self._line_over = False

    def find(self, data: bytes) -> int | None:
        """Some more of a head: where in it the head ends, None if it doesn't. Raises LauncherError
        `http_version` where it speaks another protocol, `headers_too_large`."""
        if not self._line_over:
            self._look_at_line(data)
        at = (self._edge + data).find(_END)
        end = len(data) if at < 0 else at + len(_END) - len(self._edge)
        self.seen += end
        if self.seen > self._limit:
            raise too_large(self._limit)
        if at < 0:
            self._edge = (self._edge + data[-3:])[-3:]
            return None
        self.forget()
        return end

    def forget(self) -> None:
        """What comes next begins another head."""
        self.seen = 0
        self._edge = self._tail = b""
        self._line_over = False

    def _look_at_line(self, data: bytes) -> None:
        end = data.find(b"\n")
        self._line_over = end >= 0
        if not self._line_over:
            end = len(data)
        self._tail = (self._tail + data[max(0, end - _TAIL) : end])[-_TAIL:]
        if self._line_over and _OTHER_PROTOCOL.search(self._tail):
            raise wrong_version()
