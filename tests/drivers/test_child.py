"""One child and its group: ended once, twice, half-way, and buried."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from launcher import tasks
from launcher.drivers import orphans, process
from launcher.drivers.output import Ring
from tests.drivers.contract import eventually

ROOT = Path(__file__).parents[2]
SLEEP = "import time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP


class Spawner:
    """Makes children, counts the ends that it is told of, and cleans up."""

    def __init__(self) -> None:
        self.made: list[process.Child] = []
        self.ends = 0

    async def __call__(self, code: str) -> process.Child:
        def ended() -> None:
            self.ends += 1

        one = await process.spawn(
            [sys.executable, "-Ic", code],
            env=dict(os.environ),
            cwd=None,
            ring=Ring(lambda line: None),
            on_end=ended,
        )
        self.made.append(one)
        return one


@pytest.fixture
async def spawn() -> AsyncIterator[Spawner]:
    spawner = Spawner()
    yield spawner
    for one in spawner.made:
        await one.stop(0)
        await one.release()


async def up(one: process.Child) -> None:
    async def said() -> bool:
        return "up" in await one.tail(10)

    await eventually(said)


def absent(pid: int) -> Callable[[], bool]:
    return lambda: orphans.process(pid) is None


async def test_a_stop_ends_and_reaps(spawn: Spawner) -> None:
    one = await spawn(SLEEP)
    await up(one)
    assert await one.stop(30)
    assert not one.running
    assert one.exit_code == 128 + signal.SIGTERM
    assert absent(one.pid)()
    assert spawn.ends == 1


async def test_a_second_stop_is_no_error(spawn: Spawner) -> None:
    one = await spawn(SLEEP)
    assert await one.stop(30)
    assert await one.stop(30)
    assert spawn.ends == 1


async def test_a_cancelled_stop_is_finished_by_the_next(spawn: Spawner) -> None:
    one = await spawn(DEAF)
    await up(one)
    stop = tasks.spawn(one.stop(600), name="stop")
    await asyncio.sleep(0.05)
    await tasks.cancel(stop)
    assert one.running
    assert await one.stop(0)
    assert one.exit_code == 128 + signal.SIGKILL


async def test_a_stop_cancelled_while_the_group_remains_leaves_nothing(spawn: Spawner) -> None:
    one = await spawn(
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-Ic', {DEAF!r}])\n"
        "time.sleep(600)"
    )
    await up(one)
    stop = tasks.spawn(one.stop(600), name="stop")

    async def first_ended() -> bool:
        return not one.running

    await eventually(first_ended)
    assert not stop.done()
    await tasks.cancel(stop)

    async def gone() -> bool:
        return absent(one.pid)() and not orphans.group_alive(one.pid)

    await eventually(gone)


async def test_it_is_buried_when_it_ends_by_itself(spawn: Spawner) -> None:
    one = await spawn("raise SystemExit(9)")

    async def gone() -> bool:
        return absent(one.pid)()

    await eventually(gone)
    assert one.exit_code == 9
    assert spawn.ends == 1


async def test_a_stopped_process_is_ended_too(spawn: Spawner) -> None:
    one = await spawn(DEAF)
    await up(one)
    os.kill(one.pid, signal.SIGSTOP)
    assert await one.stop(0.1)
    assert one.exit_code == 128 + signal.SIGKILL


FIRST_PROCESS = """
import asyncio, ctypes, os, sys
from launcher.drivers import orphans
from launcher.drivers import process
from launcher.drivers.output import Ring
# As a container's first process: whoever loses its parent becomes a child of this one.
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
async def main():
    one = await process.spawn(
        [sys.executable, "-Ic", "import os, time; os.fork(); time.sleep(600)"],
        env=dict(os.environ), cwd=None, ring=Ring(lambda line: None), on_end=lambda: None)
    while len([p for p in orphans.processes() if p.group == one.pid]) < 2:
        await asyncio.sleep(0.02)
    assert await one.stop(10)
    await one.release()
    print([p for p in orphans.processes() if p.group == one.pid])
asyncio.run(main())
"""


def test_a_first_process_reaps_what_its_children_leave() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FIRST_PROCESS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
