"""Responses from bytes: framing, interim heads, lies, cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.proxy.response import MAX_HEAD, BadResponse, ResponseReader, Truncated


def read(*parts: bytes, method: str = "GET", upgrade: bool = False) -> ResponseReader:
    reader = ResponseReader(method, upgrade=upgrade)
    for part in parts:
        reader.feed(part)
    return reader


WHOLE = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 Very Fine\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n"
    b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nX-Trailer: no\r\n\r\n"
)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_it_makes_no_difference_where_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    reader = read(*(WHOLE[a:b] for a, b in pairwise(edges) if a < b))
    heads = [(head.status, head.reason, head.headers) for head in reader.heads]
    assert heads == [
        (103, b"Early Hints", ((b"Link", b"</a>"),)),
        (200, b"Very Fine", ((b"X-A", b"1"),)),
    ]
    assert reader.take() == b"abcdefg"
    assert reader.complete
    assert reader.keep_alive
    assert not reader.surplus


@pytest.mark.parametrize(
    ("response", "keeps"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\nok", True),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", True),
    ],
)
def test_whether_the_connection_is_kept(response: bytes, keeps: bool) -> None:
    reader = read(response)
    assert reader.take() == b"ok"
    assert reader.complete
    assert reader.keep_alive is keeps


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_heads_that_end_the_response(method: str, response: bytes) -> None:
    reader = read(response, method=method)
    assert reader.complete
    assert reader.keep_alive
    assert not reader.surplus
    followed = read(response + b"hello", method=method)
    assert followed.complete
    assert followed.surplus
    assert followed.pieces == []
    later = read(response, b"0\r\n\r\n", method=method)
    assert later.surplus


def test_a_body_that_ends_with_the_connection() -> None:
    reader = read(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd")
    assert not reader.complete
    reader.end()
    assert reader.complete
    assert not reader.keep_alive
    assert reader.take() == b"abcd"


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
    reader = read(response)
    with pytest.raises(Truncated):
        reader.end()


@pytest.mark.parametrize(
    "surplus", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"\x00\x01"]
)
@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
def test_more_than_was_promised_is_dropped(surplus: bytes, connection: bytes) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: %b\r\n\r\nok" % connection
    for parts in ((response + surplus,), (response, surplus)):
        reader = read(*parts)
        assert reader.take() == b"ok"
        assert reader.complete
        assert reader.surplus
        assert len(reader.heads) == 1


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
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x2",
        b"HTTP/1.1 200 OK\r\nContent-Length: ",
        b"HTTP/1.1 200 OK\r\nX-A: a\x01b",
        b"HTTP/1.1 200 OK\r\nX-A: a\x00b",
        b"HTTP/1.1 200 OK\r\nX-A: a\rb",
        b"HTTP/1.1 200 OK\r\nX-A: a\nX-B: b",
        b"HTTP/1.1 200 OK\r\nX-A: a\r\n folded",
        b"HTTP/1.1 200 OK\r\nX-A : a",
        b"HTTP/1.1 200 O\x01K",
        b"HTTP/2.0 200 OK",
        b"HTTP/0.9 200 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 20 OK",
        b"ICY 200 OK",
        b"SSH-2.0-OpenSSH_9.2",
        b"HTTP/1.1 103 Early\r\nContent-Length: 2",
        b"HTTP/1.1 102 Processing\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket",
        b"HTTP/1.1 101 Switching Protocols",
    ],
)
def test_answers_that_break_http(head: bytes) -> None:
    with pytest.raises(BadResponse):
        read(head + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")


def test_a_fault_within_the_body_leaves_what_came_before() -> None:
    reader = ResponseReader("GET")
    with pytest.raises(BadResponse):
        reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n")
    assert reader.take() == b"ok"
    assert not reader.complete


def test_a_head_without_end_is_refused() -> None:
    reader = ResponseReader("GET")
    reader.feed(b"HTTP/1.1 200 OK\r\n")
    line = b"X-A: " + b"a" * 4089 + b"\r\n"
    for _ in range(MAX_HEAD // len(line) - 1):
        reader.feed(line)
    with pytest.raises(BadResponse, match="larger"):
        reader.feed(line)


def test_a_switch_keeps_what_comes_behind_it() -> None:
    head = b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: foo\r\nX: 1\r\n\r\n"
    reader = read(head + b"\x00raw", b"more", upgrade=True)
    assert reader.heads[0].final
    assert reader.heads[0].upgrade == b"foo"
    assert reader.heads[0].headers == ((b"X", b"1"),)
    assert reader.switched
    assert reader.leftover == b"\x00rawmore"
    assert not reader.surplus


def test_a_switch_without_naming_the_protocol_is_refused() -> None:
    with pytest.raises(BadResponse):
        read(b"HTTP/1.1 101 Go\r\n\r\n", upgrade=True)


def test_an_upgrade_that_is_declined_is_a_response() -> None:
    reader = read(b"HTTP/1.1 200 OK\r\nUpgrade: h2\r\nContent-Length: 2\r\n\r\nok", upgrade=True)
    assert reader.take() == b"ok"
    assert not reader.switched
    assert repr(reader) == "<ResponseReader GET complete, 0 bytes held>"
