"""The scheduler keeps every rule: see `scenarios`."""

from __future__ import annotations

import pytest

from launcher.core.events import Abandoned, Released
from launcher.core.scheduler import Scheduler
from launcher.core.types import TicketId
from tests.core.operator_scenarios import SCENARIOS
from tests.core.scenarios import Scenario
from tests.core.stage import Stage, spec


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_rule(scenario: Scenario) -> None:
    scenario(Scheduler)


def test_an_unpaired_release_is_loud() -> None:
    stage = Stage(Scheduler, [spec("a")])
    with pytest.raises(KeyError):
        stage.scheduler.handle(Released(TicketId(99)), 1.0)
    waiting = stage.arrive("a")
    with pytest.raises(KeyError):
        stage.scheduler.handle(Released(waiting), 1.0)


def test_what_flies_cannot_be_abandoned() -> None:
    stage = Stage(Scheduler, [spec("a")])
    ticket = stage.arrive("a")
    stage.started("a")
    with pytest.raises(KeyError):
        stage.scheduler.handle(Abandoned(ticket), 1.0)
