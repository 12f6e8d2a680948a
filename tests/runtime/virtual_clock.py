"""An event loop whose time jumps to the next timer when nothing else is to be done.

For tests without sockets: ten minutes of idling take none. A loop with nothing to wait for
at all would hang for ever; here that raises.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class Stuck(RuntimeError):
    """No timer and nothing ready: the test waits for what can't come."""


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Stuck("nothing is scheduled and nothing is ready")
        self.now += timeout
        return []


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 1000 and passes only when all is quiet."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        # What `call_at` was given and what a jump adds up to may differ in the last bit.
        return round(1000.0 + self._jumping.now, 9)


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test under the virtual clock, and see that no task outlives it."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def checked() -> None:
            await test(*args, **kwargs)
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            assert not rest, f"tasks left behind: {sorted(t.get_name() for t in rest)}"

        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(checked())

    return run
