"""Who waits is counted, and known at once to whoever paces the probes."""

from __future__ import annotations

from launcher.runtime.handle import BackendHandle
from tests.fake_driver import FakeDriver
from tests.runtime.house import A, config


def test_how_much_of_a_wait_was_a_start() -> None:
    handle = BackendHandle(A, config(A), FakeDriver())
    assert handle.started_within(1.0, 5.0) == 0.0
    handle.start_begins(10.0)
    assert handle.started_within(8.0, 13.0) == 3.0, "it is under way"
    assert handle.started_within(11.0, 13.0) == 2.0
    handle.start_ended = 14.0
    assert handle.started_within(8.0, 20.0) == 4.0
    assert handle.started_within(15.0, 20.0) == 0.0, "a start before it is none of its business"


def test_awaited_while_anybody_waits() -> None:
    handle = BackendHandle(A, config(A), FakeDriver())
    assert not handle.awaited.is_set()
    handle.wait_begins()
    handle.wait_begins()
    handle.wait_ends()
    assert handle.awaited.is_set()
    handle.wait_ends()
    assert not handle.awaited.is_set()
    assert handle.waiting == 0
