"""A launcher whose runtime does what a test tells it, for its commands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from launcher.api.endpoint import Context
from launcher.core.events import Tick
from launcher.telemetry.decisions import DecisionLog
from launcher.telemetry.journal import Journal
from tests.api.serving import served
from tests.api.world import FakeControl, a_context
from tests.cli.scripted import ScriptedLauncher, scripted


class Told:
    """What a launcher tells of what was done."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.decisions = DecisionLog()
        self.loop: asyncio.AbstractEventLoop | None = None

    def news(self) -> None:
        """Something happened: whoever follows hears of it."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.journal.observe, Tick(), (), 100.0)


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def url(control: FakeControl, told: Told) -> Iterator[str]:
    def make() -> Context:
        told.loop = asyncio.get_running_loop()
        return a_context(control, journal=told.journal, decisions=told.decisions)

    with served(make) as where:
        yield where


@pytest.fixture
def launcher() -> Iterator[ScriptedLauncher]:
    """A launcher that says what the test has it say."""
    with scripted() as here:
        yield here
