"""What is kept of the scheduler's events, and how who follows hears of the next."""

from __future__ import annotations

import asyncio

from launcher import tasks
from launcher.core.events import Closed, Tick
from launcher.telemetry.journal import Journal


def fed(journal: Journal, count: int) -> Journal:
    for number in range(count):
        journal.observe(Tick(), [], float(number))
    return journal


def test_entries_are_numbered_from_one_and_read_behind_a_number() -> None:
    journal = fed(Journal(), 3)

    assert journal.last == 3
    assert [one.now for one in journal.after(0) or ()] == [0.0, 1.0, 2.0]
    assert [one.now for one in journal.after(2) or ()] == [2.0]
    assert journal.after(3) == []
    assert [one.now for one in journal.after(0, most=2) or ()] == [0.0, 1.0]


def test_what_is_not_kept_any_more_and_what_has_not_been_is_a_gap() -> None:
    journal = fed(Journal(most=3), 5)

    assert [one.now for one in journal.after(2) or ()] == [2.0, 3.0, 4.0]
    assert journal.after(1) is None
    assert journal.after(6) is None
    assert journal.after(-1) is None


def test_two_runs_can_be_told_apart() -> None:
    assert Journal().run != Journal().run


async def test_news_wait_for_the_next_entry_and_a_waiter_that_left_is_in_nobodys_way() -> None:
    journal = fed(Journal(), 1)
    gone = tasks.spawn(journal.wait_after(1), name="gone")
    waits = tasks.spawn(journal.wait_after(1), name="waits")
    await asyncio.sleep(0)
    await tasks.cancel(gone)
    assert not waits.done()

    journal.observe(Closed(), [], 1.0)

    await asyncio.wait_for(waits, 30)
    await asyncio.wait_for(journal.wait_after(1), 30)


async def test_waiters_that_leave_do_not_pile_up() -> None:
    journal = Journal()
    for _ in range(100):
        waits = tasks.spawn(journal.wait_after(0), name="waits")
        await asyncio.sleep(0)
        await tasks.cancel(waits)

    assert repr(journal) == f"<Journal {journal.run} at 0, 0 waiting>"


async def test_the_end_wakes_who_waits() -> None:
    journal = Journal()
    waits = tasks.spawn(journal.wait_after(0), name="waits")
    await asyncio.sleep(0)

    journal.close()

    await asyncio.wait_for(waits, 30)
    assert journal.closed
