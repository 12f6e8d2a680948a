"""`GET /api/decisions`: why things were done, the newest first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

from typing_extensions import TypedDict

from launcher.api.answers import json_answer, timestamp
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import Limits, shape
from launcher.api.view import Decision, decision
from launcher.config import LauncherConfig
from launcher.core.types import BackendId
from launcher.errors import LauncherError
from launcher.telemetry.decisions import MAX_DECISIONS, DecisionLog


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionsQuery:
    """Which decisions are wanted."""

    limit: Annotated[int, Limits(ge=1)] = 100
    """So many, at most."""
    backend: str | None = None
    """Those that name this backend."""


@shape
class Kept(Decision):
    """A decision of the log."""

    number: int
    """They are counted up, over restarts as well."""
    at: str
    times: int
    """How often it was taken in a row."""


@shape
class DecisionList(TypedDict):
    """The newest decisions first."""

    serverTime: str
    decisions: list[Kept]


class Decisions:
    """The decision log's endpoint."""

    def __init__(
        self, config: LauncherConfig, log: DecisionLog, wall: Callable[[], float] = time.time
    ) -> None:
        self._known = [one.id for one in config.backends]
        self._log = log
        self._wall = wall

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /api/decisions"""
        return (
            Endpoint(
                method="GET", path="/api/decisions", need="observe", answer=self.show,
                tag="status", operation="list_decisions",
                summary="Every start, stop, drain and rejection with its reason and its cost, the "
                "newest first.",
                description=f"{MAX_DECISIONS:,} are kept. `?limit=` (100), `?backend=` those that "
                "name it.",
                query=DecisionsQuery,
                answers={200: DecisionList},
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /api/decisions"""
        wanted = request.asked(DecisionsQuery)
        newest = self._log.newest(self._backend(wanted.backend))
        return json_answer(
            DecisionList(
                serverTime=timestamp(self._wall()),
                decisions=[
                    {
                        "number": one.number,
                        "at": timestamp(one.at),
                        "times": one.times,
                        **decision(one.what),
                    }
                    for one in islice(newest, min(wanted.limit, MAX_DECISIONS))
                ],
            )
        )

    def _backend(self, name: str | None) -> BackendId | None:
        if name is None or name in self._known:
            return None if name is None else BackendId(name)
        known = ", ".join(self._known) or "none"
        raise LauncherError(
            "unknown_backend", f"No backend of that name. Known: {known}.", param="backend"
        )
