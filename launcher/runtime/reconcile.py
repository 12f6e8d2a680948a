"""What really runs: at boot, after the event stream broke, after any engine event.

An engine's event changes nothing by itself: it makes us look, and what was seen is fed with
the epoch that was current when the look began. Docker's `stop` event can come after the
reply to the stop and even after the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping

from launcher import tasks
from launcher.core.events import Observed, Reachable
from launcher.core.types import BackendId, Failure
from launcher.drivers.base import Changed, Connected, Disconnected, Driver, Observation
from launcher.errors import LauncherError
from launcher.runtime.handle import BackendHandle, Shell

log = logging.getLogger(__name__)

#: Seconds after which a look that failed is tried again.
RETRY_AFTER = 0.5

_GONE = Observation(exists=False)


class Reconciler:
    """Follows the drivers and looks at backends; feeds Observed and Reachable."""

    def __init__(self, shell: Shell, handles: Mapping[BackendId, BackendHandle]) -> None:
        self._shell = shell
        self._handles = handles
        self._health: dict[str, str | None] = {}
        self._told: dict[str, str | None] = {}

    def health(self) -> dict[str, str | None]:
        """Per driver that holds anything None where it answers, else why not."""
        used = {handle.driver.name for handle in self._handles.values()}
        return {name: why for name, why in self._health.items() if name in used}

    def joined(self, handle: BackendHandle) -> None:
        """A driver holds one more: whether it answers is known already, what runs isn't. One
        that has not been heard of yet sees to it when it is listed."""
        if handle.driver.name not in self._told:
            return
        why = self._health[handle.driver.name]
        if why is not None:
            failure = Failure("docker_unavailable", f"{handle.driver.name}: {why}")
            self._shell.feed(Reachable((handle.id,), False, failure))
        else:
            self._shell.feed(Reachable((handle.id,), True))
        self.look(handle)

    def follow(self, driver: Driver) -> None:
        """Begin to follow a driver, unless it is followed already; it has been looked at when
        everything was listed once."""
        if driver.name in self._health:
            return
        self._health[driver.name] = "it has not been heard of yet"
        self._shell.spawn(self._follow(driver), f"watch {driver.name}")

    async def _follow(self, driver: Driver) -> None:
        opened = False
        while True:
            reason = f"the watch of {driver.name} ended"
            try:
                if not opened:
                    await driver.open()
                    opened = True
                await self._watch(driver)
            except LauncherError as error:
                reason = error.message
            except Exception as error:
                # Caught so broadly because a launcher that no longer looks would believe for
                # ever what it saw last.
                log.error("watching %s failed", driver.name, exc_info=error)
                reason = f"watching {driver.name} failed: {type(error).__name__}"
            self._unreachable(driver, reason)
            await asyncio.sleep(RETRY_AFTER)

    async def _watch(self, driver: Driver) -> None:
        listing: asyncio.Task[None] | None = None
        events = driver.watch()
        try:
            async for event in events:
                match event:
                    case Connected():
                        await tasks.cancel(listing)
                        listing = self._shell.spawn(self._list(driver), f"list {driver.name}")
                    case Disconnected(reason):
                        await tasks.cancel(listing)
                        self._unreachable(driver, reason)
                    case Changed(backend):
                        handle = self._handles.get(backend)
                        if handle is not None:
                            self.look(handle)
        finally:
            await tasks.cancel(listing)
            if isinstance(events, AsyncGenerator):
                await events.aclose()

    def _unreachable(self, driver: Driver, reason: str) -> None:
        self._health[driver.name] = reason
        failure = Failure("docker_unavailable", f"{driver.name}: {reason}")
        self._tell(driver, reason, Reachable(self._of(driver), False, failure))

    def _tell(self, driver: Driver, state: str | None, event: Reachable) -> None:
        """A driver that tries once a second to connect says so once a second: told once."""
        if self._told.get(driver.name, "") != state:
            self._told[driver.name] = state
            self._shell.feed(event)

    def _of(self, driver: Driver) -> tuple[BackendId, ...]:
        return tuple(handle.id for handle in self._handles.values() if handle.driver is driver)

    async def _list(self, driver: Driver) -> None:
        """List everything, however often it takes, and feed what was seen."""
        while True:
            mine = [handle for handle in self._handles.values() if handle.driver is driver]
            looks = {handle.id: self._begin(handle) for handle in mine}
            try:
                found = await driver.list()
                break
            except LauncherError as error:
                self._unreachable(driver, error.message)
            await asyncio.sleep(RETRY_AFTER)
        self._tell(driver, None, Reachable(self._of(driver), True))
        for handle in mine:
            self._feed(handle, looks[handle.id], found.get(handle.id, _GONE))
        self._health[driver.name] = None
        for handle in [one for one in self._handles.values() if one.driver is driver]:
            if handle.id not in looks:
                self.look(handle)  # it came while the others were listed

    def look(self, handle: BackendHandle) -> None:
        """See to it that what runs is looked at, now or when our own operation has ended."""
        if self._handles.get(handle.id) is not handle:
            return  # its last operation was its end
        if handle.operations:
            handle.look_again = True
            handle.changed.set()
        elif handle.looking is not None and not handle.looking.done():
            handle.look_again = True
        else:
            handle.looking = self._shell.spawn(self._look(handle), f"look at {handle.id}")

    async def _look(self, handle: BackendHandle) -> None:
        while True:
            handle.look_again = False
            seen = await self.observe(handle)
            if handle.operations:
                handle.look_again = True  # the end of the operation sees to it
                return
            if seen is None:
                await asyncio.sleep(RETRY_AFTER)
            elif not handle.look_again:
                return

    async def missing(self, handle: BackendHandle) -> Failure | None:
        """Why nothing of it could be started: there is nothing. None also where it is up, and
        where the driver can't tell."""
        try:
            seen = await handle.driver.inspect(handle.id)
        except LauncherError as error:
            missing = error.code == "backend_missing"
            return Failure(error.code, error.message) if missing else None
        told = seen.error or f"There is nothing to start for {handle.id}; create it first."
        return None if seen.exists else Failure("backend_missing", told)

    async def observe(self, handle: BackendHandle) -> Observation | None:
        """Look once, and feed what was seen; None where the driver doesn't answer."""
        look = self._begin(handle)
        try:
            seen = await handle.driver.inspect(handle.id)
        except LauncherError as error:
            if error.code != "backend_missing":
                return None
            seen = _GONE
        self._feed(handle, look, seen)
        return seen

    def _begin(self, handle: BackendHandle) -> tuple[int, int]:
        handle.looks_begun += 1
        return handle.looks_begun, self._shell.epoch(handle.id)

    def _feed(self, handle: BackendHandle, look: tuple[int, int], seen: Observation) -> None:
        serial, epoch = look
        if serial < handle.look_fed:
            return  # a look that began later was fed already: this one knows less
        if handle.operations:
            handle.look_again = True
            return
        handle.look_fed = serial
        self._shell.feed(Observed(handle.id, epoch, seen.running, seen.instance, seen.running_for))
