"""Who waits, and who is told at once."""

from __future__ import annotations

import asyncio

import pytest

from launcher.api.patience import AT_ONCE, settle
from launcher.errors import LauncherError
from tests.runtime.virtual_clock import virtual


@virtual
async def test_who_waits_waits_to_the_end() -> None:
    began = asyncio.get_running_loop().time()
    await settle(asyncio.sleep(1000), wait=True)
    assert asyncio.get_running_loop().time() - began == pytest.approx(1000)


@virtual
async def test_who_does_not_is_told_what_is_decided_at_once() -> None:
    began = asyncio.get_running_loop().time()
    await settle(asyncio.sleep(1000), wait=False)
    assert asyncio.get_running_loop().time() - began == pytest.approx(AT_ONCE)

    async def refused() -> None:
        raise LauncherError("leased", "Somebody holds it.")

    with pytest.raises(LauncherError):
        await settle(refused(), wait=False)
