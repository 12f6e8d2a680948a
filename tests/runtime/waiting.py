"""Waiting on a condition that nobody announces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(fits: Callable[[], object], within: float = 30.0, pace: float = 0.01) -> None:
    """Look every `pace` seconds until it fits; TimeoutError after `within`."""
    async with asyncio.timeout(within):
        while not fits():  # noqa: ASYNC110
            await asyncio.sleep(pace)
