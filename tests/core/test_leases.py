"""The books of leases."""

from __future__ import annotations

import math

from launcher.core.backend import Backend
from launcher.core.state import LeaseTable
from launcher.core.types import Estimates, TicketId
from tests.core.stage import spec

ONE, TWO, THREE = TicketId(1), TicketId(2), TicketId(3)


def backend(name: str, gpu: int = 1, ram: int = 0) -> Backend:
    return Backend(spec(name, gpu=gpu, ram=ram), Estimates())


def test_a_lease_keeps_its_place_from_others() -> None:
    a, b = backend("a"), backend("b")
    leases = LeaseTable({"gpu": 1})
    assert not leases.in_the_way(b)
    leases.set(a, ONE, 100.0)
    assert [one.id for one in leases.in_the_way(b)] == ["a"]
    assert leases.in_the_way(a) == [], "its own lease is in nobody's way"
    assert leases.free_at(b) == 100.0
    leases.end(a, ONE)
    assert (leases.in_the_way(b), leases.free_at(b), len(leases)) == ([], -math.inf, 0)


def test_those_to_come_are_in_the_way_too() -> None:
    a, b = backend("a"), backend("b")
    assert [one.id for one in LeaseTable({"gpu": 1}).in_the_way(b, [a])] == ["a"]


def test_only_those_are_named_that_have_what_is_short() -> None:
    a, b, c = backend("a"), backend("b", gpu=0, ram=1), backend("c", gpu=1, ram=1)
    leases = LeaseTable({"gpu": 1, "ram": 2})
    leases.set(a, ONE, 100.0)
    leases.set(b, TWO, 50.0)
    assert [one.id for one in leases.in_the_way(c)] == ["a"]


def test_what_never_fits_is_no_lease_s_fault() -> None:
    a, b = backend("a"), backend("b", gpu=2)
    leases = LeaseTable({"gpu": 1})
    leases.set(a, ONE, 100.0)
    assert leases.in_the_way(b) == []


def test_enough_of_them_have_to_end() -> None:
    a, b, c, wide = backend("a"), backend("b"), backend("c"), backend("d", gpu=2)
    leases = LeaseTable({"gpu": 3})
    for one, ticket, until in ((a, ONE, 300.0), (b, TWO, math.inf), (c, THREE, 200.0)):
        leases.set(one, ticket, until)
    assert leases.free_at(wide) == 300.0
    assert leases.free_at(backend("e", gpu=3)) == math.inf


def test_they_end_in_their_order() -> None:
    a, b = backend("a"), backend("b")
    leases = LeaseTable({"gpu": 2})
    leases.set(a, ONE, 30.0)
    leases.set(a, TWO, 10.0)
    leases.set(b, THREE, 20.0)
    assert leases.next_end == 10.0
    assert leases.over(9.0) == []
    assert [ticket for _, ticket in leases.over(25.0)] == [TWO, THREE]
    leases.set(a, TWO, 40.0)
    assert (leases.next_end, a.leased_until) == (20.0, 40.0)
    leases.end(b, THREE)
    leases.end(a, TWO)
    assert (leases.next_end, a.leased_until, repr(leases)) == (30.0, 30.0, "<LeaseTable on a>")
