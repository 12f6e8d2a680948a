"""One timer: the time set last is the one at which it rings."""

from __future__ import annotations

import asyncio
import math

from launcher.runtime.dispatcher import Timer
from tests.runtime.virtual_clock import virtual


@virtual
async def test_each_time_replaces_the_one_before() -> None:
    now = asyncio.get_running_loop().time
    rang: list[float] = []
    alarm = Timer(now, lambda: rang.append(now()))
    began = now()
    alarm.set(began + 5)
    alarm.set(began + 9)
    await asyncio.sleep(20)
    assert rang == [began + 9]
    alarm.set(now() - 3)  # in the past: at once
    await asyncio.sleep(0.001)
    assert len(rang) == 2
    alarm.set(now() + 1)
    alarm.set(math.inf)
    await asyncio.sleep(5)
    alarm.set(now() + 1)
    alarm.cancel()
    alarm.cancel()
    await asyncio.sleep(5)
    assert len(rang) == 2


@virtual
async def test_it_never_rings_early() -> None:
    """A loop whose timers are coarser than the clock wakes it too soon."""
    loop = asyncio.get_running_loop()
    rang: list[float] = []
    late = 0.0

    def clock() -> float:
        return loop.time() - late

    alarm = Timer(clock, lambda: rang.append(clock()))
    at = clock() + 1.0
    alarm.set(at)
    late = 0.0004
    await asyncio.sleep(2)
    assert len(rang) == 1
    assert rang[0] >= at
