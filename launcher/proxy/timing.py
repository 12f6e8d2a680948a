"""What a response tells of the way it took: Server-Timing and X-Launcher-Cold-Start.

It must not know how long anything took by itself: the record is told.
"""

from __future__ import annotations

from collections.abc import Callable

from launcher.proxy.exchange import Exchange, RawHeaders, RequestHead
from launcher.proxy.record import ExchangeRecord


def timing_headers(record: ExchangeRecord, upstream: float | None) -> RawHeaders:
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


class TimedExchange:
    """An exchange whose final head gets some more headers, known only when it goes out."""

    def __init__(self, inner: Exchange, more: Callable[[], RawHeaders]) -> None:
        self._inner = inner
        self._more = more
        # Bound and not wrapped: a stream's every piece goes through `write`.
        self.read = inner.read
        self.inform = inner.inform
        self.write = inner.write
        self.finish = inner.finish
        self.abort = inner.abort
        self.detach = inner.detach

    @property
    def head(self) -> RequestHead:
        """The client's."""
        return self._inner.head

    @property
    def received_at(self) -> float:
        """The client's."""
        return self._inner.received_at

    @property
    def responded(self) -> bool:
        """A final head has been written."""
        return self._inner.responded

    @property
    def gone(self) -> bool:
        """The client left."""
        return self._inner.gone

    @property
    def body_read(self) -> int:
        """Bytes read of the client's body."""
        return self._inner.body_read

    async def respond(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        """The final head, with what there is to add."""
        await self._inner.respond(status, reason, headers + self._more())
