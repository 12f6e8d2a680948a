"""What is known of one exchange when it is over: for the log line and the metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class ExchangeRecord:
    """Filled in by the handler as it goes; handed to the observers once, at the end."""

    method: str
    path: str
    """Printable: the raw path with anything odd escaped; never the query (may hold keys)."""
    peer: str
    route: str = ""
    """Configured name of the route (of an alias' the one that served it), `-` for the
    launcher's own paths, empty where none matched."""
    backend: str = ""
    model: str = ""
    """Configured model id or alias (never the client's own words)."""
    status: int = 0
    """The real outcome, also where a heartbeat had answered 200 before; 499: client left."""
    code: str = ""
    """Error code of launcher.errors where the launcher answered with one."""
    outcome: str = "ok"
    """`ok`, `error`, `client_gone`, `aborted` (backend died mid-body), `cut` (the launcher ended
    it before its end), `tunnel`."""
    cold: bool = False
    queued: float = 0.0
    starting: float = 0.0
    first_byte: float | None = None
    """Seconds from the head's arrival to the response's first byte."""
    duration: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0
    retried: bool = False
    key: str = ""
    """Configured name of the key that opened it; empty: none was needed."""


ExchangeObserver = Callable[[ExchangeRecord], None]
ExchangeStarted = Callable[[ExchangeRecord], None]
