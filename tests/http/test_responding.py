"""A response's bytes and framing, without sockets."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import pytest

from launcher.http.server import (
    BY_CLOSE,
    BY_LENGTH,
    CHUNKED,
    NO_BODY,
    http_date,
)
from tests.http.recording import Asked

pytestmark = pytest.mark.usefixtures("resting_loop")

DATE = (b"Date", b"x")


def test_nothing_is_added_where_nothing_is_needed() -> None:
    out = Asked()
    head = out.head(200, b"Fine", (DATE, (b"content-length", b"3")))
    assert head == b"HTTP/1.1 200 Fine\r\nDate: x\r\ncontent-length: 3\r\n\r\n"
    assert (out.request.framing, out.request.keep_alive) == (BY_LENGTH, True)
    assert out.piece(b"ab") == b"ab"
    assert out.piece(b"c") == b"c"
    assert out.end() == (True, b"")
    assert out.request.sent == 3
    assert repr(out.request) == "<Request GET finished>"


def test_a_body_that_ends_too_early_is_cut() -> None:
    out = Asked()
    out.head(200, b"", ((b"Content-Length", b"3"),))
    out.piece(b"ab")
    assert out.end()[0] is False
    assert out.request.aborted
    assert repr(out.request) == "<Request GET aborted>"


def test_head_and_first_piece_go_out_together() -> None:
    out = Asked()
    out.request.start(200, b"OK", (DATE, (b"Content-Length", b"2")))
    assert out.written == b""
    out.request.push(b"ok")
    assert len(out.wire.written) == 1
    assert out.written.endswith(b"\r\n\r\nok")


def test_a_surplus_is_dropped() -> None:
    out = Asked()
    out.head(200, b"", ((b"Content-Length", b"1"),))
    assert (out.piece(b"abc"), out.piece(b"d"), out.end()) == (b"a", b"", (True, b""))
    assert not out.request.keep_alive
    assert out.request.sent == 1


def test_chunks() -> None:
    out = Asked()
    assert out.head(200, b"OK", (DATE,)).endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert out.request.framing == CHUNKED
    assert out.piece(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"
    assert out.piece(b"") == b""
    out.request.push_chunks(b"1\r\ny\r\n", 1)
    assert out.written == b"1\r\ny\r\n"
    assert out.end() == (True, b"0\r\n\r\n")
    assert out.request.sent == 18


def test_http_1_0() -> None:
    out = Asked(b"GET", b"1.0")
    assert out.head(200, b"OK", (DATE,)).endswith(b"Date: x\r\nConnection: close\r\n\r\n")
    assert (out.request.framing, out.request.keep_alive) == (BY_CLOSE, False)
    assert (out.piece(b"x"), out.end()) == (b"x", (True, b""))
    asked = Asked(b"GET", b"1.0", b"Connection: keep-alive")
    kept = asked.head(200, b"OK", ((b"Content-Length", b"0"),))
    assert kept.endswith(b"\r\nConnection: keep-alive\r\n\r\n")
    unasked = Asked(b"GET", b"1.0").head(200, b"OK", ((b"Content-Length", b"0"),))
    assert unasked.endswith(b"\r\nConnection: close\r\n\r\n")


def test_connection_belongs_to_the_connection() -> None:
    out = Asked()
    theirs = ((b"Connection", b"X, Close"), (b"Keep-Alive", b"5"), (b"Transfer-Encoding", b"gzip"))
    head = out.head(200, b"OK", (*theirs, DATE, (b"Content-Length", b"0")))
    assert head == b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert not out.request.keep_alive


def test_switching_protocols_is_sent_as_it_is() -> None:
    out = Asked(b"GET", b"1.1", b"Connection: upgrade", b"Upgrade: x")
    head = out.head(101, b"Go", ((b"connection", b"upgrade"), (b"Upgrade", b"x")))
    assert head == b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nUpgrade: x\r\n\r\n"
    assert out.piece(b"x") == b""
    assert not out.request.keep_alive


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_no_body(method: bytes, status: int) -> None:
    out = Asked(method)
    head = out.head(status, b"x", (DATE, (b"Content-Length", b"7")))
    assert head == b"HTTP/1.1 %d x\r\nDate: x\r\nContent-Length: 7\r\n\r\n" % status
    assert (out.piece(b"body"), out.end(), out.request.framing) == (b"", (True, b""), NO_BODY)
    assert out.request.sent == 0


@pytest.mark.parametrize("lengths", [(b"x",), (b"-1",), (b"1", b"2")])
def test_lengths_that_make_no_sense_are_a_bug(lengths: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Asked().head(200, b"", tuple((b"Content-Length", one) for one in lengths))


def test_a_length_said_twice_is_sent_once() -> None:
    head = Asked().head(200, b"", ((b"Content-Length", b"1"), (b"content-length", b"1"), DATE))
    assert head.lower().count(b"content-length") == 1


def test_lines_go_out_as_they_are_given() -> None:
    out = Asked()
    lines = [b"HTTP/1.1 200 Fine", b"X:  odd\xff", b"Content-Length: 1"]
    out.request.start_lines(200, lines, 1, dated=True)
    out.request.flush()
    assert out.written == b"HTTP/1.1 200 Fine\r\nX:  odd\xff\r\nContent-Length: 1\r\n\r\n"
    undated = Asked()
    undated.request.start_lines(204, [b"HTTP/1.1 204 No"], -1, dated=False)
    undated.request.flush()
    assert undated.written == b"HTTP/1.1 204 No\r\nDate: %b\r\n\r\n" % http_date()


def test_the_date_is_now() -> None:
    said = parsedate_to_datetime(http_date().decode())
    assert abs(said.timestamp() - time.time()) < 60
    assert b"\r\nDate: " in Asked().head(200, b"", ())


def test_interim() -> None:
    out = Asked()
    out.request.inform(103, b"E", ((b"Link", b"y"),))
    assert out.written == b"HTTP/1.1 103 E\r\nLink: y\r\n\r\n"
    old = Asked(b"GET", b"1.0")
    old.request.inform(103, b"E", ())
    assert old.written == b""


def test_a_second_head_is_a_bug() -> None:
    out = Asked()
    with pytest.raises(RuntimeError):
        out.request.push(b"x")
    out.head(200, b"OK", ())
    with pytest.raises(RuntimeError):
        out.request.start(200, b"OK", ())
    out.request.inform(103, b"E", ())
    assert out.written == b""
