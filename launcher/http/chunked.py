"""Chunked bodies (RFC 9112 §7.1), in however many pieces they come; trailers are dropped.

llhttp doesn't tell where a body ends within what it was fed, and what follows the end is another
request. So the chunks are walked here, as strictly: hexadecimal digits, CRLF and nothing else.
"""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb'"(?:[^\x00-\x08\x0a-\x1f\x7f"\\]|\\[^\x00-\x08\x0a-\x1f\x7f])*"'
#: Extensions without blanks in them, as llhttp takes them too.
_SIZE_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:;%b(?:=(?:%b|%b))?)*)" % (_TOKEN, _TOKEN, _QUOTED)
)
#: One without extensions, which is followed as a rule by its whole chunk.
_PLAIN_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
#: What may still become one.
_SIZE_BEGUN: Final = re.compile(rb"[0-9A-Fa-f]{1,16}(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?\r?")
#: Fields that frame a message have no place behind it (RFC 9110 §6.5.1).
_TRAILER: Final = re.compile(
    rb"(?!content-length:|transfer-encoding:)%b:[^\x00-\x08\x0a-\x1f\x7f]*" % _TOKEN, re.IGNORECASE
)

#: Bytes of a chunk's first line, of all extensions of a body, and of all trailers.
_LONGEST_LINE: Final = 1024
_MOST_EXTENSIONS: Final = 4096
_MOST_TRAILERS: Final = 16 * 1024

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkError(ValueError):
    """The body isn't chunked as it has to be; says why, without its bytes."""


class TrailersTooLarge(ChunkError):
    """Nobody has to hold so many trailers in memory."""


class ChunkedReader:
    """Takes chunks apart."""

    __slots__ = ("_extensions", "_left", "_line", "_state", "_trailers")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0
        self._line = b""
        self._extensions = 0
        self._trailers = 0

    @property
    def done(self) -> bool:
        """The body has ended."""
        return self._state == _DONE

    @property
    def between_chunks(self) -> bool:
        """All chunks that have begun are whole, and the last one hasn't come."""
        return self._state == _SIZE and not self._line

    def feed(self, data: bytes, pieces: list[bytes]) -> int:
        """Append the payload in `data` to `pieces`; return the index behind the body's end, or
        len(data) where it goes on. Raises ChunkError; what came before the fault is appended."""
        at, end = 0, len(data)
        while at < end:
            state = self._state
            if state == _DATA:
                stop = min(end, at + self._left)
                pieces.append(data if stop - at == end else data[at:stop])
                self._left -= stop - at
                at = stop
                if not self._left:
                    self._state = _DATA_END
            elif state == _DONE:
                break
            else:
                if state == _SIZE and not self._line and (plain := _PLAIN_SIZE.match(data, at)):
                    start = plain.end()
                    stop = start + int(plain[1], 16)
                    if start < stop and data[stop : stop + 2] == b"\r\n":
                        pieces.append(data[start:stop])
                        at = stop + 2
                        continue
                # A line, or the line end behind a chunk.
                newline = data.find(b"\n", at)
                if newline < 0:
                    self._line += data[at:]
                    self._check_length()
                    return end
                line = self._line + data[at : newline + 1]
                self._line = b""
                at = newline + 1
                if line[-2:] != b"\r\n":
                    raise ChunkError("a line of a chunked body has to end in CRLF")
                self._take(line[:-2])
        return at

    def _check_length(self) -> None:
        """Refuse early what can't become a line that is allowed."""
        line = self._line
        if self._state == _DATA_END:
            if line != b"\r":
                raise ChunkError("a chunk isn't as long as it says")
        elif self._state == _SIZE:
            if len(line) > _LONGEST_LINE:
                raise ChunkError("the first line of a chunk is too long")
            if not _SIZE_BEGUN.fullmatch(line):
                raise ChunkError("a chunk's size is a hexadecimal number")
        elif self._trailers + len(line) > _MOST_TRAILERS:
            raise TrailersTooLarge("the trailers are too long")

    def _take(self, line: bytes) -> None:
        if self._state == _SIZE:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise ChunkError("a chunk's size is a hexadecimal number")
            digits, extension = match.groups()
            self._extensions += len(extension)
            if len(line) > _LONGEST_LINE or self._extensions > _MOST_EXTENSIONS:
                raise ChunkError("the chunk extensions are too long")
            self._left = int(digits, 16)
            self._state = _DATA if self._left else _TRAILERS
        elif self._state == _DATA_END:
            if line:
                raise ChunkError("a chunk isn't as long as it says")
            self._state = _SIZE
        elif not line:
            self._state = _DONE
        else:
            self._trailers += len(line) + 2
            if self._trailers > _MOST_TRAILERS:
                raise TrailersTooLarge("the trailers are too long")
            if not _TRAILER.fullmatch(line):
                raise ChunkError("a trailer isn't a header line")


def whole_chunks(data: bytes) -> int:
    """Return how many bytes of payload `data` holds where it is whole chunks in the plainest
    spelling and not the last one, so that it can be passed on as it is; else 0."""
    at, payload, end = 0, 0, len(data)
    while at < end:
        line_end = data.find(b"\r\n", at, at + 10)
        if line_end < 0:
            return 0
        digits = data[at:line_end]
        if not digits.isalnum() or b"x" in digits.lower():
            # Python reads `0x5`, too, which is another number to others.
            return 0
        try:
            size = int(digits, 16)
        except ValueError:
            return 0
        at = line_end + 4 + size
        if not size or at > end or data[at - 2 : at] != b"\r\n":
            return 0
        payload += size
    return payload
