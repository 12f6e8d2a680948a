"""`/api/mode`: the named modes of routes.toml, of which one may be in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NotRequired

from typing_extensions import TypedDict

from launcher.api.answers import error_answer, json_answer
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.api.leases import LeaseView, Ttl, asked, lease_view, seconds_of
from launcher.api.shapes import ErrorAnswer, shape
from launcher.control.leases import LeaseRegistry
from launcher.control.modes import Modes
from launcher.errors import LauncherError


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
    """What the mode is."""
    pending: LeaseView | None
    """One that was asked for and isn't granted yet."""
    modes: list[KnownMode]


@shape
class ModeFailed(ErrorAnswer):
    """Why the mode can't be had, and which one is in force."""

    mode: NotRequired[ModeView]


class ModeApi:
    """Modes, as callers see them."""

    def __init__(self, modes: Modes, leases: LeaseRegistry) -> None:
        self._modes = modes
        self._leases = leases

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET, POST and DELETE /api/mode"""
        failed = dict.fromkeys((404, 409, 502, 503, 504), ModeFailed)
        return (
            Endpoint(
                method="GET", path="/api/mode", need="observe", answer=self.show,
                tag="control", operation="get_mode",
                summary="The mode that is in force, how long it still lasts, and which there are.",
                answers={200: ModeView},
            ),
            Endpoint(
                method="POST", path="/api/mode", need="admin", answer=self.enter,
                tag="control", operation="enter_mode",
                summary="Make a named mode's routes resident and hold them for its time.",
                description="The mode before it ends when this one is in force, and goes on where "
                "this one fails to start, which the answer says.",
                body=ModeBody,
                answers={200: ModeView, 202: ModeView, **failed},
            ),
            Endpoint(
                method="DELETE", path="/api/mode", need="admin", answer=self.leave,
                tag="control", operation="leave_mode",
                summary="End the mode that is in force.",
                answers={200: ModeView},
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /api/mode"""
        return json_answer(mode_view(self._modes, self._leases, details=request.admin))

    async def enter(self, request: ApiRequest) -> ApiResponse:
        """POST /api/mode"""
        body = request.sent(ModeBody)
        ttl = None if body.ttl is None else seconds_of(body.ttl)
        try:
            await asked(
                self._leases,
                self._modes.check(body.mode, ttl).routes,
                lambda: self._modes.set(
                    body.mode, ttl, by=request.key or None, waited_for=body.wait
                ),
                wait=body.wait,
            )
        except LauncherError as error:
            return self._failed(error)
        view = mode_view(self._modes, self._leases, details=True)
        return json_answer(view, 202 if view["pending"] else 200)

    async def leave(self, request: ApiRequest) -> ApiResponse:
        """DELETE /api/mode"""
        self._modes.leave(by=request.key or None)
        await self._leases.durable()
        return json_answer(mode_view(self._modes, self._leases, details=True))

    def _failed(self, error: LauncherError) -> ApiResponse:
        active = self._modes.active()
        if active is None:
            raise error
        message = f"{error.message} The mode {active.mode} goes on."
        told = LauncherError(
            error.code,
            message,
            param=error.param,
            retry_after=error.retry_after,
            detail=error.detail,
        )
        view = mode_view(self._modes, self._leases, details=True)
        return error_answer(told, {"mode": view})


def mode_view(modes: Modes, leases: LeaseRegistry, *, details: bool) -> ModeView:
    """The mode that is, and those that there are."""
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
