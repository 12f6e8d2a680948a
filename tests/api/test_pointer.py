"""`GET /`."""

from __future__ import annotations

from launcher.api.assembly import described
from launcher.api.pointer import Pointer
from tests.api.world import read, request


async def test_it_points_to_what_there_is() -> None:
    paths = {one.path for one in described()}

    assert set(read(await Pointer().show(request()))["see"]) < paths
