"""Asking backends: is somebody there who would serve a request, and has it work of its own?

`Prober` asks one endpoint once, `first_ready` all candidates until one answers, `ask` the
`busy` path. Nothing here knows the scheduler, the deadlines of starts, or who waits and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import orjson

from launcher import tasks
from launcher.config import BackendConfig
from launcher.core.types import Failure
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime.fetch import FetchFailed, connected, fetch

#: Seconds that one probe may take.
PROBE_TIMEOUT = 2.0
#: Seconds between the beginnings of two probes while somebody waits: 40 ms at most, with
#: room for a busy loop's lateness.
PACE_AWAITED = 0.03
#: And while nobody does.
PACE_ALONE = 0.5
#: docker-proxy takes connections with nobody behind it, and closes them at once.
TCP_STAYS_OPEN = 0.1
#: Seconds after which the candidates are looked up anew: a network may be joined late.
CANDIDATES_EVERY = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one probe met."""

    ready: bool
    seen: str
    """In words for a person: `http://… answered 503`."""
    answered: bool = False
    """Something there spoke, ready or not."""
    silent: bool = False
    """The connection was taken, and then nothing came."""
    fatal: Failure | None = None
    """Asking again is of no use."""


class Probe(Protocol):
    """Asks one endpoint, once, in at most PROBE_TIMEOUT seconds. Never raises."""

    async def probe(self, config: BackendConfig, endpoint: Endpoint) -> Verdict: ...


def key_header(config: BackendConfig) -> tuple[tuple[str, str], ...]:
    """The `backend_key` as the header that backends expect it in."""
    if config.backend_key is None:
        return ()
    return (("Authorization", f"Bearer {config.backend_key.value}"),)


class Prober:
    """Real connections, one per probe.

    `http`: any 2xx is ready, 401 and 403 fail for good. `tcp`: connected and still open
    after 100 ms. `docker`: the container's own HEALTHCHECK decides (its readers are the
    start and the liveness checks); what is left to ask here is which candidate can be
    reached, as with `tcp`.
    """

    async def probe(self, config: BackendConfig, endpoint: Endpoint) -> Verdict:
        """One probe of one endpoint."""
        try:
            if config.health.kind == "http":
                return await self._http(config, endpoint)
            return await self._tcp(endpoint)
        except FetchFailed as error:
            return Verdict(
                False,
                error.seen,
                answered=error.stage == "malformed",
                silent=error.stage == "silent",
            )

    async def _http(self, config: BackendConfig, endpoint: Endpoint) -> Verdict:
        path = config.health.path
        reply = await fetch(endpoint, path, headers=key_header(config), timeout=PROBE_TIMEOUT)
        seen = f"{endpoint}{path} answered {reply.status}"
        if 200 <= reply.status < 300:
            return Verdict(True, seen, answered=True)
        if reply.status not in (401, 403):
            return Verdict(False, seen, answered=True)
        advice = (
            "set `backend_key` (VLLM_API_KEY) to the key it was started with"
            if config.backend_key is None
            else "its `backend_key` is not the key it was started with"
        )
        failure = Failure(
            "backend_start_failed",
            f"{config.id} answered {reply.status} to its health check: {advice}.",
        )
        return Verdict(False, seen, answered=True, fatal=failure)

    async def _tcp(self, endpoint: Endpoint) -> Verdict:
        async with connected(endpoint, PROBE_TIMEOUT) as (reader, _):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TCP_STAYS_OPEN):
                    if not await reader.read(1):
                        raise EOFError
        return Verdict(True, f"{endpoint} took a connection", answered=True)


@dataclass(slots=True)
class Seen:
    """What the latest probe met, for the message of a start that timed out."""

    last: str = "it was not probed yet"


async def first_ready(
    probe: Probe,
    config: BackendConfig,
    candidates: Callable[[], Awaitable[tuple[Endpoint, ...]]],
    awaited: asyncio.Event,
    seen: Seen,
) -> Endpoint | Failure:
    """Probe all candidates side by side, for ever, until one is ready or failed for good.

    Each has a pace of its own, so that one that can't be reached costs the others nothing.
    Where several are ready at once, the first in the driver's order wins. `awaited` is set
    while somebody waits: probes are then at most 40 ms apart, else 500 ms.
    """
    knocks: dict[Endpoint, asyncio.Task[Verdict]] = {}
    try:
        while True:
            try:
                for endpoint in await candidates():
                    if endpoint not in knocks:
                        knocks[endpoint] = tasks.spawn(
                            _knock(probe, config, endpoint, awaited, seen),
                            name=f"probe {config.id} {endpoint}",
                        )
            except LauncherError as error:
                seen.last = error.message
            if not knocks:
                await asyncio.sleep(PACE_ALONE)
                continue
            await asyncio.wait(
                knocks.values(),
                timeout=CANDIDATES_EVERY,
                return_when=asyncio.FIRST_COMPLETED,
            )
            ended = [(endpoint, task.result()) for endpoint, task in knocks.items() if task.done()]
            for endpoint, verdict in ended:
                if verdict.ready:
                    return endpoint
            for _, verdict in ended:
                if verdict.fatal is not None:
                    return verdict.fatal
    finally:
        await tasks.cancel(*knocks.values())


async def _knock(
    probe: Probe, config: BackendConfig, endpoint: Endpoint, awaited: asyncio.Event, seen: Seen
) -> Verdict:
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        verdict = await probe.probe(config, endpoint)
        seen.last = verdict.seen
        if verdict.ready or verdict.fatal is not None:
            return verdict
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(began + PACE_ALONE):
                await awaited.wait()
        await asyncio.sleep(max(0.0, began + PACE_AWAITED - loop.time()))


log = logging.getLogger(__name__)

#: Members of a JSON answer that mean work: a list that isn't empty, true, or a number above 0.
BUSY_KEYS = ("busy", "running", "queue_running", "queue_pending")
#: Bytes of the answer that are looked at. A queue longer than this isn't empty.
BUSY_LIMIT = 1024 * 1024
#: Times in a row that no usable answer counts as busy. After them it doesn't: a backend that
#: hangs would otherwise keep its place for ever.
BUSY_PATIENCE = 3


async def ask_busy(config: BackendConfig, endpoint: Endpoint) -> bool | None:
    """Ask once. None: it is there but gave no usable answer; nobody there is not busy."""
    assert config.busy is not None
    try:
        reply = await fetch(
            endpoint,
            config.busy,
            headers=key_header(config),
            timeout=PROBE_TIMEOUT,
            limit=BUSY_LIMIT,
        )
    except FetchFailed as error:
        log.warning("asking whether %s is busy: %s", config.id, error.seen)
        return False if error.stage == "refused" else None
    if not 200 <= reply.status < 300:
        log.warning("asking whether %s is busy: it answered %d", config.id, reply.status)
        return None
    return reply.truncated or says_busy(reply.body)


def says_busy(body: bytes) -> bool:
    """Whether a 2xx answer's body speaks of work. Empty, or without any of BUSY_KEYS: no work."""
    try:
        said: object = orjson.loads(body) if body.strip() else None
    except orjson.JSONDecodeError:
        return False
    if isinstance(said, dict):
        return any(_means_work(said.get(key)) for key in BUSY_KEYS)
    return _means_work(said)


def _means_work(value: object) -> bool:
    if isinstance(value, bool | list):
        return bool(value)
    return isinstance(value, int | float) and value > 0
