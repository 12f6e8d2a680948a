"""Whether a backend that is believed ready still answers, and whether it has work of its own.

Nobody is probed for the sake of it: only a backend that refused, or kept silent, is suspect.
"""

from __future__ import annotations

import asyncio

from launcher.core.events import Busy, Hung
from launcher.core.types import BackendState
from launcher.errors import LauncherError
from launcher.runtime.admission import Grant
from launcher.runtime.handle import Clock, Held, Shell
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

    async def suspect(self, held: Held, grant: Grant) -> bool:
        """See `Gate.suspect`. Callers share one look; one that leaves doesn't end it."""
        if grant.epoch <= held.born or not self._up(held):
            return False
        if held.suspicion is None or held.suspicion.done():
            held.suspicion = self._shell.spawn(self._look(held, held.born), f"suspect {held.id}")
        look = held.suspicion
        await asyncio.wait({look})
        if look.cancelled():
            return False
        alive = look.result()
        if alive is None:
            why = self._reconciler.health().get(held.driver.name) or "it doesn't answer"
            raise LauncherError(
                "docker_unavailable",
                f"{held.id} takes no connections, and nobody can see to it: {why}",
            )
        return alive

    async def _look(self, held: Held, born: int) -> bool | None:
        """Whether it is alive; None where nobody is there and its engine doesn't say why."""
        give_up = self._clock() + DEATH_SHOWS_WITHIN
        while self._same(held, born):
            seen = await self._reconciler.observe(held)
            if not self._same(held, born):
                return False
            if seen is None or (seen.running and seen.instance == held.instance):
                verdict = await self._ask(held)
                if verdict.ready or verdict.answered or verdict.silent or self._clock() >= give_up:
                    # It runs. If it doesn't serve, the rounds of probes will tell.
                    if not verdict.ready:
                        self._watch(held)
                    if seen is None and not (verdict.ready or verdict.answered or verdict.silent):
                        return None
                    return self._same(held, born)
            await asyncio.sleep(LOOK_EVERY)
        return False

    def watch_silence(self, held: Held, grant: Grant) -> None:
        """See `Gate.watch_silence`."""
        if grant.epoch > held.born and self._up(held):
            self._watch(held)

    def _watch(self, held: Held) -> None:
        if held.silence is None or held.silence.done():
            held.silence = self._shell.spawn(
                self._rounds(held, held.born), f"liveness of {held.id}"
            )

    async def _rounds(self, held: Held, born: int) -> None:
        for round_ in range(ROUNDS):
            if round_:
                await asyncio.sleep(BETWEEN)
            if not self._same(held, born):
                return
            verdict = await self._ask(held)
            # A key that is refused was answered by somebody who lives.
            if verdict.ready or verdict.fatal is not None:
                return
        if self._same(held, born):
            self._shell.feed(Hung(held.id, self._shell.epoch(held.id)))

    def ask_busy(self, held: Held, epoch: int) -> None:
        """Ask the `busy` path; feeds Busy with `epoch`."""
        held.asking = self._shell.spawn(
            self._ask_busy(held, epoch, held.asking), f"ask whether {held.id} is busy"
        )

    async def _ask_busy(self, held: Held, epoch: int, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            # One question at a time; the count of unanswered ones is kept in order.
            await asyncio.wait({before})
        endpoint = held.endpoint
        said: bool | None = False
        if endpoint is not None and held.config.busy is not None:
            said = await ask_busy(held.config, endpoint)
        held.busy_unanswered = held.busy_unanswered + 1 if said is None else 0
        if said is None:
            said = held.busy_unanswered < BUSY_PATIENCE
        self._shell.feed(Busy(held.id, epoch, said))

    async def _ask(self, held: Held) -> Verdict:
        if held.endpoint is None:
            return Verdict(False, "it has no endpoint")
        return await self._probe.probe(held.config, held.endpoint)

    def _up(self, held: Held) -> bool:
        return self._shell.state(held.id) in _UP and not held.operations

    def _same(self, held: Held, born: int) -> bool:
        """It is still up, and still what it was."""
        return held.born == born and self._up(held)
