"""What a response tells of its way."""

from __future__ import annotations

from launcher.proxy.record import ExchangeRecord
from launcher.proxy.timing import TimedExchange, timing_headers
from tests.proxy.fake_exchange import FakeExchange


def test_milliseconds_with_the_start_counted_once() -> None:
    record = ExchangeRecord("GET", "/", "", cold=True, queued=2.5, starting=1.5)
    assert timing_headers(record, 0.0123) == (
        (b"Server-Timing", b"queue;dur=1000.0, start;dur=1500.0, upstream;dur=12.3"),
        (b"X-Launcher-Cold-Start", b"1"),
    )


def test_a_warm_response_is_not_called_cold() -> None:
    record = ExchangeRecord("GET", "/", "")
    assert timing_headers(record, None) == ((b"Server-Timing", b"queue;dur=0.0, start;dur=0.0"),)


async def test_more_headers_are_asked_for_when_the_head_goes_out() -> None:
    inner = FakeExchange()
    more = [(b"A", b"1")]
    timed = TimedExchange(inner, lambda: tuple(more))
    more.append((b"B", b"2"))
    await timed.inform(103, b"Early Hints", ())
    assert not timed.responded
    await timed.respond(200, b"OK", ((b"C", b"3"),))
    assert timed.responded
    assert inner.headers == ((b"C", b"3"), (b"A", b"1"), (b"B", b"2"))
    await timed.write(b"x")
    await timed.finish()
    assert (inner.body, inner.finished, len(inner.informed)) == (b"x", True, 1)
    assert (timed.head, timed.received_at, timed.body_read) == (inner.head, 0.0, 0)
    timed.abort()
    assert inner.aborted
