"""The container driver: the contract on the real engine, and what only containers do."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import launcher
from launcher import tasks
from launcher.core.types import BackendId
from launcher.drivers.base import Changed, Connected, ContainerSpec, Disconnected, ProcessSpec
from launcher.drivers.container import ContainerDriver
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from tests.drivers import contract, images, private_engine
from tests.drivers.contract import (
    EXITS,
    MISSING,
    SERVES,
    STUBBORN,
    Watcher,
    eventually,
    until,
)
from tests.drivers.test_process import answers

pytestmark = pytest.mark.docker

X = BackendId("x")
Y = BackendId("y")

PREFIX = f"lzt-drv-{os.getpid()}-"


def name(word: str) -> str:
    return PREFIX + word


@pytest.fixture(scope="module", autouse=True)
def image() -> Iterator[str]:
    yield images.build()
    images.sweep(PREFIX)
    images.remove()


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    yield
    images.sweep(PREFIX)


class ContainerHarness:
    def __init__(self) -> None:
        self.driver = ContainerDriver()
        images.create(name("serves"), publish={8000: 0})
        images.create(name("exits"), env={"BACKEND_EXIT_CODE": str(contract.EXIT_CODE)})
        images.create(name("stubborn"), env={"BACKEND_TERM": "ignore"})
        self.driver.configure(
            {
                # Python as a first process ignores SIGTERM until it handles it.
                SERVES: ContainerSpec(name("serves"), 8000, stop_grace=1.0),
                EXITS: ContainerSpec(name("exits"), 8000),
                STUBBORN: ContainerSpec(name("stubborn"), 8000, stop_grace=2.0),
                MISSING: ContainerSpec(name("missing"), 8000),
            }
        )

    async def kill(self, backend: BackendId) -> None:
        await asyncio.to_thread(images.docker, "kill", name(backend))

    async def answers(self, endpoint: Endpoint) -> bool:
        return await answers(endpoint)


class TestContainer(contract.DriverContract):
    @pytest.fixture
    async def harness(self) -> AsyncIterator[contract.Harness]:
        harness = ContainerHarness()
        await harness.driver.open()
        yield harness
        await harness.driver.close()


@pytest.fixture
async def driver() -> AsyncIterator[ContainerDriver]:
    """A driver with one backend X, whose container is `name("x")`, not created yet."""
    driver = ContainerDriver()
    driver.configure({X: ContainerSpec(name("x"), 8000, stop_grace=2.0)})
    await driver.open()
    yield driver
    await driver.close()


# Lookup


async def test_a_compose_service_is_found_by_its_label(driver: ContainerDriver) -> None:
    service = name("svc")
    images.create(name("proj-svc-1"), labels={"com.docker.compose.service": service})
    driver.configure({X: ContainerSpec(service, 8000)})
    started = await driver.start(X)
    assert started.running
    assert images.show(name("proj-svc-1"))["State"]["Running"]
    assert (await driver.list())[X].instance == started.instance


async def test_an_exact_name_beats_a_service(driver: ContainerDriver) -> None:
    images.create(name("x"))
    images.create(name("other"), labels={"com.docker.compose.service": name("x")})
    await driver.start(X)
    assert images.show(name("x"))["State"]["Running"]
    assert not images.show(name("other"))["State"]["Running"]


def two_projects(service: str) -> None:
    for project in ("one", "two"):
        images.create(
            name(f"{project}-svc"),
            labels={
                "com.docker.compose.service": service,
                "com.docker.compose.project": name(project),
            },
        )


async def test_a_service_in_two_projects_is_ambiguous(driver: ContainerDriver) -> None:
    two_projects(name("svc"))
    driver.configure({X: ContainerSpec(name("svc"), 8000)})
    with pytest.raises(LauncherError) as raised:
        await driver.start(X)
    assert raised.value.code == "backend_missing"
    for part in (name("one-svc"), name("two-svc"), name("one"), "COMPOSE_PROJECT_NAME"):
        assert part in raised.value.message
    seen = (await driver.list())[X]
    assert not seen.exists
    assert seen.error == raised.value.message


async def test_the_project_narrows_a_service() -> None:
    two_projects(name("svc"))
    driver = ContainerDriver(compose_project=name("two"))
    driver.configure({X: ContainerSpec(name("svc"), 8000)})
    await driver.open()
    await driver.start(X)
    assert images.show(name("two-svc"))["State"]["Running"]
    assert not images.show(name("one-svc"))["State"]["Running"]
    await driver.close()


async def test_what_compose_run_made_is_no_service(driver: ContainerDriver) -> None:
    labels = {"com.docker.compose.service": name("svc")}
    images.create(name("svc-1"), labels=labels)
    images.create(name("svc-run"), labels={**labels, "com.docker.compose.oneoff": "True"})
    driver.configure({X: ContainerSpec(name("svc"), 8000)})
    await driver.start(X)
    assert images.show(name("svc-1"))["State"]["Running"]


@pytest.mark.parametrize("odd", ["a/b", "../x", "x?all=1", "", "-x", "a b", "x%2f", "ü"])
async def test_odd_names_never_reach_the_engine(driver: ContainerDriver, odd: str) -> None:
    driver.configure({X: ContainerSpec(odd, 8000)})
    with pytest.raises(LauncherError, match="can't be a container's name") as raised:
        await driver.start(X)
    assert raised.value.code == "backend_missing"


async def test_the_beginning_of_an_id_is_no_name(driver: ContainerDriver) -> None:
    made = images.create(name("x"))
    driver.configure({X: ContainerSpec(made[:12], 8000)})
    assert not (await driver.inspect(X)).exists
    assert not (await driver.list())[X].exists


async def test_a_recreated_container_is_found_again(driver: ContainerDriver) -> None:
    images.create(name("x"))
    first = await driver.start(X)
    images.remove_container(name("x"))
    assert not (await driver.inspect(X)).exists
    images.create(name("x"))
    second = await driver.start(X)
    assert second.running
    assert second.instance != first.instance


# States


async def test_a_paused_container_is_thawed_by_a_start(driver: ContainerDriver) -> None:
    images.run(name("x"))
    images.docker("pause", name("x"))
    assert (await driver.inspect(X)).running
    await driver.start(X)
    assert images.show(name("x"))["State"]["Status"] == "running"


async def test_a_paused_container_is_stopped(driver: ContainerDriver) -> None:
    images.run(name("x"))
    images.docker("pause", name("x"))
    await driver.stop(X)
    assert images.show(name("x"))["State"]["Status"] == "exited"


@pytest.fixture
async def looping(driver: ContainerDriver) -> ContainerDriver:
    """X dies again and again, and its restart policy waits longer each time."""
    images.create(name("x"), env={"BACKEND_EXIT_CODE": "5"}, options=["--restart", "always"])
    await driver.start(X)

    async def waiting() -> bool:
        shown = await asyncio.to_thread(images.show, name("x"))
        return bool(shown["State"]["Status"] == "restarting" and shown["RestartCount"] > 2)

    await eventually(waiting)
    return driver


async def test_between_restarts_nothing_runs(looping: ContainerDriver) -> None:
    await until(looping, X, lambda o: not o.running)
    await until(looping, X, lambda o: o.exit_code == 5)


async def test_a_stop_ends_a_restart_loop(looping: ContainerDriver) -> None:
    await looping.stop(X)
    assert images.show(name("x"))["State"]["Status"] == "exited"
    count = images.show(name("x"))["RestartCount"]
    await asyncio.sleep(1)
    assert images.show(name("x"))["RestartCount"] == count


async def test_a_start_does_not_wait_for_the_policy(looping: ContainerDriver) -> None:
    seen = await looping.inspect(X)
    while seen.running:
        seen = await looping.inspect(X)
    after = await looping.start(X)
    assert after.instance != seen.instance


Ended = Callable[..., Awaitable[None]]


def and_comes_back(end: Ended) -> Ended:
    """Somebody starts the container as soon as it has ended."""

    async def both(*args: object) -> None:
        await end(*args)
        await asyncio.to_thread(images.docker, "start", name("x"))

    return both


@pytest.mark.parametrize(
    ("policy", "advice"),
    [("always", "docker update --restart no"), ("no", "somebody starts it")],
)
async def test_a_container_that_comes_back_is_reported(
    driver: ContainerDriver, policy: str, advice: str
) -> None:
    images.create(name("x"), options=["--restart", policy])
    await driver.start(X)
    assert [policy in warning for warning in await driver.warnings()] == [True] * (policy != "no")
    engine = driver._engine
    engine.stop = and_comes_back(engine.stop)  # type: ignore[method-assign]
    engine.kill = and_comes_back(engine.kill)  # type: ignore[method-assign]
    with pytest.raises(LauncherError, match="runs again, 2 times") as raised:
        await driver.stop(X)
    assert raised.value.code == "backend_stop_failed"
    assert advice in raised.value.message


async def test_a_container_that_comes_back_once_is_stopped_again(driver: ContainerDriver) -> None:
    images.create(name("x"))
    await driver.start(X)
    driver._engine.stop = and_comes_back(driver._engine.stop)  # type: ignore[method-assign]
    await driver.stop(X)
    assert not (await driver.inspect(X)).running


async def test_a_container_that_removes_itself(driver: ContainerDriver) -> None:
    images.create(name("x"), options=["--rm"])
    await driver.start(X)
    await driver.stop(X)

    async def removed() -> bool:
        return not (await driver.inspect(X)).exists

    await eventually(removed)
    await driver.stop(X)


async def test_the_healthcheck_is_told(driver: ContainerDriver) -> None:
    images.create(name("x"), health="1s", env={"BACKEND_HEALTH": "500"})
    images.create(name("y"), health="1s")
    driver.configure({X: ContainerSpec(name("x"), 8000), Y: ContainerSpec(name("y"), 8000)})
    watcher = Watcher(driver)
    await watcher.expect(lambda e: e == Connected())
    assert (await driver.start(Y)).health == "starting"
    await driver.start(X)
    told = len(watcher.seen)
    await until(driver, Y, lambda o: o.health == "healthy")
    await until(driver, X, lambda o: o.health == "unhealthy")
    await watcher.expect(lambda e: e == Changed(Y), after=told)
    await driver.stop(Y)
    assert (await driver.inspect(Y)).health is None
    await watcher.stop()


async def test_out_of_memory_is_told(driver: ContainerDriver) -> None:
    code = "a = []\nwhile True: a.append(bytearray(b'x') * 2**20)"
    python = images.show(images.create(name("z")))["Config"]["Entrypoint"][0]
    images.create(
        name("x"),
        options=["--memory=24m", "--memory-swap=24m", "--entrypoint", python],
        command=["-c", code],
    )
    await driver.start(X)
    await until(driver, X, lambda o: not o.running)
    seen = await driver.inspect(X)
    assert seen.oom_killed
    assert seen.exit_code == 137


# Starts that fail


async def test_a_taken_port_is_named(driver: ContainerDriver) -> None:
    images.run(name("y"), publish={8000: 0})
    port = int(images.show(name("y"))["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"])
    images.create(name("x"), publish={8000: port})
    with pytest.raises(LauncherError, match="port is already allocated") as raised:
        await driver.start(X)
    assert raised.value.code == "backend_start_failed"
    assert name("x") in raised.value.message
    assert "`ports`" in raised.value.message
    seen = await driver.inspect(X)
    assert not seen.running


async def test_a_program_that_is_not_in_the_image(driver: ContainerDriver) -> None:
    images.create(name("x"), options=["--entrypoint", "/no/such/program"])
    with pytest.raises(LauncherError, match="no such file or directory") as raised:
        await driver.start(X)
    assert raised.value.code == "backend_start_failed"
    seen = await driver.inspect(X)
    assert not seen.running
    assert seen.error


async def test_a_gpu_that_is_not_there(driver: ContainerDriver) -> None:
    images.create(name("x"), options=["--gpus", "all"])
    with pytest.raises(LauncherError, match="could not select device driver") as raised:
        await driver.start(X)
    assert "NVIDIA Container Toolkit" in raised.value.message


async def test_a_network_that_was_removed(driver: ContainerDriver) -> None:
    network = name("net")
    images.docker("network", "create", network)
    images.create(name("x"), options=["--network", network])
    images.docker("network", "rm", network)
    with pytest.raises(LauncherError, match="not found") as raised:
        await driver.start(X)
    assert raised.value.code == "backend_start_failed"
    assert "Recreate" in raised.value.message


# Logs


async def test_a_terminals_output_is_read_raw(driver: ContainerDriver) -> None:
    images.create(name("x"), env={"BACKEND_EXIT_CODE": "3"}, options=["--tty"])
    await driver.start(X)
    await until(driver, X, lambda o: not o.running)
    assert (await driver.log_tail(X))[-1] == contract.LAST_WORDS


async def test_a_log_driver_that_keeps_nothing(driver: ContainerDriver) -> None:
    images.create(name("x"), options=["--log-driver", "none"])
    await driver.start(X)
    (line,) = await driver.log_tail(X)
    assert line.startswith("(no log: ")


async def test_the_log_of_an_adopted_container_is_that_of_its_last_start(
    driver: ContainerDriver,
) -> None:
    images.run(name("x"), env={"BACKEND_EXIT_CODE": "3"})
    await until(driver, X, lambda o: not o.running)
    assert (await driver.log_tail(X))[-1] == contract.LAST_WORDS


# Endpoints


@pytest.fixture
def network() -> Iterator[str]:
    made = name("net")
    images.docker("network", "create", made)
    yield made
    images.sweep(PREFIX)
    images.docker("network", "rm", made)


async def test_on_a_host_the_published_port_comes_first(driver: ContainerDriver) -> None:
    images.create(name("x"), publish={8000: 0})
    await driver.start(X)
    shown = images.show(name("x"))["NetworkSettings"]
    published = int(shown["Ports"]["8000/tcp"][0]["HostPort"])
    address = shown["Networks"]["bridge"]["IPAddress"]
    assert await driver.endpoints(X) == (
        Endpoint("127.0.0.1", published),
        Endpoint(address, 8000),
    )


async def test_host_mode(driver: ContainerDriver) -> None:
    images.create(name("x"), options=["--network", "host"], env={"BACKEND_PORT": "0"})
    driver.configure({X: ContainerSpec(name("x"), 1234, scheme="https", base_path="/b")})
    await driver.start(X)
    assert await driver.endpoints(X) == (Endpoint("127.0.0.1", 1234, "https", base_path="/b"),)


async def test_a_container_in_anothers_network(driver: ContainerDriver, network: str) -> None:
    images.run(name("y"), options=["--network", network])
    images.create(name("x"), options=["--network", f"container:{name('y')}"])
    driver.configure({X: ContainerSpec(name("x"), 8000)})
    await driver.start(X)
    holder = images.show(name("y"))["NetworkSettings"]["Networks"][network]["IPAddress"]
    assert await driver.endpoints(X) == (Endpoint(holder, 8000),)


async def test_without_any_network_the_error_says_what_to_do(driver: ContainerDriver) -> None:
    images.create(name("x"), options=["--network", "none"])
    await driver.start(X)
    with pytest.raises(LauncherError, match="set `address`"):
        await driver.endpoints(X)
    await driver.stop(X)
    assert await driver.endpoints(X) == ()


IN_CONTAINER = """
import asyncio, json, sys
sys.path[:0] = {paths!r}
from launcher.drivers.base import ContainerSpec
from launcher.drivers.container import ContainerDriver
async def main():
    driver = ContainerDriver()
    driver.configure({{b: ContainerSpec(b, 8000) for b in sys.argv[1:]}})
    await driver.open()
    for backend in sys.argv[1:]:
        for place in await driver.endpoints(backend):
            try:
                async with asyncio.timeout(5):
                    _, writer = await asyncio.open_connection(place.host, place.port)
                writer.close()
                print(backend, place, "answers", flush=True)
            except OSError:
                print(backend, place, "refuses", flush=True)
    await driver.close()
asyncio.run(main())
"""


async def test_from_a_container_the_shared_network_comes_first(
    driver: ContainerDriver, network: str
) -> None:
    """The launcher itself in a container: it finds out which one it is, and what it shares."""
    images.run(name("shared"), options=["--network", network], publish={8000: 0})
    images.run(name("apart"), options=["--publish", "8000"])
    root = Path(launcher.__file__).parent.parent
    paths = [str(root), *(path for path in sys.path if path.endswith("-packages"))]
    python = images.show(name("shared"))["Config"]["Entrypoint"][0]
    options = ["--network", network, "--entrypoint", python]
    for path in (*paths, "/var/run/docker.sock"):
        options += ["--volume", f"{path}:{path}:ro"]
    for word in ("shared", "apart"):
        driver.configure({X: ContainerSpec(name(word), 8000)})
        bridge = (await driver.endpoints(X))[-1]

        async def up(place: Endpoint = bridge) -> bool:
            return await answers(place)

        await eventually(up)
    images.create(
        name("x"),
        options=options,
        command=["-c", IN_CONTAINER.format(paths=paths), name("shared"), name("apart")],
    )
    driver.configure({X: ContainerSpec(name("x"), 8000)})
    await driver.start(X)
    await until(driver, X, lambda o: not o.running)
    lines = await driver.log_tail(X)
    assert (await driver.inspect(X)).exit_code == 0, lines
    shared = images.show(name("shared"))["NetworkSettings"]["Networks"][network]
    apart = images.show(name("apart"))["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"]
    assert lines == (
        f"{name('shared')} http://{shared['IPAddress']}:8000 answers",
        f"{name('apart')} http://{shared['Gateway']}:{apart} answers",
    )


# Events


async def test_what_others_do_is_told(driver: ContainerDriver) -> None:
    watcher = Watcher(driver)
    await watcher.expect(lambda e: e == Connected())

    async def told_by(*command: str) -> None:
        before = len(watcher.seen)
        await asyncio.to_thread(images.docker, *command)
        await watcher.expect(lambda e: e == Changed(X), after=before)
        # Let the rest of this command's events pass before the next one.
        await asyncio.sleep(0.1)

    before = len(watcher.seen)
    await asyncio.to_thread(images.create, name("x"))
    await watcher.expect(lambda e: e == Changed(X), after=before)
    await told_by("start", name("x"))
    await told_by("pause", name("x"))
    await told_by("unpause", name("x"))
    await told_by("rename", name("x"), name("renamed"))
    await told_by("rename", name("renamed"), name("x"))
    await told_by("stop", name("x"))
    await told_by("rm", name("x"))
    await watcher.stop()


async def test_what_others_do_to_a_service_is_told(driver: ContainerDriver) -> None:
    driver.configure({X: ContainerSpec(name("svc"), 8000)})
    watcher = Watcher(driver)
    await watcher.expect(lambda e: e == Connected())
    images.create(name("y"))
    images.run(name("svc-1"), labels={"com.docker.compose.service": name("svc")})
    await watcher.expect(lambda e: e == Changed(X))
    assert set(watcher.seen) <= {Connected(), Changed(X)}
    await watcher.stop()


# An engine that comes and goes


@pytest.fixture
def engine() -> Iterator[private_engine.PrivateEngine]:
    if not private_engine.available() and not os.environ.get("CI"):
        pytest.skip("needs root, dockerd and ip")
    with private_engine.running() as engine:
        yield engine


@pytest.fixture
async def guest(engine: private_engine.PrivateEngine) -> AsyncIterator[ContainerDriver]:
    """A driver on the private engine."""
    driver = ContainerDriver(docker_host=engine.host)
    driver.configure({X: ContainerSpec(name("x"), 8000)})
    await driver.open()
    yield driver
    await driver.close()


def disconnected(event: object) -> bool:
    return isinstance(event, Disconnected)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_an_engine_that_goes_and_comes_back(
    engine: private_engine.PrivateEngine, guest: ContainerDriver, how: str
) -> None:
    watcher = Watcher(guest)
    await watcher.expect(lambda e: e == Connected())
    await asyncio.to_thread(getattr(engine, how))
    gone = await watcher.expect(disconnected)
    assert isinstance(gone, Disconnected)
    assert engine.host in gone.reason
    calls: list[Callable[[], object]] = [
        lambda: guest.list(),
        lambda: guest.inspect(X),
        lambda: guest.start(X),
        lambda: guest.stop(X),
        lambda: guest.endpoints(X),
        lambda: guest.log_tail(X),
    ]
    for call in calls:
        with pytest.raises(LauncherError) as raised:
            await call()  # type: ignore[misc]
        assert raised.value.code == "docker_unavailable"
        assert raised.value.retry_after
    told = len(watcher.seen)
    await asyncio.to_thread(engine.start)
    await watcher.expect(lambda e: e == Connected(), after=told)
    assert not (await guest.list())[X].exists
    await watcher.stop()


async def test_a_frozen_engine_is_found_out(
    engine: private_engine.PrivateEngine,
    guest: ContainerDriver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("launcher.drivers.engine.READ_TIMEOUT", 0.5)
    monkeypatch.setattr("launcher.drivers.engine.HEARTBEAT", 0.2)
    watcher = Watcher(guest)
    await watcher.expect(lambda e: e == Connected())
    engine.freeze()
    gone = await watcher.expect(disconnected)
    assert isinstance(gone, Disconnected)
    with pytest.raises(LauncherError, match="took too long"):
        await guest.inspect(X)
    told = len(watcher.seen)
    engine.thaw()
    await watcher.expect(lambda e: e == Connected(), after=told)
    await watcher.stop()


async def test_opening_without_an_engine_is_no_error(tmp_path: Path) -> None:
    driver = ContainerDriver(docker_host=f"unix://{tmp_path}/none.sock")
    driver.configure({X: ContainerSpec("x", 8000)})
    await driver.open()
    watcher = Watcher(driver)
    first = await watcher.expect(lambda e: True)
    assert isinstance(first, Disconnected)
    assert "set `docker_host`" in first.reason
    with pytest.raises(LauncherError) as raised:
        await driver.start(X)
    assert raised.value.code == "docker_unavailable"
    await driver.close()
    await watcher.ended()
    # The reason was told once, not at each attempt.
    assert len(watcher.seen) == 1


async def test_a_closed_driver_says_so(driver: ContainerDriver) -> None:
    await driver.close()
    with pytest.raises(LauncherError) as raised:
        await driver.inspect(X)
    assert raised.value.code == "docker_unavailable"


async def test_many_looks_at_once(driver: ContainerDriver) -> None:
    images.create(name("x"))
    backends = [BackendId(f"b{i}") for i in range(60)]
    driver.configure({b: ContainerSpec(name("x"), 8000) for b in backends})
    looks = [tasks.spawn(driver.list(), name="list") for _ in range(3)]
    for look in looks:
        assert all(o.exists for o in (await look).values())


async def test_specs_of_other_kinds_are_not_its_own(driver: ContainerDriver) -> None:
    driver.configure({X: ProcessSpec(("true",))})
    assert await driver.list() == {}
