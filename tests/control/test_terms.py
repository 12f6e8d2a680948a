"""What a lease may ask for."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from launcher.control.terms import check_needs, check_term
from launcher.core.types import Needs, needs
from launcher.errors import LauncherError
from tests.control.house import world

CONFIG = replace(world(capacity=(("gpu", 2), ("vram", 24))), max_lease=600.0)


@pytest.mark.parametrize("ttl", [0.5, 600.0])
def test_up_to_the_bound(ttl: float) -> None:
    check_term(CONFIG, ttl)


@pytest.mark.parametrize("ttl", [0.0, -5.0, 600.1, math.inf, math.nan])
def test_beyond_it_the_bound_is_told(ttl: float) -> None:
    with pytest.raises(LauncherError, match="at most 600 s") as refused:
        check_term(CONFIG, ttl)
    assert (refused.value.code, refused.value.param) == ("invalid_request", "ttl")


def test_what_fits_alone_may_be_had() -> None:
    check_needs(CONFIG, needs(vram=24, gpu=1))


@pytest.mark.parametrize("wanted", [(), needs(gpu=3), needs(disk=1), needs(gpu=-1)])
def test_what_can_never_be_had_is_refused(wanted: Needs) -> None:
    with pytest.raises(LauncherError, match="the capacity is gpu = 2, vram = 24") as refused:
        check_needs(CONFIG, wanted)
    assert refused.value.param == "needs"
