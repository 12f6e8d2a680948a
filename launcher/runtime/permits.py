"""stub until core lands"""

from __future__ import annotations

from typing import Protocol

from launcher.core.types import BackendId
from launcher.errors import LauncherError
from launcher.runtime.admission import Grant


class Holder(Protocol):
    def cut(self, error: LauncherError) -> None: ...


class Permit:
    backend: BackendId
    grant: Grant
    room: int

    def enter(self, holder: Holder, now: float) -> None: ...
    def leave(self, holder: Holder, now: float, ok: bool) -> None: ...
