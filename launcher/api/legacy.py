"""For callers of older switchers: their paths, as thin aliases of ours.

Each does what an endpoint below /api does; only the spelling of what is sent and answered is
theirs, and some statuses: an unknown model is 400, a container that was never created 412. New
callers have no use for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, NotRequired

from typing_extensions import TypedDict

from launcher.api.answers import json_answer, timestamp
from launcher.api.contract import Answer, ApiRequest, ApiResponse
from launcher.api.control import Control
from launcher.api.endpoint import Endpoint
from launcher.api.health import Alive, Ready, Unready
from launcher.api.models import ModelList
from launcher.api.modes import ModeView
from launcher.api.naming import route_of
from launcher.api.patience import settle
from launcher.api.shapes import Limits, shape
from launcher.api.status import StatusAnswer
from launcher.config import LauncherConfig, RouteConfig
from launcher.control.base import check_exists, find_mode, find_route
from launcher.control.plane import ControlPlane
from launcher.control.records import LeaseRecord, SwitchRecord, SwitchState
from launcher.control.switches import outcome
from launcher.core.types import RESIDENT
from launcher.errors import LauncherError

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
    """Whom to stop."""

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
    """What was let go of."""

    status: Literal["success"]
    mode: None


@shape
class OldStopped(TypedDict):
    """Who stops, after what it serves."""

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


@dataclass(frozen=True, slots=True)
class Aliased:
    """What is answered elsewhere, and here under an older path."""

    health: Answer
    ready: Answer
    models: Answer
    mode: Answer
    status: Callable[[ApiRequest], StatusAnswer]


class Legacy:
    """The older paths."""

    def __init__(
        self,
        config: LauncherConfig,
        control: Control,
        plane: ControlPlane,
        aliased: Aliased,
    ) -> None:
        self._config = config
        self._control = control
        self._plane = plane
        self._aliased = aliased

    def endpoints(self) -> tuple[Endpoint, ...]:
        """All of them."""
        return (
            Endpoint(
                method="GET", path="/health", need="open", answer=self.health, tag="alias",
                operation="old_health", summary="Alias of `/healthz`.", answers={200: Alive},
            ),
            Endpoint(
                method="GET", path="/healthz/ready", need="open", answer=self.ready, tag="alias",
                operation="old_readiness", summary="Alias of `/readyz`.",
                answers={200: Ready, 503: Unready},
            ),
            Endpoint(
                method="GET", path="/models", need="known", answer=self.models, tag="alias",
                operation="old_models", summary="Alias of `/v1/models`.", answers={200: ModelList},
            ),
            Endpoint(
                method="GET", path="/status", need="observe", answer=self.status, tag="alias",
                operation="old_status",
                summary="Alias of `/api/status`, with the newest switch as `switch`.",
                answers={200: OldStatus},
            ),
            Endpoint(
                method="GET", path="/mode", need="observe", answer=self.mode, tag="alias",
                operation="old_mode", summary="Alias of `/api/mode`.", answers={200: ModeView},
            ),
            Endpoint(
                method="POST", path="/switch", need="admin", answer=self.switch, tag="alias",
                operation="old_switch", summary="Alias of `POST /api/switch`, to a model.",
                body=OldSwitch, answers={200: OldAnswer, 202: OldAnswer},
            ),
            Endpoint(
                method="POST", path="/mode/switch", need="admin", answer=self.mode_switch,
                tag="alias", operation="old_mode_switch", summary="Alias of `POST /api/mode`.",
                body=OldModeSwitch, answers={200: OldAnswer, 202: OldAnswer},
            ),
            Endpoint(
                method="POST", path="/mode/release", need="admin", answer=self.mode_release,
                tag="alias", operation="old_mode_release", summary="Alias of `DELETE /api/mode`.",
                answers={200: OldRelease},
            ),
            Endpoint(
                method="POST", path="/stop", need="admin", answer=self.stop, tag="alias",
                operation="old_stop",
                summary="Stops a model's backend, or all that run, after what they serve.",
                body=OldStop, answers={200: OldStopped},
            ),
        )  # fmt: skip

    # -- as they are

    async def health(self, request: ApiRequest) -> ApiResponse:
        """GET /health"""
        return await _whole(self._aliased.health, request)

    async def ready(self, request: ApiRequest) -> ApiResponse:
        """GET /healthz/ready"""
        return await _whole(self._aliased.ready, request)

    async def models(self, request: ApiRequest) -> ApiResponse:
        """GET /models"""
        return await _whole(self._aliased.models, request)

    async def mode(self, request: ApiRequest) -> ApiResponse:
        """GET /mode"""
        return await _whole(self._aliased.mode, request)

    async def status(self, request: ApiRequest) -> ApiResponse:
        """GET /status"""
        answer: OldStatus = {**self._aliased.status(request), "switch": self._newest()}
        return json_answer(answer)

    def _newest(self) -> SwitchBlock:
        known = self._plane.switches.all()
        if not known:
            return SwitchBlock(status="idle")
        record = (self._plane.switches.open_ones() or known)[-1]
        succeeded = record.state is SwitchState.SUCCEEDED
        return SwitchBlock(
            status="success" if succeeded else record.state.value,
            switch_id=record.id,
            to_model=self._model_of(record.route),
            state_text=outcome(record),
            started_at=timestamp(record.started_at),
            finished_at=timestamp(record.finished_at),
            error=None if record.error is None else record.error.message,
            poll_endpoint=f"/api/switches/{record.id}",
        )

    # -- switching

    async def switch(self, request: ApiRequest) -> ApiResponse:
        """POST /switch: 200 when it is up, or 202 without waiting; 409 for a second one that
        would wait."""
        wanted = request.sent(OldSwitch)
        switches = self._plane.switches
        route = self._route_of(wanted.model)
        under_way = switches.open_ones()
        if wanted.wait_for_ready:
            self._alone()
        else:
            same = [one for one in under_way if one.route == route.name]
            if same:
                return self._switching("in_progress", same[-1], wanted.model)
        await self._there(route)
        record = switches.begin(route.name, by=request.key or None)
        await switches.durable()
        await settle(switches.over(record.id), wait=wanted.wait_for_ready)
        record = switches.get(record.id)
        if record.over and record.state is not SwitchState.SUCCEEDED:
            raise _as_before(switches.refusal(record, f"The switch {outcome(record)}"))
        if not wanted.wait_for_ready:
            return self._switching("accepted", record, wanted.model)
        return self._switching("success", record, wanted.model)

    def _switching(self, word: Word, record: SwitchRecord, model: str) -> ApiResponse:
        poll = f"/api/switches/{record.id}"
        return _answered(word, record.id, model, f"The switch {outcome(record)}.", poll)

    async def mode_switch(self, request: ApiRequest) -> ApiResponse:
        """POST /mode/switch: as `/switch`; `switch_id` is the number of the mode's lease."""
        wanted = request.sent(OldModeSwitch)
        modes, leases = self._plane.modes, self._plane.leases
        model = self._model_in(wanted)
        pending = modes.pending()
        ttl = None if wanted.ttl_minutes is None else wanted.ttl_minutes * 60
        mode = modes.check(wanted.mode, ttl)
        if wanted.wait_for_ready:
            self._alone()
        elif pending is not None and pending.mode == wanted.mode:
            return self._changing("in_progress", pending, model)
        for name in mode.routes:
            await self._there(find_route(self._config, name))
        record = modes.set(wanted.mode, ttl, by=request.key or None, waited_for=False)
        await leases.durable()
        await settle(leases.settled(record.id), wait=wanted.wait_for_ready)
        record = leases.get(record.id)
        if record.over:
            raise _as_before(leases.refusal(record))
        await leases.durable()
        word: Word = "success" if wanted.wait_for_ready else "accepted"
        return self._changing(word, record, model)

    def _changing(self, word: Word, record: LeaseRecord, model: str) -> ApiResponse:
        text = f"The lease of mode {record.mode} is {record.state.value}."
        return _answered(word, record.id, model, text, f"/api/leases/{record.id}")

    async def mode_release(self, request: ApiRequest) -> ApiResponse:
        """POST /mode/release"""
        self._plane.modes.leave(request.key or None)
        await self._plane.leases.durable()
        return json_answer(OldRelease(status="success", mode=None))

    async def stop(self, request: ApiRequest) -> ApiResponse:
        """POST /stop"""
        model = request.sent(OldStop).model
        wanted = None if model is None else self._route_of(model).backends
        going = [
            one.id
            for one in self._control.snapshot().backends.values()
            if one.state in RESIDENT and (wanted is None or one.id in wanted)
        ]
        for one in going:
            self._control.request_stop(one)
        return json_answer(OldStopped(status="success", stopped=[*going]))

    def _alone(self) -> None:
        """Raises `switch_in_progress` where one is under way."""
        switches, pending = self._plane.switches.open_ones(), self._plane.modes.pending()
        if switches or pending is not None:
            what = f"to {switches[0].route}" if switches else f"of mode {pending and pending.mode}"
            raise LauncherError(
                "switch_in_progress",
                f"A switch {what} is under way. Wait for its end, or send"
                ' `"wait_for_ready": false`.',
            )

    async def _there(self, route: RouteConfig) -> None:
        """Raises `backend_missing`, as 412."""
        try:
            await check_exists(self._control, route)
        except LauncherError as error:
            raise _as_before(error) from None

    # -- names

    def _route_of(self, model: str) -> RouteConfig:
        """The route that serves a model or an alias, or has that name. Raises `unknown_model`,
        as 400."""
        named = [route for route in self._config.routes if route.name == model]
        try:
            return find_route(self._config, route_of(self._config, None, model))
        except LauncherError as error:
            if named:
                return named[0]
            raise _as_before(error) from None

    def _model_of(self, name: str) -> str:
        """A route's first model, else its name."""
        for route in self._config.routes:
            if route.name == name and route.models:
                return route.models[0].id
        return name

    def _model_in(self, wanted: OldModeSwitch) -> str:
        """The model that a mode is changed for. Raises `unknown_mode`, `unknown_model` and
        `invalid_request`, all as 400."""
        try:
            mode = find_mode(self._config, wanted.mode)
        except LauncherError as error:
            raise _as_before(error) from None
        if wanted.ttl_minutes is not None and self._config.home in mode.routes:
            raise LauncherError(
                "invalid_request",
                f"ttl_minutes belongs to other modes: {mode.name} holds the home route.",
                param="ttl_minutes",
            )
        if wanted.model is None:
            return self._model_of(mode.routes[0])
        if self._route_of(wanted.model).name not in mode.routes:
            raise LauncherError(
                "invalid_request",
                f"Mode {mode.name} has no route that serves {wanted.model}.",
                param="model",
            )
        return wanted.model


async def _whole(answer: Answer, request: ApiRequest) -> ApiResponse:
    response = await answer(request)
    assert isinstance(response, ApiResponse)
    return response


def _answered(word: Word, id: int, model: str, text: str, poll: str) -> ApiResponse:
    answer = OldAnswer(
        status=word, switch_id=id, to_model=model, state_text=text, poll_endpoint=poll
    )
    return json_answer(answer, 200 if word == "success" else 202)


def _as_before(error: LauncherError) -> LauncherError:
    """An error under the status that older switchers have for it."""
    error.status = _STATUSES.get(error.code, error.status)
    return error
