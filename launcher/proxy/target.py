"""The rules of a request's path: what may be forwarded, and what is left behind a prefix.

Works on raw bytes and changes none of them: what passes travels as it was sent. It must
not know routes or backends.
"""

from __future__ import annotations

import re
from typing import Final

from launcher.errors import LauncherError

#: What backends read as something else than written: a separator to some (`\`), the end
#: of the string (`%00`, `#`), the end of the request line (controls and blanks).
_ODD: Final = re.compile(rb"[\x00-\x20\x7f\\#]|%00")

#: Dots of a dot segment, each plain or encoded (RFC 3986 §6.2.2.3 after §6.2.2.2).
_DOT: Final = re.compile(rb"\.|%2e", re.IGNORECASE)
_ONE_OR_TWO_DOTS: Final = re.compile(rb"(?:\.|%2e){1,2}", re.IGNORECASE)
_ENCODED_SLASH: Final = re.compile(rb"%2f|%5c", re.IGNORECASE)

_NOT_PRINTABLE: Final = re.compile(rb"[^\x21-\x7e]")

#: The ways to spell the unified endpoint, longest first; what is behind goes under `/v1`.
_UNIFIED: Final = (b"/openai/v1", b"/openai", b"/v1")


def check_path(path: bytes) -> None:
    """Refuse what can't be forwarded under any prefix: LauncherError `bad_target`."""
    if not path.startswith(b"/"):
        raise LauncherError("bad_target", "The request target has to be a path beginning with /.")
    if _ODD.search(path):
        raise LauncherError(
            "bad_target",
            "The path holds a backslash, %00, # or a control character; percent-encode what"
            " is meant literally.",
        )


def behind(path: bytes, prefix: bytes) -> bytes:
    """The rest of `path` behind a prefix that ends on a segment boundary: verbatim, `/` if
    nothing is left. Raises `bad_target` where its dot segments climb above the prefix."""
    rest = path[len(prefix) :]
    if climbs(rest):
        raise LauncherError(
            "bad_target", "The path's dot segments lead out of its route; send the path they mean."
        )
    return rest or b"/"


def climbs(path: bytes) -> bool:
    """Whether dot segments lead above where `path` begins, under any usual reading.

    Servers differ in whether `//` is one slash and whether `%2f` and `%5c` separate; the
    reading that comes out lowest counts.
    """
    if not _DOT.search(path):
        return False
    depth = 0
    for segment in path.split(b"/"):
        parts = _ENCODED_SLASH.split(segment)
        if len(parts) == 1:
            depth += _step(segment)
            lowest = depth
        else:
            down = lowest_down = 0
            for part in parts:
                down += _step(part)
                lowest_down = min(lowest_down, down)
            lowest = depth + lowest_down
            depth += min(1, down)
        if lowest < 0:
            return True
    return False


def _step(segment: bytes) -> int:
    """How far one segment goes down the tree; an empty one and a `.` stay."""
    if not segment:
        return 0
    if _ONE_OR_TWO_DOTS.fullmatch(segment):
        return 1 - len(_DOT.findall(segment))
    return 1


def unified(path: bytes) -> tuple[bytes, bytes] | None:
    """The prefix to cut and the backend's path (`/v1/…`) for one under the unified
    endpoint, None for any other. Raises `bad_target` as `behind` does."""
    for prefix in _UNIFIED:
        if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/"):
            # What X-Forwarded-Prefix tells: the backend's own path begins with /v1.
            cut = b"" if prefix == b"/v1" else b"/openai"
            return cut, b"/v1" + behind(path, prefix)
    return None


def printable(path: bytes) -> str:
    """The path for logs: anything but printable ASCII as \\xNN, at most 512 characters."""
    text = _NOT_PRINTABLE.sub(lambda found: b"\\x%02x" % found[0][0], path[:512]).decode("ascii")
    return text if len(path) <= 512 else text + "…"
