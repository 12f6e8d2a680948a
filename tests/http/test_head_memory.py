"""A connection that remembers its last head reads each head as one that remembers none."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.http.headers import Field, HeadMemory, RequestHead
from launcher.http.server import ClientConnection, Limits, Request, Shared
from launcher.proxy.fields import field_table

NAMES = (
    b"Content-Length",
    b"content-length",
    b"Content-Type",
    b"Host",
    b"Connection",
    b"Transfer-Encoding",
    b"Expect",
    b"Upgrade",
    b"Authorization",
    b"traceparent",
    b"X-A",
    b"x-a",
    b"Via",
    b"User-Agent",
)
VALUES = (
    b"0",
    b"3",
    b"12",
    b"+3",
    b"3 ",
    b"a",
    b"A",
    b"close",
    b"keep-alive",
    b"chunked",
    b"100-continue",
    b"application/json",
    b"text/plain",
    b"Mozilla/5.0",
    b"x\x00y",
    b"x\x7f",
    b"\xff",
    b"",
)
LINES = st.tuples(st.sampled_from(NAMES), st.sampled_from((b": ", b":", b":\t", b" : "))).flatmap(
    lambda start: st.sampled_from(VALUES).map(lambda value: b"".join(start) + value)
)


class Taking(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else default

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


def a_connection() -> tuple[ClientConnection, list[Request], Taking]:
    requests: list[Request] = []
    connection = ClientConnection(Shared(requests.append, Limits(), field_table()))
    transport = Taking()
    connection.connection_made(transport)
    return connection, requests, transport


def told(request: Request) -> tuple[RequestHead, int, int, bool, bool]:
    return (
        request.head,
        request.flags,
        request.content_length,
        request.keep_alive,
        request.expects_continue,
    )


def read(connection: ClientConnection, requests: list[Request], head: bytes) -> Any:
    """What a connection makes of a head, and that request ended; None: it was refused."""
    before = len(requests)
    connection.data_received(head)
    if len(requests) == before:
        return None
    request = requests[-1]
    if not request.body_complete:
        connection.data_received(b"x" * request.left)
    found = told(request)
    request.start(200, b"OK", ((b"Content-Length", b"0"),))
    request.end()
    request.over()
    return found


@st.composite
def runs(draw: st.DrawFn) -> list[list[bytes]]:
    """Heads of which each differs from the one before in a few lines."""
    first = [b"POST /coder/x HTTP/1.1", b"Host: a", *draw(st.lists(LINES, max_size=5))]
    found = [first]
    for _ in range(draw(st.integers(1, 5))):
        head = list(draw(st.sampled_from(found)))
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(1, len(head) - 1))
            head[at] = draw(LINES)
        found.append(head)
    return found


@settings(max_examples=600, deadline=None)
@given(runs())
async def test_heads_mean_the_same_with_and_without_a_memory(run: list[list[bytes]]) -> None:
    connection, requests, _ = a_connection()
    for lines in run:
        head = b"\r\n".join([*lines, b"", b""])
        fresh, fresh_requests, _ = a_connection()
        expected = read(fresh, fresh_requests, head)
        found = read(connection, requests, head)
        assert found == expected
        if found is None or not requests[-1].keep_alive or requests[-1].chunked:
            connection, requests, _ = a_connection()


async def test_the_last_head_is_known_again_with_another_length_and_trace() -> None:
    connection, requests, _ = a_connection()
    for length, trace in ((b"3", b"a1"), (b"12", b"a1"), (b"12", b"b2"), (b"4", b"c3")):
        lines = [b"POST / HTTP/1.1", b"Host: a", b"traceparent: " + trace, b"X: y"]
        lines.append(b"Content-Length: " + length)
        read(connection, requests, b"\r\n".join([*lines, b"", b""]))
        head = requests[-1].head
        assert (head.content_length, head.get(b"traceparent")) == (int(length), trace)
        assert head.get(b"content-length") == length
    memories = {id(request.memory) for request in requests}
    assert len(requests) == 4
    assert len(memories) == 1


def test_a_value_that_came_before_is_told_from_the_last_one() -> None:
    """`match` compares with the lines it saw last, `find` goes on from there."""
    table = field_table()

    def lines(length: bytes, trace: bytes) -> list[bytes]:
        return [b"POST / HTTP/1.1", b"X: " + trace, b"Content-Length: " + length, b"Host: a"]

    def fields(lines: list[bytes]) -> list[Field]:
        return [field for line in lines[1:] if (field := table.read(line)) is not None]

    first = lines(b"10", b"a")
    memory = HeadMemory(first, fields(first), 10, None)
    whole = b"\r\n".join([*first, b"", b"body"])
    assert memory.find(whole) == 0
    assert memory.match(lines(b"11", b"b"))
    assert memory.varying == [0, 1]
    for length, trace in ((b"12", b"c"), (b"11", b"b"), (b"10", b"c"), (b"10", b"c")):
        head = b"\r\n".join([*lines(length, trace), b"", b""])
        assert memory.find(head + b"body") == len(head)
        assert memory.length == int(length)
        assert [field.value for field in memory.fields] == [trace, length, b"a"]
    assert not memory.unread
    assert memory.match(lines(b"11", b"b"))
    assert memory.length == 11
    assert [field.value for field in memory.fields] == [b"b", b"11", b"a"]
    for length, trace in ((b"1x", b"b"), (b"11", b"\n"), (b"11", b"\x00"), (b"111", b"b")):
        assert memory.find(b"\r\n".join([*lines(length, trace), b"", b""])) == 0
    assert memory.find(b"\r\n".join(lines(b"11", b"b"))) == 0
    assert memory.length == 11


def test_what_may_differ_and_what_may_not() -> None:
    table = field_table()
    lines = [b"POST / HTTP/1.1", b"Host: a", b"X: 1", b"Content-Type: text/plain"]
    fields = [field for line in lines[1:] if (field := table.read(line)) is not None]

    def matches(at: int, line: bytes) -> bool:
        changed = [*lines[:at], line, *lines[at + 1 :]]
        return HeadMemory(lines, fields, -1, None).match(changed)

    assert matches(2, b"X: 2")
    assert matches(2, b"X:")
    for at, line in (
        (0, b"GET / HTTP/1.1"),
        (1, b"Host: b"),
        (2, b"Y: 1"),
        (2, b"x: 2"),
        (2, b"X: 2\x00"),
        (2, b"X"),
        (2, b" X: 2"),
        (3, b"Content-Type: application/json"),
    ):
        assert not matches(at, line)
