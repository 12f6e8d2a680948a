"""Text that others chose (clients, backends), made safe for a terminal and a log."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with everything that a terminal could act on (line ends too) escaped."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )
