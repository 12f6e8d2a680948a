"""The home route, whose backend becomes resident again when the last lease has ended.

That is pending until it is done, over a restart as well. It has no hurry: no busy backend drains
for it, and leases and switches go first.
"""

from __future__ import annotations

import asyncio
import logging
import math

from launcher import tasks
from launcher.config import LauncherConfig
from launcher.control.base import Clocks, OperatorGate
from launcher.control.records import HOME
from launcher.core.types import Failure
from launcher.errors import LauncherError
from launcher.runtime.admission import Ask
from launcher.state.store import StateStore

log = logging.getLogger(__name__)

#: Errors that pass: it is tried again.
_TRANSIENT = frozenset({"docker_unavailable", "queue_full", "queue_timeout", "draining"})


class HomeRoute:
    """Makes the home route resident again."""

    def __init__(
        self, config: LauncherConfig, gate: OperatorGate, store: StateStore, clocks: Clocks
    ) -> None:
        self._route = config.home
        self._config = config
        self._gate = gate
        self._store = store
        self._clocks = clocks
        self._task: asyncio.Task[None] | None = None
        self.error: Failure | None = None
        """Why the last attempt failed."""

    def __repr__(self) -> str:
        return f"<HomeRoute {self._route}{' pending' if self.pending else ''}>"

    @property
    def route(self) -> str | None:
        """The home route, None where there is none."""
        return self._route

    @property
    def pending(self) -> bool:
        """Whether it is still to become resident."""
        return self._task is not None

    def open(self) -> None:
        """Continue what was pending in an earlier run."""
        for route in self._store.loaded(HOME):
            if route == self._route:
                self.request()
            else:
                self._store.drop(HOME, route)

    async def close(self) -> None:
        """Leave it pending for the next run."""
        await tasks.cancel(self._task)

    def reconfigure(self, config: LauncherConfig) -> None:
        """Use another configuration from now on."""
        if config.home != self._route:
            self.cancel()
        self._config, self._route = config, config.home

    def request(self) -> None:
        """Make it resident: the last lease has ended."""
        if self._route is None or self.pending:
            return
        self._store.put(HOME, self._route, self._clocks.wall())
        self.error = None
        self._task = tasks.spawn(self._run(self._route), name="home")

    def cancel(self) -> None:
        """Give it up: something else is to be resident."""
        if self._task is not None and self._route is not None:
            self._task.cancel()
            self._task = None
            self._store.drop(HOME, self._route)

    async def _run(self, name: str) -> None:
        while True:
            try:
                await self._resident(name)
            except LauncherError as error:
                if self._gate.snapshot().closed:
                    return  # it stays pending for the next run
                self.error = Failure(error.code, error.message, error.detail)
                log.warning("the home route %s does not start: %s", name, error.message)
                if error.code in _TRANSIENT:
                    await asyncio.sleep(error.retry_after or LauncherError.default_retry_after)
                    continue
            break
        self._task = None
        self._store.drop(HOME, name)

    async def _resident(self, name: str) -> None:
        route = next(one for one in self._config.routes if one.name == name)
        ask = Ask(route.backends, max_wait=math.inf, operator=True)
        with self._gate.admit(ask) as admission:
            await admission.granted()
