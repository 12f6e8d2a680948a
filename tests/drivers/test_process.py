"""The process driver: the contract, and what only processes do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from launcher import tasks
from launcher.core.types import BackendId
from launcher.drivers import orphans
from launcher.drivers.base import ContainerSpec, ProcessSpec
from launcher.drivers.process import ProcessDriver
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from tests.drivers import contract
from tests.drivers.contract import EXITS, MISSING, SERVES, STUBBORN, eventually, until

BACKEND = Path(__file__).parent.parent / "backend.py"
COMMAND = (sys.executable, "-I", str(BACKEND), "--port", "{port}")
X = BackendId("x")


def spec(**env: str) -> ProcessSpec:
    return ProcessSpec(COMMAND, env=tuple(env.items()), stop_grace=2.0)


def script(code: str, **more: float | str) -> ProcessSpec:
    cwd = more.get("cwd")
    return ProcessSpec(
        (sys.executable, "-Ic", code),
        env=(("PORT", "{port}"), ("PYTHONUNBUFFERED", "1")),
        cwd=cwd if isinstance(cwd, str) else None,
        stop_grace=float(more.get("stop_grace", 5.0)),
    )


class ProcessHarness:
    def __init__(self) -> None:
        self.driver = ProcessDriver()
        self.driver.configure(
            {
                SERVES: spec(),
                EXITS: spec(BACKEND_EXIT_CODE=str(contract.EXIT_CODE)),
                STUBBORN: spec(BACKEND_TERM="ignore"),
                MISSING: ProcessSpec(("/nowhere/no-such-program",)),
            }
        )

    async def kill(self, backend: BackendId) -> None:
        instance = (await self.driver.inspect(backend)).instance
        assert instance
        os.kill(int(instance.partition("@")[0]), signal.SIGKILL)

    async def answers(self, endpoint: Endpoint) -> bool:
        return await answers(endpoint)


async def answers(endpoint: Endpoint) -> bool:
    """Whether the test backend is healthy there."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            writer.write(b"GET /health HTTP/1.0\r\n\r\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
    except OSError:
        return False
    return b" 200 " in line


class TestProcess(contract.DriverContract):
    @pytest.fixture
    async def harness(self) -> AsyncIterator[contract.Harness]:
        harness = ProcessHarness()
        await harness.driver.open()
        yield harness
        await harness.driver.close()


@pytest.fixture
async def driver() -> AsyncIterator[ProcessDriver]:
    driver = ProcessDriver()
    await driver.open()
    yield driver
    await driver.close()


async def said(driver: ProcessDriver, line: str) -> None:
    """Wait until it has printed that line."""

    async def printed() -> bool:
        return line in await driver.log_tail(X, 100)

    await eventually(printed)


def pid_of(instance: str | None) -> int:
    assert instance
    return int(instance.partition("@")[0])


async def gone(pid: int) -> None:
    """Wait until nothing of that number runs."""

    async def ended() -> bool:
        found = orphans.process(pid)
        return found is None or not found.alive

    await eventually(ended)


async def reaped(pid: int) -> None:
    """Wait until not even a zombie of that number is left."""

    async def absent() -> bool:
        return orphans.process(pid) is None

    await eventually(absent)


GRANDCHILD = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-Ic",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('ready', flush=True); time.sleep(600)"], start_new_session={detached})
print("grandchild", child.pid, flush=True)
{then}
"""


async def grandchild(driver: ProcessDriver, then: str) -> int:
    """Start a backend with a child that ignores SIGTERM; its pid."""
    driver.configure({X: script(GRANDCHILD.format(then=then, detached=False), stop_grace=0.5)})
    await driver.start(X)
    await said(driver, "ready")
    line = next(line for line in await driver.log_tail(X, 100) if line.startswith("grandchild"))
    return int(line.split()[1])


async def test_grandchildren_end_with_a_stop(driver: ProcessDriver) -> None:
    pid = await grandchild(driver, "child.wait()")
    await driver.stop(X)
    found = orphans.process(pid)
    assert found is None or not found.alive


async def test_grandchildren_end_when_the_first_process_dies(driver: ProcessDriver) -> None:
    pid = await grandchild(driver, "import time; time.sleep(0.3); os._exit(7)")
    await until(driver, X, lambda o: not o.running)
    await gone(pid)
    assert (await driver.inspect(X)).exit_code == 7


async def test_a_start_waits_for_what_the_last_one_left(driver: ProcessDriver) -> None:
    pid = await grandchild(driver, "import time; time.sleep(0.3); os._exit(7)")
    await until(driver, X, lambda o: not o.running)
    driver.configure({X: spec()})
    await driver.start(X)
    found = orphans.process(pid)
    assert found is None or not found.alive


async def test_the_port_is_in_command_and_environment(driver: ProcessDriver) -> None:
    code = "import os, sys, time; print(os.environ['PORT'], sys.argv[1]); time.sleep(600)"
    one = ProcessSpec(
        (sys.executable, "-Iuc", code, "at:{port}"), env=(("PORT", "{port}"),), stop_grace=1
    )
    driver.configure({X: one})
    await driver.start(X)
    (place,) = await driver.endpoints(X)
    await said(driver, f"{place.port} at:{place.port}")


async def test_a_taken_fixed_port_is_refused(driver: ProcessDriver) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        driver.configure({X: ProcessSpec(COMMAND, port=port)})
        with pytest.raises(LauncherError, match=f"Port {port} is taken") as raised:
            await driver.start(X)
    assert raised.value.code == "backend_start_failed"
    assert (await driver.start(X)).running


async def test_the_launchers_settings_stay_with_it(
    driver: ProcessDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_API_KEYS", "secret")
    monkeypatch.setenv("OTHER", "kept")
    code = "import os; print(sorted(k for k in os.environ if k[:4] in ('LAUN', 'OTHE')))"
    driver.configure({X: script(code)})
    await driver.start(X)
    await said(driver, "['LAUNCHER_CHILD', 'OTHER']")


async def test_the_working_directory(driver: ProcessDriver, tmp_path: Path) -> None:
    driver.configure({X: script("import os; print(os.getcwd())", cwd=str(tmp_path))})
    await driver.start(X)
    await said(driver, str(tmp_path))


async def test_a_relative_program_is_found_from_the_working_directory(
    driver: ProcessDriver, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "serve"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o755)
    driver.configure({X: ProcessSpec(("bin/serve",), cwd=str(tmp_path))})
    assert (await driver.inspect(X)).exists
    await driver.start(X)
    await said(driver, "here")


async def test_what_cannot_be_executed_says_why(driver: ProcessDriver, tmp_path: Path) -> None:
    program = tmp_path / "broken"
    program.write_text("#!/nowhere/interpreter\n")
    program.chmod(0o755)
    driver.configure({X: ProcessSpec((str(program),))})
    with pytest.raises(LauncherError, match="No such file") as raised:
        await driver.start(X)
    assert raised.value.code == "backend_start_failed"
    driver.configure({X: ProcessSpec((sys.executable,), cwd=str(tmp_path / "none"))})
    with pytest.raises(LauncherError, match="none"):
        await driver.start(X)


async def test_a_death_by_signal_is_told_as_shells_do(driver: ProcessDriver) -> None:
    driver.configure({X: script("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")})
    await driver.start(X)
    await until(driver, X, lambda o: not o.running)
    assert (await driver.inspect(X)).exit_code == 128 + signal.SIGSEGV


async def test_a_flood_of_output_stays_bounded(driver: ProcessDriver) -> None:
    code = "import sys\nfor i in range(60000): print('x' * 50, i)\nprint('y' * 10**6, end='')"
    driver.configure({X: script(code)})
    await driver.start(X)
    await until(driver, X, lambda o: not o.running)
    lines = await driver.log_tail(X, 10**6)
    assert len(lines) <= 501
    assert sum(map(len, lines)) < 200_000
    assert lines[-1].endswith("y")
    assert lines[-2].endswith(" 59999")


async def test_output_that_nobody_ends_does_not_hold_up_the_log(driver: ProcessDriver) -> None:
    # A grandchild in a session of its own keeps the pipe open, and is not ours to end.
    code = GRANDCHILD.format(then="sys.exit(4)", detached=True)
    driver.configure({X: script(code)})
    await driver.start(X)
    await said(driver, "ready")
    await until(driver, X, lambda o: not o.running)
    lines = await driver.log_tail(X)
    pid = int(next(line for line in lines if line.startswith("grandchild")).split()[1])
    os.kill(pid, signal.SIGKILL)
    assert (await driver.inspect(X)).exit_code == 4


async def test_closing_ends_all_children() -> None:
    driver = ProcessDriver()
    await driver.open()
    backends = [BackendId(f"b{i}") for i in range(3)]
    driver.configure({b: spec() for b in backends})
    pids = [pid_of((await driver.start(b)).instance) for b in backends]
    await driver.close()
    assert [orphans.process(pid) for pid in pids] == [None, None, None]
    with pytest.raises(LauncherError):
        await driver.start(backends[0])


async def test_no_zombie_is_left(driver: ProcessDriver) -> None:
    driver.configure({X: script("pass")})
    for _ in range(5):
        pid = pid_of((await driver.start(X)).instance)
        await until(driver, X, lambda o: not o.running)
        await reaped(pid)


async def test_specs_of_other_kinds_are_not_its_own(driver: ProcessDriver) -> None:
    driver.configure({X: ContainerSpec("c", 8000)})
    assert await driver.list() == {}


async def test_warnings_name_missing_programs(driver: ProcessDriver) -> None:
    driver.configure({X: ProcessSpec(("no-such-program-here",)), SERVES: spec()})
    (warning,) = await driver.warnings()
    assert "no-such-program-here" in warning


async def test_what_is_no_longer_held_while_it_is_listed_is_no_failure() -> None:
    driver = ProcessDriver()
    specs = {BackendId(f"b{n}"): ProcessSpec(("true",)) for n in range(20)}
    driver.configure(specs)
    listing = tasks.spawn(driver.list(), name="list")
    await asyncio.sleep(0)
    driver.configure({})
    assert (await listing).keys() == specs.keys()


async def test_what_has_ended_and_is_no_longer_held_leaves_nothing() -> None:
    driver = ProcessDriver()
    backend = BackendId("b")
    driver.configure({backend: ProcessSpec(("sleep", "60"))})
    await driver.open()
    await driver.start(backend)
    before = len(os.listdir("/proc/self/fd"))
    driver.configure({})
    assert (await driver.endpoints(backend)) != (), "it runs, and is to be stopped"
    await driver.stop(backend)
    driver.configure({})
    await driver._releases.join()
    assert (driver._runs, dict(driver._locks)) == ({}, {})
    assert len(os.listdir("/proc/self/fd")) < before
    await driver.close()
