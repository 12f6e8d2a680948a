"""Starting, adopting and stopping: calls to a driver, probes, and words for a failure, as tasks
whose outcomes are fed back with the epoch of the effect.

Nothing here decides. One operation per backend is under way, but for a stop that waits for the
start that it cancels.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from launcher import tasks
from launcher.core.effects import Adopt, Start, Stop
from launcher.core.events import Event, Launched, Started, StartFailed, StopFailed, Stopped
from launcher.core.types import BackendId, Failure
from launcher.drivers.base import Observation
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime.handle import BackendHandle, Clock, Shell
from launcher.runtime.probe import Probe, Seen, first_ready
from launcher.runtime.reconcile import Reconciler

#: Lines of a backend's output that go with a failed start.
LOG_LINES = 20

Redact = Callable[[str], str]
"""Takes the configured secrets out of a text."""


def from_error(error: LauncherError, redact: Redact, lines: Iterable[str] = ()) -> Failure:
    """A driver's error as the failure that its waiters are told."""
    parts = [error.detail] if error.detail else []
    parts.extend(lines)
    return Failure(error.code, redact(error.message), redact("\n".join(parts)) or None)


def died(
    backend: BackendId,
    seen: Observation,
    instance: str | None,
    lines: Iterable[str],
    redact: Redact,
) -> Failure:
    """It ended (or was replaced) before it became ready."""
    if not seen.exists:
        return Failure(
            "backend_missing", f"{backend} was removed while it started; create it again."
        )
    if seen.running:
        what = f"{backend} was restarted by somebody else while it started"
        if instance is None:
            what = f"{backend} could not be identified"
        return Failure(
            "backend_start_failed",
            f"{what}; a restart policy does that after a crash: set it to `no`.",
            redact("\n".join(lines)) or None,
        )
    facts = []
    if seen.exit_code is not None:
        facts.append(f"exit code {seen.exit_code}")
    if seen.oom_killed:
        facts.append("killed because it was out of memory")
    if seen.error:
        facts.append(redact(seen.error))
    told = f" ({', '.join(facts)})" if facts else ""
    advice = "give it more memory or a smaller model" if seen.oom_killed else "its log says more"
    detail = [f"exit code: {seen.exit_code}, OOMKilled: {str(seen.oom_killed).lower()}", *lines]
    return Failure(
        "backend_start_failed",
        f"{backend} ended before it was ready{told}; {advice}.",
        redact("\n".join(detail)),
    )


def start_timeout(
    backend: BackendId, timeout: float, seen: str, lines: Iterable[str], redact: Redact
) -> Failure:
    """It was not ready by its deadline; `seen` is what the last probe met."""
    return Failure(
        "start_timeout",
        f"{backend} did not become ready within its start_timeout of {timeout:g} s; "
        f"last seen: {redact(seen).rstrip('.')}. If it only needs longer, raise "
        f"`start_timeout`; else look at its log, and at `health` and `port`.",
        redact("\n".join(lines)) or None,
    )


def stop_timeout(backend: BackendId, seconds: float) -> Failure:
    """The driver did not confirm the stop in time."""
    return Failure(
        "backend_stop_failed",
        f"{backend} did not stop within {seconds:g} s; it is tried again. "
        f"Look at what holds it, and stop it by hand if need be.",
    )


def crashed(code: str, backend: BackendId, what: str, error: Exception) -> Failure:
    """A driver broke its promise to raise only LauncherError."""
    return Failure(
        code,
        f"{what} {backend} failed inside the launcher ({type(error).__name__}); see its log.",
    )


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


_Begin = Callable[[BackendHandle], Awaitable[Observation]]


class Starter:
    """Starts, adopts and stops, each inside its deadline."""

    def __init__(self, probe: Probe, clock: Clock, redact: Redact) -> None:
        self._probe = probe
        self._clock = clock
        self._redact = redact

    async def start(
        self, handle: BackendHandle, deadline: float, runs: Callable[[], None] = lambda: None
    ) -> Ready | Failure:
        """Start it and wait until it is ready; `deadline` is absolute, on the clock. `runs` is
        called in between: it was started, and is asked from now on."""
        handle.changed.clear()
        seen = Seen("the start itself did not return")

        async def launch(handle: BackendHandle) -> Observation:
            found = await handle.driver.start(handle.id)
            if found.running:
                runs()
            return found

        return await self._inside(handle, deadline, launch, seen)

    async def adopt(self, handle: BackendHandle, deadline: float) -> Ready | Failure:
        """Wait until what runs already is ready; `deadline` is absolute, on the clock."""
        handle.changed.clear()
        seen = Seen("it could not be looked at")
        return await self._inside(handle, deadline, self._find, seen)

    async def stop(
        self, handle: BackendHandle, others: tuple[asyncio.Task[None], ...]
    ) -> Failure | None:
        """Stop it, the operations in `others` cancelled first. None: it is confirmed."""
        allowed = handle.config.driver.stop_grace + STOP_MARGIN
        try:
            async with asyncio.timeout(allowed) as timer:
                await tasks.cancel(*others)
                await handle.driver.stop(handle.id)
        except LauncherError as error:
            return from_error(error, self._redact)
        except Exception as error:  # noqa: BLE001 (see _crashed)
            if timer.expired() and isinstance(error, TimeoutError):
                return stop_timeout(handle.id, allowed)
            return self._crashed("backend_stop_failed", handle, "stopping", error)
        return None

    async def _find(self, handle: BackendHandle) -> Observation:
        # The engine may be away just now: what runs is not failed for that.
        while True:
            try:
                return await handle.driver.inspect(handle.id)
            except LauncherError as error:
                if error.code == "backend_missing":
                    return Observation(exists=False)
            await asyncio.sleep(LOOK_EVERY)

    async def _inside(
        self,
        handle: BackendHandle,
        deadline: float,
        begin: _Begin,
        seen: Seen,
    ) -> Ready | Failure:
        try:
            async with asyncio.timeout(deadline - self._clock()) as timer:
                found = await begin(handle)
                seen.last = "it was not probed yet"
                result = await self._until_ready(handle, found, seen)
        except LauncherError as error:
            lines = await self._log_tail(handle) if error.code == "backend_start_failed" else ()
            return from_error(error, self._redact, lines)
        except Exception as error:  # noqa: BLE001 (see _crashed)
            if timer.expired() and isinstance(error, TimeoutError):
                lines = await self._log_tail(handle)
                return start_timeout(
                    handle.id, handle.config.start_timeout, seen.last, lines, self._redact
                )
            return self._crashed("backend_start_failed", handle, "starting", error)
        if isinstance(result, _Ended):
            lines = await self._log_tail(handle)
            return died(handle.id, result.seen, found.instance, lines, self._redact)
        return result

    async def _until_ready(
        self, handle: BackendHandle, found: Observation, seen: Seen
    ) -> Ready | Failure | _Ended:
        if not found.running or found.instance is None:
            return _Ended(found)
        healthy = asyncio.Event()
        watch = tasks.spawn(
            self._until_ended(handle, found.instance, healthy, seen),
            name=f"watch start {handle.id}",
        )
        search = tasks.spawn(self._search(handle, healthy, seen), name=f"probe {handle.id}")
        try:
            await asyncio.wait({watch, search}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                return watch.result()
            answer = search.result()
        finally:
            await tasks.cancel(watch, search)
        return answer if isinstance(answer, Failure) else Ready(answer, found.instance)

    async def _search(
        self, handle: BackendHandle, healthy: asyncio.Event, seen: Seen
    ) -> Endpoint | Failure:
        if handle.config.health.kind == "none":
            return Endpoint()
        if handle.config.health.kind == "docker":
            await healthy.wait()
        return await first_ready(
            self._probe,
            handle.config,
            lambda: handle.driver.endpoints(handle.id),
            handle.awaited,
            seen,
        )

    async def _until_ended(
        self, handle: BackendHandle, instance: str, healthy: asyncio.Event, seen: Seen
    ) -> Failure | _Ended:
        """Ends when it has ended, however busy the probes are; tells `healthy` meanwhile."""
        by_docker = handle.config.health.kind == "docker"
        while True:
            handle.changed.clear()
            try:
                found = await handle.driver.inspect(handle.id)
            except LauncherError as error:
                if error.code == "backend_missing":
                    return _Ended(Observation(exists=False))
            else:
                if not found.running or found.instance != instance:
                    return _Ended(found)
                if by_docker and found.health is None:
                    return Failure(
                        "backend_start_failed",
                        f'{handle.id} has `health = "docker"` but its container has no '
                        f"HEALTHCHECK; give it one, or set `health` to a path or `tcp`.",
                    )
                if by_docker:
                    seen.last = f"its HEALTHCHECK says {found.health}"
                if found.health == "healthy":
                    healthy.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await handle.changed.wait()

    async def _log_tail(self, handle: BackendHandle) -> tuple[str, ...]:
        """The last lines of its output; none where they can't be had: the failure matters."""
        try:
            async with asyncio.timeout(LOG_TIMEOUT):
                return await handle.driver.log_tail(handle.id, LOG_LINES)
        except (LauncherError, TimeoutError):
            return ()

    def _crashed(self, code: str, handle: BackendHandle, what: str, error: Exception) -> Failure:
        # Caught so broadly because an operation without an outcome would leave the backend
        # starting or stopping for ever.
        log.error("%s %s: the driver failed", what, handle.id, exc_info=error)
        return crashed(code, handle.id, what, error)


class Operations:
    """What is under way at backends."""

    def __init__(
        self, shell: Shell, starter: Starter, reconciler: Reconciler, clock: Clock
    ) -> None:
        self._shell = shell
        self._starter = starter
        self._reconciler = reconciler
        self._clock = clock

    def start(self, handle: BackendHandle, effect: Start | Adopt, now: float) -> None:
        """Begin a Start or an Adopt."""
        handle.start_begins(now)
        handle.busy_unanswered = 0
        adopted = isinstance(effect, Adopt)

        def runs() -> None:
            self._shell.feed(Launched(handle.id, effect.epoch))

        async def run() -> Event:
            try:
                if adopted:
                    result = await self._starter.adopt(handle, effect.deadline)
                else:
                    result = await self._starter.start(handle, effect.deadline, runs)
            finally:
                handle.start_ended = self._clock()
            if isinstance(result, Failure):
                return StartFailed(handle.id, effect.epoch, result)
            return self._became_ready(handle, effect.epoch, result)

        self._operate(handle, run, f"{'adopt' if adopted else 'start'} {handle.id}")

    def stop(self, handle: BackendHandle, effect: Stop) -> None:
        """Begin a Stop. What else is under way at this backend is cancelled first and waited
        for: a start that comes after the stop would outlive it."""
        others = tuple(handle.operations)

        async def run() -> Event:
            failure = await self._starter.stop(handle, others)
            if failure is not None:
                return StopFailed(handle.id, effect.epoch, failure)
            return Stopped(handle.id, effect.epoch)

        self._operate(handle, run, f"stop {handle.id}")

    def _became_ready(self, handle: BackendHandle, epoch: int, ready: Ready) -> Started:
        # The scheduler ignores an outcome that comes too late; so must what grants carry.
        if epoch == self._shell.epoch(handle.id):
            handle.endpoint, handle.instance, handle.ready_epoch = (
                ready.endpoint,
                ready.instance,
                epoch,
            )
        return Started(handle.id, epoch, ready.instance)

    def _operate(
        self, handle: BackendHandle, run: Callable[[], Awaitable[Event]], name: str
    ) -> None:
        async def operate() -> None:
            outcome = await run()
            task = asyncio.current_task()
            assert task is not None
            # Before the outcome is fed: what comes of it may be the next operation.
            handle.operations.discard(task)
            self._shell.feed(outcome)
            if handle.look_again and not handle.operations:
                self._reconciler.look(handle)

        task = self._shell.spawn(operate(), name)
        handle.operations.add(task)
        task.add_done_callback(handle.operations.discard)
