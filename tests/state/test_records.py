"""Measured times and start counters over a restart."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.core.effects import Action, Decided
from launcher.core.types import BackendId, BackendState, Estimates, StopReason
from launcher.state.records import DECISIONS, ESTIMATES, STARTS, DecisionStore, Measurements, Starts
from launcher.state.store import StateStore
from launcher.telemetry import decisions
from launcher.telemetry.decisions import Decision, DecisionLog
from launcher.telemetry.facts import Granted, StartEnded, StopEnded
from tests.api.world import CODER, FakeControl

A = BackendId("a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "launcher.db"


async def opened(path: Path) -> StateStore:
    return await StateStore.open(path, (ESTIMATES, STARTS))


async def measured_in(path: Path) -> Measurements:
    """What a later run finds."""
    store = await opened(path)
    await store.close()
    return Measurements(store, FakeControl().snapshot)


def test_averages() -> None:
    assert Starts().average is None
    assert Starts().plus(10.0, 1.0).plus(20.0, 2.0).average == 15.0


async def test_a_restart_knows_how_often_it_was_started(path: Path) -> None:
    store = await opened(path)
    Measurements(store, FakeControl().snapshot).count(A, Starts(2, 77.0, 38.5, 1_800_000_000.25))
    await store.close()
    assert (await measured_in(path)).starts == {A: Starts(2, 77.0, 38.5, 1_800_000_000.25)}


async def test_unusable_times_are_dropped(path: Path) -> None:
    store = await opened(path)
    store.put(ESTIMATES, A, Estimates(start=1.0, stop=2.0, service=3.0))
    await store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE estimates SET start = -5, stop = 9e999, service = 'abc'")
    db.close()
    assert (await measured_in(path)).estimates == {A: Estimates()}


async def test_the_keeper_saves_after_each_start_and_stop(path: Path) -> None:
    control, store = FakeControl(), await opened(path)
    keeper = Measurements(store, control.snapshot)

    control.put(CODER, BackendState.READY, estimates=Estimates(start=10.0))
    keeper.fact(Granted(CODER, 0.0, False))
    keeper.fact(StartEnded(CODER, 1, False, False, "ready", 10.0))
    keeper.fact(StopEnded(BackendId("gone"), StopReason.REMOVED, 1.0))
    await store.close()

    assert (await measured_in(path)).estimates == {CODER: Estimates(start=10.0)}


async def test_the_keeper_saves_all_that_was_measured_at_the_end(path: Path) -> None:
    control, store = FakeControl(), await opened(path)
    measured = replace(Estimates(), service=3.0)
    control.put(CODER, estimates=measured)

    Measurements(store, control.snapshot).save_all()
    await store.close()

    assert (await measured_in(path)).estimates == {CODER: measured}


A, B = BackendId("a"), BackendId("b")
STOP = Decided(Action.STOP, A, "evicted", wanted_by=B, cost=3.5, waiting=2, waited=61.0)
START = Decided(Action.START, B, "wanted", pays=(A,))
REFUSED = Decided(Action.REJECT, A, "queue_full")


async def test_decisions_and_their_numbers_go_on_after_a_restart(
    tmp_path: Path, monkeypatch: object
) -> None:
    for run in range(3):
        store = await StateStore.open(tmp_path / "state.db", (DECISIONS,))
        keeper = DecisionStore(store)
        log = DecisionLog(keeper.kept, keeper.keep, wall=lambda run=run: float(run))  # type: ignore[misc]
        for fact in (STOP, START, REFUSED, REFUSED):
            log.fact(fact)
        told = list(log.newest())
        await store.close()
    assert [one.number for one in told] == list(range(9, 0, -1))
    assert told[0] == Decision(9, 2.0, REFUSED, times=2)
    assert told[-1] == Decision(1, 0.0, STOP)
    assert told[-2] == Decision(2, 0.0, START)


async def test_no_more_are_kept_than_are_shown(tmp_path: Path) -> None:
    store = await StateStore.open(tmp_path / "state.db", (DECISIONS,))
    keeper = DecisionStore(store)
    log = DecisionLog(keeper.kept, keeper.keep)
    for _ in range(decisions.MAX_DECISIONS + 50):
        log.fact(STOP)
    await store.close()
    again = await StateStore.open(tmp_path / "state.db", (DECISIONS,))
    await again.close()
    kept = DecisionStore(again).kept
    assert len(kept) == decisions.MAX_DECISIONS
    assert kept[0].number == 51
