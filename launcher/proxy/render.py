"""The one place where an error becomes an HTTP answer, in OpenAI's envelope.

Pure: it must not know who asks, who is allowed details, or how the answer travels.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Final

import orjson

from launcher.errors import LauncherError
from launcher.proxy.exchange import RawHeaders

#: `type` as the OpenAI API spells it, where a status has one of its own.
_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_type(status: int) -> str:
    """The envelope's `type` for a status: clients branch on it as they do with OpenAI."""
    return _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")


def error_body(error: LauncherError, *, show_detail: bool) -> bytes:
    """The envelope alone, as JSON: also what a heartbeat's `data:` event carries."""
    fields: dict[str, str | None] = {
        "message": _printable(error.message),
        "type": error_type(error.status),
        "code": error.code,
        "param": None if error.param is None else _printable(error.param),
    }
    if show_detail and error.detail is not None:
        fields["detail"] = _printable(error.detail)
    return orjson.dumps({"error": fields})


def render(error: LauncherError, *, show_detail: bool) -> tuple[int, bytes, RawHeaders, bytes]:
    """Status, reason, headers and body of an error.

    `show_detail` adds the operator's `detail`; whether the caller may see it is decided
    elsewhere.
    """
    body = error_body(error, show_detail=show_detail)
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(body)),
    ]
    headers += retry_after(error)
    if error.status == HTTPStatus.UNAUTHORIZED:
        # RFC 9110 §15.5.2: a 401 names the scheme that would do.
        headers.append((b"WWW-Authenticate", b"Bearer"))
    if error.allow:
        # RFC 9110 §15.5.6: a 405 names the methods that would do.
        headers.append((b"Allow", ", ".join(error.allow).encode()))
    return error.status, HTTPStatus(error.status).phrase.encode(), tuple(headers), body


def retry_after(error: LauncherError) -> RawHeaders:
    """When to come back, in whole seconds, rounded up and never 0 (RFC 9110 §10.2.3)."""
    if error.retry_after is None:
        return ()
    return ((b"Retry-After", b"%d" % max(1, math.ceil(error.retry_after))),)


def _printable(text: str) -> str:
    # A client's bytes that are no UTF-8 are carried as lone surrogates, which JSON can't hold.
    return text.encode("utf-8", "replace").decode("utf-8")
