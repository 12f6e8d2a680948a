"""Finding the `model` field of a multipart/form-data body (RFC 7578), piece by piece.

Keeps no more of the body than a delimiter's length, a part's head, and the value looked
for. It must not know HTTP beyond the parts' heads.
"""

from __future__ import annotations

import re
from typing import Final

from launcher.errors import LauncherError
from launcher.proxy.json_scan import Scanned

#: More than any part's head needs, and than any model id has.
_LONGEST_HEAD: Final = 16 * 1024
_LONGEST_VALUE: Final = 4096

_BOUNDARY: Final = re.compile(rb'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_DISPOSITION: Final = re.compile(
    rb"(?:^|\r\n)content-disposition:[ \t]*form-data[ \t]*(;[^\r\n]*)?", re.IGNORECASE
)
_NAME: Final = re.compile(rb';[ \t]*name[ \t]*=[ \t]*(?:"([^"]*)"|([^\s;"]*))', re.IGNORECASE)
_FILENAME: Final = re.compile(rb";[ \t]*filename\*?[ \t]*=", re.IGNORECASE)


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary of a Content-Type (RFC 2046 §5.1.1: 1 to 70 characters), or None."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return None
    quoted, plain = found.groups()
    boundary: bytes = quoted or plain
    return boundary


def _broken(why: str) -> LauncherError:
    return LauncherError("bad_request", f"The multipart form can't be read: {why}.")


class FormScan:
    """The state between two pieces. Raises LauncherError `bad_request`."""

    is_json = False

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter may open the body, without the line end before it.
        self._window = bytearray(b"\r\n")
        self._window_at = -2
        """Where in the body the window begins."""
        self._in_head = False
        self._over = False
        self._value_at: int | None = None
        """Where the value of the `model` part being read begins."""
        self._model: str | None = None
        self._span = (0, 0)

    def feed(self, data: bytes) -> None:
        """The next piece."""
        if self._over:
            return
        self._window += data
        while self._advance():
            pass

    def finish(self) -> Scanned:
        """The body is over: its last delimiter must have come."""
        if not self._over:
            raise _broken("its last delimiter is missing")
        return Scanned(self._model, self._span)

    def _advance(self) -> bool:
        """One step; False where more bytes are needed."""
        if self._over:
            return False
        return self._head() if self._in_head else self._to_delimiter()

    def _to_delimiter(self) -> bool:
        found = self._window.find(self._delimiter)
        if found == -1:
            if self._value_at is None:
                self._consume(max(0, len(self._window) - len(self._delimiter) + 1))
            elif len(self._window) > _LONGEST_VALUE + len(self._delimiter):
                raise _broken("its `model` is too long")
            return False
        after = found + len(self._delimiter)
        # RFC 2046 §5.1.1: `--` ends the body; blanks may stand before the line's end.
        if self._window[after : after + 2] == b"--":
            self._close_part(found)
            self._over = True
            self._window.clear()
            return False
        line_end = self._window.find(b"\r\n", after)
        if line_end == -1:
            if len(self._window) - after > _LONGEST_HEAD:
                raise _broken("a delimiter's line has no end")
            return False
        if self._window[after:line_end].strip(b" \t"):
            # A longer word that only begins like the boundary is content.
            if self._value_at is None:
                self._consume(after)
                return True
            raise _broken("its `model` holds the boundary")
        self._close_part(found)
        # The line's end stays: a part without header lines begins with an empty line.
        self._consume(line_end)
        self._in_head = True
        return True

    def _head(self) -> bool:
        end = self._window.find(b"\r\n\r\n")
        if end == -1:
            if len(self._window) > _LONGEST_HEAD:
                raise _broken("a part's head has no end")
            return False
        head = bytes(self._window[:end])
        # The last line end may open the delimiter of an empty part.
        self._consume(end + 2)
        self._in_head = False
        if _names_model(head):
            if self._model is not None:
                raise LauncherError(
                    "bad_request", "The form has more than one `model`.", param="model"
                )
            self._value_at = self._window_at + 2
        return True

    def _close_part(self, found: int) -> None:
        if self._value_at is None:
            return
        start = self._value_at - self._window_at
        try:
            self._model = self._window[start : max(start, found)].decode()
        except UnicodeDecodeError:
            raise _broken("its `model` is no UTF-8") from None
        self._span = (self._value_at, max(self._value_at, self._window_at + found))
        self._value_at = None

    def _consume(self, count: int) -> None:
        del self._window[:count]
        self._window_at += count


def _names_model(head: bytes) -> bool:
    disposition = _DISPOSITION.search(head)
    if disposition is None:
        return False
    parameters = disposition.group(1) or b""
    name = _NAME.search(parameters)
    return (
        name is not None
        and (name.group(1) or name.group(2)) == b"model"
        and not _FILENAME.search(parameters)
    )
