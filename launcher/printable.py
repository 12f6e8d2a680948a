"""What people read: text that others chose (clients, backends), made safe for a terminal and a
log; and durations."""

from __future__ import annotations


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
