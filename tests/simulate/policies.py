"""The product's scheduler with each of its policies, as the engine wants it."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.core.policy import POLICIES
from launcher.core.scheduler import Scheduler
from launcher.core.types import Needs
from launcher.simulate.engine import Outcome, simulate
from launcher.simulate.workload import Workload


def run(workload: Workload, policy: str = "bounded", ages: Sequence[float] = ()) -> Outcome:
    """One simulation."""

    def make(capacity: Needs) -> Scheduler:
        return Scheduler(capacity, POLICIES[policy]())

    return simulate(workload, make, ages)
