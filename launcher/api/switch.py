"""`POST /api/switch`, `GET /api/switches`, `GET /api/switches/{id}`: make a route resident now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NotRequired

from typing_extensions import TypedDict

from launcher.api.answers import error_answer, json_answer, milliseconds, timestamp
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.api.naming import number_of, route_of
from launcher.api.patience import settle
from launcher.api.shapes import ErrorAnswer, shape
from launcher.api.view import Failed, failure
from launcher.config import LauncherConfig
from launcher.control.records import Step, SwitchRecord, SwitchState
from launcher.control.switches import SwitchQueue, outcome


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchBody:
    """What is to be resident. Name a route, or a model."""

    route: str | None = None
    """Name of a route."""
    model: str | None = None
    """Id of a model (or an alias) in place of a route."""
    wait: bool = True
    """Answer when it is done, with the outcome as the HTTP status; else at once, with 202."""
    force: bool = False
    """Break the leases that are in the way."""


@shape
class StepView(TypedDict):
    """One thing that was done."""

    name: str
    """`drain a`, `stop a`, `start b`, `wait until b is healthy`, `restore a`."""
    time: str
    """When it began."""
    duration_ms: int | None
    ok: bool | None
    """null while it goes on."""
    detail: str | None


_From = TypedDict("_From", {"from": list[str]})


@shape
class SwitchView(_From):
    """A switch. `from` are the backends that were stopped for it."""

    switch_id: int
    state: SwitchState
    state_text: str
    """How it stands, for a person."""
    poll: str
    """Path to ask again."""
    to: str
    """The route."""
    to_backend: str | None
    """Of the route's backends, the one that became resident."""
    resident_before: list[str]
    """What was resident when its turn came, the last used first."""
    broken_leases: list[int]
    """The leases that `force` broke."""
    force: bool
    by: str | None
    """Who asked: the name of a key."""
    steps: list[StepView]
    asked_at: str
    started_at: str | None
    finished_at: str | None
    duration_ms: int | None
    """From its turn to its end, or to now."""
    predicted_ms: int | None
    """How long it will probably take yet, its turn included; null: nobody can tell."""
    error: Failed | None
    """Why the target isn't resident."""
    restore_error: Failed | None
    """Why what was there before isn't resident again, either."""


@shape
class SwitchList(TypedDict):
    """The newest switches first."""

    switches: list[SwitchView]


@shape
class SwitchFailed(ErrorAnswer):
    """The error of the start, and what became of the switch."""

    switch: NotRequired[SwitchView]


class SwitchApi:
    """Switches, as callers see them."""

    def __init__(self, config: LauncherConfig, switches: SwitchQueue) -> None:
        self._config = config
        self._switches = switches

    def endpoints(self) -> tuple[Endpoint, ...]:
        """POST /api/switch, GET /api/switches, GET /api/switches/{id}"""
        failed = dict.fromkeys((404, 409, 502, 503, 504), SwitchFailed)
        return (
            Endpoint(
                method="POST", path="/api/switch", need="admin", answer=self.begin,
                tag="control", operation="switch_to",
                summary="Make a route's backend resident now, ahead of everybody who waits; "
                "streams that run are served to their end.",
                description="If it fails to start after something was stopped for it, what was "
                "resident before is started again, and the answer says both. With `wait` false it "
                "answers 202 with a `poll` path; a caller who leaves doesn't end the switch. A "
                "lease in the way is a 409 that names its holder, unless `force` breaks it.",
                body=SwitchBody,
                answers={200: SwitchView, 202: SwitchView, **failed},
            ),
            Endpoint(
                method="GET", path="/api/switches", need="observe", answer=self.list,
                tag="control", operation="list_switches",
                summary="The last hundred switches and those under way, the newest first.",
                answers={200: SwitchList},
            ),
            Endpoint(
                method="GET", path="/api/switches/{id}", need="observe", answer=self.one,
                tag="control", operation="get_switch",
                summary="Where a switch stands: its steps, what comes next, and when.",
                answers={200: SwitchView},
            ),
        )  # fmt: skip

    async def begin(self, request: ApiRequest) -> ApiResponse:
        """POST /api/switch"""
        body = request.sent(SwitchBody)
        route = route_of(self._config, body.route, body.model)
        record = self._switches.begin(route, force=body.force, by=request.key or None)
        # Told of nothing that a kill could make untrue.
        await self._switches.durable()
        await settle(self._switches.over(record.id), wait=body.wait)
        await self._switches.durable()
        record = self._switches.get(record.id)
        view = switch_view(self._switches, record, details=True)
        # Who doesn't wait is refused what can't be begun, and told of what was, however it ends.
        if not record.over or (record.error is not None and record.steps and not body.wait):
            return json_answer(view, 202)
        if record.error is None:
            return json_answer(view)
        message = record.error.message if record.restore_error is None else outcome(record)
        return error_answer(self._switches.refusal(record, message), {"switch": view})

    async def list(self, request: ApiRequest) -> ApiResponse:
        """GET /api/switches"""
        return json_answer(
            SwitchList(
                switches=[
                    switch_view(self._switches, one, details=request.admin)
                    for one in reversed(self._switches.all())
                ]
            )
        )

    async def one(self, request: ApiRequest) -> ApiResponse:
        """GET /api/switches/{id}"""
        id = number_of(request.args["id"], "unknown_switch", "switch")
        record = self._switches.get(id)
        return json_answer(switch_view(self._switches, record, details=request.admin))


def switch_view(switches: SwitchQueue, record: SwitchRecord, *, details: bool) -> SwitchView:
    """A switch as it stands; `details` (log lines, exit codes) are for operators."""
    end = record.finished_at
    began = record.started_at
    remaining = switches.remaining(record.id)
    now = switches.wall() if end is None else end
    return {
        "switch_id": record.id,
        "state": record.state,
        "state_text": outcome(record),
        "poll": f"/api/switches/{record.id}",
        "from": list(record.stopped),
        "to": record.route,
        "to_backend": record.backend,
        "resident_before": list(record.before),
        "broken_leases": list(record.broke),
        "force": record.force,
        "by": record.by,
        "steps": [_step(one) for one in record.steps],
        "asked_at": timestamp(record.asked_at),
        "started_at": timestamp(began),
        "finished_at": timestamp(end),
        "duration_ms": None if began is None else milliseconds(max(0.0, now - began)),
        "predicted_ms": milliseconds(remaining),
        "error": failure(record.error, detail=details),
        "restore_error": failure(record.restore_error, detail=details),
    }


def _step(step: Step) -> StepView:
    took = None if step.ended_at is None else max(0.0, step.ended_at - step.began_at)
    return StepView(
        name=step.name,
        time=timestamp(step.began_at),
        duration_ms=milliseconds(took),
        ok=step.ok,
        detail=step.detail,
    )
