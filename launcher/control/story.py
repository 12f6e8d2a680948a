"""What happens for one switch, as steps: the facts that belong to it, in an operator's words.

Listens, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from launcher.control.records import Step
from launcher.core.effects import Action, Decided
from launcher.core.types import BackendId, StopReason
from launcher.printable import seconds
from launcher.telemetry.facts import (
    Fact,
    Loading,
    StartBegan,
    StartEnded,
    StopBegan,
    StopEnded,
    StopStuck,
)


class Story:
    """The steps of a switch to one of `targets`, or (`restoring`) back to all of them."""

    def __init__(
        self,
        targets: Iterable[BackendId],
        wall: Callable[[], float],
        steps: Iterable[Step] = (),
    ) -> None:
        """`steps`: those of an earlier run; what was under way then ended with it, or goes on
        as a step of this one."""
        self._targets = frozenset(targets)
        self._wall = wall
        self._steps = [_cut_short(step, wall) for step in steps]
        self._open: dict[str, int] = {}
        self._going: set[BackendId] = set()
        self.restoring = False

    @property
    def steps(self) -> tuple[Step, ...]:
        """In the order in which they began."""
        return tuple(self._steps)

    @property
    def stopped(self) -> frozenset[BackendId]:
        """What was told to stop for the sake of the targets."""
        return frozenset(self._going)

    def restore(self, targets: Iterable[BackendId]) -> None:
        """From now on it is about these."""
        self._targets, self.restoring = frozenset(targets), True

    def close(self) -> None:
        """What still goes on is no longer waited for."""
        for name in list(self._open):
            self._end(name, ok=False, detail="it was not waited for to its end")

    def fact(self, fact: Fact) -> bool:
        """Something happened; whether it belongs here."""
        before = len(self._steps), tuple(self._open)
        match fact:
            case Decided() if fact.wanted_by in self._targets:
                self._decided(fact)
            case Decided(action=Action.UNDRAIN, backend=id):
                self._end(f"drain {id}", ok=False, detail="its place is no longer wanted")
            case StopBegan(backend=id, reason=reason):
                if id in self._going:
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
                self._going.add(what.backend)
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
