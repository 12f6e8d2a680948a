"""Records as they stand in the state file."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from launcher.control.records import (
    LEASES,
    MAX_FINISHED,
    SWITCHES,
    LeaseRecord,
    LeaseState,
    RecordLog,
    Step,
    SwitchRecord,
    SwitchState,
)
from launcher.core.types import BackendId, Failure
from tests.control.house import MemoryStore

SWITCH = SwitchRecord(
    id=7,
    route="b",
    asked_at=1.5,
    by="ann",
    force=True,
    state=SwitchState.ROLLED_BACK,
    backend=BackendId("b"),
    before=(BackendId("a"), BackendId("c")),
    stopped=(BackendId("a"),),
    broke=(3,),
    restoring=True,
    steps=(Step("stop a", 1.0, 2.0, True, "x"), Step("start b", 2.0)),
    started_at=1.0,
    finished_at=9.0,
    error=Failure("backend_start_failed", "exit code 1", "the last words"),
    restore_error=Failure("leased", "somebody"),
)
LEASE = LeaseRecord(
    id=3,
    routes=("a", "b"),
    asked_at=1.0,
    ttl=None,
    needs=(("gpu", 1),),
    note="n",
    by="ann",
    mode="m",
    waited_for=True,
    replaces=2,
    state=LeaseState.BROKEN,
    granted_at=2.0,
    expires_at=5.0,
    ended_at=4.0,
    ended_by="switch 7",
    error=Failure("leased", "why"),
)


@pytest.mark.parametrize("record", [SWITCH, SwitchRecord(1, "a", 0.0)], ids=["all", "least"])
def test_a_switch_comes_back_as_it_was(record: SwitchRecord) -> None:
    assert SWITCHES.records([(record.id, *SWITCHES.cells_of(record))]) == {record.id: record}


@pytest.mark.parametrize("record", [LEASE, LeaseRecord(1, ("a",), 0.0, 60.0)], ids=["all", "least"])
def test_a_lease_comes_back_as_it_was(record: LeaseRecord) -> None:
    assert LEASES.records([(record.id, *LEASES.cells_of(record))]) == {record.id: record}


def test_unknown_fields_of_a_newer_launcher_are_ignored() -> None:
    (text,) = LEASES.cells_of(LEASE)
    more = orjson.dumps(orjson.loads(str(text)) | {"colour": "red"}).decode()
    assert LEASES.records([(3, more)]) == {3: LEASE}


@pytest.mark.parametrize("text", ["", "{}", '{"state": "none"}', "[]", "null"])
def test_records_that_cannot_be_read_are_left_out(text: str) -> None:
    assert LEASES.records([(3, text)]) == {}
    assert SWITCHES.records([(3, text)]) == {}


def test_which_states_are_over() -> None:
    assert [one for one in SwitchState if not replace(SWITCH, state=one).over] == [
        SwitchState.QUEUED,
        SwitchState.RUNNING,
    ]
    assert [one for one in LeaseState if not replace(LEASE, state=one).over] == [
        LeaseState.PENDING,
        LeaseState.ACTIVE,
    ]


def lease(id: int, state: LeaseState = LeaseState.ACTIVE) -> LeaseRecord:
    return LeaseRecord(id, ("a",), 0.0, 60.0, state=state)


def book(store: MemoryStore) -> RecordLog[LeaseRecord]:
    return RecordLog(LEASES, store, lambda: 1_800_000_000.5)


async def test_numbers_count_up_over_runs() -> None:
    store = MemoryStore()
    first = book(store)
    assert [first.next_id() for _ in range(3)] == [1, 2, 3]
    await store.durable()
    assert book(MemoryStore(store.synced)).next_id() == 4


def test_numbers_continue_after_the_highest_record() -> None:
    store = MemoryStore()
    book(store).put(lease(41))
    store.synced = store.pending
    assert book(MemoryStore(store.synced)).next_id() == 42


def test_where_an_earlier_file_may_be_lost_they_begin_beyond_it() -> None:
    assert book(MemoryStore(lost=True)).next_id() == 1_800_000_001


def test_open_records_and_the_newest_finished_ones_are_kept() -> None:
    store = MemoryStore()
    kept = book(store)
    kept.put(lease(1))
    for id in range(2, MAX_FINISHED + 12):
        kept.put(replace(lease(id), state=LeaseState.RELEASED))
    assert [one.id for one in kept.open()] == [1]
    ids = [one.id for one in kept.all()]
    assert (len(ids), ids[:2], ids[-1]) == (MAX_FINISHED + 1, [1, 12], MAX_FINISHED + 11)
    assert kept.get(2) is None
    assert {key for table, key in store.pending if table == "leases"} == set(ids)
