"""The last decisions of the scheduler, and each as a sentence: why was my model stopped?"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from launcher.core.effects import Action, Decided
from launcher.core.types import BackendId
from launcher.printable import seconds
from launcher.telemetry.facts import Fact

#: How many are kept.
MAX_DECISIONS = 1000


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision as it was kept."""

    number: int
    """Counts from 1, over restarts as well."""
    at: float
    """Seconds since 1970."""
    what: Decided
    times: int = 1
    """How often in a row, where it is a refusal: a health check asks every few seconds."""


Keep = Callable[[Decision, int | None], None]
"""Called with each decision that is new or has changed, and the number of the one that is
dropped for it, if any."""


class DecisionLog:
    """The last `MAX_DECISIONS` decisions. `kept` are those of earlier runs, the oldest first."""

    def __init__(
        self,
        kept: Iterable[Decision] = (),
        keep: Keep | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._kept: deque[Decision] = deque(kept, maxlen=MAX_DECISIONS)
        self._keep = keep
        self._wall = wall

    def fact(self, fact: Fact) -> None:
        """Keep the fact, if it is a decision. A subscriber of `FactPublisher`."""
        if isinstance(fact, Decided):
            last = self._kept[-1] if self._kept else None
            gone = None
            if last is not None and _same_refusal(last.what, fact):
                new = self._kept[-1] = Decision(last.number, self._wall(), fact, last.times + 1)
            else:
                gone = self._kept[0].number if len(self._kept) == MAX_DECISIONS else None
                number = 1 if last is None else last.number + 1
                new = Decision(number, self._wall(), fact)
                self._kept.append(new)
            if self._keep is not None:
                self._keep(new, gone)

    def newest(self, backend: BackendId | None = None) -> Iterator[Decision]:
        """Yield the newest first; with `backend` only those about it, for it, or at its cost."""
        for one in reversed(self._kept):
            what = one.what
            if backend is None or backend in (what.backend, what.wanted_by, *what.pays):
                yield one


def _same_refusal(one: Decided, other: Decided) -> bool:
    return (
        one.action is other.action is Action.REJECT
        and one.backend == other.backend
        and one.why == other.why
    )


_VERBS: dict[Action, str] = {
    Action.START: "starts",
    Action.STOP: "stops",
    Action.DRAIN: "drains",
    Action.UNDRAIN: "serves on with",
    Action.REJECT: "rejects a request for",
}

#: How somebody waits for whom others have to go, by the scheduler's word for the reason.
_WAITS: dict[str, str] = {"overdue": "waits too long", "ordered": "waits by an operator's order"}

#: The scheduler's words for a reason, where a person would use others.
_REASONS: dict[str, str] = {
    "idle": "it was idle",
    "operator": "an operator asked",
    "failed_start": "its start failed",
    "hung": "it hung",
    "surplus": "more runs than fits",
    "removed": "the configuration no longer has it",
    "configured": "it is configured after all",
    "replaced": "the configuration has another in its place",
    "leased": "it is leased",
    "prewarm": "it is to be prewarmed",
    "found running": "it was found running",
    "restarted": "somebody else restarted it",
    "no longer wanted": "its place is no longer wanted",
}


def sentence(what: Decided) -> str:
    """Return a decision as a sentence, such as `stops chat: coder waits for its place
    (3 requests, the oldest for 61 s); expected to cost 41 s`."""
    text = f"{_VERBS[what.action]} {what.backend}: {_reason(what)}"
    if what.action is Action.START and what.pays:
        text += f", in the place of {', '.join(what.pays)}"
    if what.cost is not None and (what.action is Action.START or what.wanted_by is not None):
        verb = "take" if what.action is Action.START else "cost"
        text += f"; expected to {verb} {seconds(what.cost)}"
    return text


def _reason(what: Decided) -> str:
    if what.action is Action.START and what.why == "wanted":
        return _waiting(what) or "it is wanted"
    if what.action in (Action.STOP, Action.DRAIN) and what.wanted_by is not None:
        overdue = _WAITS.get(what.why, "waits")
        behind = f" ({waiting})" if (waiting := _waiting(what)) else ""
        return f"{what.wanted_by} {overdue} for its place{behind}"
    if what.why == "evicted":
        return "to make room"
    return _REASONS.get(what.why, what.why)


def _waiting(what: Decided) -> str:
    if not what.waiting:
        return ""
    some = "1 request" if what.waiting == 1 else f"{what.waiting} requests"
    if what.action is Action.START:
        some += " waiting"
    if what.waited is None or what.waited < 1:
        return some
    if what.waiting > 1:
        return f"{some}, the oldest for {seconds(what.waited)}"
    comma = "" if what.action is Action.START else ","
    return f"{some}{comma} for {seconds(what.waited)}"
