"""What a response tells of its way."""

from __future__ import annotations

from launcher.proxy.open_record import OpenRecord
from launcher.proxy.timing import timing_headers


def test_milliseconds_with_the_start_counted_once() -> None:
    record = OpenRecord("GET", "/", "", cold=True, queued=2.5, starting=1.5)
    assert timing_headers(record, 0.0123) == (
        (b"Server-Timing", b"queue;dur=1000.0, start;dur=1500.0, upstream;dur=12.3"),
        (b"X-Launcher-Cold-Start", b"1"),
    )


def test_a_warm_response_is_not_called_cold() -> None:
    record = OpenRecord("GET", "/", "")
    assert timing_headers(record, None) == ((b"Server-Timing", b"queue;dur=0.0, start;dur=0.0"),)
