"""A response's bytes and framing, without sockets. The wire is in test_client.py."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import pytest

from launcher.proxy.outgoing import Framing, Outgoing, http_date, interim

DATE = (b"Date", b"x")


def outgoing(method: str = "GET", version: tuple[int, int] = (1, 1)) -> Outgoing:
    return Outgoing(method, version, keep_alive=True)


def test_nothing_is_added_where_nothing_is_needed() -> None:
    out = outgoing()
    head = out.head(200, b"Fine", (DATE, (b"content-length", b"3")))
    assert head == b"HTTP/1.1 200 Fine\r\nDate: x\r\ncontent-length: 3\r\n\r\n"
    assert (out.framing, out.keep_alive, out.ends_visibly) == (Framing.LENGTH, True, True)
    assert (out.piece(b"ab"), out.end()) == (b"ab", None)
    assert (out.piece(b"c"), out.end()) == (b"c", b"")
    assert out.sent == 3


def test_a_surplus_is_dropped() -> None:
    out = outgoing()
    out.head(200, b"", ((b"Content-Length", b"1"),))
    assert (out.piece(b"abc"), out.piece(b"d"), out.end()) == (b"a", b"", b"")
    assert not out.keep_alive


def test_chunks() -> None:
    out = outgoing()
    assert out.head(200, b"OK", (DATE,)).endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert out.piece(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"
    assert (out.piece(b""), out.end()) == (b"", b"0\r\n\r\n")
    assert out.ends_visibly


def test_http_1_0() -> None:
    out = outgoing(version=(1, 0))
    assert out.head(200, b"OK", (DATE,)).endswith(b"Date: x\r\nConnection: close\r\n\r\n")
    assert (out.framing, out.ends_visibly, out.keep_alive) == (Framing.CLOSE, False, False)
    assert (out.piece(b"x"), out.end()) == (b"x", b"")
    kept = outgoing(version=(1, 0)).head(200, b"OK", ((b"Content-Length", b"0"),))
    assert kept.endswith(b"\r\nConnection: keep-alive\r\n\r\n")


def test_connection_belongs_to_the_connection() -> None:
    out = outgoing()
    theirs = ((b"Connection", b"X, Close"), (b"Keep-Alive", b"5"), (b"Transfer-Encoding", b"gzip"))
    head = out.head(200, b"OK", (*theirs, DATE, (b"Content-Length", b"0")))
    assert head == b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert not out.keep_alive


def test_switching_protocols_is_sent_as_it_is() -> None:
    out = outgoing()
    head = out.head(101, b"Go", ((b"connection", b"upgrade"), (b"Upgrade", b"x")))
    assert head == b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nUpgrade: x\r\n\r\n"
    assert (out.piece(b"x"), out.end()) == (b"", b"")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_no_body(method: str, status: int) -> None:
    out = outgoing(method)
    head = out.head(status, b"x", (DATE, (b"Content-Length", b"7")))
    assert head == b"HTTP/1.1 %d x\r\nDate: x\r\nContent-Length: 7\r\n\r\n" % status
    assert (out.piece(b"body"), out.end(), out.framing) == (b"", b"", Framing.NONE)


@pytest.mark.parametrize("lengths", [(b"x",), (b"-1",), (b"1", b"2")])
def test_lengths_that_make_no_sense_are_a_bug(lengths: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        outgoing().head(200, b"", tuple((b"Content-Length", one) for one in lengths))


def test_a_length_said_twice_is_sent_once() -> None:
    head = outgoing().head(200, b"", ((b"Content-Length", b"1"), (b"content-length", b"1"), DATE))
    assert head.lower().count(b"content-length") == 1


def test_the_date_is_now() -> None:
    said = parsedate_to_datetime(http_date().decode())
    assert abs(said.timestamp() - time.time()) < 60
    assert b"\r\nDate: " in outgoing().head(200, b"", ())


def test_interim() -> None:
    assert interim(103, b"E", ((b"Link", b"y"),)) == b"HTTP/1.1 103 E\r\nLink: y\r\n\r\n"
