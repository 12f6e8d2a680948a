"""What the operators' rooms need of the dispatcher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from launcher.core.types import BackendId, Failure, Needs, Snapshot
from launcher.runtime.admission import Admission, Ask


class Gate(Protocol):
    """Tickets, and what else an operator may change at the gate."""

    def admit(self, ask: Ask) -> Admission:
        """A ticket."""
        ...

    def snapshot(self) -> Snapshot:
        """Everything at this moment."""
        ...

    async def missing(self, backend: BackendId) -> Failure | None:
        """Why nothing of it could be started: there is nothing. None where there is something,
        and where nobody can tell."""
        ...

    def drain(self, backends: Sequence[BackendId] | None, on: bool) -> None:
        """Refuse new tickets of these backends (None: of all, those to come as well), or no
        longer."""
        ...

    def reserve(self, backend: BackendId, needs: Needs, *, held: bool = False) -> None:
        """A backend that is nothing but its needs, to be had by a lease on it; `held`: whoever
        it is for has it already, since an earlier run."""
        ...

    def unreserve(self, backend: BackendId) -> None:
        """It is no longer needed."""
        ...
