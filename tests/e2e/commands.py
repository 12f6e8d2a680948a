"""The launcher's commands as an operator runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.serving import PATIENCE, ROOT

CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("LAUNCHER_", "MAP__", "COLUMNS"))
} | {"COLUMNS": "200", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}


def run(
    *args: str, url: str = "", cwd: Path = ROOT, **env: str
) -> subprocess.CompletedProcess[str]:
    """A command to its end; `url` is where the launcher answers."""
    return subprocess.run(
        [sys.executable, "-m", "launcher", *args],
        env=CLEAN | ({"LAUNCHER_URL": url} if url else {}) | env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
