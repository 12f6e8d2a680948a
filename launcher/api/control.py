"""What operators do to backends: start, stop, switch, drain, and reload the configuration.

A start is admitted like every request, with a ticket that it lets go of at once when it is
granted: the backend then stays for its idle time like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import NotRequired

from aiohttp import web
from typing_extensions import TypedDict

from launcher.api.answers import (
    Failed,
    error_answer,
    failure,
    json_answer,
    milliseconds,
    timestamp,
)
from launcher.api.endpoint import Context, EndpointTable, Request
from launcher.api.shapes import ErrorAnswer, Flag, shape
from launcher.config import LauncherConfig, RouteConfig
from launcher.config.difference import Names
from launcher.control.base import find_route
from launcher.control.records import Step, SwitchRecord, SwitchState
from launcher.control.switches import SwitchQueue, outcome
from launcher.core.types import (
    RESIDENT,
    BackendId,
    BackendSnapshot,
    BackendState,
    Priority,
    Wake,
)
from launcher.errors import ConfigError, LauncherError
from launcher.runtime.admission import Ask, Grant, ask_for

ENDPOINTS = EndpointTable()

#: Seconds between two looks at a backend whose stop somebody waits for.
LOOK_EVERY = 0.05

#: Seconds in which what is decided at once is told to callers who don't wait.
AT_ONCE = 0.1


# -- starting and stopping


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class StartQuery:
    """How a route is started."""

    wait: Flag = False
    """Answer when it is ready, or with the error that a request would have met."""


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class StopQuery:
    """How a route is stopped."""

    force: Flag = False
    """At once: cut the requests that run."""
    wait: Flag = False
    """Answer when it is confirmed that nothing runs."""


@shape
class BackendNow(TypedDict):
    """A backend's state at this moment."""

    backend: str
    state: BackendState


@shape
class RouteNow(TypedDict):
    """A route's backends at this moment."""

    route: str
    state: BackendState
    """The liveliest state among them."""
    backends: list[BackendNow]


@shape
class RouteStarted(RouteNow):
    """It is ready."""

    backend: str
    """The backend that is ready."""
    cold_start: bool
    """It was started for this."""
    waited_ms: int


@ENDPOINTS.add(
    "POST", "/api/routes/{name}/start", need="admin", tag="control", query=StartQuery,
    answers={200: RouteStarted, 202: RouteNow},
)  # fmt: skip
async def start_route(context: Context, request: Request) -> web.Response:
    """Start a route's backend; `?wait=1` answers when it is ready.

    Without it the answer is 202 at once, 200 where it is ready already. A caller who waits gets
    the error that a request would have met, and gives up its place by leaving; a start under way
    goes on.
    """
    route = find_route(context.config, request.args["name"])
    # Somebody waits for it, whatever the route's own requests may.
    priority = min(route.priority, Priority.NORMAL)
    ask = ask_for(context.config, route, priority=priority, wake=Wake.ALWAYS)
    ask = ask._replace(operator=True)
    if request.query_as(StartQuery).wait:
        return _started(context, route, await _granted(context, ask))
    start = context.starts.spawn(_start(context, ask), name=f"operator's start of {route.name}")
    # What is decided at once (ready already, in back-off, no such container) is told at once.
    await asyncio.wait({start}, timeout=0)
    if not start.done():
        return json_answer(_now(context, route), 202)
    outcome = start.result()
    if isinstance(outcome, LauncherError):
        raise outcome
    return _started(context, route, outcome)


@ENDPOINTS.add(
    "POST", "/api/routes/{name}/stop", need="admin", tag="control", query=StopQuery,
    answers={200: RouteNow, 202: RouteNow},
)  # fmt: skip
async def stop_route(context: Context, request: Request) -> web.Response:
    """Stop it after what runs, with `?force=1` at once; `?wait=1` answers when it is stopped."""
    route = find_route(context.config, request.args["name"])
    query = request.query_as(StopQuery)
    stopping = [one for one in _look(context, *route.backends) if one.state in RESIDENT]
    for one in stopping:
        context.control.request_stop(one.id, query.force)
    if query.wait:
        for one in stopping:
            await _stopped(context, one)
        return json_answer(_now(context, route))
    now = _look(context, *(one.id for one in stopping))
    under_way = any(one.state in RESIDENT for one in now)
    return json_answer(_now(context, route), 202 if under_way else 200)


def _look(context: Context, *backends: BackendId) -> list[BackendSnapshot]:
    """Return those that a reload hasn't taken away."""
    known = context.control.snapshot().backends
    return [known[backend] for backend in backends if backend in known]


async def _granted(context: Context, ask: Ask) -> Grant:
    with context.control.admit(ask) as admission:
        return admission.grant or await admission.granted()


async def _start(context: Context, ask: Ask) -> Grant | LauncherError:
    try:
        return await _granted(context, ask)
    except LauncherError as error:
        # Told to the operator while the request lasts, and logged as a decision by the core.
        return error


async def _stopped(context: Context, before: BackendSnapshot) -> None:
    """Wait until it is confirmed that nothing runs. Raise `backend_stop_failed`."""
    while True:
        found = _look(context, before.id)
        if not found:
            return
        (now,) = found
        if now.state not in RESIDENT or _started_anew(before, now):
            return
        if now.stop_failure is not None:
            raise LauncherError(
                now.stop_failure.code,
                f"{before.id} does not stop: {now.stop_failure.message}",
                detail=now.stop_failure.detail,
            )
        await asyncio.sleep(LOOK_EVERY)


def _started_anew(before: BackendSnapshot, now: BackendSnapshot) -> bool:
    """Return whether it was stopped and started again in between, since somebody asked for it."""
    if now.epoch == before.epoch:
        return False
    if now.state is BackendState.STARTING:
        return before.state is not BackendState.STARTING
    return now.instance is not None and now.instance != before.instance


def _started(context: Context, route: RouteConfig, grant: Grant) -> web.Response:
    started: RouteStarted = {
        **_now(context, route),
        "backend": grant.backend,
        "cold_start": grant.cold,
        "waited_ms": milliseconds(grant.queued),
    }
    return json_answer(started)


def _now(context: Context, route: RouteConfig) -> RouteNow:
    backends = _look(context, *route.backends)
    return RouteNow(
        route=route.name,
        state=_most_alive(backends),
        backends=[BackendNow(backend=one.id, state=one.state) for one in backends],
    )


_LIVELINESS = (
    BackendState.READY,
    BackendState.DRAINING,
    BackendState.STARTING,
    BackendState.STOPPING,
    BackendState.FAILED,
    BackendState.STOPPED,
)


def _most_alive(backends: list[BackendSnapshot]) -> BackendState:
    states = (one.state for one in backends)
    return min(states, key=_LIVELINESS.index, default=BackendState.STOPPED)


# -- switching


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
    """The state in words."""
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


@ENDPOINTS.add(
    "POST", "/api/switch", need="admin", tag="control", body=SwitchBody,
    answers={
        200: SwitchView, 202: SwitchView,
        **dict.fromkeys((404, 409, 502, 503, 504), SwitchFailed),
    },
)  # fmt: skip
async def switch_to(context: Context, request: Request) -> web.Response:
    """Make a route's backend resident now, ahead of everybody who waits; streams that run are
    served to their end.

    If it fails to start after something was stopped for it, what was resident before is started
    again, and the answer says both. With `wait` false it answers 202 with a `poll` path; a caller
    who leaves doesn't end the switch. A lease in the way is a 409 that names its holder, unless
    `force` breaks it.
    """
    body, switches = request.body_as(SwitchBody), context.plane.switches
    route = route_of(context.config, body.route, body.model)
    record = switches.begin(route, force=body.force, by=request.key)
    # On the disk before anybody is told of it.
    await switches.durable()
    await settle(switches.over(record.id), wait=body.wait)
    await switches.durable()
    record = switches.get(record.id)
    view = switch_view(switches, record, details=True)
    # A caller who doesn't wait gets an error for what could not be begun, and else the switch.
    if not record.over or (record.error is not None and record.steps and not body.wait):
        return json_answer(view, 202)
    if record.error is None:
        return json_answer(view)
    message = record.error.message if record.restore_error is None else outcome(record)
    return error_answer(switches.refusal(record, message), {"switch": view})


@ENDPOINTS.add("GET", "/api/switches", need="observe", tag="control", answers={200: SwitchList})
async def list_switches(context: Context, request: Request) -> web.Response:
    """The last hundred switches and those under way, the newest first."""
    switches = context.plane.switches
    views = [switch_view(switches, one, details=request.admin) for one in switches.all()]
    return json_answer(SwitchList(switches=views[::-1]))


@ENDPOINTS.add(
    "GET", "/api/switches/{id}", need="observe", tag="control", answers={200: SwitchView}
)
async def get_switch(context: Context, request: Request) -> web.Response:
    """Where a switch stands: its steps, what comes next, and when."""
    record = context.plane.switches.get(request.number("id", "unknown_switch", "switch"))
    return json_answer(switch_view(context.plane.switches, record, details=request.admin))


def route_of(config: LauncherConfig, route: str | None, model: str | None) -> str:
    """Return the name of the route that is meant; of an alias the first model counts.

    Raise `unknown_route`, `unknown_model`, and `invalid_request` where not exactly one is given.
    """
    if (route is None) == (model is None):
        raise LauncherError("invalid_request", "Name either a `route` or a `model`.", param="route")
    if route is not None:
        return find_route(config, route).name
    wanted = next((one.models[0] for one in config.aliases if one.id == model), model)
    for one in config.routes:
        if any(served.id == wanted for served in one.models):
            return one.name
    known = ", ".join(served.id for one in config.routes for served in one.models) or "none"
    raise LauncherError("unknown_model", f"No such model. Known: {known}.", param="model")


async def settle(outcome: Awaitable[object], *, wait: bool) -> None:
    """Wait for an outcome. Without `wait` only for what is decided at once: it is up already,
    somebody holds the place, there is no such container."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None if wait else AT_ONCE):
            await outcome


def switch_view(switches: SwitchQueue, record: SwitchRecord, *, details: bool) -> SwitchView:
    """Return a switch as it stands; `details` (log lines, exit codes) are for operators."""
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


# -- draining


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class DrainBody:
    """Which routes to drain or to resume."""

    route: str | None = None
    """Name of a route; null: everything."""


@shape
class DrainedBackend(TypedDict):
    """A drained backend, and what is left to be served."""

    backend: str
    state: BackendState
    in_flight: int
    queued: int


@shape
class DrainView(TypedDict):
    """What is drained."""

    all: bool
    """Everything, what a reload adds as well."""
    routes: list[str]
    backends: list[DrainedBackend]


@ENDPOINTS.add(
    "POST", "/api/drain", need="admin", tag="control", body=DrainBody, answers={200: DrainView}
)
async def drain(context: Context, request: Request) -> web.Response:
    """Refuse new requests of a route's backends, or of everything, with 503 `draining`; what
    waits and runs is served.

    It lasts until it is resumed, over restarts as well. A backend of several routes is drained
    for all of them.
    """
    context.plane.drains.drain(request.body_as(DrainBody).route)
    return await _drained(context)


@ENDPOINTS.add(
    "POST", "/api/resume", need="admin", tag="control", body=DrainBody, answers={200: DrainView}
)
async def resume(context: Context, request: Request) -> web.Response:
    """Take new requests again, of a route or of everything."""
    context.plane.drains.resume(request.body_as(DrainBody).route)
    return await _drained(context)


async def _drained(context: Context) -> web.Response:
    drains = context.plane.drains
    await drains.durable()
    backends = [
        DrainedBackend(backend=one.id, state=one.state, in_flight=one.in_flight, queued=one.queued)
        for one in context.control.snapshot().backends.values()
        if one.drained
    ]
    return json_answer(DrainView(all=drains.all, routes=list(drains.routes), backends=backends))


# -- reloading


@shape
class NamesChanged(TypedDict):
    """Routes, or backends."""

    added: list[str]
    removed: list[str]
    changed: dict[str, list[str]]
    """Name → keys of routes.toml whose values are others now."""


@shape
class BackendsChanged(NamesChanged):
    """Backends."""

    replaced: list[str]
    """They are something else now (another container, command or port): what runs drains and is
    stopped, and their requests wait for what comes."""


@shape
class ReloadAnswer(TypedDict):
    """What a reload changed."""

    changed: bool
    """Whether anything did."""
    routes: NamesChanged
    backends: BackendsChanged
    settings: list[str]
    """Keys of `[launcher]` and whole tables, such as `capacity`, that are applied."""
    needs_restart: list[str]
    """Keys of `[launcher]` that differ and stay as they were until the launcher is restarted."""
    warnings: list[str]
    duration_ms: int


@ENDPOINTS.add("POST", "/api/reload", need="admin", tag="control", answers={200: ReloadAnswer})
async def reload_configuration(context: Context, request: Request) -> web.Response:
    """Read the configuration again and apply what differs; no request fails of it.

    Backends that are no longer configured drain and are stopped, the others run on. A
    configuration with a problem in it changes nothing: `bad_configuration`, with all that is
    wrong in `detail`.
    """
    try:
        done = await context.reloader.reload("POST /api/reload")
    except ConfigError as error:
        count = len(error.problems)
        some = "1 problem" if count == 1 else f"{count} problems"
        raise LauncherError(
            "bad_configuration",
            f"The configuration has {some}; nothing was changed. `launcher check` tells the same.",
            detail="\n".join(error.problems),
        ) from None
    difference = done.difference
    return json_answer(
        ReloadAnswer(
            changed=bool(difference),
            routes=_names(difference.routes),
            backends=BackendsChanged(
                **_names(difference.backends), replaced=list(difference.replaced)
            ),
            settings=list(difference.settings),
            needs_restart=list(difference.needs_restart),
            warnings=list(done.warnings),
            duration_ms=round(done.seconds * 1000),
        )
    )


def _names(names: Names) -> NamesChanged:
    return NamesChanged(
        added=list(names.added),
        removed=list(names.removed),
        changed={name: list(keys) for name, keys in names.changed.items()},
    )
