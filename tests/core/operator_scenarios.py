"""What operators may count on, one rule a scenario: leases, switches, drains, reloads."""

from __future__ import annotations

import math

from launcher.core import events as ev
from launcher.core.effects import Abort, Action, Admit, Decided, Inspect, Replace
from launcher.core.types import BackendId, Hold, OnLease, TicketId, Wake, needs
from tests.core.policy_scenarios import SCENARIOS, loop, told, warm
from tests.core.scenarios import pair, scenario
from tests.core.stage import Make, Stage, spec

__all__ = ["SCENARIOS"]

A, B = BackendId("a"), BackendId("b")
REJECT = OnLease.REJECT


def ready(make: Make, *names: str, gpu: int = 1, **rest: object) -> Stage:
    """Backends of which `gpu` fit at a time; the first is up and idle."""
    s = Stage(make, [spec(name, **rest) for name in names or ("a", "b")], gpu=gpu)
    s.up("a")
    return s


def leased(make: Make, *names: str, ttl: float = 100.0, **rest: object) -> tuple[Stage, TicketId]:
    """The first is up, and leased."""
    s = ready(make, *names, **rest)
    return s, s.lease("a", ttl=ttl)


# -- a lease: from its grant to its end


@scenario
def a_lease_s_time_runs_from_the_grant(make: Make) -> None:
    s = pair(make)
    ticket = s.lease("a", ttl=100.0)
    s.pass_time(40.0)
    s.started("a")
    assert s.leases == {ticket: ("a", 140.0)}
    grant = next(e for e in s.last if isinstance(e, Admit))
    assert (grant.until, grant.cold) == (140.0, True)
    s.pass_time(99.9)
    assert s.leases
    s.pass_time(0.1)
    assert s.code(ticket) == "expired"


@scenario
def what_is_ready_is_leased_at_once_however_full_it_is(make: Make) -> None:
    s = ready(make, max_in_flight=1)
    s.arrive("a")
    waiting = s.arrive("a")
    s.lease("a")
    assert s.leases
    assert waiting in s.queued, "a lease is no request, and changes nothing for those"


@scenario
def a_lease_takes_no_turn(make: Make) -> None:
    s, _ = leased(make, max_in_flight=1)
    ticket = s.arrive("a")
    assert ticket in s.flying


@scenario
def a_leased_backend_isn_t_stopped_for_being_idle(make: Make) -> None:
    s, ticket = leased(make, idle_timeout=10.0)
    s.pass_time(90.0)
    assert s.stops == []
    s.pass_time(15.0)
    assert s.code(ticket) == "expired"
    assert s.stops == []
    s.pass_time(5.0)
    assert s.stops == [("a", "idle")], "idle time counts from the end of the lease"


@scenario
def nobody_makes_a_leased_backend_go(make: Make) -> None:
    s, _ = leased(make)
    waiting = s.arrive("b", max_wait=1.0, deadline=90.0)
    s.pass_time(50.0)
    assert (s.state("a"), s.stops) == ("ready", [])
    s.pass_time(41.0)
    assert s.code(waiting) == "queue_timeout"


@scenario
def those_who_waited_have_the_place_when_the_lease_ends(make: Make) -> None:
    s, _ = leased(make)
    waiting = s.arrive("b", max_wait=1.0)
    s.pass_time(101.0)
    assert s.stops == [("a", "evicted")]
    s.stopped("a")
    s.started("b")
    assert waiting in s.flying


@scenario
def a_lease_whose_end_was_slept_through_ends_with_whatever_happens_next(make: Make) -> None:
    s, ticket = leased(make)
    s.arrive("b", max_wait=0.0)
    s.now = 500.0
    s.drain("a")
    assert s.code(ticket) == "expired"
    assert s.stops == [("a", "evicted")]


@scenario
def those_who_waited_have_the_place_when_the_lease_is_let_go(make: Make) -> None:
    s, ticket = leased(make)
    s.arrive("b")
    stream = s.arrive("a")
    s.unlease(ticket)
    assert s.state("a") == "ready", "who is in use goes on, as ever"
    s.release(stream)
    assert s.stops == [("a", "evicted")]


@scenario
def who_waits_too_long_already_drains_a_busy_one_when_its_lease_ends(make: Make) -> None:
    s, ticket = leased(make, start_guess=1.0, stop_guess=1.0)
    s.arrive("a")
    s.arrive("b", max_wait=1.0)
    s.pass_time(50.0)
    assert s.state("a") == "ready"
    s.unlease(ticket)
    assert s.state("a") == "draining"


@scenario
def the_impatient_are_told_and_when_to_come_back(make: Make) -> None:
    s, _ = leased(make)
    s.pass_time(30.0)
    ticket = s.arrive("b", on_lease=REJECT)
    assert s.rejected[ticket].code == "leased"
    assert s.rejected[ticket].retry_after == 70.0
    assert "a" in s.rejected[ticket].message


@scenario
def the_impatient_come_back_when_enough_leases_have_ended(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b", gpu=2), spec("c")], gpu=3)
    s.lease("a", ttl=300.0)
    s.lease("c", ttl=200.0)
    s.started("a")
    s.started("c")
    assert s.rejected[s.arrive("b", on_lease=REJECT)].retry_after == 200.0


@scenario
def who_is_coming_up_beside_a_lease_is_waited_for(make: Make) -> None:
    s, _ = leased(make)
    s.somebody_starts("b")
    s.observe("b")
    impatient, ordered = s.arrive("b", on_lease=REJECT), s.order("b")
    s.started("b")
    assert {impatient, ordered} <= set(s.flying)


@scenario
def the_impatient_behind_a_pin_are_not_told_when(make: Make) -> None:
    s, _ = leased(make, ttl=math.inf)
    ticket = s.arrive("b", on_lease=REJECT)
    assert (s.rejected[ticket].code, s.rejected[ticket].retry_after) == ("leased", None)


@scenario
def the_impatient_who_waited_already_are_told_when_a_lease_begins(make: Make) -> None:
    s = ready(make)
    s.arrive("a")
    impatient, patient = s.arrive("b", on_lease=REJECT), s.arrive("b")
    assert impatient in s.queued
    s.lease("a")
    assert s.code(impatient) == "leased"
    assert patient in s.queued


@scenario
def the_impatient_are_served_where_it_is_leased(make: Make) -> None:
    s, _ = leased(make)
    assert s.arrive("a", on_lease=REJECT) in s.flying


@scenario
def who_fits_beside_a_lease_is_none_of_its_business(make: Make) -> None:
    s, _ = leased(make, "a", "b", gpu=2)
    s.arrive("b", on_lease=REJECT)
    assert s.starts == ["a", "b"]


@scenario
def who_waits_for_a_lease_s_end_keeps_nobody_else_from_a_place(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b", gpu=2), spec("c")], gpu=2)
    s.up("a")
    s.lease("a")
    s.arrive("b", max_wait=1.0)
    s.pass_time(50.0)
    s.arrive("c")
    assert s.starts == ["a", "c"]


@scenario
def who_waits_for_a_lease_s_end_makes_nobody_drain(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b", gpu=2), spec("c")], gpu=2)
    s.up("a")
    s.lease("a")
    s.up("c")
    s.arrive("b", max_wait=1.0)
    s.pass_time(50.0)
    assert (s.state("c"), s.stops) == ("ready", [])


@scenario
def who_waits_for_a_lease_s_end_is_nobody_s_rival(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b", gpu=2), spec("c", linger=60.0), spec("d")], gpu=2)
    s.up("a")
    s.lease("a")
    warm(s, "c")
    s.pass_time(5.0)
    loop(s, "c", 5.0, 5)
    for _ in range(30):
        s.arrive("b", max_wait=1000.0)
    s.arrive("d", max_wait=1000.0)
    assert s.state("c") == "ready", "one waits for its place, and thirty don't"
    s.pass_time(1.0)
    assert s.stops == [("c", "evicted")]


@scenario
def who_may_wake_nothing_does_not_wait_for_a_lease(make: Make) -> None:
    s, _ = leased(make)
    assert s.code(s.arrive("b", wake=Wake.IF_IDLE)) == "not_resident"


@scenario
def of_several_one_is_started_that_leases_leave_a_place(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b", gpu=2), spec("c")], gpu=2)
    s.up("a")
    s.lease("a")
    s.arrive("b", "c", on_lease=REJECT)
    assert s.starts == ["a", "c"]


@scenario
def of_several_the_next_is_tried_when_a_lease_takes_the_place(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b", gpu=2), spec("c"), spec("d")], gpu=2)
    s.up("a")
    s.up("d")
    stream = s.arrive("d")
    s.arrive("b", "c", on_lease=REJECT)
    s.lease("a")
    assert s.state("d") == "ready"
    s.release(stream)
    s.stopped("d")
    assert s.starts[-1] == "c"


# -- which leases go together


@scenario
def two_leases_on_one_backend(make: Make) -> None:
    s, first = leased(make)
    s.lease("a", ttl=50.0)
    s.pass_time(60.0)
    assert list(s.leases) == [first]
    s.arrive("b", max_wait=1.0)
    s.pass_time(30.0)
    assert s.state("a") == "ready"
    s.pass_time(11.0)
    assert s.stops == [("a", "evicted")]


@scenario
def a_lease_that_does_not_fit_beside_another_is_refused(make: Make) -> None:
    s, _ = leased(make)
    ticket = s.lease("b")
    assert s.rejected[ticket].code == "leased"
    assert s.rejected[ticket].retry_after == 100.0
    assert s.state("a") == "ready"


@scenario
def a_lease_that_waits_counts_against_the_next(make: Make) -> None:
    s = ready(make)
    s.arrive("a")
    waiting = s.lease("b")
    assert waiting in s.queued
    assert s.code(s.lease("a")) == "leased"


@scenario
def leases_that_fit_together(make: Make) -> None:
    s, _ = leased(make, "a", "b", gpu=2)
    s.lease("b")
    s.started("b")
    assert len(s.leases) == 2


@scenario
def two_resources_both_have_to_fit(make: Make) -> None:
    s = Stage(make, [spec("a", gpu=1, ram=2), spec("b", gpu=1, ram=1)], gpu=2, ram=2)
    s.lease("a")
    s.started("a")
    assert s.code(s.lease("b")) == "leased"


@scenario
def of_several_a_lease_takes_one_that_fits_beside_the_others(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b", gpu=2), spec("c")], gpu=2)
    s.up("a")
    s.arrive("a")
    s.lease("c")
    s.lease("b", "a")
    assert [on for on, _ in s.leases.values()] == ["a"]


# -- a lease and what may befall its backend


@scenario
def a_leased_backend_that_dies_is_started_again(make: Make) -> None:
    s, _ = leased(make, ttl=math.inf)
    s.dies("a")
    s.observe("a")
    assert (s.state("a"), s.starts) == ("stopped", ["a"])
    s.pass_time(1.0)
    assert s.starts == ["a", "a"]
    s.started("a")
    assert s.leases


@scenario
def a_leased_backend_that_dies_over_and_over_is_started_ever_less_often(make: Make) -> None:
    s, _ = leased(make, ttl=math.inf)
    for wait in (1.0, 2.0, 4.0):
        s.dies("a")
        s.observe("a")
        s.pass_time(wait - 0.1)
        assert s.state("a") == "stopped"
        s.pass_time(0.1)
        s.started("a")
    s.pass_time(1000.0)
    s.dies("a")
    s.observe("a")
    s.pass_time(1.0)
    assert s.state("a") == "starting", "it had run for long"


@scenario
def a_leased_backend_that_died_starts_at_once_for_who_asks(make: Make) -> None:
    s, _ = leased(make)
    s.dies("a")
    s.observe("a")
    waiting = s.arrive("a")
    assert s.state("a") == "starting"
    s.started("a")
    assert waiting in s.flying


@scenario
def the_place_of_a_leased_backend_that_died_is_kept(make: Make) -> None:
    s, _ = leased(make)
    waiting = s.arrive("b", max_wait=0.0)
    s.dies("a")
    s.observe("a")
    assert s.starts == ["a"]
    assert waiting in s.queued


@scenario
def the_place_of_a_leased_backend_that_died_is_nobody_s_room(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c", gpu=2)], gpu=3)
    s.up("a")
    s.lease("a")
    s.up("b")
    s.dies("a")
    s.observe("a")
    s.arrive("c")
    assert (s.stops, s.starts) == ([("b", "evicted")], ["a", "b"])


@scenario
def the_place_of_a_leased_backend_that_restarts_is_kept(make: Make) -> None:
    s, _ = leased(make, "a", "b", "c")
    s.hung("a")
    s.arrive("b", max_wait=0.0)
    s.pass_time(6.0)
    s.stopped("a")
    assert s.starts == ["a", "a"]
    s.started("a")
    assert s.leases


@scenario
def a_leased_backend_whose_start_fails_is_tried_again_as_its_back_off_allows(make: Make) -> None:
    s, ticket = leased(make, ttl=math.inf)
    s.dies("a")
    s.observe("a")
    s.pass_time(1.0)
    s.start_fails("a")
    s.stopped("a")
    assert (s.state("a"), ticket in s.leases) == ("failed", True)
    s.pass_time(1.9)
    assert s.state("a") == "failed"
    s.pass_time(0.1)
    assert s.state("a") == "starting"


@scenario
def a_leased_backend_that_is_missing_is_looked_for_ever_less_often(make: Make) -> None:
    s, _ = leased(make, ttl=math.inf)
    s.dies("a")
    s.observe("a")
    s.pass_time(1.0)
    for wait in (2.0, 4.0, 8.0):
        s.start_fails("a", "backend_missing")
        s.stopped("a")
        s.pass_time(wait - 0.1)
        assert s.state("a") == "failed"
        s.pass_time(0.1)
        assert s.state("a") == "starting"


@scenario
def a_leased_backend_is_not_started_while_its_engine_is_away(make: Make) -> None:
    s, _ = leased(make)
    s.dies("a")
    s.observe("a")
    s.feed(ev.Reachable((A, B), False))
    s.pass_time(10.0)
    assert s.starts == ["a"]
    s.feed(ev.Reachable((A, B), True))
    assert s.starts == ["a", "a"]


@scenario
def a_leased_backend_takes_its_place_back_from_a_stranger(make: Make) -> None:
    s, _ = leased(make)
    s.dies("a")
    s.observe("a")
    s.somebody_starts("b")
    s.observe("b")
    s.started("b")
    s.pass_time(1.0)
    assert s.stops == [("b", "evicted")]
    s.stopped("b")
    assert s.starts == ["a", "a"]


@scenario
def a_start_that_failed_for_a_lease_ends_it_before_it_began(make: Make) -> None:
    s = pair(make)
    ticket = s.lease("a")
    s.start_fails("a")
    assert s.code(ticket) == "backend_start_failed"
    s.stopped("a")
    s.pass_time(100.0)
    assert s.starts == ["a"]


@scenario
def a_lease_that_ends_while_its_backend_starts_again_lets_it_finish(make: Make) -> None:
    s, ticket = leased(make)
    s.arrive("b", max_wait=0.0)
    s.pass_time(95.0)
    s.dies("a")
    s.observe("a")
    s.pass_time(10.0)
    assert (s.code(ticket), s.state("a")) == ("expired", "starting")
    s.started("a")
    assert s.stops == [("a", "evicted")]


@scenario
def a_lease_that_ends_before_its_backend_is_started_again_leaves_it_down(make: Make) -> None:
    s, ticket = leased(make)
    waiting = s.arrive("b", max_wait=0.0)
    s.pass_time(99.5)
    s.dies("a")
    s.observe("a")
    s.pass_time(0.5)
    assert (s.code(ticket), s.starts) == ("expired", ["a", "b"])
    s.started("b")
    assert waiting in s.flying


@scenario
def a_lease_outlives_the_launcher_s_end(make: Make) -> None:
    s, ticket = leased(make)
    waiting = s.lease("a", ttl=50.0)
    assert waiting in s.leases
    s.feed(ev.Closed())
    s.pass_time(200.0)
    assert set(s.leases) == {ticket, waiting}
    assert s.code(s.lease("a")) == "draining"


@scenario
def a_lease_is_asked_for_in_vain_while_its_backend_doesn_t_stop(make: Make) -> None:
    s = ready(make)
    s.feed(ev.StopRequested(A))
    s.stop_fails("a")
    assert s.code(s.lease("a")) == "backend_stop_failed"


@scenario
def a_lease_clears_a_back_off(make: Make) -> None:
    s = pair(make)
    s.arrive("a")
    s.start_fails("a")
    s.stopped("a")
    s.lease("a")
    assert s.starts == ["a", "a"]


@scenario
def a_lease_makes_one_go_on_that_drains_for_somebody_else(make: Make) -> None:
    s = ready(make, start_guess=1.0, stop_guess=1.0, max_in_flight=1)
    s.arrive("a")
    s.pass_time(10.0)
    waiting = s.arrive("b", max_wait=0.0)
    assert s.state("a") == "draining"
    s.lease("a")
    assert (s.state("a"), len(s.leases)) == ("ready", 1)
    assert waiting in s.queued


@scenario
def a_lease_waits_for_the_end_of_a_stop(make: Make) -> None:
    s = ready(make)
    s.arrive("b")
    assert s.state("a") == "stopping"
    ticket = s.lease("a")
    s.stopped("a")
    assert s.starts == ["a", "a"], "it was ordered, and b was not"
    s.started("a")
    assert ticket in s.leases


@scenario
def surplus_does_not_cost_a_lease(make: Make) -> None:
    s, _ = leased(make)
    s.somebody_starts("b")
    s.observe("b")
    s.started("b")
    assert s.stops == [("b", "surplus")]


@scenario
def a_lease_says_nothing_of_what_traffic_is_like(make: Make) -> None:
    s = ready(make, idle_timeout=5.0)
    before = s.scheduler.snapshot(s.now).backends[A].estimates
    ticket = s.lease("a")
    s.pass_time(50.0)
    s.unlease(ticket)
    assert s.scheduler.snapshot(s.now).backends[A].estimates == before


@scenario
def a_lease_is_no_request_of_those_that_habits_are_learned_from(make: Make) -> None:
    s = Stage(make, [spec("a", linger=60.0), spec("b")])
    warm(s, "a")
    for _ in range(6):
        s.pass_time(10.0)
        s.release(s.arrive("a"))
        s.unlease(s.lease("a"))
    s.arrive("b", max_wait=1000.0)
    s.pass_time(10.5)
    assert s.state("a") == "ready", "it lingers for as long as its requests say"
    s.pass_time(1.0)
    assert s.stops == [("a", "evicted")]


@scenario
def who_was_only_leased_is_not_wanted_soon(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c")], gpu=2)
    warm(s, "b")
    s.pass_time(1000.0)
    ticket = s.lease("a")
    s.pass_time(30.0)
    s.started("a")
    s.unlease(ticket)
    s.arrive("c")
    assert s.stops == [("a", "evicted")]


@scenario
def a_lease_taken_back_before_its_grant_leaves_nobody_to_linger_for(make: Make) -> None:
    s = pair(make, linger=60.0)
    ticket = s.lease("a")
    s.arrive("b")
    s.abandon(ticket)
    s.started("a")
    assert s.stops == [("a", "evicted")]


# -- renewals


@scenario
def a_lease_is_renewed(make: Make) -> None:
    s, ticket = leased(make)
    s.pass_time(90.0)
    s.renew(ticket, s.now + 100.0)
    s.pass_time(99.0)
    assert s.leases
    s.pass_time(1.0)
    assert s.code(ticket) == "expired"


@scenario
def a_lease_is_cut_short(make: Make) -> None:
    s, ticket = leased(make)
    s.arrive("b")
    s.renew(ticket, s.now + 10.0)
    s.pass_time(10.0)
    assert s.code(ticket) == "expired"
    assert s.stops == [("a", "evicted")]


@scenario
def a_lease_renewed_into_the_past_ends_at_once(make: Make) -> None:
    s, ticket = leased(make)
    s.arrive("b")
    s.pass_time(5.0)
    s.renew(ticket, s.now - 1.0)
    assert s.code(ticket) == "expired"
    assert s.stops == [("a", "evicted")]


@scenario
def a_lease_becomes_a_pin_and_back(make: Make) -> None:
    s, ticket = leased(make)
    s.renew(ticket, math.inf)
    s.pass_time(10_000.0)
    assert s.leases
    s.renew(ticket, s.now + 5.0)
    s.pass_time(5.0)
    assert s.code(ticket) == "expired"


# -- leases of an earlier run


@scenario
def a_lease_of_an_earlier_run_is_in_force_at_once(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b")], seen=False)
    ticket = s.lease("a", hold=Hold(0.0, until=60.0))
    assert s.leases == {ticket: ("a", 60.0)}
    assert s.starts == [], "nobody has said yet what runs"
    s.arrive("b", max_wait=0.0)
    s.observe("b")
    s.observe("a")
    assert s.starts == ["a"]


@scenario
def a_lease_of_an_earlier_run_finds_its_backend_running(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b")], seen=False)
    s.somebody_starts("a")
    s.lease("a", hold=Hold(0.0, until=60.0))
    s.observe("a")
    s.observe("b")
    s.started("a")
    assert s.starts == []
    s.pass_time(60.0)
    assert not s.leases


@scenario
def a_lease_of_an_earlier_run_is_refused_by_no_drain_and_no_back_off(make: Make) -> None:
    s = pair(make)
    s.arrive("a")
    s.start_fails("a")
    s.stopped("a")
    s.drain()
    s.feed(ev.Reachable((A, B), False))
    ticket = s.lease("a", hold=Hold(0.0, until=600.0))
    assert ticket in s.leases


@scenario
def a_lease_that_ended_in_the_meantime_ends_at_once(make: Make) -> None:
    s = pair(make)
    s.now = 100.0
    ticket = s.lease("a", hold=Hold(0.0, until=60.0))
    assert s.code(ticket) == "expired"
    assert s.starts == []


@scenario
def a_lease_of_an_earlier_run_makes_one_go_on_that_drains(make: Make) -> None:
    s = ready(make, start_guess=1.0, stop_guess=1.0)
    s.arrive("a")
    s.pass_time(10.0)
    s.arrive("b", max_wait=0.0)
    assert s.state("a") == "draining"
    s.lease("a", hold=Hold(0.0, until=600.0))
    assert s.state("a") == "ready"


@scenario
def a_lease_of_an_earlier_run_makes_one_go_on_that_was_idle(make: Make) -> None:
    s = ready(make, asks_busy=True, idle_timeout=10.0)
    s.pass_time(10.0)
    assert s.state("a") == "draining"
    s.lease("a", hold=Hold(0.0, until=600.0))
    assert s.state("a") == "ready"


# -- operators' stops


@scenario
def a_stop_waits_for_the_end_of_a_lease_and_the_backend_serves_on(make: Make) -> None:
    s, _ = leased(make)
    s.feed(ev.StopRequested(A))
    stream = s.arrive("a")
    assert (s.state("a"), stream in s.flying) == ("ready", True)
    s.pass_time(100.0)
    assert s.state("a") == "draining"
    s.release(stream)
    assert s.stops == [("a", "operator")]


@scenario
def a_stop_that_waits_is_called_off_by_another_order(make: Make) -> None:
    s, _ = leased(make)
    s.feed(ev.StopRequested(A))
    s.lease("a", ttl=50.0)
    s.pass_time(101.0)
    assert s.state("a") == "ready"


@scenario
def a_stop_that_waits_is_called_off_by_a_start(make: Make) -> None:
    s, _ = leased(make)
    s.feed(ev.StopRequested(A))
    s.release(s.arrive("a", operator=True))
    s.pass_time(101.0)
    assert s.state("a") == "ready"


@scenario
def a_stop_that_waits_is_over_with_what_it_was_for(make: Make) -> None:
    s, ticket = leased(make)
    s.feed(ev.StopRequested(A))
    s.dies("a")
    s.observe("a")
    s.unlease(ticket)
    s.up("a")
    s.pass_time(50.0)
    assert s.state("a") == "ready"


@scenario
def force_breaks_a_lease(make: Make) -> None:
    s, ticket = leased(make)
    stream = s.arrive("a")
    s.feed(ev.StopRequested(A, force=True))
    assert s.code(ticket) == "broken"
    assert [e.backend for e in s.last if isinstance(e, Abort)] == ["a"]
    s.release(stream)
    assert s.stops == [("a", "operator")]
    s.stopped("a")
    s.pass_time(100.0)
    assert s.starts == ["a"]


# -- switches: what an operator orders goes first


@scenario
def an_order_drains_a_busy_one_at_once(make: Make) -> None:
    s = ready(make)
    stream = s.arrive("a")
    ticket = s.order("b")
    assert s.state("a") == "draining"
    assert told(s, Action.DRAIN).why == "ordered"
    assert s.stops == [], "what runs is served to its end"
    s.release(stream)
    s.stopped("a")
    s.started("b")
    assert ticket in s.flying


@scenario
def an_order_drains_a_busy_one_though_others_wait_already(make: Make) -> None:
    s = ready(make)
    s.arrive("a")
    s.arrive("b", max_wait=1000.0)
    s.order("b")
    assert s.state("a") == "draining"


@scenario
def an_order_goes_ahead_of_who_waits_for_another(make: Make) -> None:
    s = ready(make, "a", "b", "c")
    s.arrive("a")
    s.pass_time(1000.0)
    s.arrive("b", max_wait=0.0)
    s.order("c")
    s.release(next(iter(s.flying)))
    s.stopped("a")
    assert s.starts == ["a", "c"]


@scenario
def an_order_goes_ahead_of_its_own_queue(make: Make) -> None:
    s = pair(make, max_in_flight=1)
    s.arrive("a")
    ticket = s.order("a")
    s.started("a")
    assert list(s.flying) == [ticket]


@scenario
def an_order_waits_for_nobody_s_queue(make: Make) -> None:
    s = ready(make, max_in_flight=1)
    first, second = s.arrive("a"), s.arrive("a")
    s.order("b")
    s.release(first)
    assert s.stops == [("a", "evicted")]
    s.stopped("a")
    s.started("b")
    for ticket in list(s.flying):
        s.release(ticket)
    assert s.stops == [("a", "evicted"), ("b", "evicted")]
    s.stopped("b")
    s.started("a")
    assert second in s.flying, "who waited is served all the same"


@scenario
def orders_come_in_their_order(make: Make) -> None:
    s = ready(make, "a", "b", "c")
    stream = s.arrive("a")
    first = s.order("c")
    s.pass_time(1.0)
    second = s.order("b")
    s.release(stream)
    s.stopped("a")
    assert s.starts == ["a", "c"]
    s.started("c")
    assert first in s.flying
    s.release(first)
    assert s.stops[-1] == ("c", "evicted")
    s.stopped("c")
    s.started("b")
    assert second in s.flying


@scenario
def an_order_for_what_drains_for_a_later_one_keeps_it(make: Make) -> None:
    s = ready(make, start_guess=1.0, stop_guess=1.0)
    s.arrive("a")
    s.pass_time(10.0)
    s.arrive("b", max_wait=0.0)
    assert s.state("a") == "draining"
    ticket = s.order("a")
    assert (s.state("a"), ticket in s.flying) == ("ready", True)


@scenario
def an_order_for_what_drains_for_an_earlier_one_waits(make: Make) -> None:
    s = ready(make)
    stream = s.arrive("a")
    s.order("b")
    s.pass_time(1.0)
    back = s.order("a")
    assert s.state("a") == "draining"
    s.release(stream)
    s.stopped("a")
    s.started("b")
    assert s.starts == ["a", "b"]
    s.release(next(iter(s.flying)))
    s.stopped("b")
    s.started("a")
    assert back in s.flying


@scenario
def an_order_and_the_desperate_take_turns(make: Make) -> None:
    """No two of them make each other go for ever: each is served when its turn comes."""
    s = ready(make)
    desperate = s.arrive("b", max_wait=0.0, deadline=s.now + 1.0)
    s.pass_time(0.9)
    s.stopped("a")
    ordered = s.order("a")
    assert s.state("b") == "starting"
    s.started("b")
    assert s.state("b") == "draining"
    assert desperate in s.flying
    again = s.arrive("b", max_wait=0.0, deadline=s.now + 1000.0)
    s.release(desperate)
    s.stopped("b")
    s.started("a")
    assert ordered in s.flying
    s.pass_time(600.0)
    assert s.state("a") == "draining"
    s.release(ordered)
    s.stopped("a")
    s.started("b")
    assert again in s.flying
    assert s.starts == ["a", "b", "a", "b"]


@scenario
def an_order_that_leases_leave_no_place_is_refused(make: Make) -> None:
    s, _ = leased(make)
    ticket = s.order("b")
    assert (s.code(ticket), s.rejected[ticket].retry_after) == ("leased", 100.0)
    assert s.order("a") in s.flying


@scenario
def an_order_is_refused_when_a_lease_takes_its_place_after_all(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b")], seen=False)
    s.somebody_starts("a")
    waiting = s.order("b")
    s.lease("a", hold=Hold(0.0, until=500.0))
    assert s.code(waiting) == "leased"


@scenario
def a_full_queue_is_no_reason_to_refuse_an_order(make: Make) -> None:
    s = pair(make, max_queue=1)
    s.arrive("a")
    assert s.code(s.arrive("a")) == "queue_full"
    assert s.order("a") in s.queued


@scenario
def an_order_that_is_taken_back_lets_everything_go_on(make: Make) -> None:
    s = ready(make)
    s.arrive("a")
    ticket = s.order("b")
    assert s.state("a") == "draining"
    s.abandon(ticket)
    assert s.state("a") == "ready"


@scenario
def an_order_taken_back_no_longer_keeps_a_place(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b", gpu=2), spec("c")], gpu=2)
    s.arrive("a")
    s.arrive("b", max_wait=1000.0)
    ticket = s.order("b")
    s.arrive("c")
    assert s.starts == ["a"], "the order has a claim"
    s.abandon(ticket)
    assert s.starts == ["a", "c"]


# -- drains


@scenario
def a_drained_backend_is_stopped_for_being_idle_as_ever(make: Make) -> None:
    s = ready(make, idle_timeout=10.0)
    s.drain("a")
    s.pass_time(10.0)
    assert s.stops == [("a", "idle")]


@scenario
def a_drained_backend_serves_who_waits_already(make: Make) -> None:
    s = pair(make)
    s.up("b")
    stream = s.arrive("b")
    waiting = s.arrive("a")
    s.drain("a")
    s.release(stream)
    s.stopped("b")
    s.started("a")
    assert waiting in s.flying


@scenario
def orders_leases_and_quiet_requests_are_refused_while_drained(make: Make) -> None:
    s = ready(make)
    s.drain("a", "b")
    for ticket in (s.order("a"), s.order("b"), s.lease("a"), s.arrive("a", quiet=True)):
        assert s.code(ticket) == "draining"


@scenario
def a_drain_of_everything_is_one_of_what_is_added_too(make: Make) -> None:
    s = pair(make)
    s.drain()
    s.configure(added=(spec("c"),))
    s.observe("c")
    assert s.code(s.arrive("c")) == "draining"
    s.drain("c", on=False)
    assert s.code(s.arrive("c")) is None
    assert s.code(s.arrive("a")) == "draining"
    s.drain(on=False)
    s.configure(added=(spec("d"),))
    assert s.code(s.arrive("d")) is None


@scenario
def of_several_one_serves_that_is_not_drained(make: Make) -> None:
    s = ready(make)
    s.drain("a")
    s.arrive("a", "b")
    assert s.stops == [("a", "evicted")]


# -- another configuration


@scenario
def a_replaced_backend_drains_and_who_waits_is_served_by_the_new_one(make: Make) -> None:
    s = ready(make)
    stream = s.arrive("a")
    s.configure(replaced=(spec("a", start_timeout=7.0),))
    waiting = s.arrive("a")
    assert (s.state("a"), waiting in s.queued) == ("draining", True)
    s.release(stream)
    assert s.stops == [("a", "replaced")]
    s.stopped("a")
    assert [e for e in s.last if isinstance(e, Replace)] == [Replace(A)]
    assert s.state("a") == "stopped", "nobody has said yet whether the new one runs"
    s.observe("a")
    s.started("a")
    assert waiting in s.flying


@scenario
def a_replaced_backend_that_starts_is_started_anew_and_nobody_fails(make: Make) -> None:
    s = pair(make)
    waiting = s.arrive("a")
    s.configure(replaced=(spec("a"),))
    assert s.stops == [("a", "replaced")]
    s.stopped("a")
    s.observe("a")
    s.started("a")
    assert waiting in s.flying


@scenario
def a_replacement_of_what_doesn_t_run_takes_effect_at_once(make: Make) -> None:
    s = pair(make)
    s.configure(replaced=(spec("a"),))
    assert [e for e in s.last if isinstance(e, Replace)] == [Replace(A)]
    assert s.to_inspect == {"a"}
    s.observe("a")
    s.arrive("a")
    assert s.starts == ["a"]


@scenario
def until_it_was_seen_what_replaces_another_may_be_running(make: Make) -> None:
    s = pair(make)
    s.configure(replaced=(spec("a"),))
    s.arrive("b")
    assert s.starts == []
    s.somebody_starts("a")
    s.observe("a")
    s.started("a")
    assert s.stops == [("a", "evicted")]


@scenario
def the_old_one_s_failures_say_nothing_of_the_new_one(make: Make) -> None:
    s = pair(make)
    s.arrive("a")
    s.start_fails("a")
    s.stopped("a")
    s.configure(replaced=(spec("a", start_guess=3.0),))
    s.observe("a")
    s.arrive("a")
    assert s.starts == ["a", "a"]
    assert told(s, Action.START).cost == 3.0


@scenario
def what_the_old_one_took_says_nothing_of_the_new_one(make: Make) -> None:
    s = pair(make)
    warm(s, "a")
    s.feed(ev.StopRequested(A))
    s.stopped("a")
    s.configure(replaced=(spec("a", start_guess=3.0),))
    s.observe("a")
    s.arrive("a")
    assert told(s, Action.START).cost == 3.0


@scenario
def the_old_one_keeps_what_it_occupies_until_it_has_stopped(make: Make) -> None:
    s = Stage(make, [spec("a", gpu=2), spec("b")], gpu=2)
    s.up("a")
    stream = s.arrive("a")
    s.configure(replaced=(spec("a", gpu=1),))
    s.arrive("b")
    assert s.starts == ["a"]
    s.release(stream)
    assert s.starts == ["a"]
    s.stopped("a")
    s.observe("a")
    assert s.starts == ["a", "b"]


@scenario
def a_replacement_taken_back_restarts_nothing(make: Make) -> None:
    s = ready(make)
    s.arrive("a")
    s.configure(replaced=(spec("a", gpu=1),))
    s.configure(changed=(spec("a"),))
    assert s.state("a") == "ready"
    s.pass_time(10.0)
    s.release(next(iter(s.flying)))
    assert s.stops == []
    s.arrive("b")
    s.stopped("a")
    assert not any(isinstance(e, Replace) for e in s.last)


@scenario
def other_needs_count_at_once(make: Make) -> None:
    s = ready(make, "a", "b", gpu=2)
    s.configure(changed=(spec("a", gpu=2),))
    s.arrive("b")
    assert s.stops == [("a", "evicted")]


@scenario
def a_replaced_backend_that_dies_is_replaced(make: Make) -> None:
    s = ready(make)
    s.arrive("a")
    s.configure(replaced=(spec("a"),))
    s.dies("a")
    s.observe("a")
    assert [e for e in s.last if isinstance(e, Replace)] == [Replace(A)]


@scenario
def a_lease_outlives_the_replacement_of_its_backend(make: Make) -> None:
    s, ticket = leased(make)
    s.configure(replaced=(spec("a"),))
    assert s.stops == [("a", "replaced")]
    s.arrive("b", max_wait=0.0)
    s.stopped("a")
    s.observe("a")
    assert s.starts == ["a", "a"]
    s.started("a")
    assert ticket in s.leases


@scenario
def a_removed_backend_s_lease_is_broken_and_who_waits_is_told(make: Make) -> None:
    s, ticket = leased(make)
    stream = s.arrive("a")
    s.configure(removed=(A,))
    assert s.code(ticket) == "broken"
    assert s.code(s.arrive("a")) == "backend_stopped"
    s.release(stream)
    s.stopped("a")
    assert "a" not in s.states()


@scenario
def what_comes_back_while_it_drains_is_not_restarted(make: Make) -> None:
    s = ready(make)
    stream = s.arrive("a")
    s.configure(removed=(A,))
    assert s.state("a") == "draining"
    s.configure(added=(spec("a"),))
    assert s.state("a") == "ready"
    s.release(stream)
    assert s.stops == []


@scenario
def what_comes_back_as_something_else_is_replaced(make: Make) -> None:
    s = ready(make)
    stream = s.arrive("a")
    s.configure(removed=(A,))
    s.configure(replaced=(spec("a"),))
    waiting = s.arrive("a")
    s.release(stream)
    s.stopped("a")
    s.observe("a")
    s.started("a")
    assert waiting in s.flying


@scenario
def outcomes_of_what_was_forgotten_say_nothing_of_what_has_its_name(make: Make) -> None:
    s = ready(make)
    epoch = s.scheduler.epoch(A)
    s.configure(removed=(A,))
    s.stopped("a")
    s.configure(added=(spec("a"),))
    for stale in range(epoch + 4):
        s.feed(ev.Observed(A, stale, True, "old")) if stale < s.scheduler.epoch(A) else None
    assert s.state("a") == "stopped"
    assert any(isinstance(e, Inspect) for e in s.last)


@scenario
def what_is_no_longer_too_much_starts(make: Make) -> None:
    s = ready(make)
    s.arrive("a")
    waiting = s.arrive("b")
    s.configure(capacity=needs(gpu=2))
    s.started("b")
    assert waiting in s.flying


@scenario
def a_smaller_machine_sheds_what_is_idle_and_not_leased(make: Make) -> None:
    s = ready(make, "a", "b", gpu=2)
    s.up("b")
    s.lease("a")
    s.configure(capacity=needs(gpu=1))
    assert s.stops == [("b", "surplus")]


@scenario
def a_reload_may_take_a_lease_s_place_from_who_waits(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b")], gpu=2)
    s.up("a")
    s.lease("a")
    s.drain("b")
    s.drain("b", on=False)
    s.configure(capacity=needs(gpu=1))
    assert s.code(s.arrive("b", on_lease=REJECT)) == "leased"
    s.configure(capacity=needs(gpu=2))
    s.arrive("b", on_lease=REJECT)
    assert s.starts == ["a", "b"]


# -- reservations: a backend that is there for as long as its lease


@scenario
def a_reservation_drains_stops_confirms_and_only_then_has_its_place(make: Make) -> None:
    s = ready(make)
    stream = s.arrive("a")
    s.configure(added=(spec("r", idle_timeout=0.0),))
    s.observe("r")
    ticket = s.lease("r")
    assert s.state("a") == "draining"
    s.release(stream)
    assert ticket in s.queued
    s.stopped("a")
    s.started("r")
    assert ticket in s.leases
    waiting = s.arrive("a", max_wait=0.0)
    s.configure(removed=(BackendId("r"),))
    assert s.code(ticket) == "broken"
    s.stopped("r")
    assert s.starts == ["a", "r", "a"]
    assert waiting in s.queued


@scenario
def a_reservation_whose_lease_ends_is_given_back_at_once(make: Make) -> None:
    s = pair(make)
    s.configure(added=(spec("r", idle_timeout=0.0),))
    s.observe("r")
    s.lease("r", ttl=50.0)
    s.started("r")
    s.pass_time(49.0)
    assert s.stops == []
    s.pass_time(1.0)
    assert s.stops == [("r", "idle")]


@scenario
def what_is_decided_for_a_lease_says_so(make: Make) -> None:
    s, _ = leased(make)
    s.dies("a")
    s.observe("a")
    s.pass_time(1.0)
    start = next(e for e in s.last if isinstance(e, Decided))
    assert (start.action, start.why) == (Action.START, "leased")
