"""Who is served next, who is overdue, who is ahead of whom."""

from __future__ import annotations

import math

from launcher.core.queue import SPARE, Queue
from launcher.core.types import BackendId, Priority, Ticket, TicketId, Wake

A = BackendId("a")


def ticket(number: int, priority: Priority = Priority.NORMAL, **rest: object) -> Ticket:
    return Ticket(TicketId(number), (A,), priority=priority, **rest)  # type: ignore[arg-type]


def order(queue: Queue, now: float) -> list[int]:
    found = []
    while (first := queue.first(now)) is not None:
        found.append(queue.take(first.ticket.id).ticket.id)
    return [int(id) for id in found]


def test_by_class_and_within_a_class_by_arrival() -> None:
    queue = Queue()
    queue.put(ticket(1, Priority.BATCH), 0.0)
    queue.put(ticket(2), 1.0)
    queue.put(ticket(3, Priority.INTERACTIVE), 2.0)
    queue.put(ticket(4), 3.0)
    assert queue.rank(5.0) == Priority.INTERACTIVE
    assert order(queue, 5.0) == [3, 2, 4, 1]
    assert queue.first(5.0) is None
    assert not queue


def test_who_waits_long_rises_class_by_class() -> None:
    queue = Queue()
    queue.put(ticket(1, Priority.BATCH, ages=200.0), 0.0)
    queue.put(ticket(2, Priority.NORMAL, ages=100.0), 90.0)
    assert queue.ages_at(99.0) == 100.0
    assert queue.rank(99.0) == Priority.NORMAL
    assert queue.ahead_of(TicketId(1), 99.0) == 1
    assert queue.ahead_of(TicketId(1), 100.0) == 0, "both are normal, and it came first"
    assert queue.ages_at(100.0) == 190.0
    assert queue.rank(189.0) == Priority.NORMAL
    assert queue.rank(190.0) == Priority.INTERACTIVE
    assert queue.ages_at(190.0) == 200.0
    assert queue.ages_at(200.0) == math.inf


def test_only_those_up_to_some_arrival() -> None:
    queue = Queue()
    queue.put(ticket(1), 0.0)
    until = queue.arrivals
    queue.put(ticket(2, Priority.INTERACTIVE), 0.0)
    first = queue.first(0.0, until)
    assert first is not None
    assert first.ticket.id == 1


def test_the_earliest_overdue_is_one_that_still_waits() -> None:
    queue = Queue()
    queue.put(ticket(1, max_wait=5.0), 0.0)
    queue.put(ticket(2, max_wait=60.0), 0.0)
    assert queue.overdue_at() == 5.0
    queue.take(TicketId(1))
    assert queue.overdue_at() == 60.0
    queue.take(TicketId(2))
    assert queue.overdue_at() == queue.oldest == math.inf


def test_who_may_not_wake_anything_presses_nobody() -> None:
    queue = Queue()
    queue.put(ticket(1, wake=Wake.NEVER), 0.0)
    queue.put(ticket(2, wake=Wake.IF_IDLE), 0.0)
    assert not queue.pressing
    queue.put(ticket(3), 0.0)
    assert queue.pressing
    queue.take(TicketId(3))
    assert not queue.pressing
    assert list(queue) == [1, 2]
    assert repr(queue) == "<Queue 2>"


def test_the_departed_leave_little_behind() -> None:
    """Even where one that is overdue and isn't served stands before them."""
    queue = Queue()
    queue.put(ticket(0, Priority.BATCH, max_wait=0.0), 0.0)
    for number in range(1, 5000):
        queue.put(ticket(number), float(number))
        if number > 1:
            queue.take(TicketId(number - 1))
    assert len(queue._overdue) <= 2 * SPARE
