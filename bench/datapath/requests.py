"""The chat requests that every workload sends: their bodies, and the heads of two clients."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence

KEY = "a-key-for-the-benchmark-0123456789"
CHAT = "/openai/v1/chat/completions"
#: A head as a small client sends it.
SMALL = """\
Host: {host}
Content-Type: application/json
Authorization: Bearer {key}
User-Agent: OpenAI/Python 1.99.9
Accept: application/json
Content-Length: {length}
"""
#: What the package `openai` 3.57.0 sends (httpx beneath it, CPython 3.11 on Linux), in the order
#: in which it sends it, and the line that tracing adds, which differs in each request.
OPENAI = """\
Host: {host}
Accept-Encoding: gzip, deflate
Connection: keep-alive
authorization: Bearer {key}
accept: application/json
content-type: application/json
user-agent: OpenAI/Python 3.57.0
x-stainless-lang: python
x-stainless-package-version: 3.57.0
x-stainless-os: Linux
x-stainless-arch: x64
x-stainless-runtime: CPython
x-stainless-runtime-version: 3.11.7
x-stainless-async: false
x-stainless-retry-count: 0
x-stainless-read-timeout: 600
traceparent: 00-{trace:032x}-{span:016x}-01
Content-Length: {length}
"""
HEADS = {"small": SMALL, "openai-head": OPENAI}


def chat_body(model: str = "chat", *, stream: bool = False) -> bytes:
    """Return the JSON body of a chat request of about 240 bytes."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Write a sentence that has every letter in it."},
    ]
    body = {"model": model, "messages": messages, "temperature": 0.7, "stream": stream}
    return json.dumps(body).encode()


def chat_requests(
    head: str, host: str, models: Sequence[str] = ("chat",), *, stream: bool = False
) -> Iterator[bytes]:
    """Yield chat requests without end, whole, for these models in turn; `head` is a name of
    `HEADS`, `host` the value of the Host field. The same arguments give the same requests."""
    numbers = random.Random(0)
    bodies = [chat_body(model, stream=stream) for model in models]
    fields = HEADS[head]
    while True:
        for body in bodies:
            lines = fields.format(
                host=host,
                key=KEY,
                length=len(body),
                trace=numbers.getrandbits(128),
                span=numbers.getrandbits(64),
            )
            yield f"POST {CHAT} HTTP/1.1\n{lines}\n".replace("\n", "\r\n").encode() + body


def head(first: str, host: str, *lines: str) -> bytes:
    """Return a head with these lines, and the key."""
    said = (f"{first} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {KEY}")
    return "\r\n".join((*said, *lines, "", "")).encode()


def echo_head(host: str) -> bytes:
    """Return the handshake of a WebSocket that says every message again."""
    return head(
        "GET /bench/echo",
        host,
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
