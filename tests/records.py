"""Records of exchanges that have ended."""

from __future__ import annotations

from typing import Any

from launcher.telemetry.record import ExchangeRecord

_A_RECORD = ExchangeRecord(
    at=1_700_000_000.0426,
    method="GET",
    path="/",
    peer="127.0.0.1",
    route="",
    backend="",
    model="",
    status=200,
    code="",
    outcome="ok",
    cold=False,
    queued=0.0,
    starting=0.0,
    first_byte=-1.0,
    duration=0.0,
    request_bytes=0,
    response_bytes=0,
    retried=False,
    key="",
)


def a_record(**fields: Any) -> ExchangeRecord:
    return _A_RECORD._replace(**fields)
