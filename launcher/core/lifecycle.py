"""Every move a backend can make, in one table. The docs' diagram is generated from it.

A move that isn't in the table is a bug in the scheduler and raises IllegalTransition.
"""

from __future__ import annotations

from enum import Enum

from launcher.core.types import BackendState

_S = BackendState


class Cause(Enum):
    """Why a backend changes its state."""

    START = "start"
    ADOPT = "found running"
    READY = "became ready"
    DRAIN = "its place is wanted"
    UNDRAIN = "no longer wanted"
    STOP = "stop"
    RETRY_STOP = "stop again"
    STOPPED = "stop confirmed"
    GAVE_UP = "stop confirmed after a failed start"
    DIED = "died"
    REPLACED = "restarted by somebody else"


TRANSITIONS: dict[tuple[BackendState, Cause], BackendState] = {
    (_S.STOPPED, Cause.START): _S.STARTING,
    (_S.STOPPED, Cause.ADOPT): _S.STARTING,
    (_S.FAILED, Cause.START): _S.STARTING,
    (_S.FAILED, Cause.ADOPT): _S.STARTING,
    (_S.STARTING, Cause.READY): _S.READY,
    (_S.STARTING, Cause.STOP): _S.STOPPING,
    (_S.READY, Cause.DRAIN): _S.DRAINING,
    (_S.READY, Cause.DIED): _S.STOPPED,
    (_S.READY, Cause.REPLACED): _S.STARTING,
    (_S.DRAINING, Cause.UNDRAIN): _S.READY,
    (_S.DRAINING, Cause.STOP): _S.STOPPING,
    (_S.DRAINING, Cause.DIED): _S.STOPPED,
    (_S.DRAINING, Cause.REPLACED): _S.STARTING,
    (_S.STOPPING, Cause.RETRY_STOP): _S.STOPPING,
    (_S.STOPPING, Cause.STOPPED): _S.STOPPED,
    (_S.STOPPING, Cause.GAVE_UP): _S.FAILED,
}


class IllegalTransition(Exception):
    """A move that the table doesn't have."""


def move(state: BackendState, cause: Cause) -> BackendState:
    """The state that `cause` leads to; raises IllegalTransition where there is none."""
    try:
        return TRANSITIONS[state, cause]
    except KeyError:
        raise IllegalTransition(f"{cause.name} in state {state.value}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/architecture.md."""
    lines = ["stateDiagram-v2", "    [*] --> stopped"]
    lines += [
        f"    {before.value} --> {after.value}: {cause.value}"
        for (before, cause), after in TRANSITIONS.items()
    ]
    return "\n".join(lines)
