"""Carrying out Start, Adopt and Stop: calls to a driver, probes, and words for a failure.

Knows neither the scheduler nor events: each call comes to one result, or is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from launcher import tasks
from launcher.core.types import Failure
from launcher.drivers.base import Observation
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime import failures
from launcher.runtime.failures import Redact
from launcher.runtime.held import Clock, Held
from launcher.runtime.probe import Probe, Seen, first_ready

log = logging.getLogger(__name__)

#: Seconds between looks at a starting backend where the engine's events are silent.
LOOK_EVERY = 1.0
#: Seconds beyond `stop_grace` after which a stop counts as failed.
STOP_MARGIN = 15.0
#: Seconds that fetching the last log lines may take.
LOG_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Ready:
    """It may receive its first request."""

    endpoint: Endpoint
    instance: str


@dataclass(frozen=True, slots=True)
class _Ended:
    """It is no longer what was started."""

    seen: Observation


_Begin = Callable[[Held], Awaitable[Observation]]


class Starter:
    """Starts, adopts and stops, each inside its deadline."""

    def __init__(self, probe: Probe, clock: Clock, redact: Redact) -> None:
        self._probe = probe
        self._clock = clock
        self._redact = redact

    async def start(
        self, held: Held, deadline: float, runs: Callable[[], None] = lambda: None
    ) -> Ready | Failure:
        """Start it and wait until it is ready; `deadline` is absolute, on the clock. `runs` is
        called in between: it was started, and is asked from now on."""
        held.changed.clear()
        seen = Seen("the start itself did not return")

        async def launch(held: Held) -> Observation:
            found = await held.driver.start(held.id)
            if found.running:
                runs()
            return found

        return await self._inside(held, deadline, launch, seen)

    async def adopt(self, held: Held, deadline: float) -> Ready | Failure:
        """Wait until what runs already is ready; `deadline` is absolute, on the clock."""
        held.changed.clear()
        seen = Seen("it could not be looked at")
        return await self._inside(held, deadline, self._find, seen)

    async def stop(self, held: Held, others: tuple[asyncio.Task[None], ...]) -> Failure | None:
        """Stop it, the operations in `others` cancelled first. None: it is confirmed."""
        allowed = held.config.driver.stop_grace + STOP_MARGIN
        try:
            async with asyncio.timeout(allowed) as timer:
                await tasks.cancel(*others)
                await held.driver.stop(held.id)
        except LauncherError as error:
            return failures.from_error(error, self._redact)
        except Exception as error:  # noqa: BLE001 (see _crashed)
            if timer.expired() and isinstance(error, TimeoutError):
                return failures.stop_timeout(held.id, allowed)
            return self._crashed("backend_stop_failed", held, "stopping", error)
        return None

    async def _find(self, held: Held) -> Observation:
        # The engine may be away just now: what runs is not failed for that.
        while True:
            try:
                return await held.driver.inspect(held.id)
            except LauncherError as error:
                if error.code == "backend_missing":
                    return Observation(exists=False)
            await asyncio.sleep(LOOK_EVERY)

    async def _inside(
        self,
        held: Held,
        deadline: float,
        begin: _Begin,
        seen: Seen,
    ) -> Ready | Failure:
        try:
            async with asyncio.timeout(deadline - self._clock()) as timer:
                found = await begin(held)
                seen.last = "it was not probed yet"
                result = await self._until_ready(held, found, seen)
        except LauncherError as error:
            lines = await self._log_tail(held) if error.code == "backend_start_failed" else ()
            return failures.from_error(error, self._redact, lines)
        except Exception as error:  # noqa: BLE001 (see _crashed)
            if timer.expired() and isinstance(error, TimeoutError):
                lines = await self._log_tail(held)
                return failures.start_timeout(
                    held.id, held.config.start_timeout, seen.last, lines, self._redact
                )
            return self._crashed("backend_start_failed", held, "starting", error)
        if isinstance(result, _Ended):
            lines = await self._log_tail(held)
            return failures.died(held.id, result.seen, found.instance, lines, self._redact)
        return result

    async def _until_ready(
        self, held: Held, found: Observation, seen: Seen
    ) -> Ready | Failure | _Ended:
        if not found.running or found.instance is None:
            return _Ended(found)
        healthy = asyncio.Event()
        watch = tasks.spawn(
            self._until_ended(held, found.instance, healthy, seen), name=f"watch start {held.id}"
        )
        search = tasks.spawn(self._search(held, healthy, seen), name=f"probe {held.id}")
        try:
            await asyncio.wait({watch, search}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                return watch.result()
            answer = search.result()
        finally:
            await tasks.cancel(watch, search)
        return answer if isinstance(answer, Failure) else Ready(answer, found.instance)

    async def _search(self, held: Held, healthy: asyncio.Event, seen: Seen) -> Endpoint | Failure:
        if held.config.health.kind == "none":
            return Endpoint()
        if held.config.health.kind == "docker":
            await healthy.wait()
        return await first_ready(
            self._probe,
            held.config,
            lambda: held.driver.endpoints(held.id),
            held.awaited,
            seen,
        )

    async def _until_ended(
        self, held: Held, instance: str, healthy: asyncio.Event, seen: Seen
    ) -> Failure | _Ended:
        """Ends when it has ended, however busy the probes are; tells `healthy` meanwhile."""
        by_docker = held.config.health.kind == "docker"
        while True:
            held.changed.clear()
            try:
                found = await held.driver.inspect(held.id)
            except LauncherError as error:
                if error.code == "backend_missing":
                    return _Ended(Observation(exists=False))
            else:
                if not found.running or found.instance != instance:
                    return _Ended(found)
                if by_docker and found.health is None:
                    return Failure(
                        "backend_start_failed",
                        f'{held.id} has `health = "docker"` but its container has no '
                        f"HEALTHCHECK; give it one, or set `health` to a path or `tcp`.",
                    )
                if by_docker:
                    seen.last = f"its HEALTHCHECK says {found.health}"
                if found.health == "healthy":
                    healthy.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await held.changed.wait()

    async def _log_tail(self, held: Held) -> tuple[str, ...]:
        """The last lines of its output; none where they can't be had: the failure matters."""
        try:
            async with asyncio.timeout(LOG_TIMEOUT):
                return await held.driver.log_tail(held.id, failures.LOG_LINES)
        except (LauncherError, TimeoutError):
            return ()

    def _crashed(self, code: str, held: Held, what: str, error: Exception) -> Failure:
        # Caught so broadly because an operation without an outcome would leave the backend
        # starting or stopping for ever.
        log.error("%s %s: the driver failed", what, held.id, exc_info=error)
        return failures.crashed(code, held.id, what, error)
