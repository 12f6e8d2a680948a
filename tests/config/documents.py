"""Loading a configuration written in the test, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.config import LauncherConfig
from launcher.config.load import load_config
from launcher.errors import ConfigError


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> LauncherConfig:
    """The configuration of a routes.toml with this text and this environment."""
    path = folder / "routes.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(str(path), environ or {})


def problems(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with it, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]
