"""Whether a backend that is believed ready still answers, and whether it has work of its own.

Nobody is probed for the sake of it: only a backend that refused, or kept silent, is suspect.
"""

from __future__ import annotations

import asyncio

from launcher.core.events import Busy, Hung
from launcher.core.types import BackendState
from launcher.errors import LauncherError
from launcher.runtime.admission import Grant
from launcher.runtime.handle import BackendHandle, Clock, Shell
from launcher.runtime.probe import BUSY_PATIENCE, Probe, Verdict, ask_busy
from launcher.runtime.reconcile import Reconciler

#: Failed probes in a row that make a backend hung, and the seconds between them.
ROUNDS = 3
BETWEEN = 10.0
#: A process that dies closes its sockets before its engine knows: seconds in which one that
#: refuses is looked at again before it is taken to run without listening.
DEATH_SHOWS_WITHIN = 1.0
LOOK_EVERY = 0.05

_UP = (BackendState.READY, BackendState.DRAINING)


class Liveness:
    """Looks, probes and questions at backends that are up."""

    def __init__(self, shell: Shell, probe: Probe, reconciler: Reconciler, clock: Clock) -> None:
        self._shell = shell
        self._probe = probe
        self._reconciler = reconciler
        self._clock = clock

    async def suspect(self, handle: BackendHandle, grant: Grant) -> bool:
        """See `Admitter.suspect`. Callers share one look; one that leaves doesn't end it."""
        if grant.epoch <= handle.ready_epoch or not self._up(handle):
            return False
        if handle.suspicion is None or handle.suspicion.done():
            handle.suspicion = self._shell.spawn(
                self._look(handle, handle.ready_epoch), f"suspect {handle.id}"
            )
        look = handle.suspicion
        await asyncio.wait({look})
        if look.cancelled():
            return False
        alive = look.result()
        if alive is None:
            why = self._reconciler.health().get(handle.driver.name) or "it doesn't answer"
            raise LauncherError(
                "docker_unavailable",
                f"{handle.id} takes no connections, and nobody can see to it: {why}",
            )
        return alive

    async def _look(self, handle: BackendHandle, ready_epoch: int) -> bool | None:
        """Whether it is alive; None where nobody is there and its engine doesn't say why."""
        give_up = self._clock() + DEATH_SHOWS_WITHIN
        while self._same(handle, ready_epoch):
            seen = await self._reconciler.observe(handle)
            if not self._same(handle, ready_epoch):
                return False
            if seen is None or (seen.running and seen.instance == handle.instance):
                verdict = await self._ask(handle)
                if verdict.ready or verdict.answered or verdict.silent or self._clock() >= give_up:
                    # It runs. If it doesn't serve, the rounds of probes will tell.
                    if not verdict.ready:
                        self._watch(handle)
                    if seen is None and not (verdict.ready or verdict.answered or verdict.silent):
                        return None
                    return self._same(handle, ready_epoch)
            await asyncio.sleep(LOOK_EVERY)
        return False

    def watch_silence(self, handle: BackendHandle, grant: Grant) -> None:
        """See `Admitter.watch_silence`."""
        if grant.epoch > handle.ready_epoch and self._up(handle):
            self._watch(handle)

    def _watch(self, handle: BackendHandle) -> None:
        if handle.silence is None or handle.silence.done():
            handle.silence = self._shell.spawn(
                self._rounds(handle, handle.ready_epoch), f"liveness of {handle.id}"
            )

    async def _rounds(self, handle: BackendHandle, ready_epoch: int) -> None:
        for round_ in range(ROUNDS):
            if round_:
                await asyncio.sleep(BETWEEN)
            if not self._same(handle, ready_epoch):
                return
            verdict = await self._ask(handle)
            # A key that is refused was answered by somebody who lives.
            if verdict.ready or verdict.fatal is not None:
                return
        if self._same(handle, ready_epoch):
            self._shell.feed(Hung(handle.id, self._shell.epoch(handle.id)))

    def ask_busy(self, handle: BackendHandle, epoch: int) -> None:
        """Ask the `busy` path; feeds Busy with `epoch`."""
        handle.asking = self._shell.spawn(
            self._ask_busy(handle, epoch, handle.asking), f"ask whether {handle.id} is busy"
        )

    async def _ask_busy(
        self, handle: BackendHandle, epoch: int, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None and not before.done():
            # One question at a time; the count of unanswered ones is kept in order.
            await asyncio.wait({before})
        endpoint = handle.endpoint
        said: bool | None = False
        if endpoint is not None and handle.config.busy is not None:
            said = await ask_busy(handle.config, endpoint)
        handle.busy_unanswered = handle.busy_unanswered + 1 if said is None else 0
        if said is None:
            said = handle.busy_unanswered < BUSY_PATIENCE
        self._shell.feed(Busy(handle.id, epoch, said))

    async def _ask(self, handle: BackendHandle) -> Verdict:
        if handle.endpoint is None:
            return Verdict(False, "it has no endpoint")
        return await self._probe.probe(handle.config, handle.endpoint)

    def _up(self, handle: BackendHandle) -> bool:
        return self._shell.state(handle.id) in _UP and not handle.operations

    def _same(self, handle: BackendHandle, ready_epoch: int) -> bool:
        """It is still up, and still what it was."""
        return handle.ready_epoch == ready_epoch and self._up(handle)
