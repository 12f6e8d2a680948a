"""How the endpoints put their answers into bytes and their times into words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import overload

import orjson

from launcher import printable
from launcher.api.contract import ApiResponse
from launcher.errors import LauncherError, render


def json_answer(
    data: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> ApiResponse:
    """An answer of plain data. It is about this moment, so nobody may keep it."""
    return ApiResponse(
        orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE),
        status,
        headers=(("Cache-Control", "no-store"), *headers),
    )


def error_answer(error: LauncherError, beside: Mapping[str, object]) -> ApiResponse:
    """An error in its envelope, for operators, with more beside it: what was asked for failed, and
    there is something to tell of it all the same."""
    status, _, headers, body = render(error, show_detail=True)
    more = [(name, value) for name, value in headers if name == b"Retry-After"]
    return json_answer(
        orjson.loads(body) | beside,
        status,
        tuple((name.decode(), value.decode()) for name, value in more),
    )


@overload
def timestamp(at: float) -> str: ...
@overload
def timestamp(at: float | None) -> str | None: ...
def timestamp(at: float | None) -> str | None:
    """A wall-clock time (seconds since 1970) as RFC 3339 in UTC; None stays None."""
    return None if at is None else printable.timestamp(at)


@overload
def milliseconds(seconds: float) -> int: ...
@overload
def milliseconds(seconds: float | None) -> int | None: ...
def milliseconds(seconds: float | None) -> int | None:
    """Seconds as whole milliseconds; None stays None."""
    return None if seconds is None else round(seconds * 1000)
