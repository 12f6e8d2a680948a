"""Text of others, made safe."""

from __future__ import annotations

import pytest

from launcher.printable import printable, seconds


def test_ordinary_text_is_left_alone() -> None:
    assert printable("naïve café → 模型") == "naïve café → 模型"


def test_what_a_terminal_acts_on_is_escaped() -> None:
    assert printable("a\x1b[2Jb\r\nc\x9b\u2028") == "a\\x1b[2Jb\\r\\nc\\x9b\\u2028"


def test_bytes_that_were_no_text_are_escaped() -> None:
    assert printable(b"\xff".decode(errors="surrogateescape")) == "\\udcff"


@pytest.mark.parametrize(
    ("number", "words"), [(0.0042, "4 ms"), (0, "0 ms"), (1.23, "1.2 s"), (38.4, "38 s")]
)
def test_durations(number: float, words: str) -> None:
    assert seconds(number) == words
