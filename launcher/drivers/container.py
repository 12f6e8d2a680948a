"""Backends that are containers: existing ones, named exactly or by their compose service.

Names are looked up anew at each call, since ids change when a container is recreated. This
driver never creates, pulls or removes anything.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import NoReturn

from launcher import tasks
from launcher.core.types import BackendId
from launcher.drivers.base import (
    Changed,
    Connected,
    ContainerSpec,
    Disconnected,
    DriverEvent,
    DriverSpec,
    Observation,
)
from launcher.drivers.endpoints import candidates, own_container_ids
from launcher.drivers.engine import Engine, EngineEvent, EngineRefused, Listed
from launcher.drivers.inspected import COMPOSE_ONEOFF, COMPOSE_PROJECT, COMPOSE_SERVICE, Container
from launcher.drivers.output import Frames, Lines, demultiplex, last_lines
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint

#: What Docker allows (daemon/names); anything else must not get into a URL.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")

_BACKOFF = (0.2, 1.0)
"""Seconds between attempts to reconnect: the first, and at most. An engine that is back is to
be listed anew within two."""
_CONFIRM = 10.0
"""Seconds that a stopped container may take to show as stopped."""
_MAX_RESTARTS = 1
"""How often somebody may start what is being stopped before that is a failure."""
_PARALLEL = 16


class ContainerDriver:
    """Implements `launcher.drivers.base.Driver` on one Docker Engine.

    `docker_host` as in DOCKER_HOST; `compose_project` decides where the same service name
    exists in two projects.
    """

    def __init__(
        self,
        name: str = "docker@local",
        *,
        docker_host: str | None = None,
        compose_project: str | None = None,
    ) -> None:
        self._name = name
        self._engine = Engine(docker_host)
        self._project = compose_project
        self._specs: dict[BackendId, ContainerSpec] = {}
        self._own_ids: tuple[str, ...] = ()
        self._printing_since: dict[BackendId, tuple[str | None, float]] = {}
        self._closed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<ContainerDriver {self._name} {self._engine.address} {len(self._specs)} backends>"

    @property
    def name(self) -> str:
        """Such as `docker@local`."""
        return self._name

    def configure(self, specs: Mapping[BackendId, DriverSpec]) -> None:
        """Container specs only; those of other kinds are another driver's."""
        self._specs = {b: s for b, s in specs.items() if isinstance(s, ContainerSpec)}
        for backend in self._printing_since.keys() - self._specs.keys():
            del self._printing_since[backend]

    async def open(self) -> None:
        """Connect. An engine that doesn't answer is no error here: `watch` reports it."""
        self._closed.clear()
        await self._engine.open()
        self._own_ids = await asyncio.to_thread(own_container_ids, hostname=socket.gethostname())

    async def close(self) -> None:
        """Let go of the engine; containers stay as they are."""
        self._closed.set()
        await self._engine.close()

    async def list(self) -> Mapping[BackendId, Observation]:
        """One listing, then an inspection of each container that is configured."""
        everything = await self._engine.listed()
        gate = asyncio.Semaphore(_PARALLEL)

        async def inspect_one(spec: ContainerSpec) -> Observation:
            try:
                ref = self._choose(spec.container, everything)
            except LauncherError as error:
                return Observation(exists=False, error=error.message)
            async with gate:
                return self._seen(await self._engine.inspect(ref) if ref else None, spec)

        backends = dict(self._specs)
        results = await asyncio.gather(*map(inspect_one, backends.values()), return_exceptions=True)
        seen: dict[BackendId, Observation] = {}
        for backend, result in zip(backends, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            seen[backend] = result
        return seen

    async def inspect(self, backend: BackendId) -> Observation:
        """One backend; `exists=False` where no container has its name."""
        spec = self._spec(backend)
        return self._seen(await self._find(spec), spec)

    async def start(self, backend: BackendId) -> Observation:
        """Start, unpause, or begin a restart that a policy is delaying.

        A start that was sent is seen through even if this is cancelled, so that a stop
        which follows can't overtake it.
        """
        spec = self._spec(backend)
        work = tasks.spawn(
            self._start_outcome(backend, spec), name=f"docker start {spec.container}"
        )
        try:
            outcome = await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise
        if isinstance(outcome, LauncherError):
            raise outcome
        return outcome

    async def stop(self, backend: BackendId) -> None:
        """Also ends a paused container, and one that its restart policy keeps restarting."""
        spec = self._spec(backend)
        found = await self._find(spec)
        if found is None or not (found.running or found.restarting):
            return
        why = ""
        try:
            await self._engine.stop(found.id, spec.stop_grace)
        except EngineRefused as refused:
            why = refused.message
        await self._confirm_stopped(spec, found, why)

    async def endpoints(self, backend: BackendId) -> tuple[Endpoint, ...]:
        """See `launcher.drivers.endpoints`; empty where the container doesn't run."""
        spec = self._spec(backend)
        found = await self._find(spec) or self._missing(spec)
        holder, own = found, await self._own()
        if found.network_mode.startswith("container:"):
            ref = found.network_mode.removeprefix("container:")
            holder = await self._engine.inspect(ref) or found
        places = candidates(spec, found, holder, own, self._engine.machine)
        if not places and found.occupies:
            raise LauncherError(
                "backend_start_failed",
                f"Container {found.name!r} has no address that can be reached from here: attach "
                f"it to a network that the launcher is on, publish its port {spec.port}, or set "
                "`address`.",
            )
        return places if found.occupies else ()

    async def log_tail(self, backend: BackendId, lines: int = 20) -> tuple[str, ...]:
        """Stdout and stderr since the last start; nothing where it never ran."""
        found = await self._find(self._spec(backend))
        if found is None or (since := self._since(backend, found)) is None:
            return ()
        try:
            # Some to spare, since blank lines aren't counted.
            data = await self._engine.logs(found.id, tail=2 * lines + 20, since=since)
        except EngineRefused as refused:
            return (f"(no log: {refused.message.strip()[:200]})",)
        return last_lines(data if found.tty else demultiplex(data), lines)

    async def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[str, None]:
        """See `Driver.follow`; what a restart policy starts again is still the same output."""
        found = await self._find(self._spec(backend))
        if found is None or (since := self._since(backend, found)) is None:
            return
        frames, cut = Frames(), Lines()
        try:
            async with self._engine.followed_logs(found.id, tail=lines, since=since) as pieces:
                async for piece in pieces:
                    for line in cut.feed(piece if found.tty else frames.feed(piece)):
                        yield line
        except EngineRefused as refused:
            yield f"(no log: {refused.message.strip()[:200]})"
        for line in cut.end():
            yield line

    async def watch(self) -> AsyncGenerator[DriverEvent, None]:
        """The engine's events, reconnecting after 0.2 s, doubling to 1 s."""
        pause, _ = _BACKOFF
        told: str | None = None
        while not self._closed.is_set():
            try:
                async with self._engine.events() as stream:
                    pause, _ = _BACKOFF
                    told = None
                    yield Connected()
                    while True:
                        for backend in self._concerned(await stream.next()):
                            yield Changed(backend)
            except LauncherError as error:
                if self._closed.is_set():
                    return
                if error.message != told:
                    told = error.message
                    yield Disconnected(error.message)
            try:
                async with asyncio.timeout(pause):
                    await self._closed.wait()
            except TimeoutError:
                pause = min(2 * pause, _BACKOFF[1])

    async def warnings(self) -> tuple[str, ...]:
        """What will surprise: containers that don't exist (yet), and restart policies."""
        found: list[str] = []
        for backend, spec in self._specs.items():
            try:
                one = await self._find(spec) or self._missing(spec)
            except LauncherError as error:
                if error.code != "backend_missing":
                    raise
                found.append(f"{backend}: {error.message}")
                continue
            if one.restart_policy != "no":
                found.append(
                    f"{backend}: container {one.name!r} has the restart policy "
                    f"{one.restart_policy!r}: Docker starts it behind the launcher's back; "
                    f'set it to "no" (docker update --restart no {one.name}).'
                )
        return tuple(found)

    async def find_container(self, backend: BackendId) -> Container | None:
        """The container itself, None where there is none (yet). Raises as `inspect` does."""
        return await self._find(self._spec(backend))

    def _spec(self, backend: BackendId) -> ContainerSpec:
        spec = self._specs.get(backend)
        if spec is None:
            raise LauncherError(
                "backend_missing", f"{self._name} holds no backend {backend!r} (any more)."
            )
        return spec

    async def _find(self, spec: ContainerSpec) -> Container | None:
        """By exact name, else by compose service. Raises `backend_missing` where the name is
        no name, or more than one container answers to it."""
        _check(spec.container)
        found = await self._engine.inspect(spec.container)
        # The engine also takes the beginning of an id for a name.
        if found is not None and found.name == spec.container:
            return found
        ref = self._choose(
            spec.container, await self._engine.listed(f"{COMPOSE_SERVICE}={spec.container}")
        )
        return await self._engine.inspect(ref) if ref else None

    def _choose(self, name: str, among: Iterable[Listed]) -> str | None:
        _check(name)
        among = tuple(among)
        for one in among:
            if name in one.names:
                return one.id
        services = [
            one
            for one in among
            if one.labels.get(COMPOSE_SERVICE) == name
            and one.labels.get(COMPOSE_ONEOFF, "").lower() != "true"
        ]
        if len(services) > 1 and self._project:
            ours = [one for one in services if one.labels.get(COMPOSE_PROJECT) == self._project]
            services = ours or services
        if len(services) > 1:
            raise ambiguous(name, services)
        return services[0].id if services else None

    def _missing(self, spec: ContainerSpec) -> NoReturn:
        raise absent(spec.container)

    def _seen(self, found: Container | None, spec: ContainerSpec) -> Observation:
        if found is None:
            return Observation(exists=False, error=absent(spec.container).message)
        return self._observe(found)

    def _observe(self, found: Container) -> Observation:
        return found.observation(self._engine.now())

    def _since(self, backend: BackendId, found: Container) -> float | None:
        """From when on its output is that of its last start; None where it never ran."""
        if found.started_epoch is None:
            return None
        # The engine notes StartedAt after the process began, which may have printed by then.
        instance, since = self._printing_since.get(backend, (None, 0.0))
        return since if instance == found.instance else found.started_epoch - 1.0

    async def _own(self) -> Container | None:
        for ref in self._own_ids:
            found = await self._engine.inspect(ref)
            # Taken from the host name it may be anything; a container's is its own id.
            if found is not None and found.running and found.id.startswith(ref):
                return found
        return None

    async def _start_outcome(
        self, backend: BackendId, spec: ContainerSpec
    ) -> Observation | LauncherError:
        # A failed start is an outcome, not a crash of the task that carries it.
        try:
            return await self._start(backend, spec)
        except LauncherError as error:
            return error

    async def _start(self, backend: BackendId, spec: ContainerSpec) -> Observation:
        found = await self._find(spec) or self._missing(spec)
        before = self._engine.now()
        try:
            match found.status:
                case "running":
                    return self._observe(found)
                case "paused":
                    await self._engine.unpause(found.id)
                case "restarting":
                    # It counts as running, so that a start would do nothing.
                    await self._engine.stop(found.id, 0)
                    await self._engine.start(found.id)
                case _:
                    await self._engine.start(found.id)
        except EngineRefused as refused:
            raise start_failed(found.name, refused) from refused
        after = await self._engine.inspect(found.id)
        if after is not None and found.status != "paused":
            self._printing_since[backend] = (after.instance, before - 0.05)
        return self._seen(after, spec)

    async def _confirm_stopped(self, spec: ContainerSpec, stopped: Container, why: str) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CONFIRM
        again = 0
        while True:
            now = await self._engine.inspect(stopped.id)
            if now is None or not (now.running or now.restarting):
                return
            if now.started_at != stopped.started_at and not why:
                again += 1
                stopped = now
                if again > _MAX_RESTARTS:
                    raise LauncherError("backend_stop_failed", runs_again(now, again))
            if loop.time() >= deadline:
                raise LauncherError(
                    "backend_stop_failed",
                    f"Container {now.name!r} doesn't stop, not even by SIGKILL: "
                    f"{why or 'Docker gives no reason'}. Look at its processes on the host.",
                )
            try:
                await self._engine.kill(stopped.id)
            except EngineRefused as refused:
                # It may have ended meanwhile; the next look tells.
                why = refused.message
            await asyncio.sleep(0.1)

    def _concerned(self, event: EngineEvent) -> Sequence[BackendId]:
        return [
            backend
            for backend, spec in self._specs.items()
            if spec.container in event.names or spec.container == event.service
        ]


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise LauncherError(
            "backend_missing",
            f"{name!r} can't be a container's name: letters, digits, `_`, `.` and `-` only.",
        )


_ADVICE = (
    ("port is already allocated", "Stop what holds that port, or drop the container's `ports`."),
    ("address already in use", "Stop what holds that port, or drop the container's `ports`."),
    ("could not select device driver", "Install the NVIDIA Container Toolkit on Docker's host."),
    ("unknown or invalid runtime", "Install that runtime, or recreate the container without it."),
    ("nvidia-container-cli", "Check the GPU driver on Docker's host (nvidia-smi)."),
    ("No such image", "Pull or build the image, then recreate the container."),
    (
        r"network \S+ not found",
        "Recreate the container (docker compose up --no-start --force-recreate).",
    ),
)


def start_failed(name: str, refused: EngineRefused) -> LauncherError:
    """The error for a start that was refused: the engine's own words, and advice where known."""
    said = refused.message.strip()[:1000]
    if refused.status == 404 and "no such container" in said.lower():
        return LauncherError("backend_missing", f"Container {name!r} was removed just now.")
    advice = next((text for sign, text in _ADVICE if re.search(sign, said)), "")
    return LauncherError(
        "backend_start_failed",
        f"Docker could not start container {name!r}: {said} {advice}".strip(),
    )


def runs_again(container: Container, times: int) -> str:
    """Return the message for a container that is started again after each stop."""
    text = f"Container {container.name!r} was stopped and runs again, {times} times: "
    if container.restart_policy in ("", "no"):
        return f"{text}somebody starts it (`docker events` shows when)."
    return (
        f"{text}its restart policy is {container.restart_policy!r}, and something starts it. Set "
        f'the policy to "no" (docker update --restart no {container.name}).'
    )


def absent(name: str) -> LauncherError:
    """Return the error for a name that no container and no service has."""
    return LauncherError(
        "backend_missing",
        f"There is no container and no compose service named {name!r}: create it "
        f"(docker compose up --no-start {name}), or correct `container`.",
    )


def ambiguous(name: str, found: Iterable[Listed]) -> LauncherError:
    them = ", ".join(
        sorted(
            f"{one.names[0] if one.names else one.id[:12]} "
            f"(project {one.labels.get(COMPOSE_PROJECT, '-')})"
            for one in found
        )
    )
    return LauncherError(
        "backend_missing",
        f"More than one container belongs to a compose service {name!r}: {them}. Set "
        "COMPOSE_PROJECT_NAME, or give the container's own name in `container`.",
    )
