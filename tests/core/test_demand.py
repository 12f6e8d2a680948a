"""The lines of those who wait, against sorting all of them anew each time."""

from __future__ import annotations

import math
from operator import truediv
from random import Random

import pytest

from launcher.core.backend import Backend
from launcher.core.demand import Demand, Line
from launcher.core.policy import POLICIES, rank_of, urgency_of
from launcher.core.queue import SPARE
from launcher.core.types import BackendId, BackendState, Priority, Ticket, TicketId
from tests.core.stage import spec

COLD = (BackendState.STOPPED, BackendState.FAILED)


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("seed", range(20))
def test_the_order_is_that_of_a_sort(name: str, seed: int) -> None:
    rng, policy = Random(seed), POLICIES[name]()
    demand = Demand(policy)
    specs = [
        spec(
            f"b{i:02}", gpu=rng.randint(0, 2), ram=rng.randint(0, 1), start_guess=rng.random() * 60
        )
        for i in range(12)
    ]
    backends = [Backend(one, one.estimates) for one in specs]
    now, next_id = 0.0, 0
    for _ in range(120):
        now += rng.choice((0.0, 1.0, 20.0))
        for backend in rng.sample(backends, 3):
            move = rng.random()
            if move < 0.5:
                next_id += 1
                ticket = Ticket(
                    TicketId(next_id),
                    (backend.id,),
                    max_wait=rng.choice((5.0, 60.0)),
                    deadline=now + rng.choice((50.0, 300.0)),
                    priority=rng.choice(list(Priority)),
                    ages=100.0,
                )
                backend.queue.put(ticket, now)
            elif move < 0.8 and backend.queue:
                backend.queue.take(rng.choice(list(backend.queue)))
            elif move < 0.95:
                backend.state = rng.choice(list(BackendState))
            else:
                next_id += 1
                backend.claim = next_id
                backend.pays = () if backend.pays else (backends[0].id,)
            demand.changed(backend)
        demand.review(now)
        waiting = [b for b in backends if b.queue and b.state in COLD]
        order = sorted(waiting, key=lambda b: (*rank_of(policy, b, now), b.id))
        lined_up = [(b, urgency_of(policy, b, now)) for b in order]
        assert list(demand.best_first(set())) == lined_up
        assert list(demand.best_first(set())) == lined_up, "looking changes nothing"
        rivals = [b for b in backends if b.queue and b.state.value in ("draining", "stopping")]
        capacity = {"gpu": 2, "ram": 8}
        for one in backends:
            tickets, cost = demand.rivals(one.needs, capacity)
            sums = [
                sum(len(b.queue) * dict(b.needs).get(name, 0) for b in (*waiting, *rivals))
                for name, _ in one.needs
            ]
            costs = [
                sum(b.swap_cost * dict(b.needs).get(name, 0) for b in (*waiting, *rivals))
                for name, _ in one.needs
            ]
            of = [capacity[name] for name, _ in one.needs]
            assert tickets == max(map(math.ceil, map(truediv, sums, of)), default=0)
            assert cost == pytest.approx(max(map(truediv, costs, of), default=0.0))


def test_a_line_in_vain_is_passed_over() -> None:
    demand = Demand(POLICIES["arrival"]())
    for number, (name, gpu) in enumerate((("a", 2), ("b", 1), ("c", 2), ("d", 1))):
        one = spec(name, gpu=gpu)
        backend = Backend(one, one.estimates)
        backend.queue.put(Ticket(TicketId(number), (one.id,)), float(number))
        demand.changed(backend)
    assert demand.review(10.0) > 10.0
    in_vain: set[Line] = set()
    seen: list[BackendId] = []
    for backend, urgency in demand.best_first(in_vain):
        seen.append(backend.id)
        if backend.id == "a":
            in_vain.add((backend.needs, urgency))
    assert seen == ["a", "b", "d"]
    assert repr(demand) == "<Demand 4 backends in 2 lines>"


def test_what_is_void_is_forgotten() -> None:
    """Somebody always waits in front, and behind him they come and go."""
    demand = Demand(POLICIES["bounded"]())
    backends = [Backend(one, one.estimates) for one in (spec("a"), spec("b"))]
    for number in range(20_000):
        backend = backends[number % 7 > 0]
        ticket = Ticket(TicketId(number), (backend.id,), priority=Priority.BATCH)
        backend.queue.put(ticket, float(number))
        if number > 10:
            backend.queue.take(next(iter(backend.queue)))
        demand.changed(backend)
        demand.review(float(number))
    heaps = [demand._reviews, *demand._lines.values()]
    assert max(map(len, heaps)) <= 2 * SPARE


def test_who_lost_its_claim_has_another_turn_in_the_same_round() -> None:
    demand = Demand(POLICIES["arrival"]())
    for number, name in enumerate(("a", "b", "c")):
        one = spec(name)
        backend = Backend(one, one.estimates)
        backend.queue.put(Ticket(TicketId(number), (one.id,)), float(number))
        backend.pays = (BackendId("x"),) if name == "b" else ()
        demand.changed(backend)
    demand.review(10.0)
    seen: list[BackendId] = []
    for backend, _ in demand.best_first(set()):
        seen.append(backend.id)
        if backend.pays:
            backend.pays = ()
            demand.changed(backend)
            demand.review(10.0)
    assert seen == ["b", "a", "b", "c"]
    assert [backend.id for backend, _ in demand.best_first(set())] == ["a", "b", "c"]
