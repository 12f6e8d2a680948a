"""What keeps a container from being started, stopped or found, in words, with advice."""

from __future__ import annotations

import re
from collections.abc import Iterable

from launcher.drivers.engine import EngineRefused, Listed
from launcher.drivers.inspected import COMPOSE_PROJECT, Container
from launcher.errors import LauncherError

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
    """Who starts it, as far as it can be told."""
    text = f"Container {container.name!r} was stopped and runs again, {times} times: "
    if container.restart_policy in ("", "no"):
        return f"{text}somebody starts it (`docker events` shows when)."
    return (
        f"{text}its restart policy is {container.restart_policy!r}, and something starts it. Set "
        f'the policy to "no" (docker update --restart no {container.name}).'
    )


def absent(name: str) -> LauncherError:
    """Nothing answers to the name."""
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
