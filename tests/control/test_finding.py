"""What an operator names, and what is told of a name that nobody has."""

from __future__ import annotations

import pytest

from launcher.config import ModeConfig
from launcher.control.finding import find_mode, find_route
from launcher.errors import LauncherError
from tests.control.house import world
from tests.runtime.house import A


def test_by_name() -> None:
    mode = ModeConfig("llm", (A,), 60.0)
    config = world(modes=(mode,))
    assert find_route(config, "b") == config.routes[1]
    assert find_mode(config, "llm") == mode


def test_those_known_are_told() -> None:
    with pytest.raises(LauncherError, match="Known: a, b, c") as route:
        find_route(world(), "x")
    assert (route.value.code, route.value.param) == ("unknown_route", "route")
    with pytest.raises(LauncherError, match="Known: none") as mode:
        find_mode(world(), "x")
    assert (mode.value.code, mode.value.param) == ("unknown_mode", "mode")
