"""What the policy must do, one rule a scenario: who makes way for whom, and when."""

from __future__ import annotations

import itertools
import math

from launcher.core import events as ev
from launcher.core.effects import Action, Decided, Stop
from launcher.core.types import BackendId, Estimates, Hold, Priority, Wake, patience
from tests.core.scenarios import SCENARIOS, pair, scenario
from tests.core.stage import Make, Stage, spec

__all__ = ["SCENARIOS"]


def told(s: Stage, action: Action) -> Decided:
    """The last decision of a kind among the last effects."""
    found = [e for e in s.last if isinstance(e, Decided) and e.action is action]
    assert found, s.last
    return found[-1]


def warm(s: Stage, name: str, took: float = 30.0) -> None:
    """Bring a stopped backend up in so many seconds, with nothing in flight."""
    ticket = s.arrive(name)
    s.pass_time(took)
    s.started(name)
    s.release(ticket)


def loop(s: Stage, name: str, think: float, times: int) -> None:
    """Somebody who asks, is served at once, and thinks before asking again."""
    for _ in range(times):
        s.release(s.arrive(name))
        s.pass_time(think)


# -- a bound on what is served at a time


@scenario
def so_many_at_a_time_and_no_more(make: Make) -> None:
    s = pair(make, max_in_flight=2)
    tickets = [s.arrive("a") for _ in range(4)]
    s.started("a")
    assert [t for t, _, _ in s.granted] == tickets[:2]
    late = s.arrive("a")
    s.release(tickets[1])
    s.release(tickets[0])
    assert [t for t, _, _ in s.granted] == tickets
    assert s.granted[-1][2], "it waited for the start"
    s.release(tickets[2])
    assert s.granted[-1] == (late, "a", False), "it only waited its turn"


@scenario
def those_served_leave_no_deadline_behind(make: Make) -> None:
    s = pair(make, max_in_flight=1)
    running = s.arrive("a")
    s.started("a")
    for _ in range(500):
        following = s.arrive("a", deadline=s.now + 1800.0)
        s.release(running)
        running = following
    assert len(s.scheduler._state.deadlines) <= 2  # type: ignore[attr-defined]


@scenario
def a_tunnel_fallen_silent_takes_no_turn(make: Make) -> None:
    s = pair(make, max_in_flight=1)
    tunnel = s.arrive("a")
    s.started("a")
    waiting = s.arrive("a")
    s.silence(tunnel)
    assert s.granted[-1][0] == waiting


@scenario
def a_drain_serves_who_came_before_it(make: Make) -> None:
    s = pair(make, max_in_flight=1)
    first = s.arrive("a")
    s.started("a")
    s.pass_time(100)
    s.arrive("b")
    s.pass_time(59)
    before = s.arrive("a")
    s.pass_time(2)
    assert s.state("a") == "draining"
    after = s.arrive("a", priority=Priority.INTERACTIVE)
    s.release(first)
    assert s.granted[-1][0] == before
    assert s.stops == []
    s.release(before)
    assert s.stops == [("a", "evicted")]
    assert after in s.queued


@scenario
def the_higher_class_has_the_next_turn(make: Make) -> None:
    s = pair(make, max_in_flight=1)
    running = s.arrive("a")
    s.started("a")
    s.arrive("a", priority=Priority.BATCH)
    s.pass_time(1.0)
    chat = s.arrive("a", priority=Priority.INTERACTIVE)
    s.release(running)
    assert s.granted[-1][0] == chat


@scenario
def the_desperate_do_not_wait_for_a_residency(make: Make) -> None:
    """Else a round of many busy models would take longer than anybody may wait."""
    s = Stage(make, [spec("a"), spec("b", start_guess=500.0)])
    s.arrive("a")
    s.started("a")
    s.arrive("b", max_wait=5.0, deadline=100.0)
    s.pass_time(49.0)
    assert s.state("a") == "ready"
    s.pass_time(2.0)
    assert s.state("a") == "draining"


@scenario
def of_the_busy_goes_who_has_less_still_to_serve(make: Make) -> None:
    times = Estimates(10.0, 2.0, 10.0)
    specs = [spec(n, estimates=times, max_in_flight=1) for n in ("a", "b")]
    s = Stage(make, [*specs, spec("c", estimates=times)], gpu=2)
    for name, many in (("a", 5), ("b", 1)):
        for _ in range(many):
            s.arrive(name, max_wait=1000.0)
        s.started(name)
    s.pass_time(100.0)
    s.arrive("c", max_wait=0.0)
    assert (s.state("a"), s.state("b")) == ("ready", "draining")


@scenario
def the_residency_counts_who_waits_for_such_a_place(make: Make) -> None:
    """Many places, or something plentiful that all need, don't make it longer."""
    specs = [spec(f"m{i}", ram=1) for i in range(8)]
    s = Stage(make, specs, gpu=4, ram=100)
    for i in range(4):
        s.arrive(f"m{i}")
        s.started(f"m{i}")
    for i in range(4, 8):
        s.arrive(f"m{i}", max_wait=1.0)
    s.pass_time(32.0)
    assert set(s.states().values()) == {"ready", "stopped"}
    s.pass_time(2.0)
    assert sorted(s.states().values()) == ["draining"] * 4 + ["stopped"] * 4


# -- lingering


@scenario
def an_idle_one_stays_a_second_while_nothing_is_known_of_it(make: Make) -> None:
    s = pair(make, linger=math.inf)
    ticket = s.arrive("a")
    s.started("a")
    s.arrive("b")
    s.release(ticket)
    s.pass_time(0.9)
    assert s.state("a") == "ready"
    s.pass_time(0.2)
    assert s.stops == [("a", "evicted")]


@scenario
def who_comes_back_soon_is_waited_for(make: Make) -> None:
    s = pair(make, linger=math.inf)
    warm(s, "a")
    s.pass_time(3.0)
    loop(s, "a", 3.0, 5)
    s.arrive("b")
    s.pass_time(0.2)
    loop(s, "a", 3.0, 5)
    assert s.stops == [], "somebody came back in time, again and again"
    s.pass_time(0.7)
    assert s.stops == [("a", "evicted")]


@scenario
def who_stays_away_is_not_waited_for(make: Make) -> None:
    s = pair(make, linger=math.inf)
    s.up("a")
    s.pass_time(200.0)
    loop(s, "a", 200.0, 5)
    ticket = s.arrive("a")
    s.arrive("b")
    s.release(ticket)
    assert s.stops == [("a", "evicted")]


@scenario
def lingering_is_protected_by_the_minimum_residency(make: Make) -> None:
    s = pair(make, linger=math.inf)
    warm(s, "a")
    s.pass_time(3.0)
    loop(s, "a", 3.0, 6)
    s.dies("a")
    s.observe("a")
    warm(s, "a")
    s.pass_time(1.0)
    s.arrive("b", max_wait=0.0)
    s.pass_time(0.5)
    loop(s, "a", 3.0, 3)
    assert s.stops == [], "b is overdue, but a has only just become ready, and is asked often"
    s.pass_time(5.0)
    assert s.stops == [("a", "evicted")]


@scenario
def overdue_tickets_of_its_own_are_served_first_but_not_for_ever(make: Make) -> None:
    s = pair(make, max_in_flight=1)
    mine = [s.arrive("a", max_wait=10.0) for _ in range(30)]
    s.started("a")
    s.arrive("b", max_wait=10.0)
    s.pass_time(40.0)
    assert s.state("a") == "ready", "33 s are over, but its own queue is overdue too"
    for ticket in mine[:9]:
        s.release(ticket)
        s.pass_time(10.0)
    assert s.state("a") == "ready"
    s.pass_time(10.0)
    assert s.state("a") == "draining"


@scenario
def a_prolonged_residency_ends_with_what_prolonged_it(make: Make) -> None:
    s = pair(make, max_in_flight=1)
    running = s.arrive("a")
    s.started("a")
    s.arrive("a", max_wait=10.0)
    s.arrive("b", max_wait=10.0)
    s.pass_time(40.0)
    assert s.state("a") == "ready"
    s.release(running)
    assert s.state("a") == "draining", "nobody overdue waits for it any more"


@scenario
def the_more_wait_the_shorter_it_lingers(make: Make) -> None:
    s = pair(make, linger=math.inf)
    warm(s, "a")
    s.pass_time(10.0)
    loop(s, "a", 10.0, 6)
    ticket = s.arrive("a")
    for _ in range(4):
        s.arrive("b")
    s.release(ticket)
    assert s.stops == [("a", "evicted")], "four times ten seconds are more than a swap"


@scenario
def lingering_has_a_bound_of_its_own(make: Make) -> None:
    s = pair(make, linger=0.5)
    ticket = s.arrive("a")
    s.started("a")
    s.arrive("b")
    s.release(ticket)
    assert s.stops == []
    s.pass_time(0.6)
    assert s.stops == [("a", "evicted")]


@scenario
def lingering_ends_when_somebody_is_overdue(make: Make) -> None:
    s = pair(make, linger=math.inf)
    warm(s, "a")
    s.pass_time(10.0)
    loop(s, "a", 10.0, 6)
    ticket = s.arrive("a")
    s.arrive("b", max_wait=5.0)
    s.pass_time(4.0)
    s.release(ticket)
    s.pass_time(0.5)
    assert s.state("a") == "ready"
    s.pass_time(0.6)
    assert s.stops == [("a", "evicted")]


# -- who has to go


@scenario
def what_loads_slowly_is_spared(make: Make) -> None:
    s = Stage(make, [spec("slow"), spec("quick"), spec("c")], gpu=2)
    warm(s, "slow", 90.0)
    warm(s, "quick", 5.0)
    s.arrive("c")
    assert s.stops == [("quick", "evicted")], "though slow was used less recently"


@scenario
def who_is_asked_often_is_spared(make: Make) -> None:
    s = Stage(make, [spec("often"), spec("rare"), spec("c")], gpu=2)
    warm(s, "often")
    warm(s, "rare")
    s.pass_time(900.0)
    loop(s, "often", 20.0, 20)
    loop(s, "rare", 10.0, 1)
    s.arrive("c")
    assert s.stops == [("rare", "evicted")], "though often was used less recently"


@scenario
def who_has_not_been_asked_for_long_is_no_longer_asked_often(make: Make) -> None:
    s = Stage(make, [spec("often"), spec("rare"), spec("c")], gpu=2)
    warm(s, "rare")
    warm(s, "often")
    loop(s, "often", 20.0, 20)
    s.pass_time(250.0)
    loop(s, "rare", 250.0, 4)
    s.arrive("c")
    assert s.stops == [("often", "evicted")]


@scenario
def an_idle_one_goes_rather_than_a_busy_one(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c")], gpu=2)
    s.arrive("a")
    s.started("a")
    s.pass_time(1)
    s.up("b")
    s.pass_time(200)
    s.arrive("c", max_wait=0.0)
    assert s.stops == [("b", "evicted")]
    assert s.state("a") == "ready"


@scenario
def of_the_busy_goes_whose_work_ends_sooner_until_one_turns_idle(make: Make) -> None:
    times = {"a": Estimates(90.0, 3.0, 5.0), "b": Estimates(90.0, 3.0, 300.0)}
    specs = [spec(name, estimates=times[name]) for name in times]
    s = Stage(make, [*specs, spec("c")], gpu=2)
    s.arrive("a")
    tb = s.arrive("b")
    s.pass_time(90)
    s.started("a")
    s.started("b")
    s.pass_time(200)
    s.arrive("c", max_wait=0.0)
    assert (s.state("a"), s.state("b")) == ("draining", "ready")
    s.pass_time(1000)
    s.release(tb)
    assert s.stops == [("b", "evicted")]
    assert s.state("a") == "ready"


@scenario
def of_many_too_nobody_goes_who_need_not(make: Make) -> None:
    small = [spec(f"small{i}") for i in range(12)]
    s = Stage(make, [*small, spec("big", gpu=13), spec("new", gpu=13)], gpu=25)
    for one in small:
        warm(s, str(one.id))
    warm(s, "big")
    s.arrive("new")
    assert s.stops == [("big", "evicted")]


# -- the order among the cold


@scenario
def the_higher_class_goes_first(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c")])
    running = s.arrive("a")
    s.started("a")
    for _ in range(5):
        s.arrive("b", priority=Priority.BATCH)
    s.arrive("c", priority=Priority.INTERACTIVE)
    s.release(running)
    s.stopped("a")
    assert s.starts[-1] == "c"


@scenario
def the_overdue_go_first_within_a_class(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c")])
    running = s.arrive("a")
    s.started("a")
    s.arrive("b", max_wait=5.0)
    for _ in range(9):
        s.arrive("c")
    s.pass_time(6.0)
    s.release(running)
    s.stopped("a")
    assert s.starts[-1] == "b"


@scenario
def then_whoever_has_the_most_waiting_for_its_cost(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b", start_guess=100.0), spec("c", start_guess=10.0)])
    running = s.arrive("a")
    s.started("a")
    for _ in range(3):
        s.arrive("b")
    s.arrive("c")
    s.release(running)
    s.stopped("a")
    assert s.starts[-1] == "c", "one ticket for 13 s is more than three for 103 s"


@scenario
def a_class_rises_with_time(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c")])
    running = s.arrive("a")
    s.started("a")
    s.arrive("b", priority=Priority.BATCH, ages=50.0, max_wait=500.0)
    s.pass_time(101.0)
    for _ in range(5):
        s.arrive("c", priority=Priority.NORMAL, max_wait=500.0)
    s.release(running)
    s.stopped("a")
    assert s.starts[-1] == "b"


@scenario
def who_fits_beside_starts_though_somebody_before_it_has_to_wait(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("big", gpu=2), spec("small")], gpu=2)
    s.arrive("a")
    s.started("a")
    for _ in range(9):
        s.arrive("big")
    s.arrive("small")
    assert s.starts[-1] == "small"


@scenario
def an_urgent_one_has_a_claim_before_anybody_can_make_room(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("small"), spec("big", gpu=2)], gpu=2)
    s.arrive("a")
    s.started("a")
    s.arrive("big", max_wait=5.0)
    s.pass_time(6.0)
    assert s.state("a") == "ready", "it has only just become ready"
    s.arrive("small")
    assert "small" not in s.starts


@scenario
def a_batch_has_its_turn_after_its_time_whoever_else_asks(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c")])
    chat = {name: s.arrive(name, priority=Priority.INTERACTIVE) for name in ("a", "b")}
    max_wait, ages = patience(Priority.BATCH, 60.0, 1800.0)
    batch = s.arrive("c", priority=Priority.BATCH, max_wait=max_wait, ages=ages)
    for _ in range(800):
        for name, operation in sorted(s.operations.items()):
            s.stopped(name) if isinstance(operation, Stop) else s.started(name)
        if batch in s.flying:
            break
        for name, ticket in chat.items():
            if ticket in s.flying:
                s.release(ticket)
                chat[name] = s.arrive(name, priority=Priority.INTERACTIVE)
        s.pass_time(5.0)
    assert batch in s.flying
    assert 1700.0 < s.now < 2100.0


@scenario
def a_higher_class_passes_a_claim_of_a_lower_one(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("big", gpu=2), spec("small")], gpu=2)
    s.arrive("a")
    s.started("a")
    s.arrive("big", max_wait=0.0)
    s.arrive("small", max_wait=500.0)
    assert "small" not in s.starts, "big is overdue, and a has just become ready"
    s.arrive("small", priority=Priority.INTERACTIVE, max_wait=500.0)
    assert s.starts[-1] == "small"


# -- who has paid for a place


def going(make: Make, mine: Priority) -> Stage:
    """`a` was up and in use; it is told to stop for `b`, which was overdue."""
    s = Stage(make, [spec("a"), spec("b"), spec("c")])
    running = s.arrive("a", priority=Priority.INTERACTIVE)
    s.started("a")
    s.pass_time(100.0)
    s.arrive("b", priority=mine, max_wait=8.0)
    s.pass_time(9.0)
    assert s.state("a") == "draining"
    s.release(running)
    assert s.stops == [("a", "evicted")]
    return s


@scenario
def a_place_is_for_whom_it_was_made_whoever_comes_meanwhile(make: Make) -> None:
    for mine, theirs in itertools.product(Priority, Priority):
        for rival in ("a", "c"):
            s = going(make, mine)
            for _ in range(5):
                s.arrive(rival, priority=theirs, max_wait=0.0)
            s.stopped("a")
            assert s.starts[-1] == "b", (mine, theirs, rival)
            s.started("b")
            assert [backend for _, backend, _ in s.granted] == ["a", "b"]


@scenario
def it_is_so_for_one_that_is_not_overdue(make: Make) -> None:
    s = pair(make)
    s.up("a")
    s.arrive("b", priority=Priority.BATCH)
    s.arrive("a", priority=Priority.INTERACTIVE)
    s.stopped("a")
    assert s.starts == ["a", "b"]


@scenario
def no_class_has_a_model_stopped_over_and_over_for_somebody_else(make: Make) -> None:
    s = going(make, Priority.NORMAL)
    for _ in range(5):
        s.arrive("a", priority=Priority.INTERACTIVE, max_wait=8.0)
        for name, operation in sorted(s.operations.items()):
            s.stopped(name) if isinstance(operation, Stop) else s.started(name)
        s.pass_time(20.0)
    assert s.starts == ["a", "b"]


@scenario
def an_order_takes_a_place_that_somebody_paid_for(make: Make) -> None:
    for rival, ordered in itertools.product(("a", "c"), (Stage.order, Stage.lease)):
        s = going(make, Priority.INTERACTIVE)
        ordered(s, rival)
        s.stopped("a")
        assert s.starts[-1] == rival


@scenario
def who_lost_the_place_stands_among_the_others_again(make: Make) -> None:
    """Nothing is spent on it any more that another would waste."""
    s = going(make, Priority.NORMAL)
    switch = s.order("c")
    s.stopped("a")
    s.started("c")
    s.arrive("a", priority=Priority.INTERACTIVE)
    s.release(switch)
    s.pass_time(200.0)
    s.stopped("c")
    assert s.starts[-1] == "a"


@scenario
def who_gave_up_has_paid_for_nothing(make: Make) -> None:
    s = going(make, Priority.NORMAL)
    s.abandon(max(s.queued))
    s.arrive("b")
    s.arrive("a", priority=Priority.INTERACTIVE)
    s.stopped("a")
    assert s.starts == ["a", "a"]
    assert told(s, Action.START).pays == ()


@scenario
def who_may_stop_nobody_keeps_no_place_that_was_made_for_others(make: Make) -> None:
    s = going(make, Priority.NORMAL)
    paid = max(s.queued)
    s.arrive("b", wake=Wake.IF_IDLE)
    s.abandon(paid)
    s.arrive("a", priority=Priority.INTERACTIVE)
    s.stopped("a")
    assert s.starts == ["a", "a"]


@scenario
def of_several_who_is_served_elsewhere_keeps_no_place(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c", gpu=0)])
    s.up("a")
    either = s.arrive("b", "c", priority=Priority.INTERACTIVE)
    s.arrive("c")
    s.started("c")
    assert s.flying[either] == "c"
    s.arrive("b", priority=Priority.BATCH)
    s.arrive("a", priority=Priority.INTERACTIVE)
    s.stopped("a")
    assert s.starts == ["a", "c", "a"]


@scenario
def until_somebody_is_told_to_stop_the_choice_is_open(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b"), spec("c")])
    running = s.arrive("a")
    s.started("a")
    s.pass_time(100.0)
    s.arrive("b", max_wait=8.0)
    s.pass_time(9.0)
    assert s.state("a") == "draining"
    s.arrive("c", priority=Priority.INTERACTIVE, max_wait=0.0)
    s.release(running)
    assert told(s, Action.STOP).wanted_by == "c"
    s.stopped("a")
    assert s.starts[-1] == "c"


@scenario
def who_paid_in_part_keeps_that_part(make: Make) -> None:
    s = Stage(make, [spec("idle"), spec("busy"), spec("big", gpu=2), spec("small")], gpu=2)
    s.up("idle")
    running = s.arrive("busy")
    s.started("busy")
    s.pass_time(100.0)
    s.arrive("big", max_wait=0.0)
    s.stopped("idle")
    s.arrive("small", priority=Priority.INTERACTIVE, max_wait=0.0)
    assert "small" not in s.starts
    s.release(running)
    s.stopped("busy")
    assert s.starts[-1] == "big"
    assert told(s, Action.START).pays == ("idle", "busy")


@scenario
def who_cannot_have_the_rest_keeps_no_part(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b", asks_busy=True), spec("c", gpu=2), spec("d")], gpu=2)
    s.up("a")
    s.up("b")
    s.arrive("c", priority=Priority.BATCH, max_wait=500.0)
    s.stopped("a")
    s.arrive("d", priority=Priority.INTERACTIVE)
    assert "d" not in s.starts
    s.answer_busy("b", True)
    assert s.starts[-1] == "d", "b works by itself, and c is in no hurry"


@scenario
def who_paid_first_has_its_place_first(make: Make) -> None:
    specs = [spec("a"), spec("b"), spec("c"), spec("first"), spec("second", gpu=2)]
    s = Stage(make, specs, gpu=3)
    running = {}
    for name in ("a", "b", "c"):
        running[name] = s.arrive(name)
        s.started(name)
    s.release(running["a"])
    s.pass_time(200.0)
    s.arrive("first")
    s.release(running["b"])
    s.arrive("second", priority=Priority.INTERACTIVE, max_wait=0.0)
    assert (s.state("a"), s.state("b"), s.state("c")) == ("stopping", "stopping", "draining")
    s.stopped("a")
    assert s.starts[-1] == "first"


@scenario
def a_lease_that_leaves_no_place_takes_it_for_good(make: Make) -> None:
    s = going(make, Priority.NORMAL)
    lease = s.lease("a", hold=Hold(math.inf, until=s.now + 50.0))
    s.unlease(lease)
    s.arrive("a", priority=Priority.INTERACTIVE)
    s.stopped("a")
    assert s.starts == ["a", "a"]


@scenario
def what_was_paid_is_had_once(make: Make) -> None:
    s = pair(make)
    s.up("a")
    s.lease("b", hold=Hold(math.inf, until=1000.0))
    s.stopped("a")
    assert told(s, Action.START).pays == ("a",)
    s.started("b")
    s.dies("b")
    s.observe("b")
    s.now += 1.0
    s.feed(ev.Tick())
    assert told(s, Action.START).pays == ()


@scenario
def a_stop_that_comes_after_its_reason_has_left_is_for_nobody(make: Make) -> None:
    s = pair(make)
    running = s.arrive("a")
    s.started("a")
    s.pass_time(100.0)
    waiting = s.arrive("b", max_wait=0.0)
    s.feed(ev.StopRequested(BackendId("a"), force=False))
    s.abandon(waiting)
    s.release(running)
    s.arrive("b", priority=Priority.BATCH)
    s.arrive("a", priority=Priority.INTERACTIVE)
    s.stopped("a")
    assert s.starts == ["a", "a"]


@scenario
def who_is_stopped_for_somebody_twice_is_named_once(make: Make) -> None:
    s = Stage(make, [spec(n) for n in ("idle", "busy", "other")] + [spec("big", gpu=2)], gpu=3)
    s.up("idle")
    running = s.arrive("busy")
    s.started("busy")
    s.pass_time(1.0)
    s.arrive("other")
    s.started("other")
    s.pass_time(100.0)
    s.arrive("big", max_wait=0.0)
    s.stopped("idle")
    s.somebody_starts("idle")
    s.observe("idle")
    assert s.state("busy") == "draining"
    s.started("idle")
    s.stopped("idle")
    s.release(running)
    s.stopped("busy")
    assert told(s, Action.START).pays == ("idle", "busy")


# -- one of several


@scenario
def of_several_the_one_with_room_serves(make: Make) -> None:
    s = Stage(make, [spec("a", max_in_flight=1), spec("b")], gpu=2)
    for name in ("a", "b"):
        s.up(name)
    s.arrive("a")
    either = s.arrive("a", "b")
    assert s.granted[-1] == (either, "b", False)


@scenario
def of_several_whichever_comes_up_first_serves(make: Make) -> None:
    s = Stage(make, [spec("a"), spec("b")], gpu=2)
    either = s.arrive("a", "b")
    s.arrive("b")
    s.started("b")
    assert s.flying.get(either) == "b"
    assert s.state("a") == "starting"


@scenario
def of_several_whichever_has_room_first_serves(make: Make) -> None:
    s = Stage(make, [spec("a", max_in_flight=1), spec("b", max_in_flight=1)], gpu=2)
    for name in ("a", "b"):
        s.up(name)
    s.arrive("a")
    other = s.arrive("b")
    either = s.arrive("a", "b")
    s.release(other)
    assert s.granted[-1] == (either, "b", False)


@scenario
def of_several_the_next_is_tried_when_one_fails(make: Make) -> None:
    s = pair(make)
    either = s.arrive("a", "b")
    s.start_fails("a")
    assert s.code(either) is None
    s.stopped("a")
    assert s.starts == ["a", "b"]
    s.start_fails("b")
    assert s.code(either) == "backend_start_failed", "each has been tried"


@scenario
def of_several_a_full_queue_is_passed_over(make: Make) -> None:
    s = Stage(make, [spec("a", max_in_flight=1, max_queue=1), spec("b")], gpu=2)
    s.up("a")
    s.arrive("a")
    s.arrive("a")
    either = s.arrive("a", "b")
    assert s.code(either) is None
    assert s.starts == ["a", "b"]


# -- what a ticket may wake


@scenario
def who_may_wake_nothing_is_told_so(make: Make) -> None:
    s = pair(make)
    ticket = s.arrive("a", wake=Wake.NEVER)
    assert s.code(ticket) == "not_resident"
    assert s.starts == []
    s.arrive("a")
    joins = s.arrive("a", wake=Wake.NEVER)
    s.started("a")
    assert s.granted[-1][0] == joins


@scenario
def who_may_wake_nothing_is_left_with_nobody(make: Make) -> None:
    s = pair(make)
    s.up("a")
    waking = s.arrive("b")
    meek = s.arrive("b", wake=Wake.NEVER)
    s.abandon(waking)
    s.stopped("a")
    assert s.starts == ["a"]
    assert s.code(meek) == "not_resident"


@scenario
def who_may_wake_nothing_does_not_start_what_died(make: Make) -> None:
    s = pair(make, max_in_flight=1)
    s.arrive("a")
    s.started("a")
    meek = s.arrive("a", wake=Wake.NEVER)
    s.dies("a")
    s.observe("a")
    assert s.starts == ["a"]
    assert s.code(meek) == "not_resident"


@scenario
def who_may_wake_only_the_idle_takes_free_room_and_evicts_nobody(make: Make) -> None:
    s = pair(make)
    ticket = s.arrive("a", wake=Wake.IF_IDLE)
    assert s.starts == ["a"]
    s.started("a")
    s.release(ticket)
    s.pass_time(100)
    other = s.arrive("b", wake=Wake.IF_IDLE)
    assert s.code(other) == "not_resident"
    assert s.stops == []


@scenario
def who_may_wake_nothing_does_not_hold_a_place_that_is_wanted(make: Make) -> None:
    s = pair(make)
    running = s.arrive("a")
    s.started("a")
    s.pass_time(100)
    s.arrive("b")
    s.pass_time(61)
    assert s.state("a") == "draining"
    assert s.code(s.arrive("a", wake=Wake.IF_IDLE)) == "not_resident"
    s.release(running)


# -- what is said of it


@scenario
def every_move_says_why(make: Make) -> None:
    s = pair(make)
    running = s.arrive("a")
    start = told(s, Action.START)
    assert (start.backend, start.why, start.waiting, start.cost) == ("a", "wanted", 1, 30.0)
    s.started("a")
    s.pass_time(100)
    waiting = s.arrive("b")
    s.pass_time(61)
    drain = told(s, Action.DRAIN)
    assert (drain.backend, drain.why, drain.wanted_by) == ("a", "overdue", "b")
    assert drain.waited == 60.0
    assert drain.cost is not None
    assert drain.cost > 0
    s.release(running)
    stop = told(s, Action.STOP)
    assert (stop.why, stop.wanted_by, stop.waiting) == ("evicted", "b", 1)
    s.stopped("a")
    start = told(s, Action.START)
    assert (start.backend, start.pays) == ("b", ("a",))
    s.start_fails("b")
    assert told(s, Action.REJECT).why == "backend_start_failed"
    assert s.code(waiting) == "backend_start_failed"


@scenario
def a_drain_that_ends_says_so(make: Make) -> None:
    s = pair(make)
    s.arrive("a")
    s.started("a")
    s.pass_time(100)
    waiting = s.arrive("b")
    s.pass_time(61)
    s.abandon(waiting)
    assert told(s, Action.UNDRAIN).backend == "a"


@scenario
def an_idle_stop_says_so(make: Make) -> None:
    s = pair(make, idle_timeout=10.0)
    s.up("a")
    s.now = 10.0
    s.feed(ev.Tick())
    assert told(s, Action.STOP).why == "idle"


@scenario
def who_was_only_found_running_and_died_is_started_for_those_who_wait(make: Make) -> None:
    s = pair(make)
    s.somebody_starts("a")
    s.observe("a")
    waiting = s.arrive("a")
    s.dies("a")
    s.start_fails("a")
    assert s.code(waiting) is None
    s.stopped("a")
    assert s.starts == ["a"]
    s.start_fails("a")
    assert s.code(waiting) == "backend_start_failed", "this one was ours"
