"""`/api/leases`: hold a route's backend, or capacity for work outside the launcher."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from typing_extensions import TypedDict

from launcher.api.answers import json_answer, timestamp
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.api.naming import number_of
from launcher.api.patience import settle
from launcher.api.shapes import Limits, shape
from launcher.api.view import Failed, failure
from launcher.config import LauncherConfig
from launcher.control.leases import LeaseRegistry, why
from launcher.control.records import LeaseRecord, LeaseState
from launcher.core.types import Needs
from launcher.errors import LauncherError

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
    """What it is for; told to those who are in its way."""
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


class LeaseApi:
    """Leases, as callers see them."""

    def __init__(self, config: LauncherConfig, leases: LeaseRegistry) -> None:
        self._config = config
        self._leases = leases

    def endpoints(self) -> tuple[Endpoint, ...]:
        """POST and GET /api/leases, GET, PUT and DELETE /api/leases/{id}"""
        return (
            Endpoint(
                method="POST", path="/api/leases", need="admin", answer=self.take,
                tag="control", operation="take_lease",
                summary="Hold a route's backend for a limited time: it is made resident, and "
                "neither evicted nor stopped for being idle.",
                description="Answers 201 when it is granted, with an `id` that renews and releases "
                "it; the time runs from then. A caller who leaves before gives it up. Another "
                "lease in the way is a 409 that names its holder. Without a route, `needs` is "
                "kept free for work outside the launcher.",
                body=LeaseBody,
                answers={201: LeaseView, 202: LeaseView},
            ),
            Endpoint(
                method="GET", path="/api/leases", need="observe", answer=self.list,
                tag="control", operation="list_leases",
                summary="The leases that are in force or asked for, with the remaining seconds.",
                answers={200: LeaseList},
            ),
            Endpoint(
                method="GET", path="/api/leases/{id}", need="observe", answer=self.one,
                tag="control", operation="get_lease",
                summary="A lease, also one that has ended, and why it did.",
                answers={200: LeaseView},
            ),
            Endpoint(
                method="PUT", path="/api/leases/{id}", need="admin", answer=self.renew,
                tag="control", operation="renew_lease",
                summary="Let a lease last longer, or shorter, from now on; one that has ended is "
                "a 409 (`stale_lease`).",
                body=RenewBody,
                answers={200: LeaseView},
            ),
            Endpoint(
                method="DELETE", path="/api/leases/{id}", need="admin", answer=self.release,
                tag="control", operation="release_lease",
                summary="End a lease; one that has ended already stays as it ended.",
                answers={200: LeaseView},
            ),
        )  # fmt: skip

    async def take(self, request: ApiRequest) -> ApiResponse:
        """POST /api/leases"""
        body = request.sent(LeaseBody)
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
        ttl = self._config.max_lease if body.ttl is None else seconds_of(body.ttl)
        routes = () if body.route is None else (body.route,)
        record = await asked(
            self._leases,
            routes,
            lambda: self._leases.take(
                routes=routes,
                needs=None if body.needs is None else needs_of(body.needs),
                ttl=None if body.pin else ttl,
                note=body.note,
                by=request.key or None,
                waited_for=body.wait,
            ),
            wait=body.wait,
        )
        view = lease_view(self._leases, record, details=True)
        return json_answer(view, 201 if record.state is LeaseState.ACTIVE else 202)

    async def list(self, request: ApiRequest) -> ApiResponse:
        """GET /api/leases"""
        return json_answer(
            LeaseList(
                leases=[
                    lease_view(self._leases, one, details=request.admin)
                    for one in self._leases.open_ones()
                ]
            )
        )

    async def one(self, request: ApiRequest) -> ApiResponse:
        """GET /api/leases/{id}"""
        record = self._leases.get(_number(request))
        return json_answer(lease_view(self._leases, record, details=request.admin))

    async def renew(self, request: ApiRequest) -> ApiResponse:
        """PUT /api/leases/{id}"""
        ttl = request.sent(RenewBody).ttl
        record = self._leases.renew(_number(request), None if ttl is None else seconds_of(ttl))
        await self._leases.durable()
        return json_answer(lease_view(self._leases, record, details=True))

    async def release(self, request: ApiRequest) -> ApiResponse:
        """DELETE /api/leases/{id}"""
        record = self._leases.release(_number(request), by=request.key or None)
        await self._leases.durable()
        return json_answer(lease_view(self._leases, record, details=True))


async def asked(
    leases: LeaseRegistry, routes: Sequence[str], ask: Callable[[], LeaseRecord], *, wait: bool
) -> LeaseRecord:
    """Ask for a lease (on these routes), and with `wait` for its grant, during which who leaves
    gives it up. The record is on the disk before anybody is told of it. Raises what it was
    refused with."""
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
    """A duration as it was sent. Raises `invalid_request`."""
    # With it comes what reads settings, and pydantic: not before somebody asks.
    from launcher.config import values

    try:
        return values.seconds(ttl)
    except ValueError as error:
        raise LauncherError("invalid_request", f"`ttl`: {error}.", param="ttl") from None


def needs_of(needs: Mapping[str, int | str]) -> Needs:
    """What is to be reserved, as it was sent. Raises `invalid_request`."""
    from launcher.config import values

    try:
        return values.needs(needs)
    except ValueError as error:
        raise LauncherError("invalid_request", f"`needs`: {error}.", param="needs") from None


def lease_view(leases: LeaseRegistry, record: LeaseRecord, *, details: bool) -> LeaseView:
    """A lease as it stands; `details` (log lines, exit codes) are for operators."""
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


def _number(request: ApiRequest) -> int:
    return number_of(request.args["id"], "unknown_lease", "lease")
