"""What the scheduler must do, one rule a scenario. Each takes the scheduler to stand on the
stage, so that copies with a rule broken can be shown to fail."""

from __future__ import annotations

from collections.abc import Callable

from launcher.core import events as ev
from launcher.core.effects import Abort, PrewarmSkipped
from launcher.core.types import BackendId
from tests.core.stage import Make, Stage, spec

Scenario = Callable[[Make], None]
SCENARIOS: list[Scenario] = []


def scenario(one: Scenario) -> Scenario:
    SCENARIOS.append(one)
    return one


def pair(make: Make, **rest: object) -> Stage:
    """Two backends of which one fits at a time."""
    return Stage(make, [spec("a", **rest), spec("b", **rest)])


@scenario
def a_first_request_starts_and_the_next_ones_join(make: Make) -> None:
    s = pair(make)
    first = s.arrive("a")
    others = [s.arrive("a") for _ in range(9)]
    assert s.starts == ["a"]
    assert not s.granted
    s.started("a")
    assert [t for t, _, _ in s.granted] == [first, *others]
    assert all(cold for _, _, cold in s.granted)


@scenario
def what_is_ready_is_granted_at_once(make: Make) -> None:
    s = pair(make)
    s.up("a")
    ticket = s.arrive("a")
    assert s.granted[-1] == (ticket, "a", False)
    assert s.starts == ["a"]


@scenario
def an_idle_resident_makes_way(make: Make) -> None:
    s = pair(make)
    s.up("a")
    ticket = s.arrive("b")
    assert s.stops == [("a", "evicted")]
    assert s.starts == ["a"], "b must wait for the stop to be confirmed"
    s.stopped("a")
    assert s.starts == ["a", "b"]
    s.started("b")
    assert s.granted[-1] == (ticket, "b", True)


@scenario
def the_least_recently_used_goes_first(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c")], gpu=2)
    s.up("b")
    s.pass_time(1)
    s.up("a")
    s.pass_time(1)
    s.release(s.arrive("b"))
    s.arrive("c")
    assert s.stops == [("a", "evicted")]


@scenario
def only_as_many_go_as_have_to(make: Make) -> None:
    s = Stage(make, [spec("a", gpu=1), spec("b", gpu=3), spec("c", gpu=3)], gpu=4)
    s.up("a")
    s.pass_time(1)
    s.up("b")
    s.arrive("c")
    assert s.stops == [("b", "evicted")]


@scenario
def needs_of_nothing_evict_nobody(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("search", gpu=0)])
    s.up("a")
    s.up("search")
    assert s.stops == []
    s.arrive("a")
    assert s.state("search") == "ready"


@scenario
def two_that_fit_together_do_not_wait_for_each_other(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b")], gpu=2)
    s.arrive("a")
    s.arrive("b")
    assert s.starts == ["a", "b"]


@scenario
def nobody_is_evicted_under_a_request(make: Make) -> None:
    s = pair(make)
    running = s.arrive("a")
    s.started("a")
    s.pass_time(1)
    s.arrive("b")
    s.pass_time(50)
    assert s.stops == []
    assert s.state("a") == "ready"
    s.release(running)
    assert s.stops == [("a", "evicted")]


@scenario
def while_nobody_is_overdue_the_busy_one_keeps_serving(make: Make) -> None:
    s = pair(make)
    s.arrive("a")
    s.started("a")
    s.arrive("b")
    s.pass_time(59)
    late = s.arrive("a")
    assert s.granted[-1] == (late, "a", False)


@scenario
def the_overdue_make_a_busy_one_drain(make: Make) -> None:
    s = pair(make)
    running = s.arrive("a")
    s.started("a")
    s.pass_time(100)
    waiting = s.arrive("b", max_wait=60.0)
    s.pass_time(61)
    assert s.state("a") == "draining"
    later = s.arrive("a")
    assert later in s.queued
    s.release(running)
    assert s.stops == [("a", "evicted")]
    s.stopped("a")
    s.started("b")
    assert s.granted[-1] == (waiting, "b", True)


@scenario
def minimum_residency_outlasts_max_wait(make: Make) -> None:
    s = pair(make)
    waiting = s.arrive("b", max_wait=5.0)
    s.pass_time(100)
    s.started("b")
    s.release(waiting)
    s.arrive("a", max_wait=5.0)
    s.pass_time(20)
    s.stopped("b")
    s.started("a")
    s.arrive("b", max_wait=5.0)
    s.pass_time(119)
    assert s.state("a") == "ready", "b is overdue, but a has only just become ready"
    s.pass_time(2)
    assert s.state("a") == "draining"


@scenario
def residency_is_the_sum_of_what_waits(make: Make) -> None:
    guesses = {"start_guess": 40.0, "stop_guess": 10.0}
    s = Stage(make, [spec("a"), spec("b", **guesses), spec("c", **guesses)])
    s.arrive("a")
    s.started("a")
    s.arrive("b", max_wait=5.0)
    s.arrive("c", max_wait=5.0)
    s.pass_time(60)
    assert s.state("a") == "ready"
    s.pass_time(39)
    assert s.state("a") == "ready"
    s.pass_time(2)
    assert s.state("a") == "draining"


@scenario
def a_drain_ends_when_those_it_was_for_leave(make: Make) -> None:
    s = pair(make)
    s.arrive("a")
    s.started("a")
    s.pass_time(100)
    waiting = s.arrive("b")
    s.pass_time(61)
    assert s.state("a") == "draining"
    later = s.arrive("a")
    s.abandon(waiting)
    assert s.state("a") == "ready"
    assert s.granted[-1] == (later, "a", False)
    assert s.stops == []


@scenario
def the_set_that_makes_room_drains_together(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("big", gpu=2)], gpu=2)
    ta, tb = s.arrive("a"), s.arrive("b")
    s.started("a")
    s.started("b")
    s.pass_time(100)
    s.arrive("big")
    s.pass_time(61)
    assert (s.state("a"), s.state("b")) == ("draining", "draining")
    s.release(ta)
    s.stopped("a")
    assert "big" not in s.starts
    s.release(tb)
    s.stopped("b")
    assert s.starts[-1] == "big"


@scenario
def the_overdue_are_not_overtaken(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("small"), spec("big", gpu=2)], gpu=2)
    running = s.arrive("a")
    s.started("a")
    s.pass_time(100)
    s.arrive("big")
    s.pass_time(61)
    s.arrive("small")
    assert "small" not in s.starts, "it would take the place that is being made for big"
    s.release(running)
    s.stopped("a")
    assert s.starts[-1] == "big"


@scenario
def a_start_nobody_waits_for_is_not_begun_but_one_begun_is_finished(make: Make) -> None:
    s = pair(make)
    running = s.arrive("a")
    s.started("a")
    waiting = s.arrive("b")
    s.abandon(waiting)
    s.release(running)
    assert s.stops == []
    cold = s.arrive("b")
    assert s.stops == [("a", "evicted")]
    s.stopped("a")
    s.abandon(cold)
    s.started("b")
    assert s.state("b") == "ready"


@scenario
def all_who_left_before_the_stop_ended_start_nothing(make: Make) -> None:
    s = pair(make)
    s.up("a")
    waiting = s.arrive("b")
    s.abandon(waiting)
    s.stopped("a")
    assert s.starts == ["a"]


@scenario
def idle_counts_from_the_end_of_the_last_ticket(make: Make) -> None:
    s = pair(make, idle_timeout=100.0)
    ticket = s.arrive("a")
    s.started("a")
    s.pass_time(500)
    assert s.state("a") == "ready"
    s.release(ticket)
    s.pass_time(99)
    assert s.stops == []
    s.pass_time(2)
    assert s.stops == [("a", "idle")]


@scenario
def a_stop_keeps_the_place_until_it_is_confirmed(make: Make) -> None:
    s = pair(make, idle_timeout=10.0)
    s.up("a")
    s.pass_time(11)
    assert s.state("a") == "stopping"
    s.arrive("b")
    assert s.starts == ["a"]
    s.stopped("a")
    assert s.starts == ["a", "b"]


@scenario
def a_failed_start_tells_all_and_backs_off(make: Make) -> None:
    s = pair(make)
    tickets = [s.arrive("a"), s.arrive("a")]
    s.start_fails("a")
    assert [s.code(t) for t in tickets] == ["backend_start_failed"] * 2
    other = s.arrive("b")
    assert s.starts == ["a"], "its place is taken until the stop is confirmed"
    s.stopped("a")
    assert s.starts == ["a", "b"]
    again = s.arrive("a")
    assert s.code(again) == "backend_start_failed"
    retry = s.rejected[again].retry_after
    assert retry is not None
    assert 0 < retry <= 1
    s.started("b")
    s.release(other)
    s.pass_time(1)
    s.arrive("a")
    s.stopped("b")
    assert s.starts[-1] == "a"


@scenario
def the_backoff_doubles_and_a_good_exchange_ends_it(make: Make) -> None:
    s = pair(make)
    waits = []
    for _ in range(11):
        s.arrive("a")
        s.start_fails("a")
        s.stopped("a")
        refused = s.arrive("a")
        waits.append(s.rejected[refused].retry_after)
        s.pass_time(300)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    s.up("a")
    s.feed(ev.StopRequested(BackendId("a")))
    s.stopped("a")
    s.arrive("a")
    s.start_fails("a")
    s.stopped("a")
    assert s.rejected[s.arrive("a")].retry_after == 1


@scenario
def what_is_missing_may_be_made_any_moment(make: Make) -> None:
    s = pair(make)
    for _ in range(8):
        ticket = s.arrive("a")
        s.start_fails("a", "backend_missing")
        assert s.rejected[ticket].retry_after == 1.0
        s.stopped("a")
        s.pass_time(1.0)


@scenario
def nobody_is_stopped_again_and_again_for_what_is_missing(make: Make) -> None:
    s = pair(make)
    for wait in (1.0, 2.0, 4.0, 8.0):
        s.up("b")
        s.pass_time(1000.0)
        ticket = s.arrive("a")
        s.stopped("b")
        s.start_fails("a", "backend_missing")
        assert s.rejected[ticket].retry_after == wait
        s.stopped("a")


@scenario
def an_operator_clears_the_backoff(make: Make) -> None:
    s = pair(make)
    s.arrive("a")
    s.start_fails("a")
    s.stopped("a")
    s.arrive("a", operator=True)
    assert s.starts == ["a", "a"]


@scenario
def a_full_queue_says_so(make: Make) -> None:
    s = pair(make, max_queue=2)
    s.arrive("a")
    s.arrive("a")
    assert s.code(s.arrive("a")) == "queue_full"


@scenario
def a_queued_ticket_ends_at_its_deadline(make: Make) -> None:
    s = pair(make)
    s.arrive("a")
    s.started("a")
    waiting = s.arrive("b", deadline=s.now + 30, max_wait=1000.0)
    s.pass_time(29)
    assert s.code(waiting) is None
    s.pass_time(2)
    assert s.code(waiting) == "queue_timeout"


@scenario
def quiet_requests_neither_wake_nor_keep(make: Make) -> None:
    s = pair(make, idle_timeout=100.0)
    assert s.code(s.arrive("a", quiet=True)) == "not_resident"
    assert s.starts == []
    s.up("a")
    for _ in range(12):
        s.pass_time(9)
        if s.state("a") == "ready":
            s.release(s.arrive("a", quiet=True))
    assert s.stops == [("a", "idle")]


@scenario
def a_silent_tunnel_does_not_hold_its_backend(make: Make) -> None:
    s = pair(make)
    tunnel = s.arrive("a")
    s.started("a")
    s.silence(tunnel)
    s.arrive("b")
    assert any(isinstance(e, Abort) for e in s.last)
    assert s.stops == [], "first the tunnel lets go"
    s.release(tunnel)
    assert s.stops == [("a", "evicted")]


@scenario
def a_tunnel_that_speaks_again_holds_again(make: Make) -> None:
    s = pair(make)
    tunnel = s.arrive("a")
    s.started("a")
    s.silence(tunnel)
    s.silence(tunnel, False)
    s.arrive("b")
    assert s.stops == []
    assert s.state("a") == "ready"


@scenario
def a_backend_with_work_of_its_own_is_asked_first(make: Make) -> None:
    s = Stage(make, [spec("a", asks_busy=True, idle_timeout=50.0), spec("b")])
    s.up("a")
    s.arrive("b")
    assert s.stops == []
    s.answer_busy("a", True)
    assert s.state("a") == "ready"
    assert s.stops == []
    s.pass_time(10.5)
    s.answer_busy("a", False)
    assert s.stops == [("a", "evicted")]


@scenario
def an_idle_stop_asks_too_and_work_counts_as_use(make: Make) -> None:
    s = Stage(make, [spec("a", asks_busy=True, idle_timeout=50.0)])
    s.up("a")
    s.pass_time(51)
    s.answer_busy("a", True)
    assert s.state("a") == "ready"
    s.pass_time(49)
    assert not s.asked
    s.pass_time(2)
    s.answer_busy("a", False)
    assert s.stops == [("a", "idle")]


@scenario
def a_request_takes_an_idle_stop_back_while_it_asks(make: Make) -> None:
    s = Stage(make, [spec("a", asks_busy=True, idle_timeout=50.0)])
    s.up("a")
    s.pass_time(51)
    ticket = s.arrive("a")
    assert s.granted[-1][0] == ticket
    s.answer_busy("a", False)
    assert s.stops == []


@scenario
def a_hung_backend_is_cut_and_restarted(make: Make) -> None:
    s = pair(make)
    running = s.arrive("a")
    s.started("a")
    s.hung("a")
    assert any(isinstance(e, Abort) for e in s.last)
    assert s.stops == []
    waiting = s.arrive("a")
    s.release(running, ok=False)
    assert s.stops == [("a", "hung")]
    s.stopped("a")
    s.started("a")
    assert s.granted[-1] == (waiting, "a", True)


@scenario
def what_died_starts_again_on_demand(make: Make) -> None:
    s = pair(make)
    s.up("a")
    s.dies("a")
    s.observe("a")
    assert s.state("a") == "stopped"
    s.arrive("a")
    assert s.starts == ["a", "a"]


@scenario
def late_observations_and_outcomes_are_ignored(make: Make) -> None:
    s = pair(make)
    old = s.scheduler.epoch(BackendId("a"))
    s.up("a")
    s.feed(ev.Observed(BackendId("a"), old, False))
    assert s.state("a") == "ready"
    assert BackendId("a") in s.to_inspect
    s.feed(ev.Stopped(BackendId("a"), old))
    s.feed(ev.Started(BackendId("a"), old, "old"))
    assert s.state("a") == "ready"
    assert s.scheduler.snapshot(s.now).backends[BackendId("a")].instance == "i1"


@scenario
def what_runs_at_boot_is_adopted_not_started(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b")], seen=False)
    s.somebody_starts("a")
    early = s.arrive("b")
    assert s.starts == [], "nothing starts before everything has been seen"
    s.observe("b")
    assert s.starts == []
    s.observe("a", age=5000.0)
    assert s.state("a") == "starting"
    ticket = s.arrive("a")
    s.started("a")
    assert s.granted[-1] == (ticket, "a", True)
    assert s.starts == []
    assert early in s.queued


@scenario
def strangers_count_and_idle_surplus_goes(make: Make) -> None:
    s = Stage(make, [spec("a", prewarm=0), spec("b"), spec("c")], gpu=2)
    s.started("a")
    s.pass_time(1)
    s.up("b")
    s.somebody_starts("c")
    s.observe("c")
    assert s.state("c") == "starting"
    assert s.stops == [("b", "surplus")], "prewarmed ones go last, starting ones not at all"


@scenario
def surplus_that_goes_already_is_enough(make: Make) -> None:
    s = pair(make, asks_busy=True, idle_timeout=1000.0)
    for one in ("a", "b"):
        s.somebody_starts(one)
        s.observe(one)
    for one in ("a", "b"):
        s.started(one)
    assert sorted(s.states().values()) == ["draining", "ready"]
    s.feed(ev.Tick())
    assert sorted(s.states().values()) == ["draining", "ready"]


@scenario
def a_restart_by_somebody_else_is_adopted(make: Make) -> None:
    s = pair(make)
    s.up("a")
    s.somebody_starts("a")
    s.observe("a")
    assert s.state("a") == "starting"
    s.started("a")
    assert s.state("a") == "ready"
    assert s.starts == ["a"]


@scenario
def a_stop_that_fails_keeps_the_place_and_is_retried(make: Make) -> None:
    s = pair(make)
    s.up("a")
    waiting = s.arrive("b")
    s.stop_fails("a")
    assert s.code(waiting) == "backend_stop_failed"
    assert s.code(s.arrive("b")) == "backend_stop_failed"
    assert s.code(s.arrive("a")) == "backend_stop_failed"
    assert s.starts == ["a"]
    s.pass_time(1.5)
    assert s.stops == [("a", "evicted"), ("a", "evicted")]
    s.stopped("a")
    s.arrive("b")
    assert s.starts == ["a", "b"]


@scenario
def an_engine_that_is_away_is_told_at_once(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b", gpu=0)])
    s.up("b")
    s.feed(ev.Reachable((BackendId("a"), BackendId("b")), False))
    assert s.code(s.arrive("a")) == "docker_unavailable"
    served = s.arrive("b")
    assert s.granted[-1][0] == served
    s.feed(ev.Reachable((BackendId("a"), BackendId("b")), True))
    s.arrive("a")
    assert s.starts == ["b", "a"]


def engine(s: Stage, there: bool, *backends: str) -> None:
    """What holds these goes away, or comes back."""
    s.feed(ev.Reachable(tuple(map(BackendId, backends)), there))


@scenario
def while_its_engine_is_away_the_ready_serves_on_and_keeps_its_place(make: Make) -> None:
    s = pair(make, idle_timeout=100.0)
    s.up("a")
    engine(s, False, "a")
    assert s.code(s.arrive("b")) == "docker_unavailable"
    assert s.stops == [], "a stop that nobody can carry out would only cost a its clients"
    s.pass_time(1000)
    assert s.stops == []
    served = s.arrive("a")
    assert s.granted[-1] == (served, "a", False)
    s.release(served)
    s.pass_time(1000)
    engine(s, True, "a")
    s.pass_time(0)
    assert s.stops == [("a", "idle")]


@scenario
def of_those_who_could_make_room_one_that_can_be_stopped_does(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c")], gpu=2)
    s.up("a")
    s.pass_time(5)
    s.up("b")
    engine(s, False, "a")
    s.arrive("c")
    assert s.stops == [("b", "evicted")]
    s.stopped("b")
    assert s.starts == ["a", "b", "c"]


@scenario
def a_drain_ends_when_the_engine_goes_away(make: Make) -> None:
    s = pair(make)
    running = s.arrive("a")
    s.started("a")
    s.pass_time(500)
    waiting = s.arrive("b", max_wait=0.0)
    late = s.arrive("a")
    assert s.state("a") == "draining"
    engine(s, False, "a")
    assert s.code(waiting) == "docker_unavailable"
    assert s.granted[-1][0] == late
    s.release(running)
    s.release(late)
    assert s.state("a") == "ready"


@scenario
def an_idle_stop_ends_when_the_engine_goes_away(make: Make) -> None:
    s = pair(make, idle_timeout=10.0, asks_busy=True)
    s.up("a")
    s.pass_time(11)
    assert s.state("a") == "draining"
    engine(s, False, "a")
    s.answer_busy("a", False)
    assert s.state("a") == "ready"
    assert s.stops == []


@scenario
def surplus_waits_for_its_engine(make: Make) -> None:
    s = pair(make, idle_timeout=1000.0)
    for one in ("a", "b"):
        s.somebody_starts(one)
        s.observe(one)
    waiting = [s.arrive(one) for one in ("a", "b")]
    s.started("a")
    s.started("b")
    engine(s, False, "a", "b")
    for ticket in waiting:
        s.release(ticket)
    assert s.stops == []
    engine(s, True, "a", "b")
    assert s.stops == [("a", "surplus")]


@scenario
def a_stop_that_failed_is_tried_again_when_its_engine_is_back(make: Make) -> None:
    s = pair(make)
    s.up("a")
    s.arrive("b")
    engine(s, False, "a")
    for wait in (1.5, 2.5, 4.5, 0):
        s.stop_fails("a")
        s.pass_time(wait)
    before = len(s.stops)
    engine(s, True, "a")
    s.pass_time(0)
    assert len(s.stops) == before + 1


@scenario
def who_ended_although_its_stop_failed_is_seen_to_have(make: Make) -> None:
    s = pair(make)
    s.up("a")
    s.arrive("b")
    s.stop_fails("a")
    s.dies("a")
    s.observe("a")
    assert s.state("a") == "stopped"
    s.arrive("b")
    assert s.starts == ["a", "b"]


@scenario
def prewarm_starts_in_order_what_fits(make: Make) -> None:
    specs = [spec("a", prewarm=1), spec("b", prewarm=0), spec("c", prewarm=2)]
    s = Stage(make, specs, gpu=2, seen=False)
    for one in ("a", "b"):
        s.observe(one)
    assert s.starts == []
    s.observe("c")
    assert s.starts == ["b", "a"]
    assert PrewarmSkipped(BackendId("c")) in s.last


@scenario
def an_operators_stop_serves_what_runs_and_force_cuts_it(make: Make) -> None:
    s = pair(make)
    running = s.arrive("a")
    s.started("a")
    s.feed(ev.StopRequested(BackendId("a")))
    assert s.state("a") == "draining"
    assert s.stops == []
    s.feed(ev.StopRequested(BackendId("a"), force=True))
    assert any(isinstance(e, Abort) for e in s.last)
    s.release(running, ok=False)
    assert s.stops == [("a", "operator")]


@scenario
def an_operators_stop_ends_a_start(make: Make) -> None:
    s = pair(make)
    waiting = s.arrive("a")
    s.feed(ev.StopRequested(BackendId("a")))
    assert s.code(waiting) == "backend_stopped"
    assert s.stops == [("a", "operator")]


@scenario
def a_start_that_never_answers_is_ended(make: Make) -> None:
    s = pair(make, start_timeout=30.0)
    waiting = s.arrive("a")
    s.pass_time(36)
    assert s.code(waiting) == "start_timeout"
    assert s.stops == [("a", "failed_start")]


@scenario
def the_first_that_is_up_serves_a_ticket_for_several(make: Make) -> None:
    s = pair(make)
    s.up("b")
    ticket = s.arrive("a", "b")
    assert s.granted[-1] == (ticket, "b", False)
    assert s.starts == ["b"]


@scenario
def a_closing_launcher_starts_and_stops_nothing(make: Make) -> None:
    s = pair(make, idle_timeout=10.0)
    s.up("a")
    running = s.arrive("a")
    waiting = s.arrive("b")
    s.feed(ev.Closed())
    assert s.code(waiting) == "draining"
    s.release(running)
    s.pass_time(1000)
    assert s.code(s.arrive("a")) == "draining"
    assert s.stops == []


@scenario
def measured_times_are_remembered(make: Make) -> None:
    s = pair(make)
    first = s.arrive("a")
    s.pass_time(20)
    s.started("a")
    s.pass_time(4)
    s.release(first)
    s.arrive("b")
    s.pass_time(3)
    s.stopped("a")
    times = s.scheduler.snapshot(s.now).backends[BackendId("a")].estimates
    assert (times.start, times.stop, times.service) == (20, 3, 4)


@scenario
def a_removed_backend_drains_and_is_forgotten(make: Make) -> None:
    s = pair(make)
    running = s.arrive("a")
    s.started("a")
    s.feed(ev.SpecsChanged(removed=(BackendId("a"),)))
    assert s.state("a") == "draining"
    s.release(running)
    s.stopped("a")
    assert list(s.scheduler.snapshot(s.now).backends) == ["b"]


@scenario
def what_ran_on_something_dead_holds_nothing_of_what_is_started_next(make: Make) -> None:
    s = pair(make)
    stale = s.arrive("a")
    s.started("a")
    s.dies("a")
    s.observe("a")
    fresh = s.arrive("a")
    s.started("a")
    s.release(fresh)
    s.arrive("b")
    assert any(isinstance(e, Abort) for e in s.last)
    s.release(stale, ok=False)
    assert s.stops == [("a", "evicted")]


@scenario
def an_outcome_of_an_earlier_start_is_ignored(make: Make) -> None:
    s = pair(make)
    s.arrive("a")
    old = s.scheduler.epoch(BackendId("a"))
    s.start_fails("a")
    s.stopped("a")
    s.arrive("a", operator=True)
    s.feed(ev.Started(BackendId("a"), old, "old"))
    s.feed(ev.Stopped(BackendId("a"), old + 1))
    assert s.state("a") == "starting"


@scenario
def what_has_not_been_seen_may_be_running(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c", gpu=2)], gpu=3, seen=False)
    s.observe("a")
    s.observe("c")
    s.arrive("a")
    s.arrive("c")
    assert s.starts == ["a"], "b may be running: then c does not fit"
    s.observe("b")
    assert s.starts == ["a", "c"]
