"""What a response tells of the way it took: Server-Timing and X-Launcher-Cold-Start.

It must not know how long anything took by itself: the record is told.
"""

from __future__ import annotations

from launcher.http.exchange import RawHeaders
from launcher.proxy.open_record import OpenRecord


def timing_headers(record: OpenRecord, upstream: float | None) -> RawHeaders:
    """What is known so far; `upstream` is in seconds, from sending to the first byte.

    Server-Timing counts in milliseconds (W3C Server Timing, §2). `queue` is the wait
    without the start's share.
    """
    queue = max(0.0, record.queued - record.starting)
    value = b"queue;dur=%.1f, start;dur=%.1f" % (queue * 1e3, record.starting * 1e3)
    if upstream is not None:
        value += b", upstream;dur=%.1f" % (upstream * 1e3)
    timing = (b"Server-Timing", value)
    return (timing, (b"X-Launcher-Cold-Start", b"1")) if record.cold else (timing,)
