"""What an operator names, and what is told of a name that nobody has."""

from __future__ import annotations

import math

import pytest

from launcher.config import ModeConfig
from launcher.control.base import Clocks, find_mode, find_route
from launcher.errors import LauncherError
from tests.control.house import world
from tests.runtime.house import A


def test_by_name() -> None:
    mode = ModeConfig("llm", (A,), 60.0)
    config = world(modes=(mode,))
    assert find_route(config, "b") == config.routes[1]
    assert find_mode(config, "llm") == mode


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(LauncherError, match="Known: a, b, c") as route:
        find_route(world(), "x")
    assert (route.value.code, route.value.param) == ("unknown_route", "route")
    with pytest.raises(LauncherError, match="Known: none") as mode:
        find_mode(world(), "x")
    assert (mode.value.code, mode.value.param) == ("unknown_mode", "mode")


CLOCKS = Clocks(now=lambda: 10.0, wall=lambda: 1_000.0)


def test_clocks_convert_both_ways() -> None:
    assert CLOCKS.wall_at(15.0) == 1_005.0
    assert CLOCKS.core_at(1_005.0) == 15.0


def test_infinity_has_no_wall_clock_time() -> None:
    assert CLOCKS.wall_at(math.inf) is None
    assert CLOCKS.core_at(None) == math.inf
