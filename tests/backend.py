"""A scriptable model server for tests: stdlib only, one file, as a process or in a container.

    python tests/backend.py --port 8000        (BACKEND_* variables below)
    python tests/backend.py --check            exit 0 if the server on that port is healthy

Environment, all optional:

    BACKEND_NAME          model id, and the first part of each token it says ("backend")
    BACKEND_HOST, _PORT   where it listens (127.0.0.1, 8000); --port wins
    BACKEND_START_DELAY   seconds until it is healthy (0)
    BACKEND_START_MODE    refuse: not listening until then; loading: listening, /health is 503
    BACKEND_EXIT_CODE     exit with it instead of serving, with a few lines on stderr
    BACKEND_EXIT_AFTER    seconds before that exit (0); it serves meanwhile if more than 0
    BACKEND_MEMORY        MiB that it fills before anything else (0)
    BACKEND_HEALTH        ok | hang (accepts, never answers) | 500 | never (503 for ever)
    BACKEND_ACCEPT        hang: accepts every connection and answers nothing on any path
    BACKEND_LOG_HEALTHY   1: prints `healthy at <unix time>` when it turns healthy
    BACKEND_LOG_REQUESTS  1: prints each request line
    BACKEND_TERM          exit (at once) | ignore (SIGTERM does nothing)
    BACKEND_TERM_DELAY    seconds between SIGTERM and the exit (0)
    BACKEND_KEY           answers 401 to whoever doesn't send it as a bearer token
    BACKEND_TOKENS, BACKEND_TOKEN_DELAY     a completion's length and pace (5, 0 s)

Paths: GET /health /v1/models /echo /queue /stats /download?bytes=N[&chunked=1] /ws;
POST /v1/chat/completions /v1/completions /v1/embeddings /v1/audio/transcriptions /busy?on=1
/die?code=N; PUT or POST /upload; any other path under /v1/ answers with what it was asked.
A JSON body may carry x_tokens and x_delay, and x_die_after (tokens, then the process dies).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

PIECE = 64 * 1024
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
REASONS |= {500: "Internal Server Error", 503: "Service Unavailable"}


def env(name: str, default: str = "") -> str:
    return os.environ.get(f"BACKEND_{name}", default)


def say(text: str) -> None:
    print(text, flush=True)


@dataclass
class Request:
    method: str
    target: str
    headers: list[tuple[str, str]]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http11: bool
    left: bool = field(default=False)
    """The body has been read to its end."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return {k: v[-1] for k, v in parse_qs(self.target.partition("?")[2]).items()}

    def get(self, name: str) -> str:
        return next((v for k, v in self.headers if k.lower() == name), "")

    async def body(self) -> AsyncIterator[bytes]:
        """The body's pieces; answers `Expect: 100-continue` first."""
        if self.left:
            return
        if self.get("expect").lower() == "100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.get("transfer-encoding").lower() == "chunked":
            while size := int((await self.reader.readuntil(b"\n")).split(b";")[0], 16):
                while size:
                    piece = await self.reader.read(min(size, PIECE))
                    if not piece:
                        raise asyncio.IncompleteReadError(b"", size)
                    size -= len(piece)
                    yield piece
                await self.reader.readuntil(b"\n")
            while (await self.reader.readuntil(b"\n")).strip():
                pass
        else:
            size = int(self.get("content-length") or 0)
            while size:
                piece = await self.reader.read(min(size, PIECE))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", size)
                size -= len(piece)
                yield piece
        self.left = True

    async def whole(self) -> bytes:
        return b"".join([piece async for piece in self.body()])

    def head(self, status: int, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode("latin-1"))

    async def answer(self, status: int, payload: Any) -> None:
        data = json.dumps(payload).encode()
        self.head(status, "Content-Type: application/json", f"Content-Length: {len(data)}")
        if self.method != "HEAD":
            self.writer.write(data)
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()


class Connection(asyncio.StreamReaderProtocol):
    """A client's half-close counts as leaving."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


class Backend:
    def __init__(self) -> None:
        self.name = env("NAME", "backend")
        self.healthy = False
        self.busy = False
        self.connections: set[asyncio.StreamWriter] = set()
        self.total = 0
        self.active = 0
        self.aborted = 0
        self.uploaded = 0
        self.weights: list[bytes] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection's life; what it does is cancelled at once when the client leaves."""
        self.connections.add(writer)
        work = asyncio.ensure_future(self.exchanges(reader, writer))
        closed = asyncio.ensure_future(writer.wait_closed())
        await asyncio.wait({work, closed}, return_when=asyncio.FIRST_COMPLETED)
        self.connections.discard(writer)
        work.cancel()
        writer.close()
        await asyncio.gather(work, closed, return_exceptions=True)

    async def exchanges(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if env("ACCEPT") == "hang":
            await asyncio.Event().wait()
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, ValueError):
            while await self.exchange(reader, writer):
                pass

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection can take another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, version = head[0].split(" ")
        headers = [(k, v.strip()) for k, _, v in (line.partition(":") for line in head[1:-2])]
        request = Request(method, target, headers, reader, writer, version == "HTTP/1.1")
        self.total += 1
        if env("LOG_REQUESTS"):
            say(f"request {method} {target}")
        if not target.startswith("/stats"):
            self.active += 1
        try:
            await self.serve(request)
            async for _ in request.body():
                pass
        except (OSError, EOFError, asyncio.CancelledError):
            self.aborted += 1
            raise
        finally:
            self.active -= not target.startswith("/stats")
        await writer.drain()
        closing = request.get("connection").lower() == "close" or not request.http11
        return not closing and not writer.is_closing()

    async def serve(self, request: Request) -> None:
        key = env("KEY")
        if key and request.get("authorization") != f"Bearer {key}":
            await request.answer(401, {"error": {"message": "wrong key"}})
            return
        match request.path:
            case "/health":
                await self.health(request)
            case "/v1/models":
                model = {"id": self.name, "object": "model", "created": 0, "owned_by": "tests"}
                await request.answer(200, {"object": "list", "data": [model]})
            case "/v1/chat/completions" | "/v1/completions":
                await self.complete(request, chat="chat" in request.path)
            case "/v1/embeddings":
                await self.embed(request)
            case "/v1/audio/transcriptions":
                await self.transcribe(request)
            case "/ws":
                await self.websocket(request)
            case "/download":
                await self.download(request)
            case "/upload":
                count, digest = 0, hashlib.sha256()
                async for piece in request.body():
                    count += len(piece)
                    self.uploaded += len(piece)
                    digest.update(piece)
                await request.answer(200, {"bytes": count, "sha256": digest.hexdigest()})
            case "/echo":
                body = await request.whole()
                seen: dict[str, Any] = {"method": request.method, "target": request.target}
                seen |= {"headers": request.headers, "backend": self.name, "bytes": len(body)}
                await request.answer(200, seen | {"body": body[:PIECE].decode("latin-1")})
            case "/queue":
                running = [["a prompt"]] if self.busy else []
                seen = {"busy": self.busy, "queue_running": running, "queue_pending": []}
                await request.answer(200, seen)
            case "/busy":
                self.busy = request.query.get("on", "1") == "1"
                await request.answer(200, {"busy": self.busy})
            case "/stats":
                await request.answer(200, self.stats())
            case "/die":
                os._exit(int(request.query.get("code", "1")))
            case path if path.startswith("/v1/"):
                body = await request.whole()
                seen = {"path": path, "bytes": len(body), "backend": self.name}
                await request.answer(200, seen)
            case path:
                await request.answer(404, {"error": {"message": f"nothing at {path}"}})

    def stats(self) -> dict[str, Any]:
        """Connections open (the asking one not counted), requests active, total, aborted."""
        return {
            "backend": self.name,
            "pid": os.getpid(),
            "connections": len(self.connections) - 1,
            "active": self.active,
            "total": self.total,
            "aborted": self.aborted,
            "uploaded": self.uploaded,
        }

    async def health(self, request: Request) -> None:
        mode = env("HEALTH", "ok")
        if mode == "hang":
            await request.reader.read()
            request.writer.close()
        elif mode == "500":
            await request.answer(500, {"status": "broken"})
        elif mode == "never" or not self.healthy:
            await request.answer(503, {"status": "loading"})
        else:
            await request.answer(200, {"status": "ok"})

    async def complete(self, request: Request, chat: bool) -> None:
        asked = json.loads(await request.whole() or b"{}")
        tokens = int(asked.get("x_tokens", env("TOKENS", "5")))
        delay = float(asked.get("x_delay", env("TOKEN_DELAY", "0")))
        die_after = int(asked.get("x_die_after", -1))
        model = asked.get("model", self.name)
        words = [f"{self.name}-{i} " for i in range(tokens)]
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        base: dict[str, Any] = {"id": "cmpl-1", "created": 0, "model": model}
        if not asked.get("stream"):
            await asyncio.sleep(delay * tokens)
            text = "".join(words)
            said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            base["object"] = "chat.completion" if chat else "text_completion"
            choice = {"index": 0, "finish_reason": "stop", "logprobs": None, **said}
            await request.answer(200, {**base, "choices": [choice], "usage": usage})
            return
        base["object"] = "chat.completion.chunk" if chat else "text_completion"
        request.head(200, "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
        for i, word in enumerate([*words, ""]):
            if i == die_after:
                os._exit(9)
            delta: dict[str, str] = {"content": word} if word else {}
            if i == 0:
                delta["role"] = "assistant"
            finish = None if i < tokens else "stop"
            piece = {"delta": delta} if chat else {"text": word}
            choice = {"index": 0, "finish_reason": finish, "logprobs": None, **piece}
            await self.event(request, {**base, "choices": [choice]})
            if delay and i < tokens:
                await asyncio.sleep(delay)
        if (asked.get("stream_options") or {}).get("include_usage"):
            await self.event(request, {**base, "choices": [], "usage": usage})
        await request.chunk(b"data: [DONE]\n\n")
        await request.chunk(b"")

    async def event(self, request: Request, payload: Any) -> None:
        await request.chunk(b"data: %s\n\n" % json.dumps(payload).encode())

    async def embed(self, request: Request) -> None:
        asked = json.loads(await request.whole() or b"{}")
        given = asked.get("input", "")
        texts = [given] if isinstance(given, str) else given
        data = []
        for i, text in enumerate(texts):
            vector = [len(str(text)) / 16, i + 1.0, 0.5]
            value: Any = vector
            if asked.get("encoding_format") == "base64":
                value = base64.b64encode(struct.pack("<3f", *vector)).decode()
            data.append({"object": "embedding", "index": i, "embedding": value})
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        model = asked.get("model", self.name)
        seen = {"object": "list", "model": model, "data": data, "usage": usage}
        await request.answer(200, seen)

    async def transcribe(self, request: Request) -> None:
        boundary = request.get("content-type").partition("boundary=")[2].strip('"').encode()
        body = await request.whole()
        model, size = "", 0
        for part in body.split(b"--" + boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            content = content.removesuffix(b"\r\n")
            if b'name="model"' in head:
                model = content.decode()
            elif b'name="file"' in head:
                size = len(content)
        await request.answer(200, {"text": f"{self.name} heard {size} bytes as {model}"})

    async def download(self, request: Request) -> None:
        left = int(request.query.get("bytes", "1024"))
        chunked = request.query.get("chunked") == "1"
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {left}"
        request.head(200, "Content-Type: application/octet-stream", framing)
        pattern = bytes(range(256)) * (PIECE // 256)
        while left and request.method != "HEAD":
            piece = pattern[:left]
            left -= len(piece)
            if chunked:
                await request.chunk(piece)
            else:
                request.writer.write(piece)
                await request.writer.drain()
        if chunked:
            await request.chunk(b"")

    async def websocket(self, request: Request) -> None:
        """RFC 6455: echoes each frame as it came, answers pings and the close."""
        key = request.get("sec-websocket-key").encode()
        if not key:
            await request.answer(400, {"error": {"message": "not a WebSocket"}})
            return
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Accept: {accept}", "", ""]
        request.writer.write("\r\n".join(lines).encode())
        request.left = True
        opcode = 0
        while opcode != 8:
            first, second = await request.reader.readexactly(2)
            size = second & 127
            if size >= 126:
                size = int.from_bytes(await request.reader.readexactly(2 if size == 126 else 8))
            mask = await request.reader.readexactly(4) if second & 128 else bytes(4)
            data = await request.reader.readexactly(size)
            masks = int.from_bytes((mask * (size // 4 + 1))[:size])
            data = (int.from_bytes(data) ^ masks).to_bytes(size)
            opcode = first & 15
            if opcode == 9:
                first = first & 0xF0 | 10
            if opcode == 10:
                continue
            frame = bytes([first])
            if size < 126:
                frame += bytes([size])
            else:
                frame += struct.pack(">BH", 126, size) if size < 65536 else b""
                frame += struct.pack(">BQ", 127, size) if size >= 65536 else b""
            request.writer.write(frame + data)
            await request.writer.drain()
        request.writer.close()


async def fail(code: int) -> None:
    await asyncio.sleep(float(env("EXIT_AFTER", "0")))
    print("loading weights", file=sys.stderr)
    print("RuntimeError: CUDA error: out of memory", file=sys.stderr)
    print(f"exiting with {code}", file=sys.stderr, flush=True)
    os._exit(code)


def terminate(loop: asyncio.AbstractEventLoop) -> None:
    if env("TERM") == "ignore":
        say("SIGTERM ignored")
        return
    loop.call_later(float(env("TERM_DELAY", "0")), lambda: os._exit(0))


async def main(host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    # As a container's first process Python would ignore SIGTERM unless it is handled.
    loop.add_signal_handler(signal.SIGTERM, terminate, loop)
    exits = env("EXIT_CODE")
    failing = asyncio.ensure_future(fail(int(exits))) if exits else None
    if failing and not float(env("EXIT_AFTER", "0")):
        await failing
    backend = Backend()
    say(f"{backend.name} loading")
    backend.weights = [b"x" * 2**20 for _ in range(int(env("MEMORY", "0")))]
    delay = float(env("START_DELAY", "0"))
    refuse = env("START_MODE", "refuse") == "refuse"
    if refuse:
        await asyncio.sleep(delay)
    server = await loop.create_server(
        lambda: Connection(asyncio.StreamReader(limit=2**20), backend.connected),
        host,
        port,
        backlog=1024,
        reuse_address=True,
    )
    if not refuse:
        await asyncio.sleep(delay)
    backend.healthy = True
    if env("LOG_HEALTHY"):
        say(f"healthy at {time.time():.6f}")
    say(f"{backend.name} listening on {host}:{port}")
    async with server:
        await server.serve_forever()


def check(port: int) -> int:
    """For a container's HEALTHCHECK."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as s:
            s.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return 0 if b" 200 " in s.recv(64) else 1
    except OSError:
        return 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default=env("HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(env("PORT", "8000")))
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        sys.exit(check(args.port))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(args.host, args.port))
