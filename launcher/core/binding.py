"""Which of a ticket's backends is to serve it, or why none can. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.core.backend import Backend
from launcher.core.types import BackendState, Failure

_UP = (BackendState.READY, BackendState.DRAINING)


def refusal(
    backend: Backend, now: float, *, ordered: bool = False
) -> tuple[Failure, float | None] | None:
    """Why a ticket can't even wait for this backend now, and after how long it may. For one that
    an operator `ordered` there is always room in the queue."""
    if backend.removed:
        return removed(backend), None
    if backend.drained:
        return drained(backend), None
    if len(backend.queue) >= backend.spec.max_queue and not ordered:
        message = f"{len(backend.queue)} requests wait for {backend.id} already."
        return Failure("queue_full", message), None
    if backend.retry_at is not None and now < backend.retry_at and backend.failure is not None:
        return backend.failure, backend.retry_at - now
    if backend.unreachable is not None and backend.state not in _UP:
        return backend.unreachable, None
    if backend.stop_failure is not None:
        return stuck(backend), None
    return None


def removed(backend: Backend) -> Failure:
    """What those are told who ask for what the configuration no longer has."""
    return Failure("backend_stopped", f"{backend.id} is no longer configured.")


def drained(backend: Backend) -> Failure:
    """What those are told who come while an operator lets nobody in."""
    return Failure("draining", f"An operator has drained {backend.id}: ask again once it resumes.")


def leased(backend: Backend, others: Sequence[Backend]) -> Failure:
    """What those are told whose place leases on `others` keep."""
    names = ", ".join(other.id for other in others)
    return Failure("leased", f"{backend.id} needs the place of {names}, which is leased.")


def not_resident(backend: Backend) -> Failure:
    """What those are told who may not wake it."""
    return Failure(
        "not_resident",
        f"{backend.id} is {backend.state.value}, and this kind of request doesn't start it.",
    )


def stuck(backend: Backend) -> Failure:
    """What those are told who wait for a backend that doesn't stop."""
    failure = backend.stop_failure
    why = failure.message if failure is not None else "it doesn't stop"
    return Failure(
        "backend_stop_failed",
        f"{backend.id} has to stop first and doesn't: {why}",
        failure.detail if failure is not None else None,
    )


def choose(choice: Sequence[Backend], now: float) -> Backend:
    """Of some, in the order of preference: one that is ready and has room, else ready, else
    starting, else the first that would take a ticket, one that leases leave no place only where
    no other would; where none would, the first."""
    if len(choice) == 1:
        return choice[0]
    open_ = [backend for backend in choice if refusal(backend, now) is None]
    for wanted in (_free, _ready, _starting):
        for backend in open_:
            if wanted(backend):
                return backend
    return next((b for b in open_ if not b.blocked), open_[0] if open_ else choice[0])


def _free(backend: Backend) -> bool:
    return backend.state is BackendState.READY and backend.room


def _ready(backend: Backend) -> bool:
    return backend.state is BackendState.READY


def _starting(backend: Backend) -> bool:
    return backend.state is BackendState.STARTING
