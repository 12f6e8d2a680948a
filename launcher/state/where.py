"""Where the state file stands."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

#: Where a container keeps its state, if it may.
CONTAINER_DIR = Path("/var/lib/launcher")


def path_for(state_file: str | None, environ: Mapping[str, str]) -> Path | None:
    """The file to use: as configured, none for "", else `launcher.db` in the place that the
    system has for it (in a container /var/lib/launcher, where that is writable)."""
    if state_file is not None:
        return Path(state_file).expanduser() if state_file else None
    contained = Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
    if contained and os.access(CONTAINER_DIR, os.W_OK):
        return CONTAINER_DIR / "launcher.db"
    home = environ.get("XDG_STATE_HOME", "")
    if not home.startswith("/"):  # the XDG specification: a relative path is to be ignored
        try:
            home = str(Path.home() / ".local" / "state")
        except RuntimeError:
            return None
    return Path(home) / "launcher" / "launcher.db"
