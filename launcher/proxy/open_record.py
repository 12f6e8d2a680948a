"""What is known of an exchange so far; the handler fills it in as it goes."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.telemetry.record import ExchangeRecord, Outcome


@dataclass(slots=True)
class OpenRecord:
    """The fields of the `ExchangeRecord` that it becomes."""

    method: str
    path: str
    peer: str
    route: str = ""
    backend: str = ""
    model: str = ""
    status: int = 0
    code: str = ""
    outcome: Outcome = "ok"
    cold: bool = False
    queued: float = 0.0
    starting: float = 0.0
    first_byte: float = -1.0
    duration: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0
    retried: bool = False
    key: str = ""

    def ended(self, at: float) -> ExchangeRecord:
        """Return the record of the exchange, which ended at `at` (seconds since 1970)."""
        return ExchangeRecord(at, *(getattr(self, name) for name in ExchangeRecord._fields[1:]))
