"""Backends that are local programs: each in its own process group, on a port of its own.

They end with the launcher. What a crashed one left is found and ended by the next `open`
(see `launcher.drivers.orphans`); a process is never adopted. Linux only (pidfd).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import signal
import socket
import subprocess
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from launcher import tasks
from launcher.core.types import BackendId
from launcher.drivers import orphans
from launcher.drivers.base import (
    Changed,
    Connected,
    DriverEvent,
    DriverSpec,
    Observation,
    ProcessSpec,
)
from launcher.drivers.output import Ring
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint

log = logging.getLogger(__name__)

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class _Run:
    """One start of a backend, with the spec as it was then."""

    child: Child
    spec: ProcessSpec
    port: int


class ProcessDriver:
    """Implements `launcher.drivers.base.Driver` with child processes."""

    def __init__(self, name: str = "process@local") -> None:
        self._name = name
        self._specs: dict[BackendId, ProcessSpec] = {}
        self._runs: dict[BackendId, _Run] = {}
        self._locks: defaultdict[BackendId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._watchers: set[asyncio.Queue[DriverEvent | None]] = set()
        self._releases = tasks.Group()
        self._open = False

    def __repr__(self) -> str:
        running = sorted(b for b, run in self._runs.items() if run.child.running)
        return f"<ProcessDriver {self._name} running={running}>"

    @property
    def name(self) -> str:
        """Such as `process@local`."""
        return self._name

    def configure(self, specs: Mapping[BackendId, DriverSpec]) -> None:
        """Process specs only; those of other kinds are another driver's. What runs goes on
        with the spec that it was started with; what has ended and is no longer held is let go."""
        self._specs = {b: s for b, s in specs.items() if isinstance(s, ProcessSpec)}
        for backend in self._runs.keys() - self._specs.keys():
            if not self._runs[backend].child.running and not self._locks[backend].locked():
                ended = self._runs.pop(backend).child
                self._releases.spawn(_release(ended), name=f"release process {backend}")
                del self._locks[backend]

    async def open(self) -> None:
        """End what a launcher left that died without a chance to."""
        await orphans.stop_orphans()
        self._open = True

    async def close(self) -> None:
        """End every child, all at once, each within its `stop_grace`."""
        self._open = False
        for queue in self._watchers:
            queue.put_nowait(None)
        stops = await asyncio.gather(
            *(self._stop(backend) for backend in tuple(self._runs)), return_exceptions=True
        )
        for run in self._runs.values():
            await run.child.release()
        await self._releases.join()
        for outcome in stops:
            if isinstance(outcome, LauncherError):
                log.error("%s", outcome.message)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def list(self) -> Mapping[BackendId, Observation]:
        """Every configured backend."""
        # Its specs may be others before this is through.
        return {b: await self._observe_now(b, spec) for b, spec in tuple(self._specs.items())}

    async def inspect(self, backend: BackendId) -> Observation:
        """From the child's state; `exists` says whether the program could be started."""
        return await self._observe_now(backend, self._spec(backend))

    async def _observe_now(self, backend: BackendId, spec: ProcessSpec) -> Observation:
        run = self._runs.get(backend)
        if run is None:
            if await self._program(spec) is None:
                return Observation(exists=False, error=_no_program(spec))
            return Observation()
        return _observe(run.child)

    async def start(self, backend: BackendId) -> Observation:
        """Start the program on a free port; see the error texts for what can be wrong."""
        work = tasks.spawn(self._start_outcome(backend), name=f"start process {backend}")
        try:
            outcome = await asyncio.shield(work)
        except asyncio.CancelledError:
            # A fork can't be taken back half-way; it is short.
            await asyncio.wait([work])
            raise
        if isinstance(outcome, LauncherError):
            raise outcome
        return outcome

    async def stop(self, backend: BackendId) -> None:
        """SIGTERM to the group, `stop_grace`, SIGKILL; grandchildren included."""
        await self._stop(backend)

    async def endpoints(self, backend: BackendId) -> tuple[Endpoint, ...]:
        """127.0.0.1 and the port of this start; empty where it doesn't run."""
        run = self._runs.get(backend)
        if run is None or not run.child.running:
            return ()
        return (Endpoint(HOST, run.port, scheme=run.spec.scheme, base_path=run.spec.base_path),)

    async def log_tail(self, backend: BackendId, lines: int = 20) -> tuple[str, ...]:
        """Stdout and stderr of the last start, as they were interleaved."""
        run = self._runs.get(backend)
        return await run.child.tail(lines) if run else ()

    async def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[str, None]:
        """See `Driver.follow`. What its descendants print counts as its own."""
        run = self._runs.get(backend)
        if run is not None:
            async with aclosing(run.child.follow(lines)) as found:
                async for line in found:
                    yield line

    async def watch(self) -> AsyncGenerator[DriverEvent, None]:
        """Connected, then a Changed for each child that starts or ends."""
        queue: asyncio.Queue[DriverEvent | None] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            yield Connected()
            while self._open and (event := await queue.get()) is not None:
                yield event
        finally:
            self._watchers.discard(queue)

    async def warnings(self) -> tuple[str, ...]:
        """What will surprise: programs that aren't there."""
        missing = [b for b, s in self._specs.items() if await self._program(s) is None]
        return tuple(f"{b}: {_no_program(self._specs[b])}" for b in missing)

    def _spec(self, backend: BackendId) -> ProcessSpec:
        spec = self._specs.get(backend)
        if spec is None:
            raise LauncherError(
                "backend_missing", f"{self._name} holds no backend {backend!r} (any more)."
            )
        return spec

    async def _program(self, spec: ProcessSpec) -> str | None:
        return await asyncio.to_thread(_resolve, spec)

    async def _start_outcome(self, backend: BackendId) -> Observation | LauncherError:
        # A failed start is an outcome, not a crash of the task that carries it.
        try:
            async with self._locks[backend]:
                return await self._start(backend)
        except LauncherError as error:
            return error

    async def _start(self, backend: BackendId) -> Observation:
        spec = self._spec(backend)
        before = self._runs.get(backend)
        if before is not None:
            if before.child.running:
                return _observe(before.child)
            if not await before.child.stop(0):
                raise _stuck(backend, before.child)
            await before.child.release()
        if not self._open:
            raise LauncherError("draining", "The launcher is shutting down.")
        program = await self._program(spec)
        if program is None:
            raise LauncherError("backend_missing", _no_program(spec))
        taken = {run.port for run in self._runs.values() if run.child.running}
        port = _port(spec, taken)
        filled = [word.replace("{port}", str(port)) for word in spec.command]
        mark = await asyncio.to_thread(orphans.marker, backend)
        env = _environment(spec, port) | {orphans.MARKER: mark}
        output = logging.getLogger(f"{__name__}.output")
        ring = Ring(lambda line: output.debug("%s: %s", backend, line))
        try:
            started = await spawn(
                [program, *filled[1:]],
                env=env,
                cwd=spec.cwd,
                ring=ring,
                on_end=lambda: self._tell(backend),
            )
        except OSError as error:
            where = f" in {spec.cwd}" if spec.cwd else ""
            raise LauncherError(
                "backend_start_failed",
                f"{spec.command[0]!r} could not be started{where}: {error.strerror or error}.",
            ) from error
        self._runs[backend] = _Run(started, spec, port)
        self._tell(backend)
        return _observe(started)

    async def _stop(self, backend: BackendId) -> None:
        async with self._locks[backend]:
            run = self._runs.get(backend)
            if run is None:
                return
            if not await run.child.stop(run.spec.stop_grace):
                raise _stuck(backend, run.child)

    def _tell(self, backend: BackendId) -> None:
        for queue in self._watchers:
            queue.put_nowait(Changed(backend))


async def _release(ended: Child) -> None:
    await ended.stop(0)
    await ended.release()


def _stuck(backend: BackendId, one: Child) -> LauncherError:
    return LauncherError(
        "backend_stop_failed",
        f"The process of {backend!r} (pid {one.pid}) doesn't end, not even by SIGKILL: it "
        "hangs in the kernel (a driver?).",
    )


def _observe(one: Child) -> Observation:
    return Observation(
        running=one.running,
        instance=one.instance,
        running_for=one.age if one.running else 0.0,
        exit_code=one.exit_code,
    )


def _environment(spec: ProcessSpec, port: int) -> dict[str, str]:
    """The launcher's own environment without its settings (keys are among them), then the
    spec's."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LAUNCHER_")}
    return inherited | {key: value.replace("{port}", str(port)) for key, value in spec.env}


def _resolve(spec: ProcessSpec) -> str | None:
    """The program's path: as execvp finds it, relative ones from `cwd`."""
    program = spec.command[0]
    if "/" in program:
        path = os.path.join(spec.cwd or ".", program)
        return os.path.abspath(path) if shutil.which(path) else None
    return shutil.which(program, path=dict(spec.env).get("PATH"))


def _no_program(spec: ProcessSpec) -> str:
    return (
        f"There is no program {spec.command[0]!r} that can be run: install it, or give its "
        "whole path in `command`."
    )


def _port(spec: ProcessSpec, taken: set[int]) -> int:
    """A free port, or the fixed one if nobody has it: a stranger there would pass for the
    backend."""
    if spec.port is not None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, spec.port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise _bad_port(spec.port, error) from error
                raise LauncherError(
                    "backend_start_failed",
                    f"Port {spec.port} is taken by another program: stop that one, or leave "
                    "out `port` to have a free one chosen.",
                ) from error
        return spec.port
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port


def _bad_port(port: int, error: OSError) -> LauncherError:
    return LauncherError(
        "backend_start_failed", f"Port {port} can't be used: {error.strerror or error}."
    )


_POLL = 0.02
"""Seconds between looks at what is left of a group whose first process has ended."""
_KILLED = 10.0
"""Seconds after SIGKILL within which the kernel must have ended everything."""
_OUTPUT_GRACE = 1.0
"""Seconds that output may still come in after the end."""


class Child:
    """A running or ended child, first of its own process group.

    It stays unreaped until its whole group is gone: as long as it is a zombie, its pid can't
    become another group's id, so no signal of ours hits a stranger.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        started: int,
        ring: Ring,
        on_end: Callable[[], None],
    ) -> None:
        self._popen = popen
        self._ring = ring
        self._on_end = on_end
        self._stopping = False
        self._gone = False
        self._ended = asyncio.Event()
        self._silent = asyncio.Event()
        self._cleanup: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._status = 0
        self._pidfd = os.pidfd_open(popen.pid)
        self._pipe: asyncio.ReadTransport | None = None
        self._loop.add_reader(self._pidfd, self._exited)
        self.pid = popen.pid
        self.instance = f"{popen.pid}@{started}"

    def __repr__(self) -> str:
        return f"<Child {self.instance} {'running' if self.running else self.exit_code}>"

    @property
    def running(self) -> bool:
        """The first process has not ended."""
        return not self._ended.is_set()

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return self._loop.time() - self._started

    @property
    def exit_code(self) -> int | None:
        """None while it runs; 128 + n where signal n ended it, as shells and Docker say it."""
        if self.running:
            return None
        return self._status if self._status >= 0 else 128 - self._status

    async def listen(self) -> None:
        """Begin to read its output."""
        out = self._popen.stdout
        assert out is not None
        transport, _ = await self._loop.connect_read_pipe(
            lambda: _Output(self._ring, self._silent), out
        )
        self._pipe = transport

    async def tail(self, lines: int) -> tuple[str, ...]:
        """Its last lines; where it has ended, complete."""
        if not self.running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_OUTPUT_GRACE):
                    await self._silent.wait()
        return self._ring.tail(lines)

    def follow(self, lines: int) -> AsyncGenerator[str, None]:
        """Its last lines and those that come, until its output ends."""
        return self._ring.follow(lines)

    async def stop(self, grace: float) -> bool:
        """SIGTERM to the group, `grace` seconds, SIGKILL; whether nothing of it is left. May
        be called again, and after it ended by itself."""
        if self._cleanup is not None:
            await asyncio.wait([self._cleanup])
        if self._gone:
            return True
        self._stopping = True
        try:
            deadline = self._loop.time() + grace
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._ended.wait()
            if not await self._group_gone(deadline):
                await self._kill()
            return self._gone
        finally:
            self._stopping = False
            if not self.running and not self._gone:
                self._begin_cleanup()  # a cancelled stop

    async def release(self) -> None:
        """Close the pipe and the pidfd, of a child that has ended or is given up."""
        await tasks.cancel(self._cleanup)
        if self._pipe is not None:
            self._pipe.close()
            await self._silent.wait()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    async def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        await self._group_gone(self._loop.time() + _KILLED)

    async def _group_gone(self, deadline: float) -> bool:
        """Wait for the end of the whole group, and reap the first process then."""
        while self.running or await asyncio.to_thread(orphans.group_alive, self.pid):
            if self._loop.time() >= deadline:
                return False
            await asyncio.sleep(_POLL)
        self._gone = True
        self._popen.poll()
        _reap_adopted(self.pid)
        return True

    def _signal(self, signum: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signum)

    def _exited(self) -> None:
        """The pidfd became readable: the first process is a zombie now."""
        self._loop.remove_reader(self._pidfd)
        result = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is not None:
            by_itself = result.si_code == os.CLD_EXITED
            self._status = result.si_status if by_itself else -result.si_status
        self._ended.set()
        if not self._stopping:
            self._begin_cleanup()
        self._on_end()

    def _begin_cleanup(self) -> None:
        """End what is left of its group, after it ended by itself."""
        self._cleanup = tasks.spawn(self._kill(), name=f"clean up process {self.instance}")


def _reap_adopted(group: int) -> None:
    """Where this process is its container's first, its children's orphans become its own."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass


class _Output(asyncio.Protocol):
    def __init__(self, ring: Ring, silent: asyncio.Event) -> None:
        self._ring = ring
        self._silent = silent

    def data_received(self, data: bytes) -> None:
        self._ring.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ring.end()
        self._silent.set()


async def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None,
    ring: Ring,
    on_end: Callable[[], None],
) -> Child:
    """Start a program, first of its own session and group. Raises OSError.

    The fork is made in a thread, since exec from a cold disk takes its time. Not to be
    cancelled: the caller shields it.
    """

    def fork() -> tuple[subprocess.Popen[bytes], int]:
        popen = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            bufsize=0,
        )
        found = orphans.process(popen.pid)
        return popen, found.started if found else 0

    popen, started = await asyncio.to_thread(fork)
    child = Child(popen, started, ring, on_end)
    await child.listen()
    return child
