"""Who waits is counted, and known at once to whoever paces the probes."""

from __future__ import annotations

from launcher.runtime.held import Held
from tests.fake_driver import FakeDriver
from tests.runtime.house import A, config


def test_how_much_of_a_wait_was_a_start() -> None:
    held = Held(A, config(A), FakeDriver())
    assert held.started_within(1.0, 5.0) == 0.0
    held.start_begins(10.0)
    assert held.started_within(8.0, 13.0) == 3.0, "it is under way"
    assert held.started_within(11.0, 13.0) == 2.0
    held.start_ended = 14.0
    assert held.started_within(8.0, 20.0) == 4.0
    assert held.started_within(15.0, 20.0) == 0.0, "a start before it is none of its business"


def test_awaited_while_anybody_waits() -> None:
    held = Held(A, config(A), FakeDriver())
    assert not held.awaited.is_set()
    held.wait_begins()
    held.wait_begins()
    held.wait_ends()
    assert held.awaited.is_set()
    held.wait_ends()
    assert not held.awaited.is_set()
    assert held.waiting == 0
