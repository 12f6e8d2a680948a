"""`GET /api/queue`: who waits, for what, and for how long yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from typing_extensions import TypedDict

from launcher.api.answers import json_answer, milliseconds
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.control import Control
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import Limits, shape
from launcher.api.view import Predicted, predicted
from launcher.core.types import BackendState, Ticket

#: How many of those who wait are shown.
MOST = 1000


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueQuery:
    """How much is wanted."""

    limit: Annotated[int, Limits(ge=0)] = 100
    """So many of those who wait, at most; a thousand are shown."""


Kind = Literal["request", "operator", "lease"]


@shape
class Waiting(TypedDict):
    """Somebody who waits."""

    ticket: int
    """Counts up in the order of arrival."""
    kind: Kind
    backends: list[str]
    """In the order in which it would have them."""
    priority: str
    phase: str
    """What it waits for, in words."""
    waited_ms: int
    predicted: Predicted | None


@shape
class QueueOf(TypedDict):
    """A backend for which somebody waits."""

    backend: str
    state: BackendState
    queued: int
    in_flight: int
    oldest_wait_ms: int | None
    predicted: Predicted | None
    """What one more request would wait."""


@shape
class QueueView(TypedDict):
    """Who waits."""

    queued: int
    backends: list[QueueOf]
    waiting: list[Waiting]
    """The first that came first."""


class QueueApi:
    """The queue, as callers see it."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /api/queue"""
        return (
            Endpoint(
                method="GET", path="/api/queue", need="observe", answer=self.show,
                tag="status", operation="get_queue",
                summary="Who waits for which backend, since when, for what, and for how long yet.",
                query=QueueQuery,
                answers={200: QueueView},
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /api/queue"""
        snapshot, forecasts = self._control.snapshot(), self._control.forecasts()
        waiting = self._control.waiting(min(request.asked(QueueQuery).limit, MOST))
        queues = [one for one in snapshot.backends.values() if one.queued]
        return json_answer(
            QueueView(
                queued=sum(one.queued for one in queues),
                backends=[
                    QueueOf(
                        backend=one.id,
                        state=one.state,
                        queued=one.queued,
                        in_flight=one.in_flight,
                        oldest_wait_ms=milliseconds(one.oldest_wait),
                        predicted=predicted(forecasts.get(one.id)),
                    )
                    for one in queues
                ],
                waiting=[
                    Waiting(
                        ticket=ticket.id,
                        kind=_kind(ticket),
                        backends=list(ticket.backends),
                        priority=ticket.priority.name.lower(),
                        phase=progress.phase,
                        waited_ms=milliseconds(progress.waited),
                        predicted=predicted(progress.forecast),
                    )
                    for ticket, progress in waiting
                ],
            )
        )


def _kind(ticket: Ticket) -> Kind:
    if ticket.hold is not None:
        return "lease"
    return "operator" if ticket.operator else "request"
