"""What would happen, step by step, and that nothing does."""

from __future__ import annotations

import math

from launcher.core.dry_run import Step
from launcher.core.effects import Admit, Decided, Reject
from launcher.core.scheduler import Scheduler
from launcher.core.types import BackendId, Estimates, OnLease, Priority, Ticket, TicketId
from tests.core.stage import Stage, spec

MEASURED = Estimates(start=30.0, stop=4.0, service=10.0)
PLANNED = TicketId(10_000)


def stage(*names: str, **rest: object) -> Stage:
    return Stage(Scheduler, [spec(n, estimates=MEASURED, **rest) for n in names])


def plan(s: Stage, backend: str, **rest: object) -> list[Step]:
    assert isinstance(s.scheduler, Scheduler)
    before = s.scheduler.snapshot(s.now)
    ticket = Ticket(PLANNED, (BackendId(backend),), **rest)  # type: ignore[arg-type]
    steps = s.scheduler.plan(ticket, s.now)
    assert s.scheduler.snapshot(s.now) == before
    return steps


def told(steps: list[Step]) -> list[tuple[float, str, str]]:
    return [
        (step.after, step.effect.action.value, str(step.effect.backend))
        for step in steps
        if isinstance(step.effect, Decided)
    ]


def test_the_whole_swap() -> None:
    s = stage("a", "b")
    ticket = s.arrive("a")
    s.pass_time(30.0)
    s.started("a")
    s.release(ticket)
    s.pass_time(5.0)
    steps = plan(s, "b")
    assert told(steps) == [(0.0, "stop", "a"), (4.0, "start", "b")]
    assert steps[-1] == Step(34.0, Admit(PLANNED, BackendId("b"), True))


def test_who_is_up_serves_at_once() -> None:
    s = stage("a")
    s.up("a")
    assert plan(s, "a") == [Step(0.0, Admit(PLANNED, BackendId("a"), False))]


def test_a_busy_one_ends_what_runs_first() -> None:
    s = stage("a", "b")
    s.arrive("a")
    s.pass_time(30.0)
    s.started("a")
    s.pass_time(500.0)
    assert told(plan(s, "b"))[0] == (10.0, "stop", "a")


def test_those_before_come_before() -> None:
    s = stage("a", "b", "c")
    s.arrive("a")
    s.pass_time(10.0)
    s.arrive("b", max_wait=5.0)
    steps = plan(s, "c")
    assert [action for _, action, _ in told(steps)] == [
        "drain",
        "stop",
        "start",
        "stop",
        "start",
    ] or [action for _, action, _ in told(steps)] == ["stop", "start", "stop", "start"]
    assert steps[-1].after > 20.0 + 2 * 34.0
    assert isinstance(steps[-1].effect, Admit)


def test_who_has_paid_comes_before_a_higher_class() -> None:
    s = stage("a", "b")
    s.up("a")
    s.arrive("b")
    assert s.state("a") == "stopping"
    steps = plan(s, "a", priority=Priority.INTERACTIVE)
    assert told(steps)[0] == (4.0, "start", "b")


def test_a_refusal_is_the_end_of_it() -> None:
    s = stage("a", max_queue=1)
    s.arrive("a")
    steps = plan(s, "a")
    assert isinstance(steps[-1].effect, Reject)
    assert steps[-1].effect.code == "queue_full"


def test_a_world_that_stands_still_has_no_end() -> None:
    s = Stage(Scheduler, [spec("a")], seen=False)
    assert plan(s, "a") == []


def test_a_switch() -> None:
    s = stage("a", "b")
    s.up("a")
    s.arrive("a")
    steps = plan(s, "b", urgent=True)
    assert [what for _, *what in told(steps)] == [["drain", "a"], ["stop", "a"], ["start", "b"]]
    assert isinstance(steps[-1].effect, Admit)


def test_who_waits_behind_a_lease_is_led_to_its_end() -> None:
    s = stage("a", "b")
    s.up("a")
    s.lease("a", ttl=100.0)
    steps = plan(s, "b")
    assert steps[-1].after >= 130.0
    assert isinstance(steps[-1].effect, Admit)
    refused = plan(s, "b", on_lease=OnLease.REJECT)[-1].effect
    assert isinstance(refused, Reject)
    assert (refused.code, refused.retry_after) == ("leased", 100.0)


def test_nobody_is_led_to_the_end_of_a_pin() -> None:
    s = stage("a", "b")
    s.up("a")
    s.lease("a", ttl=math.inf)
    assert plan(s, "b") == []


def test_what_is_about_to_be_replaced_is_taken_not_to_run() -> None:
    s = stage("a", "b")
    s.up("a")
    s.arrive("a")
    s.configure(replaced=(spec("a", estimates=MEASURED),))
    steps = plan(s, "a")
    assert told(steps)[-1][1:] == ("start", "a")
    assert isinstance(steps[-1].effect, Admit)
