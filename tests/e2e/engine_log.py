"""What really ran and when, by the engine's own event log."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from tests.drivers import images


@dataclass(frozen=True)
class Moment:
    """A container started or ended."""

    at: float
    container: str
    running: bool


def moments(since: float, *containers: str) -> list[Moment]:
    """Starts and ends of these containers since a time, in order."""
    wanted = [word for name in containers for word in ("--filter", f"container={name}")]
    until = f"{time.time():.3f}"
    listed = images.docker(
        "events", "--since", f"{since:.3f}", "--until", until, "--format", "{{json .}}", *wanted
    )
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
