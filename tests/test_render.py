"""Errors as HTTP answers."""

from __future__ import annotations

import json

import pytest

from launcher.errors import ERROR_KINDS, LauncherError, error_body, render


def test_the_envelope_is_openais() -> None:
    status, reason, headers, body = render(
        LauncherError("unknown_model", "No such model.", param="model"), show_detail=False
    )
    assert (status, reason) == (404, b"Not Found")
    assert headers == (
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(body)),
    )
    assert json.loads(body) == {
        "error": {
            "message": "No such model.",
            "type": "not_found_error",
            "code": "unknown_model",
            "param": "model",
        }
    }


@pytest.mark.parametrize("code", ERROR_KINDS)
def test_every_code_renders(code: str) -> None:
    status, reason, headers, body = render(LauncherError(code, "m"), show_detail=True)
    error = json.loads(body)["error"]
    assert (error["code"], status) == (code, ERROR_KINDS[code].status)
    assert reason
    assert (b"Retry-After" in dict(headers)) == (status in (429, 503, 504))
    assert error["type"] == {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
    }.get(status, "server_error" if status >= 500 else "invalid_request_error")


@pytest.mark.parametrize(("seconds", "said"), [(0.0, b"1"), (0.2, b"1"), (2.0, b"2"), (2.1, b"3")])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, said: bytes) -> None:
    error = LauncherError("queue_full", "m", retry_after=seconds)
    assert dict(render(error, show_detail=False)[2])[b"Retry-After"] == said


def test_detail_shows_only_where_it_may() -> None:
    error = LauncherError("backend_start_failed", "It failed.", detail="exit code 1")
    assert b"exit code" not in error_body(error, show_detail=False)
    assert json.loads(error_body(error, show_detail=True))["error"]["detail"] == "exit code 1"
    bare = error_body(LauncherError("queue_full", "m"), show_detail=True)
    assert "detail" not in json.loads(bare)["error"]


def test_a_401_names_its_scheme() -> None:
    headers = dict(render(LauncherError("missing_key", "m"), show_detail=False)[2])
    assert headers[b"WWW-Authenticate"] == b"Bearer"


def test_bytes_that_are_no_text_do_not_break_an_error() -> None:
    message = b"no route for /\xff".decode("utf-8", "surrogateescape")
    assert b"no route for /?" in error_body(
        LauncherError("unknown_route", message), show_detail=False
    )


def test_a_405_names_the_methods_that_would_do() -> None:
    error = LauncherError("method_not_allowed", "No.", allow=("GET", "HEAD"))
    _, _, headers, _ = render(error, show_detail=False)
    assert (b"Allow", b"GET, HEAD") in headers
