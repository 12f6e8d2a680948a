"""The connection to one Docker Engine: deadlines, API version, clock, event stream, and one
translation of everything that can go wrong.

aiodocker has no deadlines, keeps to the daemon's newest API version, and its event stream
ends in silence; so each call here has its own deadline, the version is agreed on at each
(re)connect, and the events are read from its session directly.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from launcher.drivers import inspected
from launcher.drivers.inspected import COMPOSE_SERVICE
from launcher.errors import ConfigError, LauncherError

T = TypeVar("T")

DEFAULT_HOST = "unix:///var/run/docker.sock"

OUR_API = (1, 51)
"""The newest API version whose answers this code was written for."""

READ_TIMEOUT = 10.0
"""Seconds for calls that only read."""
START_TIMEOUT = 120.0
"""Seconds for a start: GPU runtimes and large mounts take their time."""
STOP_MARGIN = 30.0
"""Seconds for a stop beyond its grace."""
MAX_LOG = 2 * 1024 * 1024


class EngineRefused(Exception):
    """The engine answered, and said no. `message` is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Listed:
    """One container of a listing."""

    id: str
    names: tuple[str, ...]
    labels: Mapping[str, str]


class Engine:
    """One engine. Methods raise LauncherError(`docker_unavailable`) where it doesn't answer,
    and EngineRefused where it does and declines."""

    def __init__(self, docker_host: str | None) -> None:
        address = docker_host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self.address = f"unix://{address}" if address.startswith("/") else address
        parts = urlsplit(self.address)
        if parts.scheme not in ("unix", "tcp", "http", "https"):
            raise ConfigError(
                [f"docker_host {address!r}: use unix:///path/to/docker.sock or tcp://host:port"]
            )
        self.machine: str | None = None if parts.scheme == "unix" else parts.hostname
        """The engine's machine where it isn't this one."""
        if self.machine in ("127.0.0.1", "localhost", "::1"):
            self.machine = None
        self._docker: Docker | None = None
        self._followed: set[aiohttp.ClientResponse] = set()
        self._connector: aiohttp.BaseConnector | None = None
        self._agreed = False
        self._agreeing = asyncio.Lock()
        self._skew = 0.0

    def __repr__(self) -> str:
        version = self._docker.api_version if self._docker and self._agreed else "not connected"
        return f"<Engine {self.address} {version}>"

    @property
    def api_version(self) -> str | None:
        """As agreed on, such as `v1.41`; None while not connected."""
        return self._docker.api_version if self._docker and self._agreed else None

    def now(self) -> float:
        """Unix time on the engine's clock."""
        return time.time() + self._skew

    async def open(self) -> None:
        """Prepare the client; nothing is sent yet."""
        if self._docker is not None:
            return
        # `limit=0`: each followed stream holds a slot. `force_close`: a restarted daemon
        # leaves kept connections that fail only when they are used.
        parts = urlsplit(self.address)
        if parts.scheme == "unix":
            self._connector = aiohttp.UnixConnector(parts.path, limit=0, force_close=True)
            url = "unix://localhost"
        else:
            tls = await asyncio.to_thread(_tls)
            secure = parts.scheme == "https" or tls is not None
            self._connector = aiohttp.TCPConnector(limit=0, force_close=True, ssl=tls or True)
            url = f"{'https' if secure else 'http'}://{parts.netloc}"
        self._docker = Docker(url=url, connector=self._connector, api_version="v1.41")

    async def close(self) -> None:
        """Close every connection; a stream that is being read breaks."""
        docker, self._docker = self._docker, None
        self._agreed = False
        for response in self._followed:
            # Closing the session alone would leave its reader waiting for ever.
            response.close()
        if docker is not None:
            await docker.close()
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    async def connect(self) -> None:
        """Agree on an API version and compare clocks, anew after each break.

        Engines refuse clients older than their minimum (1.44 from version 29 on), and older
        engines (20.10: 1.41) refuse newer ones.
        """
        docker = self._client()
        with _translated(self, "connecting"):
            async with asyncio.timeout(READ_TIMEOUT):
                version = await self._json(docker, "version")
                docker.api_version = agree(
                    str(version.get("ApiVersion", "")), str(version.get("MinAPIVersion", ""))
                )
                before = time.time()
                info = await docker.system.info()
        engine_time = inspected.epoch(str(info.get("SystemTime", "")))
        if engine_time is not None:
            self._skew = engine_time - (before + time.time()) / 2
        self._agreed = True

    async def ping(self) -> None:
        """Return if the engine answers at all."""
        docker = self._client()
        with _translated(self, "a ping"):
            async with asyncio.timeout(READ_TIMEOUT):
                async with docker.session.get(f"{docker.docker_host}/_ping") as response:
                    await response.read()

    async def inspect(self, ref: str) -> inspected.Container | None:
        """A container by exact name or id, None where there is none.

        `ref` must be a valid name: it goes into a URL unescaped.
        """
        try:
            found = await self._call("inspect", lambda d: d.containers.container(ref).show())
        except EngineRefused as refused:
            if refused.status == 404:
                return None
            raise self.away(refused.message) from refused
        return inspected.container(found)

    async def listed(self, *labels: str) -> tuple[Listed, ...]:
        """All containers, running or not, with these labels (`key=value`)."""
        filters = json.dumps({"label": list(labels)})
        try:
            found = await self._call(
                "list", lambda d: d.containers.list(all="true", filters=filters)
            )
        except EngineRefused as refused:
            raise self.away(refused.message) from refused
        return tuple(
            Listed(
                id=one["Id"],
                names=tuple(name.removeprefix("/") for name in one["Names"] or ()),
                labels=one["Labels"] or {},
            )
            for one in found
        )

    async def start(self, ref: str) -> None:
        """Start a container; one that runs is fine."""
        await self._call("start", lambda d: d.containers.container(ref).start(), START_TIMEOUT)

    async def unpause(self, ref: str) -> None:
        """Thaw a paused container."""
        await self._call("unpause", lambda d: d.containers.container(ref).unpause())

    async def stop(self, ref: str, grace: float) -> None:
        """SIGTERM (or its stop signal), `grace` seconds, SIGKILL, all done by the engine, so
        that it ends even where the launcher doesn't live to see it."""
        await self._call(
            "stop",
            lambda d: d.containers.container(ref).stop(t=math.ceil(grace)),
            grace + STOP_MARGIN,
        )

    async def kill(self, ref: str) -> None:
        """SIGKILL."""
        await self._call("kill", lambda d: d.containers.container(ref).kill(signal="SIGKILL"))

    async def logs(self, ref: str, *, tail: int, since: float) -> bytes:
        """The raw end of a container's output (framed unless it has a tty), at most 2 MiB.

        `since` is Unix time on the engine's clock.
        """
        params = {"stdout": "1", "stderr": "1", "tail": str(tail), "since": f"{since:.6f}"}

        async def read(docker: Docker) -> bytes:
            url = f"{docker.docker_host}/{docker.api_version}/containers/{ref}/logs"
            async with docker.session.get(url, params=params) as response:
                data = bytearray()
                async for piece in response.content.iter_any():
                    data += piece
                    if len(data) >= MAX_LOG:
                        response.close()
                        break
                if response.status != 200:
                    raise EngineRefused(response.status, bytes(data).decode("utf-8", "replace"))
                return bytes(data)

        return await self._call("logs", read)

    @asynccontextmanager
    async def followed_logs(
        self, ref: str, *, tail: int, since: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """As `logs`, and whatever comes until the container stops. Pieces as they come in."""
        if not self._agreed:
            await self.connect()
        docker = self._client()
        url = f"{docker.docker_host}/{docker.api_version}/containers/{ref}/logs"
        params = {"stdout": "1", "stderr": "1", "follow": "1"}
        params |= {"tail": str(tail), "since": f"{since:.6f}"}
        with _translated(self, "logs"):
            async with asyncio.timeout(READ_TIMEOUT):
                response = await docker.session.get(
                    url, params=params, timeout=aiohttp.ClientTimeout()
                )
            self._followed.add(response)
            try:
                if response.status != 200:
                    raise EngineRefused(response.status, (await response.text())[:500])
                yield response.content.iter_any()
            finally:
                self._followed.discard(response)
                response.close()

    @asynccontextmanager
    async def events(self) -> AsyncIterator[EventStream]:
        """Connect and follow the container events. Those of the last second before come too:
        the engine answers a moment before it subscribes, and nothing may fall between."""
        await self.connect()
        docker = self._client()
        params = {
            "filters": json.dumps({"type": ["container"], "event": WANTED}),
            "since": f"{self.now() - 1:.6f}",
        }
        url = f"{docker.docker_host}/{docker.api_version}/events"
        with _translated(self, "the event stream"):
            async with asyncio.timeout(READ_TIMEOUT):
                response = await docker.session.get(
                    url, params=params, timeout=aiohttp.ClientTimeout()
                )
        self._followed.add(response)
        try:
            if response.status != 200:
                raise self.away(f"it refuses the event stream ({response.status})")
            yield EventStream(response.content, ping=self.ping, away=self.away)
        finally:
            self._followed.discard(response)
            response.close()

    def away(self, reason: str) -> LauncherError:
        """The error for an engine that doesn't answer; the next call connects anew."""
        self._agreed = False
        return LauncherError(
            "docker_unavailable",
            f"The Docker Engine at {self.address} doesn't answer: {reason}."
            f"{_advice(reason, self.address)}",
        )

    def _client(self) -> Docker:
        if self._docker is None:
            raise LauncherError("docker_unavailable", "The connection to Docker is closed.")
        return self._docker

    async def _call(
        self, what: str, call: Callable[[Docker], Awaitable[T]], timeout: float | None = None
    ) -> T:
        if not self._agreed:
            async with self._agreeing:
                if not self._agreed:
                    await self.connect()
        docker = self._client()
        with _translated(self, what):
            async with asyncio.timeout(READ_TIMEOUT if timeout is None else timeout):
                return await call(docker)

    async def _json(self, docker: Docker, path: str) -> Mapping[str, object]:
        async with docker.session.get(f"{docker.docker_host}/{path}") as response:
            data = await response.json()
        if not isinstance(data, dict):
            raise ValueError("not an object")
        return data


class _translated:
    """Foreign exceptions become EngineRefused or `docker_unavailable` here and nowhere else."""

    def __init__(self, engine: Engine, what: str) -> None:
        self._engine = engine
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case DockerError(status=900):
                raise self._engine.away(error.message) from error
            case DockerError():
                raise EngineRefused(error.status, str(error.message)) from error
            case TimeoutError():
                raise self._engine.away(f"{self._what} took too long") from error
            case aiohttp.ClientError() | OSError():
                raise self._engine.away(str(error) or type(error).__name__) from error
            case ValueError() | KeyError() | TypeError():
                # Somebody else answers on that socket, or a proxy in front of it failed:
                # aiodocker stumbles over the answer's type or content.
                raise self._engine.away(f"{self._what}: not an engine's answer") from error
            case _:
                pass


def agree(theirs: str, minimum: str) -> str:
    """The API version to speak, given the daemon's newest and oldest (`1.41`, `1.12`): its
    newest up to ours, or its oldest where it has dropped ours."""
    newest, oldest = _number(theirs), _number(minimum)
    major, minor = max(min(newest or OUR_API, OUR_API), oldest or (0, 0))
    return f"v{major}.{minor}"


def _number(version: str) -> tuple[int, int] | None:
    major, _, minor = version.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _advice(reason: str, address: str) -> str:
    if "Permission denied" in reason:
        return f" The launcher's user may not use {address}: add it to the socket's group."
    if "No such file" in reason:
        return f" There is no {address}: start Docker, mount its socket, or set `docker_host`."
    if "refused" in reason:
        return " Start it; nobody listens there."
    return ""


def _tls() -> ssl.SSLContext | None:
    """As the docker CLI has it: DOCKER_TLS_VERIFY and DOCKER_CERT_PATH."""
    if not os.environ.get("DOCKER_TLS_VERIFY"):
        return None
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(str(folder / "cert.pem"), str(folder / "key.pem"))
    return context


HEARTBEAT = 10.0
"""Seconds of silence after which the engine is asked for a sign of life."""

#: The container events that may change the answer to "what runs". Health checks alone
#: make three `exec_…` events at each interval; those are not asked for.
WANTED = "create start restart stop die kill oom pause unpause rename destroy health_status".split()


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something happened to a container."""

    id: str
    action: str
    names: frozenset[str]
    """Its name and, where it was renamed, the old one."""
    service: str | None


class EventStream:
    """An open  `ping` raises where the engine is away; `away` makes the error for it."""

    def __init__(
        self,
        content: aiohttp.StreamReader,
        *,
        ping: Callable[[], Awaitable[None]],
        away: Callable[[str], LauncherError],
        heartbeat: float | None = None,
    ) -> None:
        self._content = content
        self._ping = ping
        self._away = away
        self._heartbeat = HEARTBEAT if heartbeat is None else heartbeat
        self._buffer = b""

    async def next(self) -> EngineEvent:
        """The next event. Raises `docker_unavailable` once the stream is broken, or the
        engine is silent and doesn't answer a ping."""
        while b"\n" not in self._buffer:
            self._buffer += await self._more()
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return parse(json.loads(line))
        except ValueError as error:
            raise self._away("the event stream holds something else than events") from error

    async def _more(self) -> bytes:
        while True:
            try:
                # `readany` loses nothing when it is cancelled; `readline` would.
                async with asyncio.timeout(self._heartbeat):
                    data = await self._content.readany()
            except TimeoutError:
                await self._ping()
                continue
            except (aiohttp.ClientError, OSError) as error:
                raise self._away(f"the event stream broke ({error})") from error
            if not data:
                raise self._away("the event stream ended")
            return data


def parse(data: Mapping[str, object]) -> EngineEvent:
    """One event's JSON; absent fields are fine."""
    actor = data.get("Actor")
    actor = actor if isinstance(actor, dict) else {}
    about = actor.get("Attributes") or {}
    names = (about.get("name"), about.get("oldName"))
    return EngineEvent(
        id=str(actor.get("ID", "")),
        # `health_status: healthy`, `exec_start: /bin/sh …`
        action=str(data.get("Action", "")).partition(":")[0],
        names=frozenset(str(name).removeprefix("/") for name in names if name),
        service=about.get(COMPOSE_SERVICE),
    )
