"""The ends of heads that come in any pieces, and what is refused before one is whole."""

from __future__ import annotations

import pytest

from launcher.errors import LauncherError
from launcher.proxy.head_end import HeadEnd

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("first", range(1, len(HEAD)))
def test_the_end_is_found_in_any_two_parts(first: int) -> None:
    end = HeadEnd(len(HEAD))
    for _ in range(2):
        assert end.find(HEAD[:first]) is None
        assert end.seen == first
        assert end.find(HEAD[first:] + b"body\r\n\r\n") == len(HEAD) - first
        assert end.seen == 0


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_head_is_too_large_before_it_is_whole(size: int) -> None:
    end = HeadEnd(len(HEAD) - 1)
    pieces = [HEAD[at : at + size] for at in range(0, len(HEAD), size)]
    assert [end.find(piece) for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    with pytest.raises(LauncherError) as caught:
        end.find(pieces[-1])
    assert caught.value.code == "headers_too_large"


def test_what_was_forgotten_begins_anew() -> None:
    end = HeadEnd(1000)
    assert end.find(b"GET / RTS") is None
    end.forget()
    assert end.find(HEAD) == len(HEAD)


@pytest.mark.parametrize("size", [1, 3, 5, 1000])
def test_another_protocol_is_seen_in_any_cutting(size: int) -> None:
    def check(head: bytes) -> None:
        line = HeadEnd(65536)
        for at in range(0, len(head), size):
            line.find(head[at : at + size])

    for path in (b"/", b"/" + b"x" * 100, b"/ RTSP/1.0/"):
        check(b"GET %b HTTP/1.1\r\nX: a RTSP/1.0\r\n\r\n" % path)
        for protocol in (b"RTSP/1.0", b"ICE/1.0"):
            with pytest.raises(LauncherError) as caught:
                check(b"GET %b %b\r\nHost: a\r\n\r\n" % (path, protocol))
            assert caught.value.code == "http_version"
