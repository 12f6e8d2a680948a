"""`POST /api/drain` and `/api/resume`: refuse new requests, and take them again."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import TypedDict

from launcher.api.answers import json_answer
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.control import Control
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import shape
from launcher.control.drains import Drains
from launcher.core.types import BackendState


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class DrainBody:
    """What is meant."""

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


class DrainApi:
    """Drains, as callers see them."""

    def __init__(self, control: Control, drains: Drains) -> None:
        self._control = control
        self._drains = drains

    def endpoints(self) -> tuple[Endpoint, ...]:
        """POST /api/drain, POST /api/resume"""
        return (
            Endpoint(
                method="POST", path="/api/drain", need="admin", answer=self.drain,
                tag="control", operation="drain",
                summary="Refuse new requests of a route's backends, or of everything, with 503 "
                "`draining`; what waits and runs is served.",
                description="It lasts until it is resumed, over restarts as well. A backend of "
                "several routes is drained for all of them.",
                body=DrainBody,
                answers={200: DrainView},
            ),
            Endpoint(
                method="POST", path="/api/resume", need="admin", answer=self.resume,
                tag="control", operation="resume",
                summary="Take new requests again, of a route or of everything.",
                body=DrainBody,
                answers={200: DrainView},
            ),
        )  # fmt: skip

    async def drain(self, request: ApiRequest) -> ApiResponse:
        """POST /api/drain"""
        self._drains.drain(request.sent(DrainBody).route)
        return await self._answer()

    async def resume(self, request: ApiRequest) -> ApiResponse:
        """POST /api/resume"""
        self._drains.resume(request.sent(DrainBody).route)
        return await self._answer()

    async def _answer(self) -> ApiResponse:
        await self._drains.durable()
        backends = [
            DrainedBackend(
                backend=one.id, state=one.state, in_flight=one.in_flight, queued=one.queued
            )
            for one in self._control.snapshot().backends.values()
            if one.drained
        ]
        return json_answer(
            DrainView(all=self._drains.all, routes=list(self._drains.routes), backends=backends)
        )
