"""The engine's event stream, line by line: what happened to which container.

Knows the format of `GET /events` and nothing of backends or of how it was connected.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp

from launcher.drivers.inspected import COMPOSE_SERVICE
from launcher.errors import LauncherError

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
    """An open stream. `ping` raises where the engine is away; `away` makes the error for it."""

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
