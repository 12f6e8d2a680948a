"""Which leases have to go."""

from __future__ import annotations

import math

import pytest

from launcher.control.fitting import Claimed, fits, in_the_way
from launcher.core.types import BackendId, Needs, needs

GPU = needs(gpu=2, vram=24)


def claim(*names: str, **units: int) -> dict[BackendId, Needs]:
    return {BackendId(name): needs(**units) for name in names}


def test_what_is_claimed_twice_counts_once() -> None:
    assert fits(GPU, [claim("a", gpu=2), claim("a", gpu=2)])
    assert not fits(GPU, [claim("a", gpu=2), claim("b", gpu=1)])
    assert fits(GPU, [claim("a", gpu=2), claim("b")])
    assert not fits(GPU, [claim("a", disk=1)])


@pytest.mark.parametrize(
    ("wanted", "gone"),
    [
        (claim("x", gpu=1), []),
        (claim("x", vram=24), [2, 1]),
        (claim("x", gpu=2), [2]),
        (claim("x", vram=10), [2]),
        (claim("x", vram=14), [1]),
        (claim("b", vram=10, gpu=1), []),
        (claim("x", gpu=3), []),
    ],
    ids=["fits", "all", "who ends first", "is enough", "not who could stay", "shared", "never"],
)
def test_the_fewest_go_and_those_first_that_end_first(
    wanted: dict[BackendId, Needs], gone: list[int]
) -> None:
    leases = [
        Claimed(1, claim("a", vram=14), 500.0),
        Claimed(2, claim("b", vram=10, gpu=1), 100.0),
    ]
    assert in_the_way(GPU, wanted, leases) == gone


def test_a_pin_goes_last() -> None:
    leases = [Claimed(1, claim("a", gpu=1), math.inf), Claimed(2, claim("b", gpu=1), 9e9)]
    assert in_the_way(GPU, claim("x", gpu=1), leases) == [2]
