"""The invariants hold in random worlds, and every move of the table has been made there."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.core import lifecycle, state
from launcher.core.lifecycle import TRANSITIONS, Cause
from launcher.core.scheduler import Scheduler
from launcher.core.types import BackendState, StopReason
from tests.core.chance import Chance
from tests.core.stage import Stage, spec


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_invariants_hold_whatever_happens(rng: Random) -> None:
    Chance(Scheduler, rng).run(60)


@pytest.mark.parametrize("seed", range(40))
def test_what_an_event_makes_possible_is_done_with_it(seed: int) -> None:
    Chance(Scheduler, Random(seed), settled=True).run(80)


@pytest.mark.parametrize("seed", range(0, 400, 10))
def test_a_stop_for_somebody_is_followed_by_its_start(seed: int) -> None:
    """See `Stage._check_claims`."""
    for one in range(seed, seed + 10):
        Chance(Scheduler, Random(one), operators=False, crowded=True).run(100)


def test_long_runs_cover_every_move(
    monkeypatch: pytest.MonkeyPatch, record_property: pytest.RecordProperty
) -> None:
    seen: dict[tuple[BackendState, Cause], int] = {}

    def counting(state: BackendState, cause: Cause) -> BackendState:
        seen[state, cause] = seen.get((state, cause), 0) + 1
        return lifecycle.move(state, cause)

    monkeypatch.setattr(state, "move", counting)
    for seed in range(150):
        Chance(Scheduler, Random(seed)).run(150)
    covered = ", ".join(f"{s.value}/{c.name.lower()} {n}" for (s, c), n in seen.items())
    record_property("transitions", f"{len(seen)} of {len(TRANSITIONS)}: {covered}")
    assert set(seen) == set(TRANSITIONS)


@pytest.mark.parametrize("models", [2, 4, 6])
def test_nobody_starves_behind_a_busy_model(models: int) -> None:
    """Invariant 5: saturated by overlapping requests for the first model, and one for each of
    the others at a time: no wait is longer than max_wait, the longest exchange, and for each
    of those before it a minimum residency, a drain and a swap."""
    max_wait, service, start, stop = 20.0, 7.0, 5.0, 1.0
    names = [f"m{i}" for i in range(models)]
    s = Stage(Scheduler, [spec(n, start_guess=start, stop_guess=stop) for n in names])
    due: dict[int, float] = {}
    arrived: dict[int, float] = {}
    worst = 0.0
    ops: dict[str, float] = {}
    served = dict.fromkeys(names, 0)
    for step in range(6000):
        s.pass_time(0.5)
        arrived[s.arrive(names[0], max_wait=max_wait)] = s.now
        for name in names[1:]:
            if step % 40 == 0:
                arrived[s.arrive(name, max_wait=max_wait)] = s.now
        for id, operation in list(s.operations.items()):
            took = stop if type(operation).__name__ == "Stop" else start
            if s.now >= ops.setdefault(f"{id}{operation.epoch}", s.now + took):
                s.stopped(id) if took == stop else s.started(id)
        for ticket, backend in list(s.flying.items()):
            if ticket not in due:
                due[ticket] = s.now + service
                worst = max(worst, s.now - arrived[ticket])
                served[backend] += 1
            elif s.now >= due[ticket]:
                s.release(ticket)
    swap = start + stop
    one_round = models * (models * swap + service + swap + 2)
    assert worst <= max_wait + service + one_round
    assert min(served.values()) > 10


def test_every_stop_reason_is_a_label() -> None:
    assert {reason.value for reason in StopReason} >= {"idle", "evicted", "operator", "hung"}
