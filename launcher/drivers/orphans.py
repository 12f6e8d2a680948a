"""Child processes that a crashed launcher left behind: how they are marked, found and ended.

Linux only: reads /proc. Each child carries a marker in its environment that names the
launcher that started it, by pid namespace, pid and start time; pids are reused, pairs of pid
and start time are not. A child whose launcher lives is never touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

MARKER = "LAUNCHER_CHILD"
"""Environment variable of every child: `<pid namespace>.<pid>.<start time>.<backend>`."""

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL for orphans."""

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/<pid>/stat, as far as it matters here."""

    pid: int
    state: str
    group: int
    started: int
    """Clock ticks after boot."""

    @property
    def alive(self) -> bool:
        """Neither a zombie nor dead: it may hold memory, ports and devices."""
        return self.state not in "ZXx"


def process(pid: int) -> Process | None:
    """One process; None where there is none."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The command's name stands in brackets and may hold brackets and blanks itself.
    fields = stat[stat.rfind(")") + 2 :].split()
    return Process(pid, state=fields[0], group=int(fields[2]), started=int(fields[19]))


def processes() -> Iterator[Process]:
    """All processes of this pid namespace."""
    for entry in os.listdir(_PROC):
        if entry.isdigit() and (one := process(int(entry))):
            yield one


def group_alive(group: int) -> bool:
    """Whether a process of the group is left that is more than a zombie."""
    return any(one.alive for one in processes() if one.group == group)


def marker(backend: str) -> str:
    """The marker for a child of this very process."""
    me = process(os.getpid())
    return f"{_namespace()}.{os.getpid()}.{me.started if me else 0}.{backend}"


def orphans() -> dict[int, tuple[Process, str]]:
    """Marked processes of this user and pid namespace whose launcher is gone: pid → what it
    is, and of which backend."""
    found: dict[int, tuple[Process, str]] = {}
    for one in processes():
        if one.pid == os.getpid() or not one.alive:
            continue
        namespace, _, rest = _marker_of(one.pid).partition(".")
        pid, _, rest = rest.partition(".")
        started, _, backend = rest.partition(".")
        if namespace != _namespace() or not (pid.isdigit() and started.isdigit()):
            continue
        launcher = process(int(pid))
        if launcher is None or not launcher.alive or launcher.started != int(started):
            found[one.pid] = (one, backend)
    return found


async def stop_orphans(grace: float = GRACE) -> int:
    """End them: SIGTERM, `grace` seconds, SIGKILL. Returns how many there were."""
    found = await asyncio.to_thread(orphans)
    for one, backend in found.values():
        log.warning("stopping process %d of %s, left by a launcher that died", one.pid, backend)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace
    signalled = signal.SIGTERM
    left = found
    while left:
        for pid, (one, _) in left.items():
            await asyncio.to_thread(_signal, pid, one.started, signalled)
        while left and loop.time() < deadline:
            await asyncio.sleep(0.05)
            left = await asyncio.to_thread(orphans)
        if signalled == signal.SIGKILL:
            if left:
                log.error("processes %s don't end, not even by SIGKILL", sorted(left))
            break
        signalled, deadline = signal.SIGKILL, loop.time() + 5.0
    return len(found)


def _signal(pid: int, started: int, signum: int) -> None:
    """Through a pidfd, so that a reused pid can't be hit."""
    with contextlib.suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            now = process(pid)
            if now is not None and now.started == started:
                signal.pidfd_send_signal(fd, signum)
        finally:
            os.close(fd)


def _marker_of(pid: int) -> str:
    folder = _PROC / str(pid)
    try:
        if folder.stat().st_uid != os.getuid():
            return ""
        variables = (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    prefix = f"{MARKER}=".encode()
    return next(
        (
            v.removeprefix(prefix).decode("utf-8", "replace")
            for v in variables
            if v.startswith(prefix)
        ),
        "",
    )


def _namespace() -> str:
    try:
        return str(os.stat(_PROC / "self" / "ns" / "pid").st_ino)
    except OSError:
        return "0"
