"""Which of a ticket's backends is to serve it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.core.backend import Backend
from launcher.core.refusal import refusal
from launcher.core.types import BackendState


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
