"""What is known of one exchange when it has ended, for its log line and the metrics."""

from __future__ import annotations

from typing import Literal, NamedTuple

Outcome = Literal["ok", "error", "client_gone", "aborted", "cut", "tunnel"]
"""How an exchange ended: `aborted`: the backend died in the middle of its response; `cut`: the
launcher ended it early."""


class ExchangeRecord(NamedTuple):
    """One exchange that has ended; made once, at its end. Times are in seconds."""

    at: float
    """When it ended, in seconds since 1970."""
    method: str
    path: str
    """The raw path with everything unprintable escaped; never the query, which may hold keys."""
    peer: str
    """The client's address, without its port."""
    route: str
    """The configured name of the route that served it, `-` for the launcher's own paths, empty
    where none matched."""
    backend: str
    """Empty where none was granted."""
    model: str
    """Configured model id or alias (never the client's own words)."""
    status: int
    """The real status, also where a heartbeat had answered 200 before; 499: the client left."""
    code: str
    """Error code of launcher.errors where the launcher answered with one, else empty."""
    outcome: Outcome
    cold: bool
    """It waited for a start of its backend."""
    queued: float
    """From arrival until the backend was granted, its start included."""
    starting: float
    """The part of `queued` in which the backend was started."""
    first_byte: float
    """From the request's head to the first byte of the backend's response; -1.0: none came."""
    duration: float
    """From the request's head to the end of the response."""
    request_bytes: int
    """Bytes of the request's body that were read."""
    response_bytes: int
    """Bytes of the response's body that were sent."""
    retried: bool
    """It was sent to a backend a second time."""
    key: str
    """Configured name of the key that was presented; empty: none was needed."""
