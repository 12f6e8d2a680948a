"""Every error the launcher answers with: HTTP status, stable code, and what to do next.

Rendered here, in one place (`render`). The envelope is OpenAI's:
`{"error": {"message", "type", "code", "param"}}`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Final

import orjson


class ConfigError(Exception):
    """The configuration can't be used; `problems` lists everything found wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One documented error: its HTTP status and what it means (for the reference)."""

    status: int
    meaning: str


#: Every code a client can meet. The reference in docs/ is generated from this table.
ERROR_KINDS: dict[str, ErrorKind] = {
    "invalid_json": ErrorKind(400, "The body isn't the JSON object that the path needs."),
    "missing_model": ErrorKind(400, "No `model` in the JSON, the form, or the query."),
    "bad_target": ErrorKind(400, "The request target can't be forwarded safely."),
    "bad_request": ErrorKind(
        400, "The request breaks HTTP's rules, or holds a value that means nothing here."
    ),
    "invalid_request": ErrorKind(
        400, "What was sent to an endpoint of the launcher's own isn't what it takes."
    ),
    "missing_key": ErrorKind(401, "An API key is needed and none was sent."),
    "cross_origin": ErrorKind(403, "A web page from elsewhere sent it."),
    "wrong_key": ErrorKind(403, "The key that was sent opens nothing here."),
    "unknown_route": ErrorKind(404, "No route matches the path or host."),
    "unknown_backend": ErrorKind(404, "No backend has that name; the message lists those known."),
    "unknown_lease": ErrorKind(404, "No lease was ever given that number."),
    "unknown_mode": ErrorKind(404, "No mode of that name; the message lists those known."),
    "unknown_switch": ErrorKind(404, "No switch has that number; the last hundred are kept."),
    "unknown_model": ErrorKind(404, "No route serves that model; the message lists those known."),
    "method_not_allowed": ErrorKind(405, "The path exists, but not for this method."),
    "request_timeout": ErrorKind(408, "The request's body stopped coming in."),
    "leased": ErrorKind(409, "Somebody holds the place that this backend needs."),
    "lease_pending": ErrorKind(409, "The lease isn't granted yet."),
    "stale_lease": ErrorKind(409, "The lease has ended; somebody else may hold the place now."),
    "switch_in_progress": ErrorKind(409, "Another switch is under way."),
    "body_too_large": ErrorKind(413, "The body is larger than `max_body` and its model is needed."),
    "unsupported_media_type": ErrorKind(415, "The body has to be JSON, and to say so."),
    "unsupported_encoding": ErrorKind(415, "The body is compressed and its `model` is needed."),
    "wrong_host": ErrorKind(421, "The launcher isn't known by that `Host`; see `allowed_hosts`."),
    "too_many_in_flight": ErrorKind(429, "The key's `max_in_flight` requests are under way."),
    "rate_limited": ErrorKind(429, "The key's `requests_per_minute` are used up."),
    "bad_configuration": ErrorKind(
        422, "A reload found the configuration wrong, and changed nothing."
    ),
    "headers_too_large": ErrorKind(431, "The request's head is larger than the launcher reads."),
    "internal_error": ErrorKind(500, "The launcher itself failed; its log has the details."),
    "not_implemented": ErrorKind(501, "A transfer coding that this proxy doesn't carry."),
    "backend_unreachable": ErrorKind(502, "The backend refused or dropped the connection."),
    "bad_upstream": ErrorKind(502, "The backend's answer breaks HTTP's rules."),
    "queue_full": ErrorKind(503, "Too many requests wait for this backend already."),
    "not_resident": ErrorKind(503, "The backend isn't up and this request may not start it."),
    "draining": ErrorKind(503, "The launcher is shutting down."),
    "docker_unavailable": ErrorKind(503, "The Docker Engine doesn't answer."),
    "backend_missing": ErrorKind(503, "No such container or program; create it first."),
    "backend_start_failed": ErrorKind(503, "The backend was started and failed."),
    "backend_stop_failed": ErrorKind(503, "A backend that has to go doesn't stop."),
    "backend_stopped": ErrorKind(503, "The backend was stopped by an operator or turned out hung."),
    "start_timeout": ErrorKind(504, "The backend didn't become healthy within `start_timeout`."),
    "queue_timeout": ErrorKind(504, "The request waited longer than `queue_timeout`."),
    "http_version": ErrorKind(505, "Only HTTP/1.0 and HTTP/1.1 are spoken."),
    "loop_detected": ErrorKind(508, "The request passed through this launcher before."),
}


class LauncherError(Exception):
    """An error with a place in the reference.

    `code` is a key of `ERROR_KINDS`; `retry_after` is in seconds (every 429, 503 and
    504 carries one); `detail` is for operators (log lines, exit codes) and is shown to
    clients only where no keys are set or the caller is an admin; `allow` are the methods
    that a 405 has to name.
    """

    default_retry_after: ClassVar[float] = 5.0

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        detail: str | None = None,
        allow: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.detail = detail
        self.allow = allow
        self.status = ERROR_KINDS[code].status
        if retry_after is None and self.status in (429, 503, 504):
            retry_after = self.default_retry_after
        self.retry_after = retry_after

    def __repr__(self) -> str:
        return f"<LauncherError {self.status} {self.code}: {self.message}>"


Fields = tuple[tuple[bytes, bytes], ...]
"""Header names and values, in order."""

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


def render(
    error: LauncherError, *, show_detail: bool
) -> tuple[int, bytes, tuple[tuple[bytes, bytes], ...], bytes]:
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


def retry_after(error: LauncherError) -> Fields:
    """When to come back, in whole seconds, rounded up and never 0 (RFC 9110 §10.2.3)."""
    if error.retry_after is None:
        return ()
    return ((b"Retry-After", b"%d" % max(1, math.ceil(error.retry_after))),)


def _printable(text: str) -> str:
    # A client's bytes that are no UTF-8 are carried as lone surrogates, which JSON can't hold.
    return text.encode("utf-8", "replace").decode("utf-8")
