"""A driver of backends that don't exist: a script says what each will do.

Time is the loop's (or the given clock's), so under a virtual
clock a start of ten minutes takes none. It keeps a record of what ran when, which is what
tests hold against the scheduler's picture.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from launcher.core.types import BackendId
from launcher.drivers.base import (
    Changed,
    Connected,
    Disconnected,
    DriverEvent,
    DriverSpec,
    Observation,
)
from launcher.drivers.output import Follower
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint

Answer = Literal["ready", "loading", "forbidden", "silent", "refused"]
"""What a request to an endpoint meets."""

KILLED = 137
"""Exit code of what a SIGKILL ended."""


def _at_once() -> float:
    return 0.0


@dataclass(slots=True)
class Script:
    """What a backend will do. May be changed at any time. Durations in seconds."""

    start_takes: float = 0.0
    """Until the call to start it returns; `inf`: never."""
    ready_after: float = 0.0
    """From running to answering; `inf`: never."""
    stop_takes: float = 0.0
    """From SIGTERM to its end; what takes longer than its stop_grace is killed then."""
    unkillable: bool = False
    """Not even SIGKILL ends it: the call to stop it never returns."""
    exits_after: float | None = None
    """From running to ending by itself."""
    exit_code: int = 1
    oom_killed: bool = False
    first_words: tuple[str, ...] = ()
    last_words: tuple[str, ...] = ()
    missing: bool = False
    forbidden: bool = False
    """It answers 401."""
    hangs: bool = False
    """It takes connections and answers nothing."""
    healthcheck: bool = False
    """It has a HEALTHCHECK, healthy when it is ready."""
    start_error: LauncherError | None = None
    stop_error: LauncherError | None = None
    looks_take: float = 0.0
    """A look tells what was true when it began, this much later."""
    events_take: Callable[[], float] = _at_once
    """Delay of each engine event; differing ones arrive in another order."""
    endpoints: tuple[Endpoint, ...] | None = None
    """In place of an invented one."""


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the record."""

    at: float
    what: Literal["start", "stop", "up", "down"]
    """`start` and `stop` are calls to the driver; `up` and `down` are what happened."""
    backend: BackendId


@dataclass(slots=True, eq=False)
class _Backend:
    id: BackendId
    script: Script = field(default_factory=Script)
    number: int = 0
    running: bool = False
    since: float = 0.0
    exit_code: int | None = None
    oom_killed: bool = False
    lines: list[str] = field(default_factory=list)
    followers: list[Follower] = field(default_factory=list)
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    down: asyncio.Event = field(default_factory=asyncio.Event)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)


class FakeDriver:
    """Holds invented backends as their scripts say."""

    def __init__(self, name: str = "fake", clock: Callable[[], float] | None = None) -> None:
        """`clock`: seconds; the running loop's by default."""
        self._name = name
        self._clock = clock
        self._specs: dict[BackendId, DriverSpec] = {}
        self._world: dict[BackendId, _Backend] = {}
        self._watchers: list[asyncio.Queue[DriverEvent | None]] = []
        self._away: str | None = None
        self._closed = False
        self.record: list[Note] = []

    def __repr__(self) -> str:
        return f"<FakeDriver {self._name} running={sorted(self.running())}>"

    # -- for whoever writes the script

    def script(self, backend: BackendId) -> Script:
        """What the backend will do, to be changed."""
        return self._one(backend).script

    def running(self) -> set[BackendId]:
        """What runs now, whoever started it."""
        return {one.id for one in self._world.values() if one.running}

    def count(self, what: Literal["start", "stop", "up", "down"], backend: BackendId) -> int:
        """How often that stands in the record."""
        return sum(note.what == what and note.backend == backend for note in self.record)

    def run(self, backend: BackendId) -> None:
        """Somebody else starts it."""
        one = self._one(backend)
        if not one.running:
            self._up(one)

    def kill(self, backend: BackendId, exit_code: int = KILLED) -> None:
        """It ends, and not by a call to this driver."""
        self._down(self._one(backend), exit_code)

    def print(self, backend: BackendId, line: str) -> None:
        """It says something."""
        one = self._one(backend)
        one.lines.append(line)
        for follower in one.followers:
            follower.put(line)

    def lose_engine(self, reason: str = "the engine is away") -> None:
        """The engine no longer answers; what runs goes on."""
        self._away = reason
        self._tell(Disconnected(reason))

    def find_engine(self) -> None:
        """The engine answers again."""
        self._away = None
        self._tell(Connected())

    def tell(self, event: DriverEvent) -> None:
        """An event out of turn: one that is late, or that nothing lies behind."""
        self._tell(event)

    def answer(self, endpoint: Endpoint) -> Answer:
        """What a request to the endpoint would meet now."""
        for one in self._world.values():
            if one.running and endpoint in self._places(one):
                if one.script.hangs:
                    return "silent"
                if self._now() < one.since + one.script.ready_after:
                    return "loading"
                return "forbidden" if one.script.forbidden else "ready"
        return "refused"

    # -- the driver

    @property
    def name(self) -> str:
        """The driver instance's name."""
        return self._name

    def configure(self, specs: Mapping[BackendId, DriverSpec]) -> None:
        """See `Driver.configure`."""
        self._specs = dict(specs)
        for backend in specs:
            self._one(backend)

    async def open(self) -> None:
        """See `Driver.open`."""

    async def close(self) -> None:
        """See `Driver.close`. Backends go on, as containers do; what was to come doesn't."""
        self._closed = True
        for one in self._world.values():
            self._forget_timers(one)
        self._tell(None)

    async def list(self) -> Mapping[BackendId, Observation]:
        """See `Driver.list`."""
        self._require_engine()
        seen = {id: self._observe(self._one(id)) for id in self._specs}
        await asyncio.sleep(max((self._one(id).script.looks_take for id in seen), default=0.0))
        self._require_engine()
        return seen

    async def inspect(self, backend: BackendId) -> Observation:
        """See `Driver.inspect`."""
        self._require_engine()
        one = self._one(backend)
        seen = self._observe(one)
        await asyncio.sleep(one.script.looks_take)
        self._require_engine()
        return seen

    async def start(self, backend: BackendId) -> Observation:
        """See `Driver.start`. Cancelled before it runs, it never will."""
        self._note("start", backend)
        self._require_engine()
        one = self._one(backend)
        if backend not in self._specs or one.script.missing:
            raise LauncherError("backend_missing", _nothing(backend))
        async with one.starting:
            if not one.running:
                await _sleep(one.script.start_takes)
                self._require_engine()
                if one.script.start_error is not None:
                    raise one.script.start_error
                if not one.running:
                    self._up(one)
        return self._observe(one)

    async def stop(self, backend: BackendId) -> None:
        """See `Driver.stop`. Cancelled, the signal has still been sent."""
        self._note("stop", backend)
        self._require_engine()
        one = self._one(backend)
        if one.script.stop_error is not None:
            raise one.script.stop_error
        if not one.running:
            return
        grace = self._specs[backend].stop_grace
        takes = one.script.stop_takes
        if not one.script.unkillable:
            code = 0 if takes <= grace else KILLED
            self._later(one, min(takes, grace), lambda: self._down(one, code))
        await one.down.wait()
        self._require_engine()

    async def endpoints(self, backend: BackendId) -> tuple[Endpoint, ...]:
        """See `Driver.endpoints`."""
        self._require_engine()
        one = self._one(backend)
        return self._places(one) if one.running else ()

    async def log_tail(self, backend: BackendId, lines: int = 20) -> tuple[str, ...]:
        """See `Driver.log_tail`."""
        self._require_engine()
        return tuple(self._one(backend).lines[-lines:])

    async def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[str, None]:
        """See `Driver.follow`."""
        self._require_engine()
        one = self._one(backend)
        follower = Follower(one.lines[-lines:] if lines else ())
        if one.running:
            one.followers.append(follower)
        else:
            follower.end()
        try:
            while batch := await follower.batch():
                for line in batch:
                    yield line
        finally:
            if follower in one.followers:
                one.followers.remove(follower)

    async def watch(self) -> AsyncIterator[DriverEvent]:
        """See `Driver.watch`."""
        news: asyncio.Queue[DriverEvent | None] = asyncio.Queue()
        self._watchers.append(news)
        try:
            yield Connected() if self._away is None else Disconnected(self._away)
            while not self._closed:
                event = await news.get()
                if event is None:
                    return
                yield event
        finally:
            self._watchers.remove(news)

    # -- the world

    def _one(self, backend: BackendId) -> _Backend:
        return self._world.setdefault(backend, _Backend(backend))

    def _now(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()

    def _note(self, what: Literal["start", "stop", "up", "down"], backend: BackendId) -> None:
        self.record.append(Note(self._now(), what, backend))

    def _require_engine(self) -> None:
        if self._away is not None:
            raise LauncherError("docker_unavailable", f"{self._name}: {self._away}")

    def _places(self, one: _Backend) -> tuple[Endpoint, ...]:
        if one.script.endpoints is not None:
            return one.script.endpoints
        return (Endpoint(f"{one.id}.invalid", one.number),)

    def _observe(self, one: _Backend) -> Observation:
        if one.id not in self._specs or one.script.missing:
            return Observation(exists=False, error=_nothing(one.id))
        if not one.running:
            return Observation(exit_code=one.exit_code, oom_killed=one.oom_killed)
        age = self._now() - one.since
        health: Literal["starting", "healthy"] | None = None
        if one.script.healthcheck:
            health = "healthy" if age >= one.script.ready_after else "starting"
        return Observation(
            running=True, instance=f"{one.id}#{one.number}", running_for=age, health=health
        )

    def _up(self, one: _Backend) -> None:
        script = one.script
        one.number += 1
        one.running, one.since = True, self._now()
        one.exit_code, one.oom_killed = None, False
        one.lines.clear()
        one.down.clear()
        one.lines.extend(script.first_words)
        self._note("up", one.id)
        self._changed(one)
        if script.exits_after is not None:
            self._later(one, script.exits_after, lambda: self._down(one, script.exit_code))
        if script.healthcheck and script.ready_after < math.inf:
            self._later(one, script.ready_after, lambda: self._changed(one))

    def _down(self, one: _Backend, exit_code: int) -> None:
        if not one.running:
            return
        self._forget_timers(one)
        one.running = False
        one.exit_code, one.oom_killed = exit_code, one.script.oom_killed
        for line in one.script.last_words:
            self.print(one.id, line)
        for follower in one.followers:
            follower.end()
        one.down.set()
        self._note("down", one.id)
        self._changed(one)

    def _changed(self, one: _Backend) -> None:
        delay = one.script.events_take()
        if delay:
            asyncio.get_running_loop().call_later(delay, self._tell, Changed(one.id))
        else:
            self._tell(Changed(one.id))

    def _tell(self, event: DriverEvent | None) -> None:
        if event is not None and self._away is not None and not isinstance(event, Disconnected):
            return
        for news in self._watchers:
            news.put_nowait(event)

    def _later(self, one: _Backend, delay: float, do: Callable[[], None]) -> None:
        one.timers.append(asyncio.get_running_loop().call_later(delay, do))

    def _forget_timers(self, one: _Backend) -> None:
        for timer in one.timers:
            timer.cancel()
        one.timers.clear()


async def _sleep(seconds: float) -> None:
    if seconds == math.inf:
        await asyncio.get_running_loop().create_future()
    elif seconds:
        await asyncio.sleep(seconds)


def _nothing(backend: BackendId) -> str:
    return f"There is no {backend}; create it first."
