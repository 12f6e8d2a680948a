"""What is wrong with a request where its parser is: why it refused one, in our words and
without the client's bytes, and what it lets pass.

It must not know connections: it is given the parser's exceptions, and bytes.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp.http_exceptions import BadStatusLine, HttpProcessingError, InvalidURLError, LineTooLong

from launcher.errors import LauncherError

#: llhttp reads the requests of these protocols too, and calls RTSP/1.0 version 1.0.
_OTHER_PROTOCOL: Final = re.compile(rb" (?!HTTP/)[A-Z]+/[0-9.]*\r?\Z")
#: More bytes than the version at the end of a request line has.
_TAIL: Final = 32


class RequestLine:
    """Looks at how a request line ends, in however many pieces it comes."""

    __slots__ = ("_over", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._over = False

    def check(self, data: bytes) -> None:
        """Some more of a head. Raises LauncherError `http_version` where its line ends here
        and speaks another protocol."""
        if self._over:
            return
        end = data.find(b"\n")
        self._over = end >= 0
        if not self._over:
            end = len(data)
        self._tail = (self._tail + data[max(0, end - _TAIL) : end])[-_TAIL:]
        if self._over and _OTHER_PROTOCOL.search(self._tail):
            raise _wrong_version()


def problem_of(error: BaseException) -> LauncherError:
    """The error to answer with; one of ours is that already."""
    if isinstance(error, LauncherError):
        return error
    said = str(getattr(error, "message", "")).strip().split("\n")
    if isinstance(error, LineTooLong) or said[0].startswith("Too many headers"):
        return LauncherError(
            "headers_too_large",
            "The request's head has too many or too long fields; send fewer or shorter headers.",
        )
    if isinstance(error, InvalidURLError):
        return LauncherError(
            "bad_target",
            "The request target isn't one that HTTP allows; percent-encode what isn't printable"
            " ASCII.",
        )
    if isinstance(error, BadStatusLine) and any("Invalid HTTP version" in line for line in said):
        return _wrong_version()
    reason = said[0] if isinstance(error, HttpProcessingError) and said[0].isascii() else ""
    detail = f": {reason.strip().rstrip(':.')}" if reason else ""
    return LauncherError("bad_request", f"The request breaks HTTP's rules{detail}.")


def _wrong_version() -> LauncherError:
    return LauncherError("http_version", "Use HTTP/1.1 or HTTP/1.0.")
