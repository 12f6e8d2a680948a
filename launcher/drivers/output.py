"""What a backend printed: the engine's log framing undone, and the last lines of it.

Bytes in, lines out. Redaction is for whoever shows them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable

MAX_LINE = 2000
"""Characters; what is longer loses its beginning."""

_FRAME_HEADER = 8


class Frames:
    """Undoes the engine's stdout/stderr frames as they come in, in whatever pieces.

    Each frame is one byte of stream number, three zeros, a big-endian length, the payload
    (Docker Engine API, ContainerAttach, "Stream format").
    """

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """The payloads in it, in order; of a frame that isn't whole yet, what is there."""
        pieces: list[bytes] = []
        at = 0
        while at < len(data):
            if not self._left:
                more = data[at : at + _FRAME_HEADER - len(self._header)]
                self._header += more
                at += len(more)
                if len(self._header) < _FRAME_HEADER:
                    break
                self._left = int.from_bytes(self._header[4:], "big")
                self._header = b""
                continue
            piece = data[at : at + self._left]
            pieces.append(piece)
            self._left -= len(piece)
            at += len(piece)
        return b"".join(pieces)


def demultiplex(data: bytes) -> bytes:
    """The payloads of the engine's frames, in order; a cut last frame is kept."""
    return Frames().feed(data)


def clean(line: bytes) -> str:
    """A line for people: of a progress bar drawn with carriage returns, its last picture."""
    drawn = [part for part in line.split(b"\r") if part.strip()]
    text = (drawn[-1] if drawn else b"").decode("utf-8", "replace").rstrip()
    return text if len(text) <= MAX_LINE else f"…{text[-MAX_LINE:]}"


def last_lines(data: bytes, lines: int) -> tuple[str, ...]:
    """The last non-empty lines, oldest first."""
    return _last((clean(line) for line in data.split(b"\n")), lines)


class Follower:
    """Keeps lines until they are asked for. Of a reader that is too slow it drops the oldest,
    and says how many."""

    def __init__(self, first: Iterable[str] = (), most: int = 1000) -> None:
        self._lines = deque(first, maxlen=most)
        self._dropped = 0
        self._ended = False
        self._news = asyncio.Event()

    def put(self, line: str) -> None:
        """One more."""
        if len(self._lines) == self._lines.maxlen:
            self._dropped += 1
        self._lines.append(line)
        self._news.set()

    def end(self) -> None:
        """None will follow."""
        self._ended = True
        self._news.set()

    async def batch(self) -> list[str]:
        """All that came since the last time, waiting for some; nothing: that was all."""
        while not self._lines and not self._ended:
            self._news.clear()
            await self._news.wait()
        lines, dropped = list(self._lines), self._dropped
        self._lines.clear()
        self._dropped = 0
        return [f"(… {dropped} lines left out)", *lines] if dropped else lines


def _last(found: Iterable[str], lines: int) -> tuple[str, ...]:
    return tuple(deque((line for line in found if line), maxlen=lines))


class Lines:
    """Output cut into lines as it comes in."""

    def __init__(self) -> None:
        self.partial = b""
        """The beginning of a line whose end hasn't come."""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are whole now, blank ones left out."""
        *whole, self.partial = (self.partial + data).split(b"\n")
        # A line that never ends must not grow for ever.
        self.partial = self.partial[-4 * MAX_LINE :]
        return [line for one in whole if (line := clean(one))]

    def end(self) -> list[str]:
        """Nothing follows: a last line without its newline counts."""
        rest, self.partial = self.partial, b""
        return [line] if (line := clean(rest)) else []


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
        self._cut = Lines()
        self._followers: list[Follower] = []
        self._ended = False

    def __repr__(self) -> str:
        return f"<Ring {len(self._lines)} lines, {self._size} characters>"

    def feed(self, data: bytes) -> None:
        """Whatever came through the pipe; complete lines go to `on_line` as well."""
        for line in self._cut.feed(data):
            self._keep(line)

    def end(self) -> None:
        """Nothing follows."""
        for line in self._cut.end():
            self._keep(line)
        self._ended = True
        for follower in self._followers:
            follower.end()

    def tail(self, lines: int) -> tuple[str, ...]:
        """The last lines, oldest first, an unfinished one included."""
        return _last((*self._lines, clean(self._cut.partial)), lines)

    async def follow(self, lines: int) -> AsyncGenerator[str, None]:
        """The last lines that are complete, then each as it comes, until the end."""
        follower = Follower(_last(self._lines, lines))
        self._followers.append(follower)
        if self._ended:
            follower.end()
        try:
            while batch := await follower.batch():
                for line in batch:
                    yield line
        finally:
            self._followers.remove(follower)

    def _keep(self, line: str) -> None:
        if len(self._lines) == self._lines.maxlen:
            self._size -= len(self._lines.popleft())
        self._lines.append(line)
        self._size += len(line)
        while self._size > self._max_bytes:
            self._size -= len(self._lines.popleft())
        self._on_line(line)
        for follower in self._followers:
            follower.put(line)
