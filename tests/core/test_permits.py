"""Traffic under permits leads to what the same traffic as plain events leads to."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.core.types import Needs
from tests.core.chance import Chance
from tests.core.permitted import Twins
from tests.core.stage import SchedulerLike


class Permitted(Chance):
    """A random run in which permits are used."""

    def __init__(self, rng: Random, **what: bool) -> None:
        def make(capacity: Needs) -> SchedulerLike:
            self.twins = Twins(capacity, rng)
            return self.twins

        super().__init__(make, rng, **what)
        self.stage.permitted = self.twins.in_flight  # type: ignore[method-assign]
        # Claims and leases have their own tests: the stage knows them less well than the core
        # does where a reload changes what something needs while it still runs.
        self.stage._check_claims = lambda effects: None  # type: ignore[method-assign]
        self.stage._check_leases = lambda shot: None  # type: ignore[method-assign]

    def _peace(self) -> None:
        """The traffic ends, one by one."""
        for ticket in sorted(self.stage.flying):
            self.stage.release(ticket, self.rng.random() < 0.8)
            self._wait()
        assert not self.twins.exchanges
        self.twins.compare()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_permits_change_no_decision(seed: int) -> None:
    rng = Random(seed)
    Permitted(rng, calm=rng.random() < 0.7, operators=rng.random() < 0.7).run(120)
