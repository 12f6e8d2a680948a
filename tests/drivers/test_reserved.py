"""The driver of reservations keeps a driver's promises, as far as there is anything to keep."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from launcher.core.types import BackendId
from launcher.drivers.base import Driver, ReservedSpec
from launcher.drivers.reserved import ReservedDriver
from launcher.http.endpoint import Endpoint
from tests.drivers.contract import SERVES, DriverContract, Harness


class ReservedHarness:
    def __init__(self) -> None:
        self.driver: Driver = ReservedDriver()

    async def kill(self, backend: BackendId) -> None:
        raise AssertionError("there is nothing to kill")

    async def answers(self, endpoint: Endpoint) -> bool:
        return False


class TestReserved(DriverContract):
    @pytest.fixture
    async def harness(self) -> AsyncIterator[Harness]:
        harness = ReservedHarness()
        harness.driver.configure({SERVES: ReservedSpec()})
        await harness.driver.open()
        yield harness
        await harness.driver.close()

    async def test_nothing_runs_at_first(self, harness: Harness) -> None:
        assert {id: one.running for id, one in (await harness.driver.list()).items()} == {
            SERVES: False
        }

    async def test_a_stop_is_confirmed_when_it_returns(self, harness: Harness) -> None:
        await harness.driver.start(SERVES)
        await harness.driver.stop(SERVES)
        seen = await harness.driver.inspect(SERVES)
        assert (seen.exists, seen.running) == (True, False)

    # Nothing answers, prints, dies, or takes its time.
    test_a_running_backend_answers_at_an_endpoint = None
    test_who_ignores_sigterm_is_killed_after_the_grace = None
    test_an_early_death_shows_its_code_and_last_words = None
    test_the_log_is_that_of_the_last_start = None
    test_a_death_behind_our_back_is_noticed_and_mended = None
    test_backends_do_not_wait_for_each_other = None
    test_who_follows_is_told_what_was_and_what_is_printed_until_the_end = None
    test_following_what_has_ended_tells_its_last_lines = None
    test_a_follower_may_leave_and_another_come = None


async def test_what_an_earlier_run_held_is_held() -> None:
    driver = ReservedDriver()
    driver.configure({SERVES: ReservedSpec()})
    driver.take(SERVES)
    before = await driver.inspect(SERVES)
    assert before.running
    driver.take(SERVES)
    assert (await driver.start(SERVES)).instance == before.instance
    assert await driver.endpoints(SERVES) == ()
    assert repr(driver) == "<ReservedDriver held=['serves']>"
