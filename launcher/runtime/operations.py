"""Start, Adopt and Stop as tasks, whose outcomes are fed back with the epoch of the effect.

Decides nothing. One operation per backend is under way, but for a Stop that waits for the
start it cancels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from launcher.core.effects import Adopt, Start, Stop
from launcher.core.events import Event, Launched, Started, StartFailed, StopFailed, Stopped
from launcher.core.types import Failure
from launcher.runtime.held import Clock, Held, Shell
from launcher.runtime.reconcile import Reconciler
from launcher.runtime.starter import Ready, Starter


class Operations:
    """What is under way at backends."""

    def __init__(
        self, shell: Shell, starter: Starter, reconciler: Reconciler, clock: Clock
    ) -> None:
        self._shell = shell
        self._starter = starter
        self._reconciler = reconciler
        self._clock = clock

    def start(self, held: Held, effect: Start | Adopt, now: float) -> None:
        """Begin a Start or an Adopt."""
        held.start_begins(now)
        held.busy_unanswered = 0
        adopted = isinstance(effect, Adopt)

        def runs() -> None:
            self._shell.feed(Launched(held.id, effect.epoch))

        async def run() -> Event:
            try:
                if adopted:
                    result = await self._starter.adopt(held, effect.deadline)
                else:
                    result = await self._starter.start(held, effect.deadline, runs)
            finally:
                held.start_ended = self._clock()
            if isinstance(result, Failure):
                return StartFailed(held.id, effect.epoch, result)
            return self._became_ready(held, effect.epoch, result)

        self._operate(held, run, f"{'adopt' if adopted else 'start'} {held.id}")

    def stop(self, held: Held, effect: Stop) -> None:
        """Begin a Stop. What else is under way at this backend is cancelled first and waited
        for: a start that comes after the stop would outlive it."""
        others = tuple(held.operations)

        async def run() -> Event:
            failure = await self._starter.stop(held, others)
            if failure is not None:
                return StopFailed(held.id, effect.epoch, failure)
            return Stopped(held.id, effect.epoch)

        self._operate(held, run, f"stop {held.id}")

    def _became_ready(self, held: Held, epoch: int, ready: Ready) -> Started:
        # The scheduler ignores an outcome that comes too late; so must what grants carry.
        if epoch == self._shell.epoch(held.id):
            held.endpoint, held.instance, held.born = ready.endpoint, ready.instance, epoch
        return Started(held.id, epoch, ready.instance)

    def _operate(self, held: Held, run: Callable[[], Awaitable[Event]], name: str) -> None:
        async def operate() -> None:
            outcome = await run()
            task = asyncio.current_task()
            assert task is not None
            # Before the outcome is fed: what comes of it may be the next operation.
            held.operations.discard(task)
            self._shell.feed(outcome)
            if held.look_again and not held.operations:
                self._reconciler.look(held)

        task = self._shell.spawn(operate(), name)
        held.operations.add(task)
        task.add_done_callback(held.operations.discard)
