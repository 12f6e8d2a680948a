"""For callers of older switchers: their paths, as thin aliases of ours.

Each does what an endpoint below /api does; only the spelling of what is sent and answered is
theirs, and some statuses: an unknown model is 400, a container that was never created 412. New
callers have no use for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NotRequired

from aiohttp import web
from typing_extensions import TypedDict

from launcher.api.answers import json_answer, timestamp
from launcher.api.control import route_of, settle
from launcher.api.endpoint import Context, Control, EndpointTable, Request
from launcher.api.health import Alive, Ready, Unready, get_health, get_readiness
from launcher.api.leases import ModeView, get_mode
from launcher.api.models import ModelList, list_models
from launcher.api.shapes import Limits, shape
from launcher.api.status import StatusAnswer, status
from launcher.config import LauncherConfig, RouteConfig
from launcher.control.base import check_exists, find_mode, find_route
from launcher.control.plane import ControlPlane
from launcher.control.records import LeaseRecord, SwitchRecord, SwitchState
from launcher.control.switches import outcome
from launcher.core.types import RESIDENT
from launcher.errors import LauncherError

ENDPOINTS = EndpointTable()

#: Errors that older switchers answer with another status.
_STATUSES = {"unknown_model": 400, "unknown_mode": 400, "backend_missing": 412}

Word = Literal["accepted", "in_progress", "success"]


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class OldSwitch:
    """A switch to a model."""

    model: str
    """A model's id, an alias, or a route's name."""
    wait_for_ready: bool = True


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class OldModeSwitch:
    """A change of mode."""

    mode: str
    model: str | None = None
    """One of the mode's."""
    ttl_minutes: Annotated[float, Limits(gt=0)] | None = None
    """For modes that end; the one that `home` is in doesn't."""
    wait_for_ready: bool = True


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class OldStop:
    """Which backends to stop."""

    model: str | None = None
    """None: all that run."""


@shape
class OldAnswer(TypedDict):
    """How a switch, or a change of mode, stands."""

    status: Word
    switch_id: int
    to_model: str
    state_text: str
    poll_endpoint: str


@shape
class OldRelease(TypedDict):
    """The mode was left."""

    status: Literal["success"]
    mode: None


@shape
class OldStopped(TypedDict):
    """The backends that stop, after what they serve."""

    status: Literal["success"]
    stopped: list[str]


@shape
class SwitchBlock(TypedDict):
    """The newest switch, in `GET /status`."""

    status: str
    """`idle` before the first, `queued`, `running`, `success`, `failed`, `rolled_back`."""
    switch_id: NotRequired[int]
    to_model: NotRequired[str]
    state_text: NotRequired[str]
    started_at: NotRequired[str | None]
    finished_at: NotRequired[str | None]
    error: NotRequired[str | None]
    poll_endpoint: NotRequired[str]


@shape
class OldStatus(StatusAnswer):
    """Everything at a glance, and the newest switch."""

    switch: SwitchBlock


# -- as they are

ENDPOINTS.add(
    "GET", "/health", need="open", tag="alias", operation="old_health",
    summary="Alias of `/healthz`.", answers={200: Alive},
)(get_health)  # fmt: skip
ENDPOINTS.add(
    "GET", "/healthz/ready", need="open", tag="alias", operation="old_readiness",
    summary="Alias of `/readyz`.", answers={200: Ready, 503: Unready},
)(get_readiness)  # fmt: skip
ENDPOINTS.add(
    "GET", "/models", need="known", tag="alias", operation="old_models",
    summary="Alias of `/v1/models`.", answers={200: ModelList},
)(list_models)  # fmt: skip
ENDPOINTS.add(
    "GET", "/mode", need="observe", tag="alias", operation="old_mode",
    summary="Alias of `/api/mode`.", answers={200: ModeView},
)(get_mode)  # fmt: skip


@ENDPOINTS.add("GET", "/status", need="observe", tag="alias", answers={200: OldStatus})
async def old_status(context: Context, request: Request) -> web.Response:
    """Alias of `/api/status`, with the newest switch as `switch`."""
    answer: OldStatus = {
        **status(context, details=request.details),
        "switch": _newest(context),
    }
    return json_answer(answer)


def _newest(context: Context) -> SwitchBlock:
    switches = context.plane.switches
    known = switches.all()
    if not known:
        return SwitchBlock(status="idle")
    record = (switches.open_ones() or known)[-1]
    succeeded = record.state is SwitchState.SUCCEEDED
    return SwitchBlock(
        status="success" if succeeded else record.state.value,
        switch_id=record.id,
        to_model=_model_of(context.config, record.route),
        state_text=outcome(record),
        started_at=timestamp(record.started_at),
        finished_at=timestamp(record.finished_at),
        error=None if record.error is None else record.error.message,
        poll_endpoint=f"/api/switches/{record.id}",
    )


# -- switching


@ENDPOINTS.add(
    "POST", "/switch", need="admin", tag="alias", body=OldSwitch,
    answers={200: OldAnswer, 202: OldAnswer},
)  # fmt: skip
async def old_switch(context: Context, request: Request) -> web.Response:
    """Alias of `POST /api/switch`, to a model."""
    # 200 when it is up, or 202 without waiting; 409 for a second one that would wait.
    body, switches = request.body_as(OldSwitch), context.plane.switches
    route = _route_of(context.config, body.model)
    under_way = switches.open_ones()
    if body.wait_for_ready:
        _check_none_under_way(context.plane)
    else:
        same = [one for one in under_way if one.route == route.name]
        if same:
            return _switching("in_progress", same[-1], body.model)
    await _check_exists(context.control, route)
    record = switches.begin(route.name, by=request.key)
    await switches.durable()
    await settle(switches.over(record.id), wait=body.wait_for_ready)
    record = switches.get(record.id)
    if record.over and record.state is not SwitchState.SUCCEEDED:
        raise _as_before(switches.refusal(record, f"The switch {outcome(record)}"))
    return _switching("success" if body.wait_for_ready else "accepted", record, body.model)


def _switching(word: Word, record: SwitchRecord, model: str) -> web.Response:
    poll = f"/api/switches/{record.id}"
    return _answer(word, record.id, model, f"The switch {outcome(record)}.", poll)


@ENDPOINTS.add(
    "POST", "/mode/switch", need="admin", tag="alias", body=OldModeSwitch,
    answers={200: OldAnswer, 202: OldAnswer},
)  # fmt: skip
async def old_mode_switch(context: Context, request: Request) -> web.Response:
    """Alias of `POST /api/mode`."""
    # As `/switch`; `switch_id` is the number of the mode's lease.
    body = request.body_as(OldModeSwitch)
    modes, leases = context.plane.modes, context.plane.leases
    model = _model_in(context.config, body)
    pending = modes.pending()
    ttl = None if body.ttl_minutes is None else body.ttl_minutes * 60
    mode = modes.check(body.mode, ttl)
    if body.wait_for_ready:
        _check_none_under_way(context.plane)
    elif pending is not None and pending.mode == body.mode:
        return _changing("in_progress", pending, model)
    for name in mode.routes:
        await _check_exists(context.control, find_route(context.config, name))
    record = modes.set(body.mode, ttl, by=request.key, waited_for=False)
    await leases.durable()
    await settle(leases.settled(record.id), wait=body.wait_for_ready)
    record = leases.get(record.id)
    if record.over:
        raise _as_before(leases.refusal(record))
    await leases.durable()
    return _changing("success" if body.wait_for_ready else "accepted", record, model)


def _changing(word: Word, record: LeaseRecord, model: str) -> web.Response:
    text = f"The lease of mode {record.mode} is {record.state.value}."
    return _answer(word, record.id, model, text, f"/api/leases/{record.id}")


@ENDPOINTS.add("POST", "/mode/release", need="admin", tag="alias", answers={200: OldRelease})
async def old_mode_release(context: Context, request: Request) -> web.Response:
    """Alias of `DELETE /api/mode`."""
    context.plane.modes.leave(request.key)
    await context.plane.leases.durable()
    return json_answer(OldRelease(status="success", mode=None))


@ENDPOINTS.add("POST", "/stop", need="admin", tag="alias", body=OldStop, answers={200: OldStopped})
async def old_stop(context: Context, request: Request) -> web.Response:
    """Stops a model's backend, or all that run, after what they serve."""
    model = request.body_as(OldStop).model
    backends = None if model is None else _route_of(context.config, model).backends
    stopping = [
        one.id
        for one in context.control.snapshot().backends.values()
        if one.state in RESIDENT and (backends is None or one.id in backends)
    ]
    for one in stopping:
        context.control.request_stop(one)
    return json_answer(OldStopped(status="success", stopped=[*stopping]))


def _check_none_under_way(plane: ControlPlane) -> None:
    """Raise `switch_in_progress` where a switch is under way."""
    switches, pending = plane.switches.open_ones(), plane.modes.pending()
    if switches or pending is not None:
        what = f"to {switches[0].route}" if switches else f"of mode {pending and pending.mode}"
        raise LauncherError(
            "switch_in_progress",
            f'A switch {what} is under way. Wait for its end, or send `"wait_for_ready": false`.',
        )


async def _check_exists(control: Control, route: RouteConfig) -> None:
    """Raise `backend_missing`, as 412."""
    try:
        await check_exists(control, route)
    except LauncherError as error:
        raise _as_before(error) from None


# -- names


def _route_of(config: LauncherConfig, model: str) -> RouteConfig:
    """Return the route that serves a model or an alias, or has that name. Raise `unknown_model`,
    as 400."""
    named = [route for route in config.routes if route.name == model]
    try:
        return find_route(config, route_of(config, None, model))
    except LauncherError as error:
        if named:
            return named[0]
        raise _as_before(error) from None


def _model_of(config: LauncherConfig, name: str) -> str:
    """Return a route's first model, else its name."""
    for route in config.routes:
        if route.name == name and route.models:
            return route.models[0].id
    return name


def _model_in(config: LauncherConfig, wanted: OldModeSwitch) -> str:
    """Return the model that a mode is changed for. Raise `unknown_mode`, `unknown_model` and
    `invalid_request`, all as 400."""
    try:
        mode = find_mode(config, wanted.mode)
    except LauncherError as error:
        raise _as_before(error) from None
    if wanted.ttl_minutes is not None and config.home in mode.routes:
        raise LauncherError(
            "invalid_request",
            f"ttl_minutes belongs to other modes: {mode.name} holds the home route.",
            param="ttl_minutes",
        )
    if wanted.model is None:
        return _model_of(config, mode.routes[0])
    if _route_of(config, wanted.model).name not in mode.routes:
        raise LauncherError(
            "invalid_request",
            f"Mode {mode.name} has no route that serves {wanted.model}.",
            param="model",
        )
    return wanted.model


def _answer(word: Word, id: int, model: str, text: str, poll: str) -> web.Response:
    answer = OldAnswer(
        status=word, switch_id=id, to_model=model, state_text=text, poll_endpoint=poll
    )
    return json_answer(answer, 200 if word == "success" else 202)


def _as_before(error: LauncherError) -> LauncherError:
    """Return an error under the status that older switchers have for it."""
    error.status = _STATUSES.get(error.code, error.status)
    return error
