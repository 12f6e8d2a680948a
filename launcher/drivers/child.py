"""One child process and its group: its output, its end, and its end made to happen.

Knows Linux (pidfd, process groups, /proc) and asyncio; nothing of backends or drivers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from launcher import tasks
from launcher.drivers import orphans
from launcher.drivers.output import Ring

_POLL = 0.02
"""Seconds between looks at what is left of a group whose first process has ended."""
_KILLED = 10.0
"""Seconds after SIGKILL within which the kernel must have ended everything."""
_LAST_WORDS = 1.0
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
        self._burial: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._born = self._loop.time()
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
        return self._loop.time() - self._born

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
                async with asyncio.timeout(_LAST_WORDS):
                    await self._silent.wait()
        return self._ring.tail(lines)

    def follow(self, lines: int) -> AsyncGenerator[str, None]:
        """Its last lines and those that come, until its output ends."""
        return self._ring.follow(lines)

    async def stop(self, grace: float) -> bool:
        """SIGTERM to the group, `grace` seconds, SIGKILL; whether nothing of it is left. May
        be called again, and after it ended by itself."""
        if self._burial is not None:
            await asyncio.wait([self._burial])
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
                self._begin_burial()  # a cancelled stop

    async def release(self) -> None:
        """Close the pipe and the pidfd, of a child that has ended or is given up."""
        await tasks.cancel(self._burial)
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
            self._begin_burial()
        self._on_end()

    def _begin_burial(self) -> None:
        """It ended by itself: what is left of its group goes too."""
        self._burial = tasks.spawn(self._kill(), name=f"bury process {self.instance}")


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
