"""The decision log over a restart."""

from __future__ import annotations

from pathlib import Path

from launcher.core.effects import Action, Decided
from launcher.core.types import BackendId
from launcher.state.decided import DECISIONS, DecisionKeeper
from launcher.state.store import StateStore
from launcher.telemetry import decisions
from launcher.telemetry.decisions import Decision, DecisionLog

A, B = BackendId("a"), BackendId("b")
STOP = Decided(Action.STOP, A, "evicted", wanted_by=B, cost=3.5, waiting=2, waited=61.0)
START = Decided(Action.START, B, "wanted", pays=(A,))
REFUSED = Decided(Action.REJECT, A, "queue_full")


async def test_decisions_and_their_numbers_go_on_after_a_restart(
    tmp_path: Path, monkeypatch: object
) -> None:
    for run in range(3):
        store = await StateStore.open(tmp_path / "state.db", (DECISIONS,))
        keeper = DecisionKeeper(store)
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
    keeper = DecisionKeeper(store)
    log = DecisionLog(keeper.kept, keeper.keep)
    for _ in range(decisions.MOST + 50):
        log.fact(STOP)
    await store.close()
    again = await StateStore.open(tmp_path / "state.db", (DECISIONS,))
    await again.close()
    kept = DecisionKeeper(again).kept
    assert len(kept) == decisions.MOST
    assert kept[0].number == 51
