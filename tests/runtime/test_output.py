"""Following what backends print: over restarts, redacted, until the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from launcher import tasks
from launcher.core.types import BackendId, StopReason
from launcher.drivers.base import ProcessSpec
from launcher.runtime.output import Outputs
from launcher.telemetry.facts import Loading, StopEnded
from tests.fake_driver import FakeDriver

X = BackendId("x")


class Reader:
    """Reads one follower's lines."""

    def __init__(self, outputs: Outputs, lines: int = 10) -> None:
        self.batches = outputs.follow(X, lines)
        self.rest: list[str] = []

    async def line(self) -> str:
        async with asyncio.timeout(30):
            while not self.rest:
                self.rest += await anext(self.batches)
        return self.rest.pop(0)


@pytest.fixture
async def driver() -> FakeDriver:
    driver = FakeDriver()
    driver.configure({X: ProcessSpec(("x",))})
    return driver


@pytest.fixture
async def outputs(driver: FakeDriver) -> AsyncIterator[Outputs]:
    outputs = Outputs({X: driver}.__getitem__, lambda text: text.replace("sk-1", "***"))
    yield outputs
    await outputs.close()


async def test_the_last_lines_are_redacted(outputs: Outputs, driver: FakeDriver) -> None:
    driver.run(X)
    driver.print(X, "one")
    driver.print(X, "key sk-1")

    assert await outputs.tail(X, 1) == ["key ***"]


async def test_what_is_printed_comes_at_once_and_redacted(
    outputs: Outputs, driver: FakeDriver
) -> None:
    driver.run(X)
    driver.print(X, "before")
    reader = Reader(outputs)
    assert await reader.line() == "before"

    driver.print(X, "with sk-1 in it")

    assert await reader.line() == "with *** in it"
    await reader.batches.aclose()


async def test_the_next_start_is_followed_too(outputs: Outputs, driver: FakeDriver) -> None:
    driver.run(X)
    driver.print(X, "first")
    reader = Reader(outputs)
    assert await reader.line() == "first"
    driver.kill(X)
    await asyncio.sleep(0)

    driver.run(X)
    driver.print(X, "said before anybody looked")
    outputs.fact(Loading(X, 2))

    assert await reader.line() == "--- x was started ---"
    assert await reader.line() == "said before anybody looked"
    await reader.batches.aclose()


async def test_a_start_between_two_looks_is_not_missed(
    outputs: Outputs, driver: FakeDriver
) -> None:
    reader = Reader(outputs)
    waits = tasks.spawn(reader.line(), name="line")
    for _ in range(10):
        await asyncio.sleep(0)
    driver.run(X)
    driver.print(X, "quick")
    outputs.fact(Loading(X, 1))
    driver.kill(X)

    assert await asyncio.wait_for(waits, 30) == "--- x was started ---"
    assert await reader.line() == "quick"
    await reader.batches.aclose()


async def test_an_engine_that_is_away_is_told(outputs: Outputs, driver: FakeDriver) -> None:
    driver.lose_engine("it is away")
    reader = Reader(outputs)

    assert await reader.line() == "(x: fake: it is away)"
    with pytest.raises(StopAsyncIteration):
        await reader.line()


async def test_the_end_of_the_launcher_ends_it(outputs: Outputs, driver: FakeDriver) -> None:
    driver.run(X)
    reader = Reader(outputs)
    waits = tasks.spawn(reader.line(), name="line")
    await asyncio.sleep(0)

    await outputs.close()

    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waits, 30)
    late = Reader(outputs)
    with pytest.raises(StopAsyncIteration):
        await late.line()


async def test_who_leaves_leaves_nothing_behind(outputs: Outputs, driver: FakeDriver) -> None:
    driver.run(X)
    driver.print(X, "one")
    reader = Reader(outputs)
    await reader.line()
    await reader.batches.aclose()

    assert repr(outputs) == "<Outputs followed=0>"
    assert driver._one(X).followers == []


async def test_who_follows_what_is_no_more_is_told(driver: FakeDriver) -> None:
    there = {X: driver}
    outputs = Outputs(there.__getitem__, str)
    driver.run(X)
    driver.print(X, "one")
    reader = Reader(outputs)
    assert await reader.line() == "one"
    driver.kill(X)
    outputs.fact(StopEnded(X, StopReason.REMOVED, 0.1))
    waits = tasks.spawn(reader.line(), name="line")
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waits.done(), "it is stopped, and may be started again"

    del there[X]
    outputs.look_again()

    assert await asyncio.wait_for(waits, 30) == "(x: it is gone)"
    with pytest.raises(StopAsyncIteration):
        await reader.line()
