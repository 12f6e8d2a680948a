"""`GET /api/routes/{name}/plan`: what would happen if a request for the route came now.

The scheduler is asked, and does nothing.
"""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from launcher.api.answers import json_answer, milliseconds
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.control import Control, find_route
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import shape
from launcher.api.view import Decision, Predicted, decision, predicted
from launcher.config import LauncherConfig
from launcher.core.effects import Admit, Decided, Reject
from launcher.core.types import Forecast
from launcher.runtime.admission import ask_for


@shape
class Rejection(TypedDict):
    """With which error the request would end."""

    code: str
    message: str
    retryAfterMs: int | None


@shape
class PlannedDecision(Decision):
    """What would be decided, and when."""

    afterMs: int


@shape
class Plan(TypedDict):
    """What a request for the route would bring about."""

    route: str
    outcome: Literal["served", "waits", "rejected"]
    backend: str
    predictedWait: Predicted | None
    """Null: it wouldn't wait, or nobody can tell how long."""
    rejection: Rejection | None
    decisions: list[PlannedDecision]


class Plans:
    """Asking without doing."""

    def __init__(self, config: LauncherConfig, control: Control) -> None:
        self._config = config
        self._routes = {route.name: route for route in config.routes}
        self._control = control

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /api/routes/{name}/plan"""
        return (
            Endpoint(
                method="GET", path="/api/routes/{name}/plan", need="observe", answer=self.show,
                tag="status", operation="plan_route",
                summary="What would happen if a request for the route came now: decisions and the "
                "predicted wait. Does nothing.",
                answers={200: Plan},
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /api/routes/{name}/plan"""
        route = find_route(self._routes, request)
        steps = self._control.plan(ask_for(self._config, route))
        last = steps[-1] if steps else None
        answer: Plan = {
            "route": route.name,
            "outcome": "waits",
            "backend": route.backends[0],
            "predictedWait": None,
            "rejection": None,
            "decisions": [
                {"afterMs": milliseconds(step.after), **decision(step.effect)}
                for step in steps
                if isinstance(step.effect, Decided)
            ],
        }
        match last.effect if last is not None else None:
            case Reject(backend=backend, code=code, message=message, retry_after=after):
                answer["outcome"], answer["backend"] = "rejected", backend
                answer["rejection"] = Rejection(
                    code=code, message=message, retryAfterMs=milliseconds(after)
                )
            case Admit(backend=backend) if last is not None and last.after > 0:
                expected = self._control.forecasts().get(backend) or Forecast(1, last.after, 0.0)
                answer["backend"], answer["predictedWait"] = backend, predicted(expected)
            case Admit(backend=backend):
                answer["outcome"], answer["backend"] = "served", backend
            case _:
                pass
        return json_answer(answer)
