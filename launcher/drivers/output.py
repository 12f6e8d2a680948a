"""What a backend printed: the engine's log framing undone, and the last lines of it.

Pure: bytes in, lines out. Redaction is for whoever shows them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

MAX_LINE = 2000
"""Characters; what is longer loses its beginning."""

_FRAME_HEADER = 8


def demultiplex(data: bytes) -> bytes:
    """The payloads of the engine's stdout/stderr frames, in order; a cut last frame is kept.

    Each frame is one byte of stream number, three zeros, a big-endian length, the payload
    (Docker Engine API, ContainerAttach, "Stream format").
    """
    pieces: list[bytes] = []
    at = 0
    while at + _FRAME_HEADER <= len(data):
        size = int.from_bytes(data[at + 4 : at + _FRAME_HEADER], "big")
        at += _FRAME_HEADER
        pieces.append(data[at : at + size])
        at += size
    return b"".join(pieces)


def clean(line: bytes) -> str:
    """A line for people: of a progress bar drawn with carriage returns, its last picture."""
    drawn = [part for part in line.split(b"\r") if part.strip()]
    text = (drawn[-1] if drawn else b"").decode("utf-8", "replace").rstrip()
    return text if len(text) <= MAX_LINE else f"…{text[-MAX_LINE:]}"


def last_lines(data: bytes, lines: int) -> tuple[str, ...]:
    """The last non-empty lines, oldest first."""
    return _last((clean(line) for line in data.split(b"\n")), lines)


def _last(found: Iterable[str], lines: int) -> tuple[str, ...]:
    return tuple(deque((line for line in found if line), maxlen=lines))


class Ring:
    """The end of an output: bounded in lines and in bytes, whatever is fed to it."""

    def __init__(
        self,
        on_line: Callable[[str], None],
        *,
        max_lines: int = 500,
        max_bytes: int = 128 * 1024,
    ) -> None:
        self._on_line = on_line
        self._max_bytes = max_bytes
        self._lines: deque[str] = deque(maxlen=max_lines)
        self._size = 0
        self._partial = b""

    def __repr__(self) -> str:
        return f"<Ring {len(self._lines)} lines, {self._size} characters>"

    def feed(self, data: bytes) -> None:
        """Whatever came through the pipe; complete lines go to `on_line` as well."""
        *whole, self._partial = (self._partial + data).split(b"\n")
        # A line that never ends must not grow for ever.
        self._partial = self._partial[-4 * MAX_LINE :]
        for line in whole:
            self._keep(clean(line))

    def end(self) -> None:
        """Nothing follows: a last line without its newline counts."""
        rest, self._partial = self._partial, b""
        self._keep(clean(rest))

    def tail(self, lines: int) -> tuple[str, ...]:
        """The last lines, oldest first, an unfinished one included."""
        return _last(self._all(), lines)

    def _all(self) -> Iterator[str]:
        yield from self._lines
        yield clean(self._partial)

    def _keep(self, line: str) -> None:
        if not line:
            return
        if len(self._lines) == self._lines.maxlen:
            self._size -= len(self._lines.popleft())
        self._lines.append(line)
        self._size += len(line)
        while self._size > self._max_bytes:
            self._size -= len(self._lines.popleft())
        self._on_line(line)
