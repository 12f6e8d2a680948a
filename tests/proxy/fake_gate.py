"""A gate that a test opens and shuts by hand, and that keeps what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from launcher.config import Secret
from launcher.core.types import BackendId, Forecast
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime.admission import Ask, Grant, Progress
from launcher.runtime.permits import Permit


class FakeAdmission:
    """One ticket."""

    def __init__(self, gate: FakeGate, ask: Ask) -> None:
        self.gate = gate
        self.ask = ask
        self.grant: Grant | None = None
        self.ok = False
        self.starting = 0.0
        self.on_abort: Callable[[LauncherError], None] | None = None
        self.silences: list[bool] = []
        self.refusal: LauncherError | None = None
        self.entered = self.left = False
        self._changed = asyncio.Event()

    async def granted(self) -> Grant:
        while self.grant is None:
            if self.refusal is not None:
                raise self.refusal
            await self._changed.wait()
            self._changed.clear()
        return self.grant

    def decide(self, grant: Grant | None, refusal: LauncherError | None = None) -> None:
        self.grant, self.refusal = grant, refusal
        self._changed.set()

    def progress(self) -> Progress:
        return Progress(BackendId(self.ask.backends[0]), *self.gate.progress)

    def silence(self, silent: bool) -> None:
        self.silences.append(silent)

    def __enter__(self) -> Self:
        assert not self.entered
        self.entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert not self.left
        self.left = True


class FakeGate:
    """Grants at once while `ready`; else each waits for `open` or `refuse`."""

    def __init__(self, endpoint: Endpoint, *, ready: bool = True) -> None:
        self.endpoint = endpoint
        self.ready = ready
        self.keys: dict[BackendId, Secret | None] = {}
        """What the backends ask for."""
        self.admissions: list[FakeAdmission] = []
        self.suspected: list[Grant] = []
        self.watched: list[Grant] = []
        self.progress: tuple[str, float, Forecast | None] = (
            "starting",
            12.4,
            Forecast(2, 25.8, 4.1),
        )
        self.permits: dict[BackendId, Permit] = {}
        self.resident: BackendId | None = None
        """Granted where it is among those asked for; else the first of them is."""
        self.on_suspect: Callable[[], bool] = lambda: True

    @property
    def waiting(self) -> list[FakeAdmission]:
        return [one for one in self.admissions if one.grant is None and not one.left]

    @property
    def held(self) -> list[FakeAdmission]:
        """Those not let go, granted or not."""
        return [one for one in self.admissions if one.entered and not one.left]

    def a_grant(self, ask: Ask, *, cold: bool) -> Grant:
        queued, starting = (2.0, 1.5) if cold else (0.0, 0.0)
        granted = self.resident if self.resident in ask.backends else None
        backend = granted or ask.backends[0]
        key = self.keys.get(backend)
        return Grant(backend, 1, self.endpoint, cold, queued, starting, key=key)

    def admit(self, ask: Ask) -> FakeAdmission:
        admission = FakeAdmission(self, ask)
        self.admissions.append(admission)
        if self.ready:
            admission.grant = self.a_grant(ask, cold=False)
        elif ask.quiet:
            admission.refusal = LauncherError("not_resident", "not up")
        return admission

    def open(self) -> None:
        self.ready = True
        for one in self.waiting:
            one.decide(self.a_grant(one.ask, cold=True))

    def refuse(self, error: LauncherError, starting: float = 0.0) -> None:
        for one in self.waiting:
            one.starting = starting
            one.decide(None, error)

    def abort(self, error: LauncherError) -> None:
        for one in self.held:
            if one.on_abort is not None:
                one.on_abort(error)

    async def suspect(self, grant: Grant) -> bool:
        self.suspected.append(grant)
        await asyncio.sleep(0)
        return self.on_suspect()

    def watch_silence(self, grant: Grant) -> None:
        self.watched.append(grant)
