"""Two clocks."""

from __future__ import annotations

import math

from launcher.control.clock import Clocks

CLOCKS = Clocks(now=lambda: 10.0, wall=lambda: 1_000.0)


def test_a_time_of_one_is_a_time_of_the_other() -> None:
    assert CLOCKS.wall_at(15.0) == 1_005.0
    assert CLOCKS.core_at(1_005.0) == 15.0


def test_what_never_comes_has_no_time_on_the_wall() -> None:
    assert CLOCKS.wall_at(math.inf) is None
    assert CLOCKS.core_at(None) == math.inf
