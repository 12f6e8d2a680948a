"""What really ran and when, by the engine's own event log."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tests.drivers import images
from tests.e2e.serving import until


@dataclass(frozen=True)
class Moment:
    """A container started or ended."""

    at: float
    container: str
    running: bool


def moments(since: float, *containers: str) -> list[Moment]:
    """Starts and ends of these containers since a time, in order. The engine remembers its
    last 256 events, of all containers and networks: `Following` sees the rest as well."""
    end = f"{time.time():.3f}"
    return _moments(images.docker(*_events(since, containers), "--until", end))


class Following:
    """Keeps the starts and ends of these containers as the engine tells of them."""

    def __init__(self, *containers: str) -> None:
        self._containers = containers
        self._marks = 0

    def __enter__(self) -> Self:
        self._file = tempfile.TemporaryFile("w+b")
        self._client = subprocess.Popen(
            ["docker", *_events(time.time(), self._containers)],
            stdin=subprocess.DEVNULL,
            stdout=self._file,
        )
        self.moments()  # It listens; an event from now on isn't missed.
        return self

    def __exit__(self, *_: object) -> None:
        self._client.terminate()
        self._client.wait()
        self._file.close()

    def moments(self) -> list[Moment]:
        """All up to now, in order."""
        # An update that changes nothing is an event as well: what happened before it has
        # arrived when it has.
        images.docker("update", "--restart", "no", self._containers[0])
        self._marks += 1
        return _moments(until(self._marked, "the engine tells of the update"))

    def _marked(self) -> str:
        """All that was told, once it holds every mark."""
        assert self._client.poll() is None, "docker events has ended"
        size = os.fstat(self._file.fileno()).st_size
        told = os.pread(self._file.fileno(), size, 0).decode()
        marked = told.count('"Action":"update"') >= self._marks
        return told if marked and told.endswith("\n") else ""


def _events(since: float, containers: Sequence[str]) -> list[str]:
    """The words of a `docker events`."""
    wanted = [word for name in containers for word in ("--filter", f"container={name}")]
    return ["events", "--since", f"{since:.3f}", "--format", "{{json .}}", *wanted]


def _moments(listed: str) -> list[Moment]:
    found = []
    for line in listed.splitlines():
        event = json.loads(line)
        if event["Action"] in ("start", "die"):
            name = event["Actor"]["Attributes"]["name"]
            found.append(Moment(event["timeNano"] / 1e9, name, event["Action"] == "start"))
    return sorted(found, key=lambda one: one.at)


def most_at_once(found: list[Moment]) -> int:
    """How many ran at the same time at most."""
    up: set[str] = set()
    most = 0
    for one in found:
        (up.add if one.running else up.discard)(one.container)
        most = max(most, len(up))
    return most
