"""What is told of a request that the parser refused."""

from __future__ import annotations

import pytest
from aiohttp.http_exceptions import BadHttpMessage, InvalidURLError, LineTooLong

from launcher.errors import LauncherError
from launcher.proxy.problem import RequestLine, problem_of


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InvalidURLError("/\xe9"), "bad_target", "percent-encode what isn't printable ASCII"),
        (LineTooLong(b"x", 10), "headers_too_large", "send fewer or shorter headers"),
        (BadHttpMessage("Missing ':':\n\n  X\xff"), "bad_request", "rules: Missing ':"),
        (BadHttpMessage("\xff"), "bad_request", "breaks HTTP's rules."),
        (ValueError("x"), "bad_request", "breaks HTTP's rules."),
    ],
)
def test_in_our_words(error: Exception, code: str, said: str) -> None:
    problem = problem_of(error)
    assert problem.code == code
    assert said in problem.message
    assert problem.message.isascii()


@pytest.mark.parametrize("size", [1, 3, 5, 1000])
def test_another_protocol_is_seen_in_any_cutting(size: int) -> None:
    def check(head: bytes) -> None:
        line = RequestLine()
        for at in range(0, len(head), size):
            line.check(head[at : at + size])

    for path in (b"/", b"/" + b"x" * 100, b"/ RTSP/1.0/"):
        check(b"GET %b HTTP/1.1\r\nX: a RTSP/1.0\r\n\r\n" % path)
        for protocol in (b"RTSP/1.0", b"ICE/1.0"):
            with pytest.raises(LauncherError) as caught:
                check(b"GET %b %b\r\nHost: a\r\n\r\n" % (path, protocol))
            assert caught.value.code == "http_version"


def test_ours_stays_as_it_is() -> None:
    ours = LauncherError("request_timeout", "too slow")
    assert problem_of(ours) is ours
