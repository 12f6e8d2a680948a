"""Leases (`/api/leases`), which hold a route's backend, or capacity for work outside the launcher;
and the named modes of routes.toml (`/api/mode`), of which one may be in force."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NotRequired

from aiohttp import web
from typing_extensions import TypedDict

from launcher.api.answers import Failed, error_answer, failure, json_answer, timestamp
from launcher.api.control import settle
from launcher.api.endpoint import Context, EndpointTable, Request
from launcher.api.shapes import ErrorAnswer, Limits, shape
from launcher.control.leases import LeaseRegistry, why
from launcher.control.records import LeaseRecord, LeaseState
from launcher.core.types import Needs
from launcher.errors import LauncherError

ENDPOINTS = EndpointTable()

Ttl = Annotated[float, Limits(gt=0)] | Annotated[str, Limits(min_length=1, max_length=40)]
"""Seconds, or text such as `45m`."""


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseBody:
    """What is to be held, and for how long."""

    route: str | None = None
    """Name of the route whose backend is held; null: none, `needs` says what is kept free."""
    needs: dict[str, int | str] | None = None
    """With no route: how much of each resource is kept free for work outside the launcher, as
    numbers or sizes such as `20GiB`."""
    ttl: Ttl | None = None
    """Seconds from the grant, or such as `45m`; `max_lease` where it isn't said, and at most."""
    note: Annotated[str, Limits(max_length=500)] = ""
    """What it is for; shown to those whose requests it blocks."""
    pin: bool = False
    """It has no end."""
    wait: bool = True
    """Answer 201 when it is granted; else 202 at once, to be asked about by its id."""


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class RenewBody:
    """How long it is to last from now on."""

    ttl: Ttl | None = None
    """Seconds from now, or such as `45m`; as long as it was taken for where it isn't said."""


@shape
class LeaseView(TypedDict):
    """A lease."""

    id: int
    """The fencing token: every later lease has a higher one."""
    state: LeaseState
    state_text: str
    route: str | None
    routes: list[str]
    """More than one where it is a mode's."""
    backends: list[str]
    needs: dict[str, int]
    """What it keeps free, where it holds no route."""
    mode: str | None
    note: str
    by: str | None
    """Who holds it: the name of a key."""
    pin: bool
    asked_at: str
    granted_at: str | None
    expires_at: str | None
    """null before the grant, and for a pin."""
    remaining_seconds: float | None
    ended_at: str | None
    ended_by: str | None
    """Who or what ended it before its time."""
    error: Failed | None


@shape
class LeaseList(TypedDict):
    """Leases that are in force or asked for, the oldest first."""

    leases: list[LeaseView]


@ENDPOINTS.add(
    "POST", "/api/leases", need="admin", tag="control", body=LeaseBody,
    answers={201: LeaseView, 202: LeaseView},
)  # fmt: skip
async def take_lease(context: Context, request: Request) -> web.Response:
    """Hold a route's backend for a limited time: it is made resident, and neither evicted nor
    stopped for being idle.

    Answers 201 when it is granted, with an `id` that renews and releases it; the time runs from
    then. A caller who leaves before gives it up. Another lease in the way is a 409 that names its
    holder. Without a route, `needs` is kept free for work outside the launcher.
    """
    leases, body = context.plane.leases, request.body_as(LeaseBody)
    if body.route is None and body.needs is None:
        raise LauncherError(
            "invalid_request", "Name a `route`, or say what it `needs`.", param="route"
        )
    if body.route is not None and body.needs is not None:
        raise LauncherError(
            "invalid_request", "`needs` goes without a `route`, which has its own.",
            param="needs",
        )  # fmt: skip
    if body.pin and body.ttl is not None:
        raise LauncherError("invalid_request", "A pin has no `ttl`.", param="ttl")
    ttl = context.config.max_lease if body.ttl is None else seconds_of(body.ttl)
    routes = () if body.route is None else (body.route,)
    record = await asked(
        leases,
        routes,
        lambda: leases.take(
            routes=routes,
            needs=None if body.needs is None else needs_of(body.needs),
            ttl=None if body.pin else ttl,
            note=body.note,
            by=request.key,
            waited_for=body.wait,
        ),
        wait=body.wait,
    )
    view = lease_view(leases, record, details=True)
    return json_answer(view, 201 if record.state is LeaseState.ACTIVE else 202)


@ENDPOINTS.add("GET", "/api/leases", need="observe", tag="control", answers={200: LeaseList})
async def list_leases(context: Context, request: Request) -> web.Response:
    """The leases that are in force or asked for, with the remaining seconds."""
    leases = context.plane.leases
    views = [lease_view(leases, one, details=request.admin) for one in leases.open_ones()]
    return json_answer(LeaseList(leases=views))


@ENDPOINTS.add("GET", "/api/leases/{id}", need="observe", tag="control", answers={200: LeaseView})
async def get_lease(context: Context, request: Request) -> web.Response:
    """A lease, also one that has ended, and why it did."""
    record = context.plane.leases.get(_number(request))
    return json_answer(lease_view(context.plane.leases, record, details=request.admin))


@ENDPOINTS.add(
    "PUT", "/api/leases/{id}", need="admin", tag="control", body=RenewBody, answers={200: LeaseView}
)
async def renew_lease(context: Context, request: Request) -> web.Response:
    """Let a lease last longer, or shorter, from now on; one that has ended is a 409
    (`stale_lease`)."""
    leases, ttl = context.plane.leases, request.body_as(RenewBody).ttl
    record = leases.renew(_number(request), None if ttl is None else seconds_of(ttl))
    await leases.durable()
    return json_answer(lease_view(leases, record, details=True))


@ENDPOINTS.add("DELETE", "/api/leases/{id}", need="admin", tag="control", answers={200: LeaseView})
async def release_lease(context: Context, request: Request) -> web.Response:
    """End a lease; one that has ended already stays as it ended."""
    leases = context.plane.leases
    record = leases.release(_number(request), by=request.key)
    await leases.durable()
    return json_answer(lease_view(leases, record, details=True))


async def asked(
    leases: LeaseRegistry, routes: Sequence[str], ask: Callable[[], LeaseRecord], *, wait: bool
) -> LeaseRecord:
    """Ask for a lease on these routes and return it; with `wait`, when it is granted: a caller who
    leaves before gives it up. It is on the disk before anybody is told of it. Raise the error
    that it was refused with."""
    await leases.check_exists(routes)
    record = ask()
    try:
        await leases.durable()
        await settle(leases.settled(record.id), wait=wait)
        await leases.durable()
    except asyncio.CancelledError:
        if wait:
            leases.release(record.id, by="its asker, who left")
        raise
    record = leases.get(record.id)
    if record.over and record.state is not LeaseState.EXPIRED:
        raise leases.refusal(record)
    return record


def seconds_of(ttl: float | str) -> float:
    """Return a duration as it was sent, in seconds. Raise `invalid_request`."""
    # With it comes what reads settings, and pydantic: not before somebody asks.
    from launcher.config import values

    try:
        return values.seconds(ttl)
    except ValueError as error:
        raise LauncherError("invalid_request", f"`ttl`: {error}.", param="ttl") from None


def needs_of(needs: Mapping[str, int | str]) -> Needs:
    """Return what is to be reserved, as it was sent. Raise `invalid_request`."""
    from launcher.config import values

    try:
        return values.needs(needs)
    except ValueError as error:
        raise LauncherError("invalid_request", f"`needs`: {error}.", param="needs") from None


def lease_view(leases: LeaseRegistry, record: LeaseRecord, *, details: bool) -> LeaseView:
    """Return a lease as it stands; `details` (log lines, exit codes) are for operators."""
    remaining = leases.remaining(record)
    return LeaseView(
        id=record.id,
        state=record.state,
        state_text=why(record),
        route=record.routes[0] if len(record.routes) == 1 else None,
        routes=list(record.routes),
        backends=list(leases.backends_of(record)),
        needs=dict(record.needs),
        mode=record.mode,
        note=record.note,
        by=record.by,
        pin=record.ttl is None,
        asked_at=timestamp(record.asked_at),
        granted_at=timestamp(record.granted_at),
        expires_at=timestamp(record.expires_at),
        remaining_seconds=None if remaining is None else math.floor(remaining * 10) / 10,
        ended_at=timestamp(record.ended_at),
        ended_by=record.ended_by,
        error=failure(record.error, detail=details),
    )


def _number(request: Request) -> int:
    return request.number("id", "unknown_lease", "lease")


# -- modes


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class ModeBody:
    """The mode that is to be."""

    mode: str
    """Name of a mode."""
    ttl: Ttl | None = None
    """Seconds from the grant, or such as `45m`; as the configuration says where it isn't said."""
    wait: bool = True
    """Answer when it is in force; else 202 at once."""


@shape
class KnownMode(TypedDict):
    """A mode that may be asked for."""

    mode: str
    routes: list[str]
    ttl_seconds: float
    """How long it lasts where nobody says otherwise."""


@shape
class ModeView(TypedDict):
    """The mode that is in force."""

    mode: str | None
    """null: none."""
    routes: list[str]
    remaining_seconds: float | None
    expires_at: str | None
    lease: LeaseView | None
    """The lease that holds the mode."""
    pending: LeaseView | None
    """One that was asked for and isn't granted yet."""
    modes: list[KnownMode]


@shape
class ModeFailed(ErrorAnswer):
    """Why the mode can't be had, and which one is in force."""

    mode: NotRequired[ModeView]


@ENDPOINTS.add("GET", "/api/mode", need="observe", tag="control", answers={200: ModeView})
async def get_mode(context: Context, request: Request) -> web.Response:
    """The mode that is in force, how long it still lasts, and which there are."""
    return json_answer(mode_view(context, details=request.admin))


@ENDPOINTS.add(
    "POST", "/api/mode", need="admin", tag="control", body=ModeBody,
    answers={200: ModeView, 202: ModeView, **dict.fromkeys((404, 409, 502, 503, 504), ModeFailed)},
)  # fmt: skip
async def enter_mode(context: Context, request: Request) -> web.Response:
    """Make a named mode's routes resident and hold them for its time.

    The mode before it ends when this one is in force, and goes on where this one fails to start,
    which the answer says.
    """
    body, modes = request.body_as(ModeBody), context.plane.modes
    ttl = None if body.ttl is None else seconds_of(body.ttl)
    try:
        await asked(
            context.plane.leases,
            modes.check(body.mode, ttl).routes,
            lambda: modes.set(body.mode, ttl, by=request.key, waited_for=body.wait),
            wait=body.wait,
        )
    except LauncherError as error:
        return _mode_failed(context, error)
    view = mode_view(context, details=True)
    return json_answer(view, 202 if view["pending"] else 200)


@ENDPOINTS.add("DELETE", "/api/mode", need="admin", tag="control", answers={200: ModeView})
async def leave_mode(context: Context, request: Request) -> web.Response:
    """End the mode that is in force."""
    context.plane.modes.leave(by=request.key)
    await context.plane.leases.durable()
    return json_answer(mode_view(context, details=True))


def _mode_failed(context: Context, error: LauncherError) -> web.Response:
    active = context.plane.modes.active()
    if active is None:
        raise error
    with_mode = LauncherError(
        error.code,
        f"{error.message} The mode {active.mode} goes on.",
        param=error.param,
        retry_after=error.retry_after,
        detail=error.detail,
    )
    return error_answer(with_mode, {"mode": mode_view(context, details=True)})


def mode_view(context: Context, *, details: bool) -> ModeView:
    """Return the mode that is in force, and those that there are."""
    modes, leases = context.plane.modes, context.plane.leases
    active, pending = modes.active(), modes.pending()
    view = None if active is None else lease_view(leases, active, details=details)
    return ModeView(
        mode=None if active is None else active.mode,
        routes=[] if view is None else view["routes"],
        remaining_seconds=None if view is None else view["remaining_seconds"],
        expires_at=None if view is None else view["expires_at"],
        lease=view,
        pending=None if pending is None else lease_view(leases, pending, details=details),
        modes=[
            KnownMode(mode=one.name, routes=list(one.routes), ttl_seconds=one.ttl)
            for one in modes.known
        ],
    )
