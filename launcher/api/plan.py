"""`GET /api/routes/{name}/plan`: what would happen if a request for the route came now.

The scheduler is asked, and does nothing.
"""

from __future__ import annotations

from launcher.api.answers import json_answer, milliseconds
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.control import Control, find_route
from launcher.api.view import decision, predicted
from launcher.config import LauncherConfig
from launcher.core.effects import Decided, Grant, Reject
from launcher.core.types import BackendId, BackendState, Snapshot
from launcher.runtime.asking import PLANNED, ask_for


class Plans:
    """Asking without doing."""

    def __init__(self, config: LauncherConfig, control: Control) -> None:
        self._config = config
        self._routes = {route.name: route for route in config.routes}
        self._control = control

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /api/routes/{name}/plan"""
        route = find_route(self._routes, request)
        effects = self._control.plan(ask_for(self._config, route))
        own = [one for one in effects if isinstance(one, Grant | Reject) and one.ticket == PLANNED]
        decided = [one for one in effects if isinstance(one, Decided)]
        answer: dict[str, object] = {
            "route": route.name,
            "outcome": "waits",
            "backend": None,
            "predictedWait": None,
            "rejection": None,
            "decisions": [decision(one) for one in decided],
        }
        match own:
            case [Grant(backend=backend)]:
                answer |= {"outcome": "served", "backend": backend}
            case [Reject(backend=backend, code=code, message=message, retry_after=after)]:
                rejection = {"code": code, "message": message, "retryAfterMs": milliseconds(after)}
                answer |= {"outcome": "rejected", "backend": backend, "rejection": rejection}
            case _:
                backend = _awaited(route.backends, decided, self._control.snapshot())
                answer["backend"] = backend
                answer["predictedWait"] = predicted(self._control.forecasts().get(backend))
        return json_answer(answer)


def _awaited(
    backends: tuple[BackendId, ...], decided: list[Decided], snapshot: Snapshot
) -> BackendId:
    """Of a route's backends the one that the ticket would wait for."""
    wanted = [id for one in decided for id in (one.backend, one.wanted_by)]
    states = {id: snapshot.backends[id].state for id in backends}
    for id in backends:
        if id in wanted or states[id] in (BackendState.READY, BackendState.STARTING):
            return id
    return backends[0]
