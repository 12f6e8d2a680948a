"""What a killed launcher leaves is found and ended; everything else is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.drivers import orphans
from launcher.drivers.process import ProcessDriver

ROOT = Path(__file__).parents[2]

LAUNCHER = """
import asyncio, sys
from launcher.drivers.base import ProcessSpec
from launcher.drivers.process import ProcessDriver
CHILD = '''
import signal, subprocess, sys, time
{prelude}
print("up", flush=True)
time.sleep(600)
'''
async def main():
    driver = ProcessDriver()
    driver.configure({{"b": ProcessSpec((sys.executable, "-Ic", CHILD))}})
    await driver.open()
    seen = await driver.start("b")
    while not await driver.log_tail("b"):
        await asyncio.sleep(0.02)
    print(seen.instance.partition("@")[0], flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
def launched() -> Iterator[list[subprocess.Popen[str]]]:
    """Launchers of the test's own, ended with what they started."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def launch(launched: list[subprocess.Popen[str]], prelude: str = "") -> int:
    """Start a launcher with one child; the child's pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER.format(prelude=prelude)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    launched.append(process)
    assert process.stdout is not None
    return int(process.stdout.readline())


@pytest.fixture
def sleeper() -> Iterator[Callable[[str | None], subprocess.Popen[bytes]]]:
    """Starts processes of nobody's, with a marker or without."""
    made: list[subprocess.Popen[bytes]] = []

    def start(marker: str | None) -> subprocess.Popen[bytes]:
        env = dict(os.environ) if marker is None else {**os.environ, orphans.MARKER: marker}
        made.append(
            subprocess.Popen([sys.executable, "-Ic", "import time; time.sleep(600)"], env=env)
        )
        return made[-1]

    yield start
    for one in made:
        one.kill()
        one.wait()


Sleeper = Callable[[str | None], subprocess.Popen[bytes]]


def alive(pid: int) -> bool:
    found = orphans.process(pid)
    return found is not None and found.alive


async def opened() -> None:
    driver = ProcessDriver()
    await driver.open()
    await driver.close()


async def test_what_a_killed_launcher_left_is_ended(
    launched: list[subprocess.Popen[str]],
) -> None:
    child = launch(launched)
    launched[0].kill()
    # Not waited for yet: a zombie is as dead as what was reaped.
    assert alive(child)
    await opened()
    assert not alive(child)


async def test_what_ignores_sigterm_is_killed(
    launched: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = launch(launched, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    launched[0].kill()
    assert await orphans.stop_orphans(grace=0.3) >= 1
    assert not alive(child)


async def test_grandchildren_in_sessions_of_their_own_are_found_too(
    launched: list[subprocess.Popen[str]],
) -> None:
    child = launch(
        launched,
        "subprocess.Popen([sys.executable, '-Ic', 'import time; time.sleep(600)'], "
        "start_new_session=True)",
    )
    launched[0].kill()
    launched[0].wait()
    found = orphans.orphans()
    assert child in found
    assert len(found) >= 2
    assert {backend for _, backend in found.values()} == {"b"}
    await opened()
    assert not any(alive(pid) for pid in found)


async def test_the_children_of_a_living_launcher_are_left_alone(
    launched: list[subprocess.Popen[str]],
) -> None:
    child = launch(launched)
    await opened()
    assert alive(child)
    assert child not in orphans.orphans()


async def test_unmarked_processes_are_left_alone(sleeper: Sleeper) -> None:
    other = sleeper(None)
    await opened()
    assert other.poll() is None


@pytest.mark.parametrize(
    "marker",
    ["", "nonsense", "1.2.3", "{ns}.x.y.b", "{ns}.{pid}.{started}.b", "0.999999999.1.b"],
)
def test_odd_markers_are_left_alone(marker: str, sleeper: Sleeper) -> None:
    mine = orphans.marker("b").split(".")
    other = sleeper(marker.format(ns=mine[0], pid=mine[1], started=mine[2]))
    assert other.pid not in orphans.orphans()


async def test_a_reused_pid_does_not_protect_an_orphan(sleeper: Sleeper) -> None:
    # The test's own pid, with the start time of somebody who had it before.
    namespace, pid, started, backend = orphans.marker("b").split(".")
    other = sleeper(f"{namespace}.{pid}.{int(started) - 1}.{backend}")
    assert orphans.orphans()[other.pid][1] == "b"
    await orphans.stop_orphans()
    assert other.wait(30) == -signal.SIGTERM


def test_a_process_with_an_odd_name_is_read() -> None:
    me = orphans.process(os.getpid())
    assert me is not None
    assert me.alive
    assert me.group == os.getpgrp()
    assert orphans.process(2**22 + 1) is None
