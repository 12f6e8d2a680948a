"""The inputs to begin with: what the differential test sends, and a few good ones.

python -m bench.fuzz.seeds
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from bench.differential.cases import (
    BAD_ANSWERS,
    BODIES,
    CHUNKS,
    FIRST_LINES,
    NEAR_MISSES,
    boundary_requests,
)
from bench.fuzz.__main__ import KEPT

_LONGEST = 400


def server() -> Iterator[bytes]:
    """Of clients."""
    for _, raw, _ in boundary_requests():
        yield raw
    for line in NEAR_MISSES.values():
        for body in (BODIES[3], b"hello"):
            yield b"POST /r HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (line, body)
    for line in FIRST_LINES:
        first = line % b"/r" if b"%b" in line else line
        yield first + b"\r\nHost: a\r\n\r\nGET /r HTTP/1.1\r\nHost: a\r\n\r\n"
    for body in CHUNKS.values():
        head = b"POST /r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        yield head + body + b"GET /r HTTP/1.1\r\nHost: a\r\n\r\n"


def upstream() -> Iterator[bytes]:
    """Of backends."""
    yield from BAD_ANSWERS.values()
    yield b"HTTP/1.1 103 x\r\nLink: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX: y\r\n\r\n"
    yield b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbehind"
    yield b"HTTP/1.0 200\r\n\r\nuntil the end"


def write() -> None:
    """Put them where the fuzzer begins."""
    for name, flags, inputs in (
        ("server", (0, 1, 8, 9, 4), server()),
        ("upstream", (0, 3, 8), upstream()),
    ):
        folder = KEPT / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, raw in enumerate(inputs):
            if len(raw) <= _LONGEST:
                data = bytes((flags[number % len(flags)], number % 256)) + raw
                (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


if __name__ == "__main__":
    write()
