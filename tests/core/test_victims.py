"""Who has to go."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.core.placement import EvictionCandidate, choose_victims, fits
from launcher.core.types import BackendId


def candidate(name: str, gpu: int, *, price: float = 0.0, used: float = 0.0) -> EvictionCandidate:
    return EvictionCandidate(BackendId(name), (("gpu", gpu),), price, used)


def chosen_of(*args: Any) -> tuple[str, ...] | None:
    found = choose_victims(*args)
    return None if found is None else tuple(one.id for one in found)


def test_the_cheap_go_before_the_dear() -> None:
    residents = [candidate("old", 1, price=5.0), candidate("new", 1, price=4.0, used=9.0)]
    assert chosen_of(residents, (("gpu", 1),), {"gpu": 2}, {"gpu": 2}) == ("new",)


def test_among_equals_the_least_recently_used_goes() -> None:
    residents = [candidate("new", 1, used=9.0), candidate("old", 1, used=3.0)]
    assert chosen_of(residents, (("gpu", 1),), {"gpu": 2}, {"gpu": 2}) == ("old",)


def test_one_that_costs_less_than_two_goes_alone() -> None:
    """Where one by one would take the two cheap ones."""
    residents = [
        candidate("a", 1, price=2.0),
        candidate("b", 1, price=2.0),
        candidate("big", 2, price=3.0),
    ]
    assert chosen_of(residents, (("gpu", 2),), {"gpu": 4}, {"gpu": 4}) == ("big",)


def test_none_where_no_set_makes_room() -> None:
    assert choose_victims([candidate("a", 1)], (("gpu", 2),), {"gpu": 2}, {"gpu": 2}) is None


def test_what_occupies_something_else_is_left_alone() -> None:
    other = EvictionCandidate(BackendId("cpu"), (("ram", 4),), 0.0, 0.0)
    residents = [other, candidate("a", 1, used=5.0)]
    usage = {"gpu": 1, "ram": 4}
    assert chosen_of(residents, (("gpu", 1),), usage, {"gpu": 1, "ram": 4}) == ("a",)


Resident = tuple[int, int, int, int]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 5), st.integers(0, 5)),
        max_size=16,
    ),
    st.integers(0, 6),
    st.integers(0, 4),
    st.integers(1, 8),
)
def test_the_set_makes_room_nobody_in_it_need_not_be_and_none_is_cheaper(
    residents: list[Resident], gpu: int, ram: int, capacity: int
) -> None:
    candidates = [
        EvictionCandidate(BackendId(f"c{i}"), (("gpu", g), ("ram", r)), float(price), float(used))
        for i, (g, r, price, used) in enumerate(residents)
    ]
    usage = {"gpu": sum(r[0] for r in residents), "ram": sum(r[1] for r in residents)}
    room = {"gpu": capacity, "ram": capacity}
    needs = (("gpu", gpu), ("ram", ram))

    def left_without(gone: tuple[EvictionCandidate, ...]) -> dict[str, int]:
        return {name: n - sum(dict(c.needs)[name] for c in gone) for name, n in usage.items()}

    chosen = choose_victims(candidates, needs, usage, room)
    if chosen is None:
        assert not fits(left_without(tuple(candidates)), needs, room)
        return
    assert fits(left_without(chosen), needs, room)
    for spared in chosen:
        rest = tuple(c for c in chosen if c is not spared)
        assert not fits(left_without(rest), needs, room)
    if len(candidates) <= 8:
        every = chain.from_iterable(combinations(candidates, n) for n in range(9))
        cheapest = min(
            sum(c.price for c in some) for some in every if fits(left_without(some), needs, room)
        )
        assert sum(c.price for c in chosen) == cheapest
