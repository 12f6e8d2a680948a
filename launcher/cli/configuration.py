"""Reading routes.toml for a command: all that is wrong with it, then exit code 2."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from launcher.cli.attending import WRONG, say

if TYPE_CHECKING:
    from launcher.config import LauncherConfig


def load(path: Path | None) -> LauncherConfig:
    """The configuration at a path, or where it is looked for."""
    from launcher.config.load import load_config
    from launcher.errors import ConfigError

    try:
        return load_config(None if path is None else str(path), os.environ)
    except ConfigError as error:
        for problem in error.problems:
            say(problem)
        count = len(error.problems)
        say(f"{count} {'problem' if count == 1 else 'problems'}")
        raise typer.Exit(WRONG) from None
