"""Switches: make a route resident now, and if that fails, what was there before.

One runs at a time, the others wait in the order in which they were asked for: a rollback must
not meet another switch. A switch is written down before it is answered and before each of its
phases, so that one that a kill interrupted continues under its number.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from launcher import tasks
from launcher.config import LauncherConfig, RouteConfig
from launcher.control.base import Clocks, OperatorGate, check_exists, find_route
from launcher.control.leases import LeaseRegistry
from launcher.control.records import SWITCHES, RecordLog, Step, SwitchRecord, SwitchState
from launcher.core.effects import Action, Decided
from launcher.core.types import RESIDENT, BackendId, BackendState, Estimates, Failure, StopReason
from launcher.errors import LauncherError
from launcher.printable import seconds
from launcher.runtime.admission import Admission, Ask
from launcher.state.store import StateStore
from launcher.telemetry.facts import (
    Fact,
    Loading,
    StartBegan,
    StartEnded,
    StopBegan,
    StopEnded,
    StopStuck,
)

log = logging.getLogger(__name__)

#: States of a backend that is resident and not on its way out.
_STAYING = RESIDENT - {BackendState.STOPPING}

#: Seconds that a restore may take, its queue included.
RESTORE_TIMEOUT = 1800.0


class SwitchQueue:
    """Every switch, and the task that carries them out one after the other."""

    def __init__(
        self,
        config: LauncherConfig,
        gate: OperatorGate,
        leases: LeaseRegistry,
        store: StateStore,
        clocks: Clocks,
        on_begin: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_begin` is called when a switch begins to run."""
        self._config = config
        self._gate = gate
        self._leases = leases
        self._clocks = clocks
        self._on_begin = on_begin
        self._records: RecordLog[SwitchRecord] = RecordLog(SWITCHES, store, clocks.wall)
        self._over: dict[int, asyncio.Event] = {}
        self._recorder: StepRecorder | None = None
        self._current: int | None = None
        self._waiting: list[Admission] = []
        self._runner: asyncio.Task[None] | None = None
        self._closing = False

    def __repr__(self) -> str:
        return f"<SwitchQueue running={self._current} open={len(self._over)}>"

    # -- life

    def open(self) -> None:
        """Continue the switches of an earlier run."""
        for record in self._records.open():
            self._over[record.id] = asyncio.Event()
            if record.state is SwitchState.RUNNING:
                log.warning("switch %d to %s was interrupted: it goes on", record.id, record.route)
        self._run()

    async def close(self) -> None:
        """Leave the one that runs as it stands: the next run continues it."""
        self._closing = True
        await tasks.cancel(self._runner)

    def reconfigure(self, config: LauncherConfig) -> None:
        """Use another configuration from now on."""
        self._config = config

    def fact(self, fact: Fact) -> None:
        """Note what belongs to the switch that runs."""
        recorder, id = self._recorder, self._current
        if recorder is not None and id is not None and recorder.fact(fact):
            record = self.get(id)
            # Those that an earlier run stopped for this switch count too.
            gone = recorder.stopped.union(record.stopped)
            stopped = tuple(one for one in record.before if one in gone)
            self._put(
                record,
                steps=recorder.steps,
                stopped=record.stopped if recorder.restoring else stopped,
            )

    # -- requests

    def begin(self, route: str, *, force: bool = False, by: str | None = None) -> SwitchRecord:
        """Queue a switch. Raises `unknown_route`."""
        find_route(self._config, route)
        record = self._records.put(
            SwitchRecord(self._records.next_id(), route, self._clocks.wall(), by=by, force=force)
        )
        self._over[record.id] = asyncio.Event()
        self._run()
        return record

    async def over(self, id: int) -> SwitchRecord:
        """Wait for the end of a switch; return its record. Raises `unknown_switch`, and `draining`
        where the launcher ends before."""
        event = self._over.get(id)
        if event is not None:
            await event.wait()
        record = self.get(id)
        if not record.over:
            raise LauncherError(
                "draining",
                "The launcher is shutting down; it goes on with the switch when it is up.",
            )
        return record

    async def durable(self) -> None:
        """Wait until all changes are on the disk, if it can be written."""
        await self._records.durable()

    def get(self, id: int) -> SwitchRecord:
        """Return a switch. Raises `unknown_switch`; the last hundred that are over are kept."""
        record = self._records.get(id)
        if record is None:
            raise LauncherError("unknown_switch", f"There is no switch {id}, or not any more.")
        return record

    def all(self) -> list[SwitchRecord]:
        """Return all switches, the oldest first."""
        return self._records.all()

    def open_ones(self) -> list[SwitchRecord]:
        """Return the switches that run or are queued, the oldest first."""
        return self._records.open()

    def refusal(self, record: SwitchRecord, message: str | None = None) -> LauncherError:
        """Return the error for a switch whose target isn't resident."""
        failure = record.error or Failure("internal_error", f"The switch {outcome(record)}.")
        targets = self._targets(record.route)[:1]
        return self._leases.as_error(failure, self._leases.blocking(targets), message)

    def remaining(self, id: int) -> float | None:
        """Return the predicted seconds until the end of a switch, those before it included; None
        where that is unknown or it is over."""
        ahead: float | None = None
        for record in self.open_ones():
            if record.id == self._current:
                ahead = self._remaining_now()
            else:
                ahead = (ahead or 0.0) + self._typical(record.route)
            if record.id == id:
                return ahead
        return None

    def _remaining_now(self) -> float | None:
        """Return the predicted seconds until the end of the switch that runs."""
        waits = [one.progress().forecast for one in self._waiting if one.grant is None]
        return max((one.seconds for one in waits if one is not None), default=None)

    def _typical(self, name: str) -> float:
        """Return the usual duration of a switch that stops others and starts its target."""
        known = self._gate.snapshot().backends
        starts, stops = [0.0], [0.0]
        for one in self._config.backends:
            seen = known[one.id].estimates if one.id in known else Estimates()
            if one.id in self._targets(name)[:1]:
                starts.append(one.start_guess if seen.start is None else seen.start)
            elif one.id in known and known[one.id].state in _STAYING:
                stops.append(one.stop_guess if seen.stop is None else seen.stop)
        return max(starts) + max(stops)

    def wall(self) -> float:
        """Return the time on the records' clock, in seconds since 1970."""
        return self._clocks.wall()

    # -- one after the other

    def _run(self) -> None:
        if self._runner is None and self._over and not self._closing:
            self._runner = tasks.spawn(self._turns(), name="switches")

    async def _turns(self) -> None:
        try:
            while (found := next(iter(self._records.open()), None)) is not None:
                self._current = found.id
                try:
                    await self._turn(found)
                except Exception as error:
                    # A bug: those who wait must get an answer, and the next switch its turn.
                    log.error("switch %d failed", found.id, exc_info=error)
                    failure = Failure("internal_error", "The launcher failed; its log says how.")
                    self._finish(self.get(found.id), SwitchState.FAILED, error=failure)
                finally:
                    self._current = self._recorder = None
                if not self.get(found.id).over:
                    return  # the launcher ends
        finally:
            self._runner = None
            if self._ending:
                for event in self._over.values():
                    event.set()

    @property
    def _ending(self) -> bool:
        """Whether the launcher ends: failures from now on say nothing about the switch."""
        return self._closing or self._gate.snapshot().closed

    async def _turn(self, record: SwitchRecord) -> None:
        again = record.state is SwitchState.RUNNING
        targets = self._targets(record.route)
        self._recorder = StepRecorder(targets, self._clocks.wall, record.steps)
        if record.restoring:
            self._recorder.restore(record.stopped)
        self._on_begin()
        if not again:
            record = self._put(
                record,
                state=SwitchState.RUNNING,
                started_at=self._clocks.wall(),
                before=self._resident(targets),
            )
        if not record.restoring:
            # Before anything is stopped: the next run must know what to restore.
            await self._records.durable()
            error = await self._switch_over(record)
            record = self.get(record.id)
            if record.over or error is None or self._ending:
                return
            up = self._resident(())
            # An earlier run may have stopped some without writing it down.
            gone = [
                one for one in record.before if one in record.stopped or (again and one not in up)
            ]
            if not gone:
                self._finish(record, SwitchState.FAILED, error=_failure(error))
                return
            record = self._put(record, restoring=True, stopped=tuple(gone), error=_failure(error))
            # Requests that wait for it may start it before this switch does.
            self._recorder.restore(gone)
            await self._records.durable()
        await self._restore(record)

    async def _switch_over(self, record: SwitchRecord) -> LauncherError | None:
        """Make the target resident; return the error where that fails."""
        try:
            route = find_route(self._config, record.route)
            await check_exists(self._gate, route)
            if record.force:
                self._break_leases(record, route)
            async with self._asking([_ask(route.backends, route.queue_timeout)]) as (admission,):
                grant = await admission.granted()
        except LauncherError as error:
            if error.code == "leased":
                return self._leases.leased_error(self._leases.blocking(route.backends[:1]))
            return error
        self._finish(self.get(record.id), SwitchState.SUCCEEDED, backend=grant.backend)
        return None

    def _break_leases(self, record: SwitchRecord, route: RouteConfig) -> None:
        holders = self._leases.blocking(route.backends[:1])
        for one in holders:
            self._leases.break_lease(one.id, by=f"switch {record.id}")
        self._put(record, broke=(*record.broke, *(one.id for one in holders)))

    async def _restore(self, record: SwitchRecord) -> None:
        """Start again what was resident before, the last used first."""
        known = self._gate.snapshot().backends
        asks = [_ask((one,), RESTORE_TIMEOUT) for one in record.stopped if one in known]
        log.warning("switch %d to %s %s", record.id, record.route, outcome(record))
        failure: Failure | None = None
        async with self._asking(asks) as admissions:
            for admission in admissions:
                try:
                    await admission.granted()
                except LauncherError as error:
                    failure = failure or _failure(error)
        if self._ending:
            return
        if failure is None and len(asks) < len(record.stopped):
            failure = Failure("unknown_route", "Some of it is no longer configured.")
        state = SwitchState.ROLLED_BACK if failure is None else SwitchState.FAILED
        self._finish(self.get(record.id), state, restore_error=failure)

    @asynccontextmanager
    async def _asking(self, asks: Sequence[Ask]) -> AsyncIterator[list[Admission]]:
        """Hold tickets for backends until the block ends. After that the backends stay for their
        idle time, like any other."""
        with ExitStack() as held:
            self._waiting = [held.enter_context(self._gate.admit(ask)) for ask in asks]
            try:
                yield self._waiting
            finally:
                self._waiting = []

    def _finish(self, record: SwitchRecord, state: SwitchState, **more: Any) -> None:
        if self._recorder is not None:
            self._recorder.close()
            more["steps"] = self._recorder.steps
        record = self._put(record, state=state, finished_at=self._clocks.wall(), **more)
        level = logging.INFO if state is SwitchState.SUCCEEDED else logging.WARNING
        log.log(level, "switch %d to %s %s", record.id, record.route, outcome(record))
        self._over.pop(record.id).set()

    def _put(self, record: SwitchRecord, **changes: Any) -> SwitchRecord:
        return self._records.put(replace(record, **changes))

    def _targets(self, name: str) -> tuple[BackendId, ...]:
        return next((one.backends for one in self._config.routes if one.name == name), ())

    def _resident(self, targets: tuple[BackendId, ...]) -> tuple[BackendId, ...]:
        """Return what is resident beside the targets, the last used first; without reservations,
        which a switch can't restore."""
        known = self._gate.snapshot().backends
        ours = (one.id for one in self._config.backends if one.id not in targets)
        shots = [known[id] for id in ours if id in known and known[id].state in _STAYING]
        shots.sort(key=lambda one: (-(one.last_used or one.since), one.id))
        return tuple(one.id for one in shots)


def outcome(record: SwitchRecord) -> str:
    """Return how it stands, as the end of a sentence."""
    match record.state:
        case SwitchState.QUEUED:
            return "waits for its turn"
        case SwitchState.RUNNING if record.restoring:
            return f"failed; {_listed(record.stopped)} comes back"
        case SwitchState.RUNNING:
            open_steps = [step.name for step in record.steps if step.ended_at is None]
            return f"is under way: {', '.join(open_steps) or 'it waits for its place'}"
        case SwitchState.SUCCEEDED:
            return "succeeded"
        case SwitchState.ROLLED_BACK:
            return f"failed, and {_listed(record.stopped)} is back: {_message(record.error)}"
        case SwitchState.FAILED if record.restore_error is not None:
            return (
                f"failed: {_message(record.error)} Nor did {_listed(record.stopped)} come back: "
                f"{_message(record.restore_error)}"
            )
        case SwitchState.FAILED:
            return f"failed: {_message(record.error)}"


def _ask(backends: tuple[BackendId, ...], timeout: float) -> Ask:
    return Ask(backends, max_wait=0.0, queue_timeout=timeout, operator=True, urgent=True)


def _listed(ids: Iterable[BackendId]) -> str:
    return ", ".join(ids)


def _message(failure: Failure | None) -> str:
    return "" if failure is None else failure.message


def _failure(error: LauncherError) -> Failure:
    return Failure(error.code, error.message, error.detail)


class StepRecorder:
    """The steps of a switch to one of `targets`, or (`restoring`) back to all of them."""

    def __init__(
        self,
        targets: Iterable[BackendId],
        wall: Callable[[], float],
        steps: Iterable[Step] = (),
    ) -> None:
        """`steps` are those of an earlier run; one that was open then has ended with it."""
        self._targets = frozenset(targets)
        self._wall = wall
        self._steps = [_cut_short(step, wall) for step in steps]
        self._open: dict[str, int] = {}
        self._stopped: set[BackendId] = set()
        self.restoring = False

    @property
    def steps(self) -> tuple[Step, ...]:
        """In the order in which they began."""
        return tuple(self._steps)

    @property
    def stopped(self) -> frozenset[BackendId]:
        """Backends that were stopped for the targets."""
        return frozenset(self._stopped)

    def restore(self, targets: Iterable[BackendId]) -> None:
        """Record the restart of these backends from now on."""
        self._targets, self.restoring = frozenset(targets), True

    def close(self) -> None:
        """End the open steps: they are no longer waited for."""
        for name in list(self._open):
            self._end(name, ok=False, detail="it was not waited for to its end")

    def fact(self, fact: Fact) -> bool:
        """Record a fact; return whether it belongs to this switch."""
        before = len(self._steps), tuple(self._open)
        match fact:
            case Decided() if fact.wanted_by in self._targets:
                self._decided(fact)
            case Decided(action=Action.UNDRAIN, backend=id):
                self._end(f"drain {id}", ok=False, detail="its place is no longer wanted")
            case StopBegan(backend=id, reason=reason):
                if id in self._stopped:
                    self._begin(f"stop {id}")
                elif id in self._targets and reason is not StopReason.EVICTED:
                    self._begin(f"stop {id}", _WHY.get(reason))
            case StopStuck(backend=id, failure=failure):
                self._note(f"stop {id}", f"{failure.message} It is tried again.")
            case StopEnded(backend=id):
                self._end(f"stop {id}", ok=True)
            case StartBegan(backend=id, adopted=adopted) if id in self._targets:
                self._begin(self._start_of(id), "found running" if adopted else None)
            case Loading(backend=id) if id in self._targets:
                self._end(self._start_of(id), ok=True)
                self._begin(f"wait until {id} is healthy")
            case StartEnded() if fact.backend in self._targets:
                self._start_ended(fact)
            case _:
                pass
        return before != (len(self._steps), tuple(self._open))

    def _decided(self, what: Decided) -> None:
        name = f"drain {what.backend}"
        match what.action:
            case Action.DRAIN:
                self._begin(name)
            case Action.STOP:
                self._end(name, ok=True)
                self._stopped.add(what.backend)
            case _:
                pass

    def _start_of(self, id: BackendId) -> str:
        return f"restore {id}" if self.restoring else f"start {id}"

    def _start_ended(self, fact: StartEnded) -> None:
        ok = fact.outcome == "ready"
        failure = None if fact.failure is None else fact.failure.message
        detail = f"ready after {seconds(fact.seconds)}" if ok else failure or fact.outcome
        for name in (f"wait until {fact.backend} is healthy", self._start_of(fact.backend)):
            if name in self._open:
                self._end(name, ok=ok, detail=detail)

    def _begin(self, name: str, detail: str | None = None) -> None:
        self._open[name] = len(self._steps)
        self._steps.append(Step(name, self._wall(), detail=detail))

    def _note(self, name: str, detail: str) -> None:
        at = self._open.get(name)
        if at is not None:
            self._steps[at] = replace(self._steps[at], detail=detail)

    def _end(self, name: str, *, ok: bool, detail: str | None = None) -> None:
        at = self._open.pop(name, None)
        if at is not None:
            step = self._steps[at]
            self._steps[at] = replace(
                step, ended_at=self._wall(), ok=ok, detail=detail or step.detail
            )


def _cut_short(step: Step, wall: Callable[[], float]) -> Step:
    if step.ended_at is not None:
        return step
    return replace(step, ended_at=wall(), ok=False, detail="the launcher ended meanwhile")


_WHY = {
    StopReason.FAILED_START: "what may be left of the start that failed",
    StopReason.OPERATOR: "an operator asked",
    StopReason.HUNG: "it hung",
    StopReason.REMOVED: "the configuration no longer has it",
}
