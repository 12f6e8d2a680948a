"""What every driver owes, as one suite: `class TestX(DriverContract)` with a `harness` fixture.

A harness holds an open driver with four configured backends:

    serves     starts and answers at its endpoint
    exits      ends by itself at once, with `EXIT_CODE`, after printing `LAST_WORDS`
    stubborn   ignores SIGTERM (its stop_grace is two seconds)
    missing    does not exist
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Protocol

import pytest

from launcher import tasks
from launcher.core.types import BackendId
from launcher.drivers.base import Changed, Connected, Driver, DriverEvent, Observation
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint

SERVES = BackendId("serves")
EXITS = BackendId("exits")
STUBBORN = BackendId("stubborn")
MISSING = BackendId("missing")

EXIT_CODE = 3
LAST_WORDS = f"exiting with {EXIT_CODE}"
PATIENCE = 30.0
"""Seconds after which a condition is taken to never come true."""


class Harness(Protocol):
    """What the suite needs beside the driver."""

    @property
    def driver(self) -> Driver: ...

    async def kill(self, backend: BackendId) -> None:
        """Make a running backend die, behind the driver's back."""
        ...

    async def answers(self, endpoint: Endpoint) -> bool:
        """Whether a backend of this driver answers there, now."""
        ...


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it is true."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - what it asks has no event to wait for
            await asyncio.sleep(0.02)


async def until(driver: Driver, backend: BackendId, fits: Callable[[Observation], bool]) -> None:
    """Inspect until it fits."""

    async def seen() -> bool:
        return fits(await driver.inspect(backend))

    await eventually(seen)


async def serving(harness: Harness, backend: BackendId) -> None:
    """Start it, and wait until it answers at one of its endpoints."""
    await harness.driver.start(backend)
    places = await harness.driver.endpoints(backend)

    async def answers() -> bool:
        return any([await harness.answers(place) for place in places])

    await eventually(answers)


class Watcher:
    """Collects what `watch` yields."""

    def __init__(self, driver: Driver) -> None:
        self.seen: list[DriverEvent] = []
        self.over = False
        self._news = asyncio.Condition()
        self._task = tasks.spawn(self._follow(driver.watch()), name="watch")

    async def _follow(self, events: AsyncIterator[DriverEvent]) -> None:
        async for event in events:
            async with self._news:
                self.seen.append(event)
                self._news.notify_all()
        self.over = True

    async def expect(self, fits: Callable[[DriverEvent], bool], after: int = 0) -> DriverEvent:
        """The first event from number `after` on that fits, waiting for it."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: any(map(fits, self.seen[after:])))
        return next(filter(fits, self.seen[after:]))

    async def ended(self) -> None:
        """Wait for the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            await self._task

    async def stop(self) -> None:
        await tasks.cancel(self._task)


class DriverContract:
    """The suite. Times are generous: nothing here measures speed."""

    @pytest.fixture
    async def harness(self) -> AsyncIterator[Harness]:
        """An open driver, as the module's docstring says; closes and removes all of it."""
        raise NotImplementedError
        yield  # noqa: PT022 - those that override it do have a teardown

    async def test_nothing_runs_at_first(self, harness: Harness) -> None:
        seen = await harness.driver.list()
        assert set(seen) == {SERVES, EXITS, STUBBORN, MISSING}
        assert [b for b, o in seen.items() if o.running] == []
        assert [b for b, o in seen.items() if not o.exists] == [MISSING]

    async def test_a_start_makes_it_run(self, harness: Harness) -> None:
        started = await harness.driver.start(SERVES)
        seen = await harness.driver.inspect(SERVES)
        assert started.running
        assert started.instance
        assert seen.running
        assert seen.instance == started.instance
        assert seen.running_for >= started.running_for >= 0
        assert seen.exit_code is None

    async def test_a_running_backend_answers_at_an_endpoint(self, harness: Harness) -> None:
        await serving(harness, SERVES)
        places = await harness.driver.endpoints(SERVES)
        assert places
        assert len(set(places)) == len(places)

    async def test_starting_what_runs_is_no_error(self, harness: Harness) -> None:
        first = await harness.driver.start(SERVES)
        again = await harness.driver.start(SERVES)
        assert again.running
        assert again.instance == first.instance

    async def test_simultaneous_starts_start_once(self, harness: Harness) -> None:
        seen = await asyncio.gather(*(harness.driver.start(SERVES) for _ in range(5)))
        assert len({o.instance for o in seen}) == 1

    async def test_a_stop_is_confirmed_when_it_returns(self, harness: Harness) -> None:
        await serving(harness, SERVES)
        started = await harness.driver.inspect(SERVES)
        places = await harness.driver.endpoints(SERVES)
        await harness.driver.stop(SERVES)
        seen = await harness.driver.inspect(SERVES)
        assert not seen.running
        assert seen.exists
        assert seen.running_for == 0
        assert seen.instance in (None, started.instance)

        # The engine may take a published port back a moment after what listened on it.
        async def silent() -> bool:
            return not any([await harness.answers(place) for place in places])

        await eventually(silent)

    async def test_stopping_what_does_not_run_is_no_error(self, harness: Harness) -> None:
        await harness.driver.stop(SERVES)
        await harness.driver.stop(MISSING)
        assert not (await harness.driver.inspect(SERVES)).running

    async def test_who_ignores_sigterm_is_killed_after_the_grace(self, harness: Harness) -> None:
        await serving(harness, STUBBORN)
        await harness.driver.stop(STUBBORN)
        assert not (await harness.driver.inspect(STUBBORN)).running

    async def test_each_start_is_another_instance(self, harness: Harness) -> None:
        first = await harness.driver.start(SERVES)
        await harness.driver.stop(SERVES)
        second = await harness.driver.start(SERVES)
        assert second.running
        assert second.instance != first.instance

    async def test_a_missing_backend_cannot_be_started(self, harness: Harness) -> None:
        with pytest.raises(LauncherError) as raised:
            await harness.driver.start(MISSING)
        assert raised.value.code == "backend_missing"
        seen = await harness.driver.inspect(MISSING)
        assert (seen.exists, seen.error) == (False, raised.value.message)

    async def test_an_early_death_shows_its_code_and_last_words(self, harness: Harness) -> None:
        await harness.driver.start(EXITS)
        await until(harness.driver, EXITS, lambda o: not o.running)
        seen = await harness.driver.inspect(EXITS)
        assert seen.exit_code == EXIT_CODE
        assert not seen.oom_killed
        assert seen.exists
        lines = await harness.driver.log_tail(EXITS)
        assert lines[-1] == LAST_WORDS
        assert await harness.driver.log_tail(EXITS, lines=1) == (LAST_WORDS,)

    async def test_the_log_is_that_of_the_last_start(self, harness: Harness) -> None:
        for _ in range(2):
            await harness.driver.start(EXITS)
            await until(harness.driver, EXITS, lambda o: not o.running)
        assert (await harness.driver.log_tail(EXITS, lines=100)).count(LAST_WORDS) == 1

    async def test_nothing_was_printed_by_what_never_ran(self, harness: Harness) -> None:
        assert await harness.driver.log_tail(SERVES) == ()
        assert await harness.driver.log_tail(MISSING) == ()

    async def test_who_follows_is_told_what_was_and_what_is_printed_until_the_end(
        self, harness: Harness
    ) -> None:
        await serving(harness, STUBBORN)
        told: list[str] = []

        async def follow() -> None:
            async with aclosing(harness.driver.follow(STUBBORN, 100)) as lines:
                async for line in lines:
                    told.append(line)

        following = tasks.spawn(follow(), name="follow")

        async def listening() -> bool:
            return any("listening on" in line for line in told)

        await eventually(listening)
        assert not following.done()
        await harness.driver.stop(STUBBORN)
        async with asyncio.timeout(PATIENCE):
            await following
        assert told[-1] == "SIGTERM ignored"

    async def test_following_what_has_ended_tells_its_last_lines(self, harness: Harness) -> None:
        await harness.driver.start(EXITS)
        await until(harness.driver, EXITS, lambda o: not o.running)
        await harness.driver.log_tail(EXITS)  # all of it is there
        async with asyncio.timeout(PATIENCE):
            assert [line async for line in harness.driver.follow(EXITS, 1)] == [LAST_WORDS]
            assert [line async for line in harness.driver.follow(SERVES, 10)] == []
            assert [line async for line in harness.driver.follow(MISSING, 10)] == []

    async def test_a_follower_may_leave_and_another_come(self, harness: Harness) -> None:
        await serving(harness, SERVES)
        for _ in range(3):
            async with (
                asyncio.timeout(PATIENCE),
                aclosing(harness.driver.follow(SERVES, 100)) as lines,
            ):
                async for line in lines:
                    if "listening on" in line:
                        break

    async def test_a_death_behind_our_back_is_noticed_and_mended(self, harness: Harness) -> None:
        watcher = Watcher(harness.driver)
        await watcher.expect(lambda e: e == Connected())
        first = await harness.driver.start(SERVES)
        await watcher.expect(lambda e: e == Changed(SERVES))
        await asyncio.sleep(0)
        told = len(watcher.seen)
        await harness.kill(SERVES)
        await watcher.expect(lambda e: e == Changed(SERVES), after=told)
        await until(harness.driver, SERVES, lambda o: not o.running)
        again = await harness.driver.start(SERVES)
        assert again.instance != first.instance
        await watcher.stop()

    async def test_the_watch_begins_with_the_state_of_the_engine(self, harness: Harness) -> None:
        watcher = Watcher(harness.driver)
        await watcher.expect(lambda e: True)
        assert watcher.seen[0] == Connected()
        await watcher.stop()

    async def test_the_watch_ends_with_the_driver(self, harness: Harness) -> None:
        watcher = Watcher(harness.driver)
        await watcher.expect(lambda e: e == Connected())
        await harness.driver.close()
        await watcher.ended()
        assert watcher.over

    async def test_a_cancelled_start_leaves_one_or_none(self, harness: Harness) -> None:
        for turns in range(0, 30, 5):
            start = tasks.spawn(harness.driver.start(SERVES), name="start")
            for _ in range(turns):
                await asyncio.sleep(0)
            await tasks.cancel(start)
            before = await harness.driver.inspect(SERVES)
            again = await harness.driver.start(SERVES)
            if before.running:
                assert again.instance == before.instance
            await harness.driver.stop(SERVES)
            assert not (await harness.driver.inspect(SERVES)).running

    async def test_a_stop_during_a_start_wins(self, harness: Harness) -> None:
        start = tasks.spawn(harness.driver.start(SERVES), name="start")
        await asyncio.sleep(0)
        await tasks.cancel(start)
        await harness.driver.stop(SERVES)
        for _ in range(5):
            await asyncio.sleep(0.01)
            assert not (await harness.driver.inspect(SERVES)).running

    async def test_backends_do_not_wait_for_each_other(self, harness: Harness) -> None:
        await serving(harness, STUBBORN)
        await serving(harness, SERVES)
        slow = tasks.spawn(harness.driver.stop(STUBBORN), name="slow stop")
        await asyncio.sleep(0)
        await harness.driver.stop(SERVES)
        assert not slow.done()
        await slow

    async def test_what_is_no_longer_configured_is_not_known(self, harness: Harness) -> None:
        harness.driver.configure({})
        seen: Mapping[BackendId, Observation] = await harness.driver.list()
        assert seen == {}
        with pytest.raises(LauncherError):
            await harness.driver.start(SERVES)
