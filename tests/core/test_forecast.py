"""What is foreseen, against worlds whose future is known."""

from __future__ import annotations

import math

import pytest

from launcher.core.policy import Collation
from launcher.core.scheduler import Scheduler
from launcher.core.types import BackendId, Estimates, Forecast, Priority, TicketId
from tests.core.stage import Stage, spec

MEASURED = Estimates(start=30.0, stop=4.0, service=10.0)


def stage(*names: str, gpu: int = 1, **rest: object) -> Stage:
    return Stage(Scheduler, [spec(n, estimates=MEASURED, **rest) for n in names], gpu=gpu)


def scheduler(s: Stage) -> Scheduler:
    assert isinstance(s.scheduler, Scheduler)
    return s.scheduler


def foreseen(s: Stage, ticket: TicketId) -> Forecast:
    found = scheduler(s).forecasts(s.now).of_ticket(ticket)
    assert found is not None
    return found


def test_a_free_place_takes_a_start() -> None:
    s = stage("a")
    ticket = s.arrive("a")
    assert foreseen(s, ticket).seconds == 30.0
    s.pass_time(12.0)
    assert foreseen(s, ticket).seconds == 18.0
    s.pass_time(100.0)
    late = foreseen(s, ticket)
    assert 0 < late.seconds <= late.spread, "it should be up by now"


def test_who_is_served_or_gone_has_none() -> None:
    s = stage("a")
    ticket = s.arrive("a")
    s.started("a")
    assert scheduler(s).forecasts(s.now).of_ticket(ticket) is None
    assert scheduler(s).forecasts(s.now).of_ticket(TicketId(99)) is None


def test_an_idle_one_has_to_stop_first() -> None:
    s = stage("a", "b")
    s.up("a")
    ticket = s.arrive("b")
    assert foreseen(s, ticket).seconds == pytest.approx(4.0 + 30.0, abs=9.1)
    assert s.state("a") == "stopping"


def test_a_busy_one_is_served_first_at_the_latest_until_the_wait_is_urgent() -> None:
    s = stage("a", "b")
    s.arrive("a")
    s.started("a")
    s.pass_time(500.0)
    ticket = s.arrive("b", max_wait=60.0)
    soon = foreseen(s, ticket)
    assert 30.0 < soon.seconds < 60.0 + 10.0 + 4.0 + 30.0
    assert soon.spread > 0


def test_who_comes_back_again_and_again_goes_only_when_it_is_urgent() -> None:
    s = stage("a", "b", linger=math.inf)
    s.up("a")
    for _ in range(6):
        s.pass_time(1.0)
        ticket = s.arrive("a")
        s.pass_time(10.0)
        s.release(ticket)
    s.pass_time(1.0)
    s.arrive("a")
    waiting = s.arrive("b", max_wait=60.0)
    assert foreseen(s, waiting).seconds > 60.0 + 30.0


def test_the_places_of_those_before_count() -> None:
    s = stage("a", "b", "c")
    first = s.arrive("a")
    second = s.arrive("b", max_wait=10.0)
    third = s.arrive("c", max_wait=20.0)
    s.pass_time(25.0)
    waits = [foreseen(s, t).seconds for t in (first, second, third)]
    assert waits[0] < waits[1] < waits[2]
    # Start, service, stop of the one before, and that may get one more request meanwhile.
    assert 30.0 + 10.0 + 4.0 <= waits[2] - waits[1] < 30.0 + 10.0 + 4.0 + 10.0
    spreads = [foreseen(s, t).spread for t in (first, second, third)]
    assert spreads == sorted(spreads)


def test_two_that_fit_together_wait_for_nobody() -> None:
    s = stage("a", "b", "c", gpu=2)
    s.arrive("a")
    assert foreseen(s, s.arrive("b")).seconds == 30.0
    assert foreseen(s, s.arrive("c")).seconds > 60.0


def test_turns_are_counted() -> None:
    s = stage("a", max_in_flight=2)
    tickets = [s.arrive("a") for _ in range(7)]
    s.started("a")
    s.pass_time(10.0)
    waits = [foreseen(s, t) for t in tickets[2:]]
    assert [w.place for w in waits] == [1, 2, 3, 4, 5]
    assert waits[4].seconds - waits[0].seconds == pytest.approx(20.0)


def test_what_one_more_would_wait() -> None:
    s = stage("a", "b")
    s.up("a")
    later = scheduler(s).forecasts(s.now).of_new()
    assert BackendId("a") not in later, "it would be served at once"
    assert later[BackendId("b")].seconds == pytest.approx(34.0, abs=9.1)


def test_a_turn_comes_when_one_that_is_served_now_is_done() -> None:
    s = stage("a", max_in_flight=2)
    s.up("a")
    s.pass_time(100.0)
    s.arrive("a")
    s.pass_time(4.0)
    s.arrive("a")
    tickets = [s.arrive("a") for _ in range(3)]
    shown = [foreseen(s, t).seconds for t in tickets]
    # Of 10 s, and one of none that brought it up.
    service = 0.7 * 10.0
    assert shown[2] - shown[0] == pytest.approx(service)
    assert shown[0] < shown[1] < shown[2]


def test_who_came_before_a_drain_is_still_served_by_it() -> None:
    s = stage("a", "b", max_in_flight=1)
    first = s.arrive("a")
    s.started("a")
    before = s.arrive("a", max_wait=1000.0)
    s.arrive("b", max_wait=20.0)
    s.pass_time(50.0)
    assert s.state("a") == "draining"
    after = s.arrive("a")
    assert foreseen(s, before).seconds < 10.0
    # This drain, b's stop and start, a service there, and back.
    assert foreseen(s, after).seconds > 2 * (30.0 + 4.0)
    assert foreseen(s, after).place == 1
    s.release(first)
    assert s.code(before) is None


def agent(s: Stage, name: str) -> None:
    """Asks, is answered in 4 s, reads for a second, and so on."""
    for _ in range(8):
        ticket = s.arrive(name)
        if s.state(name) == "starting":
            s.started(name)
        s.pass_time(4.0)
        s.release(ticket)
        s.pass_time(1.0)
    s.arrive(name)


def test_one_that_is_starting_will_be_used_until_somebody_is_overdue() -> None:
    s = stage("a", "b", linger=math.inf)
    agent(s, "a")
    s.pass_time(4.0)
    other = s.arrive("b", max_wait=60.0)
    # Overdue in a minute; what is served then is half over; a stop and a start.
    assert foreseen(s, other).seconds == pytest.approx(60.0 + 2.0 + 4.0 + 30.0, abs=4.0)
    s.pass_time(70.0)
    assert s.state("a") == "draining"
    for ticket in list(s.flying):
        s.release(ticket)
    s.stopped("a")
    s.started("b")
    s.release(other)
    agent(s, "b")
    waiting = s.arrive("a", max_wait=60.0)
    for ticket in list(s.flying):
        s.release(ticket)
    s.pass_time(70.0)
    s.stopped("b")
    s.started("a")
    s.release(waiting)
    other = s.arrive("b", max_wait=500.0)
    s.pass_time(70.0)
    s.stopped("a")
    assert s.state("b") == "starting"
    waiting = s.arrive("a", max_wait=60.0)
    assert foreseen(s, waiting).seconds == pytest.approx(60.0 + 2.0 + 4.0 + 30.0, abs=4.0)


def test_what_one_more_would_wait_is_known_beside_one_in_steady_use() -> None:
    s = stage("a", "b", linger=math.inf)
    agent(s, "a")
    assert scheduler(s).forecasts(s.now).of_new()[BackendId("b")].seconds < 60.0 + 10.0 + 4.0 + 30.0


def test_where_nobody_is_ever_overdue_it_may_take_for_ever_and_is_no_error() -> None:
    s = Stage(
        lambda room: Scheduler(room, Collation()),
        [spec(n, estimates=MEASURED, linger=math.inf) for n in "abc"],
    )
    agent(s, "a")
    tickets = [s.arrive("b"), s.arrive("c"), s.arrive("c")]
    for ticket in tickets:
        found = foreseen(s, ticket)
        assert found.seconds > 34.0
        assert not math.isnan(found.seconds)
        assert not math.isnan(found.spread)
    scheduler(s).forecasts(s.now).of_new()


# -- leases and orders


def test_who_waits_behind_a_lease_knows_its_end() -> None:
    s = stage("a", "b")
    s.up("a")
    s.lease("a", ttl=100.0)
    s.pass_time(40.0)
    ticket = s.arrive("b")
    assert foreseen(s, ticket).seconds == pytest.approx(60.0 + 3.0 + 30.0, abs=2.0)
    assert scheduler(s).forecasts(s.now).of_new()[BackendId("b")].seconds >= 90.0


def test_nobody_can_tell_when_a_pin_ends() -> None:
    s = stage("a", "b")
    s.up("a")
    s.lease("a", ttl=math.inf)
    assert foreseen(s, s.arrive("b")).seconds == math.inf


def test_who_fits_beside_a_pin_does_not_wait_for_who_does_not() -> None:
    s = Stage(
        Scheduler,
        [spec("a"), spec("b", gpu=2), spec("c", estimates=MEASURED), spec("d", estimates=MEASURED)],
        gpu=2,
    )
    s.up("a")
    s.lease("a", ttl=math.inf)
    s.up("d")
    stream = s.arrive("d")
    blocked = s.arrive("b", max_wait=0.0)
    ticket = s.arrive("c", max_wait=0.0)
    assert foreseen(s, blocked).seconds == math.inf
    assert foreseen(s, ticket).seconds < 100.0
    s.release(stream)


def test_a_lease_that_waits_keeps_its_place_for_as_long_as_it_lasts() -> None:
    s = stage("a", "b")
    s.lease("a", ttl=1000.0)
    assert foreseen(s, s.arrive("b")).seconds >= 1030.0


def test_a_leased_one_that_died_is_back_before_anybody_else() -> None:
    s = stage("a", "b")
    s.up("a")
    s.lease("a", ttl=1000.0)
    s.dies("a")
    s.observe("a")
    found = scheduler(s).forecasts(s.now).of_new()
    assert found[BackendId("a")].seconds < 40.0
    assert found[BackendId("b")].seconds >= 1000.0


def test_an_order_waits_for_what_runs_alone() -> None:
    s = stage("a", "b", max_in_flight=1)
    s.up("a")
    for _ in range(20):
        s.arrive("a")
    ordinary = s.arrive("b", max_wait=1000.0)
    long = foreseen(s, ordinary).seconds
    ordered = s.order("b")
    assert foreseen(s, ordered).place == 1
    assert foreseen(s, ordered).seconds < 60.0 < long


def test_who_has_paid_is_expected_before_a_higher_class() -> None:
    s = stage("a", "b")
    s.up("a")
    normal = s.arrive("b")
    assert s.state("a") == "stopping"
    chat = s.arrive("a", priority=Priority.INTERACTIVE)
    assert foreseen(s, normal).seconds < 40.0 < foreseen(s, chat).seconds
