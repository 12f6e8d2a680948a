"""How long a caller is kept waiting for what was asked of the launcher."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

#: Seconds in which what is decided at once is told to those who don't wait.
AT_ONCE = 0.1


async def settle(coming: Awaitable[object], *, wait: bool) -> None:
    """Wait until it has come. Without `wait` only for what is decided at once: it is up already,
    somebody holds the place, there is no such container."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None if wait else AT_ONCE):
            await coming
