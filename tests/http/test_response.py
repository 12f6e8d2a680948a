"""Responses from bytes: framing, interim heads, lies, cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.http.endpoint import Endpoint
from launcher.http.errors import RemoteProtocolError, UpstreamDisconnected
from launcher.http.headers import RawHeaders
from launcher.http.upstream import MAX_HEAD, UpstreamConnection
from tests.http.recording import Recording, Wire

pytestmark = pytest.mark.usefixtures("resting_loop")


class Reading(Recording):
    """A response as it is read from the bytes it is fed."""

    def __init__(self, method: str = "GET", *, upgrade: bool = False, raw: bool = False) -> None:
        super().__init__(raw=raw)
        self.wire = Wire()
        self.connection = UpstreamConnection(Endpoint("127.0.0.1", 9))
        self.connection.connection_made(self.wire)
        self.connection.begin(self, method, upgrade=upgrade)

    def feed(self, data: bytes) -> None:
        self.connection.data_received(data)

    @property
    def reusable(self) -> bool:
        """Another exchange may follow on the connection."""
        return self.connection.reusable


def read(*parts: bytes, method: str = "GET", upgrade: bool = False, raw: bool = False) -> Reading:
    reading = Reading(method, upgrade=upgrade, raw=raw)
    for part in parts:
        reading.feed(part)
    return reading


WHOLE = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 Very Fine\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n"
    b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n1\r\nh\r\n0\r\nX-Trailer: no\r\n\r\n"
)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12), st.booleans())
def test_it_makes_no_difference_where_the_bytes_are_cut(cuts: list[int], raw: bool) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    reading = read(*(WHOLE[a:b] for a, b in pairwise(edges) if a < b), raw=raw)
    assert reading.interim == [(103, b"Early Hints", ((b"Link", b"</a>"),))]
    head = reading.head
    assert (head.status, head.reason, head.headers) == (200, b"Very Fine", ((b"X-A", b"1"),))
    assert reading.body == b"abcdefgh"
    assert reading.complete
    assert reading.reusable


@pytest.mark.parametrize("before", [b"\r\n", b"\n", b"\r\n\r\n\r\n"])
@pytest.mark.parametrize("split", [False, True])
def test_line_ends_before_a_status_line_are_ignored(before: bytes, split: bool) -> None:
    data = before + b"HTTP/1.1 100 Continue\r\n\r\n" + before
    data += b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    reading = read(*(data[at : at + 1] for at in range(len(data)))) if split else read(data)
    assert [status for status, _, _ in reading.interim] == [100]
    assert (reading.head.status, reading.body, reading.complete) == (200, b"ok", True)
    assert reading.reusable


def test_whole_chunks_are_passed_on_as_they_came() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    two, half, odd = b"3\r\nabc\r\n2\r\nde\r\n", b"4\r\nfg", b"1;x=y\r\nj\r\n"
    reading = read(head, two, half, b"hi\r\n", odd, b"1\r\nk\r\n", b"0\r\n\r\n", raw=True)
    assert reading.body == b"abcdefghijk"
    assert reading.chunks == [two, b"1\r\nk\r\n"]
    assert reading.reusable
    assert read(head, two, b"0\r\n\r\n").chunks == []


@pytest.mark.parametrize(
    ("response", "keeps"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, close\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\nok", True),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", True),
    ],
)
def test_whether_the_connection_is_kept(response: bytes, keeps: bool) -> None:
    reading = read(response)
    assert reading.body == b"ok"
    assert reading.complete
    assert reading.reusable is keeps


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    ],
)
def test_heads_that_end_the_response(method: str, response: bytes) -> None:
    reading = read(response, method=method)
    assert reading.complete
    assert reading.reusable
    followed = read(response + b"hello", method=method)
    assert followed.complete
    assert not followed.reusable
    assert followed.pieces == []
    later = read(response, b"0\r\n\r\n", method=method)
    assert not later.reusable
    # And where it was let go in between.
    idle = read(response, method=method)
    idle.connection.rest(0.0)
    idle.feed(b"0\r\n\r\n")
    assert idle.wire.aborted


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_a_body_that_was_announced_and_has_no_place_may_still_come(
    method: str, response: bytes
) -> None:
    """It would be the response of the connection's next request."""
    reading = read(response, method=method)
    assert reading.complete
    assert not reading.reusable


def test_a_body_that_ends_with_the_connection() -> None:
    reading = read(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd")
    assert not reading.complete
    assert not reading.connection.eof_received()
    assert reading.complete
    assert not reading.reusable
    assert reading.body == b"abcd"


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nX: 1\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
)
def test_an_end_that_comes_too_early(response: bytes) -> None:
    reading = read(response)
    reading.connection.eof_received()
    assert isinstance(reading.error, UpstreamDisconnected)
    assert not reading.complete


@pytest.mark.parametrize(
    "surplus", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"\x00\x01"]
)
@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
def test_more_than_was_promised_is_dropped(surplus: bytes, connection: bytes) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: %b\r\n\r\nok" % connection
    for parts in ((response + surplus,), (response, surplus)):
        reading = read(*parts)
        assert reading.body == b"ok"
        assert reading.complete
        assert not reading.reusable


@pytest.mark.parametrize("raw", [True, False])
def test_more_than_the_last_chunk_is_dropped(raw: bool) -> None:
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    for parts in ((response + b"1\r\nx\r\n",), (response, b"1\r\nx\r\n")):
        reading = read(*parts, raw=raw)
        assert reading.body == b"ok"
        assert reading.complete
        assert not reading.reusable


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x2",
        b"HTTP/1.1 200 OK\r\nContent-Length: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 5000 + b"2",
        b"HTTP/1.1 200 OK\r\nX-A: a\x01b",
        b"HTTP/1.1 200 OK\r\nX-A: a\x00b",
        b"HTTP/1.1 200 OK\r\nX-A: a\rb",
        b"HTTP/1.1 200 OK\r\nX-A: a\nX-B: b",
        b"HTTP/1.1 200 OK\r\nX-A: a\r\n folded",
        b"HTTP/1.1 200 OK\r\nX-A : a",
        b"HTTP/1.1 200 OK\r\nX A: a",
        b"HTTP/1.1 200 O\x01K",
        b"HTTP/2.0 200 OK",
        b"HTTP/0.9 200 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 20 OK",
        b"ICY 200 OK",
        b"SSH-2.0-OpenSSH_9.2",
        b"HTTP/1.1 103 Early\r\nContent-Length: 2",
        b"HTTP/1.1 102 Processing\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 103 Early\r\nConnection: close",
        b"HTTP/1.0 103 Early",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket",
        b"HTTP/1.1 101 Switching Protocols",
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_answers_that_break_http(head: bytes, split: bool) -> None:
    data = head + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    reading = Reading()
    for at in range(0, len(data), 1 if split else len(data)):
        if reading.error is None:
            reading.feed(data[at : at + (1 if split else len(data))])
    assert isinstance(reading.error, RemoteProtocolError)
    assert reading.final is None
    assert reading.wire.aborted


@pytest.mark.parametrize("line", [b"X-A: a\x01b", b"X-A: a\x00b", b"X-A: a\rb"])
def test_control_characters_are_called_so(line: bytes) -> None:
    reading = read(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n")
    assert "control characters" in str(reading.error)


def test_a_fault_within_the_body_leaves_what_came_before() -> None:
    reading = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n")
    assert isinstance(reading.error, RemoteProtocolError)
    assert reading.body == b"ok"
    assert not reading.complete


@pytest.mark.parametrize("size", [b"0x2", b"0X2", b"+2", b"2 ", b" 2", b"2_0", b"", b"-2"])
def test_a_chunks_size_is_plain_hexadecimal(size: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    reading = read(head, size + b"\r\nok\r\n", raw=True)
    assert isinstance(reading.error, RemoteProtocolError)
    assert (reading.body, reading.chunks) == (b"x", [])


def test_a_head_without_end_is_refused() -> None:
    reading = read(b"HTTP/1.1 200 OK\r\n")
    line = b"X-A: " + b"a" * 4089 + b"\r\n"
    for _ in range(MAX_HEAD // len(line) - 1):
        reading.feed(line)
    assert reading.error is None
    reading.feed(line)
    assert "larger" in str(reading.error)


def test_interim_heads_without_end_are_refused() -> None:
    reading = Reading()
    interim = b"HTTP/1.1 103 E\r\nX-A: " + b"a" * 4090 + b"\r\n\r\n"
    for _ in range(MAX_HEAD // len(interim) + 1):
        if reading.error is None:
            reading.feed(interim)
    assert "larger" in str(reading.error)


def test_a_switch_keeps_what_comes_behind_it() -> None:
    head = b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: foo\r\nX: 1\r\n\r\n"
    reading = read(head + b"\x00raw", b"more", upgrade=True)
    assert reading.head.upgrade == b"foo"
    assert reading.head.headers == ((b"X", b"1"),)
    assert not reading.complete
    assert reading.connection.detach() == (reading.wire, b"\x00rawmore", False)
    assert not reading.wire.paused


def test_much_behind_a_switch_waits_for_the_tunnel() -> None:
    head = b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n"
    reading = read(head, bytes(65536), b"x", upgrade=True)
    assert reading.wire.paused
    assert reading.connection.detach()[1] == bytes(65536) + b"x"
    assert not reading.wire.paused


def test_a_switch_without_naming_the_protocol_is_refused() -> None:
    reading = read(b"HTTP/1.1 101 Go\r\n\r\n", upgrade=True)
    assert isinstance(reading.error, RemoteProtocolError)


def test_an_upgrade_that_is_declined_is_a_response() -> None:
    reading = read(b"HTTP/1.1 200 OK\r\nUpgrade: h2\r\nContent-Length: 2\r\n\r\nok", upgrade=True)
    assert reading.body == b"ok"
    assert reading.reusable
    assert repr(reading.connection) == "<UpstreamConnection http://127.0.0.1:9 done>"
    assert repr(reading.head) == "<ResponseHead 200>"


def test_a_response_loses_what_is_of_its_connection() -> None:
    lines: RawHeaders = (
        (b"Set-Cookie", b"a=1"),
        (b"Connection", b"X-Hop, Keep-Alive, Content-Length"),
        (b"Keep-Alive", b"timeout=5"),
        (b"x-hop", b"1"),
        (b"Proxy-Authenticate", b"Basic"),
        (b"Trailer", b"X-T"),
        (b"Upgrade", b"h2"),
        (b"TE", b"trailers"),
        (b"content-length", b"5"),
        (b"Set-Cookie", b"b=2"),
        (b"X-Odd", b"\xe9\x80"),
        (b"Expect", b"nothing"),
        (b"Host", b"odd"),
    )
    reading = read(
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b:\t%b \r\n" % line for line in lines) + b"\r\nhello"
    )
    assert reading.head.headers == (
        (b"Set-Cookie", b"a=1"),
        (b"content-length", b"5"),
        (b"Set-Cookie", b"b=2"),
        (b"X-Odd", b"\xe9\x80"),
        (b"Expect", b"nothing"),
        (b"Host", b"odd"),
    )
    assert (reading.body, reading.head.length, reading.reusable) == (b"hello", 5, True)
    assert reading.head.value_of(b"x-odd: ") == b"\xe9\x80"
    assert reading.head.value_of(b"x-none: ") == b""


@given(st.binary(max_size=20), st.sampled_from([b"name", b"value", b"reason"]))
def test_control_characters_go_nowhere(data: bytes, where: bytes) -> None:
    head = {
        b"name": b"HTTP/1.1 204 OK\r\nn%b: v\r\n\r\n",
        b"value": b"HTTP/1.1 204 OK\r\nn: v%bw\r\n\r\n",
        b"reason": b"HTTP/1.1 204 O%bK\r\n\r\n",
    }[where] % data
    bad = any((byte < 32 and byte != 9) or byte == 127 for byte in data)
    reading = read(head)
    if bad and b"\r\n" not in data:
        assert isinstance(reading.error, RemoteProtocolError)
    for line in [] if reading.final is None else [reading.head.first, *reading.head.lines]:
        assert not any((byte < 32 and byte != 9) or byte == 127 for byte in line)
