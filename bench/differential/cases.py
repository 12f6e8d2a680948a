"""Random conversations: what a client sends and when, and what the backend answers.

A case is plain data and holds no addresses. `TOKEN` stands for the run's own number, so that what
a backend receives can be told apart however many cases are under way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Final, Literal

#: Replaced by eight hexadecimal digits when the case is run.
TOKEN: Final = b"=TOKEN=="
KIB: Final = 1024

Gate = Literal["none", "continue", "response", "settled"]
Ending = Literal["probe", "half-close", "reset", "close"]
Moment = Literal["head", "body"]


@dataclass(frozen=True)
class Send:
    """Bytes of the client's, in pieces of their own, and what it waits for before it sends them."""

    data: bytes
    cuts: tuple[int, ...] = ()
    """Offsets at which the data is split into separate writes."""
    gate: Gate = "none"


@dataclass(frozen=True)
class Step:
    """One act of the backend: bytes to send, then a pause in seconds."""

    data: bytes = b""
    pause: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What the backend does with one request."""

    name: str
    steps: tuple[Step, ...]
    moment: Moment = "body"
    """Whether it answers as soon as the head is there, or once the body is."""
    end: Literal["keep", "close", "reset", "tunnel"] = "keep"
    """`keep`: it waits for the next request; `tunnel`: it sends back what comes."""

    @property
    def cut(self) -> bool:
        """Whether how much of it arrives is a matter of chance."""
        return self.end == "reset"


@dataclass(frozen=True)
class Case:
    """One client connection."""

    kind: str
    note: str
    """What is special about it, for people."""
    sends: tuple[Send, ...]
    methods: tuple[str, ...]
    """Of the requests, as far as they are well-formed: how responses end depends on them."""
    answers: tuple[tuple[Answer, ...], ...]
    """By request, then by attempt; the last one repeats."""
    ending: Ending = "probe"
    tunnel: int = 0
    """Bytes that are expected behind a 101."""

    @property
    def hasty(self) -> bool:
        """Whether how much of the bodies arrives is a matter of chance."""
        return self.ending != "probe"

    def answer(self, index: int, attempt: int) -> Answer:
        """What the backend does with the request of this number when it comes once more."""
        attempts = self.answers[index] if index < len(self.answers) else (PLAIN,)
        return attempts[min(attempt, len(attempts) - 1)]


PLAIN: Final = Answer("plain", (Step(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),))


# -- requests --------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A well-formed request before it becomes bytes."""

    method: str
    target: bytes
    version: bytes = b"HTTP/1.1"
    headers: tuple[tuple[bytes, bytes], ...] = ((b"Host", b"a"),)
    framing: Literal["none", "length", "chunked"] = "none"
    body: bytes = b""
    chunks: tuple[int, ...] = ()
    extension: bytes = b""
    trailers: tuple[bytes, ...] = ()
    zeros: bytes = b""

    def head(self) -> bytes:
        """The bytes before the body."""
        lines = [b"%b %b %b" % (self.method.encode(), self.target, self.version)]
        lines += [b"%b: %b" % line for line in self.headers]
        if self.framing == "length":
            lines.append(b"Content-Length: %d" % len(self.body))
        elif self.framing == "chunked":
            lines.append(b"Transfer-Encoding: chunked")
        return b"\r\n".join([*lines, b"", b""])

    def content(self) -> bytes:
        """The bytes of the body, framed."""
        if self.framing != "chunked":
            return self.body
        return chunked(self.body, self.chunks, self.extension, self.trailers, self.zeros)


def chunked(
    body: bytes,
    cuts: Sequence[int],
    extension: bytes = b"",
    trailers: Sequence[bytes] = (),
    zeros: bytes = b"",
) -> bytes:
    """The body in chunks that end at `cuts`."""
    parts: list[bytes] = []
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(body)}), len(body)]
    for start, end in pairwise(edges):
        if end > start:
            size = b"%b%x" % (zeros, end - start)
            parts += [size, extension, b"\r\n", body[start:end], b"\r\n"]
    parts += [b"0", extension, b"\r\n", *(line + b"\r\n" for line in trailers), b"\r\n"]
    return b"".join(parts)


METHODS = ("GET", "GET", "GET", "POST", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
TARGETS = (
    b"/r/t%b.%d",
    b"/r/t%b.%d/v1/models",
    b"/p/t%b.%d",
    b"/r/t%b.%d?",
    b"/r/t%b.%d?a=b&c=%%zz",
    b"/r//t%b.%d//a/../b/./%%41",
    b"/r/t%b.%d/%%7Euser/%%C3%%A9",
    b"http://a/r/t%b.%d",
    b"http://other.local:81/r/t%b.%d",
    b"/r?x=t%b.%d",
    b"/r/?x=t%b.%d",
    b"/r/t%b.%d/a;b=c:d@e,f!$'()*+",
    b'/r/t%b.%d?q={}|^\\`"<>',
    b"/healthz?t%b.%d",
    b"/nowhere/t%b.%d",
    b"/rx/t%b.%d",
    b"/r/../p/t%b.%d",
    b"/r/a/%%2e%%2e/t%b.%d",
    b"/r/%%2e%%2e/p/t%b.%d",
)
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"Accept", b"*/*"),
    (b"accept", b"text/html, application/json;q=0.9"),
    (b"User-Agent", b"differential/1"),
    (b"Authorization", b"Bearer secret"),
    (b"authorization", b"Basic YTpi"),
    (b"X-Api-Key", b"k"),
    (b"Cookie", b"a=b; c=d"),
    (b"Cookie", b"e=f"),
    (b"X-Forwarded-For", b"1.2.3.4"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Host", b"evil"),
    (b"X-Forwarded-Prefix", b"/evil"),
    (b"Forwarded", b"for=1.2.3.4"),
    (b"Via", b"1.1 somebody"),
    (b"Connection", b"keep-alive"),
    (b"Connection", b"close"),
    (b"Connection", b"X-Gone, keep-alive"),
    (b"Connection", b"Host, Content-Length, X-Forwarded-For, Authorization"),
    (b"Connection", b""),
    (b"X-Gone", b"1"),
    (b"Keep-Alive", b"timeout=5"),
    (b"Proxy-Authorization", b"Basic x"),
    (b"Proxy-Connection", b"keep-alive"),
    (b"TE", b"trailers"),
    (b"Trailer", b"X-T"),
    (b"Upgrade", b"h2c"),
    (b"HTTP2-Settings", b"AAMAAABkAAQAAP__"),
    (b"X-Empty", b""),
    (b"X-Blank", b"  \t padded \t "),
    (b"X-Tab", b"a\tb"),
    (b"X-Latin", b"\xe9\xff\x80"),
    (b"X-Dup", b"1"),
    (b"X-Dup", b"2"),
    (b"x!#$%&'*+-.^_`|~1", b"odd name"),
    (b"X-Long", b"y" * 3000),
    (b"Content-Type", b"application/json"),
    (b"Content-Type", b"text/plain"),
    (b"Content-Encoding", b"gzip"),
    (b"Range", b"bytes=0-1"),
    (b"If-None-Match", b'"x"'),
    (b"Origin", b"http://elsewhere.example"),
    (b"Max-Forwards", b"1"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"X-Launcher-Priority", b"batch"),
    (b"Accept-Encoding", b"gzip, br"),
    (b"Content-Transfer-Encoding", b"8bit"),
    (b"Content_Length", b"3"),
    (b"X-Content-Length", b"3"),
)
SIZES = (0, 1, 2, 15, 16, 17, 100, 1000, 4095, 16384, 65535, 65536, 65537, 200_000, 400_000)


def sized(rng: Random) -> int:
    """A body's size: mostly small."""
    return rng.choice(SIZES[:8]) if rng.random() < 0.7 else rng.choice(SIZES)


def some(rng: Random, size: int) -> bytes:
    """A body of this size, with line ends in it."""
    if rng.random() < 0.2:
        return (b"0\r\n\r\nGET /r/smuggled HTTP/1.1\r\nHost: a\r\n\r\n" * (size // 40 + 1))[:size]
    return rng.randbytes(size)


def request(rng: Random, index: int, *, plain: bool = False) -> Request:
    """A well-formed one. `plain`: a path route, no options of the connection."""
    name = b"t%b.%d" % (TOKEN, index)
    if not plain and rng.random() < 0.15:
        return chat(rng, name)
    method = rng.choice(METHODS)
    pattern = TARGETS[0] if plain else rng.choice(TARGETS[:12] if rng.random() < 0.8 else TARGETS)
    target = pattern % (TOKEN, index)
    headers = [(b"Host", rng.choice((b"a", b"a:80", b"localhost", b"127.0.0.1:8000")))]
    if not plain:
        extra = rng.sample(HEADERS, rng.choice((0, 1, 2, 3, 5, 8)))
        headers = [*extra, *headers] if rng.random() < 0.2 else [*headers, *extra]
    version = b"HTTP/1.0" if not plain and rng.random() < 0.1 else b"HTTP/1.1"
    if version == b"HTTP/1.0" and rng.random() < 0.5:
        headers.append((b"Connection", b"keep-alive"))
    has_body = method in ("POST", "PUT", "PATCH") or (method == "DELETE" and rng.random() < 0.3)
    if not has_body or rng.random() < 0.1:
        return Request(method, target, version, tuple(headers))
    body = some(rng, sized(rng))
    if version == b"HTTP/1.0" or rng.random() < 0.5:
        return Request(method, target, version, tuple(headers), "length", body)
    return Request(
        method,
        target,
        version,
        tuple(headers),
        "chunked",
        body,
        tuple(rng.randrange(len(body) + 1) for _ in range(rng.choice((0, 0, 1, 3, 20)))),
        rng.choice((b"", b"", b"", b";x", b";x=y", b';x="y z"', b";" + b"e" * 200)),
        rng.choice(((), (), (), (b"X-T: 1",), (b"X-T: 1", b"Content-MD5: x"), (b"Host: evil",))),
        rng.choice((b"", b"", b"0", b"000")),
    )


def chat(rng: Random, name: bytes) -> Request:
    """One of the unified endpoint, found by its model."""
    model = rng.choice(("m", "m", "m", "nobody", None, 7))
    document: dict[str, object] = {
        "messages": [{"role": "user", "content": "é" * rng.choice((1, 10, 1000, 40_000))}]
    }
    if model is not None:
        document["model"] = model
    if rng.random() < 0.3:
        document["stream"] = True
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5).encode()
    if rng.random() < 0.05:
        text = text[:-1]
    prefix = rng.choice((b"/openai/v1", b"/v1", b"/openai"))
    kind = rng.choice((b"application/json",) * 4 + (b"application/json; charset=utf-8", b"text/x"))
    headers = [(b"Host", b"a"), (b"Content-Type", kind)]
    headers += rng.sample(HEADERS[:15], rng.choice((0, 2)))
    framing: Literal["length", "chunked"] = "length" if rng.random() < 0.7 else "chunked"
    cuts = tuple(rng.randrange(len(text)) for _ in range(rng.choice((0, 1, 5))))
    target = b"%b/chat/completions?%b" % (prefix, name)
    return Request("POST", target, b"HTTP/1.1", tuple(headers), framing, text, cuts)


def cuts(rng: Random, size: int) -> tuple[int, ...]:
    """Where to split so many bytes."""
    if size < 2:
        return ()
    way = rng.random()
    if way < 0.4:
        return ()
    if way < 0.6:
        return (rng.randrange(1, size),)
    if way < 0.7 and size < 300:
        return tuple(range(1, size))
    return tuple(sorted({rng.randrange(1, size) for _ in range(rng.choice((2, 3, 8)))}))


# -- answers ---------------------------------------------------------------------------

REPLY_HEADERS: tuple[bytes, ...] = (
    b"Content-Type: application/json",
    b"content-type: text/event-stream",
    b"Set-Cookie: a=b; Path=/",
    b"Set-Cookie: c=d",
    b"set-cookie: e=f",
    b"Date: Tue, 14 Nov 2023 22:13:20 GMT",
    b"Server: uvicorn",
    b"Via: 1.1 backend",
    b"X-Empty:",
    b"X-Padded: \t x \t",
    b"X-Latin: \xe9\xff",
    b"X-Long: " + b"z" * 5000,
    b"Connection: X-Gone",
    b"X-Gone: 1",
    b"Keep-Alive: timeout=5, max=100",
    b"Proxy-Authenticate: Basic",
    b"Trailer: X-T",
    b"Upgrade: h2c",
    b"WWW-Authenticate: Bearer",
    b"Location: /elsewhere",
    b'ETag: "x"',
    b"Content-Encoding: gzip",
    b"Server-Timing: db;dur=5",
    b"X-Accel-Buffering: no",
    b"Retry-After: 7",
    b'Alt-Svc: h3=":443"',
)
STATUSES = (
    *(b"200 OK",) * 6,
    b"201 Created",
    b"206 Partial Content",
    b"200",
    b"200 ",
    b"301 Moved Permanently",
    b"400 Bad Request",
    b"401 Unauthorized",
    b"404 Not Found",
    b"418 I'm a teapot \xe9",
    b"429 Too Many Requests",
    b"500 Internal Server Error",
    b"503 Service Unavailable",
    b"599 Odd",
    b"205 Reset Content",
)


def lines(rng: Random) -> list[bytes]:
    return rng.sample(REPLY_HEADERS, rng.choice((0, 1, 2, 4, 8)))


def pieces(rng: Random, data: bytes) -> tuple[Step, ...]:
    """The bytes in steps, with short pauses between them."""
    if rng.random() < 0.6 or len(data) < 2:
        return (Step(data),)
    places = sorted({rng.randrange(1, len(data)) for _ in range(rng.choice((1, 2, 5, 12)))})
    edges = [0, *places, len(data)]
    return tuple(
        Step(data[start:end], rng.choice((0.0, 0.001, 0.004))) for start, end in pairwise(edges)
    )


def legal(rng: Random, method: str) -> Answer:
    """One that HTTP allows."""
    status = rng.choice(STATUSES)
    version = b"HTTP/1.0" if rng.random() < 0.08 else b"HTTP/1.1"
    body = some(rng, sized(rng))
    head = lines(rng)
    end: Literal["keep", "close"] = "keep"
    name = "length"
    way = rng.random()
    if method == "HEAD":
        name, data = "of HEAD", b""
        if way < 0.6:
            head.append(b"Content-Length: %d" % len(body))
        elif way < 0.8:
            head.append(b"Transfer-Encoding: chunked")
    elif way < 0.1:
        status = rng.choice((b"204 No Content", b"304 Not Modified"))
        name, data = "without a body", b""
        if rng.random() < 0.4:
            head.append(b"Content-Length: %d" % rng.choice((0, 5)))
    elif way < 0.55:
        data = body
        head.insert(rng.randrange(len(head) + 1), b"Content-Length: %d" % len(body))
    elif way < 0.85 and version == b"HTTP/1.1":
        name = "chunked"
        places = [rng.randrange(len(body) + 1) for _ in range(rng.choice((0, 1, 3, 20)))]
        extension = rng.choice((b"", b"", b";x=y", b';x="y"'))
        trailers = rng.choice(((), (), (b"X-T: 1",), (b"Set-Cookie: t=1", b"X: y")))
        data = chunked(body, places, extension, trailers, rng.choice((b"", b"0")))
        head.insert(rng.randrange(len(head) + 1), b"Transfer-Encoding: chunked")
    else:
        name, data, end = "close-delimited", body, "close"
        if rng.random() < 0.5:
            head.append(b"Connection: close")
    if end == "keep" and rng.random() < 0.1:
        head.append(b"Connection: close")
        end = "close"
    raw = b"\r\n".join([version + b" " + status, *head, b"", data])
    if version == b"HTTP/1.1" and rng.random() < 0.12:
        interim = rng.choice(
            (
                b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
                b"HTTP/1.1 102 Processing\r\n\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\n",
                b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\nConnection: X-Gone\r\nX-Gone: 1\r\n\r\n",
            )
        )
        raw = interim * rng.choice((1, 1, 2)) + raw
        name += " behind an interim one"
    moment: Moment = "head" if rng.random() < 0.08 else "body"
    return Answer(name, pieces(rng, raw), moment, end)


#: Answers that break HTTP, and those at the edge: the client gets an error or a cut.
_OK: Final = b"HTTP/1.1 200 OK\r\n"
_CODED: Final = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
BAD_ANSWERS: dict[str, bytes] = {
    "length and coding": _OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": _OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": _OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a length twice": _OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "lengths in a list": _OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "signed length": _OK + b"Content-Length: +5\r\n\r\nhello",
    "negative length": _OK + b"Content-Length: -5\r\n\r\nhello",
    "empty length": _OK + b"Content-Length:\r\n\r\nhello",
    "hexadecimal length": _OK + b"Content-Length: 0x5\r\n\r\nhello",
    "length of 65 bits": _OK + b"Content-Length: 18446744073709551621\r\n\r\nhello",
    "gzip coding": _OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "gzip, chunked": _OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": _OK + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": _OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"
    b"\r\n\r\n0\r\n\r\n",
    "Chunked in capitals": _OK + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunked on HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/0.9": b"hello",
    "ICY": b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 99": b"HTTP/1.1 99 Odd\r\nContent-Length: 2\r\n\r\nok",
    "status 1000": b"HTTP/1.1 1000 Odd\r\nContent-Length: 2\r\n\r\nok",
    "status 000": b"HTTP/1.1 000 Odd\r\nContent-Length: 2\r\n\r\nok",
    "status 0200": b"HTTP/1.1 0200 OK\r\nContent-Length: 2\r\n\r\nok",
    "no status": b"HTTP/1.1  OK\r\nContent-Length: 2\r\n\r\nok",
    "control in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok",
    "NUL in a value": _OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "control in a value": _OK + b"X: a\x0bb\r\nContent-Length: 2\r\n\r\nok",
    "DEL in a value": _OK + b"X: a\x7fb\r\nContent-Length: 2\r\n\r\nok",
    "bare CR in a value": _OK + b"X: a\rb\r\nContent-Length: 2\r\n\r\nok",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "bare LF behind a header": _OK + b"X: y\nContent-Length: 2\r\n\r\nok",
    "bare LF at the end": _OK + b"Content-Length: 2\r\n\nok",
    "folded line": _OK + b"X: y\r\n z\r\nContent-Length: 2\r\n\r\nok",
    "folded length": _OK + b"Content-Length:\r\n 2\r\n\r\nok",
    "blank before the colon": _OK + b"Content-Length : 2\r\n\r\nok",
    "no colon": _OK + b"XY\r\nContent-Length: 2\r\n\r\nok",
    "no name": _OK + b": y\r\nContent-Length: 2\r\n\r\nok",
    "line end first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    "interim with a length": b"HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n"
    b"Content-Length: 2\r\n\r\nok",
    "interim with chunks": b"HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + _OK
    + b"Content-Length: 2\r\n\r\nok",
    "many interim ones": b"HTTP/1.1 102 Processing\r\n\r\n" * 100
    + _OK
    + b"Content-Length: 2\r\n\r\nok",
    "head too large": b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"y" * 8000 + b"\r\n") * 40 + b"\r\n",
    "204 with chunks": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "204 and a body": b"HTTP/1.1 204 No Content\r\n\r\nhello",
    "304 and a body": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
    "surplus": _OK + b"Content-Length: 2\r\n\r\nok, and more",
    "a second response": (_OK + b"Content-Length: 2\r\n\r\nok") * 2,
    "surplus behind chunks": _CODED + b"0\r\n\r\nmore",
    "chunk size 0x2": _CODED + b"0x2\r\nok\r\n0\r\n\r\n",
    "chunk size +2": _CODED + b"+2\r\nok\r\n0\r\n\r\n",
    "no chunk size": _CODED + b"\r\nok\r\n0\r\n\r\n",
    "blank behind a chunk size": _CODED + b"2 \r\nok\r\n0\r\n\r\n",
    "chunk size of 65 bits": _CODED + b"10000000000000002\r\nok\r\n0\r\n\r\n",
    "bare LF behind a chunk size": _CODED + b"2\nok\r\n0\r\n\r\n",
    "bare LF behind a chunk": _CODED + b"2\r\nok\n0\r\n\r\n",
    "chunk longer than it says": _CODED + b"2\r\nokay\r\n0\r\n\r\n",
    "bare LF at the end of chunks": _CODED + b"2\r\nok\r\n0\n\n",
    "bare CR in an extension": _CODED + b"2;a\rb\r\nok\r\n0\r\n\r\n",
    "length in a trailer": _CODED + b"2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n",
    "folded trailer": _CODED + b"2\r\nok\r\n0\r\nX: y\r\n z\r\n\r\n",
    "obs-text name": _OK + b"X\xe9: y\r\nContent-Length: 2\r\n\r\nok",
    "two Upgrades of 200": _OK + b"Connection: Upgrade\r\nUpgrade: a, b\r\n"
    b"Content-Length: 2\r\n\r\nok",
    "Connection names Content-Length": _OK + b"Connection: Content-Length\r\n"
    b"Content-Length: 2\r\n\r\nok",
    "Proxy-Connection": _OK + b"Proxy-Connection: close\r\nContent-Length: 2\r\n\r\nok",
}


def bad(rng: Random) -> Answer:
    """One that breaks HTTP, or nearly."""
    name = rng.choice(sorted(BAD_ANSWERS))
    raw = BAD_ANSWERS[name]
    if len(raw) > 5000:
        return Answer(name, (Step(raw),), end="close")
    return Answer(name, pieces(rng, raw), end=rng.choice(("close", "close", "keep")))


def broken_off(rng: Random) -> Answer:
    """One that ends before its end."""
    body = some(rng, rng.choice((10, 1000, 70_000)))
    framing, name = rng.choice(
        (
            (b"Content-Length: %d" % (len(body) + 5), "length"),
            (b"Transfer-Encoding: chunked", "chunked"),
            (b"X: close-delimited", "close-delimited"),
        )
    )
    if name == "chunked":
        body = b"%x\r\n%b\r\n" % (len(body), body)
        if rng.random() < 0.5:
            body += rng.choice((b"5\r\nhel", b"0\r\n", b"0", b"0\r\nX: y\r\n"))
    head = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n"
    end: Literal["close", "reset"] = rng.choice(("close", "reset"))
    where = rng.random()
    if where < 0.3:
        return Answer(f"{end} before a head", (Step(b"", 0.002),), end=end)
    if where < 0.4:
        return Answer(f"{end} within the head", (Step(head[:-3], 0.03),), end=end)
    return Answer(f"{end} within the body ({name})", (Step(head + body, 0.05),), end=end)


def reply(rng: Random, method: str) -> tuple[Answer, ...]:
    """The attempts' answers."""
    way = rng.random()
    if way < 0.8:
        return (legal(rng, method),)
    if way < 0.9:
        return (bad(rng),)
    first = broken_off(rng)
    return (first, legal(rng, method)) if rng.random() < 0.5 else (first,)


# -- cases -----------------------------------------------------------------------------


def sequence(rng: Random) -> Case:
    """Several well-formed requests, one after another or pipelined."""
    requests = [request(rng, number) for number in range(rng.choice((1, 1, 1, 2, 3, 5)))]
    pipelined = rng.random() < 0.5
    sends: list[Send] = []
    if pipelined:
        data = b"".join(one.head() + one.content() for one in requests)
        sends = [Send(data, cuts(rng, len(data)))]
    else:
        for number, one in enumerate(requests):
            data = one.head() + one.content()
            sends.append(Send(data, cuts(rng, len(data)), "response" if number else "none"))
    methods = tuple(one.method for one in requests)
    answers = tuple(reply(rng, method) for method in methods)
    kind = "pipelined" if pipelined and len(requests) > 1 else "sequence"
    return Case(kind, ", ".join(a[0].name for a in answers), tuple(sends), methods, answers)


def expecting(rng: Random) -> Case:
    """`Expect: 100-continue`: who waits, who doesn't, who is answered at once."""
    one = request(rng, 0, plain=True)
    body = some(rng, sized(rng))
    one = replace(
        one,
        method="POST",
        target=one.target if rng.random() < 0.8 else b"/nowhere/" + TOKEN,
        version=rng.choice((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0")),
        framing=rng.choice(("length", "chunked")),
        body=body,
        headers=(*one.headers, (b"Expect", rng.choice((b"100-continue", b"100-Continue", b"x")))),
    )
    gate: Gate = rng.choice(("continue", "continue", "none"))
    sends = (Send(one.head(), cuts(rng, 60)), Send(one.content(), cuts(rng, 20), gate))
    answer = legal(rng, "POST")
    if rng.random() < 0.3:
        answer = replace(answer, moment="head")
    elif rng.random() < 0.3:
        answer = replace(
            answer, steps=(Step(b"HTTP/1.1 100 Continue\r\n\r\n"), *answer.steps), moment="head"
        )
    return Case("expect", f"{gate}, {answer.name}", sends, ("POST",), ((answer,),))


def upgrading(rng: Random) -> Case:
    """A tunnel, with bytes that come early on either side; or a refusal."""
    asked = rng.choice((b"websocket", b"websocket", b"x, y", b"h2c, websocket", b"h2c"))
    headers = ((b"Host", b"a"), (b"Connection", b"Upgrade"), (b"Upgrade", asked))
    one = Request("GET", b"/r/t%b.0/ws" % TOKEN, headers=headers)
    switch = (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    early, late = rng.randbytes(rng.choice((0, 0, 5))), rng.randbytes(rng.choice((1, 100, 70_000)))
    behind = rng.randbytes(rng.choice((0, 3, 3000)))
    if rng.random() < 0.25 or asked == b"h2c":
        answer = legal(rng, "GET")
        data = one.head() + early
        return Case("upgrade", "refused", (Send(data, cuts(rng, 90)),), ("GET",), ((answer,),))
    answer = Answer("switched", pieces(rng, switch + behind), "body", "tunnel")
    sends = (Send(one.head() + early, cuts(rng, 90)), Send(late, cuts(rng, len(late)), "response"))
    size = len(early) + len(behind) + len(late)
    note = f"{len(early)} early, {len(behind)} behind the 101"
    return Case("upgrade", note, sends, ("GET",), ((answer,),), "half-close", size)


def leaving(rng: Random) -> Case:
    """A client that leaves in the middle of something."""
    ending: Ending = rng.choice(("half-close", "reset", "close"))
    one = request(rng, 0, plain=True)
    raw = one.head() + one.content()
    where = rng.choice(("head", "body", "waiting", "answer"))
    answer = Answer("silent", ())
    if where == "head":
        raw = raw[: rng.randrange(1, len(one.head()))]
    elif where == "body":
        one = replace(one, method="POST", framing="length", body=some(rng, 5000))
        raw = one.head() + one.body[: rng.randrange(5000)]
    elif where == "answer":
        framing = rng.choice((b"Content-Length: 900000", b"Transfer-Encoding: chunked", b"X: y"))
        start = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n"
        answer = Answer("begun", (Step(start + b"5\r\nhello\r\n"),))
    sends = (Send(raw, cuts(rng, len(raw))),)
    return Case("leaving", f"{where}, {ending}", sends, (one.method,), ((answer,),), ending)


#: Header lines that make a well-formed head a doubtful one.
NEAR_MISSES: dict[str, bytes] = {
    "length and coding": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "coding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6",
    "a length twice": b"Content-Length: 5\r\nContent-Length: 5",
    "lengths in a list": b"Content-Length: 5, 5",
    "signed length": b"Content-Length: +5",
    "negative length": b"Content-Length: -5",
    "hexadecimal length": b"Content-Length: 0x5",
    "empty length": b"Content-Length:",
    "length with a gap": b"Content-Length: 1 1",
    "length with zeros": b"Content-Length: 0005",
    "length with a tab": b"Content-Length:\t5\t",
    "length of 64 bits": b"Content-Length: 18446744073709551615",
    "length of 65 bits": b"Content-Length: 18446744073709551621",
    "length in other digits": b"Content-Length: \xb2",
    "length with a fraction": b"Content-Length: 5.0",
    "vertical tab before the length": b"Content-Length: \x0b5",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked, gzip": b"Transfer-Encoding: chunked, gzip",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked",
    "hole and chunked": b"Transfer-Encoding: , chunked",
    "chunked and a hole": b"Transfer-Encoding: chunked,",
    "chunked with a parameter": b"Transfer-Encoding: chunked;q=1",
    "xchunked": b"Transfer-Encoding: xchunked",
    "chunkedx": b"Transfer-Encoding: chunkedx",
    "quoted chunked": b'Transfer-Encoding: "chunked"',
    "CHUNKED": b"Transfer-Encoding: CHUNKED",
    "no coding": b"Transfer-Encoding:",
    "identity": b"Transfer-Encoding: identity",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "chunked and identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "tabs around chunked": b"Transfer-Encoding:\tchunked\t",
    "vertical tab before chunked": b"Transfer-Encoding: \x0bchunked",
    "NUL before chunked": b"Transfer-Encoding: \0chunked",
    "blank before the colon": b"Transfer-Encoding : chunked",
    "tab before the colon": b"Transfer-Encoding\t: chunked",
    "NUL before the colon": b"Transfer-Encoding\0: chunked",
    "blank before the length's colon": b"Content-Length : 5",
    "coding on a folded line": b"Transfer-Encoding:\r\n chunked",
    "length on a folded line": b"Content-Length:\r\n\t5",
    "folded line": b"X: y\r\n z",
    "folded coding": b"X: y\r\n Transfer-Encoding: chunked",
    "header behind a blank": b" Transfer-Encoding: chunked",
    "coding behind a bare LF": b"X: y\nTransfer-Encoding: chunked",
    "coding behind a bare CR": b"X: y\rTransfer-Encoding: chunked",
    "CR CR LF": b"X: y\r",
    "NUL in a value": b"X: y\0z",
    "control character in a value": b"X: y\x01z",
    "escape in a value": b"X: y\x1bz",
    "DEL in a value": b"X: y\x7fz",
    "no name": b": y",
    "no colon": b"XY",
    "blank in a name": b"X Y: z",
    "quote in a name": b'X"Y: z',
    "name in other letters": "Ü: y".encode(),
    "underscores": b"Transfer_Encoding: chunked",
    "second Host": b"Host: b",
    "same Host again": b"Host: a",
    "Upgrade and a body": b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5",
    "Upgrade and chunks": b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Transfer-Encoding: chunked",
    "Upgrade unnamed": b"Upgrade: websocket",
    "Upgrade twice": b"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: x",
    "Upgrade to nothing": b"Connection: Upgrade\r\nUpgrade:",
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    "Connection names the length": b"Connection: content-length\r\nContent-Length: 5",
    "Connection names the coding": b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
    "close and keep-alive": b"Connection: close, keep-alive",
    "long value": b"X: " + b"y" * 9000,
    "longer value": b"X: " + b"y" * 40_000,
    "value too long": b"X: " + b"y" * 70_000,
    "long name": b"x" * 9000 + b": y",
    "many headers": b"\r\n".join(b"X%d: y" % number for number in range(120)),
    "too many headers": b"\r\n".join(b"X%d: y" % number for number in range(1000)),
    "Expect of something": b"Expect: 200-ok",
    "Expect twice": b"Expect: 100-continue\r\nExpect: 100-continue",
    "Max-Forwards": b"Max-Forwards: 0",
}
BODIES = (
    b"",
    b"hello",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"hello0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
)
#: First lines that nobody should take, and some that are only odd.
FIRST_LINES = (
    b"GET %b",
    b"GET %b HTTP/1.1 ",
    b"GET  %b HTTP/1.1",
    b"GET %b  HTTP/1.1",
    b" GET %b HTTP/1.1",
    b"GET %b x HTTP/1.1",
    b"GET\t%b\tHTTP/1.1",
    b"get %b HTTP/1.1",
    b"Get %b HTTP/1.1",
    b"FOO %b HTTP/1.1",
    b"QUERY %b HTTP/1.1",
    b"G\xe9T %b HTTP/1.1",
    b"GET %b HTTP/0.9",
    b"GET %b HTTP/1.2",
    b"GET %b HTTP/2.0",
    b"GET %b HTTP/3",
    b"GET %b HTTP/11.1",
    b"GET %b HTTP/1.10",
    b"GET %b http/1.1",
    b"GET %b HTTPS/1.1",
    b"GET %b HTTP/1.1\0",
    b"GET %b\0 HTTP/1.1",
    b"GET %b\x01 HTTP/1.1",
    b"GET %b\x7f HTTP/1.1",
    b"GET %b\xe9 HTTP/1.1",
    b"GET %b# HTTP/1.1",
    b"GET %b%%00 HTTP/1.1",
    b"GET %b\\x HTTP/1.1",
    b"GET %b?\\x HTTP/1.1",
    b"GET %b?a#b HTTP/1.1",
    b"GET x%b HTTP/1.1",
    b"GET *%b HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT a:80 HTTP/1.1",
    b"CONNECT %b HTTP/1.1",
    b"TRACE %b HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"GET http:%b HTTP/1.1",
    b"GET http://%b HTTP/1.1",
    b"GET http://u@a%b HTTP/1.1",
    b"GET ftp://a%b HTTP/1.1",
    b"GET http://a:99999999%b HTTP/1.1",
    b"GET /%b HTTP/1.1",
    b"GET %b/.. HTTP/1.1",
    b"GET %b/../.. HTTP/1.1",
    b"GET %b/..%%2f..%%2f.. HTTP/1.1",
    b"GET %b/" + b"x" * 9000 + b" HTTP/1.1",
    b"GET %b/" + b"x" * 70_000 + b" HTTP/1.1",
    b"\r\nGET %b HTTP/1.1",
    b"\r\n\r\n\r\nGET %b HTTP/1.1",
    b"\nGET %b HTTP/1.1",
    b"\rGET %b HTTP/1.1",
    b"HTTP/1.1 200 OK",
    b"M-SEARCH %b HTTP/1.1",
    b"SOURCE %b ICE/1.0",
    b"DESCRIBE rtsp://a%b RTSP/1.0",
)
CHUNKS: dict[str, bytes] = {
    "0x5": b"0x5\r\nhello\r\n0\r\n\r\n",
    "+5": b"+5\r\nhello\r\n0\r\n\r\n",
    "-5": b"-5\r\nhello\r\n0\r\n\r\n",
    "0_5": b"0_5\r\nhello\r\n0\r\n\r\n",
    "behind a blank": b" 5\r\nhello\r\n0\r\n\r\n",
    "before a blank": b"5 \r\nhello\r\n0\r\n\r\n",
    "before a tab": b"5\t\r\nhello\r\n0\r\n\r\n",
    "none": b"\r\nhello\r\n0\r\n\r\n",
    "no number": b"g\r\nhello\r\n0\r\n\r\n",
    "65 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "64 bits": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "many zeros": b"0" * 40 + b"5\r\nhello\r\n0\r\n\r\n",
    "bare LF": b"5\nhello\r\n0\r\n\r\n",
    "bare LF throughout": b"5\nhello\n0\n\n",
    "bare LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;a\0b\r\nhello\r\n0\r\n\r\n",
    "blank before an extension": b"5 ;a\r\nhello\r\n0\r\n\r\n",
    "blank behind the semicolon": b"5; a=b\r\nhello\r\n0\r\n\r\n",
    "open quote": b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "quoted line end": b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n',
    "long extension": b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
    "bare LF behind": b"5\r\nhello\n0\r\n\r\n",
    "bare CR behind": b"5\r\nhello\r0\r\n\r\n",
    "nothing behind": b"5\r\nhello0\r\n\r\n",
    "longer than it says": b"5\r\nhello!!\r\n0\r\n\r\n",
    "shorter than it says": b"5\r\nhell\r\n0\r\n\r\n",
    "bare LF at the end": b"5\r\nhello\r\n0\n\n",
    "bare LF behind the last": b"5\r\nhello\r\n0\r\n\n",
    "bare LF in a trailer": b"0\r\nX: y\n\r\n",
    "length as a trailer": b"0\r\nContent-Length: 3\r\n\r\n",
    "coding as a trailer": b"0\r\nTransfer-Encoding: gzip\r\n\r\n",
    "chunked as a trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "request as a trailer": b"0\r\nGET /p/smuggled HTTP/1.1\r\n\r\n",
    "folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "trailer without a colon": b"0\r\nX\r\n\r\n",
    "trailer too long": b"0\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    "too many trailers": b"0\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    "no end": b"5\r\nhello\r\n",
    "zero with an extension": b"5\r\nhello\r\n0;a=b\r\n\r\n",
    "00": b"5\r\nhello\r\n00\r\n\r\n",
    "capital": b"A\r\nhellohello\r\n0\r\n\r\n",
}


def near_miss(rng: Random) -> Case:
    """A request that is nearly well-formed, with another one behind it."""
    name = b"t%b.0" % TOKEN
    way = rng.random()
    body = rng.choice(BODIES)
    if way < 0.5:
        note = rng.choice(sorted(NEAR_MISSES))
        line = NEAR_MISSES[note]
        host = [] if rng.random() < 0.03 else [b"Host: a"]
        head = [line, *host] if rng.random() < 0.3 else [*host, line]
        version = b"HTTP/1.0" if rng.random() < 0.1 else b"HTTP/1.1"
        method = "GET" if rng.random() < 0.3 else "POST"
        start = b"%b /r/%b %b" % (method.encode(), name, version)
        raw = b"\r\n".join([start, *head, b"", body])
    elif way < 0.75:
        first = rng.choice(FIRST_LINES)
        note = first[:40].decode("latin-1")
        start = first % (b"/r/" + name) if b"%b" in first else first
        method = "HEAD" if first.startswith(b"HEAD") else "GET"
        raw = start + b"\r\nHost: a\r\n\r\n"
    elif way < 0.95:
        note = rng.choice(sorted(CHUNKS))
        method = "POST"
        start = b"POST /r/%b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % name
        raw = start + CHUNKS[note]
        note = f"chunk: {note}"
    else:
        method, ends = "GET", rng.choice((b"\n", b"\r", b"\r\r\n", b"\n\r"))
        note = f"line ends {ends!r}"
        raw = ends.join([b"GET /r/%b HTTP/1.1" % name, b"Host: a", b"", b""])
    return doubtful(rng, "near miss", note, raw, method)


def mutated(rng: Random) -> Case:
    """A well-formed request with some bytes changed."""
    one = request(rng, 0, plain=rng.random() < 0.5)
    if len(one.body) > 2000:
        one = replace(one, body=one.body[:2000])
    raw = bytearray(one.head() + one.content())
    limit = min(len(raw), len(one.head()) + 30)
    notes: list[str] = []
    start = raw.find(TOKEN)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place = rng.randrange(min(limit, len(raw)))
        if start - 2 <= place < start + len(TOKEN) + 2:
            continue
        odd = rng.choice(
            (b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b"\x80", b",", b"0", b";")
        )
        what = rng.randrange(3)
        notes.append(f"{('insert', 'replace', 'delete')[what]} {odd!r} at {place}")
        if what == 0:
            raw[place:place] = odd
        elif what == 1:
            raw[place : place + 1] = odd
        else:
            del raw[place]
        start = raw.find(TOKEN)
    return doubtful(rng, "mutated", "; ".join(notes), bytes(raw), one.method)


def doubtful(rng: Random, kind: str, note: str, raw: bytes, method: str) -> Case:
    """A doubtful request, perhaps behind a good one, perhaps before one that may be smuggled."""
    methods = [method, "GET"]
    answers: list[tuple[Answer, ...]] = [(PLAIN,), (PLAIN,)]
    if rng.random() < 0.5:
        raw += b"GET /p/t%b.1/next HTTP/1.1\r\nHost: a\r\n\r\n" % TOKEN
    if rng.random() < 0.2:
        raw = b"GET /r/t%b.2/first HTTP/1.1\r\nHost: a\r\n\r\n" % TOKEN + raw
        methods.insert(0, "GET")
    if rng.random() < 0.2:
        answers[0] = (replace(PLAIN, moment="head"),)
    splits = cuts(rng, len(raw)) if rng.random() < 0.5 else ()
    return Case(kind, note, (Send(raw, splits),), tuple(methods), tuple(answers))


def boundary_requests() -> list[tuple[str, bytes, tuple[str, ...]]]:
    """Small ones, to be split at every byte."""
    path, other = b"/r/t%b.0" % TOKEN, b"/p/t%b.1" % TOKEN
    host = b"Host: a\r\n"
    get = b"GET %b HTTP/1.1\r\n%b\r\n" % (path, host)
    post = b"POST %b HTTP/1.1\r\n%bContent-Length: 5\r\n\r\nhello" % (path, host)
    coded = b"POST %b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (path, host)
    coded += b"5;x=y\r\nhello\r\n2\r\n\r\n\r\n0\r\nX-T: 1\r\n\r\n"
    old = b"POST %b HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok" % path
    return [
        ("two requests", get + b"GET %b HTTP/1.1\r\n%b\r\n" % (other, host), ("GET", "GET")),
        ("a body and a request", post + get.replace(path, other), ("POST", "GET")),
        ("chunks and a request", coded + get.replace(path, other), ("POST", "GET")),
        ("HTTP/1.0", old, ("POST",)),
        ("line ends between", get + b"\r\n" + get.replace(path, other), ("GET", "GET")),
        ("line ends behind a body", post + b"\r\n" + get.replace(path, other), ("POST", "GET")),
        ("a bad chunk", coded.replace(b"\r\n2\r\n", b"\r\n+2\r\n"), ("POST",)),
        ("length and coding", coded.replace(host, host + b"Content-Length: 5\r\n"), ("POST",)),
    ]


def boundaries() -> list[Case]:
    """The small ones, split at each byte, and into single bytes."""
    found: list[Case] = []
    for note, raw, methods in boundary_requests():
        answers = tuple((PLAIN,) for _ in methods)
        for place in range(1, len(raw)):
            found.append(Case("boundary", note, (Send(raw, (place,)),), methods, answers))
        every = tuple(range(1, len(raw)))
        found.append(Case("boundary", f"{note}, bytes", (Send(raw, every),), methods, answers))
    return found


KINDS: tuple[tuple[int, Callable[[Random], Case]], ...] = (
    (40, sequence),
    (6, expecting),
    (6, upgrading),
    (8, leaving),
    (24, near_miss),
    (16, mutated),
)


def make(seed: int, number: int) -> Case:
    """The case of this number; the same each time."""
    rng = Random(f"{seed} {number}")
    (chosen,) = rng.choices([one for _, one in KINDS], [weight for weight, _ in KINDS])
    return chosen(rng)


def cases(seed: int, count: int) -> list[Case]:
    """So many: every boundary of the small requests first, then random ones."""
    fixed = boundaries()[:count]
    return fixed + [make(seed, number) for number in range(count - len(fixed))]


def smaller(case: Case) -> list[Case]:
    """Simpler versions of a case, the boldest first."""
    found: list[Case] = []
    if any(one.cuts for one in case.sends):
        found.append(replace(case, sends=tuple(replace(one, cuts=()) for one in case.sends)))
    for number, one in enumerate(case.sends):
        for place in range(len(one.cuts)):
            cuts_left = (*one.cuts[:place], *one.cuts[place + 1 :])
            if len(one.cuts) <= 8:
                found.append(_with_send(case, number, replace(one, cuts=cuts_left)))
        head, mark, rest = one.data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        for place in range(1, len(lines)):
            kept = b"\r\n".join([*lines[:place], *lines[place + 1 :]])
            if TOKEN not in lines[place]:
                found.append(_with_send(case, number, Send(kept + mark + rest, gate=one.gate)))
    for number, attempts in enumerate(case.answers):
        if attempts != (PLAIN,):
            answers = (*case.answers[:number], (PLAIN,), *case.answers[number + 1 :])
            found.append(replace(case, answers=answers))
        elif len(attempts[0].steps) > 1:
            whole = b"".join(step.data for step in attempts[0].steps)
            joined = (replace(attempts[0], steps=(Step(whole),)), *attempts[1:])
            answers = (*case.answers[:number], joined, *case.answers[number + 1 :])
            found.append(replace(case, answers=answers))
    if len(case.sends) > 1:
        found.append(
            replace(case, sends=case.sends[:-1], methods=case.methods[: len(case.sends) - 1])
        )
    return found


def _with_send(case: Case, number: int, one: Send) -> Case:
    return replace(case, sends=(*case.sends[:number], one, *case.sends[number + 1 :]))
