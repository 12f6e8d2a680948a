"""Numbered records."""

from __future__ import annotations

from dataclasses import replace

from launcher.control.book import MOST_OVER, Book
from launcher.control.records import LEASES, LeaseRecord, LeaseState
from tests.control.house import MemoryStore


def lease(id: int, state: LeaseState = LeaseState.ACTIVE) -> LeaseRecord:
    return LeaseRecord(id, ("a",), 0.0, 60.0, state=state)


def book(store: MemoryStore) -> Book[LeaseRecord]:
    return Book(LEASES, store, lambda: 1_800_000_000.5)


async def test_numbers_count_up_over_runs() -> None:
    store = MemoryStore()
    first = book(store)
    assert [first.next_id() for _ in range(3)] == [1, 2, 3]
    await store.durable()
    assert book(MemoryStore(store.synced)).next_id() == 4


def test_a_number_that_stands_on_a_record_was_given_out() -> None:
    store = MemoryStore()
    book(store).put(lease(41))
    store.synced = store.pending
    assert book(MemoryStore(store.synced)).next_id() == 42


def test_where_an_earlier_file_may_be_lost_they_begin_beyond_it() -> None:
    assert book(MemoryStore(lost=True)).next_id() == 1_800_000_001


def test_what_is_open_stays_and_of_what_is_over_the_newest() -> None:
    store = MemoryStore()
    kept = book(store)
    kept.put(lease(1))
    for id in range(2, MOST_OVER + 12):
        kept.put(replace(lease(id), state=LeaseState.RELEASED))
    assert [one.id for one in kept.open()] == [1]
    ids = [one.id for one in kept.all()]
    assert (len(ids), ids[:2], ids[-1]) == (MOST_OVER + 1, [1, 12], MOST_OVER + 11)
    assert kept.get(2) is None
    assert {key for table, key in store.pending if table == "leases"} == set(ids)
