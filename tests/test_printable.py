"""Text of others, made safe."""

from __future__ import annotations

from launcher.printable import printable


def test_ordinary_text_is_left_alone() -> None:
    assert printable("naïve café → 模型") == "naïve café → 模型"


def test_what_a_terminal_acts_on_is_escaped() -> None:
    assert printable("a\x1b[2Jb\r\nc\x9b\u2028") == "a\\x1b[2Jb\\r\\nc\\x9b\\u2028"


def test_bytes_that_were_no_text_are_escaped() -> None:
    assert printable(b"\xff".decode(errors="surrogateescape")) == "\\udcff"
