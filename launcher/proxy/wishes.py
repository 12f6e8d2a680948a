"""What a request asks of its own waiting: headers that may make it meeker than its route allows,
and never bolder. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from launcher.config import PRIORITIES, WAKES
from launcher.core.types import Priority, Wake
from launcher.errors import LauncherError
from launcher.http.headers import RequestHead

PRIORITY_HEADER: Final = b"x-launcher-priority"
WAKE_HEADER: Final = b"x-launcher-wake"

#: From the boldest to the meekest.
_MEEKER: Final = (Wake.ALWAYS, Wake.IF_IDLE, Wake.NEVER)

T = TypeVar("T")


def wishes(head: RequestHead, priority: Priority, wake: Wake) -> tuple[Priority, Wake]:
    """The route's class and wake, or the headers' where those are meeker. A header that is
    sent twice counts twice. Raises LauncherError `bad_request` for a value nobody knows."""
    for value in head.fields.get(PRIORITY_HEADER, ()):
        priority = max(priority, _word(value, PRIORITIES, "X-Launcher-Priority"))
    for value in head.fields.get(WAKE_HEADER, ()):
        wake = max(wake, _word(value, WAKES, "X-Launcher-Wake"), key=_MEEKER.index)
    return priority, wake


def _word(value: bytes, words: Mapping[str, T], header: str) -> T:
    found = words.get(value.strip().lower().decode("latin-1"))
    if found is None:
        raise LauncherError(
            "bad_request", f"{header} has to be one of {', '.join(words)}.", param=header
        )
    return found
