"""Who has to go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from launcher.core.eviction import Candidate, choose, fits
from launcher.core.types import BackendId


def candidate(name: str, gpu: int, *, busy: bool = False, used: float = 0.0) -> Candidate:
    return Candidate(BackendId(name), (("gpu", gpu),), busy, used)


def test_idle_ones_go_before_busy_ones() -> None:
    residents = [candidate("old", 1, busy=True), candidate("new", 1, used=9.0)]
    assert choose(residents, (("gpu", 1),), {"gpu": 2}, {"gpu": 2}) == ("new",)


def test_none_where_no_set_makes_room() -> None:
    assert choose([candidate("a", 1)], (("gpu", 2),), {"gpu": 2}, {"gpu": 2}) is None


def test_what_occupies_something_else_is_left_alone() -> None:
    other = Candidate(BackendId("cpu"), (("ram", 4),), False, 0.0)
    residents = [other, candidate("a", 1, used=5.0)]
    usage = {"gpu": 1, "ram": 4}
    assert choose(residents, (("gpu", 1),), usage, {"gpu": 1, "ram": 4}) == ("a",)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 5)), max_size=6),
    st.integers(0, 6),
    st.integers(1, 8),
)
def test_the_set_makes_room_and_nobody_in_it_need_not_be(
    residents: list[tuple[int, bool, int]], need: int, capacity: int
) -> None:
    candidates = [
        candidate(f"c{i}", gpu, busy=busy, used=used)
        for i, (gpu, busy, used) in enumerate(residents)
    ]
    used = sum(gpu for gpu, _, _ in residents)
    room = {"gpu": capacity}
    chosen = choose(candidates, (("gpu", need),), {"gpu": used}, room)
    if chosen is None:
        assert need > capacity
        return
    freed = {c.id: c.needs[0][1] for c in candidates if c.id in chosen}
    left = used - sum(freed.values())
    assert fits({"gpu": left}, (("gpu", need),), room)
    for gpu in freed.values():
        assert not fits({"gpu": left + gpu}, (("gpu", need),), room)
