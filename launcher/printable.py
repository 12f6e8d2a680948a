"""What people read: text that others chose (clients, backends), made safe for a terminal and a
log; times and durations."""

from __future__ import annotations

from datetime import UTC, datetime


def printable(text: str) -> str:
    """The text with everything that a terminal could act on (line ends too) escaped."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )


def seconds(number: float) -> str:
    """Seconds for a line of a log: `4 ms`, `1.2 s`, `38 s`."""
    if number < 1:
        return f"{number * 1000:.0f} ms"
    return f"{number:.1f} s" if number < 10 else f"{number:.0f} s"


def timestamp(at: float) -> str:
    """A wall-clock time (seconds since 1970) as RFC 3339 in UTC: `2026-01-31T12:00:00.000Z`."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
