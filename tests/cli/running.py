"""The commands as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENVIRON = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("LAUNCHER_", "MAP__", "COLUMNS"))
} | {"COLUMNS": "150", "NO_COLOR": "1", "PYTHONPATH": os.getcwd()}

GOOD = """
[launcher]
state_file = ""
[routes.tiny]
command = ["true", "{port}"]
"""

BAD = """
[routes.metrics]
container = "x"
port = 8000
[routes.coder]
container = "coder"
prot = 8000
"""


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "launcher", *args]


def run(*args: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(
        command(*args),
        env=ENVIRON | environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
