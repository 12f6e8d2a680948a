"""What a Docker Engine says when it declines to start a container, and what to do about it."""

from __future__ import annotations

import re

from launcher.drivers.engine import EngineRefused
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
