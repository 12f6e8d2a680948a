"""What a waiting client can be told, read from a snapshot. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.core.types import BackendId, BackendSnapshot, BackendState, Snapshot
from launcher.runtime.admission import Progress

_GOING = (BackendState.DRAINING, BackendState.STOPPING)


def progress(snapshot: Snapshot, backends: Sequence[BackendId], asked_at: float) -> Progress:
    """Where a ticket for one of `backends` stands that waits since `asked_at`.

    Which of several backends it is bound to is the scheduler's secret: of those, one that is
    starting is taken to be it, else the first.
    """
    ours = [snapshot.backends[id] for id in backends]
    target = next((one for one in ours if one.state is BackendState.STARTING), ours[0])
    phase, expected = _stands(snapshot, target, asked_at)
    return Progress(target.id, phase, snapshot.now - asked_at, expected)


def _stands(
    snapshot: Snapshot, target: BackendSnapshot, asked_at: float
) -> tuple[str, float | None]:
    start = target.estimates.start
    if target.state is BackendState.STARTING:
        return "starting", _sum(max(0.0, target.since - asked_at), start)
    if target.state in _GOING:
        return f"waiting until {target.id} has stopped", None
    wanted = {name for name, _ in target.needs}
    in_the_way = [
        one
        for one in snapshot.backends.values()
        if one.state in _GOING and wanted & {name for name, _ in one.needs}
    ]
    if not in_the_way:
        return "queued", None
    names = ", ".join(one.id for one in in_the_way)
    if any(one.state is BackendState.DRAINING for one in in_the_way):
        return f"waiting for {names} to finish", None
    stops = [_sum(max(0.0, one.since - asked_at), one.estimates.stop) for one in in_the_way]
    known = [stop for stop in stops if stop is not None]
    expected = _sum(max(known), start) if len(known) == len(stops) else None
    return f"stopping {names} for it", expected


def _sum(seconds: float, more: float | None) -> float | None:
    return None if more is None else seconds + more
