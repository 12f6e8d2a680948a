"""What is foreseen, against worlds whose future is known."""

from __future__ import annotations

import math

import pytest

from launcher.core.effects import Decided, Start
from launcher.core.scheduler import Scheduler
from launcher.core.types import BackendId, Estimates, Forecast, Ticket, TicketId
from tests.core.stage import Stage, spec

MEASURED = Estimates(start=30.0, stop=4.0, service=10.0)


def stage(*names: str, gpu: int = 1, **rest: object) -> Stage:
    return Stage(Scheduler, [spec(n, estimates=MEASURED, **rest) for n in names], gpu=gpu)


def scheduler(s: Stage) -> Scheduler:
    assert isinstance(s.scheduler, Scheduler)
    return s.scheduler


def foreseen(s: Stage, ticket: TicketId) -> Forecast:
    found = scheduler(s).forecast(ticket, s.now)
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
    assert scheduler(s).forecast(ticket, s.now) is None
    assert scheduler(s).forecast(TicketId(99), s.now) is None


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
    # Start, service, stop of each before.
    assert waits[2] - waits[1] == pytest.approx(30.0 + 10.0 + 4.0, abs=0.1)
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
    later = scheduler(s).forecasts(s.now)
    assert BackendId("a") not in later, "it would be served at once"
    assert later[BackendId("b")].seconds == pytest.approx(34.0, abs=9.1)


def test_a_plan_is_what_would_happen_and_nothing_happens() -> None:
    s = stage("a", "b")
    s.up("a")
    s.pass_time(5.0)
    before = scheduler(s).snapshot(s.now)
    ticket = Ticket(TicketId(99), (BackendId("b"),))
    effects = scheduler(s).plan(ticket, s.now)
    assert [e.backend for e in effects if isinstance(e, Decided)] == ["a"]
    assert scheduler(s).snapshot(s.now) == before
    assert not any(isinstance(e, Start) for e in effects), "a has to stop first"
    s.arrive("b")
    assert [type(e) for e in s.last] == [type(e) for e in effects]
