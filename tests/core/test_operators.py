"""What operators do to the scheduler's world, event by event."""

from __future__ import annotations

import pytest

from launcher.core import events as ev
from launcher.core.scheduler import Scheduler
from launcher.core.types import BackendId, TicketId
from tests.core.stage import Stage, spec

A = BackendId("a")


def test_what_is_not_there_can_be_neither_drained_nor_renewed() -> None:
    stage = Stage(Scheduler, [spec("a")])
    with pytest.raises(KeyError):
        stage.scheduler.handle(ev.Drained((BackendId("b"),), True), 0.0)
    with pytest.raises(KeyError):
        stage.scheduler.handle(ev.Renewed(TicketId(7), 10.0), 0.0)
    waiting = stage.arrive("a")
    with pytest.raises(KeyError):
        stage.scheduler.handle(ev.Renewed(waiting, 10.0), 0.0)


def test_a_drained_backend_refuses_and_serves_what_it_has() -> None:
    stage = Stage(Scheduler, [spec("a")])
    first = stage.arrive("a")
    stage.feed(ev.Drained((A,), True))
    assert stage.code(stage.arrive("a")) == "draining"
    stage.started("a")
    assert stage.flying == {first: A}
    assert stage.code(stage.arrive("a")) == "draining"
    stage.feed(ev.Drained((A,), False))
    assert stage.code(stage.arrive("a")) is None


def test_what_a_running_backend_is_said_to_need_counts_at_once() -> None:
    stage = Stage(Scheduler, [spec("a", gpu=2), spec("b", gpu=1)], gpu=2)
    stage.arrive("a")
    stage.started("a")
    stage.arrive("b")
    assert stage.state("b") == "stopped"
    stage.feed(ev.SpecsChanged(changed=(spec("a", gpu=1),)))
    assert stage.scheduler.snapshot(stage.now).used == (("gpu", 2),)
    assert (stage.state("a"), stage.state("b")) == ("ready", "starting")
