"""What is told of a request that the parser refused."""

from __future__ import annotations

import pytest
from aiohttp.http_exceptions import BadHttpMessage, InvalidURLError, LineTooLong

from launcher.errors import LauncherError
from launcher.proxy.problem import problem_of


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


def test_ours_stays_as_it_is() -> None:
    ours = LauncherError("request_timeout", "too slow")
    assert problem_of(ours) is ours
