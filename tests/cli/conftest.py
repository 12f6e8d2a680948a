"""A launcher whose runtime does what a test tells it, for its commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from launcher.api.assembly import OwnApi
from launcher.api.stats import History
from launcher.decisions import DecisionLog
from launcher.metrics import Metrics
from tests.api.serving import served
from tests.api.world import CONFIG, FakeControl


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def url(control: FakeControl) -> Iterator[str]:
    def make() -> OwnApi:
        return OwnApi(
            CONFIG, control, Metrics(CONFIG, control.snapshot), History(CONFIG), DecisionLog()
        )

    with served(make) as where:
        yield where
