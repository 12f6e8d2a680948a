"""The driver of reservations: capacity that a lease keeps for work outside the launcher.

Starting one occupies its needs, stopping it frees them; both are done at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from launcher.core.types import BackendId
from launcher.drivers.base import Connected, DriverEvent, DriverSpec, Observation
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint


class ReservedDriver:
    """Holds reservations."""

    def __init__(self) -> None:
        self._specs: frozenset[BackendId] = frozenset()
        self._held: dict[BackendId, str] = {}
        self._numbers = itertools.count(1)
        self._closed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<ReservedDriver held={sorted(self._held)}>"

    def take(self, backend: BackendId) -> None:
        """It is held already, since an earlier run of the launcher."""
        self._held.setdefault(backend, f"{backend}#{next(self._numbers)}")

    @property
    def name(self) -> str:
        """The driver instance's name."""
        return "reserved"

    def configure(self, specs: Mapping[BackendId, DriverSpec]) -> None:
        """See `Driver.configure`."""
        self._specs = frozenset(specs)

    async def open(self) -> None:
        """See `Driver.open`."""

    async def close(self) -> None:
        """See `Driver.close`."""
        self._closed.set()

    async def list(self) -> Mapping[BackendId, Observation]:
        """See `Driver.list`."""
        return {id: self._observe(id) for id in self._specs}

    async def inspect(self, backend: BackendId) -> Observation:
        """See `Driver.inspect`."""
        return self._observe(backend)

    async def start(self, backend: BackendId) -> Observation:
        """See `Driver.start`."""
        if backend not in self._specs:
            raise LauncherError("backend_missing", _missing(backend))
        self.take(backend)
        return self._observe(backend)

    async def stop(self, backend: BackendId) -> None:
        """See `Driver.stop`."""
        self._held.pop(backend, None)

    async def endpoints(self, backend: BackendId) -> tuple[Endpoint, ...]:
        """See `Driver.endpoints`: nobody answers in a place that is only kept."""
        return ()

    async def log_tail(self, backend: BackendId, lines: int = 20) -> tuple[str, ...]:
        """See `Driver.log_tail`."""
        return ()

    async def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[str, None]:
        """See `Driver.follow`."""
        return
        yield

    async def watch(self) -> AsyncIterator[DriverEvent]:
        """See `Driver.watch`: nothing happens to a reservation but by our doing."""
        yield Connected()
        await self._closed.wait()

    def _observe(self, backend: BackendId) -> Observation:
        instance = self._held.get(backend)
        known = backend in self._specs
        return Observation(
            exists=known,
            running=instance is not None,
            instance=instance,
            error=None if known else _missing(backend),
        )


def _missing(backend: BackendId) -> str:
    return f"Nothing is reserved as {backend}."
