"""From a launcher's JSON to reports.

Whatever isn't there as it should be raises ValueError, KeyError, TypeError or AttributeError:
then it isn't a launcher who answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from launcher.client.reports import (
    BackendStatus,
    LeaseReport,
    ModeReport,
    PastDecision,
    PlannedDecision,
    PlanReport,
    Predicted,
    StatusReport,
    SwitchReport,
    SwitchStep,
    Trouble,
)


def status_of(raw: bytes) -> StatusReport:
    data = json.loads(raw)
    return StatusReport(
        version=str(data["version"]),
        server_time=datetime.fromisoformat(data["server_time"]),
        started_at=datetime.fromisoformat(data["started_at"]),
        problems=tuple(str(problem["message"]) for problem in data["problems"]),
        capacity=units_of(data["capacity"]),
        used=units_of(data["used"]),
        backends=tuple(backend_of(one) for one in data["backends"]),
        switches=tuple(_switch(one, b"") for one in data["switches"]),
        leases=tuple(_lease(one) for one in data["leases"]),
        mode=None if data["mode"] is None else str(data["mode"]),
        drained=tuple(str(route) for route in data["drained"]),
        raw=raw,
    )


def backend_of(data: Mapping[str, object]) -> BackendStatus:
    routes, metrics = data["routes"], data["start_metrics"]
    if not isinstance(routes, list) or not isinstance(metrics, dict):
        raise TypeError("routes or start_metrics")
    return BackendStatus(
        backend=str(data["backend"]),
        routes=tuple(str(route) for route in routes),
        state=str(data["state"]),
        since=time_of(data["since"]),
        in_flight=whole_of(data["in_flight"]),
        queued=whole_of(data["queued"]),
        needs=units_of(data["needs"]),
        idle_stop_at=time_of(data["idle_stop_at"]),
        retry_at=time_of(data["retry_at"]),
        failure=trouble_of(data["failure"]),
        stop_failure=trouble_of(data["stop_failure"]),
        predicted=predicted_of(data["predicted_wait"]),
        average_start=seconds_of(metrics["average_duration_ms"]),
        start_count=whole_of(metrics["start_count"]),
    )


def plan_of(raw: bytes) -> PlanReport:
    data = json.loads(raw)
    rejection = data["rejection"]
    return PlanReport(
        route=str(data["route"]),
        outcome=str(data["outcome"]),
        backend=str(data["backend"]),
        predicted=predicted_of(data["predicted_wait"]),
        rejection=trouble_of(rejection),
        retry_after=None if rejection is None else seconds_of(rejection["retry_after_ms"]),
        decisions=tuple(
            PlannedDecision(
                str(one["action"]), str(one["text"]), seconds_of(one["after_ms"]) or 0.0
            )
            for one in data["decisions"]
        ),
        raw=raw,
    )


def decisions_of(raw: bytes) -> tuple[PastDecision, ...]:
    return tuple(
        PastDecision(
            at=datetime.fromisoformat(one["at"]),
            times=whole_of(one["times"]),
            action=str(one["action"]),
            text=str(one["text"]),
        )
        for one in json.loads(raw)["decisions"]
    )


def switch_of(raw: bytes) -> SwitchReport:
    return _switch(json.loads(raw), raw)


def _switch(data: Mapping[str, Any], raw: bytes) -> SwitchReport:
    return SwitchReport(
        id=str(data["switch_id"]),
        state=str(data["state"]),
        to=str(data["to"]),
        steps=tuple(
            SwitchStep(
                name=str(one["name"]),
                time=datetime.fromisoformat(one["time"]),
                took=seconds_of(one["duration_ms"]),
                ok=one["ok"],
                detail=None if one["detail"] is None else str(one["detail"]),
            )
            for one in data["steps"]
        ),
        started_at=time_of(data["started_at"]),
        duration=seconds_of(data["duration_ms"]),
        left=seconds_of(data["predicted_ms"]),
        error=trouble_of(data["error"]),
        text=str(data["state_text"]),
        raw=raw,
    )


def leases_of(raw: bytes) -> tuple[LeaseReport, ...]:
    return tuple(_lease(one) for one in json.loads(raw)["leases"])


def lease_of(raw: bytes) -> LeaseReport:
    return _lease(json.loads(raw))


def _lease(data: Mapping[str, object]) -> LeaseReport:
    routes, left = data["routes"], data["remaining_seconds"]
    if not isinstance(routes, list):
        raise TypeError("routes")
    needs = ", ".join(f"{name} {units}" for name, units in units_of(data["needs"]).items())
    return LeaseReport(
        id=str(data["id"]),
        what=", ".join(str(route) for route in routes) or f"reserved: {needs}",
        state=str(data["state"]),
        by=str(data["by"] or ""),
        note=str(data["note"] or ""),
        left=left if isinstance(left, (int, float)) else None,
        mode=None if data["mode"] is None else str(data["mode"]),
    )


def mode_of(raw: bytes) -> ModeReport:
    data = json.loads(raw)
    lease = data["lease"]
    return ModeReport(
        mode=None if data["mode"] is None else str(data["mode"]),
        left=None if lease is None else lease["remaining_seconds"],
        modes={str(one["mode"]): tuple(map(str, one["routes"])) for one in data["modes"]},
    )


def predicted_of(data: object) -> Predicted | None:
    if not isinstance(data, dict):
        return None
    wait, spread = seconds_of(data["wait_ms"]), seconds_of(data["spread_ms"])
    return Predicted(whole_of(data["place"]), wait or 0.0, spread or 0.0)


def trouble_of(data: object) -> Trouble | None:
    if not isinstance(data, dict):
        return None
    detail = data.get("detail")
    return Trouble(str(data["code"]), str(data["message"]), None if detail is None else str(detail))


def units_of(data: object) -> Mapping[str, int]:
    if not isinstance(data, dict):
        raise TypeError("units")
    return {str(name): whole_of(units) for name, units in data.items()}


def whole_of(data: object) -> int:
    if not isinstance(data, int):
        raise TypeError(f"{data!r} is not a whole number")
    return data


def seconds_of(data: object) -> float | None:
    return data / 1000 if isinstance(data, (int, float)) else None


def time_of(data: object) -> datetime | None:
    return datetime.fromisoformat(data) if isinstance(data, str) else None
