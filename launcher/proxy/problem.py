"""Why the parser refused a request, in our words and without the client's bytes.

It must not know connections: it is given the parser's exceptions.
"""

from __future__ import annotations

from aiohttp.http_exceptions import BadStatusLine, HttpProcessingError, InvalidURLError, LineTooLong

from launcher.errors import LauncherError


def problem_of(error: BaseException) -> LauncherError:
    """The error to answer with; one of ours is that already."""
    if isinstance(error, LauncherError):
        return error
    said = str(getattr(error, "message", "")).strip().split("\n")
    if isinstance(error, LineTooLong) or said[0].startswith("Too many headers"):
        return LauncherError(
            "headers_too_large",
            "The request's head has too many or too long fields; send fewer or shorter headers.",
        )
    if isinstance(error, InvalidURLError):
        return LauncherError(
            "bad_target",
            "The request target isn't one that HTTP allows; percent-encode what isn't printable"
            " ASCII.",
        )
    if isinstance(error, BadStatusLine) and any("Invalid HTTP version" in line for line in said):
        return wrong_version()
    reason = said[0] if isinstance(error, HttpProcessingError) and said[0].isascii() else ""
    detail = f": {reason.strip().rstrip(':.')}" if reason else ""
    return LauncherError("bad_request", f"The request breaks HTTP's rules{detail}.")


def wrong_version() -> LauncherError:
    """The refusal of what isn't HTTP/1."""
    return LauncherError("http_version", "Use HTTP/1.1 or HTTP/1.0.")
