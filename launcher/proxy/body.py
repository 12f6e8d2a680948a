"""Requests' bodies on their way to a backend: streamed as they come, or kept; and the model in
them.

A kept body stands in memory while all kept bodies together fit the budget, else in a temporary
file without a name.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import IO, Final, Protocol

import orjson

from launcher.config import MIB
from launcher.errors import LauncherError
from launcher.http.headers import RequestHead
from launcher.http.server import Request
from launcher.proxy.fields import is_json, media_type_of
from launcher.proxy.json_scan import MOST_KEYS, JsonScan, Scanned, Scanner, invalid_json
from launcher.proxy.multipart import FormScan, boundary_of

#: What is scanned at once: of the worst JSON that takes two or three milliseconds.
_SLICE: Final = 4 * 1024
#: What is read of a file at once.
_BLOCK: Final = 256 * 1024
#: How long the loop may be held, in seconds, before others get their turn.
_TURN: Final = 0.002
#: Up to here a whole parse takes a few milliseconds at most; larger ones are only scanned.
WHOLE_JSON: Final = 256 * 1024
#: On a route's own path: JSON up to here is kept, so that it can be looked at and sent again.
KEPT_JSON: Final = 1 * MIB

#: Bodies that aren't JSON whatever they hold: their model has to stand in the query.
_NO_JSON: Final = ("audio/", "image/", "video/", "application/octet-stream")

#: A span that is still to be found: the body has one `"model"`.
ANYWHERE: Final = (-1, -1)
#: Where that has its value.
_MODEL_VALUE: Final = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")')
#: The beginning of an escaped ASCII letter: a key might spell `model` or `stream` so.
_ESCAPED: Final = b"\\u00"


class Body(Protocol):
    """A request's body on its way to the backend."""

    @property
    def length(self) -> int | None:
        """Bytes, where known before it is read; None: chunked."""
        ...

    @property
    def replayable(self) -> bool:
        """At hand from its beginning, as often as needed."""
        ...

    def rewind(self) -> None:
        """Begin anew; only where replayable."""
        ...

    def at_once(self) -> bytes | None:
        """Return all of it, where it is at hand in memory; else it is for `read`."""
        ...

    async def read(self) -> bytes:
        """Return the next piece, b"" at the end."""
        ...

    def rename(self, span: tuple[int, int], name: str, *, as_json: bool) -> None:
        """Send this model name in the place of the bytes at `span`."""
        ...

    def read_up(self) -> None:
        """The response has begun, nothing is sent again: what was read whole is let go."""
        ...

    def close(self) -> None:
        """Let go of memory and files."""
        ...


class Budget:
    """How many bytes of kept bodies may stand in memory, all together. `limit` may change."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> bool:
        """Reserve some; False where they don't fit."""
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Return some of what was taken."""
        self.used -= count


class NoBody:
    """The body of a request that has none."""

    length = 0
    replayable = True

    def rewind(self) -> None:
        """Nothing to go back over."""

    def at_once(self) -> bytes:
        """Return nothing."""
        return b""

    async def read(self) -> bytes:
        """Return nothing."""
        return b""

    def rename(self, span: tuple[int, int], name: str, *, as_json: bool) -> None:
        """There is no model in it."""

    def read_up(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


NO_BODY: Final = NoBody()


class StreamedBody:
    """The client's own stream; at hand from its beginning only until the first read."""

    def __init__(self, request: Request) -> None:
        self._exchange = request
        self._length = None if request.chunked else max(request.content_length, 0)

    def rename(self, span: tuple[int, int], name: str, *, as_json: bool) -> None:
        """Nobody looks for a model in it."""
        raise AssertionError("a streamed body holds no known model")

    @property
    def length(self) -> int | None:
        """As the client announced it."""
        return self._length

    @property
    def replayable(self) -> bool:
        """Nothing has been read yet, or there is nothing to read."""
        return self._length == 0 or self._exchange.body_read == 0

    def rewind(self) -> None:
        """There is nothing to go back over."""

    def at_once(self) -> bytes | None:
        """It has still to come."""
        return None

    async def read(self) -> bytes:
        """The next piece from the client."""
        return b"" if self._length == 0 else await self._exchange.read()

    def read_up(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


class WholeBody:
    """A small body that is here in one piece."""

    __slots__ = ("_at_end", "_budget", "_came", "_data", "_held", "length")

    replayable = True

    def __init__(self, budget: Budget, data: bytes) -> None:
        """Its length has been taken from the budget."""
        self._budget = budget
        self._came = self._data = data
        self.length = self._held = len(data)
        self._at_end = False

    def __repr__(self) -> str:
        return f"<WholeBody {self.length} bytes{'' if self._held else ' let go'}>"

    def rewind(self) -> None:
        """Read from the beginning once more."""
        self._at_end = False

    def at_once(self) -> bytes:
        """Return all of it. Raises ValueError where it was let go before that."""
        if not self._held:
            raise _let_go()
        self._at_end = True
        return self._data

    async def read(self) -> bytes:
        """Return all of it, once."""
        return b"" if self._at_end else self.at_once()

    def rename(self, span: tuple[int, int], name: str, *, as_json: bool) -> None:
        """Send this model name in the place of the bytes at `span`; all others stay as they
        came."""
        instead = orjson.dumps(name) if as_json else name.encode()
        if span[0] < 0:
            span = span_of_model(self._came)
        self._data = self._came[: span[0]] + instead + self._came[span[1] :]
        self.length = len(self._data)

    def read_up(self) -> None:
        """Let go of a body that has been handed on."""
        if self._at_end:
            self.close()

    def close(self) -> None:
        """Give the memory back."""
        if self._held:
            self._budget.used -= self._held
            self._held = 0
            self._came = self._data = b""


class KeptBody:
    """A copy of a body. Filled with `take` or `spool`, then read, as often as needed."""

    __slots__ = (
        "_budget",
        "_closed",
        "_file",
        "_handed",
        "_held",
        "_instead",
        "_lock",
        "_next",
        "_parts",
        "_pieces",
        "_span",
        "_stored",
    )

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._pieces: list[bytes] = []
        self._held = 0
        """Bytes taken from the budget."""
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()
        """Of the file's position: a read whose task was cancelled goes on in its thread."""
        self._stored = 0
        """Bytes of the body as it came in."""
        self._span = (0, 0)
        self._instead: bytes | None = None
        self._parts: Sequence[bytes | tuple[int, int]] | None = None
        """What to send, in order: bytes, or the place (offset, count) of some in the file."""
        self._next = 0
        """The part that is read next."""
        self._handed = 0
        """Bytes handed on since the beginning."""
        self._closed = False

    def __repr__(self) -> str:
        where = "let go" if self._closed else "in a file" if self._file else "in memory"
        return f"<KeptBody {self._stored} bytes {where}>"

    @property
    def length(self) -> int:
        """Bytes to be sent."""
        if self._instead is None:
            return self._stored
        return self._stored - (self._span[1] - self._span[0]) + len(self._instead)

    @property
    def replayable(self) -> bool:
        """It is kept for that."""
        return True

    def take(self, piece: bytes) -> bool:
        """Keep one more piece in memory; False where it has to go to a file."""
        if self._file is not None or not self._budget.take(len(piece)):
            return False
        self._held += len(piece)
        self._pieces.append(piece)
        self._stored += len(piece)
        return True

    async def spool(self, piece: bytes) -> None:
        """Keep one more piece in a file, and with it those before."""
        if self._file is None:
            # Without a name from the start: nothing is left behind, whatever happens.
            # Opened here and not in a thread, where a cancellation would lose it.
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # close() is ours
            await asyncio.to_thread(self._file.writelines, self._pieces)
            self._drop_memory()
        await asyncio.to_thread(self._file.write, piece)
        self._stored += len(piece)

    def rename(self, span: tuple[int, int], name: str, *, as_json: bool) -> None:
        """Send this model name in the place of the bytes at `span`; all others stay as they
        came."""
        self._span = span
        self._instead = orjson.dumps(name) if as_json else name.encode()
        self._parts = None

    def rewind(self) -> None:
        """Read from the beginning once more."""
        self._next = self._handed = 0

    async def read(self) -> bytes:
        """The next piece. Raises ValueError where it was let go before that."""
        if self._closed and self._handed < self.length:
            raise _let_go()
        if self._parts is None:
            self._parts = self._in_memory() if self._file is None else self._in_file()
        if self._next >= len(self._parts):
            return b""
        part = self._parts[self._next]
        self._next += 1
        if isinstance(part, bytes):
            self._handed += len(part)
            return part
        assert self._file is not None
        piece = await asyncio.to_thread(_read_at, self._file, self._lock, *part)
        if len(piece) != part[1]:
            raise OSError(f"the temporary file of a body lost {part[1] - len(piece)} bytes")
        self._handed += len(piece)
        return piece

    def at_once(self) -> bytes | None:
        """All of it, unless it stands in a file. Raises as `read` does."""
        if self._file is not None:
            return None
        if self._closed:
            raise _let_go()
        self._handed = self.length
        parts = self._pieces if self._instead is None else self._in_memory()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def whole(self) -> bytes:
        """All of it, as it will be sent, wherever it stands; for small ones."""
        pieces = []
        while piece := await self.read():
            pieces.append(piece)
        self.rewind()
        return b"".join(pieces)

    def read_up(self) -> None:
        """Let go of a body that has been read to its end."""
        if self._handed == self.length:
            self.close()

    def close(self) -> None:
        """Give the memory back, close the file."""
        self._closed = True
        self._drop_memory()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _drop_memory(self) -> None:
        self._pieces = []
        self._parts = None
        self._budget.give(self._held)
        self._held = 0

    def _in_memory(self) -> list[bytes]:
        if self._instead is None:
            return self._pieces
        start, end = self._span
        at = 0
        before, behind = [], []
        for piece in self._pieces:
            if at < start:
                before.append(piece[: start - at])
            if end < at + len(piece):
                behind.append(piece[max(end - at, 0) :])
            at += len(piece)
        return [*before, self._instead, *behind]

    def _in_file(self) -> list[bytes | tuple[int, int]]:
        if self._instead is None:
            return [*_blocks(0, self._stored)]
        start, end = self._span
        return [*_blocks(0, start), self._instead, *_blocks(end, self._stored)]


def _blocks(start: int, end: int) -> Iterator[tuple[int, int]]:
    for at in range(start, end, _BLOCK):
        yield at, min(_BLOCK, end - at)


def _let_go() -> ValueError:
    return ValueError("a body that was let go is read")


def _read_at(file: IO[bytes], lock: threading.Lock, at: int, count: int) -> bytes:
    with lock:
        file.seek(at, os.SEEK_SET)
        return file.read(count)


async def keep(
    request: Request, budget: Budget, limit: int, scanner: Scanner | None = None
) -> KeptBody:
    """Read the client's body whole, at most `limit` bytes of it, past a scanner.

    A declared length over the limit is refused before a byte is read. Raises LauncherError
    `body_too_large` and what the scanner raises. The caller closes the body.
    """
    length = None if request.chunked else request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    body = KeptBody(budget)
    loop = asyncio.get_running_loop()
    turn = loop.time()
    total = 0
    try:
        while total != length and (piece := await request.read()):
            total += len(piece)
            if total > limit:
                raise _too_large(limit)
            if scanner is not None:
                for at in range(0, len(piece), _SLICE):
                    scanner.feed(piece[at : at + _SLICE])
                    if loop.time() - turn > _TURN:
                        await asyncio.sleep(0)
                        turn = loop.time()
            if not body.take(piece):
                await body.spool(piece)
        if scanner is not None and scanner.is_json and total <= WHOLE_JSON:
            _parse(body.at_once() or await body.whole())
            body.rewind()
    except BaseException:
        # Cancelled, too: what it holds of the budget goes with it.
        body.close()
        raise
    return body


async def looks_for_stream(body: KeptBody | WholeBody) -> bool:
    """Return whether a kept JSON body says `"stream": true`; one that can't be read says
    nothing."""
    scanner = JsonScan()
    try:
        while piece := await body.read():
            for at in range(0, len(piece), _SLICE):
                scanner.feed(piece[at : at + _SLICE])
                await asyncio.sleep(0)
        return scanner.finish().stream
    except LauncherError:
        return False
    finally:
        body.rewind()


def media_type(head: RequestHead) -> str:
    """Return the Content-Type without its parameters, in lower case; empty without one."""
    return media_type_of(head.get(b"content-type") or b"")


def scanner_for(head: RequestHead, *, needed: bool) -> Scanner | None:
    """Return what finds the model in this request's body; None where it isn't to be read. Raises
    LauncherError `unsupported_encoding`, `bad_request`."""
    if not head.has_body:
        return None
    media = media_type(head)
    if media.startswith(_NO_JSON):
        return None
    if (head.get(b"content-encoding") or b"identity").strip().lower() != b"identity":
        if not needed:
            return None
        raise LauncherError(
            "unsupported_encoding",
            "The body is compressed and its `model` is needed to find the route; send it"
            " uncompressed, or name the model in the query (`?model=…`), or use the"
            " route's own path.",
        )
    if media != "multipart/form-data":
        # Whatever it is called: `curl -d` calls JSON a form.
        return JsonScan() if needed or is_json(media) else None
    boundary = boundary_of(head.get(b"content-type") or b"")
    if boundary is None:
        raise LauncherError("bad_request", "The multipart form's Content-Type has no boundary.")
    return FormScan(boundary)


def model_of(data: bytes, scanner: Scanner) -> Scanned:
    """Return the model in a whole body. Raises what the scanner raises."""
    for at in range(0, len(data), _SLICE):
        scanner.feed(data[at : at + _SLICE])
    if scanner.is_json:
        _parse(data)
    return scanner.finish()


def model_of_json(data: bytes) -> Scanned:
    """Return the model in a whole JSON body of up to WHOLE_JSON bytes, as `model_of` does.

    One parse where `"model"` stands in it just once: a key of the top level then, and no other
    spelling of it; else the scan decides. Raises LauncherError `invalid_json`.
    """
    if data.count(b'"model"') == 1 and _ESCAPED not in data:
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            document = None
        if type(document) is dict and len(document) <= MOST_KEYS:
            model = document.get("model")
            if type(model) is str:
                return Scanned(model, ANYWHERE, document.get("stream") is True)
    return model_of(data, JsonScan())


def span_of_model(data: bytes) -> tuple[int, int]:
    """Return where the model's string stands in a body that has one `"model"`, as a key."""
    found = _MODEL_VALUE.search(data)
    assert found is not None, "a parse found it"
    return found.span(1)


def _parse(document: bytes) -> None:
    """The whole grammar, for a small body. What Python's parser takes and orjson doesn't
    (NaN, half of a surrogate pair) is left to the backend, which most often is Python."""
    try:
        orjson.loads(document)
    except orjson.JSONDecodeError as strict:
        try:
            json.loads(document)
        except (ValueError, RecursionError):
            raise invalid_json(str(strict)) from None


def _too_large(limit: int) -> LauncherError:
    return LauncherError(
        "body_too_large",
        f"The body is larger than the {limit} bytes that are read to find its `model`; raise"
        " `max_body`, or use the route's own path, which streams bodies of any size.",
    )
