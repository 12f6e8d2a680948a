"""Who waits is counted, and known at once to whoever paces the probes."""

from __future__ import annotations

from launcher.drivers.fake import FakeDriver
from launcher.runtime.held import Held
from tests.runtime.house import A, config


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
