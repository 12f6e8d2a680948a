"""Who is held by whom."""

from __future__ import annotations

from launcher.core.types import Estimates
from launcher.drivers.fake import FakeDriver
from launcher.runtime.roster import Roster
from tests.runtime.house import A, B, config


def test_the_scheduler_is_told_of_each() -> None:
    driver = FakeDriver()
    configs = {B: config(B, needs=()), A: config(A)}
    roster = Roster([driver], configs, dict.fromkeys(configs, driver), [B], {A: Estimates(3.0)})
    one, two = roster.specs((("gpu", 2),))
    assert (one.id, one.placements[0].needs, one.prewarm) == (A, (("gpu", 2),), None)
    assert (two.id, two.placements[0].needs, two.prewarm) == (B, (), 0)
    assert (one.estimates, two.estimates) == (Estimates(3.0), Estimates())
    assert repr(roster) == "<Roster 2 backends, 1 drivers>"
