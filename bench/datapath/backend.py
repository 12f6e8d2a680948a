"""The backend: answers as fast as Python can, so that it is never what is measured.

    python -m bench.datapath.backend PORT [CORE]

One process on uvloop, with no HTTP library: it understands what the benchmark's own clients
and the proxies send, and nothing else. By the last part of the path:

- `health`: 200, at once;
- `chat/completions` without `"stream": true` in the body: a small chat answer;
- with it: an SSE stream, which gets its share of the events while the rate isn't zero;
- `rate/N`: N events a second over all streams from now on, in turns, evenly spaced;
- `download/N`: N bytes; `upload`: takes a body of any size, says how long it was;
- `echo`: a WebSocket that says every message again.

Each event carries the time at which it was written and its number within its stream.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Iterator
from typing import cast

import uvloop

from bench.datapath.frames import Frames, accept_key, frame

ANSWER = (
    b'{"id":"chatcmpl-0123456789","object":"chat.completion","created":1700000000,'
    b'"model":"chat","choices":[{"index":0,"message":{"role":"assistant","content":'
    b'"The quick brown fox jumps over the lazy dog, and nobody minds."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":17,"completion_tokens":14,"total_tokens":31}}'
)
COMMON = b"HTTP/1.1 200 OK\r\ndate: Tue, 14 Nov 2023 22:13:20 GMT\r\nserver: uvicorn\r\n"
SMALL = COMMON + b"content-length: %d\r\ncontent-type: application/json\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)
STREAM = (
    COMMON
    + b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    + b"transfer-encoding: chunked\r\n\r\n"
)
EVENT = (
    b'data: {"id":"chatcmpl-0123456789","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"chat","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}],'
    b'"at":%017.6f,"n":%09d}\n\n'
)
#: Every event is of the same size.
HEAD_OF_CHUNK = b"%x\r\n" % len(EVENT % (0.0, 0))
PIECE = bytes(256 * 1024)


class Pace:
    """Writes events to all streams in turn, so many a second: by a timer of the kernel's, since
    those of the loop go by milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        self._streams: dict[Backend, int] = {}
        self._turn: Iterator[Backend] = iter(())
        asyncio.get_running_loop().add_reader(self._timer, self._due)

    def add(self, stream: Backend) -> None:
        """Send events to this stream from the next turn on."""
        self._streams[stream] = 0

    def remove(self, stream: Backend) -> None:
        """Send no more events to this stream."""
        self._streams.pop(stream, None)

    def set(self, rate: int) -> None:
        """Write so many events a second over all streams; 0: none."""
        nanoseconds = 1_000_000_000 // rate if rate else 0
        spec = (ctypes.c_long * 4)(*divmod(nanoseconds, 1_000_000_000) * 2)
        self._libc.timerfd_settime(self._timer, 0, ctypes.byref(spec), None)

    def _due(self) -> None:
        for _ in range(int.from_bytes(os.read(self._timer, 8), sys.byteorder)):
            stream = next(self._turn, None)
            if stream is None:
                self._turn = iter(list(self._streams))
                stream = next(self._turn, None)
            if stream is None:
                return
            number = self._streams.get(stream)
            if number is None:
                continue
            self._streams[stream] = number + 1
            stream.write(HEAD_OF_CHUNK + EVENT % (time.monotonic(), number) + b"\r\n")


class Backend(asyncio.Protocol):
    """One connection."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._rest = b""
        self._left = 0
        """Bytes of an upload still to come; -1: chunked."""
        self._taken = 0
        self._to_send = 0
        self._frames: Frames | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write

    def connection_lost(self, error: Exception | None) -> None:
        self._pace.remove(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._frames is not None:
            self.write(b"".join(frame(one) for one in self._frames.feed(data)))
        elif self._left:
            self._take(data)
        else:
            self._rest = self._request(self._rest + data if self._rest else data)

    def _request(self, data: bytes) -> bytes:
        """Answer the request, if it is whole; return what is still to be looked at."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return data
        head = data[:end].lower()
        target = head.split(b" ", 2)[1]
        last = target.rpartition(b"/")[2]
        if last == b"upload":
            self._left, self._taken = length(head), 0
            self._take(data[end:])
            return b""
        whole = end + max(length(head), 0)
        if len(data) < whole:
            return data
        if last == b"completions":
            self._chat(data[end:whole])
        elif last == b"echo":
            self._frames = Frames()
            self.write(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                b"sec-websocket-accept: " + accept_key(data[:end]) + b"\r\n\r\n"
            )
        elif b"/download/" in target:
            self._to_send = int(last)
            self.write(COMMON + b"content-length: %d\r\n\r\n" % self._to_send)
            self._send()
        else:
            if b"/rate/" in target:
                self._pace.set(int(last))
            self.write(COMMON + b"content-length: 2\r\n\r\nok")
        return data[whole:]

    def _chat(self, body: bytes) -> None:
        if b'"stream": true' in body:
            self.write(STREAM)
            self._pace.add(self)
        else:
            self.write(SMALL)

    def _send(self) -> None:
        while self._to_send and not self._paused:
            size = min(self._to_send, len(PIECE))
            self._to_send -= size
            self.write(PIECE if size == len(PIECE) else PIECE[:size])

    def _take(self, data: bytes) -> None:
        self._taken += len(data)
        if self._left > 0:
            self._left -= len(data)
            done = self._left == 0
        else:
            done = data.endswith(b"0\r\n\r\n")
        if done:
            self._left = 0
            said = b"%d" % self._taken
            self.write(COMMON + b"content-length: %d\r\n\r\n%b" % (len(said), said))


def length(head: bytes) -> int:
    """Return the length of the body that this head (in lower case) announces; -1: chunked."""
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return -1 if b"\r\ntransfer-encoding: chunked\r\n" in head else 0
    return int(head[at + 17 : head.index(b"\r\n", at + 17)])


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    pace = Pace()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Backend(pace), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        os.sched_setaffinity(0, {int(sys.argv[2])})
    uvloop.run(serve(int(sys.argv[1])))
