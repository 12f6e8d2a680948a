"""The shell over what really runs: local processes and containers, real sockets, real time.

Waits are on conditions; the few times that are held against the clock are those a user was
promised, with room for a busy machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from launcher import tasks
from launcher.config import BackendConfig, Health
from launcher.core.effects import Adopt
from launcher.core.scheduler import Scheduler
from launcher.core.types import BackendId, BackendState
from launcher.drivers.base import ContainerSpec, Driver, ProcessSpec
from launcher.drivers.container import ContainerDriver
from launcher.drivers.process import ProcessDriver
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime.admission import Ask, Grant
from launcher.runtime.dispatcher import Dispatcher
from launcher.runtime.fetch import fetch
from launcher.runtime.probe import Prober
from tests.drivers import images
from tests.runtime.house import A, B, Ledger
from tests.runtime.waiting import eventually

PATIENCE = 60.0
PREFIX = f"lzt-run-{os.getpid()}-"


class Real:
    """A dispatcher over one real driver."""

    def __init__(self, driver: Driver, configs: Mapping[BackendId, BackendConfig]) -> None:
        self.ledger = Ledger()
        self.scheduler = Scheduler((("gpu", 1),))
        self.dispatcher = Dispatcher(
            self.scheduler,
            [driver],
            configs,
            dict.fromkeys(configs, driver),
            prober=Prober(),
            observers=[self.ledger],
        )

    async def use(self, backend: BackendId, lasts: float = 0.0) -> Grant:
        with self.dispatcher.admit(Ask((backend,))) as admission:
            grant = await admission.granted()
            assert (await ask(grant.endpoint)) == 200
            await asyncio.sleep(lasts)
            assert (await ask(grant.endpoint)) == 200
            admission.ok = True
            return grant

    async def until(self, backend: BackendId, *states: BackendState) -> None:
        await eventually(lambda: self.scheduler.state(backend) in states, PATIENCE)


async def ask(endpoint: Endpoint) -> int:
    return (await fetch(endpoint, "/health", timeout=PATIENCE)).status


@contextlib.asynccontextmanager
async def opened(real: Real, stop: bool = True) -> AsyncIterator[Real]:
    before = asyncio.all_tasks()
    await real.dispatcher.open()
    try:
        yield real
    finally:
        await real.dispatcher.close(stop_backends=stop)
    assert {t.get_name() for t in asyncio.all_tasks() - before} == set()


def process(backend: BackendId, **env: str) -> BackendConfig:
    here = Path(__file__).resolve().parent.parent / "backend.py"
    spec = ProcessSpec(
        command=(sys.executable, "-I", str(here)),
        env=(("BACKEND_PORT", "{port}"), ("BACKEND_HOST", "127.0.0.1"), *env.items()),
        stop_grace=5.0,
    )
    return BackendConfig(id=backend, driver=spec, health=Health("http", "/health"))


def container(backend: BackendId, health: str = "http") -> BackendConfig:
    spec = ContainerSpec(f"{PREFIX}{backend}", images.PORT, stop_grace=2.0)
    kind = Health(health, "/health")  # type: ignore[arg-type]
    return BackendConfig(id=backend, driver=spec, health=kind)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    yield images.build()
    images.sweep(PREFIX)
    images.remove()


@pytest.fixture
def containers(image: str) -> Iterator[None]:
    images.create(f"{PREFIX}a")
    images.create(f"{PREFIX}b", health="1s")
    yield
    images.sweep(PREFIX)


async def in_docker(*words: str) -> str:
    return await asyncio.to_thread(images.docker, *words)


async def test_processes_take_turns() -> None:
    real = Real(ProcessDriver(), {A: process(A), B: process(B)})
    async with opened(real):
        await asyncio.gather(*(real.use(one, 0.05) for one in (A, B, A, B) for _ in range(5)))
        snapshot = real.dispatcher.snapshot()
        assert sum(one.in_flight + one.queued for one in snapshot.backends.values()) == 0


async def test_a_process_that_dies_at_start_is_told_with_its_last_words() -> None:
    real = Real(ProcessDriver(), {A: process(A, BACKEND_EXIT_CODE="3")})
    async with opened(real):
        with pytest.raises(LauncherError) as raised:
            await real.use(A)
        assert raised.value.code == "backend_start_failed"
        assert "exit code 3" in raised.value.message


@pytest.mark.docker
async def test_a_hundred_first_requests_start_a_container_once(containers: None) -> None:
    real = Real(ContainerDriver(), {A: container(A)})
    async with opened(real):
        grants = await asyncio.gather(*(real.use(A) for _ in range(100)))
        assert len({grant.endpoint for grant in grants}) == 1
        assert real.ledger.starts(A) == 1
        assert images.show(f"{PREFIX}a")["State"]["Running"]


@pytest.mark.docker
async def test_containers_take_turns(containers: None) -> None:
    real = Real(ContainerDriver(), {A: container(A), B: container(B, "docker")})
    async with opened(real):
        for one in (A, B, A):
            await real.use(one)
            running = [n for n in (A, B) if images.show(f"{PREFIX}{n}")["State"]["Running"]]
            assert running == [one]


@pytest.mark.docker
async def test_a_container_killed_while_idle_is_started_again(containers: None) -> None:
    real = Real(ContainerDriver(), {A: container(A)})
    async with opened(real):
        old = await real.use(A)
        await in_docker("kill", f"{PREFIX}a")
        # Whatever has come through by now, the one that asks is served.
        if not await real.dispatcher.suspect(old):
            assert real.scheduler.state(A) is not BackendState.READY
        await real.until(A, BackendState.STOPPED)
        await real.use(A)
        assert real.ledger.starts(A) == 2


@pytest.mark.docker
async def test_a_death_is_known_to_whoever_suspects_it(containers: None) -> None:
    """Asked in the very moment of the kill, round after round."""
    real = Real(ContainerDriver(), {A: container(A)})
    async with opened(real):
        for _ in range(5):
            grant = await real.use(A)
            kill = tasks.spawn(in_docker("kill", f"{PREFIX}a"), name="kill")
            async with asyncio.timeout(PATIENCE):
                while await real.dispatcher.suspect(grant):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            assert real.scheduler.state(A) is not BackendState.READY
            await kill


@pytest.mark.docker
async def test_strangers_are_known_and_running_ones_adopted(containers: None) -> None:
    configs = {A: container(A), B: container(B)}
    await in_docker("start", f"{PREFIX}a")
    started = images.show(f"{PREFIX}a")["State"]["StartedAt"]
    real = Real(ContainerDriver(), configs)
    async with opened(real, stop=False):
        await real.use(A)
        assert real.ledger.starts(A) == 0
        assert [adopt.backend for adopt in real.ledger.of(Adopt)] == [A]
        await in_docker("stop", "-t", "1", f"{PREFIX}a")
        await real.until(A, BackendState.STOPPED)
        await in_docker("start", f"{PREFIX}b")
        await real.until(B, BackendState.READY)
        assert real.ledger.starts(B) == 0
    again = images.show(f"{PREFIX}b")["State"]
    assert again["Running"], "the launcher's end is not its containers'"
    second = Real(ContainerDriver(), configs)
    async with opened(second):
        await second.use(B)
        assert second.ledger.starts(B) == 0
        assert images.show(f"{PREFIX}b")["State"]["StartedAt"] == again["StartedAt"] != started


@pytest.mark.docker
async def test_a_paused_container_is_hung(
    containers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.runtime.liveness.BETWEEN", 0.2)
    monkeypatch.setattr("launcher.runtime.probe.PROBE_TIMEOUT", 0.5)
    real = Real(ContainerDriver(), {A: container(A)})
    async with opened(real):
        with real.dispatcher.admit(Ask((A,))) as admission:
            grant = await admission.granted()
            cut = asyncio.Event()
            admission.on_abort = lambda error: cut.set()
            await in_docker("pause", f"{PREFIX}a")
            assert await real.dispatcher.suspect(grant) is True
            async with asyncio.timeout(PATIENCE):
                await cut.wait()
        await real.use(A)
        assert real.ledger.starts(A) == 2
