"""What a waiting client can be told: the stage, read from a snapshot, and the forecast. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from launcher.core.types import BackendId, BackendSnapshot, BackendState, Forecast, Snapshot
from launcher.runtime.admission import Progress

_GOING = (BackendState.DRAINING, BackendState.STOPPING)


def progress(
    snapshot: Snapshot,
    backends: Sequence[BackendId],
    asked_at: float,
    forecast: Forecast | None,
) -> Progress:
    """Where a ticket for one of `backends` stands that waits since `asked_at`; `forecast` is
    the scheduler's for it.

    Which of several backends it is bound to is the scheduler's secret: of those, one that is
    starting is taken to be it, else the first.
    """
    ours = [snapshot.backends[id] for id in backends if id in snapshot.backends]
    if not ours:  # a reload has just taken them away, and their holder is about to hear of it
        return Progress(backends[0], "queued", snapshot.now - asked_at, None)
    target = next((one for one in ours if one.state is BackendState.STARTING), ours[0])
    if forecast is not None and not math.isfinite(forecast.seconds):
        forecast = None
    return Progress(
        target.id,
        _stage(snapshot, target),
        snapshot.now - asked_at,
        forecast,
        cold=target.state is not BackendState.READY,
    )


def _stage(snapshot: Snapshot, target: BackendSnapshot) -> str:
    if target.state is BackendState.STARTING:
        return "starting"
    if target.state in _GOING:
        return f"waiting until {target.id} has stopped"
    if target.blocked_by and target.state is not BackendState.READY:
        return f"waiting for the lease on {', '.join(target.blocked_by)} to end"
    wanted = {name for name, _ in target.needs}
    in_the_way = [
        one
        for one in snapshot.backends.values()
        if one.state in _GOING and wanted & {name for name, _ in one.needs}
    ]
    if target.state is BackendState.READY or not in_the_way:
        return "queued"
    names = ", ".join(one.id for one in in_the_way)
    if any(one.state is BackendState.DRAINING for one in in_the_way):
        return f"waiting for {names} to finish"
    return f"stopping {names} for it"
